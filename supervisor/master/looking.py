"""Looking at the processes: what `oxherd top`, `ps` and `stack` ask of a master, and the metrics too.

Decides when /proc is read: when somebody asks, and no more than once a second however many ask. A master that
nobody looks at reads nothing; 64 runners that somebody looks at cost it 0.2 % of a core. What is dear (PSS,
open files, io) is read for a few runners a look, each every 30 s at most, in a thread of its own. Where the
kernel does not let us, the runner is asked itself and answers when it has no job: what it said last stays
until then, with its age.

Reads    /proc of runners and of all below them
Writes   TELL frames; SIGUSR1 to a runner whose stacks somebody wants to see
Tells    its answers only; what is not known is None, never 0
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from sandbox.wire import Kind
from supervisor.errors import UsageError
from supervisor.master.attempt import Attempt
from supervisor.master.control import Verb, only
from supervisor.master.evidence import trimmed
from supervisor.master.killing import descendants_of
from supervisor.master.messages import Told
from supervisor.master.phases import Phase
from supervisor.master.runner import Runner
from supervisor.master.snapshot import snapshot
from supervisor.observe.tree import Dear, Trees, dear

if TYPE_CHECKING:
    from supervisor.master.main import Master

FRESH_S: Final = 0.9  # a look that is younger serves the next who asks: people ask once a second
DEAR_EVERY_S: Final = 30.0
DEAR_AT_ONCE: Final = 4  # runners a look; all of them when that is what was asked for
TOLD_WITHIN_S: Final = 0.2  # an idle runner answers in a millisecond

PEAK_EVERY_S: Final = 1.0
PEAK_SHARE: Final = 0.01  # of the master's time: with thousands of processes it looks less often

Found = tuple[Dear | Told, float]  # and when it was found out


class Looking:
    """What one master's processes look like. All methods belong to the event loop."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._trees = Trees(descendants_of, self._now)
        self._looked_at = 0.0
        self._dear: dict[int, Found] = {}  # by the runner's pid
        self._tried_at: dict[int, float] = {}
        self._reading: asyncio.Future[None] | None = None

    def verbs(self) -> dict[str, Verb]:
        return {"look": self._look_verb, "stack": self._stack_verb, "needs": self._needs_verb}

    def _now(self) -> float:
        return self._master.loop.time()

    # --- trees ------------------------------------------------------------------------------------------

    async def look(self, *, all_dear: bool = False) -> dict[str, Any]:
        """A snapshot with the trees. `all_dear`: wait for what is dear, of all of whom it can be known."""
        runners = self._runners()
        if self._now() - self._looked_at >= FRESH_S:
            self._trees.look(runners)
            self._looked_at = self._now()
        self._read_dear(runners, len(runners) if all_dear else DEAR_AT_ONCE)
        if all_dear and self._reading is not None:
            await asyncio.wait([self._reading])
            await self._told(runners)
        return snapshot(self._master, {pid: self._figures(runner) for pid, runner in runners.items()})

    def _runners(self) -> dict[int, Runner]:
        slots = (slot for worker in self._master.workers for slot in worker.slots)
        found = [*(slot.runner for slot in slots), *self._master.runners.spares.runners()]
        return {each.pid: each for each in found if each is not None and each.phase is not Phase.GONE}

    def _figures(self, runner: Runner) -> dict[str, Any] | None:
        tree = self._trees.known.get(runner.pid)
        if tree is None:
            return None
        found = max(filter(None, (self._dear.get(runner.pid), runner.told)), key=_when, default=None)
        figures = tree.plain(self._now())
        figures["dear"] = None if found is None else _plain(*found, self._now())
        return figures

    # --- peaks ------------------------------------------------------------------------------------------

    async def keep_peaks(self) -> None:
        """Remember the most memory that jobs of a second and more were seen with; ends by being cancelled.

        Those whose memory is limited are looked at anyway (watch.py). 15 us a second for each of the others.
        """
        while True:
            began_at = self._now()
            for worker in self._master.workers:
                for attempt in worker.dispatcher.attempts.values():
                    long = attempt.started_at and began_at - attempt.started_at >= PEAK_EVERY_S
                    if long and not attempt.limits.memory_bytes:
                        _note_peak(attempt)
            await asyncio.sleep(max(PEAK_EVERY_S, (self._now() - began_at) / PEAK_SHARE))

    # --- what is dear -----------------------------------------------------------------------------------

    def _read_dear(self, runners: dict[int, Runner], most: int) -> None:
        """Begin to read it of those whose turn it is."""
        self._dear = {pid: found for pid, found in self._dear.items() if pid in runners}
        self._tried_at = {pid: at for pid, at in self._tried_at.items() if pid in runners}
        now = self._now()
        due = [pid for pid in runners if now - self._tried_at.get(pid, -DEAR_EVERY_S) >= DEAR_EVERY_S]
        if self._reading is not None or not due:
            return
        turns = sorted(due, key=lambda pid: self._tried_at.get(pid, 0.0))[:most]
        self._tried_at |= dict.fromkeys(turns, now)
        self._reading = self._master.loop.create_task(self._read_of(turns))
        self._reading.add_done_callback(self._read)

    async def _read_of(self, pids: list[int]) -> None:
        for pid in pids:
            found = await self._master.loop.run_in_executor(None, dear, pid)
            runner = self._runners().get(pid)  # a number that is another's by now is nobody's here
            if runner is None:
                continue
            if found.pss_bytes is not None:
                self._dear[pid] = found, self._now()
            elif runner.was_ready and runner.phase in (Phase.IDLE, Phase.BUSY):
                runner.pipe.send(Kind.TELL)

    def _read(self, done: asyncio.Future[None]) -> None:
        self._reading = None
        if not done.cancelled():
            done.result()  # a bug of ours goes to the loop's handler, loudly

    async def _told(self, runners: dict[int, Runner]) -> None:
        """Give those that have no job the time to answer."""
        until = self._now() + TOLD_WITHIN_S
        while self._now() < until and any(
            each.phase is Phase.IDLE and each.told is None and pid not in self._dear
            for pid, each in runners.items()
        ):
            await asyncio.sleep(0.005)

    # --- verbs ------------------------------------------------------------------------------------------

    async def _look_verb(self, asked: dict[str, Any]) -> dict[str, Any]:
        only(asked, dear=bool)
        return await self.look(all_dear=bool(asked.get("dear")))

    async def _needs_verb(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What attempts have used since the start (needs.py), by queue."""
        only(asked)
        queues = {worker.keys.name: worker.needs.plain() for worker in self._master.workers}
        return {"started_on": self._master.started_on, "queues": queues}

    async def _stack_verb(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The stacks of all threads of the runner that has this job: `found` is False when none has it."""
        only(asked, queue=str, id=str)
        queue, job_id = asked.get("queue"), asked.get("id")
        if queue is None or job_id is None:
            raise UsageError("stack needs the queue and the id of a job")
        for worker in self._master.workers:
            attempt = worker.dispatcher.attempts.get(job_id)
            if worker.keys.name != queue or attempt is None or attempt.runner is None:
                continue
            if attempt.started_at:  # else it waits there behind another
                return await self._stacks_of(attempt, attempt.runner)
        return {"found": False}

    async def _stacks_of(self, attempt: Attempt, runner: Runner) -> dict[str, Any]:
        seen: asyncio.Future[tuple[str, str]] = self._master.loop.create_future()

        def told(text: str, why: str) -> None:
            if not seen.done():  # who asked may have gone
                seen.set_result((text, why))

        jobs = [each.job.id for each in runner.at_work()]  # now: they may be over when it has answered
        if runner.faults is None:
            told("", "its runner has nothing to write its stacks to")
        else:
            runner.faults.look(runner.pid, runner.pidfd, told)
        text, why = await seen
        return {
            "found": True,
            "runner": runner.pid,
            "attempt": attempt.job.attempts_made + 1,
            "running_ms": round((self._now() - attempt.started_at) * 1000),
            "jobs": jobs,
            "stack": trimmed(text),
            "no_stack": why,
        }


def _note_peak(attempt: Attempt) -> None:
    runner = attempt.runner
    if runner is None or runner.meter is None or len(runner.at_work()) > 1:
        return  # of several in one runner nobody can tell whose it is
    usage = runner.meter.read()
    if usage is not None:
        attempt.peak_bytes = max(attempt.peak_bytes, usage.memory_bytes)
        attempt.processes = max(attempt.processes, usage.tasks)


def _when(found: Found) -> float:
    return found[1]


def _plain(found: Dear | Told, at: float, now: float) -> dict[str, Any]:
    return {
        "pss_bytes": found.pss_bytes,
        "open_files": found.open_files,
        "read_bytes": found.read_bytes,
        "written_bytes": found.written_bytes,
        "by": "runner" if isinstance(found, Told) else "kernel",
        "ago_ms": round((now - at) * 1000),
    }
