"""What a person sees while `run --burst` works: a live picture on a terminal, a line now and then elsewhere.

The master tells `Tally`, which only counts; drawing happens in rich's own thread, so that a terminal that has
been stopped with Ctrl-S stops the picture and not the work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from supervisor.cli.render import as_json, clean, clipped, out, span
from supervisor.observe import log
from supervisor.observe.writer import LineWriter

LINE_EVERY_S: Final = 5.0
WITHOUT_RICH: Final = "oxherd: for a live picture install rich: pip install 'oxherd[tui]'"
Clock = Callable[[], float]


class Running(msgspec.Struct):
    """What one slot is doing. `percent` is None until the processor says a number."""

    queue: str
    job_id: str
    name: str
    since_at: float
    percent: float | None = None
    said: str = ""


class Tally:
    """The listener: what has been done and what is being done."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.completed = 0
        self.failed = 0
        self.put_back = 0
        self.slots: dict[int, Running] = {}
        self.last_reason = ""
        self.stopping = False  # somebody asked for it while jobs were running
        self.first_at: float | None = None  # the first job was fetched
        self.last_at: float | None = None  # the last one so far has ended
        self._slot_of: dict[tuple[str, str], int] = {}

    def on_fetched(self, queue: str, job_id: str, name: str, slot: int) -> None:
        if self.first_at is None:
            self.first_at = self.clock()
        self.slots[slot] = Running(queue, job_id, name, self.clock())
        self._slot_of[queue, job_id] = slot

    def on_progress(self, queue: str, job_id: str, progress: bytes) -> None:
        running = self.slots.get(self._slot_of.get((queue, job_id), -1))
        if running is not None:
            running.percent, running.said = read_progress(progress)

    def on_finished(self, queue: str, job_id: str, state: str, reason: str | None) -> None:
        self.last_at = self.clock()
        slot = self._slot_of.pop((queue, job_id), -1)
        running = self.slots.get(slot)
        if running is not None and (running.queue, running.job_id) == (queue, job_id):
            del self.slots[slot]
        if state == "completed":
            self.completed += 1
        elif state == "failed":
            self.failed += 1
            self.last_reason = f"{queue}/{job_id}: {reason or ''}".partition("\n")[0]
        elif state != "handed-back" or slot >= 0:  # who had not begun waits as before: no news for anybody
            self.put_back += 1

    def on_output(self, queue: str, job_id: str, stream: str, line: str) -> None:
        """It is in the log."""

    def on_log(self, event: str, fields: Mapping[str, Any]) -> None:
        """A hook for the log: whoever pressed Ctrl-C must see that it was heard."""
        if event == "stop.requested" and fields.get("running"):
            self.stopping = True

    @property
    def done(self) -> int:
        return self.completed + self.failed

    def took_s(self) -> float:
        """From the first job to now, or to the end of the last while none is running."""
        if self.first_at is None:
            return 0.0
        until = self.clock() if self.slots or self.last_at is None else self.last_at
        return until - self.first_at

    def rate(self) -> float:
        """Jobs a second since the first."""
        return self.done / max(self.took_s(), 1e-3)

    def sentence(self) -> str:
        parts = [f"{self.completed:,} completed", f"{self.failed:,} failed"]
        if self.put_back:
            parts.append(f"{self.put_back:,} put back")
        return ", ".join(parts)


def read_progress(raw: bytes) -> tuple[float | None, str]:
    """Per cent if the progress is a number, else its text."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None, ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(100.0, max(0.0, float(value))), ""
    return None, "" if value is None else clean(raw.decode("utf-8", "replace"))


@contextlib.contextmanager
def burst_listener(*, as_json: bool, log_level: str, clock: Clock = time.monotonic) -> Iterator[Tally]:
    """The listener of a burst; what it has counted is said when the block ends without an error.

    log_level   of the lines that scroll above the picture.
    """
    on_terminal = sys.stderr.isatty() and not as_json
    if on_terminal and importlib.util.find_spec("rich") is None:
        print(WITHOUT_RICH, file=sys.stderr, flush=True)
        on_terminal = False
    if on_terminal:
        tally = Tally(clock)
        with log.hooked(tally.on_log), _picture(tally, log_level):
            yield tally
    elif as_json:
        tally = Tally(clock)
        yield tally
    else:
        tally = _Lines(clock)
        yield tally
    say_summary(tally, as_json_line=as_json)


def say_summary(tally: Tally, *, as_json_line: bool) -> None:
    """What a burst has done, on stdout."""
    if as_json_line:
        record = {
            "completed": tally.completed,
            "failed": tally.failed,
            "put_back": tally.put_back,
            "took_ms": round(tally.took_s() * 1000),
        }
        out(as_json(record))
        return
    last = f"; the last to fail was {clean(tally.last_reason)}" if tally.last_reason else ""
    took = tally.took_s()
    out(f"done: {tally.sentence()} in {span(took * 1000)} ({tally.rate():,.1f} jobs/s){last}")


class _Lines(Tally):
    """A line at most every few seconds, for a log or a pipe; it never waits for its reader."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._writer = LineWriter(sys.stdout.fileno())
        self._said_at = clock()

    def on_finished(self, queue: str, job_id: str, state: str, reason: str | None) -> None:
        super().on_finished(queue, job_id, state, reason)
        now_at = self.clock()
        if now_at - self._said_at >= LINE_EVERY_S:
            self._said_at = now_at
            text = f"{self.sentence()}, {len(self.slots)} running ({self.rate():,.1f} jobs/s)"
            self._writer.write(text.encode())


# --- the picture ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _picture(tally: Tally, log_level: str) -> Iterator[None]:
    # At the top they would cost every other command some 50 ms, and they are an extra.
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with (
        Live(get_renderable=lambda: _draw(tally), console=console, refresh_per_second=6, transient=True),
        _log_above(console, log_level),
    ):
        yield


def _draw(tally: Tally) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble(
        (f"{tally.completed:,}", "bold green"),
        " completed  ",
        (f"{tally.failed:,}", "bold red" if tally.failed else "dim"),
        " failed  ",
        (f"{tally.rate():,.1f} jobs/s", "bold"),
        f"  {span(tally.took_s() * 1000)}",
    )
    if tally.stopping:
        head.append("\nstopping: running jobs may end; Ctrl-C again does not wait for them", "bold yellow")
    grid = Table.grid(padding=(0, 2))
    for slot, running in sorted(tally.slots.copy().items()):
        bar: Any = ProgressBar(total=100, completed=running.percent or 0, width=24)
        if running.percent is None:
            bar = Text(clipped(running.said, 24), style="dim")
        # A long queue's name must not push out which job it is.
        queue = clipped(clean(running.queue), 20)
        what = clipped(f"{queue}/{clean(f'{running.job_id} {running.name}')}", 48)
        percent = "" if running.percent is None else f"{running.percent:.0f}%"
        grid.add_row(
            Text(f"slot {slot}", style="dim"),
            Text(what, no_wrap=True, overflow="ellipsis"),
            bar,
            Text(percent),
            Text(span((tally.clock() - running.since_at) * 1000), style="dim"),
        )
    return Group(head, grid)


@contextlib.contextmanager
def _log_above(console: Any, level: str) -> Iterator[None]:
    """Let the log scroll above the picture instead of through it."""
    from rich.text import Text

    reading, writing = os.pipe()

    def copy() -> None:
        with os.fdopen(reading, "r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                console.print(Text(line.rstrip("\n")), soft_wrap=True)

    thread = threading.Thread(target=copy, name="log-above-picture", daemon=True)
    thread.start()
    with os.fdopen(writing, "w") as stream:
        log.configure("console", level, stream)
        try:
            yield
        finally:
            log.configure()  # flushes what still waits for the pipe
    thread.join(timeout=2)
