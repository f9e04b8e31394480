"""The master's own part of a job's way, without sockets, processes or a clock: the same work at each run.

Real parts: a whole worker of the master (`Worker`: fetcher, exchanger, dispatcher, leases...), the registry
of runners with the pipes to them, the connection to Redis from the packed call to the decoded reply, the log
line of each attempt. In the place of the kernel stand replies and frames as they were observed, handed in
turn by turn: Redis answers every call that was sent, then each runner answers as many of its jobs as it would
in such a turn.

    drive.py JOBS     does JOBS jobs and says how many

Its instructions are counted by `instructions.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox.policy import Limits, Policy
from sandbox.wire import NOTE_US_SHIFT, TO_RUNNER, Kind, frame, take_frame
from supervisor import lua
from supervisor.master.finish import FinishRules
from supervisor.master.notify import Nobody
from supervisor.master.runner import Runner
from supervisor.master.runners import Runners
from supervisor.master.settings import QueueSettings
from supervisor.master.slots import Numbers
from supervisor.master.spawning import Ends
from supervisor.master.watch import Watch
from supervisor.master.worker import Surroundings, Worker
from supervisor.observe import log
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis
from supervisor.transport.link import Link
from supervisor.transport.requests import Scripts

SLOTS = 16
DONE_A_TURN = 2  # by each runner
TOOK_US = 60
SETTINGS = QueueSettings(
    name="drive",
    concurrency=SLOTS,
    lock_ms=30_000,
    stalled_interval_ms=30_000,
    stalled_skip=True,
    max_stalled=1,
    drain_delay_ms=5_000,
    worker_name="",
    metrics=0,
    limiter=None,
    finish_rules=FinishRules(None, None, None),
    output_to_job_log=False,
    limits={None: Limits()},
)
_CALL = re.compile(rb"\*(\d+)\r\n")


class DriveLoop(asyncio.BaseEventLoop):
    """An event loop that nothing happens to but what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = SimpleNamespace(select=lambda timeout: [], close=lambda: None)  # type: ignore[assignment]
        self.now = 1_000.0
        self.readers: dict[int, Callable[[], object]] = {}

    def time(self) -> float:
        return self.now

    def _process_events(self, events: object) -> None: ...
    def _write_to_self(self) -> None: ...

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: Any) -> bool:
        return self.readers.pop(fd, None) is not None

    def turn(self) -> None:
        """Everything that is due now."""
        while self._ready:  # type: ignore[attr-defined]
            self._run_once()  # type: ignore[attr-defined]


class Wire:
    """The socket of one runner, and the runner behind it."""

    def __init__(self, fd: int, permits: int) -> None:
        self._fd = fd
        self._permits = permits
        self._sent = bytearray()
        self._said = bytearray()
        self.jobs: deque[int] = deque()

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, blocking: bool) -> None: ...
    def close(self) -> None: ...

    def send(self, data: bytes) -> int:
        self._sent += data
        ahead = 0
        while (found := take_frame(self._sent, TO_RUNNER)) is not None:
            kind, _, attempt, _ = found
            if kind is Kind.START or kind is Kind.NEXT:
                self.jobs.append(attempt)
                ahead += kind is Kind.NEXT
        if ahead:
            os.read(self._permits, ahead)
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._said:
            raise BlockingIOError
        said, self._said = bytes(self._said), bytearray()
        return said

    def say(self, kind: Kind, body: bytes, attempt: int = 0, note: int = 0) -> None:
        self._said += frame(kind, body, attempt, note)


class Server(asyncio.Transport):
    """The transport of the connection, and Redis behind it: a queue that never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: deque[list[bytes]] = deque()
        self.written = 0
        self._number = 0

    def write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            count, at = self._header(data, at)
            words = []
            for _ in range(count):
                length, at = self._header(data, at)
                words.append(data[at : at + length])
                at += length + 2
            self.calls.append(words)

    @staticmethod
    def _header(data: bytes, at: int) -> tuple[int, int]:
        end = data.index(b"\r\n", at)
        return int(data[at + 1 : end]), end + 2

    def abort(self) -> None: ...

    def answer(self) -> bytes:
        """The reply to the oldest call of finishAndFetch, as Redis 7.0 was seen to give it."""
        words = self.calls.popleft()
        wanted = int(words[8])
        outcomes = words[14:].count(b"D")
        self.written += outcomes
        rows = b"".join(self._row() for _ in range(wanted))
        codes = b":0\r\n" * outcomes
        return b"*8\r\n*%d\r\n%s*0\r\n*%d\r\n%s*0\r\n:0\r\n:0\r\n:0\r\n$0\r\n\r\n" % (
            outcomes, codes, wanted, rows,
        )  # fmt: skip

    def _row(self) -> bytes:
        self._number += 1
        job_id = b"%d" % self._number
        values = [job_id, b"noop", b'{"i":%d}' % self._number, b'{"attempts":0}', b"1700000000000", b"0"]
        return b"*7\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in values) + b":1\r\n"


class Drive:
    """One worker at work."""

    def __init__(self, loop: DriveLoop) -> None:
        self.loop = loop
        self.server = Server()
        self.link = Link(reply_timeout_s=None)
        self.link.connection_made(self.server)  # type: ignore[arg-type]
        opened = SimpleNamespace(link=self.link, loaded=dict.fromkeys(("finishAndFetch",), 0))
        session = SimpleNamespace(
            address="nowhere", opened=opened, closed=False, last=opened,
            settings=SimpleNamespace(clock=loop.time, patience_s=1.0),
        )  # fmt: skip
        redis = Redis(session, Scripts(lua.source))  # type: ignore[arg-type]
        self.runners = Runners(loop, env={}, rng=lambda: 0.5)
        nursery = self.runners.nursery([], Policy(), "")
        self.worker = Worker(
            QueueKeys("drive", "bull"), SETTINGS, SimpleNamespace(),  # type: ignore[arg-type]
            Surroundings(
                redis=redis, runners=self.runners, nursery_of=lambda queue: nursery, numbers=Numbers(),
                listener=Nobody(), clock=loop.time, wall_clock=lambda: 1_700_000_000.0, rng=lambda: 0.5,
                loop=loop, watch=Watch(loop, loop.time),
            ),
        )  # fmt: skip
        self.wires: list[Wire] = []
        self.runners.open = self._born  # type: ignore[method-assign]
        self.nursery = nursery

    def _born(self, slot: Any) -> None:
        pipes = [os.pipe() for _ in range(2)]
        permits = [each.detach() for each in socket.socketpair()]
        wire = Wire(10_000 + len(self.wires), os.dup(permits[1]))
        ends = Ends(wire, pipes[0][0], pipes[1][0], (), permits)  # type: ignore[arg-type]
        self.runners._register(Runner(slot, os.getpid(), 20_000 + len(self.wires), self.nursery), ends)
        wire.say(Kind.READY, b'{"layers":[],"identity":""}')
        self.wires.append(wire)

    def open(self) -> None:
        self.nursery.identity = ""
        self.worker.places.fit(SETTINGS)
        self._hear()

    def _receive(self, reply: bytes) -> None:
        room = self.link.get_buffer(-1)
        for at in range(0, len(reply), len(room)):
            part = reply[at : at + len(room)]
            room[: len(part)] = part
            self.link.buffer_updated(len(part))

    def run(self, jobs: int) -> None:
        while self.server.written < jobs:
            self.loop.now += 0.001
            self.loop.turn()
            while self.server.calls:
                self._receive(self.server.answer())
            self.loop.turn()
            for wire in self.wires:
                for _ in range(min(DONE_A_TURN, len(wire.jobs))):
                    wire.say(Kind.COMPLETED, b"null", wire.jobs.popleft(), TOOK_US << NOTE_US_SHIFT)
            self._hear()

    def _hear(self) -> None:
        for wire in self.wires:
            if wire._said:
                self.loop.readers[wire.fileno()]()


def main(jobs: int) -> None:
    loop = DriveLoop()
    asyncio.set_event_loop(loop)

    async def drive() -> None:
        made = Drive(loop)
        made.open()
        asyncio.events._set_running_loop(None)
        made.run(jobs)
        print(made.server.written)

    with open(os.devnull, "w") as nowhere:
        log.configure("json", "info", nowhere)
        coroutine = drive()
        asyncio.events._set_running_loop(loop)
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        finally:
            asyncio.events._set_running_loop(None)
        os._exit(0)  # nothing is owed to anybody


if __name__ == "__main__":
    main(int(sys.argv[1]))
