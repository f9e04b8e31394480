"""Numbers in Prometheus' text form, under BullMQ's names, so that one dashboard fits both.

Pure: it is told the numbers. One text is one queue; Prometheus scrapes each by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from supervisor.errors import UsageError
from supervisor.protocol import fields
from supervisor.protocol.given import shown

_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS: Final = ("queue", "state")


def check_labels(labels: Mapping[str, str]) -> None:
    for name in labels:
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or name in _OURS:
            raise UsageError(f"{shown(name)} cannot be the name of a label of yours")


def exposition(
    queue: str, counts: Mapping[str, int], totals: Mapping[str, int], labels: Mapping[str, str]
) -> str:
    """`counts` by state, and `totals` of jobs that completed and failed. No line feed at the end."""
    more = "".join(f', {name}="{_escaped(value)}"' for name, value in labels.items())
    named = f'queue="{_escaped(queue)}"'
    lines = [
        "# HELP bullmq_job_count Number of jobs in the queue by state",
        "# TYPE bullmq_job_count gauge",
        *(f'bullmq_job_count{{{named}, state="{state}"{more}}} {counts[state]}' for state in fields.STATES),
    ]
    for outcome in fields.FINISHED:
        name = f"bullmq_job_{outcome}_total"
        lines += [
            f"# HELP {name} Total number of {outcome} jobs",
            f"# TYPE {name} counter",
            f"{name}{{{named}{more}}} {totals[outcome]}",
        ]
    return "\n".join(lines)


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
