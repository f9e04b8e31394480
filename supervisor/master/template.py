"""The template as the master sees it: spawned, asked to load, asked for runners.

How its process is started is said in `spawning.py`; when runners are wanted is `births.py`'s to decide, when
a dead template is replaced `nursery.py`'s.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from sandbox.policy import Limits, Policy
from sandbox.wire import MAX_CONTROL
from supervisor.errors import SandboxError, TemplateFailed
from supervisor.master.evidence import trimmed
from supervisor.master.output import OutputPipe
from supervisor.master.plan import Target
from supervisor.master.spawning import TemplateProcess, spawn
from supervisor.observe.log import get

log = get("template")

NONE_TAKEN: Final = "No job was taken from any queue."
# In the stack of a crash there are five of these for each module on the way to the line that crashed.
IMPORTING: Final = '  File "<frozen importlib._'
END_WITHIN_S: Final = 1.0  # a template that has closed its link and lives on is killed then


class ProcessorFacts(msgspec.Struct, frozen=True):
    """What the template found out about one processor.

    target_number   which of the targets has brought it, from 0.
    data_type       what a job's data are made into, if anything.
    """

    queue: str
    name: str | None
    target: str
    concurrency: int | None
    custom_backoff: bool
    limits: Limits
    profile: str | None = None
    fresh: bool | None = None
    per_runner: int | None = None
    max_crashes: int | None = None
    on_memory: str | None = None
    target_number: int = 0
    data_type: str | None = None


class ImportStartsThreads(Exception):
    """I5: the import has started threads, so nothing may be forked from the process that made it."""

    def __init__(self, why: str, processors: list[ProcessorFacts]) -> None:
        self.processors = processors
        super().__init__(why)


class _Packet(msgspec.Struct, frozen=True):
    """What a template may say; which members belong to which `what` is said in sandbox/template.py."""

    what: Literal["ready", "threads", "failed", "forked", "refused"]
    request: int | None = None
    pid: int = 0
    reason: str = ""
    cause: str = ""
    traceback: str = ""
    identity: str = ""
    processors: list[ProcessorFacts] = []


_PACKET: Final = msgspec.json.Decoder(_Packet)


class Template:
    """One template process. All methods belong to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_line: Callable[[str, str], None]) -> None:
        """`on_line(stream, text)` gets what the user's module prints while it is imported."""
        self._loop = loop
        self._on_line = on_line
        self._replies: dict[int, asyncio.Future[int]] = {}
        self._loaded: asyncio.Future[_Packet] = loop.create_future()
        self._requests = 0
        self._last_words: deque[str] = deque(maxlen=40)
        self._outputs: list[OutputPipe] = []
        self.targets: tuple[Target, ...] = ()
        self.identity = ""  # of what it has imported; its runners must have the same
        self.pid = 0
        self.alive = False

    def spawn(self, env: Mapping[str, str]) -> None:
        """Start the process."""
        self.take(spawn(env))

    def take(self, process: TemplateProcess) -> None:
        """Have this process, which has been started and belongs to nobody yet."""
        ours = process.taken()
        self._process = process.popen
        self.pid = self._process.pid
        self.alive = True
        self._link = ours.link
        self._link.setblocking(False)
        self._loop.add_reader(self._link.fileno(), self._readable)
        for stream, fd in ours.outputs.items():
            self._outputs.append(OutputPipe(self._loop, fd, lambda text, s=stream: self._line(s, text)))  # type: ignore[misc]

    def _line(self, stream: str, text: str) -> None:
        if not text.startswith(IMPORTING):
            self._last_words.append(text)
        self._on_line(stream, text)

    async def load(
        self,
        targets: Sequence[Target],
        policy: Policy,
        title: str,
        *,
        hooks: bool = False,
        bare: bool = False,
    ) -> list[ProcessorFacts]:
        """Import the targets. Raises `TemplateFailed` with the traceback of the user's module, and
        `ImportStartsThreads` when it cannot fork after it; it ends then.

        hooks   they are hooks, each with its kind in the place of a queue.
        bare    import nothing: its runners do. The list is empty then.
        """
        self.targets = tuple(targets)
        self._send(
            {
                "what": "load",
                "targets": [{"name": target.name, "queue": target.queue} for target in targets],
                "policy": policy.to_json(),
                "master_pid": os.getpid(),
                "title": title,
                "hooks": hooks,
                "bare": bare,
            }
        )
        reply = await self._loaded
        if reply.what == "failed":
            raise self._failure(reply.cause, reply.traceback)
        if not all(0 <= each.target_number < len(self.targets) for each in reply.processors):
            raise self._failure("the template told of a processor of a target that it was not given", "")
        self.identity = reply.identity
        if reply.what == "threads":
            raise ImportStartsThreads(reply.cause, reply.processors)
        return reply.processors

    def _failure(self, cause: str, traceback: str) -> TemplateFailed:
        for output in self._outputs:
            output.drain()
        names = " ".join(target.name for target in self.targets)
        words = traceback.rstrip() or trimmed("\n".join(self._last_words))
        shown = "".join(f"\n  | {line}" for line in words.splitlines())
        return TemplateFailed(
            f"cannot load {names}: {cause}\n{NONE_TAKEN}" + (shown and f" What it said:{shown}")
        )

    async def fork(self, slot: int, fds: Sequence[int]) -> int:
        """Have a runner forked onto `fds` (link, stdout, stderr); returns its pid. The fds stay the caller's.

        Raises `SandboxError` when the template refuses (it has threads, the host has no room) or is gone.
        """
        self._requests += 1
        number = self._requests
        reply = self._replies[number] = self._loop.create_future()
        try:
            self._send({"what": "fork", "request": number, "slot": slot}, fds)
            pid: int = await reply
            return pid
        finally:
            del self._replies[number]

    def _send(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._link.sendmsg([json.dumps(packet).encode()], rights)
        except OSError as error:
            raise SandboxError(f"the template does not listen: {error}") from None

    def _readable(self) -> bool:
        """Take one packet; False when there was none."""
        if self._link.fileno() < 0:
            return False
        try:
            data = self._link.recv(MAX_CONTROL)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            # It ends; or the user's module has closed the link, and nothing can be asked of it any more.
            self._loop.remove_reader(self._link.fileno())
            self._loop.call_later(END_WITHIN_S, self.kill)
            return False
        try:
            self._heard(_PACKET.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # I7: the template has run user code, so it is a stranger too.
            log.error("template.bad_packet", pid=self.pid, error=str(error))
            self.kill()
        return True

    def _heard(self, packet: _Packet) -> None:
        if packet.what in ("ready", "threads", "failed"):
            if not self._loaded.done():
                self._loaded.set_result(packet)
            return
        waiter = self._replies.get(packet.request or 0)
        if waiter is None or waiter.done():
            return
        if packet.what == "forked":
            waiter.set_result(packet.pid)
        else:
            waiter.set_exception(SandboxError(f"the template did not fork a runner: {packet.reason}"))

    @property
    def forking(self) -> bool:
        """A fork was asked for and not answered: an unknown child may be a runner not registered yet (I8)."""
        return bool(self._replies)

    def reap(self) -> int | None:
        """The exit status if the process has ended (negative: a signal), as `Popen.poll` gives it."""
        status = self._process.poll()
        if status is not None and self.alive:
            self.alive = False
            self._buried(status)
        return status

    def _buried(self, status: int) -> None:
        while self._readable():  # its last packets may still be there
            pass
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if not self._loaded.done():
            self._loaded.set_result(_Packet("failed", cause=f"the template ended with {how}"))
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(SandboxError(f"the template ended with {how}"))

    def close(self) -> None:
        """Let go of it: end of file on the control link makes it exit."""
        if self._link.fileno() >= 0:
            self._loop.remove_reader(self._link.fileno())
            self._link.close()
        for output in self._outputs:
            output.close()

    def kill(self) -> None:
        # Not by Popen.kill, which polls first: it would reap a template that has just ended, and nobody would
        # be told. Nobody but `reap` reaps it, so the number is its own while it is alive.
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
