"""The table of the benchmark: what it makes of rows, whatever the figures are."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
HEAD = {
    "machine": "2 cores",
    "versions": {"Oxherd": "1"},
    "commit": "abc",
    "date": "today",
    "missing": {},
    "quick": False,
}


@pytest.fixture
def goals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("goals", monkeypatch)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("report", monkeypatch)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module(name)


def row(measure: str, who: str, at: int = 0, others: float = 0.0, **figures: float) -> dict[str, Any]:
    return {"measure": measure, "contender": who, "round": at, "others": others, "figures": figures}


def made(report: ModuleType, *rows: dict[str, Any], **head: Any) -> list[str]:
    text: str = report.made([{**HEAD, **head}, *rows], Path("kept.jsonl"))
    return text.splitlines()


def row_of(lines: list[str], title: str, beside: str = "") -> list[str]:
    found = [line for line in lines if line.startswith(f"| {title} |") and beside in line]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_a_ratio_is_that_of_one_round_and_not_of_two_medians(report: ModuleType) -> None:
    ours, theirs = (100, 300, 500), (300, 200, 250)  # 300/250 is 1.2; the rounds have 0.33, 1.5 and 2
    rows = [row("throughput", "Oxherd 16", at, **{"jobs/s": value}) for at, value in enumerate(ours)]
    rows += [row("throughput", "Node inline 50", at, **{"jobs/s": value}) for at, value in enumerate(theirs)]
    cells = row_of(made(report, *rows), "no-op jobs/s, 16 slots", "Node inline")
    assert cells[1:] == ["**300**", "Node inline 50: 250", "1.50", "0.7 x", "yes", "1.1 x", "yes"]


def test_where_less_is_better_less_meets_the_bar(report: ModuleType) -> None:
    lines = made(report, row("start", "Oxherd 2", s=0.25), row("start", "Huey 2", s=0.5))
    assert row_of(lines, "launch to first job done")[3:] == ["0.50", "0.30 s", "yes", "0.20 s", "**no**"]


def test_the_best_other_is_whoever_did_best_in_this_run(report: ModuleType) -> None:
    rows = [
        row("cpu", who, efficiency=value)
        for who, value in (("Oxherd 2", 0.9), ("Huey 2", 0.8), ("Taskiq 2", 0.95))
    ]
    cells = row_of(made(report, *rows), "CPU efficiency, 20 ms jobs, 2 slots")
    assert cells[2] == "Taskiq 2: 0.95" and cells[5] == "**no**"


def test_without_the_peer_of_a_row_nothing_is_claimed(report: ModuleType) -> None:
    lines = made(report, row("latency", "Oxherd 2", **{"p50 ms": 0.5, "p99 ms": 9.0}))
    assert row_of(lines, "add to done, idle, p50")[2:6] == ["Huey 2: not measured", "", "1 x", "not known"]
    assert row_of(lines, "add to done, idle, p50")[7] == "yes"  # the aim is a number of its own


def test_what_spoils_a_run_stands_above_its_table(report: ModuleType) -> None:
    rows = (
        row("start", "Oxherd 2", s=0.25, others=0.1),
        row("start", "Huey 2", s=0.25, others=1.5),
        {"measure": "start", "contender": "RQ fork", "round": 0, "others": 0.0, "error": "it died\nhere"},
    )
    text = "\n".join(made(report, *rows, missing={"celery": "no network"}, quick=True)).partition(
        "| measure"
    )[0]
    assert "Left out: celery: no network" in text
    assert "these are no figures" in text
    assert "during 1 of 2 measurements" in text
    assert "Not measured: start of RQ fork: it died\n" in text


def test_the_table_goes_between_the_marks_of_a_page_and_nothing_else_is_touched(
    report: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    report.write_into(page, "new\n")
    assert page.read_text() == f"above\n{report.BEGIN}\n\nnew\n\n{report.END}\nbelow\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no place for the figures"):
        report.write_into(page, "new")
    assert page.read_text() == "no marks"


def test_the_page_about_performance_has_a_place_for_the_figures(report: ModuleType) -> None:
    text = (BENCH.parents[1] / "docs/explain/performance.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_rows_are_read_as_they_were_kept(report: ModuleType, tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    rows = [HEAD, row("start", "Oxherd 2", s=0.25)]
    kept.write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert report.read(kept) == rows


def test_every_goal_is_of_something_that_is_measured(goals: ModuleType, report: ModuleType) -> None:
    for goal in goals.GOALS:
        columns = [figure for _, figure in report.MEASURES[goal.measure][1]] + ["share"]
        assert goal.figure in columns, goal.title
