"""Every error the supervising half raises. Imports nothing.

Each class has a `code` that never changes, for logs, metrics and callers; its message says what
happened, what did not happen to the jobs, and what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class OxherdError(Exception):
    """The base of all our errors."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1


# --- the user asked for something that cannot be -------------------------------------------------


class UsageError(OxherdError):
    """A call or a command line that cannot be carried out as written. Nothing was sent."""

    code = "usage"
    exit_status = 2


class ConfigError(UsageError):
    """A setting that is unknown, malformed or out of bounds."""

    code = "config"


class InvalidJob(UsageError):
    """A job that must not be added; nothing was sent to Redis."""

    code = "invalid_job"


class DataTooLarge(InvalidJob):
    """The encoded data of a job is larger than its `size_limit` or the client's limit."""

    code = "data_too_large"


class InvalidOptions(InvalidJob):
    """The stored options of a job cannot be understood."""

    code = "invalid_options"


class InvalidSchedule(UsageError):
    """A schedule that cannot be kept: its pattern, zone or dates. Nothing was sent to Redis."""

    code = "invalid_schedule"


# --- Redis ---------------------------------------------------------------------------------------


class RedisError(OxherdError):
    """Redis was reached and refused, or was not reached."""

    code = "redis"
    exit_status = 3


class RedisUnavailable(RedisError):
    """No answer came. `sent` tells whether the request may have run all the same."""

    code = "redis_unavailable"

    def __init__(self, message: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(message)


class RedisRefused(RedisError):
    """Redis answered with an error; the text is its own."""

    code = "redis_refused"
    exit_status = 1


class NotRepeatable(RedisError):
    """The reply of a call was lost and the old connection could not be killed, so it is not sent again."""

    code = "not_repeatable"


class WrongReply(RedisError):
    """A reply of a shape that no version of the script can give."""

    code = "wrong_reply"


class QueueFull(OxherdError):
    """As many jobs wait as this client allows (`max_waiting`); nothing was added. Try again later."""

    code = "queue_full"

    def __init__(self, message: str, *, waiting: int, max_waiting: int) -> None:
        self.waiting = waiting
        self.max_waiting = max_waiting
        super().__init__(message)


# --- jobs ----------------------------------------------------------------------------------------


class JobError(OxherdError):
    """A script refused an operation on one job. `status` is BullMQ's negative code."""

    code = "job"

    def __init__(self, message: str, *, status: int = 0) -> None:
        self.status = status
        super().__init__(message)


class JobNotFound(JobError):
    """There is no such job: it was never added, or it has been removed. Nothing was changed."""

    code = "job_not_found"


class JobNotInState(JobError):
    """The job is not in the state that the operation needs, or is no longer. Nothing was changed."""

    code = "job_not_in_state"


class LockLost(JobError):
    """The lock of the job is missing or held by another worker."""

    code = "lock_lost"


class JobFailed(JobError):
    """The job that was waited for has failed; the message is its failed reason."""

    code = "job_failed"


class ResultTimeout(OxherdError):
    """The job had not finished when the time to wait was over. The job itself is untouched."""

    code = "result_timeout"


# --- template and runners ------------------------------------------------------------------------


class SandboxError(OxherdError):
    """Template or runner: what runs the processors did not come up, or misbehaved."""

    code = "sandbox"


class TemplateFailed(SandboxError):
    """The processors could not be imported, so there is nothing to fork runners from."""

    code = "template_failed"
    exit_status = 2


class NoRunner(SandboxError):
    """No runner can work: it lacks a required layer of isolation, or dies before it is ready."""

    code = "no_runner"
    exit_status = 2


class BadFrame(SandboxError):
    """A runner sent bytes that are no frame. It is killed (I7)."""

    code = "bad_frame"


# --- a master that runs ---------------------------------------------------------------------------


class MasterNotFound(OxherdError):
    """No master that runs here could be asked; nothing was changed, unless the question was under way."""

    code = "master_not_found"


class MasterRefused(OxherdError):
    """The master was asked and did not do it; the message is its own."""

    code = "master_refused"


class MasterStuck(OxherdError):
    """The master found that it did no work though there was some; it ended so that another may start."""

    code = "master_stuck"
    exit_status = 75

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the master did no work though there was some, and ends so that another may start: {why}. "
            "Its running jobs were handed back, none was lost and no attempt is counted."
        )


class EmbeddedServerError(OxherdError):
    """The private server could not be started or found."""

    code = "embedded_server"
    exit_status = 3
