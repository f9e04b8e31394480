from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.observe import log
from supervisor.observe.writer import PIECE, LineWriter

ROOT = Path(__file__).parents[2]


class Pipe:
    """A pipe as a stream to log to, and what came out of it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.stream = io.TextIOWrapper(io.FileIO(self.write_end, "w"))

    def read(self) -> bytes:
        os.set_blocking(self.read_end, False)
        taken = b""
        try:
            while piece := os.read(self.read_end, 65536):
                taken += piece
        except BlockingIOError:
            pass
        return taken

    def drain(self, writer: LineWriter, lines: int) -> bytes:
        """What came out, once that is so many lines."""
        taken = self.read()
        while taken.count(b"\n") < lines:
            writer.flush(0.001)
            taken += self.read()
        return taken

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.read().splitlines()]

    def close(self) -> None:
        os.close(self.read_end)
        self.stream.close()


@pytest.fixture
def small_pipe(pipe):
    """A pipe with room for one page."""
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, 4096)
    return pipe


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    log.configure()  # nothing of ours holds the descriptor any more
    made.close()


def in_fresh_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_line_is_one_json_object_with_time_level_and_logger(pipe):
    log.configure("json", "info", pipe.stream)

    log.get("lease").warning("lock.lost", queue="thumbnails", job_id="7", why="gone or taken")

    [line] = pipe.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "lock.lost",
        "level": "warning",
        "logger": "lease",
        "queue": "thumbnails",
        "job_id": "7",
        "why": "gone or taken",
    }


def test_lines_below_the_level_are_not_written(pipe):
    log.configure("json", "warning", pipe.stream)
    logger = log.get("master")
    logger.debug("runner.started")
    logger.info("master.started")
    logger.error("lock.lost")
    assert [line["event"] for line in pipe.lines()] == ["lock.lost"]


def test_auto_is_json_where_nobody_looks(pipe):
    log.configure("auto", "info", pipe.stream)
    log.get("master").info("master.started", pid=5)
    assert pipe.lines()[0]["pid"] == 5


def test_auto_is_for_people_on_a_terminal():
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        log.configure("auto", "info", terminal)
        log.get("master").info("master.started", pid=5)
        text = os.read(ours, 4096).decode()
        log.configure()
    os.close(ours)
    assert "master.started" in text
    assert "{" not in text


def test_what_a_runner_printed_cannot_move_the_terminal(pipe):
    """I7: bytes from a stranger are shown and never obeyed."""
    log.configure("console", "info", pipe.stream)
    log.get("runner").info("job.output", line="\x1b[2Jgone\x9b\x07")
    text = pipe.read()
    assert b"\\x1b[2Jgone\\x9b\\x07" in text
    assert b"\x1b[2J" not in text


def test_a_string_that_is_no_unicode_is_logged_all_the_same(pipe):
    log.configure("json", "info", pipe.stream)
    log.get("runner").info("job.output", line="half \ud83d")
    assert pipe.lines()[0]["line"] == "half \ud83d"


def test_an_exception_is_one_key_of_the_line(pipe):
    log.configure("json", "info", pipe.stream)
    try:
        raise ValueError("broken")
    except ValueError:
        log.get("master").error("template.failed", exc_info=True)
    assert pipe.lines()[0]["exception"].endswith("ValueError: broken")


def test_a_hook_hears_every_event_whatever_the_level(pipe):
    log.configure("json", "error", pipe.stream)
    heard = []
    with log.hooked(lambda event, fields: heard.append((event, fields))):
        log.get("master").debug("runner.started", slot=1)
    log.get("master").debug("runner.exited", slot=1)
    assert heard == [("runner.started", {"slot": 1})]


def test_a_reader_that_stops_reading_does_not_stop_us(small_pipe):
    """The bookkeeping cannot be starved, by a pager either: what would block waits, and order is kept."""
    writer = LineWriter(small_pipe.write_end)
    lines = [f"line {number} ".encode() + b"x" * 100 for number in range(500)]
    for line in lines:
        writer.write(line)  # all together are twelve times what the pipe takes

    assert small_pipe.drain(writer, len(lines)).splitlines() == lines
    assert writer.dropped == 0


def test_a_reader_that_never_reads_costs_a_bounded_number_of_lines(small_pipe):
    writer = LineWriter(small_pipe.write_end, max_waiting_bytes=1_000)
    for number in range(200):
        writer.write(b"%03d " % number + b"x" * 96)
    assert 0 < writer.dropped < 200

    taken = small_pipe.drain(writer, 200 - writer.dropped).splitlines()

    numbers = [int(line[:3]) for line in taken]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 199  # the oldest went first
    assert all(len(line) == 100 for line in taken)


def test_a_line_longer_than_the_pipe_arrives_whole(small_pipe):
    writer = LineWriter(small_pipe.write_end, max_waiting_bytes=10)
    line = b"y" * (3 * PIECE)
    writer.write(line)
    writer.write(b"next")
    assert small_pipe.drain(writer, 2).splitlines() == [line, b"next"]


def test_it_is_crowded_when_half_of_what_may_wait_does(small_pipe):
    writer = LineWriter(small_pipe.write_end, max_waiting_bytes=2_000)
    written = 0
    while not writer.crowded():
        writer.write(b"x" * 99)
        written += 1
    assert writer.dropped == 0
    for _ in range(9):  # others' lines still find their place
        writer.write(b"y" * 99)
    assert writer.dropped == 0
    assert len(small_pipe.drain(writer, written + 9).splitlines()) == written + 9
    assert not writer.crowded()


def test_what_waits_for_the_end_of_the_turn_does_not_crowd(pipe):
    turns = []
    writer = LineWriter(pipe.stream.fileno(), max_waiting_bytes=2_000, soon=turns.append)
    for _ in range(15):
        writer.write(b"x" * 99)
    assert not writer.crowded() and writer.dropped == 0
    assert len(turns) == 1


def test_what_waits_is_tried_again_though_nothing_more_is_said(small_pipe):
    """Seen: the last lines of a burst lay in memory until something else happened."""
    agains = []
    writer = LineWriter(small_pipe.write_end, later=lambda delay_s, call: agains.append(call))
    for _ in range(100):
        writer.write(b"x" * 99)
    assert len(agains) == 1
    seen = 0
    while agains:
        seen += len(os.read(small_pipe.read_end, 1 << 20))
        agains.pop()()
    assert seen + len(os.read(small_pipe.read_end, 1 << 20)) == 10_000


def test_a_line_half_written_is_never_dropped(small_pipe):
    writer = LineWriter(small_pipe.write_end, max_waiting_bytes=1_000)
    line = b"y" * (3 * PIECE)
    writer.write(line)
    for number in range(50):
        writer.write(b"%03d " % number + b"x" * 96)
    taken = small_pipe.drain(writer, 51 - writer.dropped).splitlines()
    assert writer.dropped > 0
    assert taken[0] == line
    assert all(len(line) == 100 for line in taken[1:])
    assert taken[-1].startswith(b"049")


def test_lines_for_a_reader_that_is_gone_are_dropped_and_counted():
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LineWriter(write_end)
    writer.write(b"nobody")
    writer.flush()
    assert writer.dropped == 1
    os.close(write_end)


def test_dropped_lines_are_told_by_the_next_one(pipe):
    log.configure("json", "info", pipe.stream)
    logger = log.get("master")
    logger.info("master.started")
    log._State.writer.dropped = 3
    logger.info("master.stopped")
    events = {line["event"]: line for line in pipe.lines()}
    assert events["log.dropped"]["lines"] == 3


def test_having_a_logger_loads_nothing_until_it_is_used():
    code = (
        "import sys; from supervisor.observe import log, metrics, tree, catalogue\n"
        "log.get('x').debug('a.b')\n"
        "print({'structlog', 'psutil', 'msgspec', 'rich'} & set(sys.modules))"
    )
    assert in_fresh_python(code) == "set()\n"


def test_the_log_does_not_load_rich_and_does_not_hide_it():
    code = (
        "import sys; from supervisor.observe import log; log.configure('console')\n"
        "log.get('x').error('a.b'); print('structlog' in sys.modules, 'rich' in sys.modules)\n"
        "import rich; print('found')"
    )
    assert in_fresh_python(code) == "True False\nfound\n"


def test_what_waits_at_the_end_of_the_process_is_written():
    code = (
        "from supervisor.observe import log; log.configure('json')\n"
        "for _ in range(2000): log.get('x').info('a.b', text='x' * 100)\n"
        "print('all said', flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as process:
        process.stdout.readline()  # nobody has read the log so far, and its pipe is long full
        assert process.stderr.read().count(b'"event":"a.b"') == 2000


def test_a_stream_without_a_descriptor_is_written_too():
    stream = io.StringIO()
    log.configure("json", "info", stream)
    log.get("master").info("master.started", pid=5)
    log.configure()
    assert json.loads(stream.getvalue())["pid"] == 5


def test_a_replaced_stderr_is_followed(monkeypatch, pipe):
    """Else a line could go to whatever file has the old descriptor's number now."""
    log.configure("json")
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    log.get("master").info("master.started")
    monkeypatch.setattr("sys.stderr", second)
    log.get("master").info("master.stopped")
    assert "master.started" in first.getvalue()
    assert "master.stopped" in second.getvalue()


def test_a_process_without_stderr_goes_on_without_a_log():
    assert (
        in_fresh_python(
            "import sys; sys.stderr = None\n"
            "from supervisor.observe import log; log.get('x').error('a.b'); print('on')"
        )
        == "on\n"
    )


def test_the_lines_of_one_turn_of_the_loop_go_out_in_one_write(monkeypatch, pipe):
    log.configure("json", "info", pipe.stream)
    later = []
    writes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(data) or real(fd, data))

    monkeypatch.setattr("supervisor.observe.writer.GATHERED_AFTER_S", 60.0)

    with log.gathered(SimpleNamespace(call_soon=later.append, call_later=lambda delay_s, call: None)):
        for number in range(4):
            log.get("runner").error("runner.unkillable", slot=number)
        [write_now] = later
        write_now()
        log.get("runner").error("runner.unkillable", slot=4)  # its turn never comes: the end writes it

    assert [data.count(b"\n") for data in writes] == [1, 3, 1], "the first is alone and waits for nobody"
    assert [line["slot"] for line in pipe.lines()] == [0, 1, 2, 3, 4]


def test_a_line_that_comes_alone_waits_for_no_turn_of_the_loop(pipe):
    turns, now = [], [100.0]
    writer = LineWriter(pipe.stream.fileno(), soon=turns.append, clock=lambda: now[0])
    for _ in range(3):
        writer.write(b"alone")
        now[0] += 0.003
    assert not turns and pipe.read() == b"alone\n" * 3


def as_journal(monkeypatch, stream) -> None:
    of = os.fstat(stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{of.st_dev}:{of.st_ino}")


def test_a_line_for_the_journal_begins_with_its_priority(monkeypatch, pipe):
    as_journal(monkeypatch, pipe.stream)
    log.configure("json", "debug", pipe.stream)
    logger = log.get("master")
    for level in log.LEVELS:
        getattr(logger, level)("master.started", pid=5)
    lines = pipe.read().splitlines()
    assert [line[:3] for line in lines] == [b"<7>", b"<6>", b"<4>", b"<3>"]
    assert [json.loads(line[3:])["level"] for line in lines] == list(log.LEVELS)


def test_every_line_of_an_entry_for_the_journal_has_the_priority(monkeypatch, pipe):
    """The journal makes an entry of each line: the stack of an error is an error."""
    as_journal(monkeypatch, pipe.stream)
    log.configure("console", "info", pipe.stream)
    try:
        raise ValueError("broken")
    except ValueError:
        log.get("master").error("template.failed", exc_info=True)
    lines = pipe.read().splitlines()
    assert len(lines) > 2
    assert all(line.startswith(b"<3>") for line in lines)


def test_a_stream_that_is_not_the_journals_has_no_priorities(monkeypatch, pipe):
    """JOURNAL_STREAM is inherited; a stderr that was sent elsewhere is a plain one."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    log.configure("json", "info", pipe.stream)
    log.get("master").info("master.started", pid=5)
    assert pipe.read().startswith(b"{")
