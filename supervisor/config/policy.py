"""The settings of [policy] and [recycle]: what a runner may use, and how long one serves.

Values only; what each limit means in the kernel is docs/explain/sandbox.md's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from supervisor.config.option import NUMBER, SWITCH, TEXTS, Section, option

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class PolicyConfig(Section):
    """[policy] What a runner may use."""

    profile: str = option(
        "process",
        choices=("none", "process", "strict"),
        doc="""
        process: a session of its own, no new privileges, gone when the master is gone. none: a plain
        process, for debugging. strict: files, network and system calls by a list, and a runner for each job;
        refuses to run where a layer cannot be had.
        """,
    )
    timeout_ms: int = option(
        0,
        at_least=0,
        doc="""
        Wall time of one attempt, kept by the master: the runner is killed with all it has started. 0 for
        none. A job's own timeout counts too; the smaller of both is taken.
        """,
    )
    soft_timeout_ms: int = option(
        0,
        at_least=0,
        doc="""
        Wall time after which TimeLimit is raised in the processor, so that it may clean up. It is raised at
        the next Python instruction: code inside C ends first. 0 for none.
        """,
    )
    cancel_grace_ms: int = option(
        1_000,
        at_least=0,
        at_most=60_000,
        doc="""
        What a cancelled job has to see `job.cancelled` and end by itself. Then Cancelled is raised in it,
        1.5 s after that its child processes get SIGTERM, and 1 s later the whole tree is killed.
        """,
    )
    silence_ms: int = option(
        0,
        at_least=0,
        doc="""
        How long an attempt may go on without progress, log row or output; then its processes are killed. 0
        for ever.
        """,
    )
    memory_bytes: int = option(
        0,
        at_least=0,
        shown="not limited",
        doc="""
        Memory of an attempt's own, over all its processes; what was there when its runner was forked is
        shared and not counted. Kept by the cgroup where there is one, else looked at four times a second.
        """,
    )
    cpu_ms: int = option(0, at_least=0, doc="CPU time of an attempt, over all its processes. 0 for any.")
    cpus: float = option(
        0.0,
        kind=NUMBER,
        at_least=0,
        check=lambda cpus: "the kernel keeps 0.01 at least" if 0 < cpus < 0.01 else None,
        doc="""
        How many cores an attempt may keep busy at a time, over all its processes: 0.5, 1.5. Above that it
        waits, also while cores are idle. Kept by the cgroup of its runner; without one by nobody, and the log
        says so. 0 for any number.
        """,
    )
    cpu_weight: int = option(
        0,
        at_least=0,
        at_most=10_000,
        doc="""
        Its share of the CPU when all cores are busy, beside 100 of a runner that says nothing and 1000 of the
        master. Kept by the cgroup of its runner; without one by nobody, and the log says so. 0 for 100.
        """,
    )
    processes: int = option(
        0,
        at_least=0,
        doc="How many processes and threads an attempt may have at a time. 0 for any number.",
    )
    open_files: int = option(0, at_least=0, doc="Descriptors of one process. 0 for the host's limit.")
    file_size_bytes: int = option(
        0, at_least=0, shown="not limited", doc="The largest file that an attempt may write."
    )
    output_bytes: int = option(
        0,
        at_least=0,
        shown="not limited",
        doc="What an attempt may print. More ends it; the log shows what came before.",
    )
    result_bytes: int = option(
        16 * 1024 * 1024,
        at_least=1,
        at_most=63 * 1024 * 1024,
        per_queue=False,
        doc="Largest encoded result, progress value or new data of a job. A larger one fails the job.",
    )
    fresh: bool | None = option(
        None,
        kind=SWITCH,
        shown="false, in strict true",
        doc="A process of its own for every job. Costs a fork each; nothing of one job is there in the next.",
    )
    network: bool = option(False, per_queue=False, doc="In strict: may sockets of the network be made.")
    unix_sockets: bool = option(False, per_queue=False, doc="In strict: may unix sockets be made.")
    pid_namespace: bool = option(
        False,
        per_queue=False,
        doc="""
        In strict: a runner can name no process but its own, so it can signal none, whatever the kernel's age.
        About 1 ms a runner.
        """,
    )
    user: str = option(
        "",
        per_queue=False,
        shown="the master's own",
        doc="""
        The user that runners become: a name or a number. Needs a master that is root; in strict such a master
        must name one.
        """,
    )
    readable: tuple[str, ...] = option(
        (), kind=TEXTS, per_queue=False, doc="In strict: paths that may be read besides what Python needs."
    )
    writable: tuple[str, ...] = option(
        (),
        kind=TEXTS,
        per_queue=False,
        doc="In strict: paths that may be written besides the job's own directory.",
    )
    require: tuple[str, ...] = option(
        (),
        kind=TEXTS,
        per_queue=False,
        doc="Layers without which nothing is run, whatever the profile; `oxherd doctor` lists them.",
    )
    max_crashes: int = option(
        2,
        at_least=1,
        doc="""
        How many attempts of a job may end by a crash (a fault in C, an exit, over a limit other than wall
        time) before it fails for good with its verdicts. Never more than its attempts.
        """,
    )
    on_memory: str | None = option(
        None,
        choices=("bigger",),
        shown="as any crash",
        doc="""
        bigger: a job that hit its memory limit is run once more, with twice as much, and no attempt counted.
        Alone: the master lets what runs end and fetches nothing on any queue until it is over. If it fails
        all the same, its further attempts, which count, have twice as much too, and run alone.
        """,
    )

    def mistakes(self) -> Mapping[str, str]:
        if 0 < self.timeout_ms <= self.soft_timeout_ms:
            return {"soft_timeout_ms": "it would never be reached: the hard timeout comes first"}
        return _NOTHING


class RecycleConfig(Section):
    """[recycle] When a runner is replaced, the new one ready before the old one goes."""

    jobs: int = option(0, at_least=0, doc="After so many jobs. 0 for any number.")
    age_ms: int = option(0, at_least=0, doc="After so long. 0 for ever.")
    growth_bytes: int = option(
        0,
        at_least=0,
        shown="any",
        doc="When it has grown by so much since its third job.",
    )
    idle_ms: int = option(0, at_least=0, doc="After so long without a job, to give memory back. 0 for never.")
    jitter: int = option(
        10,
        at_least=0,
        at_most=50,
        doc="By how many percent each of these differs from runner to runner, so that not all go at once.",
    )
