"""The template: imports the user's module once, then forks runners from itself.

It decides whether it may fork (I5): when the import has started threads it says so and ends, and the master
starts a bare one in its place, which has imported nothing and whose runners import for themselves. It runs no
job and reads no link. It is started by the master with `exec`, so it has never held what the master holds
(I1), and it is not a sub-reaper, which would keep the runners that it forks twice (forks.py, I8).

Control link, one JSON object a packet. From the master: `load` once, then `fork` with three descriptors
(link, stdout, stderr), a fourth (faults.py) and a fifth (ahead.py). To the master: `ready`, `threads` or
`failed` once, then `forked` or `refused` per request. End of file: exit 0.
"""

from __future__ import annotations

import array
import faulthandler
import gc
import inspect
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import Any, NoReturn

from sandbox import codec, linux, runner, threads, titles, wire
from sandbox.attempt import EXIT_INTERNAL
from sandbox.errors import LoadError
from sandbox.failures import shorten
from sandbox.forks import Born, Forker
from sandbox.hooks import load_hooks
from sandbox.identity import CannotBecome
from sandbox.isolation import (
    IsolationFailed,
    IsolationRefused,
    die_with,
    isolate_template,
    open_fds,
    refuse_template,
)
from sandbox.loader import ModuleBroken, load
from sandbox.policy import Policy
from sandbox.processors import Processor, identity_of
from sandbox.rehearsal import rehearse

EXIT_FAILED = 1  # the targets cannot be loaded; the master has been told why
MAX_CAUSE = 4 * 1024  # characters
MOST_FDS = 5  # with one request: link, stdout, stderr, faulthandler's, permits
MAX_TRACEBACK = 8 * 1024

Request = tuple[dict[str, Any], list[int]]  # of the master: a packet and its descriptors


def main(control_fd: int) -> int:
    """Serve one master until it closes the control link. Answers the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getsid(0) != os.getpid():
        os.setsid()
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    try:
        packet, _ = _receive(control)
        if packet is None:
            return 0
        template = _prepare(control, packet)
        if template is None:
            return EXIT_FAILED
        return template.serve()
    except (BrokenPipeError, ConnectionResetError):
        return 0


def _receive(control: socket.socket, flags: int = 0) -> tuple[dict[str, Any] | None, list[int]]:
    # Not by socket.recv_fds, which forgets its flags (tried, Python 3.11).
    fds_read = array.array("i")
    room = socket.CMSG_LEN(MOST_FDS * fds_read.itemsize)
    data, ancillary, _, _ = control.recvmsg(wire.MAX_CONTROL, room, socket.MSG_CMSG_CLOEXEC | flags)
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds_read.frombytes(raw[: len(raw) - len(raw) % fds_read.itemsize])
    fds = list(fds_read)
    if not data:
        return None, fds
    packet: dict[str, Any] = codec.decode(data)
    return packet, fds


def _send(control: socket.socket, packet: dict[str, Any]) -> None:
    data = codec.encode(packet)
    if len(data) >= wire.MAX_CONTROL:
        data = codec.encode(
            _failed_packet(f"the list of processors is too long to be told: {len(data)} bytes")
        )
    control.sendall(data)


def _refused(packet: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    reason = f"expected fork with 3 to {MOST_FDS} descriptors, not {packet.get('what')!r} with {len(fds)}"
    return {"what": "refused", "request": packet.get("request"), "reason": reason}


def _failed_packet(cause: str, text: str = "") -> dict[str, Any]:
    # The last 8 KB: the end of a traceback says most.
    return {"what": "failed", "cause": shorten(cause, MAX_CAUSE), "traceback": text[-MAX_TRACEBACK:]}


def _prepare(control: socket.socket, packet: dict[str, Any]) -> Template | None:
    """Isolate, import, freeze, check; None when the master was told that it cannot be."""
    policy = Policy.from_json(packet["policy"])
    set_title = titles.find_setter()
    targets = _named_targets(packet)
    set_title(packet.get("title") or f"oxherd: template {' '.join(name for name, _ in targets)}")
    try:
        die_with(packet["master_pid"])
        # I6: before the first byte of user code.
        inherited = isolate_template(policy, os.getcwd(), packet["master_pid"])
        refuse_template(policy, inherited)
        _arrange_streams()
        ours = open_fds()
        _look_like_the_users_program()
        load_targets = partial(_load, targets, hooks=packet.get("hooks", False))
        processors = [] if packet.get("bare") else _with_last_words(load_targets)
        threads.let_go()
        threads.check()
    except IsolationFailed:
        return None
    except threads.TemplateHasThreads as error:
        told = [each.to_json() for each in processors]
        about = {"identity": identity_of(processors), "processors": told}
        _send(control, {"what": "threads", "cause": str(error), **about})
        return None
    except ModuleBroken as error:
        _send(control, _failed_packet(str(error), error.traceback))
        return None
    except (LoadError, CannotBecome, IsolationRefused) as error:
        _send(control, _failed_packet(str(error)))
        return None
    template = Template(
        control=control,
        processors=processors,
        birth=runner.birth_of(
            policy,
            inherited,
            kept_fds=frozenset(open_fds() - ours),
            master_pid=packet["master_pid"],
            load=load_targets if packet.get("bare") else lambda: processors,
            identity="" if packet.get("bare") else identity_of(processors),
            set_title=set_title,
        ),
        forker=Forker(own_pid_namespaces=policy.profile == "strict" and policy.pid_namespace),
    )
    rehearse(template.birth)
    gc.collect()
    gc.freeze()
    template.tell_ready()
    return template


def _named_targets(packet: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Each target with the queue it serves when it does not say so itself."""
    default = packet.get("default_queue")
    return [
        (each, default) if isinstance(each, str) else (each["name"], each.get("queue") or default)
        for each in packet["targets"]
    ]


def _arrange_streams() -> None:
    """Line by line, and never an UnicodeEncodeError for a job that prints."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    linux.line_buffer_c_stdout()


def _look_like_the_users_program() -> None:
    """Its working directory first on the path, and none of our arguments."""
    sys.argv = ["oxherd"]
    here = os.getcwd()
    if not sys.path or sys.path[0] != here:
        sys.path.insert(0, here)


def _load(targets: Sequence[tuple[str, str | None]], *, hooks: bool) -> list[Processor]:
    processors = load_hooks(targets) if hooks else load(targets)
    _import_asyncio_if_wanted(processors)
    return processors


def _with_last_words(load: Callable[[], list[Processor]]) -> list[Processor]:
    """I10: a crash in C while it is imported is told with its lines, on stderr, which the master shows."""
    faulthandler.enable()
    try:
        return load()
    finally:
        faulthandler.disable()  # a runner has its own (faults.py)


def _import_asyncio_if_wanted(processors: Sequence[Processor]) -> None:
    # At the top it would cost every template 60 ms; here it is paid once, before the fork, if wanted.
    if any(inspect.iscoroutinefunction(each.function) for each in processors):
        import asyncio  # noqa: F401


@dataclass(slots=True, kw_only=True)
class Template:
    """A warm process, ready to fork.

    birth   what every runner has from it.
    """

    control: socket.socket
    processors: Sequence[Processor]
    birth: runner.Birth
    forker: Forker

    def tell_ready(self) -> None:
        _send(
            self.control,
            {
                "what": "ready",
                "pid": os.getpid(),
                "identity": identity_of(self.processors),
                "processors": [each.to_json() for each in self.processors],
                "layers": [layer.to_json() for layer in self.birth.inherited.layers],
            },
        )

    def serve(self) -> int:
        """Answer requests, those that wait together at once."""
        while True:
            packet, fds = _receive(self.control)
            asked = []
            try:
                while packet is not None:
                    asked.append((packet, fds))
                    if len(asked) == self.forker.at_once:
                        break
                    packet, fds = _receive(self.control, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass  # nobody else waits
            try:
                self._answer(asked)
            finally:
                for fd in chain.from_iterable(fds for _, fds in asked):
                    os.close(fd)
            if packet is None:
                return 0

    def _answer(self, asked: Sequence[Request]) -> None:
        good = [each for each in asked if each[0].get("what") == "fork" and 3 <= len(each[1]) <= MOST_FDS]
        for packet, fds in asked:
            if (packet, fds) not in good:
                _send(self.control, _refused(packet, fds))
        try:
            threads.check()
            bodies = [partial(self._be_runner, packet["slot"], fds) for packet, fds in good]
            births: Iterable[Born] = self.forker.fork(bodies) if good else ()
        except threads.TemplateHasThreads as error:
            births = repeat(OSError(0, str(error)))
        for (packet, _), born in zip(good, births, strict=False):
            answer = {"request": packet.get("request")}
            if isinstance(born, int):
                _send(self.control, {"what": "forked", **answer, "pid": born})
            else:
                reason = shorten(born.strerror or "", MAX_CAUSE)
                _send(self.control, {"what": "refused", **answer, "reason": reason})

    def _be_runner(self, slot: int, fds: list[int]) -> NoReturn:
        code = EXIT_INTERNAL
        try:
            link_fd, stdout_fd, stderr_fd, *more_fds = fds
            os.dup2(stdout_fd, 1)
            os.dup2(stderr_fd, 2)
            self.control.detach()
            code = runner.live(self.birth, slot, link_fd, *more_fds)
        except BaseException:  # the border of the process: said on stderr, which the master logs
            traceback.print_exc()
        finally:
            os._exit(code)
