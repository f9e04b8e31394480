"""One command on its way: its bytes, its future, and what came back.

It decides what a reply means for the caller. What is sent again, and when, its owner decides (`aio.Redis`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import hiredis
from msgspec import MsgspecError

from supervisor.errors import OxherdError, WrongReply
from supervisor.protocol.commands.base import (
    Command,
    ReadCommand,
    RepeatableCommand,
    Reply,
    ScriptCommand,
)
from supervisor.transport.link import ConnectionLost
from supervisor.transport.requests import Script, Scripts, name_of, pack, pack_reads, pack_script

T = TypeVar("T")

_UNREADABLE: Final = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RuntimeError, TypeError, ValueError, MsgspecError),
)


class Owner(Protocol):
    """Who decides what to do when a call did not get its reply, and is told when it has."""

    def answered(self, call: Call[Any]) -> None: ...
    def refused(self, call: Call[Any], text: str, replies: Sequence[Reply]) -> None: ...
    def lost(self, call: Call[Any], lost: ConnectionLost) -> None: ...


class Call(Generic[T]):
    """A command with the future of its result.

    until        on the owner's clock: when waiting for Redis ends.
    repeatable   a lost reply is followed by `command.repetition()`.
    order        the owner's count when it was last written.
    then         called with the future when it is done.
    at_once      `then` is called while the reply is read.
    sent         it was offered to the kernel, and no refusal has told us since that it did not run.
    grave        where its reply was lost; set by the owner.
    """

    __slots__ = (
        "_due",
        "_owner",
        "_replies",
        "at_once",
        "command",
        "future",
        "grave",
        "order",
        "reloads",
        "repeatable",
        "request",
        "script",
        "sent",
        "then",
        "tries",
        "until",
    )

    def __init__(
        self, owner: Owner, command: Command[T], scripts: Scripts, future: asyncio.Future[T], until: float
    ) -> None:
        self._owner = owner
        self.command = command
        self.future = future
        self.until = until
        self.repeatable = False
        self.sent = False
        self.grave: Any = None
        self.tries = 0
        self.reloads = 0
        self.order = 0
        self.script: Script | None = None
        self.then: Callable[[asyncio.Future[T]], None] | None = None
        self.at_once = False
        self._replies: list[Reply] = []
        self._pack(scripts)

    def _pack(self, scripts: Scripts) -> None:
        name = name_of(self.command)
        self._due = 1
        if name is None:
            self.request, self._due = pack_reads(cast("ReadCommand[T]", self.command))
        else:
            self.script = scripts.get(name)
            self.request = pack_script(self.script, cast("ScriptCommand[T]", self.command))

    @property
    def only_reads(self) -> bool:
        return self.script is None

    def repeat(self, scripts: Scripts) -> None:
        """From now on this is the command's repetition."""
        self.command = cast("RepeatableCommand[T]", self.command).repetition()
        self._pack(scripts)

    def fail(self, error: OxherdError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    # --- what a `Link` asks of those who wait ----------------------------------------------------------

    @property
    def abandoned(self) -> bool:
        return self.future.done()

    def take(self, reply: Reply) -> bool:
        if self.script is not None:
            if isinstance(reply, hiredis.ReplyError):
                self._owner.refused(self, str(reply), [reply])
            else:
                self._succeed(reply)
            return True
        self._replies.append(reply)
        if len(self._replies) < self._due:
            return False
        replies, self._replies = self._replies, []
        self.settle(replies)
        return True

    def settle(self, replies: Sequence[Reply]) -> None:
        """All that it was told, each request with its reply."""
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                self._owner.refused(self, str(reply), replies)
                return
        self._succeed(replies if self.script is None else replies[0])

    def requests(self) -> list[bytes]:
        """What was sent, each request packed by itself."""
        if self.script is not None:
            return [self.request]
        return [pack(each) for each in cast("ReadCommand[T]", self.command).requests()]

    def lose(self, lost: ConnectionLost) -> None:
        self._replies.clear()
        self._owner.lost(self, lost)

    def _succeed(self, reply: Reply) -> None:
        if self.future.done():
            return
        try:
            result = decoded(self.command, reply)
        except OxherdError as error:
            self.future.set_exception(error)
            return
        then = self.then if self.at_once else None
        if then is not None:
            self.future.remove_done_callback(then)
        self.future.set_result(result)
        self._owner.answered(self)
        if then is not None:
            then(self.future)


def decoded(command: Command[T], reply: Reply) -> T:
    """The result; whatever `decode` stumbles over becomes a `WrongReply`."""
    decode: Callable[[Reply], T] = command.decode
    try:
        return decode(reply)
    except _UNREADABLE as error:
        name = name_of(command) or type(command).__name__
        raise WrongReply(f"the reply to {name} cannot be read ({error!r}): {reply!r:.300}") from error


class LoadCall:
    """Waits for the reply to a SCRIPT LOAD that travels in front of the first call of its script."""

    __slots__ = ("_errors", "_name")

    abandoned = False
    at_once = True

    def __init__(self, name: str, errors: dict[str, str]) -> None:
        self._name = name
        self._errors = errors

    def take(self, reply: Reply) -> bool:
        if isinstance(reply, hiredis.ReplyError):
            self._errors[self._name] = str(reply)
        else:
            self._errors.pop(self._name, None)
        return True

    def lose(self, lost: ConnectionLost) -> None:
        """The call behind it is lost with it and tells."""
