"""The registry: every process of ours is registered here before it can speak, and buried here alone (I8).

Decides how a runner is ended, and what its end says of the next. When that is started is `births.py`'s to
decide, when a template is replaced `nursery.py`'s, who is a stray `strays.py`'s, and what a job's end means
the slot's owner's: it is told of frames, lines and the exit, and judges.

Longer than most modules because whoever is registered is buried, and every order of what happens to it has to
be seen in one place.

Reads    pidfds, SIGCHLD
Writes   signals to processes registered here, or found to be strays of a dead runner
Tells    the slot's owner: `on_ready`, `on_frame`, `on_line`, `on_exit`
Rule     invariant I8
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sandbox.policy import Policy
from sandbox.wire import FrameError, Kind
from supervisor.master.ahead import Permits
from supervisor.master.births import Births
from supervisor.master.budget import OutputBudget
from supervisor.master.cgroup import Groups
from supervisor.master.evidence import cpu_ns, place_of_crash
from supervisor.master.faults import Faults
from supervisor.master.jobs_dir import JobsDir
from supervisor.master.killing import end_tree, stuck_below
from supervisor.master.layers import Degraded
from supervisor.master.messages import BadMessage, read_told
from supervisor.master.nursery import Nursery
from supervisor.master.output import OutputPipe
from supervisor.master.phases import Fact, Phase
from supervisor.master.pipe import Pipe
from supervisor.master.plan import Target
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.spares import Spares
from supervisor.master.spawning import Ends, TemplateProcess
from supervisor.master.strays import Strays
from supervisor.master.succession import Succession
from supervisor.observe.log import crowded, get

log = get("runners")

READY_WITHIN_S = 20.0  # a runner that has not said READY by then is killed and counted as a failure
STEADY_AFTER_S = 10.0  # who has been ready for so long has not died of its birth
LEAVES_WITHIN_S = 5.0  # one that was told to
UNKILLABLE_AFTER_S = 2.0
SWEEP_AGAIN_S = 0.25  # for the cgroup of a runner whose family dies slowly


class Runners:
    """The registry of templates and runners. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        env: Mapping[str, str],
        rng: Callable[[], float],
        process: TemplateProcess | None = None,
    ) -> None:
        """`process` is for the first template of the first nursery."""
        self._loop = loop
        self._env = env
        self._process = process
        self.nurseries: list[Nursery] = []
        self._degraded = Degraded()
        self._by_pid: dict[int, Runner] = {}
        self.spares = Spares(
            loop, birth=lambda slot: self.open(slot), end=self._let_go, bad_frame=self.bad_frame
        )
        self._succession = Succession(
            loop,
            birth=lambda slot: self.open(slot),
            end=self._let_go,
            everybody=self._by_pid.values,
            rng=rng,
            spares=self.spares,
        )
        self.began, self.finished = self._succession.began, self._succession.finished
        self.serves_on = self._succession.serves_on
        self.replace, self.shut = self._succession.replace, self._succession.shut
        self.reopen = self._succession.reopen
        self.jobs_dir: JobsDir | None = None  # where runners have their directories
        self.groups: Groups | None = None  # where each runner gets a cgroup of its own
        self.no_groups = ""  # why there are none
        self._strays = Strays(loop, registered=self._registered, forking=self._forking)
        self.births = Births(
            loop,
            registered=self._registered,
            register=self._register,
            strays=self._strays,
            stopping=lambda: self.stopping,
        )
        self.open = self.births.open
        self.stopping = False

    @property
    def strays(self) -> int:
        """How many were reaped."""
        return self._strays.reaped

    @property
    def no_cpu(self) -> str:
        """Why the CPU is not shared among runners (`cpus`, `cpu_weight`); empty when it is."""
        return self.no_groups if self.groups is None else self.groups.no_cpu

    def _registered(self) -> set[int]:
        return {*self._by_pid, *(each.pid for each in self.nurseries)}

    # --- the templates -----------------------------------------------------------------------------

    def nursery(
        self, targets: Sequence[Target], policy: Policy, title: str, *, hooks: bool = False
    ) -> Nursery:
        """A place for templates of these targets under this policy."""
        made = Nursery(self._loop, env=self._env, targets=targets, policy=policy, title=title, hooks=hooks)
        self.nurseries.append(made)
        if self._process is not None:
            self._strays.claimed(self._process.popen.pid)
            made.take(self._process)
            self._process = None
        return made

    def abandon(self, nursery: Nursery) -> None:
        """End its template; nothing is to be born there. It stays known until its end is buried."""
        nursery.stop()
        nursery.let_go()

    def forget(self, nursery: Nursery) -> None:
        """Its template is buried: the number may be another's one day."""
        self.nurseries.remove(nursery)

    def spawn_templates(self) -> None:
        """Start the first template of each; called before any connection to Redis exists."""
        for each in self.nurseries:
            each.spawn()

    def _forking(self) -> bool:
        return any(each.forking for each in self.nurseries)

    # --- lives --------------------------------------------------------------------------------------

    def _register(self, runner: Runner, ends: Ends) -> None:
        slot = runner.slot
        self._by_pid[runner.pid] = runner
        if self.groups is not None:
            runner.leaf = self.groups.leaf_for(runner.pid)
        runner.pipe = Pipe(
            self._loop,
            ends.link,
            max_body=runner.nursery.policy.result_bytes + 65536,
            on_frame=partial(self._frame, runner),
            on_bad=lambda error: self.bad_frame(runner, str(error)),
            permits=Permits(*ends.permits) if ends.permits else None,
        )
        runner.budget = OutputBudget(self._loop.time, crowded)
        for stream, fd in ends.outputs.items():
            on_line = partial(self._line, runner, stream)
            runner.outputs.append(OutputPipe(self._loop, fd, on_line, runner.budget))
            runner.outputs[-1].before_read = runner.hear_first
        for fd in ends.faults:
            runner.faults = Faults(self._loop, fd, partial(self._line, runner, "stderr"))
        runner.born_at = self._loop.time()
        self._loop.add_reader(runner.pidfd, self._reap, runner)
        runner.kill_timer = self._loop.call_later(
            READY_WITHIN_S + 3 * runner.nursery.import_s, self._never_ready, runner
        )
        go = {
            "slot": slot.number,
            "title": slot.title,
            "master_pid": os.getpid(),
            "limits": {},
            "at_once": runner.room,
            "once": slot.fresh and runner.nursery.policy.profile != "strict",
        }
        runner.pipe.send(Kind.GO, json.dumps(go).encode())
        self._succession.born(runner)

    def _line(self, runner: Runner, stream: str, text: str) -> None:
        runner.slot.owner.on_line(runner, stream, text)  # whose it is now: a spare has had another slot

    def _frame(self, runner: Runner, kind: Kind, body: bytes, attempt: int, note: int) -> None:
        if kind is Kind.TOLD:
            self._told(runner, body)
            return
        if kind is not Kind.READY:
            runner.slot.owner.on_frame(runner, kind, body, attempt, note)
            return
        if runner.phase is not Phase.STARTING and runner.phase is not Phase.LEAVING:
            self.bad_frame(runner, str(FrameError(kind, len(body))))
            return
        self._disarm(runner)
        try:
            told = json.loads(body)
            runner.layers, identity = told["layers"], told.get("identity", "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.bad_frame(runner, str(FrameError(kind, len(body))))
            return
        if identity != runner.nursery.identity:
            # I10: its module has changed since the template told of it, or the template was replaced.
            runner.useless_why = "it has loaded other processors than its template told of"
            self.kill(runner)
            return
        runner.was_ready = True
        if runner.advance(Fact.READY) is Phase.IDLE:
            if runner.slot.number != Slot.UNTOLD:
                log.debug("runner.started", slot=runner.slot.number, runner=runner.pid, layers=runner.layers)
            self._degraded.tell(runner.nursery.policy.profile, runner.layers)
            self._succession.ready(runner)

    def _told(self, runner: Runner, body: bytes) -> None:
        """What it uses, as it was asked; said unasked, or twice, it is no worse."""
        try:
            runner.told = read_told(body), self._loop.time()
        except BadMessage as error:
            self.bad_frame(runner, str(error))

    def _never_ready(self, runner: Runner) -> None:
        runner.useless_why = "it was not ready in time"
        self.kill(runner)

    def bad_frame(self, runner: Runner, error: str) -> None:
        """I7: there is no resynchronising; nothing it says from now on is heard."""
        log.error("runner.bad_frame", slot=runner.slot.number, runner=runner.pid, error=error)
        runner.slot.owner.on_bad_frame(runner, error)
        runner.pipe.deafen()
        self.end(runner)

    # --- burials ------------------------------------------------------------------------------------

    def end(self, runner: Runner) -> None:
        """As `kill`, but it is asked first what all its threads are doing. That takes 0.15 s at most."""
        if runner.phase is Phase.GONE or runner.was_killed:
            return
        if runner.faults is None:
            self.kill(runner)
            return
        if runner.faults.asked:
            return
        runner.advance(Fact.TOLD)
        self._disarm(runner)
        runner.slot.owner.on_leaving(runner)
        if runner.leaf is not None:
            runner.leaf.hurry()
        runner.faults.ask(runner.pid, runner.pidfd, partial(self.kill, runner))

    def _let_go(self, runner: Runner) -> None:
        """End a runner that has no job: it exits by itself, or is killed."""
        runner.slot.owner.on_leaving(runner)
        runner.let_go = True
        runner.leave()
        runner.kill_timer = self._loop.call_later(LEAVES_WITHIN_S, self.kill, runner)

    def kill(self, runner: Runner) -> None:
        """End the runner and all below it. The exit is told as any other; asking twice is harmless."""
        if runner.phase is Phase.GONE:
            return
        runner.advance(Fact.TOLD)
        self._disarm(runner)
        runner.slot.owner.on_leaving(runner)
        runner.was_killed = True
        if runner.leaf is not None:
            runner.leaf.hurry()
        end_tree(runner)
        runner.kill_timer = self._loop.call_later(UNKILLABLE_AFTER_S, self._unkillable, runner)

    def _unkillable(self, runner: Runner) -> None:
        """Stuck in the kernel: its slot is not. The signal is on it, so it runs no line of its job again."""
        slot = runner.slot
        log.error("runner.unkillable", slot=slot.number, runner=runner.pid, stuck=stuck_below(runner.pid))
        if runner.abandoned:
            return
        runner.abandoned = True
        runner.pipe.deafen()
        slot.owner.on_exit(runner, Exit(None, signal.SIGKILL))
        self._succession.gone(runner)

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
        if runner.faults is not None:
            runner.faults.drain()
        runner.cpu_ns = cpu_ns(runner.pid)
        self._bury(runner)
        if how.status == 0 and (runner.let_go or (runner.slot.fresh and not runner.attempts)):
            self._strays.sweep_soon()  # nobody waits for the end of what its jobs have left
        else:
            self._strays.sweep()
        if runner.slot.number != Slot.UNTOLD:
            log.debug("runner.exited", slot=runner.slot.number, runner=runner.pid, how=str(how))
        if runner.abandoned:
            return
        self._judge(runner, how)
        runner.slot.owner.on_exit(runner, how)
        self._succession.gone(runner)

    def _judge(self, runner: Runner, how: Exit) -> None:
        """What its life says of the next: who was of no use is not replaced at the speed of its death."""
        slot = runner.slot
        if runner.served or runner.let_go or self.stopping:
            slot.failures = 0
            return
        slot.owes = True
        if runner.attempts:
            return  # judged with its job
        if not runner.was_ready:
            said = "killed" if runner.was_killed else f"it ended with {how}{place_of_crash(runner)}"
            self.births.failed(slot, runner.useless_why or f"{said} before it was ready")
        elif (
            not runner.was_killed
            and how.signal != signal.SIGKILL  # which comes from elsewhere: nobody dies of it by itself
            and self._loop.time() - runner.born_at < STEADY_AFTER_S
        ):
            self.births.failed(slot, f"it ended with {how} before it had a job")
        else:
            slot.failures = 0

    def _bury(self, runner: Runner) -> None:
        # By pid, for its rusage: nobody else reaps it, so the number is its own until here.
        _, _, runner.usage = os.wait4(runner.pid, os.WNOHANG)
        runner.advance(Fact.EXITED)
        self._disarm(runner)
        del self._by_pid[runner.pid]
        self._loop.remove_reader(runner.pidfd)
        os.close(runner.pidfd)
        if self.groups is not None and runner.leaf is not None:
            self.groups.give_up(runner.leaf)
            self._sweep_groups()
        if self.jobs_dir is not None and not self.jobs_dir.removed(runner.pid):
            self._loop.run_in_executor(None, self.jobs_dir.remove, runner.pid)
        runner.pipe.close()
        for output in runner.outputs:
            output.close()
        if runner.faults is not None:
            runner.faults.close()

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
            elif not any(each.buried(pid) for each in self.nurseries):
                self._strays.reap(pid)

    async def close(self) -> None:
        """End every runner, let the templates go, and return when all are buried."""
        self.stopping = True
        self._succession.close()
        for each in self.nurseries:
            each.stop()
        self.births.cancel(forking=False)
        await self._until(lambda: not self.births.forkers, 0.5)  # who is being forked is no stray
        self.births.cancel(forking=True)
        for runner in list(self._by_pid.values()):
            if runner.phase is Phase.IDLE:
                runner.leave()
            else:
                self.kill(runner)
        if not await self._until(lambda: not self._by_pid, 0.5):
            for runner in list(self._by_pid.values()):
                self.kill(runner)
            await self._until(lambda: not self._by_pid, UNKILLABLE_AFTER_S)
        for each in self.nurseries:
            each.let_go()
        if not await self._until(self._templates_gone, 0.5):
            for each in self.nurseries:
                each.kill()
            await self._until(self._templates_gone, UNKILLABLE_AFTER_S)
        self._strays.sweep()

    def _templates_gone(self) -> bool:
        return not any(each.reap_last() for each in self.nurseries)

    def _sweep_groups(self) -> None:
        """The last death may be followed by no birth: what is not empty yet is tried again until it is."""
        if self.groups is not None and not self.groups.sweep() and not self.stopping:
            self._loop.call_later(SWEEP_AGAIN_S, self._sweep_groups)

    async def _until(self, true: Callable[[], bool], limit_s: float) -> bool:
        """Until `true()`, at most `limit_s`. Exits arrive on their own meanwhile."""
        give_up_at = self._loop.time() + limit_s
        while not true():
            if self._loop.time() > give_up_at:
                return False
            await asyncio.sleep(0.002)
            self.on_sigchld()
        return True
