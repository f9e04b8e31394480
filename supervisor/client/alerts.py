"""Thresholds, asked by a client. What they mean is said in `protocol/thresholds.py`."""

from __future__ import annotations

from supervisor.client.core import Action, Context
from supervisor.protocol.steps import Steps
from supervisor.protocol.thresholds import Alert, Thresholds, oldest_due_on, passed

__all__ = ["Alert", "Thresholds", "alerts", "oldest_due_on"]


def alerts(thresholds: Thresholds) -> Action[list[Alert]]:
    """What is wrong with the queue, one alert for each threshold that is passed."""

    def steps(context: Context) -> Steps[list[Alert]]:
        return (yield from passed(context.keys, thresholds, context.clock()))

    return steps
