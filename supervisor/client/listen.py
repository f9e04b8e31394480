"""Listening: what happens in a queue, live; waiting for the end of one job; telling events of one's own.

Reads    the event stream and, because events may be missed (the stream is trimmed, a connection may break),
         the sets and the hash of the job that is waited for
Writes   an entry of the stream, by `publish` alone
Rule     an end that is seen in either place is the end; one that was only missed is found at the next look
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.client.core import Action, Context, ask
from supervisor.errors import JobFailed, JobNotFound, ResultTimeout, UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.publish import PublishEvent
from supervisor.protocol.given import check_job_ref, check_mapping, clipped, shown
from supervisor.protocol.jsontext import decode
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import Json, check_text, encode_json, whole
from supervisor.protocol.queue_events import (
    EVENTS_PER_READ,
    START,
    FollowEvents,
    LastEvent,
    QueueEvent,
    ReadEvents,
)
from supervisor.protocol.steps import Steps

# How long one read of the stream waits. Also how soon an end whose event was lost is found.
LOOK_EVERY_MS: Final = 5_000
MAX_VALUES: Final = 1_000
_PLACE: Final = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


class Ending(msgspec.Struct, frozen=True):
    """How a job stands: its state as far as it is one of the finished ones, and what is stored of its end."""

    exists: bool
    state: str | None
    returned: bytes | None
    failed_reason: str | None


class ReadEnding(msgspec.Struct, frozen=True):
    """How a job ended, if it did. The sets are asked, not the hash: a retried job keeps its old reasons."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [
            ["HMGET", self.queue.job(self.job_id), fields.NAME, fields.RETURN_VALUE, fields.FAILED_REASON],
            ["ZSCORE", self.queue.completed, self.job_id],
            ["ZSCORE", self.queue.failed, self.job_id],
        ]

    def decode(self, reply: Reply) -> Ending:
        (name, returned, reason), completed, failed = reply
        state = fields.COMPLETED if completed is not None else fields.FAILED if failed is not None else None
        return Ending(name is not None, state, returned, reason and reason.decode(errors="replace"))


def result(job_id: str, timeout_ms: int | None, monotonic: Callable[[], float]) -> Action[Any]:
    """What the job returned. Raises `JobFailed`, `ResultTimeout` or `JobNotFound`."""
    check_job_ref(job_id)
    if timeout_ms is not None:
        whole(0)("timeout_ms", timeout_ms)

    def steps(context: Context) -> Steps[Any]:
        until = None if timeout_ms is None else monotonic() + timeout_ms / 1000
        # The place in the stream first: what ends after it is told there, what ended before is in the sets.
        since = yield LastEvent(context.keys)
        while True:
            ending = yield ReadEnding(context.keys, job_id)
            if ending.state is not None:
                return _told(job_id, ending.state, _value(ending.returned), ending.failed_reason)
            if not ending.exists:
                return (yield from _told_by_the_stream(context, job_id))
            left_ms = LOOK_EVERY_MS if until is None else int((until - monotonic()) * 1000)
            if left_ms <= 0:
                raise ResultTimeout(
                    f"job {clipped(job_id)} had not finished after {timeout_ms} ms; it was left as it is"
                )
            for event in (yield ReadEvents(context.keys, since, min(left_ms, LOOK_EVERY_MS))):
                since = event.id
                if event.job_id == job_id and event.name in fields.FINISHED:
                    return _told_by(event)

    return steps


def _told_by_the_stream(context: Context, job_id: str) -> Steps[Any]:
    """The end of a job that was removed as it ended: its event, if it is still stored."""
    found: QueueEvent | None = None
    place = START
    while True:
        events: list[QueueEvent] = yield ReadEvents(context.keys, place)
        for event in events:
            place = event.id
            if event.job_id == job_id and event.name in fields.FINISHED:
                found = event
        if len(events) < EVENTS_PER_READ:
            break
    if found is None:
        raise JobNotFound(
            f"job {clipped(job_id)} is not there: it was never added, or it was removed when it ended, "
            "and its result with it"
        )
    return _told_by(found)


def _told_by(event: QueueEvent) -> Any:
    return _told(event.job_id, event.name, event.values.get("returned"), event.values.get("failed_reason"))


def _told(job_id: str | None, state: str, returned: Any, failed_reason: str | None) -> Any:
    if state == fields.FAILED:
        raise JobFailed(failed_reason or f"job {job_id} failed without a reason")
    return returned


def _value(text: bytes | None) -> Any:
    try:
        return None if text is None else decode(text)
    except ValueError:
        return text.decode(errors="replace") if text else None


def first_place(since: str | None) -> Action[str]:
    """Where listening starts: after `since`, else after all that has happened so far."""
    if since is not None and not (isinstance(since, str) and _is_place(since)):
        raise UsageError(f"{shown(since)} is no id of an event; one looks like 1732281912345-0")

    def steps(context: Context) -> Steps[str]:
        if since is not None:
            return since
        return (yield from ask(LastEvent(context.keys)))

    return steps


def _is_place(since: str) -> bool:
    return _PLACE.fullmatch(since) is not None and all(int(part) < 2**64 for part in since.split("-"))


def next_events(since: str, block_ms: int = LOOK_EVERY_MS) -> Action[list[QueueEvent]]:
    """What happened after `since`, and a `GAP` before it where some is missing; waits up to `block_ms`."""

    def steps(context: Context) -> Steps[list[QueueEvent]]:
        return ask(FollowEvents(context.keys, since, block_ms))

    return steps


def publish(
    name: str, values: Mapping[str, Json] | None = None, *, max_events: int | None = None
) -> Action[str]:
    """Tell an event of your own to all who listen to the queue, in any language; its id.

    name         anything but the names of BullMQ's own events, which would mislead who waits for them.
    values       texts go as they are, all else as JSON; who listens gets texts.
    max_events   how many events the stream keeps then, about; as many as ever if not given.
    """
    check_text(name, "the name of an event")
    if not name or name in fields.EVENT_NAMES or name.startswith("ox:"):
        raise UsageError(f"{shown(name)} cannot be the name of an event of yours: it has a meaning already")
    if values is not None:
        check_mapping(values, "the values of an event")
    texts = {_field(key): _text(key, value) for key, value in (values or {}).items()}
    if len(texts) > MAX_VALUES:
        raise UsageError(f"an event has at most {MAX_VALUES} values, not {len(texts)}")
    if max_events is not None:
        whole(1)("max_events", max_events)

    def steps(context: Context) -> Steps[str]:
        return ask(PublishEvent(context.keys, name, texts, max_events))

    return steps


def _field(key: str) -> str:
    check_text(key, "the name of a value")
    if key == fields.EVENT_NAME:
        raise UsageError(f"a value of an event cannot be called {key!r}: that is where its name stands")
    return key


def _text(key: str, value: Json) -> str:
    if not isinstance(value, str):
        return encode_json(value, f"value {shown(key)}").decode()
    check_text(value, f"value {shown(key)}")
    return value
