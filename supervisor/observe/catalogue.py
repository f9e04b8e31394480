"""Every log event there is: its level, its keys, and what it tells a reader.

The one list: the log's lines, the counters and the reference page agree because they are all made from it,
and a test finds every call that says something else. Names are `noun.past_participle`, keys carry their
units. Job data and results have no key here, so they never appear in a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `keys` may be there; keys of every line (event, level, logger, timestamp) are not listed."""

    level: str
    keys: frozenset[str]
    doc: str


def _event(level: str, keys: str, doc: str) -> Event:
    return Event(level, frozenset(keys.split()), doc)


# Who an attempt is; and what is known of it when it is over.
_JOB: Final = "queue job_id job_name attempt"
# From `waited_ms` on only of those that took 20 ms or more, as far as known; `ran_ms` of each.
_ATTEMPT: Final = (
    f"{_JOB} ran_ms runner waited_ms start_ms user_ms system_ms peak_bytes read_bytes written_bytes processes"
)
_VERDICT: Final = "cause cpu_ms"  # of an end that was not the processor's own word

CATALOGUE: Final[Mapping[str, Event]] = MappingProxyType(
    {
        # --- the master ---
        "master.started": _event("info", "queues slots redis pid", "Everything is up; jobs are fetched."),
        "master.stopped": _event("info", "done", "The last line of a master."),
        "master.quieted": _event("info", "queues", "Asked to fetch nothing; running jobs go on."),
        "master.resumed": _event("info", "queues", "Fetches again."),
        "request.received": _event("debug", "request", "A signal asked for something."),
        "stop.requested": _event("info", "running deadline_s", "Quiet: nothing is fetched any more."),
        "stop.hurried": _event("info", "to", "A further request: straight on to this step."),
        "stop.handing_back": _event("warning", "jobs", "The deadline is near: these jobs are cut off."),
        "stop.deadline_passed": _event("error", "left", "Jobs whose locks are left to expire."),
        "master.broken": _event("error", "error", "A bug of ours: jobs are handed back, the master ends."),
        "reload.requested": _event(
            "info", "generation", "Config and code are read again, to be this generation."
        ),
        "reload.done": _event(
            "info",
            "generation changed restart came gone took_ms",
            "New runners have the new code. The changes that only a restart would bring are named.",
        ),
        "reload.failed": _event(
            "error", "generation error", "Everything goes on as before; why it was refused."
        ),
        "queue.leaving": _event("info", "queue running", "Not served any more; what runs comes to its end."),
        "queue.left": _event("info", "queue done", "Its last job is written."),
        "slots.changed": _event("info", "queue slots", "There are now so many."),
        "pool.changed": _event("info", "slots", "So many are shared now by the queues of the pool."),
        "control.opened": _event("debug", "path", "The control socket listens."),
        "control.unavailable": _event(
            "warning", "why", "There is no control socket; the jobs do not need it."
        ),
        "control.refused": _event(
            "warning", "peer uid", "Somebody of another user asked, and was not heard."
        ),
        "control.failed": _event("error", "verb error", "A bug of ours in an answer; the jobs go on."),
        "proof.failed": _event(
            "error", "why next", "It does no work though there is some: it asks anew, then it ends itself."
        ),
        "proof.restored": _event("info", "", "It works again."),
        "master.stuck": _event(
            "error", "why", "Asking anew did not help: jobs go back, the master ends (75)."
        ),
        "slot.reported": _event(
            "info", "queue slot runner phase job_id running_ms degraded", "On request, one a slot."
        ),
        # --- template and runners ---
        "template.started": _event("info", "pid profile processors hooks", "So many of them are imported."),
        "template.has_threads": _event(
            "warning",
            "why import_s",
            "The import starts threads, so nothing is forked from it: each runner imports for itself.",
        ),
        "template.output": _event("info", "stream line", "What a module printed while it was imported."),
        "template.bad_packet": _event(
            "error", "pid error", "The template sent no packet and is killed (I7)."
        ),
        "template.slow": _event(
            "warning",
            "pid targets waited_s",
            "Its import has not ended yet; `py-spy dump --pid` shows where it is.",
        ),
        "template.failed": _event("error", "error", "The processors could not be imported; tried again."),
        "template.exited": _event("error", "pid status", "The template died; it is started again."),
        "isolation.degraded": _event(
            "warning", "profile layers", "Layers that are not in force, and why; told once each."
        ),
        "runner.started": _event(
            "debug", "slot runner layers", "A runner is ready, isolated by these layers."
        ),
        "runner.exited": _event("debug", "slot runner how", "A runner is gone."),
        "runner.recycled": _event(
            "info", "queue slot runner why", "Replaced after it had served; its successor was ready before."
        ),
        "spare.taken": _event(
            "info", "queue slot runner", "A runner that was kept ready has taken the place of another."
        ),
        "spare.output": _event("info", "stream line runner", "What a runner that is kept ready has printed."),
        "spare.given_up": _event(
            "warning",
            "deaths why",
            "No runner is kept ready, until another one has shown that it can work: they die by themselves.",
        ),
        "runner.failed": _event(
            "error",
            "slot error failures more",
            "A runner did not come up; tried again later. Of many with one cause one is told.",
        ),
        "runner.died": _event("error", "queue job_id runner how", "A runner died with a job."),
        "runner.bad_frame": _event(
            "error", "slot runner error", "A runner sent no frame and is killed (I7)."
        ),
        "limits.kept": _event(
            "info", "by group why", "By a cgroup for each runner, or by sampling; then why not by cgroups."
        ),
        "limits.unkept": _event(
            "warning",
            "queue limits why",
            "Only a cgroup keeps these: jobs of this queue run without them. `require` forbids it.",
        ),
        "cgroup.refused": _event(
            "warning", "runner error", "A runner has no cgroup, or its limit was refused: it is sampled."
        ),
        "runner.unkillable": _event(
            "error",
            "slot runner stuck",
            "Killed, and still there: stuck in the kernel. Its slot gets another.",
        ),
        "orphans.killed": _event(
            "warning", "pids", "Processes that jobs of a dead master had started and left on this host."
        ),
        "stray.killed": _event("warning", "pid what below", "A dead runner left a process: its name."),
        # --- jobs ---
        "job.completed": _event("info", _ATTEMPT, "The processor returned, and it is written."),
        "job.failed": _event("error", f"{_ATTEMPT} {_VERDICT} reason", "Failed for good."),
        "job.not_copied": _event(
            "error", f"{_JOB} why", "Failed for good, and the queue of dead letters took no copy: it is kept."
        ),
        "job.retried": _event(
            "warning", f"{_ATTEMPT} {_VERDICT} reason delay_ms", "Failed, and will be tried again."
        ),
        "job.delayed": _event("info", f"{_ATTEMPT} delay_ms", "The processor asked for a later time."),
        "job.rate_limited": _event("info", f"{_ATTEMPT} delay_ms", "The processor asked for a pause."),
        "job.waiting_for_children": _event("info", _ATTEMPT, "Runs again when its children are done."),
        "job.handed_back": _event(
            "info",
            f"{_ATTEMPT} {_VERDICT}",
            "Cut off, by a stop or for another's fault; first in its queue again (I9).",
        ),
        "job.outcome_dropped": _event(
            "error",
            f"{_JOB} why runner peak_bytes {_VERDICT}",
            "Not ours any more, so nothing is written (I3).",
        ),
        "job.outcome_unknown": _event("error", f"{_JOB} why", "Redis never told whether it was written."),
        "job.refused": _event("error", f"{_JOB} error", "Redis would not take the outcome of this job."),
        "job.dropped": _event("error", "queue job_id why", "An id on a list without a usable job."),
        "job.left_behind": _event(
            "warning",
            f"{_JOB} runner left retired",
            "A job changed its runner, or started what did not end; a runner that cannot be put right goes.",
        ),
        "job.output": _event("info", "queue job_id stream line runner", "A line the processor printed."),
        "relay.dropped": _event(
            "warning", "queue job_id what error", "Progress or log row that Redis refused."
        ),
        # --- cancelling ---
        "cancel.asked": _event("info", "queue job_id runner by", "Somebody cancels a job that runs here."),
        "cancel.pressed": _event(
            "debug", "queue job_id runner step", "It has not ended; the next step is taken."
        ),
        "cancel.enforced": _event(
            "info", "queue job_id by", "A job that was cancelled and did not run has failed for it."
        ),
        "cancel.check_failed": _event(
            "warning", "queue error", "Requests to cancel could not be read; looked again as usual."
        ),
        "cancel.unheard": _event(
            "warning",
            "why",
            "No subscription: requests to cancel are found when locks are renewed, until there is one.",
        ),
        # --- circuit breakers ---
        "breaker.opened": _event(
            "warning", "breaker queue job_id open_ms trips", "A dependency fails; its jobs are delayed."
        ),
        "breaker.closed": _event("info", "breaker queue job_id", "A trial succeeded; all may try again."),
        # --- thresholds ---
        "alert.raised": _event("warning", "queue threshold why", "A threshold of [alerts] is passed."),
        "alert.cleared": _event("info", "queue threshold", "It is passed no longer."),
        "alert.check_failed": _event("warning", "queue error", "Redis did not say; looked again as usual."),
        # --- hooks ---
        "hook.called": _event("debug", "hook queue job_id ran_ms", "A hook has returned."),
        "hook.failed": _event(
            "error",
            "hook queue job_id ran_ms reason stack",
            "A hook raised, was too slow or died; not called again.",
        ),
        "hook.dropped": _event("warning", "calls why", "So many calls of hooks are not made."),
        "hook.left_behind": _event(
            "warning", "hook queue job_id runner left retired", "As job.left_behind, of a hook."
        ),
        "hook.output": _event("info", "stream line runner", "A line that a hook printed."),
        # --- job schedulers ---
        "scheduler.advanced": _event("debug", "queue scheduler job_id", "The job of its next run is added."),
        "scheduler.stuck": _event(
            "error", "queue scheduler why", "No job for its next run: it waits for an upsert."
        ),
        "scheduler.legacy": _event(
            "warning", "queue scheduler advice", "A repeatable of BullMQ 5 or older; what to do about it."
        ),
        # --- Redis ---
        "redis.connected": _event("info", "address why", "The connection stands."),
        "redis.unsafe": _event(
            "warning",
            "address server why",
            "How Redis is set up may cost jobs; they are worked on all the same.",
        ),
        "redis.lost": _event("warning", "address why", "No connection; running jobs go on meanwhile."),
        "lock.lost": _event(
            "error", "queue job_id why", "Trust in a lock has ended; the attempt is cut (I3)."
        ),
        "lock.renewal_failed": _event("warning", "queue error", "Tried again until trust ends."),
        "stalled.recovered": _event(
            "warning", "queue job_id", "A job of a worker that vanished is put back."
        ),
        "stalled.check_failed": _event("warning", "queue error", "The next check is due as usual."),
        "queue.held": _event("info", "queue why", "Paused, or at its limit: nothing is fetched meanwhile."),
        "queue.degraded": _event(
            "error",
            "queue why pause_s",
            "Its jobs lose their runners, or it has none: fetching pauses, then one job alone is tried.",
        ),
        "queue.recovered": _event("info", "queue", "A job was heard to its end, or there are runners again."),
        "queue.call_failed": _event("error", "queue error outcomes", "Redis refused a whole call."),
        "queue.fetch_unknown": _event(
            "warning",
            "queue error",
            "What a call brought that waited at the server is not known; if anything, it is found stalled.",
        ),
        "queue.fetch_failed": _event("error", "queue error", "Redis refused to give jobs; asked again."),
        # --- what others see of us ---
        "http.listening": _event("info", "address pages", "Pages can be asked for."),
        "http.failed": _event("error", "path error", "A mistake of ours in a page; the master goes on."),
        "heartbeat.failed": _event(
            "warning", "error", "Others may think that this host has vanished; told once until it goes again."
        ),
        "tracing.started": _event("info", "endpoint", "Spans are made and sent to this collector."),
        "tracing.failed": _event(
            "warning", "error", "What the SDK says of the collector; told once a minute."
        ),
        "tracing.dropped": _event(
            "warning", "spans", "So many spans were not made: the collector takes them too slowly."
        ),
        # --- the log itself ---
        "log.dropped": _event("warning", "lines", "So many lines: nobody read them in time."),
    }
)


def mistakes(event: str, fields: Mapping[str, Any]) -> list[str]:
    """What is wrong with a line, one sentence each. For tests, as a hook on the log."""
    known = CATALOGUE.get(event)
    if known is None:
        return [f"{event!r} is not in the catalogue"]
    return [f"{event!r} has no key {key!r}" for key in sorted(set(fields) - known.keys - {"exc_info"})]
