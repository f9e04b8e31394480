"""The runner: isolates itself, waits for GO, then runs one job at a time until it is told to leave.

It decides nothing about jobs. Its exit code is 0 when it was told to leave or the master has gone, 70 when
something of ours broke, 1 when it had to import for itself and could not; any other end is the user's code.

Reads    GO, START, ANSWER, CANCEL, LEAVE, TELL from the link
Writes   READY once, then per job PROGRESS, LOG, DATA, ASK, LEFT if it left something, USED if it took a
         while, and one outcome; TOLD when it is asked
Rule     I6: own isolation is complete before the first byte of the job is read. I8: nothing is sent before
         GO.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sandbox import codec, faults, rlimits
from sandbox.alarm import SoftLimit
from sandbox.attempt import EXIT_INTERNAL, Attempts, flush_output
from sandbox.errors import LoadError
from sandbox.hygiene import Findings, Hygiene
from sandbox.isolation import Inherited, IsolationRefused, isolate_runner, refuse_runner
from sandbox.jobdir import Home
from sandbox.link import Link, cut_start
from sandbox.policy import Limits, Policy
from sandbox.processors import Processor, identity_of
from sandbox.titles import percentage
from sandbox.usage import JobMeter, own_figures
from sandbox.wire import Kind

EXIT_NOT_LOADED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a new runner has from the template.

    link_fd     its end of the link
    faults_fd   where its faulthandler writes; None: to stderr
    kept_fds    what else stays open: the descriptors that the user's module opened at import
    load        its processors: what the template has imported, or a bare one's runner imports now
    inherited   the template's isolation, reported with the runner's own
    """

    link_fd: int
    faults_fd: int | None = None
    kept_fds: frozenset[int]
    slot: int
    master_pid: int
    policy: Policy
    load: Callable[[], Sequence[Processor]]
    inherited: Inherited
    set_title: Callable[[str], None]


def live(birth: Birth) -> int:
    """The whole life of a runner; answers its exit code."""
    faults_fds = set() if birth.faults_fd is None else {birth.faults_fd}
    kept_fds = birth.kept_fds | faults_fds | {birth.link_fd}
    isolated = isolate_runner(birth.policy, birth.inherited, birth.master_pid, kept_fds)
    for fd in faults_fds:
        faults.install(fd)
    try:
        refuse_runner(birth.policy, birth.inherited, isolated)
    except IsolationRefused as refused:
        print(f"oxherd: {refused}", file=sys.stderr, flush=True)
        return EXIT_INTERNAL
    try:
        processors = birth.load()
    except LoadError as error:
        print(f"{getattr(error, 'traceback', '')}oxherd: {error}", file=sys.stderr, flush=True)
        return EXIT_NOT_LOADED
    _reseed()
    limit = SoftLimit()
    link = Link(socket.socket(fileno=birth.link_fd), limit.shield)
    limit.cancel_reason = link.cancel_reason
    limit.hear_cancels()
    link.home = Home(birth.policy.jobs_dir, isolated.directory)
    first = link.next_frame()
    if first is None or first[0] is Kind.LEAVE:
        return 0
    if first[0] is not Kind.GO:
        return _confused(first[0])
    go: dict[str, Any] = codec.decode(first[1])
    policy = birth.policy
    if go.get("limits"):
        policy = Policy.from_json({**policy.to_json(), **go["limits"]})
    title = go.get("title") or f"oxherd: runner {birth.slot}"
    birth.set_title(f"{title} idle")
    reported = [*birth.inherited.layers, *isolated.layers]
    ready = {"pid": os.getpid(), "identity": identity_of(processors)}
    link.send(Kind.READY, codec.encode({**ready, "layers": [layer.to_json() for layer in reported]}))
    attempts = Attempts(processors, policy, limit)
    try:
        if go.get("at_once", 1) > 1:
            return _serve_many(link, attempts, birth.set_title, title)
        # Who serves one job takes all that it leaves along; to find it out would take a millisecond.
        hygiene = None if go.get("once") else Hygiene(let_threads_go=attempts.let_threads_go)
        return _serve(link, attempts, birth.set_title, title, hygiene, own_user=policy.uid != 0)
    finally:
        with suppress(OSError):  # the master looks once more when we are dead
            link.home.remove()


def _reseed() -> None:
    """numpy's global generator is copied by fork: without this every runner draws the same numbers.

    The standard library's `random` does the same by itself.
    """
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _serve(
    link: Link,
    attempts: Attempts,
    set_title: Callable[[str], None],
    title: str,
    hygiene: Hygiene | None,
    *,
    own_user: bool,
) -> int:
    busy_title = title

    def show_progress(value: Any) -> None:
        set_title(busy_title + percentage(value))

    link.on_progress = show_progress
    idle_title = f"{title} idle"
    meter = JobMeter()
    while (found := link.next_frame()) is not None:
        kind, body, attempt = found
        if kind is Kind.START:
            meta, raw = cut_start(body)
            busy_title = f"{title} {meta['queue']}/{meta['id']}"
            set_title(busy_title)
            link.start_job(attempt)
            meter.begin()
            limits = meta.get("limits")
            kept = rlimits.set_for(Limits.from_json(limits), own_user=own_user) if limits else ()
            outcome = attempts.run(meta, raw, link)
            rlimits.restore(kept)
            flush_output()
            left = tidy(link.home, hygiene.look(meta["id"]) if hygiene is not None else None)
            if left is not None:
                link.send(Kind.LEFT, codec.encode(left.to_json()))
            if (used := meter.end()) is not None:
                link.send(Kind.USED, codec.encode(used))
            link.send(*outcome)
            set_title(idle_title)
        elif kind is Kind.TELL:
            link.send(Kind.TOLD, codec.encode(own_figures()))
        elif kind is Kind.LEAVE:
            break
        elif kind is Kind.GO:
            return _confused(kind)
        # A CANCEL or ANSWER that comes now belongs to a job that has ended.
    flush_output()
    return 0


def _serve_many(link: Link, attempts: Attempts, set_title: Callable[[str], None], title: str) -> int:
    import asyncio  # at the top they would cost every runner of plain functions 60 ms

    from sandbox import many

    asyncio.run(many.serve(link, attempts, set_title=set_title, title=title))
    flush_output()
    return 0


def tidy(home: Home, left: Findings | None) -> Findings | None:
    """Empty the job's directory; who leaves in it what cannot be removed leaves a runner to be retired."""
    try:
        home.tidy()
    except OSError as error:
        left = left or Findings()
        left.stays(f"files in its directory that cannot be removed ({error.strerror or error})")
    return left


def _confused(kind: Kind) -> int:
    print(f"oxherd: the runner did not expect a {kind.name} frame", file=sys.stderr, flush=True)
    return EXIT_INTERNAL
