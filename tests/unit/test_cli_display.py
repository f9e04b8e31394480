"""What is counted and shown while a burst runs."""

from __future__ import annotations

import io
import json

import pytest

from supervisor.cli import display
from supervisor.cli.display import Tally, burst_listener, read_progress


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now_at = 100.0

    def __call__(self) -> float:
        return self.now_at


def test_a_tally_knows_what_each_slot_does_and_what_became_of_the_jobs() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.on_fetched("work", "1", "a", 1)
    tally.on_fetched("work", "2", "b", 2)
    tally.on_progress("work", "2", b"41.5")
    tally.on_progress("work", "gone", b"1")

    clock.now_at += 2
    tally.on_finished("work", "1", "completed", None)
    assert list(tally.slots) == [2]
    assert tally.slots[2].percent == 41.5

    tally.on_finished("work", "2", "failed", "no good\n  at line 1")
    assert (tally.completed, tally.failed, tally.done) == (1, 1, 2)
    assert tally.last_reason == "work/2: no good"
    assert tally.sentence() == "1 completed, 1 failed"
    clock.now_at += 60  # nothing is running: idle time is no work
    assert tally.took_s() == 2
    assert tally.rate() == 1

    tally.on_finished("work", "3", "retried", "again")
    assert tally.sentence() == "1 completed, 1 failed, 1 put back"


def test_who_is_handed_back_and_had_not_begun_is_no_news() -> None:
    """It was sent ahead of a slot, behind a job that turned out long."""
    tally = Tally(Clock())
    tally.on_finished("work", "1", "handed-back", None)
    assert tally.sentence() == "0 completed, 0 failed"
    tally.on_fetched("work", "1", "a", 1)
    tally.on_finished("work", "1", "handed-back", None)
    assert tally.sentence() == "0 completed, 0 failed, 1 put back"


def test_a_slot_that_has_its_next_job_does_not_lose_it_to_the_end_of_the_last() -> None:
    tally = Tally(Clock())
    tally.on_fetched("work", "1", "a", 1)
    tally.on_fetched("work", "2", "b", 1)
    tally.on_finished("work", "1", "completed", None)
    assert tally.slots[1].job_id == "2"


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b"42", (42.0, "")),
        (b"-3", (0.0, "")),
        (b"1e9", (100.0, "")),
        (b"true", (None, "true")),
        (b'{"page":1}', (None, '{"page":1}')),
        (b'"\\u001b[2J"', (None, '"\\u001b[2J"')),
        (b"null", (None, "")),
        (b"{no", (None, "")),
    ],
)
def test_progress_is_per_cent_or_a_text(raw: bytes, read: tuple[float | None, str]) -> None:
    assert read_progress(raw) == read


def test_elsewhere_than_on_a_terminal_a_line_is_said_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with burst_listener(as_json=False, log_level="info", clock=clock) as tally:
        for number in range(1, 13):
            tally.on_fetched("work", str(number), "a", 1)
            clock.now_at += 1
            tally.on_finished("work", str(number), "completed", None)
    assert capfd.readouterr().out.splitlines() == [
        "5 completed, 0 failed, 0 running (1.0 jobs/s)",
        "10 completed, 0 failed, 0 running (1.0 jobs/s)",
        "done: 12 completed, 0 failed in 12 s (1.0 jobs/s)",
    ]


def test_for_programs_there_is_one_record_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with burst_listener(as_json=True, log_level="info", clock=clock) as tally:
        tally.on_fetched("work", "1", "a", 1)
        clock.now_at += 1.5
        tally.on_finished("work", "1", "failed", "no")
    assert json.loads(capsys.readouterr().out) == {
        "completed": 0,
        "failed": 1,
        "put_back": 0,
        "took_ms": 1500,
    }


def test_a_burst_that_breaks_off_has_no_summary(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), burst_listener(as_json=False, log_level="info"):
        raise ZeroDivisionError
    assert capfd.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_without_rich_gets_lines_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display.importlib.util, "find_spec", lambda name: None)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with burst_listener(as_json=False, log_level="info") as tally:
        tally.on_fetched("work", "1", "a", 1)
        tally.on_finished("work", "1", "completed", None)
    assert terminal.getvalue() == display.WITHOUT_RICH + "\n"
    assert capfd.readouterr().out.startswith("done: 1 completed, 0 failed")


def test_the_picture_keeps_a_line_for_each_slot_however_long_the_names() -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=60)
    tally = Tally(clock=lambda: 0.0)
    tally.on_fetched("a-queue-with-quite-a-long-name-indeed", "4711", "a-job-with-quite-a-long-name", 1)
    tally.on_progress("a-queue-with-quite-a-long-name-indeed", "4711", b"40")

    console.print(display._draw(tally))

    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2, lines
    wide = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=120)
    wide.print(display._draw(tally))
    assert "a-queue-with-quite-…/4711 a-job" in wide.file.getvalue()


def test_the_picture_says_that_ctrl_c_was_heard_while_jobs_run_on() -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=100)
    tally = Tally(clock=lambda: 0.0)
    tally.on_log("stop.requested", {"running": 0, "deadline_s": 30.0})  # a burst that is done
    console.print(display._draw(tally))
    assert "stopping" not in console.file.getvalue()

    tally.on_log("stop.requested", {"running": 2, "deadline_s": 30.0})
    console.print(display._draw(tally))
    assert "stopping: running jobs may end; Ctrl-C again does not wait for them" in console.file.getvalue()


def test_the_picture_shows_each_slot() -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=100)
    tally = Tally(Clock())
    tally.on_fetched("work", "1", "resize [bold]", 1)
    tally.on_fetched("work", "2", "move\x1b[2J", 2)
    tally.on_progress("work", "1", b"50")
    tally.on_progress("work", "2", b'"half"')
    console.print(display._draw(tally))
    shown = console.file.getvalue()
    assert "0 completed  0 failed" in shown
    assert "work/1 resize [bold]" in shown
    assert "50%" in shown
    assert "work/2 move\\x1b[2J" in shown
    assert '"half"' in shown
    assert "\x1b[2J" not in shown
