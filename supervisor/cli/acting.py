"""What the subcommands share that do something to jobs, one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from supervisor.cli.render import Report, as_json, clean, columns_of, padded
from supervisor.cli.session import Session
from supervisor.client.queue import Queue
from supervisor.errors import JobError, JobNotFound, JobNotInState
from supervisor.protocol import fields

# What is done to one job; its return value says what became of it, a `JobError` why nothing did.
Act = Callable[[Queue, str], Awaitable[str]]


async def act_on(session: Session, queue_name: str, job_ids: Sequence[str], act: Act) -> int:
    """Do it to each job and say what became of it; 1 if for one of them nothing did."""
    status = 0
    width = max(columns_of(clean(job_id)) for job_id in job_ids)
    with Report() as report:
        async with session.queue(queue_name) as queue:
            for job_id in dict.fromkeys(job_ids):
                try:
                    said, done = await act(queue, job_id), True
                except JobError as error:
                    said, done, status = await _why_not(queue, job_id, error), False, 1
                if session.json:
                    record = {"queue": queue_name, "id": job_id, "done": done, "outcome": said}
                    report.out(as_json(record))
                else:
                    report.out(f"{padded(clean(job_id), width)}  {clean(said)}")
    return status


async def _why_not(queue: Queue, job_id: str, error: JobError) -> str:
    """The scripts' own texts name scripts; who typed an id wants to know what the job is instead."""
    if not isinstance(error, JobNotFound | JobNotInState):
        return str(error)
    state = await queue.state(job_id)
    return "there is no such job" if state == fields.UNKNOWN else f"left as it is: {state}"
