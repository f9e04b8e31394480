"""What one queue's worker is to do, with decorator, config and flags brought together. Values only."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final

import msgspec

from sandbox.layers import NAMES
from sandbox.policy import Limits, Policy
from supervisor.config.policy import PolicyConfig, RecycleConfig
from supervisor.config.shapes import Keep, PoolShare
from supervisor.errors import ConfigError
from supervisor.master.finish import FinishRules
from supervisor.master.layers import refuse_unknown
from supervisor.master.plan import Plan
from supervisor.master.template import ProcessorFacts
from supervisor.protocol.commands.work import Limiter
from supervisor.protocol.job_options import JobOptions, KeepJobs
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.thresholds import Thresholds

STRICTNESS: Final = ("none", "process", "strict")  # each more than the one before it
NO_THRESHOLDS = Thresholds()
NO_RECYCLING = RecycleConfig()


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker: one queue, its slots and its rules.

    concurrency       jobs that run at once: of this queue, or of all that have a share of the pool.
    share             what it has of the pool; None when its slots are its own.
    limits            of each processor of the queue by job name, the queue's own taken into account; under
                      None those of the processor that takes any name.
    fresh             every job has a process of its own.
    per_runner        how many jobs a runner may have at a time: one, but for async processors.
    max_crashes       how many attempts may end by a crash before the job fails, whatever its attempts.
    bigger_on_memory  job names whose memory limit is doubled once, for a run alone.
    cancel_grace_ms   what a cancelled job has before it is interrupted.
    """

    name: str
    concurrency: int
    share: PoolShare | None = None
    lock_ms: int
    stalled_interval_ms: int
    stalled_skip: bool
    max_stalled: int
    drain_delay_ms: int
    worker_name: str
    metrics: int
    limiter: Limiter | None
    finish_rules: FinishRules
    output_to_job_log: bool
    thresholds: Thresholds = NO_THRESHOLDS
    look_interval_ms: int = 30_000
    limits: Mapping[str | None, Limits]
    fresh: bool = False
    per_runner: int = 1
    max_crashes: int = 2
    bigger_on_memory: frozenset[str | None] = frozenset()
    recycle: RecycleConfig = NO_RECYCLING
    cancel_grace_ms: int = 1_000

    def rooms(self) -> list[int]:
        """How many jobs each runner may have at a time: `concurrency` shared out as evenly as can be."""
        runners = -(-self.concurrency // self.per_runner)
        least, more = divmod(self.concurrency, runners)
        return [least + 1] * more + [least] * (runners - more)

    def limits_of(self, job_name: str, options: JobOptions) -> Limits:
        """The smallest of what queue, processor and the job's own `timeout` allow."""
        own = self.limits.get(job_name) or self.limits.get(None) or NO_LIMITS
        if not options.timeout_ms or options.timeout_ms < 0:
            return own
        return own.and_smaller(Limits(timeout_ms=max(1, int(options.timeout_ms))))

    def runs_bigger(self, job_name: str) -> bool:
        """Is a job of this name that met its memory limit run once more, with twice as much?"""
        return (job_name if job_name in self.limits else None) in self.bigger_on_memory


NO_LIMITS = Limits()


def policy_of(config: PolicyConfig, profile: str | None = None) -> Policy:
    """Under what templates and runners live, as [policy] says it.

    Raises `ConfigError` for a user or a layer that there is not.

    profile   instead of the one of the config: what a decorator asks for.
    """
    uid, gid = _user(config.user)
    refuse_unknown(config.require)
    for name in config.require:
        if name not in NAMES:
            raise ConfigError(
                f"[policy] require: there is no layer {name!r}; nothing was started. "
                "`oxherd doctor` lists them"
            )
    return Policy(
        profile=profile or config.profile,
        result_bytes=config.result_bytes,
        network=config.network,
        unix_sockets=config.unix_sockets,
        pid_namespace=config.pid_namespace,
        uid=uid,
        gid=gid,
        readable=config.readable,
        writable=config.writable,
        require=config.require,
    )


def _user(name: str) -> tuple[int, int]:
    if not name:
        return 0, 0
    uid, gid = _ids_of(name)
    if os.geteuid() != 0:
        if uid == os.geteuid():
            return 0, 0
        raise ConfigError(
            f"[policy] user: only a master that is root can run its processors as {name!r}, and this one has "
            f"uid {os.geteuid()}; nothing was started"
        )
    if uid == 0:
        raise ConfigError(
            "[policy] user: root is what runners must not be; name another, nothing was started"
        )
    return uid, gid


def _ids_of(name: str) -> tuple[int, int]:
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        if name.isdecimal() and int(name) < 2**31:
            return int(name), int(name)  # a number needs no name: containers often have none
        raise ConfigError(f"[policy] user: there is no user {name!r} here; nothing was started") from None
    return found.pw_uid, found.pw_gid


def strictest(profiles: Iterable[str]) -> str:
    return max(profiles, key=STRICTNESS.index)


def profile_of(plan: Plan, queue: str, facts: Sequence[ProcessorFacts]) -> str:
    """The profile that a queue's processors, among `facts`, and the config make for it."""
    asked = [each.profile for each in facts if each.queue == queue and each.profile]
    return strictest([plan.config.effective(queue).policy.profile, *asked])


def settings_by_queue(plan: Plan, facts: Sequence[ProcessorFacts]) -> list[QueueSettings]:
    """One worker for each queue that the processors name, or that is asked for.

    Raises `ConfigError` when none is left, and for one that is asked for and that no processor serves.
    """
    queues = list(dict.fromkeys(each.queue for each in facts))
    chosen = [queue for queue in queues if not plan.only_queues or queue in plan.only_queues]
    unserved = [queue for queue in plan.only_queues if queue not in queues]
    if unserved or not chosen:
        raise ConfigError(
            f"no processor serves {' or '.join(map(repr, unserved))}; "
            f"the targets serve {', '.join(map(repr, queues)) or 'no queue at all'}. No job was taken."
        )
    return [_settings_of(plan, queue, [each for each in facts if each.queue == queue]) for queue in chosen]


def _settings_of(plan: Plan, queue: str, facts: Sequence[ProcessorFacts]) -> QueueSettings:
    own = plan.config.effective(queue)
    configured = plan.config.queues.get(queue)
    declared = max((each.concurrency for each in facts if each.concurrency), default=None)
    concurrency = plan.concurrency or (configured and configured.concurrency) or declared or own.concurrency
    share = own.pool if plan.concurrency is None else None
    if share is not None:
        concurrency = plan.config.pool.slots or concurrency
        _refuse_many_in_one(queue, facts)
    limiter = own.limiter
    profile = profile_of(plan, queue, facts)
    fresh = _said(own.policy.fresh, *(each.fresh for each in facts), otherwise=profile == "strict")
    return QueueSettings(
        name=queue,
        concurrency=concurrency,
        share=share,
        lock_ms=own.lock_ms,
        stalled_interval_ms=own.stalled_interval_ms,
        stalled_skip=own.skip_stalled,
        max_stalled=own.max_stalled,
        drain_delay_ms=own.drain_delay_ms,
        worker_name=own.worker_name,
        metrics=own.metrics,
        limiter=Limiter(limiter.max, limiter.duration_ms) if limiter is not None else None,
        finish_rules=FinishRules(
            _keep(own.keep.completed),
            _keep(own.keep.failed),
            own.max_started_attempts or None,
            _dead_letter(queue, plan.dead_letter or own.dead_letter, plan.config.redis.prefix),
        ),
        output_to_job_log=own.job_output,
        thresholds=Thresholds(own.alerts.max_waiting, own.alerts.max_failed_share, own.alerts.max_age_ms),
        look_interval_ms=own.alerts.interval_ms,
        limits={each.name: _limits_of(own.policy).and_smaller(each.limits) for each in facts},
        fresh=fresh,
        per_runner=1 if fresh else min((each.per_runner or 1 for each in facts), default=1),
        max_crashes=min(each.max_crashes or own.policy.max_crashes for each in facts),
        bigger_on_memory=frozenset(each.name for each in facts if each.on_memory or own.policy.on_memory),
        recycle=plan.config.recycle,
        cancel_grace_ms=own.policy.cancel_grace_ms,
    )


def _refuse_many_in_one(queue: str, facts: Sequence[ProcessorFacts]) -> None:
    if (at_once := min((each.per_runner or 1 for each in facts), default=1)) > 1:
        raise ConfigError(
            f"queue {queue!r} has processors that run {at_once} jobs in one process, and a slot of the pool "
            f"is for one: give it slots of its own, concurrency = N in [queue.{queue}]. No job was taken."
        )


def _dead_letter(queue: str, name: str | None, prefix: str) -> QueueKeys | None:
    if name == queue:
        raise ConfigError(
            f"dead letters of {queue!r} cannot go to {queue!r} itself: name another queue. No job was taken."
        )
    return None if name is None else QueueKeys(name, prefix)


def _keep(keep: Keep) -> KeepJobs:
    return KeepJobs(count=keep.count, age_s=keep.age_s, limit=keep.limit)


def _limits_of(policy: PolicyConfig) -> Limits:
    return Limits(**{each.name: getattr(policy, each.name) for each in fields(Limits)})


def _said(*words: bool | None, otherwise: bool) -> bool:
    """What the first says that says anything."""
    return next((word for word in words if word is not None), otherwise)
