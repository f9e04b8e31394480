"""Jobs to runners and facts back: the life of every attempt of one queue, in the event loop.

Decides which fact ends an attempt: the first one (I4). A frame, the death of the process, a deadline, a lost
lease and a stop are all facts; whatever comes after the first changes nothing. What is then written is
finish.py's decision, when it is sent is the exchanger's.

Longer than most modules because every fact that can end an attempt has to be seen beside the others.

Reads    frames from runners (bytes from strangers, I7), exits, timers
Tells    the exchanger (outcomes), the leases, the listener, the log
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from msgspec import structs

from sandbox.policy import time_text
from sandbox.wire import HALTED, FrameError, Kind
from supervisor.errors import InvalidOptions
from supervisor.master import evidence, finish
from supervisor.master.alone import Alone
from supervisor.master.attempt import Attempt
from supervisor.master.attempt_log import facts_of, figures_of, log_outcome, usage_of
from supervisor.master.cancelling import verdict_of
from supervisor.master.exchange import Exchanger
from supervisor.master.finish import FinishRules
from supervisor.master.health import Health
from supervisor.master.lease import Leases
from supervisor.master.messages import BadMessage, Left, read_left, read_used, verdict_of_failure
from supervisor.master.notify import Listener
from supervisor.master.phases import Fact
from supervisor.master.placing import Placing
from supervisor.master.relay import Relay
from supervisor.master.runner import Exit, Runner
from supervisor.master.runners import Runners
from supervisor.master.settings import QueueSettings
from supervisor.master.verdicts import (
    Cause,
    Crashed,
    CutOff,
    LockGone,
    Raised,
    Returned,
    Verdict,
    cause_of,
)
from supervisor.master.watch import Watch
from supervisor.observe.log import get
from supervisor.protocol.codes import Code, error_of
from supervisor.protocol.commands.work import (
    AwaitsChildren,
    Completed,
    Failed,
    FetchedJob,
    HandedBack,
    Outcome,
    Postponed,
    RateLimited,
    Retried,
    Written,
)
from supervisor.protocol.fields import STARTED_TOO_OFTEN
from supervisor.protocol.job_options import decode_options
from supervisor.protocol.jsontext import encode

log = get("dispatcher")

STATES: Final = {
    Completed: "completed",
    Failed: "failed",
    Retried: "retried",
    Postponed: "delayed",
    RateLimited: "rate-limited",
    HandedBack: "handed-back",
    AwaitsChildren: "waiting-children",
}

# Where a parent may be refused because of its children: BullMQ's name for the call.
_CALLS: Final[dict[type[Outcome], str]] = {
    Completed: "moveToFinished",
    AwaitsChildren: "moveToWaitingChildren",
}


class Dispatcher:
    """The slots of one queue and what they do."""

    def __init__(
        self,
        settings: QueueSettings,
        *,
        runners: Runners,
        exchanger: Exchanger,
        leases: Leases,
        relay: Relay,
        listener: Listener,
        clock: Callable[[], float],
        rng: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        watch: Watch | None = None,
        health: Health | None = None,
        alone: Alone | None = None,
    ) -> None:
        self._settings = settings
        self._watch = watch or Watch(loop, clock)
        self._health = health or Health(settings.name, loop=loop, wake=lambda: None, stands=lambda: True)
        self._alone = alone or Alone(loop.call_soon)
        self._alone.join(self)
        self._rules: FinishRules = structs.replace(settings.finish_rules, max_crashes=settings.max_crashes)
        self._runners = runners
        self._exchanger = exchanger
        self._leases = leases
        self._relay = relay
        self._listener = listener
        self._clock = clock
        self._rng = rng
        self._placing = Placing(
            settings,
            self,
            watch=self._watch,
            listener=listener,
            began=runners.began,
            serves_on=runners.serves_on,
            kill=runners.kill,
            clock=clock,
            loop=loop,
        )
        self.unplaced = self._placing.unplaced
        self.longest_idle, self.part_with = self._placing.longest_idle, self._placing.part_with
        self.receive = self._placing.came_free
        self.attempts: dict[str, Attempt] = {}  # by job id, until the outcome is written or given up
        self.failed_for_good = 0
        self.done = 0

        self.on_written: Callable[[Attempt, Outcome], None] | None = None
        self.wall_clock: Callable[[], float] = time.time
        self.stopping = False  # a job that still arrives goes straight back
        self.most: Callable[[], int | None] | None = None  # asked of the pool, where slots are shared

    def adopt(self, settings: QueueSettings) -> None:
        """The rules from now on; an attempt under way keeps the limits it began with."""
        self._settings = settings
        self._rules = structs.replace(settings.finish_rules, max_crashes=settings.max_crashes)
        self._placing.adopt(settings)

    # --- slots ------------------------------------------------------------------------------------------

    def idle(self) -> int:
        """Jobs that could begin now."""
        return 0 if self._alone.wanted else self._health.room(self._placing.idle())

    def free(self) -> int:
        """Jobs that could begin now, or by measurement within 5 ms (I2)."""
        if self.most is not None and (most := self.most()) is not None:
            return min(self.idle(), most)
        idle = self.idle()
        if idle < 0 or self._health.pause_s or self._alone.wanted:
            return idle
        return idle + self._placing.ahead()

    def spare(self) -> int:
        """Runners that have nothing to do, and no job was asked for them; below 0 when jobs wait for one."""
        return self._placing.idle() - self._exchanger.asked

    def would_take(self) -> bool:
        """Had it another slot, would a job be fetched for that?"""
        return not (self._alone.wanted or self.stopping) and self._health.room(1) > 0

    def on_ready(self, runner: Runner) -> None:
        self._watch.met(runner)
        for _ in range(runner.room):
            self._placing.came_free(runner)

    def go_on(self, *, now: bool = False) -> None:
        """There may be room for a job; `now`: nothing else happens in this turn of the loop."""
        self._exchanger.fetcher.freed()
        if now:
            self._exchanger.look()
        else:
            self._exchanger.kick()

    def fewer(self) -> None:
        """There is less room than there was: nothing may stand at the server for it."""
        self._exchanger.kick()

    def at_work(self) -> int:
        """Attempts that have a runner, or wait for one."""
        return self._placing.unplaced() + sum(each.runner is not None for each in self.attempts.values())

    def busy(self) -> int:
        """The same without those that were sent ahead of a slot: no more than there are slots."""
        return self._placing.unplaced() + sum(
            each.runner is not None and each.started_at > 0 for each in self.attempts.values()
        )

    def quiet(self) -> None:
        """The stop begins: what has not begun goes back."""
        self.stopping = self._placing.stopping = True
        self._placing.recall_all()

    def flush(self) -> None:
        """The jobs of one fetch were all taken."""
        self._placing.flush()

    def pull(self, attempt: Attempt) -> None:
        """Take it out of its runner, if it was sent ahead and has not begun. It may turn out to be over."""
        self._placing.pull(attempt)

    # --- the way of a job -------------------------------------------------------------------------------

    def take(self, job: FetchedJob, fetched_at: float, sent_at: float | None = None) -> None:
        """A job was fetched: start its lease, and run it or refuse to.

        sent_at   when the call was sent that set its lock, if that was not when it was fetched.
        """
        earlier = self.attempts.get(job.id)
        if earlier is not None and earlier.verdict is None:
            # It stalled and came back to us before we noticed that its lock was gone.
            self.end(earlier, LockGone("the lock was lost: the job was fetched again"))
        attempt = Attempt(job, fetched_at)
        self.attempts[job.id] = attempt
        self._health.took(job.id)
        self._leases.hold(job.id, job.token, fetched_at if sent_at is None else sent_at)
        if not self._leases.trusted(job.id, job.token):
            self.decide(attempt, LockGone("the lock was lost: its job came when trust in it had ended"))
            return  # we were stopped, or Redis was slow: another may be at it already
        try:
            attempt.options = decode_options(job.opts)
        except InvalidOptions as error:
            self.decide(attempt, Raised(str(error), final=True))
            return
        refusal = finish.refuse_to_run(job, self._rules, STARTED_TOO_OFTEN)
        attempt.alone = job.bigger and self._settings.runs_bigger(job.name)
        if refusal is not None:
            self.decide(attempt, refusal)
        elif attempt.alone and not self.stopping:
            self._alone.wait(attempt, self)
        elif self._alone.now is not None:
            self.decide(attempt, CutOff())  # asked for before, and now somebody runs alone
        else:
            self._placing.place(attempt)

    def begin(self, attempt: Attempt) -> None:
        """Nothing else runs: it may."""
        self._placing.place(attempt)
        if self.most is not None:
            self.most()  # its slots may have gone to others

    # --- facts ------------------------------------------------------------------------------------------

    def on_frame(self, runner: Runner, kind: Kind, body: bytes, number: int, note: int) -> None:
        attempt = runner.attempts.get(number)
        if attempt is None:
            if kind is Kind.SKIPPED and number in runner.recalled:
                self._placing.skipped(runner, number)
            elif number != runner.last_number:
                self._runners.bad_frame(runner, f"a {kind.name} frame for an attempt that it was not given")
            return
        if attempt.verdict is not None:
            return  # said after its attempt was decided; its exit is on the way
        if attempt.limits.silence_ms:
            self._watch.heard(attempt)
        if attempt.ahead and next(iter(runner.attempts)) != number:
            self._runners.bad_frame(runner, f"a {kind.name} frame for a job before its turn")
            return
        try:
            self._heard(attempt, runner, kind, body, note)
        except BadMessage as error:
            self._runners.bad_frame(runner, str(error))

    def on_bad_frame(self, runner: Runner, error: str) -> None:
        """I7: it said what no runner of ours says, and is being killed for it."""
        for attempt in runner.at_work():
            if attempt.verdict is None:
                attempt.verdict = Crashed(Cause.BAD_FRAME, f"the runner sent a bad frame: {error}")

    def _heard(self, attempt: Attempt, runner: Runner, kind: Kind, body: bytes, note: int) -> None:
        if kind is Kind.COMPLETED:
            self._is_over(attempt, runner, Returned(body), note, retire=False)
        elif kind is Kind.FAILED:
            verdict, retire = verdict_of_failure(body)
            verdict = self._watch.judged(attempt, verdict)
            self._is_over(attempt, runner, verdict, note, retire=retire)
        elif kind is Kind.PROGRESS:
            self._relay.progress(attempt, body)
        elif kind is Kind.LOG:
            self._relay.log(attempt, body.decode("utf-8", "backslashreplace"))
        elif kind is Kind.DATA:
            self._relay.data(attempt, body)
        elif kind is Kind.ASK:
            self._relay.ask(attempt, body)
        elif kind is Kind.LEFT:
            self._left_behind(attempt, runner, read_left(body))
        elif kind is Kind.USED:
            attempt.has_used(read_used(body))
        else:
            raise BadMessage(str(FrameError(kind, len(body))))

    def _left_behind(self, attempt: Attempt, runner: Runner, told: Left) -> None:
        """The job is over but for its outcome, and its runner is not as it was before."""
        runner.unclean = runner.unclean or told.retire
        facts = facts_of(self._settings.name, attempt)
        log.warning("job.left_behind", **facts, runner=runner.pid, left=told.left, retired=told.retire)
        end = "; the runner was replaced" if told.retire else ""
        self._relay.log(attempt, f"left behind: {'; '.join(told.left)}{end}")

    def _is_over(
        self, attempt: Attempt, runner: Runner, verdict: Verdict, note: int, *, retire: bool
    ) -> None:
        gathering = self._exchanger.gather()
        try:
            self._outcome(attempt, runner, verdict, note, retire=retire)
        finally:
            if gathering:
                # Where jobs are short others end in the same turn of the loop, and one call is for them all.
                self._exchanger.gathered(now=self.most is None and not self._placing.short)

    def _outcome(
        self, attempt: Attempt, runner: Runner, verdict: Verdict, note: int, *, retire: bool
    ) -> None:
        one_by_one = runner.room == 1
        if note & HALTED or not one_by_one:
            runner.drain_output()  # all it wrote before this frame is in the pipes by now
        else:
            runner.end_lines()  # we have read it all, and the next job may be writing already
        if attempt.verdict is not None:
            return  # it was over a limit, as was seen now: printed too much, or was refused a process
        verdict = verdict_of(verdict, attempt.cancel, stopping=self.stopping)
        del runner.attempts[attempt.number]
        runner.last_number = attempt.number
        if not runner.attempts:
            runner.advance(Fact.OUTCOME)
        if cause_of(verdict) is not None:
            attempt.evidence = evidence.of_outcome(attempt, runner, self._clock())
        self.decide(attempt, verdict)
        attempt.runner = None  # which serves the next one from now on
        runner.unclean = runner.unclean or retire
        if one_by_one:
            self._placing.ended(runner, note)
        if runner.unclean and (one_by_one or not runner.attempts):
            self._runners.kill(runner)  # and with it what its jobs left
        elif one_by_one:
            self._placing.go_on(runner, serves_on=self._runners.finished(runner))
        elif runner.attempts and (runner.unclean or runner.draining):
            self.on_leaving(runner)  # the last of its jobs ends it
        elif self._runners.finished(runner):
            self._placing.came_free(runner)

    def on_leaving(self, runner: Runner) -> None:
        self._placing.leaves(runner)

    def on_exit(self, runner: Runner, how: Exit) -> None:
        """The process is gone, and with it every attempt in it that nothing decided before.

        When we killed it for one of several, the others only shared its process: they are handed back
        unharmed (I9). When it died by itself nobody knows whose doing it was, and all have failed.
        """
        self._placing.recall(runner)
        attempts, runner.attempts = list(runner.attempts.values()), {}
        for attempt in attempts:
            attempt.runner = None
            self._watch.forget(attempt)
            if attempt.verdict is None and not attempt.delivered:
                self._placing.place(attempt)
                continue
            if attempt.verdict is None and attempt.ahead and not attempt.started_at:
                self._placing.hand_on([attempt])  # its permit is gone, but the one before it never ended
                continue
            attempt.evidence = evidence.of_exit(attempt, runner, how, self._clock())
            if attempt.verdict is None:
                attempt.verdict = CutOff() if runner.was_killed else self._died(attempt, runner, how)
            self.decide(attempt, attempt.verdict)

    def _died(self, attempt: Attempt, runner: Runner, how: Exit) -> Crashed:
        log.error(
            "runner.died",
            queue=self._settings.name,
            job_id=attempt.job.id,
            runner=runner.pid,
            how=str(how),
        )
        known = attempt.evidence or finish.NO_EVIDENCE
        why = self._watch.kernel.why(attempt, runner, how)
        if why is not None:
            attempt.evidence = evidence.of_kernel_kill(known, attempt)
        return why or evidence.death(how, known)

    def lock_lost(self, job_id: str, why: str) -> None:
        attempt = self.attempts.get(job_id)
        if attempt is not None and attempt.verdict is None:
            self.end(attempt, LockGone(f"the lock was lost: {why}"))

    def cut_off(self, attempt: Attempt) -> None:
        """I9: hand the job back unharmed; only once its processes are dead, so that it never runs twice."""
        if attempt.verdict is None:
            self.end(attempt, CutOff())

    def end(self, attempt: Attempt, verdict: Verdict) -> None:
        """Decide now, write when the runner is dead (`on_exit`). Not for an attempt that is decided."""
        self._placing.pull(attempt)
        if attempt.verdict is not None:
            return  # it was over, as was heard now, and who is at work there is another
        attempt.verdict = verdict
        if attempt.runner is None:
            self._placing.forget(attempt)
            self.decide(attempt, verdict)
        elif isinstance(verdict, Crashed):
            self._runners.end(attempt.runner)
        else:
            self._runners.kill(attempt.runner)

    # --- the end ----------------------------------------------------------------------------------------

    def decide(self, attempt: Attempt, verdict: Verdict) -> None:
        """The attempt is over; have its outcome written, if the lock is still trusted (I3)."""
        verdict = verdict_of(verdict, attempt.cancel, stopping=self.stopping)
        if not isinstance(verdict, LockGone) and not self._leases.trusted(attempt.job.id, attempt.job.token):
            verdict = LockGone("the lock was lost: trust in it had ended before the outcome was known")
        attempt.ended_at = self._clock()
        if isinstance(verdict, CutOff) and not verdict.why and attempt.started_at:
            verdict = structs.replace(verdict, why=self._why_cut_off(attempt))
        attempt.verdict = verdict
        self._health.ended(attempt.job.id, verdict, attempt.started_at, attempt.ended_at)
        self._watch.forget(attempt)
        if attempt.alone:
            self._alone.forget(attempt)
        elif self._alone.wanted:
            self._alone.look()
        if attempt.deadline is not None:
            attempt.deadline.cancel()
        self._relay.finish(attempt)
        outcome = self._outcome_of(attempt, verdict)
        if outcome is None:
            self._forget(attempt)
            why = verdict.why if isinstance(verdict, LockGone) else ""
            facts = facts_of(self._settings.name, attempt)
            log.error("job.outcome_dropped", **facts, why=why, **figures_of(attempt))
            return
        if attempt.used is not None:
            attempt.figures = usage_of(attempt, attempt.used, self.wall_clock() - attempt.ended_at)
            if isinstance(outcome, Completed | Failed | Retried):
                outcome = structs.replace(outcome, used=encode(attempt.figures))
        if isinstance(outcome, RateLimited):
            self._exchanger.fetcher.hold(outcome.hold_ms / 1000)
        self._exchanger.finish(attempt, outcome)

    def _why_cut_off(self, attempt: Attempt) -> str:
        """For the log of a job that had begun. Others may be thousands at a stop, with nothing to tell."""
        after = time_text(round((attempt.ended_at - attempt.started_at) * 1000))
        whose = "the worker was stopped" if self.stopping else "its process was ended for another of its jobs"
        return f"handed back after {after}: {whose}; no attempt is counted"

    def _outcome_of(self, attempt: Attempt, verdict: Verdict) -> Outcome | None:
        job, options, known = attempt.job, attempt.options, attempt.evidence
        if (
            isinstance(verdict, Crashed)
            and verdict.cause is Cause.MEMORY_LIMIT
            and not job.bigger
            and self._settings.runs_bigger(job.name)
        ):
            return finish.once_more(job, options, verdict, known or finish.NO_EVIDENCE)
        return finish.outcome_of(job, options, verdict, self._rules, self._rng, known)

    def written(self, attempt: Attempt, outcome: Outcome, result: Written) -> None:
        """Redis answered for one outcome."""
        if result.code == Code.GUILTY and not attempt.guilty:
            self._try_as_failed(attempt, outcome, result.text)
            return
        if result.code in (Code.PENDING_CHILDREN, Code.FAILED_CHILDREN) and type(outcome) in _CALLS:
            self._fail_for_its_children(attempt, result.code, _CALLS[type(outcome)])
            return
        self._forget(attempt)
        if result.code != Code.DONE:
            log.error(
                "job.outcome_dropped",
                **facts_of(self._settings.name, attempt),
                why=result.text or Code(result.code).name,
            )
            return
        self._count(outcome)
        log_outcome(self._settings.name, attempt, outcome)
        if result.text not in ("", "written"):
            log.error("job.not_copied", **facts_of(self._settings.name, attempt), why=result.text)
        reason = outcome.reason if isinstance(outcome, Failed | Retried) else None
        self._listener.on_finished(self._settings.name, attempt.job.id, STATES[type(outcome)], reason)
        if self.on_written is not None:
            self.on_written(attempt, outcome)

    def _try_as_failed(self, attempt: Attempt, outcome: Outcome, text: str) -> None:
        """A key that belongs to the job is corrupt: the job fails with that sentence, alone."""
        attempt.guilty = True
        job = attempt.job
        log.error("job.refused", **facts_of(self._settings.name, attempt), error=text)
        reason = f"its outcome could not be written ({STATES[type(outcome)]}): {text}"
        keep = finish.keep_failed(attempt.options, self._rules)
        failed = Failed(job.id, job.token, reason, None, keep, attempt.options.attempts)
        failed = structs.replace(failed, spare_parent=True, dead_letter=self._rules.dead_letter)
        self._exchanger.finish(attempt, failed)

    def _fail_for_its_children(self, attempt: Attempt, code: int, call: str) -> None:
        """A parent cannot go on while children are pending or have failed: as in BullMQ, it fails."""
        error = error_of(code, job_id=attempt.job.id, call=call)
        self.decide(attempt, Raised(str(error), final=code == Code.FAILED_CHILDREN))

    def unknown(self, attempt: Attempt, why: str) -> None:
        """Whether the outcome is written cannot be told; the lease lapses and the stalled check recovers."""
        self._forget(attempt)
        log.error("job.outcome_unknown", **facts_of(self._settings.name, attempt), why=why)

    def _forget(self, attempt: Attempt) -> None:
        self._leases.release(attempt.job.id, attempt.job.token)
        if self.attempts.get(attempt.job.id) is attempt:
            del self.attempts[attempt.job.id]

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.failed_for_good += 1
        elif isinstance(outcome, Completed):
            self.done += 1

    # --- output ---------------------------------------------------------------------------------------

    def on_line(self, runner: Runner, stream: str, text: str) -> None:
        at_work = runner.at_work()
        for each in at_work:
            if each.limits.silence_ms:
                self._watch.heard(each)
            if each.limits.output_bytes and each.verdict is None:
                self._watch.printed(each)
        # What several jobs of one runner print comes by one pipe: nobody can tell whose it is.
        attempt = at_work[0] if len(at_work) == 1 else None
        job_id = attempt.job.id if attempt is not None else ""
        log.info(
            "job.output",
            queue=self._settings.name,
            job_id=job_id,
            stream=stream,
            line=text,
            runner=runner.pid,
        )
        if at_work:
            runner.tail = runner.tail or evidence.Tail()
            runner.tail.add(text)
        if attempt is not None:
            self._listener.on_output(self._settings.name, job_id, stream, text)
            if self._settings.output_to_job_log:
                self._relay.log(attempt, text)
