"""Cancelling a job, whatever it does: the action behind `Queue.cancel`.

What a master does with the request is not decided here; nor is who may ask: whoever may write to Redis.
"""

from __future__ import annotations

import getpass
import socket

from supervisor.client.core import Action, Context
from supervisor.client.job import Job
from supervisor.errors import UsageError
from supervisor.protocol.commands.cancel import FAILED_BY_IT, CancelJob, new_request
from supervisor.protocol.given import check_job_ref, check_text, kind
from supervisor.protocol.steps import Steps

ASKED = "asked"
CANCELLED = "cancelled"


def cancel(job: Job | str, reason: str = "", *, by: str | None = None) -> Action[str]:
    """What `Queue.cancel` does.

    by   who asks, for the job's failed reason; the user and host of this process if not given.
    """
    job_id = job.id if isinstance(job, Job) else job
    check_job_ref(job_id)
    who = _myself() if by is None else by
    for value, what in ((reason, "the reason"), (who, "by")):
        _check(value, what)

    def steps(context: Context) -> Steps[str]:
        now_ms = context.clock()
        code = yield CancelJob(context.keys, job_id, new_request(reason, who, now_ms), now_ms)
        return CANCELLED if code == FAILED_BY_IT else ASKED

    return steps


def _check(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{what} is text, not {kind(value)}; nothing was cancelled")
    check_text(value, what)


def _myself() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        user = ""
    return f"{user}@{socket.gethostname()}".removeprefix("@")
