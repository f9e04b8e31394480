"""`Redis` for code without `await`: commands over a pool of redis-py connections.

The same decisions as `aio`, in the same words; only `execute_repeatable` is missing, which is the master's.
Nothing of redis-py is used but its connections and their pool (`pool`).

Reads    sockets, `clock` and `rng` as passed in; `sleep` waits while Redis is away, loading or busy
Rule     safe to share between threads; after a fork the pool of the child starts empty
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast

import msgspec
import redis

from supervisor import lua
from supervisor.errors import OxherdError, RedisError, RedisRefused, RedisUnavailable
from supervisor.protocol.commands.base import Command, ReadCommand, Reply, ScriptCommand
from supervisor.transport.address import Address
from supervisor.transport.answers import (
    ASK,
    GONE_ELSEWHERE,
    NO_SCRIPT,
    cannot_reach,
    explained,
    passes,
    pause_s,
    why_login_refused,
    word_of,
)
from supervisor.transport.asking import elsewhere
from supervisor.transport.call import decoded
from supervisor.transport.finding import FailingOver
from supervisor.transport.pool import Connection, ErrorReply, Pool, read
from supervisor.transport.requests import Script, Scripts, name_of, pack, pack_reads, pack_script

T = TypeVar("T")

PATIENCE_S: Final = 10.0
_RELOADS: Final = 3
_AT_ONCE: Final = 1_000  # commands in one write
_BLOCK_MARGIN_S: Final = 5.0


class _Entry(msgspec.Struct, Generic[T]):
    """One command on its way. When it is settled, `result` or `error` is set.

    aside   so many replies come first that nobody looks at.
    """

    command: Command[T]
    request: bytes
    due: int
    script: Script | None
    replies: list[Reply] = msgspec.field(default_factory=list)
    lost: str = ""
    aside: int = 0
    reloads: int = 0
    settled: bool = False
    result: T | None = None
    error: RedisError | OxherdError | None = None

    def fail(self, error: OxherdError) -> None:
        self.settled, self.error = True, error


class Redis:
    """One server, by as many connections as there are threads in it at a time."""

    def __init__(
        self,
        address: Address | str,
        *,
        prefix: str | None = None,
        client_name: str | None = None,
        sources: Callable[[str], str] = lua.source,
        reply_timeout_s: float = 10.0,
        connect_timeout_s: float = 5.0,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is opened yet; `connect` opens at once and is the better way to find a wrong address.

        prefix            of the keys; in a cluster it tells the node, unless the address knows it.
        reply_timeout_s   silence for so long means the reply is lost.
        patience_s        how long to wait while Redis is loading, busy or without a master, and, once it was
                          reached, also while it is away.
        """
        address = Address.parse(address) if isinstance(address, str) else address
        self.address = address.for_prefix(prefix or address.prefix or "")
        self._scripts = Scripts(sources, self.address.guard)
        self._reply_timeout_s = reply_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._patience_s = patience_s
        self._clock, self._rng, self._sleep = clock, rng, sleep
        self._was_up = False
        self._readers: dict[str, Redis] = {}
        self._options: dict[str, Any] = {"connect_timeout_s": connect_timeout_s, "clock": clock, "rng": rng}
        self._loaded: set[str] = set()
        self._load_errors: dict[str, str] = {}
        if client_name is not None and not _can_be_a_name(client_name):
            client_name = None
        self._pool = Pool(self.address, client_name, connect_timeout_s, reply_timeout_s)

    @classmethod
    def connect(cls, address: Address | str, **options: Any) -> Self:
        """A client that has reached its server. Raises `RedisUnavailable` with a sentence that names it."""
        client = cls(address, **options)
        until = client._clock() + client._patience_s
        tries = 0
        while True:
            try:
                client._pool.give_back(client._pool.take())
            except FailingOver:
                if client._clock() >= until:
                    raise
            else:
                client._was_up = True
                return client
            client._sleep(pause_s(tries, client._rng()))
            tries += 1

    def execute(self, command: Command[T], *, timeout_s: float | None = None) -> T:
        """Run one command once.

        timeout_s   how long the reply may take; None: `reply_timeout_s`.

        Raises `RedisRefused` with Redis' own words, `RedisUnavailable(sent=False)` when it did not run, and
        `RedisUnavailable(sent=True)` when the reply of a script was lost: it ran or not. What only reads is
        then asked again.
        """
        reply_timeout_s = self._reply_timeout_s if timeout_s is None else timeout_s
        return self._alone(self._entry(command), reply_timeout_s, self._patience_s)

    def read_blocking(
        self, command: ReadCommand[T], timeout_s: float, *, client_name: str | None = None
    ) -> T:
        """Run a read that blocks on the server (`XREAD BLOCK`) on a connection of its own.

        timeout_s     how long the server may block; we wait a little longer than that.
        client_name   what that connection is called in `CLIENT LIST`; one that Redis refuses is left away.

        Raises `RedisUnavailable` at once when Redis is away: the caller decides whether to read on.
        """
        entry = self._entry(command)
        if client_name is not None:
            # Said with each read: a connection of the pool may be new.
            entry.request = pack(("CLIENT", "SETNAME", client_name)) + entry.request
            entry.aside = 1
        reader = self if client_name is None else self._reader(client_name)
        return reader._alone(entry, timeout_s + _BLOCK_MARGIN_S, 0.0)

    def execute_many(self, commands: Sequence[Command[T]]) -> list[T | RedisError]:
        """Run commands in one pipeline; each entry is a result or the error `execute` would have raised."""
        entries = [self._entry(command) for command in commands]
        for start in range(0, len(entries), _AT_ONCE):
            self._settle(entries[start : start + _AT_ONCE], self._reply_timeout_s, self._patience_s)
        results: list[T | RedisError] = []
        for entry in entries:
            if entry.error is not None and not isinstance(entry.error, RedisError):
                raise entry.error
            results.append(cast(T, entry.result) if entry.error is None else entry.error)
        return results

    def close(self) -> None:
        self._pool.close()
        for reader in self._readers.values():
            reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ----------------------------------------------------------------------------------------

    def _entry(self, command: Command[T]) -> _Entry[T]:
        name = name_of(command)
        if name is None:
            request, due = pack_reads(cast("ReadCommand[T]", command))
            return _Entry(command, request, due, None)
        script = self._scripts.get(name)
        return _Entry(command, pack_script(script, cast("ScriptCommand[T]", command)), 1, script)

    def _reader(self, client_name: str) -> Redis:
        """A client whose connections bear this name, so that none of ours does that is used otherwise."""
        reader = self._readers.get(client_name)
        if reader is None:
            reader = self._readers.setdefault(client_name, Redis(self.address, **self._options))
        return reader

    def _alone(self, entry: _Entry[T], timeout_s: float, patience_s: float) -> T:
        self._settle([entry], timeout_s, patience_s)
        if entry.error is not None:
            raise entry.error
        return cast(T, entry.result)

    def _settle(self, entries: Sequence[_Entry[Any]], timeout_s: float, patience_s: float) -> None:
        """Exchange until every entry has its result or error; what did not run is sent again."""
        until = self._clock() + patience_s
        tries = 0
        left = list(entries)
        while True:
            try:
                connection = self._pool.take()
            except RedisUnavailable as error:
                if not (self._was_up or isinstance(error, FailingOver)):
                    raise
                waits = [str(error)]
            else:
                self._was_up = True
                self._exchange(connection, left, timeout_s)
                waits = [why for entry in left if not entry.settled and (why := self._judge(entry))]
            left = [entry for entry in left if not entry.settled]
            if not left:
                return
            if waits:  # else only scripts were unknown, which the next exchange loads
                if self._clock() >= until:
                    why = f"Redis at {self.address} cannot be used: {waits[0]}. Nothing was done."
                    for entry in left:
                        entry.fail(RedisUnavailable(why, sent=False))
                    return
                self._sleep(pause_s(tries, self._rng()))
                tries += 1

    def _judge(self, entry: _Entry[Any]) -> str | None:
        """Settle an entry by its replies, or say why it should wait; None for go on at once."""
        if entry.lost:
            entry.replies = []
            why, entry.lost = entry.lost, ""
            return why
        refusal = _refusal(entry.replies)
        if refusal is not None and word_of(refusal) == ASK:
            self._ask_elsewhere(entry)
            refusal = _refusal(entry.replies)
        if refusal is None:
            try:
                entry.result = decoded(
                    entry.command, entry.replies if entry.script is None else entry.replies[0]
                )
                entry.settled = True
            except OxherdError as error:
                entry.fail(error)
            return None
        word = word_of(refusal)
        name = entry.script.name if entry.script is not None else ""
        entry.replies = []
        if word == NO_SCRIPT and entry.script is not None and entry.reloads < _RELOADS:
            entry.reloads += 1
            self._loaded.discard(name)
            return None
        if passes(refusal, self.address.slot):
            if word in GONE_ELSEWHERE:
                self._pool.lose()
            return str(refusal)
        if word == "NOAUTH":  # found only now: without a password in the URL there is no login
            why = cannot_reach(self.address, why_login_refused(refusal))
            entry.fail(RedisUnavailable(why, sent=False))
            return None
        text = self._load_errors.get(name, str(refusal)) if word == NO_SCRIPT else str(refusal)
        entry.fail(RedisRefused(explained(text)))
        return None

    def _ask_elsewhere(self, entry: _Entry[Any]) -> None:
        """The slot moves: what is no longer here is asked there."""
        requests = [entry.request]
        if entry.script is None:
            requests = [pack(each) for each in cast("ReadCommand[Any]", entry.command).requests()]
        found = elsewhere(requests, entry.replies, entry.script, self._pool.place)
        if found is not None:
            there = self.address.at(found.node)
            told = self._pool.ask_once(there, found.requests, self._connect_timeout_s)
            if not isinstance(told, RedisUnavailable):
                entry.replies = found.patched(entry.replies, told)

    def _exchange(self, connection: Connection, entries: Sequence[_Entry[Any]], timeout_s: float) -> None:
        """One write and its replies. A script that gets none is settled with an error that says so."""
        loads = {e.script.name: e.script for e in entries if e.script and e.script.name not in self._loaded}
        parts = [script.load for script in loads.values()] + [entry.request for entry in entries]
        clean = False
        try:
            connection.send_packed_command([b"".join(parts)], check_health=False)
            for name in loads:
                reply = read(connection, timeout_s)
                if isinstance(reply, ErrorReply):
                    self._load_errors[name] = str(reply)
                else:
                    self._loaded.add(name)
            for entry in entries:
                for _ in range(entry.aside):
                    read(connection, timeout_s)
                entry.replies = [read(connection, timeout_s) for _ in range(entry.due)]
            clean = True
        except (redis.RedisError, OSError) as error:
            why = f"Redis at {self.address} was lost before it answered ({error})."
            for entry in entries:
                if len(entry.replies) < entry.due:
                    entry.lost = why
                    if entry.script is not None:
                        entry.fail(RedisUnavailable(f"{why} Whether the request ran is unknown.", sent=True))
        finally:
            if not clean:  # also for an interrupt: replies may still come
                connection.disconnect()
            self._pool.give_back(connection)


def _refusal(replies: Sequence[Reply]) -> ErrorReply | None:
    return next((reply for reply in replies if isinstance(reply, ErrorReply)), None)


def _can_be_a_name(name: str) -> bool:
    return all("!" <= character <= "~" for character in name)
