"""Connections of redis-py: a pool of them for the server that is meant now, and what comes over one.

It finds the server, and says in one sentence why there is no connection. redis-py by itself would repeat a
slow script ten times: its retry is off.

Rule   safe to share between threads; after a fork the pool of the child starts empty
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Sequence
from typing import Any, Final, Protocol

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import Connection as _Tcp
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from supervisor.errors import ConfigError, RedisUnavailable
from supervisor.protocol.commands.base import Reply
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import cannot_reach, why_ended, why_login_refused, why_unreachable
from supervisor.transport.finding import FailingOver, Found, find
from supervisor.transport.requests import pack

MAX_CONNECTIONS: Final = 64


class Connection(Protocol):
    """What is used of redis-py's connections. `pool` is ours: where it is given back to."""

    pool: Any

    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> object: ...
    def read_response(self, disable_decoding: bool, *, timeout: float, disconnect_on_error: bool) -> Any: ...
    def disconnect(self) -> None: ...


class ErrorReply(str):
    """The text of an error reply, with its first word."""


class Pool:
    """The connections to one server, found when the first of them is taken."""

    def __init__(
        self, address: Address, client_name: str | None, connect_timeout_s: float, reply_timeout_s: float
    ) -> None:
        self._address = address
        self._client_name = client_name
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._pool: Any = None  # of the server that was found last; None: it has to be found
        self._heard: tuple[Place, ...] = ()
        self.place: Place = (address.host, address.port)
        self._finding = threading.Lock()

    def take(self) -> Connection:
        """A connection that is open and logged in; a stale one of the pool is opened again.

        Raises `RedisUnavailable(sent=False)` with a sentence that names the address.
        """
        try:
            pool = self._pool
            if pool is None:
                with self._finding:
                    pool = self._pool = self._pool or self._found()
            connection: Connection = pool.get_connection()
        except (redis.RedisError, ConfigError) as error:
            self.lose()
            why = _why(self._address, error, self._connect_timeout_s)
            kind = FailingOver if self._may_come_back(error) else RedisUnavailable
            raise kind(cannot_reach(self._address, why), sent=False) from error
        connection.pool = pool
        return connection

    def _may_come_back(self, error: redis.RedisError | ConfigError) -> bool:
        """Others named the server, and it is not there, or is not what they take it for."""
        if isinstance(error, ConfigError) or _text_of(error) is not None:
            return False
        named = self._address.cluster or self._address.master is not None
        return named and not isinstance(_cause_of(error), ssl.SSLError)

    def give_back(self, connection: Connection) -> None:
        """Back to the pool it is of, which may have been given up meanwhile."""
        connection.pool.release(connection)
        if connection.pool is not self._pool:
            connection.disconnect()

    def lose(self) -> None:
        """Another server may be the right one now: nothing is asked on the idle connections to this one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.disconnect()

    def _found(self) -> Any:
        """A pool for the server that is meant now."""
        finding = find(self._address, self._heard)
        replies: list[Reply] | RedisUnavailable | None = None
        while True:
            try:
                asked, requests = finding.send(replies)  # type: ignore[arg-type]  # None only starts it
            except StopIteration as end:
                found: Found = end.value
                break
            # A third of the time: one that is down must not take that of those behind it.
            told = self.ask_once(asked, [pack(each) for each in requests], self._connect_timeout_s / 3)
            replies = told if isinstance(told, RedisUnavailable) else [_as_hiredis(reply) for reply in told]
        self.place = (found.node.host, found.node.port)
        self._heard = found.heard
        return _made(found.node, self._client_name, self._connect_timeout_s, self._reply_timeout_s)

    @staticmethod
    def ask_once(
        asked: Address, requests: Sequence[bytes], timeout_s: float
    ) -> list[Reply] | RedisUnavailable:
        """The replies to packed requests, on a connection that is opened for them alone; or why there are
        none."""
        pool = _made(asked, None, timeout_s, timeout_s)
        try:
            connection = pool.get_connection()
            connection.send_packed_command([b"".join(requests)], check_health=False)
            return [read(connection, timeout_s) for _ in requests]
        except (redis.RedisError, ConfigError) as error:
            return RedisUnavailable(cannot_reach(asked, _why(asked, error, timeout_s)), sent=False)
        finally:
            pool.disconnect()


def _as_hiredis(reply: Reply) -> Reply:
    return hiredis.ReplyError(str(reply)) if isinstance(reply, ErrorReply) else reply


def _why(address: Address, error: redis.RedisError | ConfigError, connect_timeout_s: float) -> str:
    """Why there is no connection."""
    if isinstance(error, ConfigError):
        return str(error)
    text = _text_of(error)
    if text is not None:
        return why_login_refused(text)
    cause = _cause_of(error)
    why = why_unreachable(address, cause, connect_timeout_s)
    return why if isinstance(cause, OSError) else why_ended(address, why)


def _cause_of(error: redis.RedisError) -> BaseException:
    return error.__cause__ or error.__context__ or error


def _made(address: Address, client_name: str | None, connect_timeout_s: float, reply_timeout_s: float) -> Any:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.user,
        "password": address.secret(),
        "client_name": client_name,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": connect_timeout_s,
        "socket_timeout": reply_timeout_s,
        "health_check_interval": 0,
        "connection_class": _Tcp,
    }
    if address.path is not None:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        options |= {"host": address.host, "port": address.port, "socket_keepalive": True}
    if address.tls is not None:
        options |= {
            "connection_class": SSLConnection,
            "ssl_cert_reqs": address.tls.cert_reqs,
            "ssl_ca_certs": address.tls.ca_certs,
            "ssl_certfile": address.tls.certfile,
            "ssl_keyfile": address.tls.keyfile,
            "ssl_check_hostname": address.tls.check_hostname and address.tls.cert_reqs == "required",
        }
    make: Any = redis.BlockingConnectionPool  # it has no types
    return make(max_connections=MAX_CONNECTIONS, timeout=reply_timeout_s, **options)


def read(connection: Connection, timeout_s: float) -> Reply:
    """One reply, as Redis sent it; an error reply as its text. Raises only when no reply came."""
    try:
        return connection.read_response(disable_decoding=True, timeout=timeout_s, disconnect_on_error=False)
    except redis.RedisError as error:
        text = _text_of(error)
        if text is None:
            raise
        return ErrorReply(text)


def _text_of(error: redis.RedisError) -> str | None:
    """What Redis said; None when it said nothing. redis-py takes the first word off errors it knows."""
    word = getattr(error, "status_code", None)
    if word is not None:
        return f"{word} {error}"
    return str(error) if isinstance(error, redis.ResponseError) else None
