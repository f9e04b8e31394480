"""How numbers are spread: counts in buckets whose width grows with the number, so that a few hundred bytes
tell any percentile to an eighth, whatever the numbers are.

Decides nothing. Spreads of several masters can be added up, which percentiles cannot.
"""

from __future__ import annotations

from math import ceil, frexp, ldexp
from typing import Any, Final

PARTS: Final = 8  # of each doubling


class Spread:
    """`count` numbers, none below 0; `most` is exact."""

    __slots__ = ("_buckets", "count", "most")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.most: float = 0

    def add(self, value: float) -> None:
        part, doublings = frexp(value) if value > 0 else (0.5, 0)
        bucket = doublings * PARTS + int((part - 0.5) * 2 * PARTS)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        if value > self.most:
            self.most = value

    def at(self, share: float) -> float | None:
        """A number that so large a share of them does not pass, an eighth too large at most; None of none."""
        wanted = ceil(share * self.count)
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                doublings, part = divmod(bucket, PARTS)
                return min(self.most, ldexp(0.5 + (part + 1) / (2 * PARTS), doublings))
        return None

    def plain(self) -> dict[str, Any]:
        """As JSON values; `merge` reads it."""
        return {"most": self.most, "buckets": [[bucket, count] for bucket, count in self._buckets.items()]}

    def merge(self, plain: dict[str, Any]) -> None:
        """Those of another, as it has told them."""
        self.most = max(self.most, plain["most"])
        for bucket, count in plain["buckets"]:
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
            self.count += count
