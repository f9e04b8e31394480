"""Counters: how often each event of the catalogue has happened, by queue.

They count what is logged, at any level, so that log and numbers cannot disagree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from supervisor.observe.catalogue import CATALOGUE


class Counters:
    """A hook for the log (`log.hooked(counters)`). An event without a queue counts under the empty name."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        if event in CATALOGUE:
            self._counts[event, fields.get("queue", "")] += 1

    def of(self, event: str, queue: str | None = None) -> int:
        """How often `event` happened, in `queue` or anywhere."""
        if queue is not None:
            return self._counts[event, queue]
        return sum(count for (name, _), count in self._counts.items() if name == event)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Event -> queue -> count, for what has happened at all."""
        result: dict[str, dict[str, int]] = {}
        for (event, queue), count in sorted(self._counts.items()):
            result.setdefault(event, {})[queue] = count
        return result
