"""One attempt: a fetched job on its way through a runner. A record; it decides nothing."""

from __future__ import annotations

import asyncio
import os

import msgspec

from sandbox.policy import Limits
from supervisor.master.evidence import Evidence
from supervisor.master.messages import Used
from supervisor.master.runner import Runner
from supervisor.master.verdicts import Verdict
from supervisor.protocol.commands.cancel import CancelRequest
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.job_options import JobOptions

NO_OPTIONS = JobOptions()
NO_LIMITS = Limits()


def new_number() -> int:
    """What the frames of one attempt carry (sandbox/wire.py): 32 random bits, never 0."""
    return int.from_bytes(os.urandom(4)) or 1


class Attempt(msgspec.Struct, eq=False):
    """From the fetch to the written outcome.

    number     what its frames carry; nobody who is not told can name it.
    runner     who has it; None before and after.
    delivered  the job has reached its runner, as far as can be known.
    ahead      it was sent while another was at work: only its permit tells whether it has begun.
    verdict    the first fact that decided it (I4); later facts change nothing.
    ended_at   monotonic seconds of that fact.
    cancel     who wants that it ends, once that was asked.
    alone      it met its memory limit before: it runs with twice as much, and nothing beside it.
    limits     those it was started under.
    heard_at   monotonic seconds of its last word, while silence is limited.
    used       what its runner says that it has used; None for a short one, and where several were in one.

    peak_bytes, cpu_ms and processes (with threads) are the most that was seen of its whole tree; 0 where
    nobody looked.
    """

    job: FetchedJob
    fetched_at: float
    options: JobOptions = NO_OPTIONS
    number: int = msgspec.field(default_factory=new_number)
    runner: Runner | None = None
    delivered: bool = False
    ahead: bool = False
    started_at: float = 0.0
    ended_at: float = 0.0
    verdict: Verdict | None = None
    cancel: CancelRequest | None = None
    cpu_from_ns: int = 0  # CPU time of its runner before it
    evidence: Evidence | None = None  # of an abnormal end
    last_progress: bytes | None = None
    alone: bool = False
    limits: Limits = NO_LIMITS
    heard_at: float = 0.0
    peak_bytes: int = 0
    cpu_ms: int = 0
    processes: int = 0
    used: Used | None = None
    figures: dict[str, int] | None = None  # what was measured of one that told what it used
    guilty: bool = False  # an outcome of it was refused as GUILTY already
    deadline: asyncio.TimerHandle | None = None
    progress: bytes | None = None  # newest value not yet sent to Redis
    progress_at: float = 0.0
    progress_timer: asyncio.TimerHandle | None = None
    ahead_bytes: int = 0  # what it said and Redis has not taken yet
    paused: bool = False  # its runner is not read until Redis has taken more
    asks: set[asyncio.Task[None]] = msgspec.field(default_factory=set)

    def has_used(self, used: Used) -> None:
        """Its runner has told."""
        self.used = used
        self.cpu_ms = max(self.cpu_ms, used.user_ms + used.system_ms)
        self.peak_bytes = max(self.peak_bytes, used.peak_bytes or 0)
