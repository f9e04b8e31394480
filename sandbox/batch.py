"""What the jobs of a batch have returned, in the order of its items.

The places stand in the jobs' ids (`<batch>-<place>-of-<total>`, as client/batches.py writes them): a parent
knows its children by their keys alone. Children that are not of the batch are left aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any


class ItemFailed(Exception):
    """What stands in the results of a batch for a job that failed, or that was removed. Its text says why.

    place   which item or chunk of the batch it was, from 0
    """

    def __init__(self, place: int, reason: str) -> None:
        self.place = place
        super().__init__(reason)


def results(batch_id: str, found: dict[str, Any]) -> list[Any]:
    """`found` are the children of the collector, as `Job.dependencies` gives them."""
    known: dict[int, Any] = {}
    total = 0
    for place, size, outcome in _outcomes(batch_id, found):
        known[place] = outcome
        total = max(total, size)
    return [known.get(place, ItemFailed(place, "its job was removed")) for place in range(total)]


def _outcomes(batch_id: str, found: dict[str, Any]) -> Iterator[tuple[int, int, Any]]:
    of_batch = re.compile(rf":{re.escape(batch_id)}-([0-9]+)-of-([0-9]+)$")

    def placed(keys: Any) -> Iterator[tuple[str, int, int]]:
        for key in keys:
            match = of_batch.search(key)
            if match and 1 <= int(match[1]) <= int(match[2]):
                yield key, int(match[1]) - 1, int(match[2])

    for key, place, size in placed(found["processed"]):
        yield place, size, found["processed"][key]
    for key, place, size in placed(found["ignored"]):
        yield place, size, ItemFailed(place, found["ignored"][key])
    for group, reason in (("failed", "its job failed"), ("unprocessed", "its job is pending")):
        for _, place, size in placed(found[group]):
            yield place, size, ItemFailed(place, reason)
