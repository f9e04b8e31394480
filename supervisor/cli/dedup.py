"""`--dedup-...`: the deduplication of a job, as flags. docs/how-to/deduplicate.md tells the modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from supervisor.cli.values import DURATION
from supervisor.errors import UsageError
from supervisor.protocol.deduplication import Deduplication

Command = TypeVar("Command", bound=Callable[..., Any])

_FLAGS: Final = {
    "dedup_ttl": "--dedup-ttl",
    "dedup_extend": "--dedup-extend",
    "dedup_replace": "--dedup-replace",
    "dedup_keep_last": "--dedup-keep-last",
    "dedup_reschedule": "--dedup-reschedule",
}
_NOT_BOTH: Final = (
    ("dedup_keep_last", "dedup_ttl", "with --dedup-keep-last the id stands until its job has ended"),
    ("dedup_replace", "dedup_reschedule", "the delayed job either makes room or moves"),
)


def dedup_options(command: Command) -> Command:
    """The flags; the command gets their values as `dedup_...`."""
    for option in (
        click.option(
            "--dedup-reschedule",
            is_flag=True,
            help="with --dedup-id: the delayed one becomes due as this would",
        ),
        click.option(
            "--dedup-keep-last", is_flag=True, help="with --dedup-id: while the other runs the latest is kept"
        ),
        click.option("--dedup-replace", is_flag=True, help="with --dedup-id: the delayed one makes room"),
        click.option("--dedup-extend", is_flag=True, help="with --dedup-ttl: each job begins it anew"),
        click.option(
            "--dedup-ttl",
            type=DURATION,
            metavar="DURATION",
            help="the --dedup-id stands so long (default: until its job has ended)",
        ),
        click.option("--dedup-id", metavar="ID", help="while a job with this id stands no other is added"),
    ):
        command = option(command)
    return command


def taken_deduplication(given: dict[str, Any]) -> Deduplication | None:
    """Take the flags out of `given`; raises `UsageError` where they make no sense together."""
    dedup_id = given.pop("dedup_id")
    said = {name: given.pop(name) for name in _FLAGS}
    named = [flag for name, flag in _FLAGS.items() if said[name] not in (None, False)]
    if dedup_id is None:
        if named:
            raise UsageError(f"{named[0]} says more about --dedup-id, which is missing; nothing was added")
        return None
    if not dedup_id:
        raise UsageError("--dedup-id is empty; nothing was added")
    for first, second, why in _NOT_BOTH:
        if _FLAGS[first] in named and _FLAGS[second] in named:
            raise UsageError(f"{_FLAGS[first]} and {_FLAGS[second]} contradict each other: {why}")
    if said["dedup_ttl"] == 0:
        raise UsageError("--dedup-ttl is 0: leave it out, and the id stands until its job has ended")
    if said["dedup_extend"] and said["dedup_ttl"] is None:
        raise UsageError("--dedup-extend begins the time anew that --dedup-ttl says, and that is missing")
    return Deduplication(
        dedup_id,
        ttl_ms=said["dedup_ttl"],
        extend=said["dedup_extend"],
        replace=said["dedup_replace"],
        keep_last_if_active=said["dedup_keep_last"],
        reschedule=said["dedup_reschedule"],
    )
