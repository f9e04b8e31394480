"""What a processor may raise to end otherwise than by returning or failing."""

from __future__ import annotations


class Unrecoverable(Exception):
    """Fail the job now, whatever its `attempts` say."""


class Delayed(Exception):
    """Put the job back and run it again after `delay_ms` milliseconds. No attempt is counted."""

    def __init__(self, delay_ms: int) -> None:
        if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or delay_ms < 0:
            raise ValueError("Delayed: delay_ms must be a whole number of milliseconds, 0 or more")
        self.delay_ms = delay_ms
        super().__init__(f"delayed for {delay_ms} ms")


class RateLimited(Exception):
    """Put the job back at the front and take nothing from its queue for `delay_ms` milliseconds.

    No attempt is counted. The pause binds every worker of the queue that has a limiter, and this master.
    """

    def __init__(self, delay_ms: int) -> None:
        if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or delay_ms < 0:
            raise ValueError("RateLimited: delay_ms must be a whole number of milliseconds, 0 or more")
        self.delay_ms = delay_ms
        super().__init__(f"rate limited for {delay_ms} ms")


class WaitingChildren(Exception):
    """Wait until the children this job has added are done, then run it again."""


class TimeLimit(BaseException):
    """The soft time limit is over. A BaseException, so that `except Exception` does not swallow it.

    Best effort by nature: it is raised at the next Python instruction, so code inside C finishes first. The
    hard limit, kept by the master, does not depend on it.
    """


class LoadError(Exception):
    """A target cannot be loaded; the message is one sentence for the user."""


class AskFailed(Exception):
    """The master could not do what the processor asked (`job.add`, `job.children_values`); it says why."""
