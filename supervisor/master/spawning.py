"""How a template's process is started: with which environment, which program, and which ends of ours.

`run` starts the first one before it loads the rest of the master, which takes as long as the template's own
start: so nothing heavy may be imported here. What the process is to do it is told later (`template.py`).

Rule     I1: the environment holds nothing of Redis; I5: a spawn, never a fork
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

import sandbox
from supervisor.master.orphans import mark

# Started by path, not by `-m sandbox`: a user's own folder named `sandbox` in the working directory would be
# found first. -P keeps the working directory out of sys.path until the template itself puts it there.
BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from sandbox.__main__ import main; main(sys.argv[1:])"
)

# systemd's notification variables would let user code speak for the service.
NEVER_INHERITED: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)


def scrubbed(env: Mapping[str, str], secrets: Sequence[str]) -> dict[str, str]:
    """The environment for template and runners: the user's own, without ours and without Redis (I1).

    `secrets` are texts (the URL, the password) that no remaining value may contain.
    """
    return {
        name: value
        for name, value in env.items()
        if not name.startswith("OXHERD_")
        and name not in NEVER_INHERITED
        and not any(secret and secret in value for secret in secrets)
    }


def environment(secrets: Sequence[str]) -> dict[str, str]:
    """What a template of this master gets."""
    return {**scrubbed(os.environ, secrets), **mark()}


class Ends:
    """One process' ends of a link and of two output pipes; of one for faulthandler, if there is any.

    permits   ours: where permits for jobs sent ahead are put in, and where they are taken, which is the
              child's too. Empty: none are.
    """

    def __init__(
        self,
        link: socket.socket,
        stdout: int,
        stderr: int,
        faults: Sequence[int] = (),
        permits: Sequence[int] = (),
    ) -> None:
        self.link = link
        self.outputs = {"stdout": stdout, "stderr": stderr}
        self.faults = faults
        self.permits = permits

    def fds(self) -> list[int]:
        return [self.link.fileno(), *self.outputs.values(), *self.faults, *self.permits]

    def close(self) -> None:
        self.link.close()
        for fd in (*self.outputs.values(), *self.faults, *self.permits):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def new_ends(
    link_type: socket.SocketKind, *, faults: bool = False, permits: bool = False
) -> tuple[Ends, Ends]:
    """Ours and a child's; `faults` adds a third pipe, `permits` a socket pair. Raises OSError when there are
    no descriptors left, and keeps none then.
    """
    with ExitStack() as undo:
        link, far_link = socket.socketpair(socket.AF_UNIX, link_type)
        undo.callback(link.close)
        undo.callback(far_link.close)
        pipes = []
        for _ in range(3 if faults else 2):
            pipes.append(os.pipe())
            for fd in pipes[-1]:
                undo.callback(os.close, fd)
        shared: list[list[int]] = [[], []]
        if permits:
            put_in, taken = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            shared[0] += [put_in.detach(), taken.detach()]
            for fd in shared[0]:
                undo.callback(os.close, fd)
            shared[1].append(os.dup(shared[0][1]))
        undo.pop_all()
    near, far = zip(*pipes, strict=True)
    return (
        Ends(link, near[0], near[1], near[2:], shared[0]),
        Ends(far_link, far[0], far[1], far[2:], shared[1]),
    )


class TemplateProcess:
    """A process that will be a template. It waits for its first packet, or for the end of its link."""

    def __init__(self, popen: subprocess.Popen[bytes], ends: Ends) -> None:
        self.popen = popen
        self._ends: Ends | None = ends

    def taken(self) -> Ends:
        """Our ends; whoever asks has to close them and to reap the process."""
        ends, self._ends = self._ends, None
        assert ends is not None, "a template's process is taken once"
        return ends

    def let_go(self) -> None:
        """End it if nobody has taken it."""
        if self._ends is not None:
            self.taken().close()
            self.popen.kill()  # nothing of the user's is in it yet
            self.popen.wait()


def spawn(env: Mapping[str, str]) -> TemplateProcess:
    """Start a process, in a session of its own, so that Ctrl-C passes it by."""
    ours, theirs = new_ends(socket.SOCK_SEQPACKET)
    home = os.path.dirname(os.path.dirname(os.path.abspath(sandbox.__file__)))
    link_fd, *output_fds = theirs.fds()
    try:
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, home, "template", str(link_fd)],
                env=env,
                pass_fds=[link_fd],
                stdin=subprocess.DEVNULL,
                stdout=output_fds[0],
                stderr=output_fds[1],
                start_new_session=True,
            )
    except BaseException:
        ours.close()
        raise
    return TemplateProcess(popen, ours)


@contextmanager
def started(secrets: Sequence[str]) -> Iterator[TemplateProcess]:
    """A process for the first template, started at once; ended with the block if nobody took it."""
    process = spawn(environment(secrets))
    try:
        yield process
    finally:
        process.let_go()
