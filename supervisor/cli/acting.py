"""What the subcommands share that do something to jobs, one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from supervisor.cli.render import as_json, clean, out
from supervisor.cli.session import Session
from supervisor.client.queue import Queue
from supervisor.errors import JobError

# What is done to one job; its return value says what became of it, a `JobError` why nothing did.
Act = Callable[[Queue, str], Awaitable[str]]


async def act_on(session: Session, queue_name: str, job_ids: Sequence[str], act: Act) -> int:
    """Do it to each job and say what became of it; 1 if for one of them nothing did."""
    status = 0
    async with session.queue(queue_name) as queue:
        for job_id in dict.fromkeys(job_ids):
            try:
                said, done = await act(queue, job_id), True
            except JobError as error:
                said, done, status = str(error), False, 1
            if session.json:
                out(as_json({"queue": queue_name, "id": job_id, "done": done, "outcome": said}))
            else:
                out(f"{clean(job_id)}  {clean(said)}")
    return status
