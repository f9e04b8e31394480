"""The Job that a processor is given.

It turns calls into bytes and hands them to a `Channel`; it opens no socket and knows no frame, so a test, or
`oxherd run --inline`, can give one to a processor by itself. It decides how often progress is sent: the
newest value wins, a burst of 20, then 10 a second, and the last one always before the outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol

from sandbox import batch, codec
from sandbox.wire import MAX_SMALL

PROGRESS_BURST = 20.0
PROGRESS_PER_S = 10.0


class Channel(Protocol):
    """Where a job's calls go. Every body is JSON text or UTF-8, within the limit the Job was given."""

    def progress(self, encoded: bytes, value: Any) -> None: ...
    def log(self, text: bytes) -> None: ...
    def data(self, encoded: bytes) -> None: ...
    def ask(self, what: str, arguments: dict[str, Any]) -> Any: ...
    def directory(self) -> str: ...
    def cancel_reason(self) -> str | None: ...


if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers bring it; a bare `Job` is a `Job[Any]`

    Data = TypeVar("Data", default=Any)
else:
    from typing import TypeVar

    Data = TypeVar("Data")


class Job(Generic[Data]):
    """One attempt at one job.

    id          the job's id, text
    name        what the producer called it
    queue       the queue it came from
    data        what the producer sent, decoded from JSON; made into X for a parameter `job: Job[X]`
    attempt     the number of this attempt, from 1
    attempts    how many attempts the job has in all
    timestamp   when it was added, epoch milliseconds
    priority    0 for none
    parent      {"id", "queue"} of the parent in a flow, or None
    """

    __slots__ = (
        "_came_back", "_channel", "_clock", "_ended", "_filled_at", "_max_bytes", "_pending", "_tokens",
        "attempt", "attempts", "data", "id", "name", "parent", "priority", "queue", "timestamp",
    )  # fmt: skip

    def __init__(
        self,
        meta: dict[str, Any],
        data: Data,
        channel: Channel,
        *,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id: str = meta["id"]
        self.name: str = meta["name"]
        self.queue: str = meta["queue"]
        self.data: Data = data
        self.attempt: int = meta.get("attempt", 1)
        self.attempts: int = meta.get("attempts", 1)
        self.timestamp: int = meta.get("timestamp", 0)
        self.priority: int = meta.get("priority", 0)
        self.parent: dict[str, Any] | None = meta.get("parent")
        self._came_back = meta.get("started", 0) > self.attempt  # without an attempt that counted
        self._channel = channel
        self._clock = clock
        self._max_bytes = max_bytes
        self._tokens = PROGRESS_BURST
        self._filled_at = 0.0
        self._pending: tuple[bytes, Any] | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<Job {self.queue}/{self.id} {self.name!r} attempt {self.attempt} of {max(1, self.attempts)}>"

    def progress(self, value: Any) -> None:
        """Tell how far the job is: a number (0 to 100 is shown as a percentage) or anything JSON can say.

        Cheap to call often: at most 10 a second are sent, the newest wins, and the last is never lost.
        """
        self._pending = (self._encode("progress", value), value)
        self._send_pending()

    def log(self, text: str) -> None:
        """Add a row to the job's log. Longer than 60 KB is cut."""
        self._must_be_open("log")
        try:
            encoded = (text if isinstance(text, str) else str(text)).encode("utf-8", "backslashreplace")
        except RecursionError:
            raise ValueError("job.log: the row is nested too deeply to be written") from None
        if len(encoded) > MAX_SMALL:
            kept = encoded[: MAX_SMALL - 64].decode("utf-8", "ignore").encode()
            encoded = kept + f" ... {len(encoded) - len(kept)} bytes left out".encode()
        self._channel.log(encoded)
        self._send_pending()

    def update_data(self, data: Any) -> None:
        """Replace the job's data, here and in Redis; a later attempt sees the new data."""
        self._channel.data(self._encode("update_data", data))
        self.data = data

    def children_values(self) -> dict[str, Any]:
        """What the children of this job returned: job key to value. Asks the master, and waits."""
        self._must_be_open("children_values")
        values: dict[str, Any] = self._channel.ask("children_values", {})
        return values

    def ignored_failures(self) -> dict[str, str]:
        """Why children failed whose failure does not count: job key to reason. Asks the master, and waits."""
        self._must_be_open("ignored_failures")
        reasons: dict[str, str] = self._channel.ask("ignored_failures", {})
        return reasons

    def dependencies(self) -> dict[str, Any]:
        """All children of this job by their keys. Asks the master, and waits.

        processed     what those that completed returned
        unprocessed   those that are pending, as a list
        ignored       why those failed whose failure does not count
        failed        those that failed and with them this job, as a list
        """
        self._must_be_open("dependencies")
        found: dict[str, Any] = self._channel.ask("dependencies", {})
        return found

    def batch_results(self) -> list[Any]:
        """What the jobs of a batch returned, in the order of its items: this job is its collector.

        With `on_failure="collect"` an `ItemFailed` stands for each that failed. Asks the master, and waits.
        """
        return batch.results(self.id, self.dependencies())

    def add(self, queue: str, name: str, data: Any, **options: Any) -> str:
        """Add a job, with the options of `Queue.add`, and return its id. The master does it; this waits.

        With `parent=job` the new job is a child of this one: raise `WaitingChildren` to be run again when all
        are done. Give children a `job_id`, so that another attempt does not add them twice.

        Raises `AskFailed` with the master's sentence when the job was not added.
        """
        if isinstance(options.get("parent"), Job):
            options["parent"] = {"id": options["parent"].id, "queue": options["parent"].queue}
        for what, text in (("the queue", queue), ("the name", name)):
            if not isinstance(text, str):
                raise TypeError(f"job.add: {what} is text, not {type(text).__name__}")
        arguments = {"queue": queue, "name": name, "data": data, "options": options}
        if codec.has_half_a_pair(self._encode("add", arguments)):
            raise ValueError("job.add: a text in it holds half of a surrogate pair, which UTF-8 cannot say")
        added: str = self._channel.ask("add", arguments)
        return added

    @property
    def directory(self) -> str:
        """A directory for this job's files: empty at first, and emptied when the job ends.

        In the profile `strict` it is the working directory too, and nothing can be written elsewhere.
        """
        self._must_be_open("directory")
        return self._channel.directory()

    @property
    def cancelled(self) -> bool:
        """Someone asked for this job to end. Look from time to time, clean up, and raise `Cancelled`.

        To return is to complete the job as usual. Who does neither is interrupted after `cancel_grace`.
        """
        return self.cancel_reason is not None

    @property
    def cancel_reason(self) -> str | None:
        """Who asked for this job to end, and why, in one sentence; None when nobody did."""
        return None if self._ended else self._channel.cancel_reason()

    def end(self) -> None:
        """Called by us when the processor is done: sends the last progress. No call is taken after it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._channel.progress(*pending)
        self._ended = True

    def _ask(self, what: str, arguments: dict[str, Any]) -> Any:
        """For the helpers beside it: breakers and sagas."""
        self._must_be_open(what)
        return self._channel.ask(what, arguments)

    def _send_pending(self) -> None:
        if self._pending is None:
            return
        now_at = self._clock()
        refill = (now_at - self._filled_at) * PROGRESS_PER_S
        self._tokens = min(PROGRESS_BURST, self._tokens + refill)
        self._filled_at = now_at
        if self._tokens >= 1:
            self._tokens -= 1
            pending, self._pending = self._pending, None
            self._channel.progress(*pending)

    def _encode(self, call: str, value: Any) -> bytes:
        self._must_be_open(call)
        try:
            encoded = codec.encode(value)
        except codec.NotJson as error:
            raise TypeError(f"job.{call}: JSON cannot say this value: {error}") from None
        if len(encoded) > self._max_bytes:
            raise ValueError(
                f"job.{call}: {len(encoded)} bytes of JSON, more than the {self._max_bytes} allowed"
            )
        return encoded

    def _must_be_open(self, call: str) -> None:
        # A thread that outlives its job would speak in the name of the next one.
        if self._ended:
            raise RuntimeError(f"job.{call}: job {self.id} has ended")
