"""The master's ends of a runner's link and outputs: floods, pauses, bad frames, too few descriptors."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from types import SimpleNamespace

import pytest

from sandbox.wire import HEADER, MAX_BODY, Kind, frame
from supervisor.master import pipe
from supervisor.master.ahead import Permits
from supervisor.master.budget import (
    AGAIN_S,
    BYTES_AT_ONCE,
    END_BYTES,
    END_LINES,
    FIRST_LINES,
    LINES_AT_ONCE,
    OutputBudget,
)
from supervisor.master.output import DRAIN_LINES, LINE_BYTES, LINES_A_TURN, OutputPipe
from supervisor.master.pipe import Pipe
from supervisor.master.spawning import new_ends


@pytest.fixture
async def output():
    """An output pipe whose lines are kept, and the end to write to."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    told = []
    made = OutputPipe(asyncio.get_running_loop(), read, told.append)
    yield made, write, told
    made.close()
    os.close(write)


@pytest.fixture
async def link():
    ours, theirs = socket.socketpair()
    frames, bad = [], []
    made = Pipe(
        asyncio.get_running_loop(),
        ours,
        max_body=1_000_000,
        on_frame=lambda kind, body, *_: frames.append((kind, body)),
        on_bad=bad.append,
    )
    yield made, theirs, frames, bad
    made.close()
    theirs.close()


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0)


# --- output --------------------------------------------------------------------------------------------


async def test_what_was_left_out_is_told_at_the_end_of_the_job_though_nothing_more_has_come():
    """Seen: it was told only if half a line had come besides."""
    read, write = os.pipe()
    told: list[str] = []
    budget = OutputBudget(lambda: 0.0)
    made = OutputPipe(asyncio.get_running_loop(), read, told.append, budget)
    try:
        os.write(write, b"a line\n" * (LINES_AT_ONCE + 7))
        while made.total_bytes < 7 * (LINES_AT_ONCE + 7) or made._received:
            await asyncio.sleep(0)
        made.end_line()
    finally:
        made.close()
        os.close(write)
    assert told[LINES_AT_ONCE].startswith("... 7 lines were left out (49 bytes)")


async def test_a_flood_of_lines_gets_its_share_of_a_turn_and_no_more(output):
    """The renewals of locks are made in the same loop."""
    _, write, told = output
    count = os.write(write, b"\n" * 50_000)
    most = seen = 0
    while len(told) < count:
        await asyncio.sleep(0)
        most, seen = max(most, len(told) - seen), len(told)
    assert 0 < most <= LINES_A_TURN


async def test_an_endless_line_is_told_in_parts(output):
    _, write, told = output
    os.write(write, b"x" * (2 * LINE_BYTES + 5))
    await until(lambda: len(told) == 2)
    os.write(write, b"y\n")
    await until(lambda: len(told) == 3)
    assert told == ["x" * LINE_BYTES, "x" * LINE_BYTES, "xxxxxy"]


async def test_the_end_of_a_job_does_not_wait_for_what_a_flood_left(output):
    made, write, told = output
    count = os.write(write, b"\n" * 50_000)
    made.drain()
    assert told[-1] == f"... {count - DRAIN_LINES} lines were left out ({count - DRAIN_LINES} bytes)"
    assert len(told) == DRAIN_LINES + 1
    os.write(write, b"the next job\n")
    await until(lambda: told[-1] == "the next job")


async def test_beyond_its_budget_output_is_counted_and_its_end_is_told(output):
    """Who prints too much is not slowed down, and the log does not drown."""
    made, write, told = output
    now_at = 0.0
    made._budget = budget = OutputBudget(lambda: now_at)
    lines = [b"line %d\n" % number for number in range(4 * LINES_AT_ONCE)]
    for at in range(0, len(lines), 1000):
        os.write(write, b"".join(lines[at : at + 1000]))
        made.drain()
    assert told[:LINES_AT_ONCE] == [f"line {number}" for number in range(LINES_AT_ONCE)]
    notices = [line for line in told if line.startswith("...")]
    assert len(notices) == 4 * LINES_AT_ONCE // 1000 - LINES_AT_ONCE // 1000
    assert (
        notices[0]
        == f"... 1000 lines were left out ({1000 * len('line 2000') + 1000} bytes); the last of them:"
    )
    assert told[-1] == f"line {len(lines) - 1}" and len(told) < LINES_AT_ONCE + 200

    now_at = AGAIN_S / 2
    assert not budget.take(1), "it is not told line by line, each with a notice"
    now_at = AGAIN_S
    assert budget.take(1)


async def test_output_gives_way_while_the_reader_of_the_log_does_not_keep_up(output):
    """Seen: the log dropped its oldest lines for it, the master's own and the count of those left out."""
    made, write, told = output
    now_at, crowded = 0.0, True
    made._budget = budget = OutputBudget(lambda: now_at, lambda: crowded)
    os.write(write, b"unread\n" * 100)
    made.drain()
    assert told[0].startswith("... 100 lines were left out") and len(told) <= 1 + END_LINES
    crowded = False
    assert not budget.take(1), "the reader gets time to breathe"
    now_at = 2 * AGAIN_S
    assert budget.take(1)


async def test_a_job_after_one_that_printed_too_much_has_lines_of_its_own(output):
    made, write, told = output
    made._budget = budget = OutputBudget(lambda: 0.0)
    while budget.take(1):
        pass
    budget.begin()
    os.write(write, b"mine\n" * (FIRST_LINES + 1))
    made.drain()
    assert told.count("mine") == FIRST_LINES and told[-1].startswith("... 1 lines were left out")


async def test_an_endless_line_beyond_the_budget_fills_no_memory(output):
    made, write, told = output
    made._budget = OutputBudget(lambda: 0.0)
    for _ in range(100):
        os.write(write, b"x" * 60_000)
        made.drain()
    assert sum(map(len, told)) < 2 * BYTES_AT_ONCE
    assert len(made._received) <= LINE_BYTES and len(made._left_out.end) <= END_BYTES


async def test_a_drain_ends_a_half_line_and_keeps_the_order(output):
    made, write, told = output
    os.write(write, b"one\ntwo\nthr")
    made.drain()
    assert told == ["one", "two", "thr"]


async def test_a_paused_output_is_read_again_after_the_pause(output):
    made, write, told = output
    made.pause()
    os.write(write, b"one\n" * (LINES_A_TURN + 10))
    for _ in range(10):
        await asyncio.sleep(0)
    assert told == []
    made.resume()
    await until(lambda: len(told) == LINES_A_TURN + 10)


# --- frames --------------------------------------------------------------------------------------------


async def test_a_pause_holds_even_for_frames_that_have_arrived(link):
    made, theirs, frames, _ = link
    made._on_frame = lambda kind, body, *_: (frames.append(body), made.pause())
    theirs.sendall(frame(Kind.LOG, b"1") + frame(Kind.LOG, b"2"))
    await until(lambda: frames)
    for _ in range(10):
        await asyncio.sleep(0)
    assert frames == [b"1"]
    made.resume()
    await until(lambda: frames == [b"1", b"2"])


async def test_what_a_paused_runner_said_before_its_exit_is_drained(link):
    made, theirs, frames, _ = link
    made.pause()
    theirs.sendall(frame(Kind.LOG, b"1") + frame(Kind.COMPLETED, b"null"))
    theirs.close()
    made.drain()
    assert frames == [(Kind.LOG, b"1"), (Kind.COMPLETED, b"null")]


async def test_nothing_is_heard_after_a_bad_frame(link):
    """I7: there is no resynchronising, not by a resume and not by the drain at its end."""
    made, theirs, frames, bad = link
    theirs.sendall(HEADER.pack(99, 0, 0, 0))
    await until(lambda: bad)
    theirs.sendall(frame(Kind.COMPLETED, b'"a lie"'))
    made.resume()
    for _ in range(10):
        await asyncio.sleep(0)
    made.drain()
    assert frames == [] and len(bad) == 1


class Babbler(socket.socket):
    """A link on which a stray goes on writing for ever."""

    def recv(self, size):
        return frame(Kind.LOG, b"more")


async def test_a_drain_ends_though_a_stray_goes_on_writing():
    ours, theirs = socket.socketpair()
    babbling = Babbler(fileno=ours.detach())
    frames = []
    made = Pipe(
        asyncio.get_running_loop(),
        babbling,
        max_body=100,
        on_frame=lambda kind, body, *_: frames.append(body),
        on_bad=lambda error: None,
    )
    made.drain()
    assert len(frames) == pipe.DRAIN_READS
    made.close()
    theirs.close()


async def test_a_runner_that_has_gone_is_told_by_the_send(link):
    made, theirs, _, _ = link
    assert made.send(Kind.START, b"x")
    theirs.close()
    assert not made.send(Kind.START, b"x")


async def test_a_runner_that_does_not_read_is_given_up(link, monkeypatch):
    """I7: what waits for it in our memory is bounded."""
    monkeypatch.setattr(pipe, "MAX_BODY", 1024 * 1024)
    made, _, _, bad = link
    for _ in range(40):
        made.send(Kind.ANSWER, b"x" * 100_000)
    assert bad
    assert MAX_BODY > 1024 * 1024


# --- descriptors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipes_left", [0, 1])
def test_no_descriptor_is_lost_when_there_are_too_few(monkeypatch, pipes_left):
    made = []

    def scarce():
        if len(made) == pipes_left:
            raise OSError(24, "Too many open files")
        made.append(real())
        return made[-1]

    real = os.pipe
    monkeypatch.setattr(os, "pipe", scarce)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many"):
        new_ends(socket.SOCK_STREAM)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_who_closes_his_link_and_goes_on_is_told_once(link, monkeypatch):
    """He could never say that he is done; an exit follows a link that is closed at once, or never."""
    monkeypatch.setattr(pipe, "CLOSED_FOR_S", 0.02)
    made, theirs, frames, bad = link
    theirs.sendall(frame(Kind.LOG, b"the last", 7))
    theirs.close()
    await until(lambda: bad)
    made.pause()
    made.resume()
    assert not made._read_once() and made._ended.when() < asyncio.get_running_loop().time()
    assert frames == [(Kind.LOG, b"the last")]
    assert [str(each) for each in bad] == ["an end of file: it closed its link and went on"]


# --- jobs ahead ------------------------------------------------------------------------------------------


async def test_what_was_said_before_something_was_printed_is_heard_first_however_long_it_is(link):
    """More than one read: the outcome's end would be heard after the first line of the next job."""
    made, theirs, frames, _ = link
    result = b"1" * (2 * pipe.READ_BYTES)
    theirs.sendall(frame(Kind.COMPLETED, result, 7))
    made.look()
    assert frames == [(Kind.COMPLETED, result)]


async def test_looking_from_within_a_frame_hears_the_next_one_after_its_end():
    order = []

    def on_frame(kind, body, attempt, note):
        made.look()
        order.append(attempt)

    ours, theirs = socket.socketpair()
    made = Pipe(asyncio.get_running_loop(), ours, max_body=99, on_frame=on_frame, on_bad=order.append)
    theirs.sendall(frame(Kind.COMPLETED, b"1", 1) + frame(Kind.COMPLETED, b"2", 2))
    made.look()
    made.close()
    theirs.close()
    assert order == [1, 2]


async def test_a_line_is_told_once_when_telling_it_has_the_job_ended(output):
    made, write, told = output
    made._on_line = lambda text: (told.append(text), made.telling or told.append("not telling"))
    os.write(write, b"one\ntwo\nhalf")
    made.drain()
    assert told == ["one", "two", "half"]
    assert not made.telling


async def test_a_link_that_is_full_says_so_until_its_runner_has_read(link):
    made, theirs, _, bad = link
    made.permits = SimpleNamespace(grant=lambda count: None, close=lambda: None)
    made.put(b"x" * (pipe.FULL_BYTES + 1), 1)
    assert made.full
    made.flush()
    made.put(b"x" * 1_000_000, 2)
    made.flush()
    assert made.full
    theirs.setblocking(False)

    def read():
        with suppress(BlockingIOError):
            theirs.recv(1 << 20)
        return not made.full

    await until(read)
    assert not bad


async def test_i7_a_runner_that_has_spoilt_its_permits_is_a_bad_one(link):
    made, _, _, bad = link
    ours, theirs = new_ends(socket.SOCK_STREAM, permits=True)
    made.permits = Permits(*map(os.dup, ours.permits))
    ours.close()
    with socket.socket(fileno=os.dup(theirs.permits[0])) as shared:
        shared.shutdown(socket.SHUT_RDWR)
    theirs.close()
    made.put(b"1", 1)
    made.flush()
    assert len(bad) == 1
