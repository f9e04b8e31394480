"""When a runner has served long enough: by jobs, age, growth and idle time.

Decides only that, and says why. How it is replaced is `succession.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import msgspec

from sandbox.policy import size_text
from supervisor.config.policy import RecycleConfig

WARM_AFTER_JOBS: Final = 3  # what it has grown by then are imports and caches: a successor needs them too
LOOK_EVERY_S: Final = 1.0  # how often its memory is read, at the end of a job

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Span(msgspec.Struct, frozen=True):
    """How much one runner may serve. 0 is no limit."""

    jobs: int = 0
    age_s: float = 0.0
    growth_bytes: int = 0
    idle_s: float = 0.0


def span_of(config: RecycleConfig, rng: Callable[[], float]) -> Span | None:
    """The span of one runner, each limit a little more or less than configured; None for no limit at all."""
    if not (config.jobs or config.age_ms or config.growth_bytes or config.idle_ms):
        return None

    def jittered(value: float) -> float:
        return value * (1 + config.jitter / 100 * (2 * rng() - 1))

    return Span(
        jobs=max(1, round(jittered(config.jobs))) if config.jobs else 0,
        age_s=jittered(config.age_ms / 1000),
        growth_bytes=round(jittered(config.growth_bytes)),
        idle_s=jittered(config.idle_ms / 1000),
    )


def private_bytes(pid: int) -> int | None:
    """Memory of a process that no file stands behind; None when it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        _, resident, shared, *_ = os.read(fd, 256).split()
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    return (int(resident) - int(shared)) * _PAGE_BYTES


class Wear:
    """What one runner has served so far, against its span."""

    def __init__(self, span: Span, pid: int, now: float) -> None:
        self._span = span
        self._pid = pid
        self._born_at = now
        self._idle_since = now
        self._looked_at = 0.0
        self._warm_bytes: int | None = None  # what it had when it was warm
        self.jobs = 0

    def after_job(self, now: float) -> str | None:
        """A job is done. Why it should be the last, if so."""
        self.jobs += 1
        self._idle_since = now
        if 0 < self._span.jobs <= self.jobs:
            return f"it has served {self.jobs} jobs"
        return self._grown(now) or self._aged(now)

    def while_idle(self, now: float) -> str | None:
        """It has no job. Why it should have none any more; a runner that has had none is as good as new."""
        if not self.jobs:
            return None
        if 0 < self._span.idle_s <= now - self._idle_since:
            return f"it has been idle for {now - self._idle_since:.0f} s"
        return self._aged(now)

    def _aged(self, now: float) -> str | None:
        if 0 < self._span.age_s <= now - self._born_at:
            return f"it is {now - self._born_at:.0f} s old"
        return None

    def _grown(self, now: float) -> str | None:
        if not self._span.growth_bytes or self.jobs < WARM_AFTER_JOBS:
            return None
        if self._warm_bytes is None:
            self._warm_bytes = private_bytes(self._pid)
            return None
        if now - self._looked_at < LOOK_EVERY_S:
            return None
        self._looked_at = now
        grown = (private_bytes(self._pid) or 0) - self._warm_bytes
        if grown < self._span.growth_bytes:
            return None
        return f"it has grown by {size_text(grown)} in {self.jobs - WARM_AFTER_JOBS} jobs"
