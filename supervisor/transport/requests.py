"""Commands as bytes: scripts by their hash, plain requests one behind the other.

The hash of a script is computed here from its source, so a server that has the script is used at once and
one that has lost it says so (`NOSCRIPT`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import msgspec

from supervisor.errors import UsageError
from supervisor.protocol.commands.base import Arg, Command, ReadCommand, ScriptCommand

# Scripts that touch no key but the one they declare, and may be sent again at will. They need no guard.
ONE_KEY: Final = frozenset({"extendLock"})
_WITHOUT_GUARD: Final = b"KEYS[#KEYS] = nil; "  # the script itself sees the keys it knows


class Script(msgspec.Struct, frozen=True):
    """A script as the server knows it: `sha`; and the packed request that makes it known: `load`.

    guard   in a cluster one key more, else nothing; see `Scripts`.
    """

    name: str
    sha: bytes
    load: bytes
    guard: tuple[str, ...] = ()


class Scripts:
    """The scripts of one client, read when they are first used.

    guard   in a Redis Cluster a key that is never written. While a slot moves, its keys are on two nodes, and
            a script that makes names of keys would break off in the middle at one that is not here. So each
            script declares one key more: because that is nowhere, Redis says TRYAGAIN or ASK before the
            script begins, until all keys are together again. Only scripts of one key run meanwhile.
    """

    def __init__(self, sources: Callable[[str], str], guard: str | None = None) -> None:
        self._sources = sources
        self._guard = () if guard is None else (guard,)
        self._known: dict[str, Script] = {}

    def get(self, name: str) -> Script:
        script = self._known.get(name)
        if script is None:
            source = self._sources(name).encode()
            guard = () if name in ONE_KEY else self._guard
            if guard:
                source = _WITHOUT_GUARD + source
            sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
            script = Script(name, sha, pack((b"SCRIPT", b"LOAD", source)), guard)
            self._known[name] = script
        return script


def pack(request: Sequence[Arg]) -> bytes:
    """One plain request as bytes."""
    packed: bytes = hiredis.pack_command(tuple(request))  # type: ignore[arg-type]  # its stub allows one item
    return packed


def name_of(command: Command[Any]) -> str | None:
    """The script a command runs, or None for a command of plain requests."""
    return getattr(command, "script", None)


def pack_script(script: Script, command: ScriptCommand[Any]) -> bytes:
    keys = command.keys()
    if script.guard:
        keys = (*keys, *script.guard)
    try:
        return pack((b"EVALSHA", script.sha, len(keys), *keys, *command.args()))
    except UnicodeEncodeError as error:
        raise _not_text(error) from None


def pack_reads(command: ReadCommand[Any]) -> tuple[bytes, int]:
    """The requests of a read joined, and how many they are."""
    requests = command.requests()
    try:
        return b"".join(pack(request) for request in requests), len(requests)
    except UnicodeEncodeError as error:
        raise _not_text(error) from None


def _not_text(error: UnicodeEncodeError) -> UsageError:
    return UsageError(
        f"a text holds half a character ({error.object[error.start : error.end]!r}) and cannot be sent as "
        "UTF-8; nothing was sent"
    )
