"""What is done to a queue as a whole, to many of its jobs at once, and to its deduplication ids.

Each function makes an action that a queue carries out: `await queue.run(retry_all())`, the same without await
in the blocking client. What takes many jobs goes in slices of some milliseconds, so that others have their
turn with Redis between them: what happens to the queue meanwhile stands beside it, not before or after.
"""

from __future__ import annotations

from supervisor.client.core import Action, Context, ask
from supervisor.protocol.commands.deduplication import GetDeduplicationOwner, RemoveDeduplication
from supervisor.protocol.steps import Steps

# --- deduplication ------------------------------------------------------------------------------------


def deduplication_owner(deduplication_id: str) -> Action[str | None]:
    """The id of the job that stands for a deduplication id; None when the next one would be added."""

    def steps(context: Context) -> Steps[str | None]:
        return ask(GetDeduplicationOwner(context.keys, deduplication_id))

    return steps


def remove_deduplication(deduplication_id: str, *, job_id: str | None = None) -> Action[bool]:
    """Let a deduplication id go, whosever it is, so that the next job of it is added; whether it was there.

    job_id   only if this job owns it.
    """

    def steps(context: Context) -> Steps[bool]:
        return ask(RemoveDeduplication(context.keys, deduplication_id, job_id or ""))

    return steps
