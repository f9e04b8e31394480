"""Thresholds: how much waiting, failing and aging is still all right, and which of it is passed now.

`await queue.run(alerts(Thresholds(max_waiting=1_000)))`, the same without await in the blocking client. What
each means is decided in protocol/thresholds.py, for `oxherd status --check` and the master's warnings too.
"""

from __future__ import annotations

from supervisor.client.core import Action, Context
from supervisor.errors import UsageError
from supervisor.protocol.given import kind, whole
from supervisor.protocol.steps import Steps
from supervisor.protocol.thresholds import Alert, Thresholds, oldest_due_on, passed

__all__ = ["Alert", "Thresholds", "alerts", "oldest_due_on"]


def alerts(thresholds: Thresholds) -> Action[list[Alert]]:
    """What is wrong with the queue, one alert for each threshold that is passed."""
    _check(thresholds)

    def steps(context: Context) -> Steps[list[Alert]]:
        return (yield from passed(context.keys, thresholds, context.clock()))

    return steps


def _check(thresholds: Thresholds) -> None:
    if not isinstance(thresholds, Thresholds):
        raise UsageError(f"what is still all right is said by Thresholds, not {kind(thresholds)}")
    for name in ("max_waiting", "max_age_ms"):
        if getattr(thresholds, name) is not None:
            whole(0)(name, getattr(thresholds, name))
    share = thresholds.max_failed_share
    if share is not None and (
        isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1
    ):
        raise UsageError("max_failed_share is a share, between 0 and 1")
