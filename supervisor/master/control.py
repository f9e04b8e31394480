"""The control socket: one question a line, one answer a line, both JSON objects.

Decides who is heard (the same user, or root, by what the kernel says of the peer), how long a line may be and
how long a client may take. What a verb does is not known here.

    {"do": "scale", "by": 2}    ->    {"ok": true, "result": {...}}  or  {"ok": false, "error": "a sentence"}

Reads     bytes of a stranger until its peer is known: bounded, and refused with one sentence
Writes    one socket, `<pid>.sock`, in a directory that is ours alone
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from supervisor.config.runtime import SOCKET
from supervisor.errors import ConfigError, OxherdError, UsageError
from supervisor.observe.log import get

log = get("control")

LONGEST_LINE: Final = 64 * 1024
HEARD_OUT: Final = 16 * LONGEST_LINE
MOST_CLIENTS: Final = 32
FIRST_LINE_WITHIN_S: Final = 5.0
NEXT_LINE_WITHIN_S: Final = 300.0  # `oxherd top` stays, and asks every second
TAKEN_WITHIN_S: Final = 5.0  # an answer that nobody reads

Verb = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def own_dir(dirs: Iterable[Path], *, named: bool) -> Path | None:
    """The first directory that is, or can be made, ours alone; None for none.

    named   the one directory was asked for by name: raises `ConfigError` when it cannot be used.
    """
    why = "there is none"
    for each in dirs:
        try:
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = each.lstat()
        except OSError as error:
            why = f"{each}: {error.strerror}"
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
            return each
        why = f"{each} must be a directory of this user's own, open to nobody else (chmod 700)"
    if named:
        raise ConfigError(f"OXHERD_RUNTIME_DIR cannot hold the control socket: {why}; nothing was started")
    log.warning("control.unavailable", why=why)
    return None


async def opened(dirs: Iterable[Path], *, named: bool, verbs: Mapping[str, Verb]) -> Control | None:
    """The socket where this master can be asked, in the first of `dirs` that will do; None for none.

    Raises `ConfigError` when the one directory was `named` and will not do.
    """
    place = own_dir(dirs, named=named)
    if place is None:
        return None
    control = Control(place / SOCKET.format(pid=os.getpid()), verbs)
    try:
        await control.open()
    except OSError as error:
        log.warning("control.unavailable", why=f"{control.path}: {error.strerror}")
        return None
    log.debug("control.opened", path=str(control.path))
    return control


class Control:
    """One socket. `verbs` are looked at for each question, so some may be added later."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self.path = path
        self._verbs = verbs
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        sock = listening_socket(self.path)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=LONGEST_LINE)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self.path.unlink(missing_ok=True)
        for task in self._clients:
            task.cancel()
        for task in list(self._clients):
            with suppress(asyncio.CancelledError):
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            refusal = self._refusal(writer)
            if refusal:
                await self._say(writer, {"ok": False, "error": refusal})
            else:
                await self._converse(reader, writer)
        except (OSError, TimeoutError):
            pass  # it has gone, or does not listen
        except asyncio.CancelledError:
            pass  # the socket is closed; asyncio takes a cancelled reader's end for a failure of ours
        finally:
            self._clients.discard(task)
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        """Why whoever has connected is not heard; empty when he is."""
        peer: socket.socket = writer.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", raw)
        if uid not in (os.geteuid(), 0):
            log.warning("control.refused", peer=pid, uid=uid)
            return f"only root and the user with uid {os.geteuid()} may talk to this master, not uid {uid}"
        if len(self._clients) > MOST_CLIENTS:
            return f"{MOST_CLIENTS} others talk to this master already; try again"
        return ""

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        within_s = FIRST_LINE_WITHIN_S
        while True:
            try:
                async with asyncio.timeout(within_s):
                    line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                if end.partial.strip():
                    await self._say(writer, {"ok": False, "error": "the line has no end"})
                return
            except asyncio.LimitOverrunError:
                sentence = f"a line has at most {LONGEST_LINE} bytes"
                await self._say(writer, {"ok": False, "error": sentence})
                await _hear_out(reader, writer)
                return
            asked = _read(line)
            if isinstance(asked, str):
                await self._say(writer, {"ok": False, "error": asked})
                return
            await self._say(writer, await self._answer(asked))
            within_s = NEXT_LINE_WITHIN_S

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.pop("do")
        verb = self._verbs.get(name)
        if verb is None:
            known = ", ".join(sorted(self._verbs))
            return {"ok": False, "error": f"there is no verb {name[:60]!r}; there are: {known}"}
        try:
            return {"ok": True, "result": await verb(asked)}
        except OxherdError as error:
            return {"ok": False, "error": str(error), "usage": isinstance(error, UsageError)}
        except Exception as error:  # a border: what a question breaks must not end the jobs
            what = f"{type(error).__name__}: {error}"
            log.error("control.failed", verb=name, error=what)
            return {"ok": False, "error": f"please report this mistake in oxherd: {what}"}

    async def _say(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        writer.write(json.dumps(answer).encode() + b"\n")
        async with asyncio.timeout(TAKEN_WITHIN_S):
            await writer.drain()


async def _hear_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a moment: with something unread the kernel would throw our answer away."""
    writer.write_eof()
    left = HEARD_OUT
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while left > 0 and (data := await reader.read(LONGEST_LINE)):
                left -= len(data)


def _read(line: bytes) -> dict[str, Any] | str:
    """The question, or the sentence that refuses it."""
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return "a line is one JSON object"
    if not isinstance(asked, dict) or not isinstance(asked.get("do"), str):
        return 'a line is a JSON object with the verb under "do"'
    return asked


def only(asked: dict[str, Any], **kinds: type) -> None:
    """Each member is known, and of its kind. Raises `UsageError`."""
    for name, value in asked.items():
        if name not in kinds:
            raise UsageError(f"this verb takes no {name[:60]!r}; it takes {', '.join(kinds) or 'nothing'}")
        if value is not None and type(value) is not kinds[name]:  # a bool is no int here
            raise UsageError(f"{name} must be of the kind {kinds[name].__name__}")


def listening_socket(path: Path) -> socket.socket:
    """A socket at `path`, however long that is: a unix address has room for 107 bytes only.

    What is left of dead masters beside it is removed. Raises `OSError`.
    """
    _remove_dead(path.parent)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _opened(path.parent) as fd:
            path.unlink(missing_ok=True)  # our number was another's before
            before = os.umask(0o177)
            try:
                made.bind(f"/proc/self/fd/{fd}/{path.name}")
            finally:
                os.umask(before)
        made.listen(MOST_CLIENTS)
    except BaseException:
        made.close()
        raise
    return made


class _opened:
    """A directory's descriptor, for the length of a block."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *how: object) -> None:
        os.close(self._fd)


def _remove_dead(directory: Path) -> None:
    for path in directory.glob(SOCKET.format(pid="*")):
        pid = path.name.partition(".")[0]
        if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            path.unlink(missing_ok=True)
