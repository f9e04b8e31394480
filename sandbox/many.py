"""Several jobs at a time in one runner: `async def` processors whose queue has `per_runner` above one.

One event loop in the main thread reads the link and runs a task for each job. The jobs share a process: what
one blocks, all wait for, and a limit that ends one's process ends all (the master hands the others back).

It differs from a runner of one job in two things. The soft time limit and a cancellation reach the processor
as CancelledError at its next `await`; what becomes of the attempt is judged as everywhere. What a job left
behind is looked for when none is at work.

Reads    START, ANSWER, CANCEL, LEAVE, SEAT from the link; SIGUSR2, which means: end what was cancelled
Writes   per job PROGRESS, LOG, DATA, ASK, LEFT and one outcome, each with the attempt's number
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from sandbox import codec, wire
from sandbox.attempt import Attempts, Outcome, Prepared, flush_output, let_threads_go
from sandbox.errors import AskFailed, Cancelled, TimeLimit
from sandbox.hygiene import Hygiene
from sandbox.link import CHUNK_BYTES, Link, cut_start
from sandbox.policy import Limits
from sandbox.rlimits import Shared
from sandbox.runner import tidy
from sandbox.usage import own_figures
from sandbox.wire import Frame, Kind


class SharedLink:
    """The runner's end of the link when several jobs speak by it. Frames come by `on_frame`, in their order.

    Sending may block, which is the back-pressure wanted; it may come from any thread of the processors.
    """

    def __init__(self, link: Link, on_frame: Callable[[Frame], None]) -> None:
        self.home = link.home
        self._sock, received = link.hand_over()
        self._buffer = bytearray(received)
        self._on_frame = on_frame
        self._pid = os.getpid()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._answers: dict[int, dict[str, Any]] = {}
        self._kept: deque[Frame] = deque()
        self._seq = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, kind: Kind, body: bytes, attempt: int) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("only the process that was given the job may speak for it, not one it forked")
        try:
            with self._sending:
                self._sock.sendall(wire.frame(kind, body, attempt))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the master has gone: nobody is left to work for

    def read(self) -> None:
        """Hand on what is there, without waiting."""
        if self._reading.acquire(blocking=False):  # else a question is being answered, and reads for us
            try:
                self._take_in()
            finally:
                self._reading.release()
        while self._kept:
            self._on_frame(self._kept.popleft())

    def ask(self, what: str, arguments: dict[str, Any], attempt: int) -> Any:
        """Ask the master and wait for the answer; in the event loop's thread all jobs of the runner wait."""
        with self._reading:
            self._seq += 1
            seq = self._seq
            self.send(Kind.ASK, codec.encode({"seq": seq, "what": what, **arguments}), attempt)
            while seq not in self._answers:
                select.select([self._sock], [], [])
                self._take_in()
            answer = self._answers.pop(seq)
        if "error" in answer:
            raise AskFailed(f"job.{what}: {answer['error']}")
        return answer.get("value")

    def _take_in(self) -> None:
        try:
            data = self._sock.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
            if not data:
                os._exit(0)
            self._buffer += data
        except BlockingIOError:
            pass  # but there may be what came with GO
        while (found := wire.take_frame(self._buffer, wire.TO_RUNNER)) is not None:
            if found[0] is Kind.ANSWER:
                answer: dict[str, Any] = codec.decode(found[1])
                self._answers[answer["seq"]] = answer
            else:
                self._kept.append(found)


class OneOfMany:
    """The `Channel` of one job, and what becomes of it."""

    def __init__(self, link: SharedLink, attempt: int, after_asking: Callable[[], object]) -> None:
        self.attempt = attempt
        self.task: asyncio.Task[None] | None = None
        self.why_cancelled: str | None = None
        self.ended_for_it = False
        self._link = link
        self._after_asking = after_asking

    def progress(self, encoded: bytes, value: Any) -> None:
        self._link.send(Kind.PROGRESS, encoded, self.attempt)

    def log(self, text: bytes) -> None:
        self._link.send(Kind.LOG, text, self.attempt)

    def data(self, encoded: bytes) -> None:
        self._link.send(Kind.DATA, encoded, self.attempt)

    def ask(self, what: str, arguments: dict[str, Any]) -> Any:
        try:
            return self._link.ask(what, arguments, self.attempt)
        finally:
            self._after_asking()  # what came with the answer may be a frame for the loop

    def cancel_reason(self) -> str | None:
        return self.why_cancelled

    def directory(self) -> str:
        return self._link.home.directory()


class Many:
    """A runner's jobs. `serve` returns when the runner was told to leave and the last job is done."""

    def __init__(
        self,
        link: Link,
        attempts: Attempts,
        *,
        set_title: Callable[[str], None],
        title: str,
    ) -> None:
        self._link = SharedLink(link, self._take)
        self._attempts = attempts
        self._set_title = set_title
        self._title = title
        self._at_work: dict[int, OneOfMany] = {}
        self._limits = Shared()
        self._leaving = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def serve(self) -> None:
        self._loop.add_signal_handler(signal.SIGUSR2, self._end_cancelled)
        self._loop.add_reader(self._link, self._link.read)
        self._hygiene = Hygiene(let_threads_go=lambda: let_threads_go(self._loop))
        self._loop.call_soon(self._link.read)  # what came with GO
        await self._leaving.wait()
        while self._at_work:
            await asyncio.wait([each.task for each in self._at_work.values() if each.task is not None])

    def _take(self, frame: Frame) -> None:
        kind, body, attempt, _ = frame
        if kind is Kind.START:
            channel = OneOfMany(self._link, attempt, self._read_soon)
            self._at_work[attempt] = channel
            channel.task = asyncio.create_task(self._attempt(channel, *cut_start(body)))
            self._show()
        elif kind is Kind.CANCEL and attempt in self._at_work:
            self._at_work[attempt].why_cancelled = codec.decode(body).get("reason") or "asked to end"
        elif kind is Kind.TELL:
            self._link.send(Kind.TOLD, codec.encode(own_figures()), 0)
        elif kind is Kind.SEAT:
            self._title = codec.decode(body)["title"]
            self._show()
        elif kind is Kind.LEAVE:
            self._leaving.set()

    def _read_soon(self) -> None:
        self._loop.call_soon_threadsafe(self._link.read)

    def _end_cancelled(self) -> None:
        """Each once: its clean-up is left in peace."""
        self._link.read()  # the frame that says whom may not have been read yet
        for channel in self._at_work.values():
            if channel.why_cancelled is not None and not channel.ended_for_it and channel.task is not None:
                channel.ended_for_it = True
                channel.task.cancel()

    async def _attempt(self, channel: OneOfMany, meta: dict[str, Any], raw: bytes) -> None:
        self._limits.begin(channel.attempt, Limits.from_json(meta.get("limits") or {}))
        made = self._attempts.prepare(meta, raw, channel)
        outcome = await self._call(made, channel) if isinstance(made, Prepared) else made
        del self._at_work[channel.attempt]
        self._limits.end(channel.attempt)
        flush_output()
        if not self._at_work:
            self._look_around(channel, meta["id"])
        self._link.send(outcome.kind, outcome.body, channel.attempt)
        self._show()

    async def _call(self, made: Prepared, channel: OneOfMany) -> Outcome:
        limit_ms = made.soft_timeout_ms
        try:
            async with asyncio.timeout(limit_ms / 1000 if limit_ms else None) as limit:
                result = await made.processor.function(made.job)
        except BaseException as raised:  # the border: SystemExit and the like are the job's failure too
            error: BaseException = raised
            if isinstance(raised, TimeoutError) and limit.expired():
                error = TimeLimit(f"time limit of {limit_ms} ms exceeded (soft)")
            elif isinstance(raised, asyncio.CancelledError) and channel.ended_for_it:
                error = Cancelled(channel.why_cancelled or "")
            made.job.end()
            cut_off = error is not raised
            return self._attempts.failed(made, error.with_traceback(raised.__traceback__), clean=cut_off)
        made.job.end()
        return self._attempts.completed(result)

    def _look_around(self, channel: OneOfMany, job_id: str) -> None:
        """Nobody is at work: what is still there was left behind by one of the last jobs."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_name() != SERVING:
                task.cancel()
        found = tidy(self._link.home, self._hygiene.look(job_id))
        if found is not None:
            self._link.send(Kind.LEFT, codec.encode(found.to_json()), channel.attempt)

    def _show(self) -> None:
        count = len(self._at_work)
        self._set_title(f"{self._title} {f'{count} jobs' if count else 'idle'}")


SERVING = "oxherd serves"


async def serve(link: Link, attempts: Attempts, *, set_title: Callable[[str], None], title: str) -> None:
    """Run what comes by the link until LEAVE."""
    current = asyncio.current_task()
    assert current is not None
    current.set_name(SERVING)
    await Many(link, attempts, set_title=set_title, title=title).serve()
