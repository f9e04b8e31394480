"""Bulk actions beside a queue that is long: what a single call may touch is bounded, whatever the length.

Milliseconds are no fact on a busy machine, so what is asked is how many elements and jobs each call handles.
`./scripts/bench --slowlog` takes the times, at a million jobs.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from supervisor.protocol.commands import manage
from supervisor.protocol.commands.flow_removal import RemoveBelow, remove_children, remove_flow
from supervisor.protocol.commands.orphans import LOOK_AGAIN, RemoveOrphans, remove_orphans
from supervisor.protocol.steps import Steps, drive_blocking

NOW = 1_800_000_000_000
OLD, YOUNG = 1_700_000_000_000, 1_900_000_000_000

FILL = """
local base, every = ARGV[1], tonumber(ARGV[4])
for i = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  local time = i % every == 0 and ARGV[5] or ARGV[6]
  redis.call("HSET", base .. ":" .. i, "name", "n", "data", "{}", "opts", "{}", "timestamp", time)
  redis.call("LPUSH", base .. ":wait", i)
end
"""


def fill(wire: Any, jobs: int, every: int) -> None:
    """`jobs` waiting jobs, the lowest number next to run, one of `every` of them old."""
    for first in range(1, jobs + 1, 1_000):
        last = min(first + 999, jobs)
        wire.raw.eval(FILL, 0, wire.queue.base, first, last, every, OLD, YOUNG)


def slices(wire: Any, steps: Steps[Any]) -> Iterator[Any]:
    """Run an operation; each reply on its way. The operation's own answer is what `yield from` gives."""
    reply: Any = None
    while True:
        try:
            command = steps.send(reply)
        except StopIteration as end:
            return end.value
        reply = wire.run(command)
        yield reply


def test_cleaning_a_long_list_takes_out_what_is_old_and_keeps_the_order(wire, request):
    jobs, every = (1_000_000 if request.config.getoption("--long", default=False) else 50_000), 1_000
    fill(wire, jobs, every)
    wire.raw.config_resetstat()
    calls = 0
    for _ in slices(wire, manage.clean_jobs(wire.queue, "waiting", NOW)):
        calls += 1

    assert wire.ids(wire.queue.wait) == [str(n) for n in range(jobs, 0, -1) if n % every]
    assert wire.raw.exists(*(wire.queue.job(str(n)) for n in range(every, jobs + 1, every))) == 0
    stats = wire.raw.info("commandstats")
    # a job that stays is written at most once, and one of the block that makes room for it
    assert stats["cmdstat_lset"]["calls"] <= 2 * jobs
    assert calls <= jobs / manage.REMOVED_AT_ONCE * 1.1


def test_cleaning_a_long_list_goes_on_though_it_changes_between_slices(wire):
    """Workers take jobs, producers add some, jobs of the carried block are removed and put elsewhere."""
    fill(wire, 60_000, 3)
    rng = random.Random(20)
    print("seed 20")
    taken: set[str] = set()
    pushed = 1_000_000
    key = wire.queue.wait
    steps = manage.clean_jobs(wire.queue, "waiting", NOW)
    for _ in slices(wire, steps):
        for _ in range(rng.randrange(20)):
            taken.add(wire.raw.rpop(key).decode())
        for _ in range(rng.randrange(20)):
            pushed += 1
            wire.raw.hset(wire.queue.job(str(pushed)), mapping={"name": "n", "timestamp": YOUNG})
            wire.raw.lpush(key, pushed)
        if rng.random() < 0.05:
            gone = wire.raw.lindex(key, rng.randrange(wire.raw.llen(key))).decode()
            taken.add(gone)
            wire.raw.lrem(key, 1, gone)
        if rng.random() < 0.05:
            pushed += 1
            wire.raw.hset(wire.queue.job(str(pushed)), mapping={"name": "n", "timestamp": YOUNG})
            wire.raw.rpush(key, pushed)  # out of turn
            taken.add(str(pushed))

    left = wire.ids(key)
    young = [str(n) for n in range(60_000, 0, -1) if n % 3]
    assert len(set(left)) == len(left)
    assert [one for one in left if int(one) <= 60_000 and int(one) % 3] == [
        one for one in young if one not in taken
    ]
    assert [int(one) for one in left if int(one) > 1_000_000 and one not in taken] == sorted(
        (int(one) for one in left if int(one) > 1_000_000 and one not in taken), reverse=True
    )
    assert [one for one in left if int(one) <= 60_000 and int(one) % 3 == 0] == []


def test_orphans_beside_a_long_list_are_told_from_jobs_that_move_meanwhile(wire):
    """Workers take jobs and put them back, producers add, some are removed, between any two calls."""
    fill(wire, 20_000, 2)
    for n in range(120):
        wire.raw.hset(wire.queue.job(f"orphan{n}"), mapping={"name": "n", "timestamp": OLD})
    rng = random.Random(7)
    print("seed 7")
    key, ids = wire.queue.wait, {str(n) for n in range(1, 20_001)}
    removed = 0
    for reply in slices(wire, remove_orphans(wire.queue)):
        removed += reply if isinstance(reply, int) else 0
        for _ in range(rng.randrange(8)):
            taken = wire.raw.rpop(key).decode()
            if rng.random() < 0.5:
                wire.raw.hset(wire.queue.job(taken), "ats", 1 + rng.randrange(9_999))
                wire.raw.lpush(key, taken)  # a retry
            else:
                wire.raw.delete(wire.queue.job(taken))
                ids.discard(taken)
        if rng.random() < 0.3:
            moved = wire.raw.lindex(key, rng.randrange(wire.raw.llen(key)))
            wire.raw.lrem(key, 1, moved)
            wire.raw.lpush(key, moved)  # as a change to the same priority does; its hash stays as it is

    assert removed == 120
    assert {one.decode() for one in wire.raw.lrange(key, 0, -1)} == ids
    assert wire.raw.exists(*map(wire.queue.job, ids)) == len(ids)
    assert not wire.raw.keys("*orphan*")


def test_an_id_that_starts_to_wait_after_it_was_looked_at_is_no_orphan(wire):
    fill(wire, 3_000, 2)
    wire.raw.hset(wire.queue.job("late"), mapping={"name": "n", "timestamp": OLD})
    steps = remove_orphans(wire.queue)
    command = next(steps)
    while not isinstance(command, RemoveOrphans):
        command = steps.send(wire.run(command))
    wire.raw.lpush(wire.queue.wait, "late")
    assert wire.run(command) == 0
    wire.raw.lrem(wire.queue.wait, 1, "late")
    wire.raw.hset(wire.queue.job("late"), "processedOn", 5)  # it has been active meanwhile
    assert wire.run(command) == 0
    wire.raw.hdel(wire.queue.job("late"), "processedOn")
    wire.raw.lpush(wire.queue.wait, *(f"new{n}" for n in range(1_001)))
    assert wire.run(command) == LOOK_AGAIN
    wire.raw.ltrim(wire.queue.wait, 1_001, -1)
    assert wire.run(command) == 1


FLOW = """
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local key = ARGV[1] .. ":c" .. i
  redis.call("HSET", key, "name", "n", "data", "{}", "opts", "{}", "timestamp", "1", "parentKey", ARGV[2])
  redis.call("SADD", ARGV[2] .. ":dependencies", key)
  redis.call("LPUSH", ARGV[1] .. ":wait", "c" .. i)
end
"""


def parent(wire: Any, job_id: str, children: int, first: int = 1, above: str = "") -> str:
    key = wire.queue.job(job_id)
    wire.raw.hset(key, mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": 1})
    if above:
        wire.raw.hset(key, "parentKey", above)
        wire.raw.sadd(above + ":dependencies", key)
    wire.raw.zadd(wire.queue.waiting_children, {job_id: 1})
    wire.raw.eval(FLOW, 0, wire.queue.base, key, first, first + children - 1)
    return key


def done(reply: Any) -> int:
    """How many children a call has done; 0 for a call that only looks."""
    return reply[0] if isinstance(reply, tuple) and type(reply[0]) is int else 0


def test_a_large_flow_goes_in_parts_that_leave_no_parent_to_a_worker(wire):
    key = parent(wire, "P", 1_000)
    parent(wire, "mid", 150, first=2_001, above=key)
    wire.add(count=1)
    parts = 0
    for reply in slices(wire, remove_flow(wire.queue, "P")):
        parts += done(reply) > 0
        assert not {"P", "mid"} & set(wire.ids(wire.queue.wait))  # though their last children go
    assert parts >= 12
    assert wire.ids(wire.queue.wait) == ["1"]
    left = {one.decode() for one in wire.raw.keys("*")}
    assert left == {
        wire.queue.job("1"),
        *(f"{wire.queue.base}:{n}" for n in ("wait", "id", "meta", "events", "marker")),
    }
    removed = {event["jobId"]: event["prev"] for event in wire.events() if event["event"] == "removed"}
    assert len(removed) == 1_152
    assert (removed["P"], removed["mid"], removed["c7"]) == ("waiting-children", "waiting-children", "wait")


def test_a_large_flow_of_which_a_worker_holds_a_job_stays_whole(wire):
    parent(wire, "mid", 150, first=2_001, above=parent(wire, "P", 200))
    wire.raw.set(wire.queue.lock("c2100"), "t")
    before = {one: wire.raw.dump(one) for one in wire.raw.keys("*")}
    assert drive_blocking(remove_flow(wire.queue, "P"), wire.run) is False
    assert {one: wire.raw.dump(one) for one in wire.raw.keys("*")} == before


def test_a_large_removal_that_was_cut_off_is_finished_by_the_same_again(wire):
    """What a worker has taken in between goes on without a parent."""
    parent(wire, "mid", 150, first=2_001, above=parent(wire, "P", 1_000))
    parts = slices(wire, remove_flow(wire.queue, "P"))
    removals = 0
    while removals < 5:
        removals += done(next(parts)) > 0
    parts.close()
    assert 0 < wire.raw.scard(wire.queue.job("P") + ":dependencies") < 1_001
    assert wire.raw.exists(wire.queue.job("P"))
    assert wire.raw.zscore(wire.queue.waiting_children, "P") is None

    again = remove_flow(wire.queue, "P")
    command = next(again)
    while not (isinstance(command, RemoveBelow) and command.children):
        command = again.send(wire.run(command))
    held = next(key for key in command.children if ":c" in key)
    wire.raw.set(held + ":lock", "t")  # taken after it was looked at
    with contextlib.suppress(StopIteration):
        while True:
            command = again.send(wire.run(command))
    assert {one.decode() for one in wire.raw.keys("*:c*")} == {held, held + ":lock"}
    assert not wire.raw.exists(wire.queue.job("P"), wire.queue.job("mid"), wire.queue.waiting_children)


def test_many_unprocessed_children_go_in_parts_and_the_parent_runs_after_the_last(wire):
    parent(wire, "P", 300)
    parts = 0
    for reply in slices(wire, remove_children(wire.queue, "P")):
        parts += done(reply) > 0
    assert parts >= 3
    assert wire.ids(wire.queue.wait) == ["P"]
    assert wire.markers()["0"] == 0


def test_beside_a_long_list_a_call_removes_few_children(wire):
    fill(wire, 60_000, 2)
    parent(wire, "P", 20)
    removed = [done(reply) for reply in slices(wire, remove_flow(wire.queue, "P"))]
    assert (sum(removed), max(removed)) == (20, 2)
    assert wire.raw.llen(wire.queue.wait) == 60_000
