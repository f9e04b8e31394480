"""Hooks: the user's functions that are told what became of jobs.

A hook is called as a processor is, in a runner like any other, but with a `HookCall`. It decides nothing
about the job, which is over; so what it returns is dropped.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox import codec
from sandbox.errors import LoadError
from sandbox.loader import function_of, refuse_uncallable
from sandbox.processors import Processor


@dataclass(frozen=True, slots=True)
class HookCall:
    """What a hook is called with.

    hook         completed, failed or stalled
    queue        the queue of the job
    id           the job's id, text
    name         what the producer called it; empty when a stalled job was gone before it could be read
    data         the job's data as this attempt began with them; None when they are not JSON
    attempt      the number of the attempt that ended, from 1
    attempts     how many the job has in all
    result       what the processor returned; None for failed and stalled
    reason       why it failed; None for completed, and for stalled unless it stalled too often
    stack        the traceback of a failure, if there is one
    happened_on  when the master learned it, epoch milliseconds
    """

    hook: str
    queue: str
    id: str
    name: str
    data: Any
    attempt: int
    attempts: int
    result: Any
    reason: str | None
    stack: str | None
    happened_on: int


def load_hooks(targets: Sequence[tuple[str, str | None]]) -> list[Processor]:
    """The hooks, each as the processor of a queue that has the name of its kind. Raises `LoadError`."""
    found = []
    for target, kind in targets:
        function = function_of(target)
        if not callable(function):
            raise LoadError(f"{target} is of type {type(function).__name__}, not a function")
        refuse_uncallable(target, function, "a hook is called with one argument, a HookCall")
        found.append(
            Processor(
                queue=kind or "",
                name=None,
                function=_as_processor(function),
                target=target,
                decode=call_of,
            )
        )
    return found


def call_of(meta: dict[str, Any], raw: bytes) -> HookCall:
    """The argument, of a START frame whose raw part is the job's data and then its result."""
    told = meta["hook"]
    cut = told["data_bytes"]
    return HookCall(
        hook=meta["queue"],
        queue=told["queue"],
        id=meta["id"],
        name=meta["name"],
        data=_decoded(raw[:cut]),
        attempt=meta["attempt"],
        attempts=max(1, meta["attempts"]),
        result=_decoded(raw[cut:]),
        reason=told["reason"],
        stack=told["stack"],
        happened_on=told["happened_on"],
    )


def _decoded(raw: bytes) -> Any:
    try:
        return codec.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return None  # a job that failed because its data are no JSON has its hook called all the same


def _as_processor(function: Callable[[HookCall], Any]) -> Callable[[Any], Any]:
    """A function of a job whose data are the `HookCall`; it returns None whatever the hook does."""
    if inspect.iscoroutinefunction(function):

        async def call_and_wait(job: Any) -> None:
            await function(job.data)

        return call_and_wait

    def call(job: Any) -> Coroutine[Any, Any, None] | None:
        returned = function(job.data)
        return _waited_for(returned) if type(returned) is types.CoroutineType else None

    return call


async def _waited_for(coroutine: Coroutine[Any, Any, Any]) -> None:
    await coroutine
