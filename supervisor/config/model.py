"""The settings, typed and frozen: one class a section, one field an option.

Default, bounds, unit and the price of both directions stand beside each option; the TOML key, the environment
variable, the flag and the reference page are made from them (`option.py`). What a value must be together with
another one is said in `mistakes()`. Reading them from anywhere is `load.py`'s work.

Longer than most modules because it is a table: one entry an option, no logic between them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import structs

from supervisor.config.host import default_state_dir, usable_cpus
from supervisor.config.observing import HeartbeatConfig, HttpConfig, TracingConfig
from supervisor.config.option import INT, PATH, SWITCH, TEXTS, Section, option
from supervisor.config.policy import PolicyConfig, RecycleConfig
from supervisor.config.pool import PoolConfig, share_of
from supervisor.config.shapes import (
    BACKOFF,
    KEEP,
    LIMITER,
    SHARE_OF_POOL,
    BackoffConfig,
    Keep,
    Limiter,
    PoolShare,
)

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _check_embedded_or_url(url: str) -> str | None:
    behind = [f"{redis}+{kind}" for kind in ("sentinel", "cluster") for redis in ("redis", "rediss")]
    kinds = ["redis", "rediss", "unix", *behind]
    if url == "embedded" or url.partition("://")[0] in (*kinds, "sentinel", "cluster"):
        return None
    schemes = " ".join(f"{each}://" for each in kinds)
    return f"an address starts with one of {schemes} (or is the word embedded)"


def _check_queue_name(name: str) -> str | None:
    return "a queue's name has no colon in it" if ":" in name else None


def _check_targets(names: tuple[str, ...]) -> str | None:
    for name in names:
        module, colon, function = name.partition(":")
        if module.endswith(".py") or "/" in module:
            return f"{name!r} looks like a file; a target is a module: write module or module:function"
        parts = [*module.split("."), *(function.split(".") if colon else ())]
        if not all(part.isidentifier() for part in parts):
            return f"{name!r} is no target; write module or module:function"
    return None


def _check_function(name: str) -> str | None:
    module, _, function = name.partition(":")
    return None if module and function else f"{name!r} is no function; write module:function"


def _plain(value: Any) -> Any:
    """A value of a default job option as anybody may give it to `add`."""
    if value == Keep():
        return False
    if isinstance(value, Keep):
        return {name: part for name, part in structs.asdict(value).items() if part is not None}
    return structs.asdict(value) if isinstance(value, BackoffConfig) else value


class RedisConfig(Section):
    """[redis] The server, and how long it may take."""

    url: str | None = option(
        None,
        flag="--redis",
        secret=True,
        check=_check_embedded_or_url,
        shown="unset",
        doc="""
        Address of the server: redis://, rediss:// (TLS), unix://, redis+sentinel:// or redis+cluster://, or
        the word embedded for a private server of this user's own. Unset, a private one is used on a terminal
        only.
        """,
    )
    url_file: Path | None = option(
        None,
        kind=PATH,
        shown="unset",
        doc="""
        A file that holds the address, for one that is a secret; where url is set, it is not looked at. A name
        without a directory is that of a systemd credential, if there is one.
        """,
    )
    user: str | None = option(None, shown="unset", doc="The user to log in as, where Redis has users (ACL).")
    password_file: Path | None = option(
        None,
        kind=PATH,
        shown="unset",
        doc="""
        A file that holds the password. It is read at each login, so a new password needs no restart. A name
        without a directory is that of a systemd credential, if there is one.
        """,
    )
    sentinel_user: str | None = option(
        None, shown="unset", doc="The user to log in as at the Sentinels, which have users of their own."
    )
    sentinel_password_file: Path | None = option(
        None, kind=PATH, shown="unset", doc="A file that holds the password of the Sentinels."
    )
    ca_file: Path | None = option(
        None,
        kind=PATH,
        shown="the system's authorities",
        doc="Who vouches for the server's certificate: a file of certificates in PEM, for rediss://.",
    )
    cert_file: Path | None = option(
        None, kind=PATH, shown="unset", doc="Our own certificate in PEM, for a server that asks for one."
    )
    key_file: Path | None = option(
        None, kind=PATH, shown="in cert_file", doc="The private key of our own certificate, in PEM."
    )
    prefix: str = option(
        "bull",
        flag="--prefix",
        doc="What every key starts with. Producers and workers of a queue must use the same.",
    )
    reply_timeout_ms: int = option(
        10_000,
        at_least=100,
        doc="""
        How long an answer may take before the connection is given up and the call repeated on a new one.
        Shorter: a busy server is left too soon. Longer: a dead connection is noticed later.
        """,
    )
    connect_timeout_ms: int = option(
        5_000,
        at_least=100,
        doc="How long one try to connect may take. Tries go on with growing pauses.",
    )


class LockConfig(Section):
    """[lock] How long a job may be held without a sign of life."""

    duration_ms: int = option(
        30_000,
        at_least=1_000,
        doc="""
        How long a lock lives without renewal. It is renewed at half this time.
        Shorter: a paused host has its jobs run twice sooner.
        Longer: the jobs of a dead host wait longer to be run again.
        Each lock carries its own duration, so workers of one queue may differ.
        """,
    )


class StalledConfig(Section):
    """[stalled] The stalled check: the jobs of workers that died are put back."""

    interval_ms: int = option(
        30_000,
        at_least=100,
        doc="""
        Time between two checks; all workers of a queue share them. A job is put back by the second check
        that finds it without a lock. Shorter: sooner run again, more work for Redis.
        """,
    )
    max_count: int = option(
        1,
        at_least=0,
        doc="""
        How often a job may stall before it fails for good. More: a job that kills its host is run again
        as often. 0: never run again.
        """,
    )
    skip: bool = option(
        False,
        doc="Leave the check to the other workers of the queue. With none, nobody recovers anything.",
    )


class StopConfig(Section):
    """[stop] Quiet, grace, cancel, kill: the steps of stopping, all under one deadline."""

    deadline_ms: int = option(
        30_000,
        at_least=0,
        doc="""
        From the signal to the exit, handing jobs back included. Keep it below what the service manager
        allows (systemd 90s, docker stop 10s, Kubernetes 30s), or the jobs are left for the stalled check.
        """,
    )
    grace_ms: int | None = option(
        None,
        at_least=0,
        shown="5/6 of the deadline",
        doc="""
        How long running jobs may go on as if nothing had happened. Then they are cancelled, and killed
        shortly before the deadline.
        """,
    )

    @property
    def cancel_after_ms(self) -> int:
        """From the signal to the cancelling of what still runs."""
        return self.deadline_ms * 5 // 6 if self.grace_ms is None else min(self.grace_ms, self.deadline_ms)

    @property
    def kill_after_ms(self) -> int:
        """From the signal to the killing. A third of what cancelling leaves stays for handing back."""
        return self.cancel_after_ms + (self.deadline_ms - self.cancel_after_ms) * 2 // 3

    def mistakes(self) -> Mapping[str, str]:
        if self.grace_ms is not None and self.grace_ms > self.deadline_ms:
            return {"grace_ms": "the grace is longer than the deadline it is a part of"}
        return NOTHING


class LogConfig(Section):
    """[log] The log on stderr."""

    format: str = option(
        "auto",
        choices=("auto", "json", "console"),
        doc="json: one object a line. console: for people. auto: console on a terminal, else json.",
    )
    level: str = option(
        "info",
        choices=("debug", "info", "warning", "error"),
        doc="The least level that is written.",
    )
    job_output: bool = option(
        False,
        doc="""
        Also add what a processor prints to the log of its job in Redis, line by line. It is in this log in
        any case. A processor that prints much makes the job's log long; the option keep_logs bounds it.
        """,
    )


class WorkerConfig(Section):
    """[worker] The worker of each queue, as other members of the queue see it."""

    name: str = option(
        "",
        shown="none",
        doc="The worker's name: stored with each job it takes, and shown by dashboards. Empty for none.",
    )
    drain_delay_ms: int = option(
        5_000,
        at_least=100,
        doc="""
        How long an idle worker blocks before it looks again by itself. Shorter: more calls on an idle
        queue, but a job whose marker was lost is found sooner. With more than a sixth of the lock's duration
        a job that comes is not there with the waking, but one way to Redis later.
        """,
    )
    max_started_attempts: int = option(
        0,
        at_least=0,
        doc="How often a job may be started, why ever it came back, before it fails. 0 for any number.",
    )
    metrics: int = option(
        0,
        at_least=0,
        doc="Minutes of completed and failed counts that are kept in Redis for dashboards. 0 for none.",
    )


class KeepConfig(Section):
    """[keep] How many finished jobs stay in Redis, where the job's own options do not say."""

    completed: Keep = option(
        Keep(),
        kind=KEEP,
        doc="""
        all, a count (0: none), an age like 24h, or both: { count = 1000, age = "24h" }.
        All is BullMQ's default, and what fills a server.
        """,
    )
    failed: Keep = option(Keep(), kind=KEEP, doc="The same for failed jobs.")


class HooksConfig(Section):
    """[hooks] Functions of yours that are told what became of jobs, in a process of their own."""

    completed: str | None = option(
        None,
        check=_check_function,
        shown="none",
        doc="""
        module:function, called once a job has completed: at most once, and never so that a job waits for it.
        """,
    )
    failed: str | None = option(
        None,
        check=_check_function,
        shown="none",
        doc="The same, called once a job has failed for good.",
    )
    stalled: str | None = option(
        None,
        check=_check_function,
        shown="none",
        doc="The same, called once the stalled check of this program has put a job back.",
    )
    timeout_ms: int = option(
        30_000,
        at_least=1,
        doc="Wall time of one call; then its process is killed and a new one started. Other calls wait.",
    )


class AlertsConfig(Section):
    """[alerts] Thresholds: the log says when a queue passes one, and when it is over."""

    max_waiting: int | None = option(
        None,
        kind=INT,
        at_least=0,
        shown="none",
        doc="So many jobs may wait. `oxherd status --check` looks at it too, as at the others.",
    )
    max_failed_share: float | None = option(
        None,
        shown="none",
        doc="So large a share of the finished jobs that are kept may have failed: 5%.",
    )
    max_age_ms: int | None = option(
        None,
        at_least=0,
        shown="none",
        doc="So long may the oldest waiting job have been due.",
    )
    interval_ms: int = option(
        30_000,
        at_least=100,
        doc="Time between two looks, if there is a threshold. Shorter: told sooner, more work for Redis.",
    )


class EmbeddedConfig(Section):
    """[embedded] The private server that is used when no other is named."""

    state_dir: Path = option(
        factory=lambda: default_state_dir(os.environ),
        kind=PATH,
        shown="~/.local/state/oxherd",
        doc="Where its data, socket and password are. Kept between runs; each one is a server of its own.",
    )
    binary: Path | None = option(
        None,
        kind=PATH,
        shown="found",
        doc="The server's program. Unset: redis-server or valkey-server on PATH, else the extra's.",
    )


class DefaultsConfig(Section):
    """[queue.NAME.defaults] Options for jobs added to the queue through this file, where `add` gives none.

    What they mean is told at `AddOptions` in the API; here times and sizes have their unit in the value.
    """

    attempts: int | None = option(
        None,
        kind=INT,
        at_least=1,
        doc="Attempts before a job fails for good.",
    )
    backoff: BackoffConfig | None = option(
        None,
        kind=BACKOFF,
        doc="""
        When a failed attempt is tried again: "1s", "exponential:1s", "exponential:1s:0.5" (with jitter) or
        "custom:NAME:1s" for one of your own.
        """,
    )
    delay_ms: int | None = option(None, at_least=0, doc="Not before this long after it was added.")
    priority: int | None = option(
        None, kind=INT, at_least=0, at_most=2_097_151, doc="0 for none, else 1 (first) upward."
    )
    lifo: bool | None = option(None, kind=SWITCH, doc="Newest first.")
    timeout_ms: int | None = option(None, at_least=1, doc="Wall time of one attempt.")
    keep_logs: int | None = option(
        None, kind=INT, at_least=0, doc="The newest so many lines of a job's log stay."
    )
    size_limit_bytes: int | None = option(None, at_least=1, doc="Largest encoded data.")
    stack_trace_limit: int | None = option(
        None, kind=INT, at_least=0, doc="The newest so many stack traces stay."
    )
    remove_on_complete: Keep | None = option(
        None, kind=KEEP, doc="As in [keep] completed, stored with each job."
    )
    remove_on_fail: Keep | None = option(
        None,
        kind=KEEP,
        doc="As in [keep] failed, stored with each job.",
    )

    def as_options(self) -> dict[str, Any]:
        """What is set, as plain values under the names of `Queue.add`."""
        given = {item.name: getattr(self, item.name) for item in structs.fields(self)}
        plain = {name: _plain(value) for name, value in given.items() if value is not None}
        if "size_limit_bytes" in plain:
            plain["size_limit"] = plain.pop("size_limit_bytes")
        return plain


class QueueConfig(Section):
    """[queue.NAME] One queue, and what runs its jobs.

    Of what it does not say itself the sections of the whole file hold.
    """

    target: tuple[str, ...] = option(
        (),
        kind=TEXTS,
        check=_check_targets,
        doc="What runs its jobs: module, or module:function. May be a list.",
    )
    concurrency: int | None = option(
        None,
        kind=INT,
        at_least=1,
        at_most=1024,
        shown="the processor's own, else one for each usable CPU",
        doc="""
        Number of slots: jobs of this queue that run at once, each in a runner. Where there is a [pool], a
        queue that says it here has none of its slots.
        """,
    )
    pool: PoolShare | None = option(
        None,
        kind=SHARE_OF_POOL,
        shown="{ weight = 1, minimum = 0 }, if there is a pool",
        doc="""
        What it has of the [pool]: { weight = 3, minimum = 1 }. While several queues have jobs, each gets
        slots in proportion to its weight; minimum slots are kept for it, also while it has no job.
        """,
    )
    limiter: Limiter | None = option(
        None,
        kind=LIMITER,
        doc='At most so many jobs in so long, over all workers of the queue: { max = 100, duration = "1s" }.',
    )
    dead_letter: str | None = option(
        None,
        check=_check_queue_name,
        doc="The queue that gets a copy of each job that fails for good, with its reason and stack traces.",
    )
    policy: PolicyConfig | None = None
    lock: LockConfig | None = None
    stalled: StalledConfig | None = None
    keep: KeepConfig | None = None
    alerts: AlertsConfig | None = None
    defaults: DefaultsConfig = msgspec.field(default_factory=DefaultsConfig)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the worker of one queue, all overrides resolved. Concurrency is a number here.

    pool   what it has of the shared slots; None when its slots are its own.
    """

    queue: str
    target: tuple[str, ...]
    concurrency: int
    lock_ms: int
    stalled_interval_ms: int
    max_stalled: int
    skip_stalled: bool
    policy: PolicyConfig
    keep: KeepConfig
    alerts: AlertsConfig
    limiter: Limiter | None
    pool: PoolShare | None
    dead_letter: str | None
    worker_name: str
    drain_delay_ms: int
    max_started_attempts: int
    metrics: int
    job_output: bool


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. `Config()` has every default and reads nothing."""

    redis: RedisConfig = msgspec.field(default_factory=RedisConfig)
    lock: LockConfig = msgspec.field(default_factory=LockConfig)
    stalled: StalledConfig = msgspec.field(default_factory=StalledConfig)
    stop: StopConfig = msgspec.field(default_factory=StopConfig)
    policy: PolicyConfig = msgspec.field(default_factory=PolicyConfig)
    recycle: RecycleConfig = msgspec.field(default_factory=RecycleConfig)
    pool: PoolConfig = msgspec.field(default_factory=PoolConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    worker: WorkerConfig = msgspec.field(default_factory=WorkerConfig)
    keep: KeepConfig = msgspec.field(default_factory=KeepConfig)
    hooks: HooksConfig = msgspec.field(default_factory=HooksConfig)
    alerts: AlertsConfig = msgspec.field(default_factory=AlertsConfig)
    http: HttpConfig = msgspec.field(default_factory=HttpConfig)
    heartbeat: HeartbeatConfig = msgspec.field(default_factory=HeartbeatConfig)
    tracing: TracingConfig = msgspec.field(default_factory=TracingConfig)
    embedded: EmbeddedConfig = msgspec.field(default_factory=EmbeddedConfig)
    queues: Mapping[str, QueueConfig] = msgspec.field(default_factory=dict)

    def effective(self, queue: str, declared_concurrency: int | None = None) -> WorkerSettings:
        """What holds for the worker of `queue`, whether or not the file has a table for it.

        `declared_concurrency` is what a decorator asks for; the file has the last word, and the usable CPUs
        stand in where nobody says anything. The policy is the one of file, environment and flags alone: what
        decorator and job ask for on top of it is weighed by the master, the smallest limit wins.
        """
        own = self.queues.get(queue) or QueueConfig()
        lock = own.lock or self.lock
        stalled = own.stalled or self.stalled
        return WorkerSettings(
            queue=queue,
            target=own.target,
            concurrency=own.concurrency or declared_concurrency or usable_cpus(),
            lock_ms=lock.duration_ms,
            stalled_interval_ms=stalled.interval_ms,
            max_stalled=stalled.max_count,
            skip_stalled=stalled.skip,
            policy=own.policy or self.policy,
            keep=own.keep or self.keep,
            alerts=own.alerts or self.alerts,
            limiter=own.limiter,
            pool=share_of(self.pool, own),
            dead_letter=own.dead_letter,
            worker_name=self.worker.name,
            drain_delay_ms=self.worker.drain_delay_ms,
            max_started_attempts=self.worker.max_started_attempts,
            metrics=self.worker.metrics,
            job_output=self.log.job_output,
        )


SECTIONS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        "redis": RedisConfig,
        "lock": LockConfig,
        "stalled": StalledConfig,
        "stop": StopConfig,
        "policy": PolicyConfig,
        "recycle": RecycleConfig,
        "pool": PoolConfig,
        "log": LogConfig,
        "worker": WorkerConfig,
        "keep": KeepConfig,
        "hooks": HooksConfig,
        "alerts": AlertsConfig,
        "http": HttpConfig,
        "heartbeat": HeartbeatConfig,
        "tracing": TracingConfig,
        "embedded": EmbeddedConfig,
    }
)
# Sections that a queue may override with a table of its own.
OVERRIDES: Final = ("policy", "lock", "stalled", "keep", "alerts")
