"""The calls that write outcomes and take jobs: one queue, as few calls as possible.

Decides what goes into one call: all outcomes that are ready, and as many jobs as slots are free. While a call
is on its way further outcomes gather for the next, so batches grow with the load and an idle queue is
answered at once. What an outcome says is finish.py's, whether to ask for jobs is the fetcher's.

While nothing waits a call stands at the server, behind the fetcher's pop of the marker: the job that comes is
taken before we are even woken. Its slots are as good as asked for, and when there come to be fewer it is had
back (docs/decisions/0014).

Rule     I2, I3, I4; lost replies as in design.md section 3 (the transport sends a call again, marked)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from msgspec import structs

from supervisor.errors import NotRepeatable, RedisRefused, RedisUnavailable
from supervisor.master.attempt import Attempt
from supervisor.master.fetcher import Fetcher
from supervisor.observe.log import get
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import Exchange, FetchedJob, FinishAndFetch, Limiter, Outcome, Written
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.marker import Behind
from supervisor.transport.opening import Opened

log = get("exchange")

# Two calls on their way keep Redis busy while we read the first reply. A second one is worth its cost when it
# has something to carry: half the slots' outcomes, at most four. Measured with 8 runners, jobs a second: one
# call at once 5,160, two 5,610, two and gathered 6,580.
CALLS_AT_ONCE = 2
WORTH_A_SECOND_CALL = 4
MOST_OUTCOMES = 50
# Of a lock's duration. Trust in it counts from the sending of the call that set it (I3), and one that stands
# may run any time later.
MOST_STANDING: Final = 1 / 6

Finished = tuple[Attempt, Outcome]


class Redis(Protocol):
    """What of transport.aio.Redis is needed here."""

    def submit_repeatable(
        self,
        command: FinishAndFetch,
        *,
        give_up: Callable[[], bool] | None = None,
        then: Callable[[asyncio.Future[Exchange]], None] | None = None,
    ) -> asyncio.Future[Exchange]: ...
    def submit_lost(
        self, command: FinishAndFetch, opened: Opened, *, give_up: Callable[[], bool] | None = None
    ) -> asyncio.Future[Exchange]: ...


class Dispatch(Protocol):
    """Who gets the jobs and the news of the outcomes."""

    def idle(self) -> int: ...
    def free(self) -> int: ...  # the idle ones, and those that will soon be
    def take(self, job: FetchedJob, fetched_at: float, sent_at: float) -> None: ...
    def flush(self) -> None: ...  # the jobs of one fetch were all taken
    def written(self, attempt: Attempt, outcome: Outcome, result: Written) -> None: ...
    def unknown(self, attempt: Attempt, why: str) -> None: ...


class Exchanger:
    """The pump of one worker. `kick()` is cheap and may be called for every fact."""

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        *,
        slots: int,
        worker_id: str,
        worker_name: str,
        lock_ms: int,
        limiter: Limiter | None,
        metrics: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._worker_id = worker_id
        self._worker_name = worker_name
        self._lock_ms = lock_ms
        self._limiter = limiter
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._loop = loop
        self._worth_a_second = max(1, min(slots // 2, WORTH_A_SECOND_CALL))
        self._outcomes: list[Finished] = []
        self._calls: set[asyncio.Future[Exchange]] = set()  # those that are not answered yet
        self._writing: set[asyncio.Task[None]] = set()  # outcomes of a refused call, one by one
        self._number = 0
        self._asked = 0  # jobs asked for by calls on their way
        self._kicked = False
        self._gathering = False  # a kick is only noted
        self._standing: Behind[Exchange] | None = None  # the call behind the pop
        self._stands_for = 0  # jobs that it may bring; they are counted in `asked`
        self._stood_at = 0.0  # when it was sent
        self._known: asyncio.Future[None] | None = None  # what it has brought is known when this is done
        self._may_stand = True
        self.fetcher: Fetcher
        self.dispatch: Dispatch
        self.give_up: Callable[[], bool] = lambda: False
        self.on_fetched: Callable[[FetchedJob], None] = lambda job: None

    def adopt(self, *, slots: int, lock_ms: int, limiter: Limiter | None, metrics: int) -> None:
        """What calls say from now on."""
        self._worth_a_second = max(1, min(slots // 2, WORTH_A_SECOND_CALL))
        self._lock_ms, self._limiter, self._metrics = lock_ms, limiter, metrics
        if self._standing is not None:
            self.fetcher.recall()

    def under_way(self) -> set[asyncio.Future[Any]]:
        """Each is done when its jobs and outcomes are known."""
        return {*self._calls, *([] if self._known is None else [self._known])}

    def finish(self, attempt: Attempt, outcome: Outcome) -> None:
        self._outcomes.append((attempt, outcome))
        self.kick()

    def kick(self) -> None:
        """Look, once the facts of this turn of the loop are all in, whether a call is due."""
        if not self._kicked:
            self._kicked = True
            if not self._gathering:
                self._loop.call_soon(self._look)

    def gather(self) -> bool:
        """Facts of one job follow, and nothing is looked at before `gathered`. False when that is so already:
        then it is not to be called.
        """
        if self._kicked or self._gathering:
            return False
        self._gathering = True
        return True

    def gathered(self, *, now: bool) -> None:
        """`now`: whatever else happens in this turn of the loop need not go into the same call."""
        self._gathering = False
        if self._kicked and now:
            self._look()
        elif self._kicked:
            self._loop.call_soon(self._look)

    def look(self) -> None:
        """The same now: nothing else is known to have happened in this turn."""
        if not self._kicked:
            self._look()

    def _look(self) -> None:
        self._kicked = False
        if self._standing is not None and self._stands_wrongly():
            self.fetcher.recall()
        while self._on_their_way() < CALLS_AT_ONCE:
            if self._on_their_way() and len(self._outcomes) < self._worth_a_second:
                return  # looked at again when the call on its way is answered
            want = self.fetcher.appetite(self.unasked(), finishing=bool(self._outcomes))
            if not (self._outcomes or want > 0):
                return
            batch, self._outcomes = self._outcomes[:MOST_OUTCOMES], self._outcomes[MOST_OUTCOMES:]
            self._asked += want
            # No task: starting and ending one would cost each call two turns of the loop.
            then = partial(self._answered, batch, want, self._clock())
            command = self._command(batch, want)
            self._calls.add(self._redis.submit_repeatable(command, give_up=self._is_over, then=then))

    @property
    def asked(self) -> int:
        """Jobs that calls on their way may bring."""
        return self._asked

    def unasked(self) -> int:
        """Jobs that there is room for, and no call may bring them."""
        # While a call stands nothing waits, so nothing is wanted for a slot that is busy yet. It would have
        # to begin in a slot that stands free for what the call brings.
        free = self.dispatch.free() if self._standing is None else self.dispatch.idle()
        return free - self._asked

    @property
    def busy(self) -> bool:
        """Outcomes or fetched jobs may be on their way."""
        had_back = self._standing is not None and self.fetcher.quiet
        return bool(self._on_their_way() or self._outcomes or had_back)

    def _on_their_way(self) -> int:
        return len(self._calls) + len(self._writing)

    def _answered(
        self, batch: Sequence[Finished], want: int, sent_at: float, sent: asyncio.Future[Exchange]
    ) -> None:
        self._asked -= want
        self._calls.discard(sent)
        try:
            exchange = sent.result()
        except RedisRefused as error:
            writing = self._loop.create_task(self._refused(batch, want, error))
            self._writing.add(writing)
            writing.add_done_callback(self._written_alone)
            return
        except (NotRepeatable, RedisUnavailable) as error:
            for attempt, _ in batch:
                self.dispatch.unknown(attempt, str(error))
            if want:
                self.fetcher.hold(1.0)
        else:
            self._settle(batch, exchange, sent_at, sent_at)
            if want:
                self.fetcher.learned(want, exchange)
        # In this order: a pool lends a slot to a queue when that asks what is free.
        if self._outcomes or (self.unasked() > 0 and self.fetcher.hungry):
            self.kick()  # not looked now: more outcomes may have come in this turn

    # --- the call that stands --------------------------------------------------------------------------

    def stand(self, block_s: float) -> Behind[Exchange] | None:
        """A call to be sent behind a pop that blocks for so long; None when none may stand."""
        want = self.dispatch.idle() - self._asked
        if (
            want <= 0
            or self._standing is not None
            or not self._may_stand
            or block_s > self._lock_ms / 1000 * MOST_STANDING
        ):
            return None
        self._asked += want
        self._stands_for = want
        self._standing = Behind(self._standing_command, self._stood)
        self._known = self._loop.create_future()
        return self._standing

    def _stands_wrongly(self) -> bool:
        """It might bring a job that nobody waits for."""
        return self.fetcher.quiet or self.fetcher.holds or self.dispatch.idle() < self._asked

    def _standing_command(self, server_us: int) -> FinishAndFetch:
        self._stood_at = self._clock()
        ahead_us = round(self._wall_clock() * 1e6) - server_us
        return structs.replace(self._command((), self._stands_for), ahead_us=ahead_us)

    def _stood(self, exchange: Exchange) -> None:
        """It has run."""
        self._standing = None
        self._asked -= self._stands_for
        self._settle((), exchange, self._stood_at, self._clock())
        self.fetcher.learned(self._stands_for, exchange, waited=True)
        self._is_known()
        self.look()

    def stood(self, behind: Behind[Exchange]) -> bool:
        """The pop is over. True when the call has run, and what it brought is taken."""
        if behind.result is not None:
            return True
        self._standing = None
        if behind.lost_on is not None:
            assert isinstance(behind.command, FinishAndFetch)
            self._ask_what_it_brought(behind.command, behind.lost_on)
        else:
            self._asked -= self._stands_for
            self._is_known()
            self.kick()
        return False

    def _is_known(self) -> None:
        known, self._known = self._known, None
        if known is not None:
            known.set_result(None)

    def _ask_what_it_brought(self, command: FinishAndFetch, opened: Opened) -> None:
        now_ms = int(self._wall_clock() * 1000)
        asking = structs.replace(command, count=0, now_ms=now_ms, ahead_us=None)
        sent = self._redis.submit_lost(asking, opened, give_up=self._is_over)
        self._calls.add(sent)
        sent.add_done_callback(partial(self._brought, self._stands_for, self._clock()))

    def _brought(self, want: int, sent_at: float, sent: asyncio.Future[Exchange]) -> None:
        self._asked -= want
        self._calls.discard(sent)
        try:
            self._settle((), sent.result(), sent_at, self._clock())
        except (NotRepeatable, RedisRefused, RedisUnavailable) as error:
            # What it may have brought is taken for lost: its lease lapses, and the stalled check recovers it.
            self._may_stand = not isinstance(error, NotRepeatable)
            log.warning("queue.fetch_unknown", queue=self._keys.name, error=str(error))
        self._is_known()
        self.fetcher.wake()  # its pop may have eaten a marker

    def _written_alone(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.result()  # a bug of ours goes to the loop's handler, loudly
        self.kick()

    def _is_over(self) -> bool:
        # Asked anew each time: a stop that begins while the call is on its way ends its patience too.
        return self.give_up()

    def _command(self, batch: Sequence[Finished], want: int) -> FinishAndFetch:
        self._number += 1
        return FinishAndFetch(
            queue=self._keys,
            call_token=f"{self._worker_id}:{self._number}",
            now_ms=int(self._wall_clock() * 1000),
            lock_ms=self._lock_ms,
            count=want,
            outcomes=[outcome for _, outcome in batch],
            limiter=self._limiter,
            worker_name=self._worker_name,
            metrics=self._metrics,
        )

    def _settle(
        self, batch: Sequence[Finished], exchange: Exchange, sent_at: float, fetched_at: float
    ) -> None:
        for (attempt, outcome), result in zip(batch, exchange.written, strict=True):
            self.dispatch.written(attempt, outcome, result)
        for job_id, why in exchange.dropped:
            log.error("job.dropped", queue=self._keys.name, job_id=job_id, why=why)
        for job in exchange.jobs:
            self.on_fetched(job)
            self.dispatch.take(job, fetched_at, sent_at)
        self.dispatch.flush()

    async def _refused(self, batch: Sequence[Finished], want: int, error: RedisRefused) -> None:
        """The call itself failed: outcomes are written one by one, so that the guilty alone is reported."""
        log.error("queue.call_failed", queue=self._keys.name, error=str(error), outcomes=len(batch))
        if want:
            self.fetcher.hold(1.0)
        for attempt, outcome in batch:
            sent_at = self._clock()
            try:
                exchange = await self._redis.submit_repeatable(
                    self._command([(attempt, outcome)], 0), give_up=self._is_over
                )
            except RedisRefused as refusal:
                self.dispatch.written(attempt, outcome, Written(Code.GUILTY, str(refusal)))
            except (NotRepeatable, RedisUnavailable) as lost:
                self.dispatch.unknown(attempt, str(lost))
            else:
                self._settle([(attempt, outcome)], exchange, sent_at, sent_at)
