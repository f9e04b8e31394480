"""The master's parts that wait and call, with clocks, markers and servers that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from supervisor.errors import NotRepeatable, RedisRefused, RedisUnavailable
from supervisor.master.exchange import Exchanger
from supervisor.master.fetcher import Fetcher
from supervisor.master.lease import Leases
from supervisor.observe.log import hooked
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import Completed, Exchange, ExtendLock, FetchedJob, Written
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

KEYS = QueueKeys("q")


async def turns(count=10):
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0)


# --- leases ----------------------------------------------------------------------------------------------


class Locks:
    """A server that renews what it is told to, or does not answer."""

    def __init__(self) -> None:
        self.renewed: list[list[str]] = []
        self.lost: set[str] = set()
        self.away = False
        self.moving = False  # a cluster that moves the slot serves calls of one key
        self.alone: list[str] = []

    async def execute(self, command, *, patience_s=None):
        if isinstance(command, ExtendLock):
            if self.away:
                raise RedisUnavailable("nobody answers", sent=False)
            self.alone.append(command.lease.job_id)
            return command.lease.job_id not in self.lost
        if self.away or self.moving:
            raise RedisUnavailable("nobody answers", sent=False)
        self.renewed.append([lease.job_id for lease in command.leases])
        return frozenset(self.lost)


@pytest.fixture
async def lease_world():
    locks, lost = Locks(), []
    loop = asyncio.get_running_loop()
    leases = Leases(
        locks, KEYS, duration_ms=400, clock=loop.time, on_lost=lambda job_id, why: lost.append(job_id)
    )
    task = asyncio.ensure_future(leases.keep())
    yield leases, locks, lost, loop.time
    task.cancel()


async def test_all_locks_of_a_queue_are_renewed_in_one_call_before_half_their_time(lease_world):
    leases, locks, lost, clock = lease_world
    began_at = clock()
    for job_id in ("1", "2", "3"):
        leases.hold(job_id, f"t{job_id}", clock())
    await until(lambda: locks.renewed)
    assert locks.renewed[0] == ["1", "2", "3"]
    assert clock() - began_at < 0.36
    assert not lost


async def test_a_lock_that_is_gone_is_told_once_and_the_others_are_kept(lease_world):
    leases, locks, lost, clock = lease_world
    locks.lost = {"2"}
    leases.hold("1", "t1", clock())
    leases.hold("2", "t2", clock())
    await until(lambda: len(locks.renewed) >= 2)
    assert lost == ["2"]
    assert leases.trusted("1", "t1") and not leases.trusted("2", "t2")


async def test_trust_ends_without_an_answer_before_the_server_forgets(lease_world):
    """I3."""
    leases, locks, lost, clock = lease_world
    locks.away = True
    sent_at = clock()
    leases.hold("1", "t1", sent_at)
    await until(lambda: lost)
    assert lost == ["1"]
    assert not leases.trusted("1", "t1")


async def test_trust_counts_from_the_send(lease_world):
    """I3: a fetch that was answered late leaves less trust, never more."""
    leases, _, _, clock = lease_world
    leases.hold("1", "t1", clock() - 0.375)  # sent 375 ms ago, duration 400 ms, margin 40 ms
    assert not leases.trusted("1", "t1")


async def test_while_a_cluster_moves_the_slot_each_lock_is_renewed_by_itself(lease_world):
    """I3: trust is kept for those that are renewed, and ends for the one that is gone."""
    leases, locks, lost, clock = lease_world
    locks.moving = True
    for job_id in "12":
        leases.hold(job_id, "t", clock())
    await until(lambda: len(locks.alone) >= 4)
    assert (leases.trusted("1", "t"), lost, locks.renewed) == (True, [], [])

    locks.lost.add("2")
    await until(lambda: lost)
    assert (lost, leases.trusted("1", "t")) == (["2"], True)


async def test_a_lease_that_was_released_is_not_renewed(lease_world):
    leases, locks, _, clock = lease_world
    leases.hold("1", "t1", clock())
    leases.hold("2", "t2", clock())
    leases.release("1", "another token")
    leases.release("2", "t2")
    await until(lambda: locks.renewed)
    assert locks.renewed[0] == ["1"]


# --- the fetcher -----------------------------------------------------------------------------------------


class Marker:
    """A marker that is written by the test."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.scores: asyncio.Queue[float | None] = asyncio.Queue()

    async def wait(self, key, timeout_s, behind=None):
        self.waits.append(timeout_s)
        self.behind = behind
        return await self.scores.get()

    def interrupt(self):
        self.scores.put_nowait(None)


@dataclass
class FetchWorld:
    """The marker, and who makes the calls."""

    marker: Marker = field(default_factory=Marker)
    free: int = 1
    asked: int = 0
    kicks: int = 0
    put_back: int = 0
    now_s: float = 1_000.0
    stands: bool = False  # a call may stand behind the pop
    ran: bool = False  # and did run
    stood_for: list = field(default_factory=list)

    def kick(self):
        self.kicks += 1

    look = kick

    def unasked(self):
        return self.free - self.asked

    def stand(self, block_s):
        return object() if self.stands else None

    def stood(self, behind):
        self.stood_for.append(behind)
        return self.ran

    def put_it_back(self):
        self.put_back += 1


@pytest.fixture
async def fetch_world():
    world = FetchWorld()
    fetcher = Fetcher(
        KEYS,
        world.marker,
        drain_delay_s=5.0,
        free=lambda: world.free,
        calls=world,
        put_back_marker=world.put_it_back,
        wall_clock=lambda: world.now_s,
        loop=asyncio.get_running_loop(),
    )
    task = asyncio.ensure_future(fetcher.watch())
    yield fetcher, world
    task.cancel()


def found(count=0, **more):
    jobs = [FetchedJob("1", "t", "n", b"", b"", 0, 0, 0, 1, 0, None, None)] * count
    return Exchange(written=(), jobs=jobs, **more)


async def test_no_more_is_asked_for_than_slots_are_free(fetch_world):
    """I2."""
    fetcher, _ = fetch_world
    assert fetcher.appetite(3, finishing=False) == 3
    assert fetcher.appetite(0, finishing=True) == 0
    fetcher.pause()
    assert fetcher.appetite(3, finishing=True) == 0


async def test_an_empty_queue_is_watched_and_the_marker_wakes(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0))
    assert fetcher.appetite(1, finishing=False) == 0
    await until(lambda: world.marker.waits == [5.0])
    world.marker.scores.put_nowait(0.0)
    await until(lambda: world.kicks == 1)
    assert fetcher.appetite(1, finishing=False) == 1


async def test_a_full_answer_means_there_may_be_more(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(1))
    await turns()
    assert fetcher.appetite(1, finishing=False) == 1
    assert world.marker.waits == []


async def test_the_block_ends_when_the_next_delayed_job_is_due(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0, next_due_ms=1_000_250))
    await until(lambda: world.marker.waits == [pytest.approx(0.25)])
    world.now_s += 0.25
    world.marker.scores.put_nowait(None)
    await until(lambda: world.kicks == 1)


async def test_the_delay_marker_shortens_the_block(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0))
    await until(lambda: len(world.marker.waits) == 1)
    world.marker.scores.put_nowait(1_000_500.0)
    await until(lambda: len(world.marker.waits) == 2)
    assert world.marker.waits[1] == pytest.approx(0.5)
    assert world.kicks == 0


async def test_a_marker_popped_without_a_free_slot_is_given_to_another_worker(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)
    world.free = 0
    world.marker.scores.put_nowait(0.0)
    await until(lambda: world.put_back == 1)
    assert world.kicks == 0


async def test_a_queue_that_gives_no_jobs_says_why_once_until_it_gives_some_again(fetch_world):
    fetcher, _ = fetch_world
    said = []
    with hooked(lambda event, fields: said.append((event, fields["error"]))):
        for _ in range(3):
            fetcher.learned(1, found(0, fetch_error="WRONGTYPE"))
        fetcher.learned(1, found(0, fetch_error="OOM"))
        fetcher.learned(1, found(0))
        fetcher.learned(1, found(0, fetch_error="OOM"))
    assert said == [("queue.fetch_failed", why) for why in ("WRONGTYPE", "OOM", "OOM")]


async def test_a_marker_popped_while_a_call_is_on_its_way_is_not_forgotten(fetch_world):
    """The call ran before the job of that marker was added, and its answer comes after the marker."""
    fetcher, _ = fetch_world
    assert fetcher.appetite(1, finishing=True) == 1
    fetcher.wake()
    fetcher.learned(1, found(0))
    assert fetcher.appetite(1, finishing=False) == 1
    fetcher.learned(1, found(0))
    assert fetcher.appetite(1, finishing=False) == 0, "asked once, and nothing was there"


async def test_an_interrupted_wait_may_have_cost_a_marker_and_says_so(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)
    assert not fetcher.cut_short
    fetcher.interrupt()
    assert fetcher.cut_short


async def test_the_limiter_holds_back_even_a_finishing_call(fetch_world):
    fetcher, world = fetch_world
    fetcher.learned(1, found(0, limited_ms=30))
    kicks = world.kicks
    assert fetcher.appetite(1, finishing=True) == 0
    await until(lambda: world.kicks > kicks)
    assert fetcher.appetite(1, finishing=False) == 1


async def test_what_a_call_behind_the_pop_brought_is_not_asked_for_again(fetch_world):
    fetcher, world = fetch_world
    world.stands = world.ran = True
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)
    assert world.marker.behind is not None
    world.marker.scores.put_nowait(0.0)
    await until(lambda: len(world.stood_for) == 1)
    assert world.kicks == 0, "the answer was there with the marker"
    await until(lambda: len(world.marker.waits) == 2)


async def test_where_the_call_behind_the_pop_did_not_run_it_is_made_the_common_way(fetch_world):
    fetcher, world = fetch_world
    world.stands = True
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)
    world.marker.scores.put_nowait(0.0)
    await until(lambda: world.kicks == 1)
    assert fetcher.appetite(1, finishing=False) == 1


async def test_no_call_stands_while_the_limiter_holds(fetch_world):
    fetcher, world = fetch_world
    world.stands = True
    fetcher.hold(30.0)
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)
    assert world.marker.behind is None


async def test_a_slot_that_a_call_was_asked_to_fill_is_not_watched_for(fetch_world):
    fetcher, world = fetch_world
    world.asked = 1
    fetcher.learned(1, found(0))
    await turns()
    assert world.marker.waits == []
    world.asked = 0
    fetcher.learned(1, found(0))
    await until(lambda: world.marker.waits)


# --- the exchanger ---------------------------------------------------------------------------------------


class Server:
    """Answers a call when the test says so."""

    def __init__(self) -> None:
        self.calls = []
        self.replies: list[asyncio.Future[Exchange]] = []

    def submit_repeatable(self, command, *, give_up=None, then=None):
        self.calls.append(command)
        self.gives_up = give_up
        self.replies.append(asyncio.get_running_loop().create_future())
        if then is not None:
            self.replies[-1].add_done_callback(then)
        return self.replies[-1]

    def submit_lost(self, command, opened, *, give_up=None):
        self.lost_on = opened
        return self.submit_repeatable(command, give_up=give_up)


class Slots:
    def __init__(self, free) -> None:
        self.left = free
        self.soon = 0  # jobs that may be sent ahead
        self.taken, self.fetched_at, self.sent_at, self.wrote = [], [], [], []

    def idle(self):
        return self.left

    def free(self):
        return self.left + self.soon

    def take(self, job, fetched_at, sent_at):
        self.left -= 1
        self.taken.append(job)
        self.fetched_at.append(fetched_at)
        self.sent_at.append(sent_at)

    def flush(self): ...

    def written(self, attempt, outcome, result):
        self.wrote.append((attempt, result.code))

    def unknown(self, attempt, why):
        self.wrote.append((attempt, why))


class Always:
    """A fetcher that is always hungry."""

    def appetite(self, free, *, finishing):
        return max(free, 0)

    quiet = holds = False
    recalls = wakes = 0

    def learned(self, asked, exchange, *, waited=False):
        pass

    def hold(self, for_s):
        pass

    def recall(self):
        self.recalls += 1

    def wake(self):
        self.wakes += 1


@pytest.fixture
async def exchange_world():
    server, slots = Server(), Slots(3)
    loop = asyncio.get_running_loop()
    exchanger = Exchanger(
        server, KEYS, slots=8, worker_id="w", worker_name="", lock_ms=30_000, limiter=None, metrics=0,
        clock=loop.time, wall_clock=lambda: 1.0, loop=loop,
    )  # fmt: skip
    exchanger.fetcher, exchanger.dispatch = Always(), slots
    return exchanger, server, slots


def done(job_id):
    return Completed(job_id, "t", b"null", KEEP_ALL)


async def test_two_calls_on_their_way_never_ask_for_the_same_slot(exchange_world):
    """I2."""
    exchanger, server, slots = exchange_world
    exchanger.kick()
    await turns()
    slots.left += 4
    for n in range(4):
        exchanger.finish(f"a{n}", done(str(n)))
    await turns()
    assert [call.count for call in server.calls] == [3, 4]


async def test_a_second_call_waits_until_it_has_something_to_carry(exchange_world):
    exchanger, server, slots = exchange_world
    slots.left = 0
    exchanger.finish("a0", done("0"))
    await turns()
    for n in range(1, 4):
        exchanger.finish(f"a{n}", done(str(n)))
    await turns()
    assert len(server.calls) == 1
    server.replies[0].set_result(Exchange(written=[Written(Code.DONE)], jobs=[]))
    await until(lambda: len(server.calls) == 2)
    assert [outcome.job_id for outcome in server.calls[1].outcomes] == ["1", "2", "3"]


async def test_a_stop_ends_the_patience_of_a_call_on_its_way(exchange_world):
    exchanger, server, _ = exchange_world
    exchanger.kick()
    await until(lambda: server.calls)
    assert not server.gives_up()
    exchanger.give_up = lambda: True
    assert server.gives_up()


async def test_outcomes_that_are_ready_together_go_in_one_call(exchange_world):
    exchanger, server, slots = exchange_world
    slots.left = 0
    for n in range(5):
        exchanger.finish(f"a{n}", done(str(n)))
    await turns()
    assert len(server.calls) == 1
    assert [outcome.job_id for outcome in server.calls[0].outcomes] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("now", [True, False])
async def test_what_the_end_of_one_job_brings_goes_in_one_call(exchange_world, now):
    """At once, or with what else happens in the turn of the loop."""
    exchanger, server, _ = exchange_world
    assert exchanger.gather()
    exchanger.finish("a0", done("0"))
    exchanger.kick()
    await turns()
    assert not exchanger.gather() and not server.calls
    exchanger.gathered(now=now)
    assert len(server.calls) == now
    exchanger.finish("a1", done("1"))
    await turns()
    assert [[each.job_id for each in call.outcomes] for call in server.calls] == (
        [["0"]] if now else [["0", "1"]]
    )
    exchanger.kick()
    assert not exchanger.gather()  # it will be looked at anyway


async def test_each_call_has_a_token_of_its_own(exchange_world):
    exchanger, server, slots = exchange_world
    slots.left = 0
    for n in range(5):
        exchanger.finish(f"a{n}", done(str(n)))
        await turns()
    tokens = [call.call_token for call in server.calls]
    assert len(set(tokens)) == 2


async def test_when_a_call_fails_its_outcomes_are_repeated_one_by_one(exchange_world):
    """I10: the guilty alone is reported."""
    exchanger, server, slots = exchange_world
    slots.left = 0
    for n in range(3):
        exchanger.finish(f"a{n}", done(str(n)))
    await turns()
    server.replies[0].set_exception(RedisRefused("WRONGTYPE"))
    for n in range(3):
        await until(lambda n=n: len(server.calls) == n + 2)
        assert [outcome.job_id for outcome in server.calls[n + 1].outcomes] == [str(n)]
        if n == 1:
            server.replies[n + 1].set_exception(RedisRefused("WRONGTYPE"))
        else:
            server.replies[n + 1].set_result(Exchange(written=[Written(Code.DONE)], jobs=[]))
    await until(lambda: len(slots.wrote) == 3)
    assert slots.wrote == [("a0", Code.DONE), ("a1", Code.GUILTY), ("a2", Code.DONE)]


# --- the call that stands behind the pop -----------------------------------------------------------------


def sent(behind):
    """It is on its way, at a moment when the server's clock was at 250,000 us."""
    behind.command = behind.make(250_000)
    return behind.command


async def test_a_call_that_stands_asks_for_every_idle_slot_and_nobody_asks_for_those_again(exchange_world):
    """I2."""
    exchanger, server, slots = exchange_world
    slots.soon = 8
    behind = exchanger.stand(5.0)
    assert sent(behind).count == 3 and behind.command.ahead_us == 750_000
    exchanger.finish("a", done("a"))
    await turns()
    assert [call.count for call in server.calls] == [0], "nor for one that is busy: nothing waits"
    assert exchanger.stand(5.0) is None, "one at a time"


async def test_what_it_brought_is_taken_with_a_lease_from_its_sending(exchange_world):
    """I3."""
    exchanger, _, slots = exchange_world
    times = iter((100.0, 104.0))
    exchanger._clock = lambda: next(times, 104.1)
    behind = exchanger.stand(5.0)
    sent(behind)
    behind.result = found(1)
    behind.ran(behind.result)
    assert exchanger.stood(behind), "and is not taken twice"
    assert slots.taken == behind.result.jobs and (slots.fetched_at, slots.sent_at) == ([104.0], [100.0])
    assert exchanger.asked == 2, "for the slots that are left"


async def test_none_stands_so_long_that_a_lease_would_be_old_when_it_begins(exchange_world):
    """I3: the lock lives for 30 s."""
    exchanger, _, _ = exchange_world
    assert exchanger.stand(5.1) is None and exchanger.asked == 0
    assert exchanger.stand(5.0) is not None


async def test_it_is_had_back_when_a_slot_goes_away_and_at_a_pause_and_a_hold(exchange_world):
    """I2, I10: what would it bring a job for?"""
    exchanger, _, slots = exchange_world
    exchanger.stand(5.0)
    exchanger.kick()
    await turns()
    assert exchanger.fetcher.recalls == 0
    slots.left = 2
    exchanger.kick()
    await turns()
    assert exchanger.fetcher.recalls == 1
    slots.left = 3
    for name in ("quiet", "holds"):
        setattr(exchanger.fetcher, name, True)
        exchanger.kick()
        await turns()
        setattr(exchanger.fetcher, name, False)
    assert exchanger.fetcher.recalls == 3


async def test_a_stop_waits_until_it_is_known_what_it_brought(exchange_world):
    """I9: it was lost with its connection, so it is asked for on another, and no further job is."""
    exchanger, server, slots = exchange_world
    behind = exchanger.stand(5.0)
    token = sent(behind).call_token
    known = exchanger.under_way()
    exchanger.fetcher.quiet = True
    assert exchanger.busy, "the wait is being ended"
    behind.lost_on = "there"
    assert not exchanger.stood(behind) and exchanger.busy
    [call] = server.calls
    assert (server.lost_on, call.call_token, call.count, call.ahead_us) == ("there", token, 0, None)
    assert not any(each.done() for each in known)
    server.replies[0].set_result(found(1))
    await turns()
    assert len(slots.taken) == 1 and not exchanger.busy and exchanger.asked == 0
    assert all(each.done() for each in known) and exchanger.fetcher.wakes == 1


async def test_where_redis_does_not_tell_what_became_of_it_no_other_stands(exchange_world):
    exchanger, server, _ = exchange_world
    behind = exchanger.stand(5.0)
    sent(behind)
    behind.lost_on = "there"
    exchanger.stood(behind)
    told = []
    with hooked(lambda event, fields: told.append(event)):
        server.replies[0].set_exception(NotRepeatable("no CLIENT KILL"))
        await turns()
    assert told == ["queue.fetch_unknown"] and exchanger.asked == 0
    assert exchanger.stand(5.0) is None
