"""Which runner gets which job, and when: to one that is idle, or ahead to one whose jobs are short (I2).

Decides only that, and what is done to a runner when a job begins in it. How many go ahead is decided in
`ahead.py`; what ends an attempt, and what is then written, in `dispatcher.py`.

Writes   START and NEXT frames
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Protocol

from sandbox.wire import HALTED, NOTE_US_SHIFT, Kind
from supervisor.master import evidence
from supervisor.master.ahead import LOOK_EVERY_S, Ahead
from supervisor.master.attempt import Attempt, new_number
from supervisor.master.messages import start_frame
from supervisor.master.notify import Listener
from supervisor.master.nursery import Nursery
from supervisor.master.phases import Fact, Phase
from supervisor.master.runner import Runner
from supervisor.master.settings import QueueSettings
from supervisor.master.verdicts import Cause, Crashed, CutOff, Verdict
from supervisor.master.watch import Watch

SKIPS_WITHIN_S: Final = 5.0  # a runner without a job, what was taken back from it
NO_RUNNER_AFTER_S: Final = 5.0  # a fetched job whose runner died before it got it waits so long for another


class Judge(Protocol):
    """Who ends attempts: the dispatcher."""

    def decide(self, attempt: Attempt, verdict: Verdict) -> None: ...  # of one that is in no runner
    def end(self, attempt: Attempt, verdict: Verdict) -> None: ...
    def go_on(self, *, now: bool = False) -> None: ...  # there may be room for a job
    def fewer(self) -> None: ...  # there is less of it
    def idle(self) -> int: ...  # jobs that may begin now


class Placing:
    """The runners of one queue, and the jobs they have."""

    def __init__(
        self,
        settings: QueueSettings,
        judge: Judge,
        *,
        watch: Watch,
        listener: Listener,
        began: Callable[[Runner], None],
        serves_on: Callable[[Runner], bool],
        kill: Callable[[Runner], None],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`began(runner)` is told that an idle runner was sent a job; `serves_on(runner)`: may one have the
        next that has come to have none, without an outcome?
        """
        self._judge = judge
        self._watch = watch
        self._listener = listener
        self._began, self._serves_on, self._kill = began, serves_on, kill
        self._clock = clock
        self._loop = loop
        self._idle: deque[Runner] = deque()  # one entry for each job that a runner could take now
        self._unplaced: deque[Attempt] = deque()  # fetched for a runner that died in the meantime
        self._ahead = Ahead()
        self._sent_ahead: list[Runner] = []  # to be flushed
        self._looking: asyncio.TimerHandle | None = None  # for jobs that turned out long
        self._nudges: dict[Runner, asyncio.TimerHandle] = {}  # when a job should be fetched behind its own
        self.stopping = False  # a job that has not begun goes straight back
        self.adopt(settings)

    def adopt(self, settings: QueueSettings) -> None:
        self._settings = settings
        # The kernel is told a job's limits before it begins: ahead of a slot, that can only be what all have.
        # And what a limiter has counted it does not count again: a job that is handed back would cost two.
        unlike = len(set(settings.limits.values())) > 1
        self._ahead.adopt(never=unlike or settings.limiter is not None)

    # --- how many ---------------------------------------------------------------------------------------

    def idle(self) -> int:
        """Jobs that could begin now; below 0 when some wait for a runner already."""
        return len(self._idle) - len(self._unplaced)

    def ahead(self) -> int:
        """Jobs that by measurement could begin within 5 ms."""
        return self._ahead.room(self._clock())

    @property
    def short(self) -> bool:
        """Do the jobs of this queue follow each other so closely that several are sent ahead?"""
        return self._ahead.depth > 0

    def unplaced(self) -> int:
        return len(self._unplaced)

    # --- slots that another queue has next --------------------------------------------------------------

    def longest_idle(self) -> Runner:
        return self._idle[0]

    def part_with(self, nursery: Nursery) -> Runner | None:
        """A runner of that template which has nothing to do; it is not ours any more."""
        for runner in self._idle:
            if runner.nursery is nursery:
                self._idle.remove(runner)
                self._ahead.remove(runner)
                return runner
        return None

    # --- who gets it ------------------------------------------------------------------------------------

    def place(self, attempt: Attempt) -> None:
        if self.stopping:
            self._judge.decide(attempt, CutOff())
        elif self._idle:
            self._start(attempt, self._idle.pop())
        elif not attempt.alone and (runner := self._ahead.choose(self._clock())) is not None:
            self._send_ahead(attempt, runner)
        elif self._ahead.anybody and not attempt.alone:
            self.hand_on([attempt])  # it was asked for when shorter jobs were expected
        else:
            self._unplaced.append(attempt)
            attempt.deadline = self._loop.call_later(NO_RUNNER_AFTER_S, self._nobody_came, attempt)

    def _ends_any_moment(self, attempt: Attempt, runner: Runner) -> None:
        """And no call that was made since it is soon free has brought what follows."""
        if attempt.runner is runner and len(runner.attempts) == 1:
            self._judge.go_on(now=True)

    def flush(self) -> None:
        """The jobs of one fetch are all placed: send what goes ahead."""
        if not self._sent_ahead:
            return
        for runner in self._sent_ahead:
            runner.pipe.flush()
        self._sent_ahead.clear()
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_EVERY_S, self.look_for_long_ones)

    def forget(self, attempt: Attempt) -> None:
        """It has ended while it waited for a runner. Harmless for one that did not."""
        if attempt in self._unplaced:
            self._unplaced.remove(attempt)

    def _nobody_came(self, attempt: Attempt) -> None:
        """It holds a lock and no runner is born for it: others may have one. No attempt is burnt (I9)."""
        if attempt in self._unplaced:
            why = f"handed back: no runner could be had within {NO_RUNNER_AFTER_S:g} s; no attempt is counted"
            self._judge.end(attempt, CutOff(Cause.NO_RUNNER, why))

    def hand_on(self, attempts: Iterable[Attempt]) -> None:
        """To slots that are free, of whichever master (I9); given in the order in which they were fetched."""
        left = deque(attempts)
        while left and self._idle and not self.stopping and self._judge.idle() > 0:
            self._start(left.popleft(), self._idle.pop())
        while left:  # each goes to the front of the queue: the last one first
            self._judge.decide(left.pop(), CutOff(Cause.STOPPED if self.stopping else Cause.NOT_BEGUN))

    def _start(self, attempt: Attempt, runner: Runner) -> None:
        body = self._prepare(attempt, runner)
        attempt.ahead = False
        runner.advance(Fact.JOB_SENT)
        self._make_ready(attempt, runner)
        attempt.delivered = runner.pipe.send(Kind.START, body, attempt.number)
        if attempt.delivered:
            self._ahead.add(runner)
        self._note_begin(attempt, runner)  # while the runner wakes up
        if attempt.delivered:  # else it died idle, unseen yet: its exit gives the job to another
            self._began(runner)

    def _send_ahead(self, attempt: Attempt, runner: Runner) -> None:
        body = self._prepare(attempt, runner)
        attempt.delivered = attempt.ahead = True
        self._spare_the_nudge(runner)
        runner.pipe.put(body, attempt.number)
        self._sent_ahead.append(runner)

    def _prepare(self, attempt: Attempt, runner: Runner) -> bytes:
        """It is this runner's from now on; the body of the frame that says so."""
        limits = self._settings.limits_of(attempt.job.name, attempt.options)
        if attempt.alone:
            limits = replace(limits, memory_bytes=2 * limits.memory_bytes)
        attempt.runner = runner
        attempt.limits = limits
        if attempt.deadline is not None:
            attempt.deadline.cancel()
        runner.attempts[attempt.number] = attempt
        return start_frame(self._settings.name, attempt.job, attempt.options, limits)

    def _begin(self, attempt: Attempt, runner: Runner) -> None:
        """What was before it in its runner is over."""
        self._make_ready(attempt, runner)
        self._note_begin(attempt, runner)

    def _make_ready(self, attempt: Attempt, runner: Runner) -> None:
        """It is about to begin: what has to be so before it does."""
        attempt.started_at = self._clock()
        evidence.begin(attempt, runner)
        if attempt.limits.watched or runner.leaf is not None:
            self._watch.begin(attempt, self._judge.end)

    def _note_begin(self, attempt: Attempt, runner: Runner) -> None:
        """It begins; nothing that the runner says of it is heard before this is done."""
        job, limits = attempt.job, attempt.limits
        self._ahead.began(runner, attempt.started_at)
        if self._ahead.soon_s:
            self._spare_the_look()
            self._spare_the_nudge(runner)
            self._nudges[runner] = self._loop.call_later(
                self._ahead.late_s, self._ends_any_moment, attempt, runner
            )
        if runner.budget is not None:
            runner.budget.begin()
        if limits.timeout_ms:
            timeout_s = limits.timeout_ms / 1000
            attempt.deadline = self._loop.call_later(timeout_s, self._too_long, attempt)
        self._listener.on_fetched(self._settings.name, job.id, job.name, runner.slot.number)

    def _too_long(self, attempt: Attempt) -> None:
        """The hard wall-time limit: the promise that does not depend on the runner."""
        if attempt.verdict is None:
            ran_ms, limit_ms = round((self._clock() - attempt.started_at) * 1000), attempt.limits.timeout_ms
            reason = f"time limit of {limit_ms} ms exceeded: its processes were killed after {ran_ms} ms"
            self._judge.end(attempt, Crashed(Cause.WALL_TIME, reason))

    # --- having back what has not begun -----------------------------------------------------------------

    def look_for_long_ones(self) -> None:
        """No job waits behind one that is not short."""
        self._looking = None
        for runner in self._ahead.overdue(self._clock()):
            self._ahead.set_aside(runner)  # nor does what is recalled go from one of them to the other
            self.recall(runner)
        if self._ahead.waiting():
            self._looking = self._loop.call_later(LOOK_EVERY_S, self.look_for_long_ones)

    def _spare_the_look(self) -> None:
        """A timer that finds nothing is a wake-up for nothing, and the cores are for the jobs."""
        if self._looking is not None and not self._ahead.waiting():
            self._looking.cancel()
            self._looking = None

    def _spare_the_nudge(self, runner: Runner) -> None:
        if self._nudges and (nudge := self._nudges.pop(runner, None)) is not None:
            nudge.cancel()

    def recall(self, runner: Runner) -> None:
        """Have back what it has not begun, and give it to others."""
        if runner.attempts:
            self.hand_on(self.take_back(runner))

    def recall_all(self) -> None:
        """Nothing waits behind another job any more."""
        for runner in self._ahead.waiting():
            self.recall(runner)

    def pull(self, attempt: Attempt) -> None:
        """Take it out of its runner, if it was sent ahead and has not begun. If it has, nothing begins after
        it in that runner; and if it is over, and the next has begun, it has its outcome afterwards.
        """
        runner = attempt.runner
        if runner is None or runner.room > 1 or (len(runner.attempts) == 1 and not attempt.ahead):
            return
        self.hand_on([each for each in self.take_back(runner) if each is not attempt])
        if attempt.runner is not None:
            runner.hear()

    def take_back(self, runner: Runner) -> list[Attempt]:
        """What the runner has not begun; it is in none from now on, and has nothing but its lock."""
        back = runner.take_back()
        if back:
            self._ahead.set_aside(
                runner
            )  # until it has skipped them: it must not take for theirs a new permit
        for attempt in back:
            self._watch.forget(attempt)
            if attempt.deadline is not None:
                attempt.deadline.cancel()
            attempt.runner, attempt.ahead, attempt.started_at = None, False, 0.0
            attempt.number = new_number()
        if back and not runner.attempts and runner.phase is Phase.BUSY:
            runner.advance(Fact.OUTCOME)
            self._await_skips(runner)
        return back

    def _await_skips(self, runner: Runner) -> None:
        self._loop.call_later(SKIPS_WITHIN_S, self._skips_nothing, runner)

    def _skips_nothing(self, runner: Runner) -> None:
        """I7: somebody else may have read what was sent to it, and its slot would wait for ever."""
        if runner.recalled and runner.phase is Phase.IDLE:
            self._kill(runner)

    def skipped(self, runner: Runner, number: int) -> None:
        """It has come by a job that was taken back."""
        runner.recalled.discard(number)
        if not runner.recalled and runner.phase is Phase.IDLE and self._serves_on(runner):
            self.came_free(runner)

    # --- what becomes of a runner -----------------------------------------------------------------------

    def came_free(self, runner: Runner) -> None:
        if runner.recalled:
            self._await_skips(runner)
            return  # until it has skipped what was taken back, nothing that is sent to it is sure to begin
        if self._unplaced:
            self._start(self._unplaced.popleft(), runner)
            return
        self._idle.append(runner)
        self._judge.go_on()

    def ended(self, runner: Runner, note: int) -> None:
        """A job of a runner that has one at a time is over; `note` is that of its outcome frame."""
        self._spare_the_nudge(runner)
        self._ahead.took(note >> NOTE_US_SHIFT)
        if note & HALTED and runner.attempts:
            self._ahead.halted()
            self.recall(runner)

    def go_on(self, runner: Runner, *, serves_on: bool) -> None:
        """What was sent ahead begins, or it is idle, or it takes no job any more."""
        if not serves_on and runner.attempts:
            self.leaves(runner)
        if runner.attempts:
            self._begin(runner.at_work()[0], runner)
            self._judge.go_on()
            return
        self._ahead.remove(runner)
        if serves_on:
            self.came_free(runner)

    def leaves(self, runner: Runner) -> None:
        """It takes no job any more, and what it has not begun goes to others at once."""
        self._spare_the_nudge(runner)
        self._ahead.remove(runner)
        while runner in self._idle:
            self._idle.remove(runner)
            self._judge.fewer()
        self.recall(runner)
