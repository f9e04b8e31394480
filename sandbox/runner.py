"""The runner: isolates itself, waits for GO, then runs one job at a time until it is told to leave.

It decides nothing about jobs. Its exit code is 0 when it was told to leave or the master has gone, 70 when
something of ours broke, 1 when it had to import for itself and could not; any other end is the user's code.

Reads    GO, START, NEXT, ANSWER, CANCEL, LEAVE, TELL, SEAT from the link
Writes   READY once, then per job PROGRESS, LOG, DATA, ASK, LEFT if it left something, USED if it took a
         while, and one outcome, or SKIPPED; TOLD when it is asked
Rule     I6: own isolation is complete before the first byte of the job is read. I8: nothing is sent before
         GO.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from sandbox import codec, faults, rlimits
from sandbox.ahead import Output, take_permit
from sandbox.alarm import SoftLimit
from sandbox.attempt import EXIT_INTERNAL, Attempts, flush_output
from sandbox.errors import LoadError
from sandbox.hygiene import Findings, Hygiene
from sandbox.isolation import (
    Inherited,
    Isolated,
    IsolationRefused,
    expected,
    isolate_runner,
    refuse_runner,
    rehearse,
)
from sandbox.jobdir import Home
from sandbox.layers import Layer
from sandbox.link import Link, cut_start
from sandbox.policy import Limits, Policy
from sandbox.processors import Processor, identity_of
from sandbox.titles import percentage
from sandbox.usage import JobMeter, own_figures
from sandbox.wire import HALTED, MOST_US, NOTE_US_SHIFT, Kind

EXIT_NOT_LOADED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What every new runner has from its template: made once, because each object that is made or looked at
    after a fork is a page of memory that is copied.

    kept_fds    what stays open: the descriptors that the user's module opened at import
    load        its processors: what the template has imported, or a bare one's runner imports now
    identity    of what the template has imported; empty for a bare one
    inherited   the template's isolation, reported with the runner's own
    own         the runner's own layers where none is refused; None when that were not enough
    layers      all of them, as READY tells them
    """

    kept_fds: frozenset[int]
    master_pid: int
    policy: Policy
    load: Callable[[], Sequence[Processor]]
    identity: str
    inherited: Inherited
    own: Sequence[Layer] | None
    layers: bytes
    set_title: Callable[[str], None]


def birth_of(
    policy: Policy,
    inherited: Inherited,
    *,
    kept_fds: frozenset[int],
    master_pid: int,
    load: Callable[[], Sequence[Processor]],
    identity: str,
    set_title: Callable[[str], None],
) -> Birth:
    """By a template, before it forks."""
    rehearse()
    own = Isolated(expected(policy))
    try:
        refuse_runner(policy, inherited, own)
        enough = True
    except IsolationRefused:
        enough = False
    return Birth(
        kept_fds=kept_fds,
        master_pid=master_pid,
        policy=policy,
        load=load,
        identity=identity,
        inherited=inherited,
        own=own.layers if enough else None,
        layers=_told(inherited, own),
        set_title=set_title,
    )


def _told(inherited: Inherited, own: Isolated) -> bytes:
    return codec.encode([layer.to_json() for layer in (*inherited.layers, *own.layers)])


def live(
    birth: Birth, slot: int, link_fd: int, faults_fd: int | None = None, permits_fd: int | None = None
) -> int:
    """The whole life of a runner; answers its exit code.

    link_fd     its end of the link
    faults_fd   where its faulthandler writes; None: to stderr
    permits_fd  where a permit lies for each job sent ahead (wire.py); None: none is
    """
    kept_fds = birth.kept_fds.union(fd for fd in (link_fd, faults_fd, permits_fd) if fd is not None)
    isolated = isolate_runner(birth.policy, birth.inherited, birth.master_pid, kept_fds)
    if faults_fd is None:
        faults.tell()
    else:
        faults.install(faults_fd)
    if isolated.layers != birth.own:
        try:
            refuse_runner(birth.policy, birth.inherited, isolated)
        except IsolationRefused as refused:
            print(f"oxherd: {refused}", file=sys.stderr, flush=True)
            return EXIT_INTERNAL
        birth = replace(birth, layers=_told(birth.inherited, isolated))
    try:
        processors = birth.load()
    except LoadError as error:
        print(f"{getattr(error, 'traceback', '')}oxherd: {error}", file=sys.stderr, flush=True)
        return EXIT_NOT_LOADED
    _reseed()
    limit = SoftLimit()
    # With its kind, which is asked of the kernel otherwise.
    link = Link(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, link_fd), limit.shield)
    limit.cancel_reason = link.cancel_reason
    limit.hear_cancels()
    link.home = Home(birth.policy.jobs_dir, isolated.directory)
    return serve(birth, processors, limit, link, slot, permits_fd)


def serve(
    birth: Birth,
    processors: Sequence[Processor],
    limit: SoftLimit,
    link: Link,
    slot: int,
    permits_fd: int | None,
) -> int:
    """From GO to the end; answers the exit code. Rehearsed by the template (rehearsal.py)."""
    first = link.next_frame()
    if first is None or first[0] is Kind.LEAVE:
        return 0
    if first[0] is not Kind.GO:
        return _confused(first[0])
    go: dict[str, Any] = codec.decode(first[1])
    policy = birth.policy
    if go.get("limits"):
        policy = Policy.from_json({**policy.to_json(), **go["limits"]})
    title = go.get("title") or f"oxherd: runner {slot}"
    birth.set_title(f"{title} idle")
    identity = birth.identity or identity_of(processors)
    ready = b'{"pid":%d,"identity":%s,"layers":%s}' % (os.getpid(), codec.encode(identity), birth.layers)
    link.send(Kind.READY, ready)
    attempts = Attempts(processors, policy, limit)
    try:
        if go.get("at_once", 1) > 1:
            return _serve_many(link, attempts, birth.set_title, title)
        # Who serves one job takes all that it leaves along; to find it out would take a millisecond.
        hygiene = None if go.get("once") else Hygiene(let_threads_go=attempts.let_threads_go)
        own_user = policy.uid != 0
        serving = OneByOne(link, attempts, birth.set_title, title, hygiene, permits_fd, own_user=own_user)
        return serving.serve()
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


class OneByOne:
    """The jobs of a runner that has one at a time."""

    def __init__(
        self,
        link: Link,
        attempts: Attempts,
        set_title: Callable[[str], None],
        title: str,
        hygiene: Hygiene | None,
        permits_fd: int | None = None,
        *,
        own_user: bool,
    ) -> None:
        self._link = link
        self._attempts = attempts
        self._set_title = set_title
        self._title = title
        self._hygiene = hygiene
        self._permits_fd = permits_fd
        self._own_user = own_user
        self._output = Output()
        self._meter = JobMeter()
        self._halted = False  # by the last job: nothing that was sent ahead of its outcome is begun

    def serve(self) -> int:
        """Until LEAVE; answers the exit code."""
        idle_title = f"{self._title} idle"
        while (found := self._link.next_frame()) is not None:
            kind, body, attempt, _ = found
            if kind is Kind.START or kind is Kind.NEXT:
                self._link.start_job(attempt)
                if kind is Kind.NEXT and not self._may_begin():
                    self._link.send(Kind.SKIPPED, b"")
                    continue
                self._run(body)
                if self._hygiene is None:
                    break  # it serves one job
                self._set_title(idle_title)
            elif kind is Kind.TELL:
                self._link.send(Kind.TOLD, codec.encode(own_figures()))
            elif kind is Kind.LEAVE:
                break
            elif kind is Kind.SEAT:
                self._title = codec.decode(body)["title"]
                idle_title = f"{self._title} idle"
                self._set_title(idle_title)
            elif kind is Kind.GO:
                return _confused(kind)
            # A CANCEL or ANSWER that comes now belongs to a job that has ended.
        flush_output()
        return 0

    def _may_begin(self) -> bool:
        return not self._halted and self._permits_fd is not None and take_permit(self._permits_fd)

    def _run(self, body: bytes) -> None:
        """One job, from its frame to its outcome."""
        began_ns = time.monotonic_ns()
        link = self._link
        meta, raw = cut_start(body)
        busy_title = f"{self._title} {meta['queue']}/{meta['id']}"
        self._set_title(busy_title)
        link.on_progress = lambda value: self._set_title(busy_title + percentage(value))
        self._meter.begin()
        limits = meta.get("limits")
        kept = rlimits.set_for(Limits.from_json(limits), own_user=self._own_user) if limits else ()
        kind, outcome, retire = self._attempts.run(meta, raw, link)
        if kept:
            rlimits.restore(kept)
        flush_output()
        left = tidy(link.home, self._hygiene.look(meta["id"]) if self._hygiene is not None else None)
        if left is not None:
            link.send(Kind.LEFT, codec.encode(left.to_json()))
            retire = retire or left.retire
        if (used := self._meter.end()) is not None:
            link.send_before(Kind.USED, codec.encode(used))
        self._halted = retire or self._output.waits()
        took_us = min((time.monotonic_ns() - began_ns) // 1000, MOST_US)
        link.send(kind, outcome, took_us << NOTE_US_SHIFT | self._halted * HALTED)
        self._meter.rest()


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
