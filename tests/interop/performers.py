"""Who performs a step of a random sequence: Node's client and worker, or ours. The same methods on both.

Each method gets the two numbers of its step, picks jobs and options with them from what there is, and raises
`Refused` when the client says no, as it may. Anything else that a client says is an error. The two are best
read side by side, so they share a long module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from peers import Peer, PeerError

from supervisor.client import edit, flows, manage, schedulers
from supervisor.client.flows import FlowJob
from supervisor.errors import OxherdError
from supervisor.master.scheduling import add_following
from supervisor.protocol import job_options
from supervisor.protocol.commands.work import (
    AwaitsChildren,
    Completed,
    ExtendLocks,
    Failed,
    FetchedJob,
    FinishAndFetch,
    HandedBack,
    Lease,
    Outcome,
    Postponed,
    RateLimited,
    RecoverStalled,
    Retried,
)
from supervisor.protocol.schedule import every

if TYPE_CHECKING:
    from sequences import World  # at run time it would be a cycle

LOCK_MS = STALLED_INTERVAL_MS = 30_000
DELAYS_MS = (400, 1_500, 5_000)

ADDS = (
    {},
    {"delay": 400},
    {"delay": 5_000},
    {"priority": 1, "attempts": 2},
    {"priority": 7},
    {"lifo": True, "attempts": 2},
    {"jobId": "mine", "attempts": 2},
    {"jobId": "yours", "priority": 3},
    {"attempts": 3},
    {"attempts": 2, "backoff": {"type": "fixed", "delay": 1_500}},
    {"attempts": 2, "priority": 2},
    {"attempts": 2, "lifo": True},
    {"delay": 1_500, "priority": 4},
    {"removeOnComplete": True, "removeOnFail": True},
    {"removeOnComplete": 1, "removeOnFail": 1},
)
DEDUPLICATIONS = (
    {},
    {"ttl": 5_000},
    {"ttl": 5_000, "extend": True},
    {"replace": True},
    {"ttl": 5_000, "replace": True},
    {"keepLastIfActive": True},
    {"reschedule": True},
)
POLICIES = (
    {},
    {"failParentOnFailure": True},
    {"continueParentOnFailure": True},
    {"ignoreDependencyOnFailure": True},
    {"removeDependencyOnFailure": True},
)
OURS = {
    "delay": "delay_ms",
    "jobId": "job_id",
    "removeOnComplete": "remove_on_complete",
    "removeOnFail": "remove_on_fail",
    "failParentOnFailure": "fail_parent_on_failure",
    "continueParentOnFailure": "continue_parent_on_failure",
    "ignoreDependencyOnFailure": "ignore_dependency_on_failure",
    "removeDependencyOnFailure": "remove_dependency_on_failure",
    "ttl": "ttl_ms",
    "keepLastIfActive": "keep_last_if_active",
}
ENDS = ("failed", "completed")


class Refused(Exception):
    """A client said no, as it may."""


def translated(options: dict[str, Any]) -> dict[str, Any]:
    """Node's options as ours."""
    return {OURS.get(name, name): value for name, value in options.items()}


class Us:
    """Our client, and the commands of our worker."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _run(self, action: Any) -> Any:
        return self._try(lambda: self.world.queue.run(action))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OxherdError as error:
            if type(error).__module__ == "supervisor.errors" and "script" not in str(error):
                raise Refused from error
            raise

    def _exchange(self, token: str, count: int, *outcomes: Outcome) -> list[FetchedJob]:
        world = self.world
        done = world.redis.execute(
            FinishAndFetch(world.keys, token, world.now_ms, LOCK_MS, count, outcomes=outcomes)
        )
        assert done.fetch_error is None and not any(each.code == -100 for each in done.written), done
        assert not done.dropped, f"ids without a job stood in the queue: {done.dropped}"
        return list(done.jobs)

    def take(self, token: str) -> tuple[str, str] | None:
        return self._started(self._exchange(token, 1))

    def complete_and_take(self, job_id: str, token: str) -> tuple[str, str] | None:
        keep = job_options.resolve_keep(self._options(job_id).remove_on_complete, None)
        return self._started(self._exchange(self.world.token(), 1, Completed(job_id, token, b"1", keep)))

    def _started(self, jobs: list[FetchedJob]) -> tuple[str, str] | None:
        for job in jobs:
            self._follow(job)
        return (jobs[0].id, jobs[0].token) if jobs else None

    def _follow(self, job: FetchedJob) -> None:
        """The run after a scheduler's job."""
        redis = self.world.redis

        class Once:
            async def execute_repeatable(self, command: Any, *, give_up: Any = None) -> Any:
                return redis.execute(command)

        _finished(add_following(Once(), self.world.keys, job, now_ms=self.world.now_ms))

    def _options(self, job_id: str) -> job_options.JobOptions:
        return job_options.decode_options(self.world.seen.jobs[job_id]["opts"].encode())

    def complete(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        options = self._options(job_id)
        if self.world.due_to_fail(job_id):
            self._fail_for_good(job_id, token, options)
            return
        keep = job_options.resolve_keep(options.remove_on_complete, None)
        self._exchange(self.world.token(), 0, Completed(job_id, token, b"1", keep))

    def fail(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        options = self._options(job_id)
        made = int(self.world.seen.jobs[job_id].get("atm", 0)) + 1
        if b == 0 or made >= options.attempts or self.world.due_to_fail(job_id):
            self._fail_for_good(job_id, token, options)
            return
        backoff = job_options.backoff_of(options)
        delay_ms = 0 if backoff is None else int(backoff.delay)
        self._exchange(
            self.world.token(), 0, Retried(job_id, token, "broke", None, delay_ms, bool(options.lifo))
        )

    def _fail_for_good(self, job_id: str, token: str, options: job_options.JobOptions) -> None:
        keep = job_options.resolve_keep(options.remove_on_fail, None)
        self._exchange(self.world.token(), 0, Failed(job_id, token, "broke", None, keep, options.attempts))

    def postpone(self, a: int, b: int) -> None:
        self._exchange(self.world.token(), 0, Postponed(*self.world.taken(a), DELAYS_MS[b % 3]))

    def to_wait(self, a: int, b: int) -> None:
        self._exchange(self.world.token(), 0, RateLimited(*self.world.taken(a)))

    def hand_back(self, a: int, b: int) -> None:
        self._exchange(self.world.token(), 0, HandedBack(*self.world.taken(a)))

    def wait_for_children(self, a: int, b: int) -> None:
        self._exchange(self.world.token(), 0, AwaitsChildren(*self.world.taken(a)))

    def extend(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        self.world.redis.execute(ExtendLocks(self.world.keys, [Lease(job_id, token)], LOCK_MS))

    def stalled(self, a: int, b: int) -> None:
        world = self.world
        world.redis.execute(RecoverStalled(world.keys, world.now_ms, STALLED_INTERVAL_MS, 1))

    def add(self, a: int, b: int) -> None:
        self._try(lambda: self.world.queue.add("j", a, **translated(ADDS[a])))

    def add_many(self, a: int, b: int) -> None:
        options = [translated(ADDS[n]) for n in (a, b, 0)]
        self._try(lambda: self.world.queue.add_bulk([("j", 1, each) for each in options]))

    def add_unique(self, a: int, b: int) -> None:
        unique = translated(DEDUPLICATIONS[b % 7]) | {"id": f"d{a % 2}"}
        options = {"delay_ms": 1_500} if a % 3 == 0 else {}
        self._try(lambda: self.world.queue.add("j", a, deduplication=unique, **options))

    def flow(self, a: int, b: int) -> None:
        parent, *below = ({**each, "jobId": name} for name, each in self.world.family(a, b))
        children = [FlowJob("c", {}, options=translated(each)) for each in below]
        self._run(flows.add(FlowJob("p", {}, options=translated(parent), children=children)))

    def add_child(self, a: int, b: int) -> None:
        parent = {"id": self.world.taken(a)[0], "queue": self.world.keys.base}
        self._try(lambda: self.world.queue.add("c", 1, parent=parent, **translated(POLICIES[b % 5])))

    def counts(self) -> dict[str, int]:
        return self.world.queue.counts()

    def pause(self, a: int, b: int) -> None:
        self._try(self.world.queue.pause)

    def resume(self, a: int, b: int) -> None:
        self._try(self.world.queue.resume)

    def remove(self, a: int, b: int) -> None:
        job_id = self.world.job(a)
        self._run(flows.remove(job_id) if b % 2 else edit.remove(job_id))

    def retry(self, a: int, b: int) -> None:
        self._run(edit.retry(self.world.job(a, state := ENDS[b % 2]), state=state))

    def promote(self, a: int, b: int) -> None:
        self._run(edit.promote(self.world.job(a, "delayed")))

    def change_delay(self, a: int, b: int) -> None:
        self._run(edit.change_delay(self.world.job(a, "delayed"), DELAYS_MS[b % 3]))

    def change_priority(self, a: int, b: int) -> None:
        self._run(edit.change_priority(self.world.job(a), b % 4, lifo=b % 5 == 0))

    def retry_all(self, a: int, b: int) -> None:
        self._run(manage.retry_all(ENDS[a % 2]))

    def promote_all(self, a: int, b: int) -> None:
        self._run(manage.promote_all())

    def drain(self, a: int, b: int) -> None:
        self._run(manage.drain(delayed=a % 2 == 1))

    def clean(self, a: int, b: int) -> None:
        limit = None if b % 3 == 0 else b % 3
        self._run(manage.clean(CLEANED[a % 6], grace_ms=(0, 1_000)[b % 2], limit=limit))

    def obliterate(self, a: int, b: int) -> None:
        self._run(manage.obliterate(force=a % 2 == 1))

    def concurrency(self, a: int, b: int) -> None:
        self._run(edit.set_global_concurrency((None, 1, 2)[a % 3]))

    def rate(self, a: int, b: int) -> None:
        self._run(edit.set_global_rate_limit((None, 2)[a % 2], duration_ms=1_000))

    def hold(self, a: int, b: int) -> None:
        self._run(manage.remove_rate_limit() if a % 2 else manage.rate_limit(1_000))

    def schedule(self, a: int, b: int) -> None:
        scheduler_id, ms, options = self.world.schedule_of(a, b)
        self._run(schedulers.upsert_scheduler(scheduler_id, every(ms), options=translated(options)))

    def unschedule(self, a: int, b: int) -> None:
        self._run(schedulers.remove_scheduler(f"s{a % 2}"))


CLEANED = ("completed", "failed", "waiting", "delayed", "prioritized", "active")
NODES_CLEANED = ("completed", "failed", "wait", "delayed", "prioritized", "active")
# What a script of BullMQ or its client says only when something is broken.
_NO_REFUSAL = ("script", "WRONGTYPE", "is not a function", "undefined", "null", "ERR ")


class Node:
    """Node's client, and the calls of its worker."""

    def __init__(self, world: World, peer: Peer) -> None:
        self.world, self.peer = world, peer

    def _ask(self, do: str, **request: Any) -> Any:
        try:
            return self.peer.ask(do, now=self.world.now_ms, **request)
        except PeerError as error:
            if error.code is None and any(word in str(error) for word in _NO_REFUSAL):
                raise
            raise Refused from error

    def _queue(self, method: str, *args: Any) -> Any:
        return self._ask("queue", method=method, args=args)

    def _job(self, job_id: str, method: str, *args: Any) -> None:
        self._ask("job", id=job_id, method=method, args=args)

    def take(self, token: str) -> tuple[str, str] | None:
        found = self._ask("fetch", token=token)
        return None if found is None else (found["id"], token)

    def complete_and_take(self, job_id: str, token: str) -> tuple[str, str] | None:
        found = self._ask("complete", id=job_id, token=token, value=1, fetch=True)
        return None if found is None else (found, token)

    def complete(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        if self.world.due_to_fail(job_id):
            self._ask("fail", id=job_id, token=token, reason="broke", unrecoverable=True)
        else:
            self._ask("complete", id=job_id, token=token, value=1)

    def fail(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        hopeless = b == 0 or self.world.due_to_fail(job_id)
        self._ask("fail", id=job_id, token=token, reason="broke", unrecoverable=hopeless)

    def postpone(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        self._job(job_id, "moveToDelayed", self.world.now_ms + DELAYS_MS[b % 3], token)

    def to_wait(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        self._job(job_id, "moveToWait", token)

    hand_back = to_wait

    def wait_for_children(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        self._job(job_id, "moveToWaitingChildren", token)

    def extend(self, a: int, b: int) -> None:
        job_id, token = self.world.taken(a)
        self._job(job_id, "extendLock", token, LOCK_MS)

    def stalled(self, a: int, b: int) -> None:
        self._ask("stalled")

    def add(self, a: int, b: int) -> None:
        self._queue("add", "j", a, ADDS[a])

    def add_many(self, a: int, b: int) -> None:
        self._queue("addBulk", [{"name": "j", "data": 1, "opts": ADDS[n]} for n in (a, b, 0)])

    def add_unique(self, a: int, b: int) -> None:
        unique = {"id": f"d{a % 2}", **DEDUPLICATIONS[b % 7]}
        self._queue("add", "j", a, {"deduplication": unique} | ({"delay": 1_500} if a % 3 == 0 else {}))

    def flow(self, a: int, b: int) -> None:
        tree, *below = (
            {"name": "p", "queueName": "q", "data": {}, "opts": {**each, "jobId": name}}
            for name, each in self.world.family(a, b)
        )
        self._ask("flow", tree={**tree, "children": below})

    def add_child(self, a: int, b: int) -> None:
        parent = {"id": self.world.taken(a)[0], "queue": self.world.keys.base}
        self._queue("add", "c", 1, {"parent": parent, **POLICIES[b % 5]})

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = self._queue("getJobCounts")
        return found

    def pause(self, a: int, b: int) -> None:
        self._queue("pause")

    def resume(self, a: int, b: int) -> None:
        self._queue("resume")

    def remove(self, a: int, b: int) -> None:
        self._queue("remove", self.world.job(a), {"removeChildren": b % 2 == 1})

    def retry(self, a: int, b: int) -> None:
        self._job(self.world.job(a, state := ENDS[b % 2]), "retry", state)

    def promote(self, a: int, b: int) -> None:
        self._job(self.world.job(a, "delayed"), "promote")

    def change_delay(self, a: int, b: int) -> None:
        self._job(self.world.job(a, "delayed"), "changeDelay", DELAYS_MS[b % 3])

    def change_priority(self, a: int, b: int) -> None:
        self._job(self.world.job(a), "changePriority", {"priority": b % 4, "lifo": b % 5 == 0})

    def retry_all(self, a: int, b: int) -> None:
        self._queue("retryJobs", {"state": ENDS[a % 2]})

    def promote_all(self, a: int, b: int) -> None:
        self._queue("promoteJobs")

    def drain(self, a: int, b: int) -> None:
        self._queue("drain", a % 2 == 1)

    def clean(self, a: int, b: int) -> None:
        self._queue("clean", (0, 1_000)[b % 2], b % 3, NODES_CLEANED[a % 6])

    def obliterate(self, a: int, b: int) -> None:
        self._queue("pause")
        self._queue("obliterate", {"force": a % 2 == 1})

    def concurrency(self, a: int, b: int) -> None:
        if a % 3 == 0:
            self._queue("removeGlobalConcurrency")
        else:
            self._queue("setGlobalConcurrency", a % 3)

    def rate(self, a: int, b: int) -> None:
        if a % 2 == 0:
            self._queue("removeGlobalRateLimit")
        else:
            self._queue("setGlobalRateLimit", 2, 1_000)

    def hold(self, a: int, b: int) -> None:
        if a % 2:
            self._queue("removeRateLimitKey")
        else:
            self._queue("rateLimit", 1_000)

    def schedule(self, a: int, b: int) -> None:
        scheduler_id, ms, options = self.world.schedule_of(a, b)
        self._queue("upsertJobScheduler", scheduler_id, {"every": ms}, {"opts": options})

    def unschedule(self, a: int, b: int) -> None:
        self._queue("removeJobScheduler", f"s{a % 2}")


def _finished(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise AssertionError("it waits")
