"""What a processor may ask for: it holds no connection of its own (I1), so the master does it.

Decides which questions are answered. How a new job is checked is new_job.py's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from supervisor.errors import InvalidJob
from supervisor.master.breakers import Breakers
from supervisor.master.messages import Ask
from supervisor.protocol.codes import error_of
from supervisor.protocol.commands.add import AddJobs, NotAdded
from supervisor.protocol.commands.base import Command, RepeatableCommand
from supervisor.protocol.commands.flow import GetDependencies, GetIgnoredFailures
from supervisor.protocol.commands.read import GetChildrenValues
from supervisor.protocol.commands.saga import GetRecord, KeepRecord
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.jsontext import decode, encode
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import JobSpec, encode_job


class Redis(Protocol):
    """What of transport.aio.Redis is needed here."""

    async def execute(self, command: Command[Any]) -> Any: ...
    async def execute_repeatable(self, command: RepeatableCommand[Any]) -> Any: ...


class Asks:
    """Answers for the processors of one queue."""

    def __init__(self, redis: Redis, keys: QueueKeys, *, wall_clock: Callable[[], float]) -> None:
        self._redis = redis
        self._keys = keys
        self._wall_clock = wall_clock
        self._breakers = Breakers(redis, keys, wall_clock=wall_clock)

    async def answer(self, job: FetchedJob, ask: Ask) -> bytes:
        """The answer as JSON text; raises an `OxherdError` whose sentence the processor gets."""
        match ask.what:
            case "add":
                return msgspec.json.encode(await self._add(ask))
            case "children_values":
                values: bytes = await self._redis.execute(GetChildrenValues(self._keys, job.id))
                return values
            case "ignored_failures":
                return encode(await self._redis.execute(GetIgnoredFailures(self._keys, job.id)))
            case "dependencies":
                return encode(await self._redis.execute(GetDependencies(self._keys, job.id)))
            case "breaker_enter":
                return encode(await self._breakers.enter(job, ask))
            case "breaker_leave":
                return encode(await self._breakers.leave(job, ask))
            case "saga_record":
                record: bytes = await self._redis.execute(GetRecord(self._keys, job.id))
                return record
            case "saga_keep":
                await self._keep_record(job, bytes(ask.data))
                return b"null"

    async def _keep_record(self, job: FetchedJob, record: bytes) -> None:
        status = await self._redis.execute_repeatable(KeepRecord(self._keys, job.id, job.token, record))
        if status < 0:
            raise error_of(status, job_id=job.id, call="keepRecord")

    async def _add(self, ask: Ask) -> str:
        """Add a job; returns its id.

        A job without an id gets one here, so that the call can be sent again when its reply was lost: the
        second time the queue finds the id and adds nothing (design.md section 3).
        """
        options = {name: decode(bytes(value)) for name, value in ask.options.items()}
        if options.get("job_id") in (None, ""):
            options["job_id"] = str(uuid.uuid4())
        keys = QueueKeys(ask.queue, self._keys.prefix)
        spec = JobSpec(ask.name, decode(bytes(ask.data)), options)  # type: ignore[arg-type]  # checked there
        new = encode_job(spec, now_ms=int(self._wall_clock() * 1000), prefix=self._keys.prefix)
        (result,) = await self._redis.execute_repeatable(AddJobs(keys, [new]))
        if isinstance(result, NotAdded):
            if result.text:
                raise InvalidJob(f"the job was not added: {result.text}")
            parent = new.parent.key if new.parent else "undefined"
            raise error_of(result.code, job_id=options["job_id"], call="addJob", parent=parent)
        return str(result)
