"""One small HTTP listener: numbers and proofs of life, for programs on this host or in this network.

Decides who may wait how long for what: GET and HEAD of the paths it was given, one request a connection, a
bounded head, no body, and of too many clients the one that has waited longest goes. What a page says is its
maker's; one that fails is a line in the log and no harm to the master.

A stranger may send anything here: what is no request, too long or too slow is answered with a status, or not
at all, and never with more than one line. There is no TLS and no password: it listens on the loopback or a
unix socket, unless an address says otherwise."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.config.place import Place
from supervisor.errors import ConfigError
from supervisor.observe.log import get

log = get("http")

MOST_CLIENTS: Final = 64
LONGEST_HEAD: Final = 8 * 1024  # bytes
REQUEST_WITHIN_S: Final = 5.0
TAKEN_WITHIN_S: Final = 5.0  # an answer that nobody reads
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """What a page says."""

    text: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Awaitable[Answer]]


class HttpServer:
    """The listener. `pages` by path; more may be added until it is opened.

    on_request   told of each request that was answered: the path of its page, or an empty one.
    """

    def __init__(
        self, place: Place, pages: Mapping[str, Page], *, on_request: Callable[[str], None] | None = None
    ) -> None:
        self.place = place
        self.pages = dict(pages)
        self._on_request = on_request or (lambda path: None)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], None] = {}  # in the order in which they came

    async def open(self) -> None:
        """Listen. Raises `ConfigError` when the address cannot be had."""
        place = self.place
        try:
            if place.path:
                _remove_stale(place.path)
                self._server = await asyncio.start_unix_server(self._meet, place.path, limit=LONGEST_HEAD)
                os.chmod(place.path, 0o660)
            else:
                self._server = await asyncio.start_server(
                    self._meet, place.host, place.port, limit=LONGEST_HEAD
                )
        except OSError as error:
            why = error.strerror or str(error)
            raise ConfigError(
                f"[http] listen: cannot listen on {place}: {why}; nothing was started"
            ) from None
        if not place.path:
            port = self._server.sockets[0].getsockname()[1]
            self.place = Place(place.host, port)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self.place.path:
            with suppress(OSError):
                os.unlink(self.place.path)

    # --- one client -------------------------------------------------------------------------------------

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MOST_CLIENTS:
            next(iter(self._clients)).cancel()
        self._clients[task] = None
        try:
            answer, is_head = await self._answer_to(reader)
            await self._send(writer, answer, is_head)
        except (OSError, TimeoutError, asyncio.CancelledError):
            writer.transport.abort()  # it has gone, does not read, or has to go; there is nobody to tell
        finally:
            self._clients.pop(task, None)
            writer.close()

    async def _answer_to(self, reader: asyncio.StreamReader) -> tuple[Answer, bool]:
        try:
            async with asyncio.timeout(REQUEST_WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return Answer("the request is too long\n", 431), False
        except asyncio.IncompleteReadError:
            return Answer("this is no request\n", 400), False
        except TimeoutError:
            return Answer("the request took too long\n", 408), False
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return Answer("this is no request\n", 400), False
        method, target = words[0], words[1]
        is_head = method == b"HEAD"
        if method not in (b"GET", b"HEAD"):
            return Answer("only GET and HEAD are answered\n", 405), False
        path = target.partition(b"?")[0].decode("ascii", "replace")
        page = self.pages.get(path)
        self._on_request(path if page is not None else "")
        if page is None:
            return Answer(f"there is {', '.join(sorted(self.pages))}\n", 404), is_head
        try:
            return await page(), is_head
        except Exception as error:  # a border: whoever asks how we are must not end us
            log.error("http.failed", path=path, error=f"{type(error).__name__}: {error}")
            return Answer("a mistake of ours; the log has it\n", 500), is_head

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, answer: Answer, is_head: bool) -> None:
        body = answer.text.encode("utf-8", "backslashreplace")
        lines = [
            f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *(["Allow: GET, HEAD"] if answer.status == 405 else []),
        ]
        writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits until all is taken
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if is_head else body))
        async with asyncio.timeout(TAKEN_WITHIN_S):
            await writer.drain()
            writer.write_eof()


def _remove_stale(path: str) -> None:
    """Take away a socket that nobody listens on. Raises `OSError` for anything else that is there."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "there is something else, which is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise FileExistsError(0, "another program listens there")
