"""Opening a connection: login, name, who answers, and the end of an old connection.

It makes one `Link` ready to use, or says in one sentence why it cannot. When to try again, others decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import Final

import hiredis
import msgspec

from supervisor.errors import RedisUnavailable
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.transport.address import Address
from supervisor.transport.answers import cannot_reach, why_login_refused, why_unreachable
from supervisor.transport.link import ConnectionLost, Link

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_FACT: Final = re.compile(r"^(\w+):(.*?)\r?$", re.MULTILINE)


class Server(msgspec.Struct, frozen=True):
    """Who answered. What the server does not tell us (an ACL may forbid INFO) stays empty.

    version   the version of Redis it claims to be compatible with; (0,) when unknown.
    run_id    changes with every start of the server.
    """

    version: tuple[int, ...] = (0,)
    redis_version: str = ""
    valkey_version: str = ""
    run_id: str = ""
    mode: str = ""
    maxmemory_policy: str = ""

    @property
    def is_valkey(self) -> bool:
        return bool(self.valkey_version)

    @property
    def display(self) -> str:
        if self.is_valkey:
            return f"Valkey {self.valkey_version}"
        return f"Redis {self.redis_version}" if self.redis_version else "Redis"


class Opened(msgspec.Struct, frozen=True):
    """A connection that is logged in.

    client_id   None when the server does not tell it.
    warning     what was wrong without hindering the login: a refused client name.
    loaded      the scripts made known on this connection, with the count of calls at that time.
    """

    link: Link
    server: Server
    client_id: int | None
    warning: str | None
    loaded: dict[str, int] = msgspec.field(default_factory=dict)


class LoginRefused(RedisUnavailable):
    """Trying again will not help: the server was reached and does not want us."""


async def open_link(
    address: Address, *, client_name: str | None, connect_timeout_s: float, reply_timeout_s: float | None
) -> Opened:
    """Connect and log in. Raises `RedisUnavailable(sent=False)` with a sentence that names the address."""
    link: Link | None = None
    try:
        async with asyncio.timeout(connect_timeout_s):
            link = await _connect(address, reply_timeout_s)
            opened = await _introduce(link, address, client_name)
    except ConnectionLost as error:
        raise RedisUnavailable(cannot_reach(address, str(error)), sent=False) from None
    except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors
        raise RedisUnavailable(
            cannot_reach(address, why_unreachable(address, error, connect_timeout_s)), sent=False
        ) from error
    else:
        link = None
        return opened
    finally:
        if link is not None:
            link.abort("could not be opened")


async def kill(new: Opened, old: Opened) -> bool:
    """End the old connection from the new one. False if we cannot know that it has ended.

    After True nothing that was sent on the old one can still run. Without, a request may sit in the server's
    input buffer long after our side of the socket is closed.
    """
    if old.client_id is None:
        return False
    if new.server.run_id and old.server.run_id and new.server.run_id != old.server.run_id:
        return True  # that process is gone, and its connections with it; the number may be a stranger's now
    if new.client_id is not None and new.client_id <= old.client_id:
        return True  # ids only grow, so this is another process too
    reply = await new.link.ask("CLIENT", "KILL", "ID", old.client_id)
    return isinstance(reply, int)


async def _connect(address: Address, reply_timeout_s: float | None) -> Link:
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(reply_timeout_s=reply_timeout_s)

    if address.path is not None:
        _, link = await loop.create_unix_connection(make, address.path)
        return link
    context = address.tls.context() if address.tls is not None else None
    transport, link = await loop.create_connection(make, address.host, address.port, ssl=context)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:  # macOS has not all of them
            if (option := getattr(socket, name, None)) is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.IPPROTO_TCP, option, value)
    return link


async def _introduce(link: Link, address: Address, client_name: str | None) -> Opened:
    """Log in and ask who is there, in one write."""
    requests: list[tuple[Arg, ...]] = []
    if address.password is not None:
        user = () if address.user is None else (address.user,)
        requests.append(("AUTH", *user, address.password))
    if address.db:
        requests.append(("SELECT", address.db))  # may be forbidden to a user who needs only database 0
    must_pass = len(requests)
    requests += [("CLIENT", "ID"), ("INFO", "server"), ("INFO", "memory")]
    if client_name is not None:
        requests.append(("CLIENT", "SETNAME", client_name))
    replies = await link.ask_all(requests)

    for number, reply in enumerate(replies):
        if isinstance(reply, hiredis.ReplyError) and (number < must_pass or str(reply).startswith("NOAUTH")):
            _refuse(address, str(reply))
    client_id, server_info, memory_info = replies[must_pass : must_pass + 3]
    server = _server(server_info, memory_info)
    if server.mode == "sentinel":
        why = "that is a Sentinel, which keeps no jobs; name the Redis it watches"
        raise LoginRefused(cannot_reach(address, why), sent=False)
    warning = None
    if isinstance(replies[-1], hiredis.ReplyError) and client_name is not None:
        warning = f"Redis refused the client name {client_name!r} ({replies[-1]}); the connection has no name"
    return Opened(link, server, client_id if isinstance(client_id, int) else None, warning)


def _refuse(address: Address, text: str) -> None:
    """Raise for an error reply to AUTH or SELECT, unless it will pass by itself."""
    if text.startswith("LOADING"):
        raise RedisUnavailable(cannot_reach(address, f"it is still loading its data ({text})"), sent=False)
    if text.startswith(("ERR DB index", "ERR invalid DB index", "ERR SELECT is not allowed")):
        raise LoginRefused(cannot_reach(address, f"it has no database {address.db} ({text})"), sent=False)
    raise LoginRefused(cannot_reach(address, why_login_refused(text)), sent=False)


def _server(*infos: Reply) -> Server:
    facts: dict[str, str] = {}
    for info in infos:
        if isinstance(info, bytes):
            facts.update(_FACT.findall(info.decode("utf-8", "replace")))
    redis_version = facts.get("redis_version", "")
    return Server(
        version=tuple(int(part) for part in re.findall(r"\d+", redis_version)[:3]) or (0,),
        redis_version=redis_version,
        valkey_version=facts.get("valkey_version", ""),
        run_id=facts.get("run_id", ""),
        mode=facts.get("redis_mode", facts.get("server_mode", "")),
        maxmemory_policy=facts.get("maxmemory_policy", ""),
    )
