"""Births: when a slot gets a runner, and how one comes to be.

Decides when a runner is started again: at once for one that has done its work, later and later for a slot
whose births come to nothing, and a few a second for all that were of no use. Who has been forked is handed to
the registry (`runners.py`), which lets it speak and buries it.

Tells    the slot: `on_failed_birth`
Rule     invariants I7, I8
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from supervisor.errors import SandboxError
from supervisor.master.health import Bucket
from supervisor.master.nursery import BACKOFF_FIRST_S, BACKOFF_LAST_S, Nursery
from supervisor.master.runner import Runner, Slot
from supervisor.master.spawning import Ends, new_ends
from supervisor.master.strays import Strays
from supervisor.observe.log import get

log = get("runners")

FAILURES_TOLD_EVERY_S = 10.0
SPAWN_BURST, SPAWNS_PER_S = 8, 10.0  # of runners that replace one that was of no use
BACKOFF_DOUBLINGS = 10  # more pass the last anyway, and a thousand of them are no float any more


def pause_after(failures: int) -> float:
    """Seconds before a slot's next birth is tried, when so many in a row have come to nothing."""
    return min(BACKOFF_FIRST_S * 2.0 ** min(failures, BACKOFF_DOUBLINGS), BACKOFF_LAST_S)


def _pidfd_of_child(pid: int) -> int:
    """A pidfd of a child of ours; -1 when it is none."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return -1
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        os.close(pidfd)
        return -1
    return pidfd


class Births:
    """Those of one master. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        registered: Callable[[], set[int]],
        register: Callable[[Runner, Ends], None],
        strays: Strays,
        stopping: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._registered = registered
        self._register = register
        self._strays = strays
        self._tasks: set[asyncio.Task[None]] = set()  # slots being filled
        self.forkers: set[asyncio.Task[Any] | None] = set()  # of them, who waits for a fork
        self._failures: dict[str, int] = {}  # why births came to nothing lately -> how many
        self.bucket = Bucket(SPAWN_BURST, SPAWNS_PER_S, loop.time)
        self._stopping = stopping

    def open(self, slot: Slot) -> None:
        """Give the slot a runner, now or when one can be had, until the slot is closed."""
        if not (slot.closed or slot.filling or self._stopping()):
            slot.filling = True
            self._spawn(self._fill(slot))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._filled)

    def _filled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # a bug of ours goes to the loop's handler, loudly: the slot would stay empty

    async def _fill(self, slot: Slot) -> None:
        try:
            await self._try_to_fill(slot)
        finally:
            slot.filling = False

    async def _try_to_fill(self, slot: Slot) -> None:
        while not (slot.closed or self._stopping()):
            if slot.failures:
                await asyncio.sleep(pause_after(slot.failures))
            if slot.owes:
                slot.owes = False
                await asyncio.sleep(self.bucket.take())
            if (reviving := slot.nursery.reviving) is not None:
                await asyncio.wait([reviving])
            if slot.closed or self._stopping():
                return
            try:
                await self._start(slot)
                return
            except (SandboxError, OSError) as error:
                if self._stopping():
                    return
                self.failed(slot, str(error))

    def failed(self, slot: Slot, why: str) -> None:
        """Said once in a while of all slots together: a host without room refuses hundreds at a time."""
        slot.failures += 1
        self._failures[why] = more = self._failures.get(why, 0) + 1
        if more == 1:
            log.error("runner.failed", slot=slot.number, error=why, failures=slot.failures)
            self._loop.call_later(FAILURES_TOLD_EVERY_S, self._tell_more, why)
        slot.on_failed_birth(why)

    def _tell_more(self, why: str) -> None:
        more = self._failures.pop(why) - 1
        if more:
            log.error("runner.failed", error=why, more=more)

    async def _start(self, slot: Slot) -> None:
        """Have one runner forked, register it, and let it speak."""
        nursery = slot.nursery
        ours, theirs = new_ends(socket.SOCK_STREAM, faults=True, permits=slot.takes_ahead)
        try:
            with theirs:
                pid, pidfd = await self._forked(slot, nursery, theirs.fds())
            self._register(Runner(slot, pid, pidfd, nursery), ours)
        except BaseException:
            ours.close()
            raise
        finally:
            self._strays.sweep_if_wanted()

    async def _forked(self, slot: Slot, nursery: Nursery, fds: Sequence[int]) -> tuple[int, int]:
        """Pid and pidfd of a new runner, a child of ours that is not reaped."""
        forker = asyncio.current_task()
        self.forkers.add(forker)
        try:
            pid = await nursery.fork(slot.number, fds)
        finally:
            self.forkers.discard(forker)
            dead = self._strays.dead_at_birth()
        if pid in dead:
            raise SandboxError(f"a new runner died at once with {dead.pop(pid)}")
        # I7: the template has run user code, so the pid it tells is a stranger's word. Had this child of
        # ours been reaped meanwhile, it would be among the dead: the number is still its own.
        known = pid in self._registered() or self._strays.spares(pid)
        pidfd = -1 if known else _pidfd_of_child(pid)
        if pidfd < 0:
            raise SandboxError(f"the template told of a runner {pid} that is no new child of ours")
        return pid, pidfd

    def cancel(self, *, forking: bool) -> None:
        """No slot is filled any more; `forking`: not by those either who wait for a fork."""
        for task in self._tasks - (set() if forking else self.forkers):
            task.cancel()
