"""Commands as bytes: scripts by their hash, plain requests one behind the other.

The hash of a script is computed here from its source, so a server that has the script is used at once and
one that has lost it says so (`NOSCRIPT`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import msgspec

from supervisor.errors import UsageError
from supervisor.protocol.commands.base import Arg, Command, ReadCommand, ScriptCommand


class Script(msgspec.Struct, frozen=True):
    """A script as the server knows it: `sha`; and the packed request that makes it known: `load`."""

    name: str
    sha: bytes
    load: bytes


class Scripts:
    """The scripts of one client, read when they are first used."""

    def __init__(self, sources: Callable[[str], str]) -> None:
        self._sources = sources
        self._known: dict[str, Script] = {}

    def get(self, name: str) -> Script:
        script = self._known.get(name)
        if script is None:
            source = self._sources(name).encode()
            sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
            script = Script(name, sha, pack((b"SCRIPT", b"LOAD", source)))
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
