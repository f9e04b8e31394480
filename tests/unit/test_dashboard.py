"""The dashboard in docs/how-to asks for metrics and labels that are there, and shows what it asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from supervisor.observe.metric_catalogue import HISTOGRAM, METRICS

FILE = Path(__file__).parents[2] / "docs/how-to/grafana-dashboard.json"
GIVEN_BY_PROMETHEUS = {"instance", "job"}


def dashboard() -> dict[str, Any]:
    return json.loads(FILE.read_text())


def labels_of(series: str) -> set[str]:
    """Those that the samples of this name have. Raises KeyError for a name that there is not."""
    name = re.sub(r"_(bucket|sum|count)$", "", series)
    if name != series and METRICS[name].kind == HISTOGRAM:
        return {*METRICS[name].labels, *(["le"] if series.endswith("_bucket") else [])}
    return set(METRICS[series].labels)


def test_each_expression_names_a_metric_of_the_catalogue_and_its_labels():
    asked = 0
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            found = re.findall(r"(oxherd_\w+)(?:\{([^}]*)\})?", target["expr"])
            assert found, target
            for series, matchers in found:
                labels = labels_of(series) | GIVEN_BY_PROMETHEUS
                assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= labels, target
                for grouped in re.findall(r"by \(([^)]+)\)", target["expr"]):
                    assert set(grouped.split(", ")) <= labels, target
                asked += 1
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= set(", ".join(re.findall(r"by \(([^)]+)\)", target["expr"])).split(", ")), target
    assert asked > 12


def test_it_can_be_imported_and_its_panels_lie_beside_each_other():
    found = dashboard()
    assert {each["name"] for each in found["templating"]["list"]} == {"datasource", "queue"}
    places = set()
    for number, panel in enumerate(found["panels"], start=1):
        at = panel["gridPos"]
        assert panel["id"] == number
        assert at["x"] + at["w"] <= 24
        places.add((at["x"], at["y"]))
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len(places) == len(found["panels"])
    units = {panel["title"]: panel["fieldConfig"]["defaults"]["unit"] for panel in found["panels"]}
    assert all(units.values())
    for panel in found["panels"]:
        text = " ".join(target["expr"] for target in panel["targets"])
        assert ("_seconds" in text) == (panel["fieldConfig"]["defaults"]["unit"] == "s"), panel["title"]
        assert ("_bytes" in text) == (panel["fieldConfig"]["defaults"]["unit"] == "bytes"), panel["title"]
