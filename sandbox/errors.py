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


class BreakerOpen(Delayed):
    """A circuit breaker lets nobody in now: the job is put back and no attempt is counted. Let it pass."""

    def __init__(self, delay_ms: int, breaker: str) -> None:
        super().__init__(delay_ms)
        self.breaker = breaker


class RateLimited(Exception):
    """Put the job back at the front and take nothing from its queue for `delay_ms` milliseconds.

    No attempt is counted. The pause binds every worker of the queue that has a limiter, and this master.
    """

    def __init__(self, delay_ms: int) -> None:
        if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or delay_ms < 0:
            raise ValueError("RateLimited: delay_ms must be a whole number of milliseconds, 0 or more")
        self.delay_ms = delay_ms
        super().__init__(f"rate limited for {delay_ms} ms")


class RetryAfter(Exception):
    """This attempt has failed; make the next, if there is one, `retry_after_ms` milliseconds from now.

    The job's own backoff is left aside this once. Any exception that has an attribute `retry_after_ms`, a
    whole number, is taken the same way.
    """

    def __init__(self, retry_after_ms: int, message: str = "") -> None:
        if not isinstance(retry_after_ms, int) or isinstance(retry_after_ms, bool) or retry_after_ms < 0:
            raise ValueError("RetryAfter: retry_after_ms must be a whole number of milliseconds, 0 or more")
        self.retry_after_ms = retry_after_ms
        super().__init__(message or f"to be tried again after {retry_after_ms} ms")


class WaitingChildren(Exception):
    """Wait until the children this job has added are done, then run it again."""


class SagaFailed(Exception):
    """A step of a saga failed, and not all that was done before could be undone.

    why          what the step's exception said
    not_undone   each compensation that failed: the step's name, and what was wrong
    """

    def __init__(self, why: str, not_undone: list[str]) -> None:
        self.why = why
        self.not_undone = not_undone
        super().__init__(f"{why}; and could not be undone: {'; '.join(not_undone)}")


class SagaFailedForGood(SagaFailed, Unrecoverable):
    """The same after `Unrecoverable`: the job is not tried again."""


class TimeLimit(BaseException):
    """The soft time limit is over. A BaseException, so that `except Exception` does not swallow it.

    Best effort by nature: it is raised at the next Python instruction, so code inside C finishes first. The
    hard limit, kept by the master, does not depend on it.
    """


class Cancelled(BaseException):
    """Somebody has cancelled this job (`oxherd cancel`, `Queue.cancel`): clean up and let it pass.

    Raised in the processor's main thread when it has not ended by itself within `cancel_grace`; in an `async
    def` processor its task is cancelled instead, so `asyncio.CancelledError` is raised. May be raised by the
    processor too, when it sees `job.cancelled`. The job then fails for good, whatever its `attempts` say; if
    it was only its master that stops, it goes back to its queue unharmed. A BaseException, so that `except
    Exception` does not swallow it.
    """


class LoadError(Exception):
    """A target cannot be loaded; the message is one sentence for the user."""


class AskFailed(Exception):
    """The master could not do what the processor asked (`job.add`, `job.children_values`); it says why."""
