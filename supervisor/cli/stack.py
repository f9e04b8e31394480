"""`oxherd stack`: what a running job is doing, thread by thread."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli import masters
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, note, out, span
from supervisor.errors import MasterNotFound
from supervisor.protocol.given import check_job_ref
from supervisor.protocol.validate import check_queue_name


@command(
    "stack",
    exits="0 done, 1 it does not run here, or its runner does not answer, 2 wrong usage or config",
    example="oxherd stack thumbnails 17",
)
@click.argument("queue")
@click.argument("job_id", metavar="ID")
def stack(common: Common, queue: str, job_id: str) -> int:
    """Show the Python stacks of all threads of the runner that has the job ID of QUEUE, innermost call first.

    The job goes on unharmed, and needs not cooperate: the stacks are written by a handler in C, also out of a
    loop in C code that holds the GIL. Only masters of this host are asked.
    """
    found = _found(common, queue, job_id)
    if common.json:
        out(as_json({"queue": queue, "id": job_id, **found}))
        return 0 if found["stack"] else 1
    running, attempt = span(found["running_ms"]), found["attempt"]
    out(f"job {clean(queue)}/{clean(job_id)}, attempt {attempt}, running {running} in {found['runner']}")
    for line in stack_lines(found):
        out(line)
    if not found["stack"]:
        note(f"oxherd: no stack: {found['no_stack']}")
        return 1
    return 0


def stack_lines(found: dict[str, Any]) -> list[str]:
    """For people; a stranger's text, so no terminal obeys it."""
    lines = [clean(line) if line.strip() else "" for line in str(found["stack"]).splitlines()]
    others = len(found["jobs"]) - 1
    if others:
        names = ", ".join(clean(str(each)) for each in found["jobs"])
        lines.insert(
            0, f"this runner has {others + 1} jobs at work ({names}), and these are all its threads:"
        )
    return lines


def _found(common: Common, queue: str, job_id: str) -> dict[str, Any]:
    check_queue_name(queue)
    check_job_ref(job_id)
    there = masters.running(common)
    if not there:
        masters.the_one(common)  # says so
    for master in there:
        found = masters.ask(master, "stack", queue=queue, id=job_id)
        if found.pop("found"):
            return {"master": master.pid, **found}
    raise MasterNotFound(
        f"no runner of yours on this host has the job {job_id} of {queue} now; "
        f"oxherd job {queue} {job_id} tells its state"
    )
