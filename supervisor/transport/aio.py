"""`Redis` for asyncio: commands over one connection that is opened again for ever.

It decides what is sent again and when; a command decides what it means. Nothing here, and no library below,
repeats a script on its own account. Three things happen to a call without a result:

    it did not run      Redis says so (NOSCRIPT, LOADING, READONLY...): it is sent again, after a pause
    it was never sent   the connection broke before the request left this process: the same
    its reply was lost  `execute` says so; `execute_repeatable` kills the old connection from the new one and
                        then sends the command's own repetition, which its script knows how to take

Longer than most modules because the one connection and every way in which a call on it may end have to be
seen together.

Reads    the socket, `clock` and `rng` as passed in
Tells    `on_state(connected, why)` at each loss and each return, from the event loop
Rule     "Lost replies" in the invariants; I1: in a running master nobody else holds one of these
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import hiredis

from supervisor import lua
from supervisor.errors import NotRepeatable, RedisError, RedisRefused, RedisUnavailable
from supervisor.protocol.commands.base import Command, ReadCommand, RepeatableCommand, Reply
from supervisor.transport.address import Address
from supervisor.transport.answers import (
    GONE_ELSEWHERE,
    NO_SCRIPT,
    explained,
    passes,
    pause_s,
    word_of,
)
from supervisor.transport.asking import Elsewhere, elsewhere
from supervisor.transport.call import Call, LoadCall, decoded
from supervisor.transport.link import ConnectionLost, Link
from supervisor.transport.opening import Opened, Server, ask_once
from supervisor.transport.requests import Scripts
from supervisor.transport.session import Grave, Session, Settings

T = TypeVar("T")

PATIENCE_S: Final = 10.0
_DOUBT_S: Final = 0.05  # how often `give_up` is asked
_RELOADS: Final = 3  # a script that is unknown again right after it was loaded so often is not loadable
_BLOCK_MARGIN_S: Final = 5.0
_ELSEWHERE_AT_ONCE: Final = 8  # connections to a node that takes our slot over
_CLOSED: Final = "the connection to Redis was closed on our side"


class Redis:
    """One server and the connection to it. Made by `connect`; `close` it."""

    def __init__(self, session: Session, scripts: Scripts) -> None:
        self.address = session.address
        self._session = session
        self._scripts = scripts
        self._loop = asyncio.get_running_loop()
        self._order = 0  # counts the calls written
        self._load_errors: dict[str, str] = {}
        self._doubts: dict[Call[Any], Callable[[], bool]] = {}
        self._doubt_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_readers: dict[str | None, list[Link]] = {}  # by the name they bear
        self._busy_readers: set[Link] = set()
        self._elsewhere = asyncio.Semaphore(_ELSEWHERE_AT_ONCE)

    @classmethod
    async def connect(
        cls,
        address: Address | str,
        *,
        prefix: str | None = None,
        client_name: str | None = None,
        sources: Callable[[str], str] = lua.source,
        reply_timeout_s: float = 10.0,
        connect_timeout_s: float = 5.0,
        retry_for_s: float | None = None,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        on_state: Callable[[bool, str], None] | None = None,
    ) -> Redis:
        """Open the first connection. Later ones are opened in the background, for ever.

        prefix             of the keys; in a cluster it tells the node, unless the address knows it.
        sources            the text of a script by its name.
        client_name        for `CLIENT LIST`; one that Redis refuses is left away, see `warning`.
        reply_timeout_s    silence for so long while a reply is due: the connection is given up.
        retry_for_s        go on trying the first connection for so long; None: one try.
        patience_s         how long `execute` waits for a Redis that is away or loading.
        on_state           told of each loss and return with a reason.

        Raises `RedisUnavailable` with a sentence that names the address, `ConfigError` for a wrong one.
        """
        if isinstance(address, str):
            address = Address.parse(address)
        address = address.for_prefix(prefix or address.prefix or "")
        told = on_state or (lambda connected, why: None)
        settings = Settings(client_name, reply_timeout_s, connect_timeout_s, patience_s, clock, rng, told)
        session = Session(address, settings)
        await session.start(retry_for_s or 0.0)
        return cls(session, Scripts(sources, address.guard))

    # --- what is known ---------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._session.opened is not None

    @property
    def answered_at(self) -> float:
        """Loop time at which the newest connection has last brought anything; 0 for never."""
        return self._session.last.link.answered_at

    @property
    def reconnects(self) -> int:
        """How often the connection was opened again.

        After each, fetch once without waiting: a pop whose reply was lost may have eaten the marker.
        """
        return self._session.reconnects

    @property
    def server(self) -> Server:
        """Who answered last."""
        return self._session.last.server

    @property
    def client_id(self) -> int | None:
        return self._session.last.client_id

    @property
    def warning(self) -> str | None:
        """What was wrong with the last login without hindering it: a refused client name."""
        return self._session.last.warning

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty while there is one."""
        return self._session.trouble

    def connect_again(self, why: str) -> None:
        """Give the present connection up and open another. Calls under way are treated as after any loss."""
        if self._session.opened is not None:
            self._session.opened.link.abort(why)

    # --- commands --------------------------------------------------------------------------------------

    def submit(self, command: Command[T], *, patience_s: float | None = None) -> asyncio.Future[T]:
        """Send without waiting; the future gets what `execute` would return or raise.

        While connected, commands run in the order in which they were submitted. All of one turn of the event
        loop go out in one write.
        """
        call = self._call(command, patience_s)
        self._start(call)
        return call.future

    async def execute(self, command: Command[T], *, patience_s: float | None = None) -> T:
        """Run one command once.

        Raises `RedisRefused` with Redis' own words, `RedisUnavailable(sent=False)` when Redis was away or
        loading for longer than `patience_s`: it did not run; and `RedisUnavailable(sent=True)` when the reply
        of a script was lost: it ran or not. What only reads is then asked again.
        """
        call = self._call(command, patience_s)
        opened = self._session.opened
        if opened is not None:
            await opened.link.room()
        # Who waits for nobody need not wait for the end of the turn.
        self._start(call, now=opened is not None and opened.link.idle)
        return await call.future

    async def execute_many(self, commands: Sequence[Command[T]]) -> list[T | RedisError]:
        """Run commands in one pipeline; each entry is a result or the error that `execute` would have raised.

        What cannot be sent at all (`UsageError`) is raised before anything is.
        """
        calls = [self._call(command, None) for command in commands]
        for call in calls:
            if self._session.opened is not None:
                await self._session.opened.link.room()
            self._start(call)
        results = await asyncio.gather(*(call.future for call in calls), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RedisError):
                raise result
        return cast("list[T | RedisError]", results)

    async def execute_repeatable(
        self, command: RepeatableCommand[T], *, give_up: Callable[[], bool] | None = None
    ) -> T:
        """Run one command exactly once, however often the connection breaks and however long Redis is away.

        give_up   asked every 50 ms while there is no reply; True raises `RedisUnavailable`, whose `sent` says
                  whether the command may have run.

        Raises `NotRepeatable` when the reply was lost and Redis does not let us kill the old connection; then
        nothing is sent again: leases lapse and the stalled check recovers.
        """
        if self._session.opened is not None:
            await self._session.opened.link.room()
        return await self.submit_repeatable(command, give_up=give_up)

    def submit_repeatable(
        self,
        command: RepeatableCommand[T],
        *,
        give_up: Callable[[], bool] | None = None,
        then: Callable[[asyncio.Future[T]], None] | None = None,
    ) -> asyncio.Future[T]:
        """Send without waiting; the future gets what `execute_repeatable` would return or raise.

        then   called with the future when it is done. Such a call is in a hurry: it is written now and not
               at the end of the turn of the loop, and its result is told in the turn in which it came; not
               so if somebody waits for an earlier reply, who would be told after it.
        """
        call = self._call(command, math.inf)
        call.repeatable = True
        self._doubt(call, give_up)
        if then is not None:
            call.then = then
            call.future.add_done_callback(then)
        self._start(call, now=then is not None)
        return call.future

    def _doubt(self, call: Call[Any], give_up: Callable[[], bool] | None) -> None:
        if give_up is not None:
            self._doubts[call] = give_up
            self._watch_doubts()

    def submit_lost(
        self,
        command: RepeatableCommand[T],
        opened: Opened,
        *,
        give_up: Callable[[], bool] | None = None,
    ) -> asyncio.Future[T]:
        """What became of a command that was sent on a connection of its own, `opened`, and whose reply was
        lost: that connection is ended from here, and then the command's repetition is sent.
        """
        call = self._call(command, math.inf)
        call.repeatable, call.sent, call.grave = True, True, Grave(opened)
        self._doubt(call, give_up)
        self._spawn(self._resume(call, 0.0, "a connection was lost"))
        return call.future

    async def read_blocking(
        self, command: ReadCommand[T], timeout_s: float, *, client_name: str | None = None
    ) -> T:
        """Run a read that blocks on the server (`XREAD BLOCK`) on a connection of its own.

        timeout_s     how long the server may block; we wait a little longer and then give the connection up.
        client_name   what that connection is called in `CLIENT LIST`; one that Redis refuses is left away.

        Raises `RedisUnavailable` at once when Redis is away: the caller decides whether to read on.
        """
        idle = self._idle_readers.setdefault(client_name, [])
        while idle and not idle[-1].usable:
            idle.pop()
        link = idle.pop() if idle else (await self._session.open(None, client_name)).link
        self._busy_readers.add(link)
        try:
            async with asyncio.timeout(timeout_s + _BLOCK_MARGIN_S):
                replies = await link.ask_all(command.requests())
        except TimeoutError:
            link.abort("silence")
            why = f"Redis at {self.address} did not answer a blocking read of {timeout_s:g} s"
            raise RedisUnavailable(why, sent=True) from None
        except BaseException:
            link.abort("the blocking read was given up")  # its reply would be taken for that of the next one
            raise
        finally:
            self._busy_readers.discard(link)
        if self._session.closed:
            link.abort(_CLOSED)
        else:
            idle.append(link)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                if passes(str(reply), self.address.slot):
                    link.abort(str(reply))  # its server is no longer the right one
                    raise RedisUnavailable(str(reply), sent=False)
                raise RedisRefused(explained(str(reply)))
        return decoded(command, replies)

    async def close(self) -> None:
        """End the connections. Calls without a reply get `RedisUnavailable`."""
        for task in self._tasks:
            task.cancel()
        for reader in [*itertools.chain(*self._idle_readers.values()), *self._busy_readers]:
            reader.abort(_CLOSED)
        await self._session.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close their sockets in the next turn of the loop

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- a call on its way (the owner's half of `call.Call`) --------------------------------------------

    def answered(self, call: Call[Any]) -> None:
        self._doubts.pop(call, None)

    def refused(self, call: Call[Any], text: str, replies: Sequence[Reply]) -> None:
        """Redis answered with an error: repeat what did not run, else tell the caller.

        replies   all that came for the call, in the order of its requests.
        """
        word = word_of(text)
        if word == NO_SCRIPT and call.script is not None and call.reloads < _RELOADS:
            name = call.script.name
            loaded = self._session.last.loaded
            if loaded.get(name, -1) < call.order:  # else it was loaded again after this call was sent
                loaded.pop(name, None)
            call.reloads += 1
            self._start(call)
        elif passes(text, self.address.slot):
            call.sent = call.grave is not None
            if word in GONE_ELSEWHERE:
                self._session.retire(text)
            node = self._session.last.found.node
            found = elsewhere(call.requests(), replies, call.script, (node.host, node.port))
            if found is not None:
                self._spawn(self._ask_elsewhere(call, found, replies))
            else:
                self._try_later(call, text)
        else:
            name = call.script.name if call.script is not None else ""
            text = self._load_errors.get(name, text) if word == NO_SCRIPT else text
            call.fail(RedisRefused(explained(text)))

    def _try_later(self, call: Call[Any], why: str) -> None:
        self._start_later(call, pause_s(call.tries, self._session.settings.rng()), why)
        call.tries += 1

    async def _ask_elsewhere(self, call: Call[Any], found: Elsewhere, replies: Sequence[Reply]) -> None:
        """The slot moves: what is no longer here is asked there."""
        timeout_s = self._session.settings.connect_timeout_s
        try:
            async with self._elsewhere:
                told = await ask_once(self.address.at(found.node), found.requests, timeout_s)
        except RedisUnavailable as error:
            self._try_later(call, str(error))
        except asyncio.CancelledError:
            call.fail(RedisUnavailable(_CLOSED, sent=call.sent))
            raise
        else:
            call.settle(found.patched(replies, told))

    def lost(self, call: Call[Any], lost: ConnectionLost) -> None:
        """The connection ended before the reply."""
        if self._session.closed:
            call.fail(RedisUnavailable(_CLOSED, sent=lost.sent or call.grave is not None))
            return
        if not lost.sent:
            call.sent = call.grave is not None
        elif call.repeatable:
            call.grave = self._session.last_grave
        elif not call.only_reads:
            call.fail(
                RedisUnavailable(
                    f"Redis at {self.address} was lost before it answered ({lost}). "
                    "Whether the request ran is unknown.",
                    sent=True,
                )
            )
            return
        self._start_later(call, 0.0, str(lost))

    def _call(self, command: Command[T], patience_s: float | None) -> Call[T]:
        settings = self._session.settings
        until = settings.clock() + (settings.patience_s if patience_s is None else patience_s)
        return Call(self, command, self._scripts, self._loop.create_future(), until)

    def _start(self, call: Call[Any], *, now: bool = False) -> None:
        """Queue it, or write it now; without a connection, when there is one."""
        opened = self._session.opened
        if opened is None:
            self._start_later(call, 0.0, self._session.trouble)
            return
        script = call.script
        self._order += 1
        if script is not None and script.name not in opened.loaded:
            opened.loaded[script.name] = self._order
            opened.link.send(script.load, LoadCall(script.name, self._load_errors))
            self._order += 1
        call.order = self._order
        call.at_once = call.then is not None and opened.link.in_order
        call.sent = True
        opened.link.send(call.request, call, now=now)

    def _start_later(self, call: Call[Any], wait_s: float, why: str) -> None:
        if call.future.done():
            return
        if self._session.closed:
            call.fail(RedisUnavailable(_CLOSED, sent=call.sent))
        else:
            self._spawn(self._resume(call, wait_s, why))

    async def _resume(self, call: Call[Any], wait_s: float, why: str) -> None:
        """Write a call again, in a while, with a connection, unless its time is over."""
        try:
            left_s = call.until - self._session.settings.clock()
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                await asyncio.sleep(wait_s)
                await self._session.up.wait()
                if call.grave is not None:
                    await self._session.seal(call.grave)
        except TimeoutError:
            call.fail(
                RedisUnavailable(
                    f"Redis at {self.address} cannot be used: {why}. Nothing was done.", sent=False
                )
            )
            return
        except asyncio.CancelledError:
            call.fail(RedisUnavailable(_CLOSED, sent=call.sent))
            raise
        if call.future.done():
            return
        if call.grave is not None and not self._may_repeat(call):
            return
        self._start(call)

    def _may_repeat(self, call: Call[Any]) -> bool:
        """Turn a call whose reply was lost into its repetition, if nothing of it can run any more."""
        if not call.grave.sealed:
            call.fail(
                NotRepeatable(
                    f"the reply of Redis at {self.address} was lost, and Redis does not let this user end "
                    "the old connection (CLIENT KILL, CLIENT ID). Whether the call ran is unknown, so it "
                    "is not sent again."
                )
            )
            return False
        call.repeat(self._scripts)
        return True

    def _watch_doubts(self) -> None:
        if self._doubts and self._doubt_timer is None:
            self._doubt_timer = self._loop.call_later(_DOUBT_S, self._ask_doubts)

    def _ask_doubts(self) -> None:
        self._doubt_timer = None
        self._doubts = {call: asked for call, asked in self._doubts.items() if not call.future.done()}
        for call, give_up in self._doubts.items():
            if give_up():
                why = self._session.trouble or "it did not answer"
                call.fail(
                    RedisUnavailable(f"gave up waiting for Redis at {self.address}: {why}", sent=call.sent)
                )
        self._watch_doubts()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
