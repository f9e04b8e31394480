"""Opening a connection: finding the server, login, name, who answers, and the end of an old connection.

It makes one `Link` ready to use, or says in one sentence why it cannot. When to try again, others decide.

Rule   behind Sentinels a connection is to a server that calls itself the master, in a cluster to the node
       that holds our slot by its own word; what Sentinels and other nodes say may be old
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Final

import hiredis
import msgspec
from msgspec import structs

from supervisor.errors import ConfigError, RedisUnavailable
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import (
    MOVED,
    cannot_reach,
    why_ended,
    why_login_refused,
    why_unreachable,
    word_of,
)
from supervisor.transport.finding import FailingOver, Found, LoginRefused, find
from supervisor.transport.link import Asked, ConnectionLost, Link
from supervisor.transport.requests import pack

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
    found       the server, and what was heard of its cluster.
    loaded      the scripts made known on this connection, with the count of calls at that time.
    """

    link: Link
    server: Server
    client_id: int | None
    warning: str | None
    found: Found
    loaded: dict[str, int] = msgspec.field(default_factory=dict)


async def open_link(
    address: Address,
    *,
    client_name: str | None,
    connect_timeout_s: float,
    reply_timeout_s: float | None,
    heard: Sequence[Place] = (),
) -> Opened:
    """Find the server, connect and log in.

    heard   nodes of the cluster that an earlier connection has heard of.

    Raises `RedisUnavailable(sent=False)` with a sentence that names the address; `LoginRefused` when to try
    again is of no use, `FailingOver` when it probably is.
    """
    found = await _find(address, heard, connect_timeout_s)
    try:
        async with _connected(found.node, connect_timeout_s, reply_timeout_s) as link:
            return await _introduce(link, address, found, client_name)
    except (LoginRefused, FailingOver):
        raise
    except RedisUnavailable as error:
        if found.node is address:
            raise
        raise FailingOver(str(error), sent=False) from error  # they name it, and it is not there any more


async def _find(address: Address, heard: Sequence[Place], connect_timeout_s: float) -> Found:
    finding = find(address, heard)
    replies: list[Reply] | RedisUnavailable | None = None
    while True:
        try:
            asked, requests = finding.send(replies)  # type: ignore[arg-type]  # None only starts it
        except StopIteration as end:
            found: Found = end.value
            return found
        try:
            # A third of the time: one that is down must not take that of those behind it.
            replies = await ask_once(asked, [pack(each) for each in requests], connect_timeout_s / 3)
        except RedisUnavailable as error:
            replies = error


async def ask_once(asked: Address, requests: Sequence[bytes], timeout_s: float) -> list[Reply]:
    """The replies to packed requests, on a connection that is opened for them alone.

    Raises `RedisUnavailable` with a sentence that names the address.
    """
    async with _connected(asked, timeout_s, None) as link:
        replies = await _ask(link, asked, requests)
        link.abort("asked")
    return replies


@contextlib.asynccontextmanager
async def _connected(
    address: Address, connect_timeout_s: float, reply_timeout_s: float | None
) -> AsyncIterator[Link]:
    """A connection to one server, for what has to be said first; both in time, or the connection is ended."""
    link: Link | None = None
    try:
        async with asyncio.timeout(connect_timeout_s):
            link = await _connect(address, reply_timeout_s)
            yield link
    except ConnectionLost as error:
        raise RedisUnavailable(cannot_reach(address, why_ended(address, str(error))), sent=False) from None
    except ConfigError as error:  # a file of a password or a certificate, which may come back
        raise LoginRefused(cannot_reach(address, str(error)), sent=False) from None
    except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors
        kind = LoginRefused if isinstance(error, ssl.SSLCertVerificationError) else RedisUnavailable
        why = why_unreachable(address, error, connect_timeout_s)
        raise kind(cannot_reach(address, why), sent=False) from error
    else:
        link = None
    finally:
        if link is not None:
            link.abort("could not be opened")


async def kill(new: Opened, old: Opened, *, opened_later: bool = True) -> bool:
    """End the old connection from the new one. False if we cannot know that it has ended.

    opened_later   the new one was opened when the old one was there already.

    After True nothing that was sent on the old one can still run. Without, a request may sit in the server's
    input buffer long after our side of the socket is closed.
    """
    if old.client_id is None:
        return False
    known = bool(new.server.run_id and old.server.run_id)
    if known and new.server.run_id != old.server.run_id:
        # That process is gone, and its connections with it; the number may be a stranger's now. Or it lives
        # and another is the master: what still runs there is lost when it follows, and never comes here.
        return True
    if new.found.node != old.found.node and not new.server.run_id:
        return False  # another server or another name of the same; its numbers would say nothing
    if new.client_id is not None and new.client_id <= old.client_id and not known:
        return opened_later  # ids only grow, so this is another process too
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


async def _ask(link: Link, address: Address, requests: Sequence[bytes]) -> list[Reply]:
    """Log in and ask, in one write; the replies to `requests`."""
    login = _login(address)
    asked = _Said(asyncio.get_running_loop().create_future(), len(login) + len(requests))
    link.send(b"".join([*map(pack, login), *requests]), asked)
    replies = await asked.future
    for reply in replies[: len(login)]:
        if isinstance(reply, hiredis.ReplyError):
            _refuse(address, str(reply))
    return replies[len(login) :]


def _login(address: Address) -> list[tuple[Arg, ...]]:
    requests: list[tuple[Arg, ...]] = []
    password = address.secret()
    if password is not None:
        user = () if address.user is None else (address.user,)
        requests.append(("AUTH", *user, password))
    if address.db:
        requests.append(("SELECT", address.db))  # may be forbidden to a user who needs only database 0
    return requests


async def _introduce(link: Link, address: Address, found: Found, client_name: str | None) -> Opened:
    """Log in and ask who is there, in one write."""
    requests: list[tuple[Arg, ...]] = [("CLIENT", "ID"), ("INFO", "server"), ("INFO", "memory")]
    if address.master is not None:
        requests.append(("ROLE",))
    elif address.guard is not None:
        requests.append(("EXISTS", address.guard))
    asked = len(requests)
    if client_name is not None:
        requests.append(("CLIENT", "SETNAME", client_name))
    replies = await _ask(link, found.node, [pack(each) for each in requests])
    client_id, server_info, memory_info, *place = replies[:asked]
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError) and word_of(str(reply)) == "NOAUTH":
            _refuse(found.node, str(reply))
    server = _server(server_info, memory_info)
    _check_place(address, found.node, server, place[0] if place else None)
    warning = None
    if isinstance(replies[-1], hiredis.ReplyError) and client_name is not None:
        warning = f"Redis refused the client name {client_name!r} ({replies[-1]}); the connection has no name"
    return Opened(link, server, client_id if isinstance(client_id, int) else None, warning, found)


def _check_place(address: Address, node: Address, server: Server, place: Reply) -> None:
    """Raise unless this is the server that `address` means."""
    if server.mode == "sentinel":
        why = f"that is a Sentinel, which keeps no jobs; write redis+sentinel://{node.host}:{node.port}/NAME"
        raise LoginRefused(cannot_reach(node, f"{why} with the name of the master it watches"), sent=False)
    if server.mode == "cluster" and not address.cluster:
        why = f"that is a node of a Redis Cluster; write {structs.replace(node, cluster=True, db=0)}"
        raise LoginRefused(cannot_reach(node, why), sent=False)
    if address.master is not None and isinstance(place, list) and place[0] != b"master":
        why = f"the Sentinels still name {node} the master, and it is a {place[0].decode()}"
        raise FailingOver(cannot_reach(address, why), sent=False)
    if address.cluster and isinstance(place, hiredis.ReplyError) and word_of(str(place)) == MOVED:
        raise RedisUnavailable(cannot_reach(address, f"the slot has just left {node} ({place})"), sent=False)


class _Said(Asked):
    """The replies to a login. Where the connection ends first, what was said last tells why."""

    __slots__ = ()

    def lose(self, lost: ConnectionLost) -> None:
        errors = [str(reply) for reply in self.replies if isinstance(reply, hiredis.ReplyError)]
        if not self.future.done():
            self.future.set_exception(ConnectionLost(errors[0], sent=False) if errors else lost)


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
