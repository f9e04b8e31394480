"""Births and burials: every process of ours is registered here before it can speak, and buried here alone
(I8).

Decides when a runner is started again and when a template is replaced. What a job's end means is not decided
here: the owner of the slot is told of frames, lines and the exit, and judges.

Longer than most modules because births and burials share one registry, and every order of their events has to
be seen in one place.

Reads    pidfds, SIGCHLD, the template's control link
Writes   signals to processes registered here, or found to be strays of a dead runner
Tells    the slot's owner: `on_ready`, `on_frame`, `on_line`, `on_exit`
Rule     invariants I5, I8, I10
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from sandbox.policy import Policy
from sandbox.wire import FrameError, Kind
from supervisor.errors import SandboxError
from supervisor.master.killing import children_of, kill_tree
from supervisor.master.phases import Fact, Phase
from supervisor.master.pipe import Ends, OutputPipe, Pipe, new_ends
from supervisor.master.plan import Target
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.template import ProcessorFacts, Template
from supervisor.observe.log import get

log = get("runners")

READY_WITHIN_S = 20.0  # a runner that has not said READY by then is killed and counted as a failure
FORK_WITHIN_S = 20.0  # a template that has not answered by then is killed and replaced
UNKILLABLE_AFTER_S = 2.0
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.05, 10.0
BACKOFF_DOUBLINGS = 10  # more pass the last anyway, and a thousand of them are no float any more


def pause_after(failures: int) -> float:
    """Seconds before a slot's next birth is tried, when so many in a row have come to nothing."""
    return min(BACKOFF_FIRST_S * 2.0 ** min(failures, BACKOFF_DOUBLINGS), BACKOFF_LAST_S)


class Runners:
    """The registry of template and runners. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        env: Mapping[str, str],
        targets: Sequence[Target],
        policy: Policy,
        title: str,
    ) -> None:
        self._loop = loop
        self._env = env
        self._targets = targets
        self._policy = policy
        self._title = title
        self._by_pid: dict[int, Runner] = {}
        self._dead_at_birth: dict[int, Exit] = {}  # reaped before the template could tell their pid
        self._tasks: set[asyncio.Task[None]] = set()  # slots being filled
        self._template: Template | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._loaded = False  # once: from then on a dead template is replaced
        # Children from before us (the embedded server) are somebody else's to end.
        self._spared = set(children_of(os.getpid()))
        self._sweep_wanted = False
        self.stopping = False
        self.strays = 0

    # --- the template ------------------------------------------------------------------------------

    def spawn_template(self) -> Template:
        """Start the first template; called before any connection to Redis exists."""
        template = Template(self._loop, self._template_line)
        template.spawn(self._env)
        self._template = template
        return template

    async def load(self) -> list[ProcessorFacts]:
        """Have the template import the targets; raises `TemplateFailed`."""
        assert self._template is not None
        facts = await self._template.load(self._targets, self._policy, self._title)
        log.info("template.started", pid=self._template.pid, processors=len(facts))
        for each in facts:
            if each.memory is not None:
                why = "memory is not limited in this version"
                log.warning("limit.not_kept", target=each.target, limit=f"memory {each.memory}", why=why)
        self._loaded = True
        self._revive_if_dead()
        return facts

    def _template_line(self, stream: str, text: str) -> None:
        log.info("template.output", stream=stream, line=text)

    async def _revive(self) -> None:
        """Replace a dead template. Runners that live go on; no new one is born meanwhile."""
        pause = BACKOFF_FIRST_S
        while not self.stopping:
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_LAST_S)
            if self._template is not None:
                self._template.kill()
                self._template.close()
            try:
                self.spawn_template()
                await self.load()
            except (SandboxError, OSError) as error:  # it cannot be loaded, or the host has no room for it
                log.error("template.failed", error=str(error))
                continue
            if self._template_lives():
                return

    def _template_lives(self) -> bool:
        return self._template is not None and self._template.alive

    def _revive_if_dead(self) -> None:
        if self._loaded and self._reviving is None and not (self.stopping or self._template_lives()):
            self._reviving = self._loop.create_task(self._revive())
            self._reviving.add_done_callback(self._revived)

    def _revived(self, task: asyncio.Task[None]) -> None:
        self._reviving = None
        if not task.cancelled():
            task.result()  # a bug of ours goes to the loop's handler, loudly
            # It may have died after it was loaded, while its reviver was still believed to be at work.
            self._revive_if_dead()

    # --- births -------------------------------------------------------------------------------------

    def open(self, slot: Slot) -> None:
        """Give the slot a runner, now or when one can be had, until the slot is closed."""
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
        while not (slot.closed or self.stopping):
            if slot.failures:
                await asyncio.sleep(pause_after(slot.failures))
            if self._reviving is not None:
                await asyncio.wait([self._reviving])
            if slot.closed or self.stopping:
                return
            try:
                await self._start(slot)
                return
            except (SandboxError, OSError) as error:
                slot.failures += 1
                log.error("runner.failed", slot=slot.number, error=str(error), failures=slot.failures)

    async def _start(self, slot: Slot) -> None:
        """Have one runner forked, register it, and let it speak."""
        ours, theirs = new_ends(socket.SOCK_STREAM)
        try:
            with theirs:
                pid = await self._forked(slot, theirs.fds())
            self._register(Runner(slot, pid, os.pidfd_open(pid)), ours)
        except BaseException:
            ours.close()
            raise
        finally:
            if self._sweep_wanted:
                self._sweep()

    async def _forked(self, slot: Slot, fds: Sequence[int]) -> int:
        """The pid of a new runner, a child of ours that is not reaped."""
        template = self._template
        assert template is not None
        try:
            async with asyncio.timeout(FORK_WITHIN_S):
                pid = await template.fork(slot.number, fds)
        except TimeoutError:
            template.kill()
            raise SandboxError(f"the template did not fork within {FORK_WITHIN_S:g} s") from None
        finally:
            dead = self._dead_at_birth
            if not template.forking:
                self._dead_at_birth = {}  # the others were strays: nobody will ask for them
        if pid in dead:
            raise SandboxError(f"a new runner died at once with {dead.pop(pid)}")
        # I7: the template has run user code, so the pid it tells is a stranger's word. Had this child of
        # ours been reaped meanwhile, _dead_at_birth would know it: the number is still its own.
        if pid in self._by_pid or pid not in children_of(os.getpid()):
            raise SandboxError(f"the template told of a runner {pid} that is no new child of ours")
        return pid

    def _register(self, runner: Runner, ends: Ends) -> None:
        slot = runner.slot
        self._by_pid[runner.pid] = runner
        slot.runner = runner
        runner.pipe = Pipe(
            self._loop,
            ends.link,
            max_body=self._policy.result_bytes + 65536,
            on_frame=lambda kind, body: self._frame(runner, kind, body),
            on_bad=lambda error: self._bad_frame(runner, error),
        )
        for stream, fd in ends.outputs.items():
            runner.outputs.append(
                OutputPipe(self._loop, fd, lambda text, s=stream: slot.owner.on_line(runner, s, text))  # type: ignore[misc]
            )
        self._loop.add_reader(runner.pidfd, self._reap, runner)
        runner.kill_timer = self._loop.call_later(READY_WITHIN_S, self._never_ready, runner)
        go = {
            "slot": slot.number,
            "title": f"oxherd: runner {slot.number}",
            "master_pid": os.getpid(),
            "limits": {},
        }
        runner.pipe.send(Kind.GO, json.dumps(go).encode())

    def _frame(self, runner: Runner, kind: Kind, body: bytes) -> None:
        if kind is not Kind.READY:
            runner.slot.owner.on_frame(runner, kind, body)
            return
        if runner.phase is not Phase.STARTING and runner.phase is not Phase.LEAVING:
            self._bad_frame(runner, FrameError(kind, len(body)))
            return
        self._disarm(runner)
        try:
            runner.layers = json.loads(body)["layers"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._bad_frame(runner, FrameError(kind, len(body)))
            return
        runner.was_ready = True
        if runner.advance(Fact.READY) is Phase.IDLE:
            runner.slot.failures = 0
            log.debug("runner.started", slot=runner.slot.number, runner=runner.pid, layers=runner.layers)
            runner.slot.owner.on_ready(runner)

    def _never_ready(self, runner: Runner) -> None:
        log.error(
            "runner.failed",
            slot=runner.slot.number,
            error="it was not ready in time",
            failures=runner.slot.failures,
        )
        self.kill(runner)

    def _bad_frame(self, runner: Runner, error: FrameError) -> None:
        """I7: there is no resynchronising; nothing it says from now on is heard."""
        log.error("runner.bad_frame", slot=runner.slot.number, runner=runner.pid, error=str(error))
        runner.killed_because = f"the runner sent a bad frame ({error}) and was killed"
        runner.pipe.deafen()
        self.kill(runner)

    # --- burials ------------------------------------------------------------------------------------

    def kill(self, runner: Runner) -> None:
        """End the runner and all below it. The exit is told as any other; asking twice is harmless."""
        if runner.phase is Phase.GONE:
            return
        runner.advance(Fact.TOLD)
        self._disarm(runner)
        runner.slot.owner.on_leaving(runner)
        kill_tree(runner.pid)
        runner.kill_timer = self._loop.call_later(UNKILLABLE_AFTER_S, self._unkillable, runner)

    def _unkillable(self, runner: Runner) -> None:
        log.error("runner.unkillable", slot=runner.slot.number, runner=runner.pid)

    def _disarm(self, runner: Runner) -> None:
        if runner.kill_timer is not None:
            runner.kill_timer.cancel()
            runner.kill_timer = None

    def _reap(self, runner: Runner) -> None:
        """The pidfd says it has ended. What it said before counts, so the link is read first.

        Until that is done it is only peeked at: what is read may ask for a kill, and the number is its own as
        long as it is not reaped. It leaves before it is read, so that an outcome does not make it look idle.
        """
        if runner.phase is Phase.GONE:
            return
        ended = os.waitid(os.P_PIDFD, runner.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        how = Exit(ended.si_status, None) if ended.si_code == os.CLD_EXITED else Exit(None, ended.si_status)
        runner.advance(Fact.TOLD)
        runner.slot.owner.on_leaving(runner)
        runner.pipe.drain()
        runner.drain_output()
        self._bury(runner)
        self._sweep()
        log.debug("runner.exited", slot=runner.slot.number, runner=runner.pid, how=str(how))
        runner.slot.owner.on_exit(runner, how)
        if not (runner.slot.closed or self.stopping):
            self.open(runner.slot)

    def _bury(self, runner: Runner) -> None:
        os.waitid(os.P_PIDFD, runner.pidfd, os.WEXITED | os.WNOHANG)
        runner.advance(Fact.EXITED)
        self._disarm(runner)
        del self._by_pid[runner.pid]
        self._loop.remove_reader(runner.pidfd)
        os.close(runner.pidfd)
        runner.pipe.close()
        for output in runner.outputs:
            output.close()
        runner.slot.runner = None
        if not runner.was_ready:
            runner.slot.failures += 1

    def on_sigchld(self) -> None:
        """Reap whatever ended: the template, a runner whose pidfd was not read yet, a stray.

        Peeked with WNOWAIT and reaped by pid, never by waitpid(-1), which could take a registered child's
        status away from the one who waits for it.
        """
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self._by_pid:
                self._reap(self._by_pid[pid])
            elif self._template is not None and self._template.alive and pid == self._template.pid:
                self._template_ended(self._template)
            else:
                self._reap_stray(pid)

    def _reap_stray(self, pid: int) -> None:
        _, status = os.waitpid(pid, os.WNOHANG)
        self._spared.discard(pid)  # the number may be a stray's one day
        if self._template is not None and self._template.forking:
            # It may be a runner that died between its fork and the template's answer.
            signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            self._dead_at_birth[pid] = Exit(None if signum else os.WEXITSTATUS(status), signum)
        else:
            self.strays += 1

    def _template_ended(self, template: Template) -> None:
        status = template.reap()
        if status is None or self.stopping or not self._loaded:
            return
        log.error("template.exited", pid=template.pid, status=status)
        self._revive_if_dead()

    def _sweep(self) -> None:
        """Kill strays: children of ours that are not registered, left behind by a dead runner.

        While a fork is under way an unknown child may be a runner that is not registered yet, so the sweep
        waits for the template's answer.
        """
        if self._template is not None and self._template.forking:
            self._sweep_wanted = True
            return
        self._sweep_wanted = False
        known = {*self._by_pid, *self._spared}
        if self._template is not None:
            known.add(self._template.pid)
        for pid in children_of(os.getpid()):
            if pid not in known:
                below = kill_tree(pid)
                log.warning("stray.killed", pid=pid, below=below)

    async def close(self) -> None:
        """End every runner, let the template go, and return when all are buried."""
        self.stopping = True
        for task in [*self._tasks, *([self._reviving] if self._reviving else [])]:
            task.cancel()
        for runner in list(self._by_pid.values()):
            if runner.phase is Phase.IDLE:
                runner.leave()
            else:
                self.kill(runner)
        if not await self._until(lambda: not self._by_pid, 0.5):
            for runner in list(self._by_pid.values()):
                self.kill(runner)
            await self._until(lambda: not self._by_pid, UNKILLABLE_AFTER_S)
        template = self._template
        if template is not None:
            template.close()
            if not await self._until(lambda: template.reap() is not None, 0.5):
                template.kill()
                await self._until(lambda: template.reap() is not None, UNKILLABLE_AFTER_S)
        self._sweep()

    async def _until(self, true: Callable[[], bool], limit_s: float) -> bool:
        """Until `true()`, at most `limit_s`. Exits arrive on their own meanwhile."""
        give_up_at = self._loop.time() + limit_s
        while not true():
            if self._loop.time() > give_up_at:
                return False
            await asyncio.sleep(0.002)
            self.on_sigchld()
        return True
