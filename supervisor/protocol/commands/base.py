"""What a command is.

Two kinds. A `ScriptCommand` is one call of one Lua script. A `ReadCommand` is a short list of plain
requests sent together, for what only reads and may be a moment old. Both are values: they know their keys,
their arguments and how to decode the reply, and nothing of sockets, clocks or `await`.

Replies arrive as RESP2 gives them: bytes, ints, None, lists of these. An error inside the reply of a
`ReadCommand` is raised by the transport before `decode` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

Arg: TypeAlias = str | bytes | int | float
Reply: TypeAlias = Any
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class ScriptCommand(Protocol[T_co]):
    """One call of `lua/<script>.lua`."""

    script: ClassVar[str]

    def keys(self) -> Sequence[str]: ...
    def args(self) -> Sequence[Arg]: ...
    def decode(self, reply: Reply) -> T_co: ...


@runtime_checkable
class ReadCommand(Protocol[T_co]):
    """Plain requests sent in one pipeline; `decode` gets the replies in the same order."""

    def requests(self) -> Sequence[Sequence[Arg]]: ...
    def decode(self, reply: Reply) -> T_co: ...


class RepeatableCommand(ScriptCommand[T_co], Protocol[T_co]):
    """A script call whose reply may be lost: `repetition()` is the same call, marked as sent again."""

    def repetition(self) -> RepeatableCommand[T_co]: ...


Command: TypeAlias = ScriptCommand[T_co] | ReadCommand[T_co]
