"""What jobs need: how long attempts took and what they used, by name, since the master's start.

For `oxherd recommend`. Decides what counts: an attempt that was cut off tells only that it needed more, and
is counted apart. An attempt of less than 20 ms is only counted.

Reads    attempts whose outcome is written
Tells    the verb `needs`
"""

from __future__ import annotations

from typing import Any, Final

from supervisor.master.attempt import Attempt
from supervisor.master.verdicts import cause_of
from supervisor.observe.spread import Spread

SHORT_S: Final = 0.020
MOST_NAMES: Final = 200  # producers choose names; those beyond are counted together, under None
SPREADS: Final = ("ran_ms", "cpu_ms", "peak_bytes", "processes")


class _Of:
    """The jobs of one name."""

    __slots__ = ("cut_off", "short", "spreads")

    def __init__(self) -> None:
        self.short = 0
        self.cut_off: dict[str, int] = {}  # by cause
        self.spreads = {name: Spread() for name in SPREADS}


class Needs:
    """One a queue."""

    def __init__(self) -> None:
        self._known: dict[str | None, _Of] = {}

    def ended(self, attempt: Attempt) -> None:
        """An attempt's outcome is written."""
        name = attempt.job.name
        known = self._known.get(name) or self._of(name)
        ran_s = attempt.ended_at - attempt.started_at
        if ran_s < SHORT_S:
            known.short += 1
            return
        if not attempt.started_at:
            return
        cause = cause_of(attempt.verdict) if attempt.verdict is not None else None
        if cause is not None:
            known.cut_off[str(cause)] = known.cut_off.get(str(cause), 0) + 1
            return
        spreads = known.spreads
        spreads["ran_ms"].add(round(ran_s * 1000))
        if attempt.used is not None:
            spreads["cpu_ms"].add(max(attempt.cpu_ms, attempt.used.user_ms + attempt.used.system_ms))
        if attempt.peak_bytes:
            spreads["peak_bytes"].add(attempt.peak_bytes)
        if attempt.processes:
            spreads["processes"].add(attempt.processes)

    def _of(self, name: str) -> _Of:
        return self._known.setdefault(name if len(self._known) < MOST_NAMES else None, _Of())

    def plain(self) -> list[dict[str, Any]]:
        """As JSON values, one of each name."""
        return [
            {
                "name": name,
                "short": known.short,
                "cut_off": known.cut_off,
                **{each: spread.plain() for each, spread in known.spreads.items()},
            }
            for name, known in self._known.items()
        ]
