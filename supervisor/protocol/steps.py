"""An operation of several exchanges, written once as a generator and driven by both clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar

from supervisor.protocol.commands.base import Command

T = TypeVar("T")
Steps: TypeAlias = Generator[Command[Any], Any, T]


async def drive(steps: Steps[T], execute: Callable[[Command[Any]], Awaitable[Any]]) -> T:
    """Run `steps` over an asyncio connection."""
    reply: Any = None
    while True:
        try:
            command = steps.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        reply = await execute(command)


def drive_blocking(steps: Steps[T], execute: Callable[[Command[Any]], Any]) -> T:
    """Run `steps` over a blocking connection. Differs from `drive` by one word."""
    reply: Any = None
    while True:
        try:
            command = steps.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        reply = execute(command)
