"""Slots that several queues share: by weight while all have jobs, with a minimum kept for some."""

from __future__ import annotations

import json
import signal

import pytest
from running import until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

TARGET = {"target": "pooled:work", "queue": None}
NAMES = ("red", "blue", "green")


@pytest.fixture
def queues(redis_url):
    made = {name: Queue(name, url=redis_url) for name in NAMES}
    yield made
    for each in made.values():
        each.close()


@pytest.fixture
def red(queues):
    return queues["red"]


@pytest.fixture
def blue(queues):
    return queues["blue"]


@pytest.fixture
def configure(tmp_path):
    """Write the config: what each queue's table says besides its target."""

    def write(slots, **tables):
        lines = [f"[pool]\nslots = {slots}"]
        lines += [f'[queue.{name}]\ntarget = "pooled:work"\n{more}' for name, more in tables.items()]
        (tmp_path / "pool.toml").write_text("\n".join(lines))

    return write


@pytest.fixture
def start(oxherd, ask, tmp_path):
    def run(*flags):
        made = oxherd("--config", str(tmp_path / "pool.toml"), *flags, **TARGET)
        made.until("master.started")
        return made

    return run


@pytest.fixture
def known(ask):
    return lambda: json.loads(ask("ctl", "snapshot"))


def add(queue, count, **data):
    return queue.add_bulk([("any", data)] * count)


def active(raw, *names):
    """So many jobs each has at one moment."""
    with raw.pipeline(transaction=True) as together:
        for name in names:
            together.llen(f"bull:{name}:active")
        return together.execute()


def done(queue):
    return queue.counts()["completed"]


def slots_of(known):
    return {each["name"]: each["slots"] for each in known["queues"]}


def share_until(true, raw):
    """The part of the slots that red has, on the average, while blue has the others."""
    had = [0, 0]

    def look():
        now = active(raw, "red", "blue")
        had[:] = had[0] + now[0], had[1] + now[1]
        return true()

    until(look, "enough jobs are done")
    return had[0] / sum(had)


def test_queues_that_are_full_share_the_slots_by_weight_and_a_reload_changes_that(
    start, configure, ask, known, red, blue, raw
):
    add(red, 150, s=0.05), add(blue, 150, s=0.05)
    configure(4, red="pool = { weight = 3 }", blue="")
    run = start()
    assert 0.65 < share_until(lambda: done(red) >= 45, raw) < 0.85
    assert len(run.runners()) == 4

    configure(4, red="", blue="pool = { weight = 3 }")
    assert "changed: queue.red.pool, queue.blue.pool" in ask("ctl", "reload")
    before = done(blue)
    assert 0.15 < share_until(lambda: done(blue) >= before + 45, raw) < 0.35

    configure(3, red="pool = { minimum = 1 }", green="concurrency = 2")
    assert "served no more: blue" in ask("ctl", "reload")
    until(lambda: slots_of(known()) == {"red": 3, "green": 2}, "red alone has the pool, and green its own")
    assert run.process.poll() is None


def test_i2_no_more_jobs_are_fetched_than_the_pool_has_slots(start, configure, known, queues, raw, tmp_path):
    """I2 for the pool, with three queues that are all full."""
    go = tmp_path / "go"
    for each in queues.values():
        add(each, 5, until=str(go))
    configure(3, red="pool = { weight = 7 }", blue="", green="")
    run = start()
    until(lambda: sum(active(raw, *NAMES)) == 3, "every slot has a job")
    for _ in range(3):
        now = known()
        assert sum(active(raw, *NAMES)) == 3
        assert sum(slots_of(now).values()) == len(now["slots"]) == len(run.runners()) == 3
    assert (now["pool"], now["proof"]["ok"]) == ({"slots": 3, "busy": 3}, True)
    go.touch()
    until(lambda: all(done(each) == 5 for each in queues.values()), "all have had their turn")
    pids = {pid for each in queues.values() for job in each.jobs("completed") for pid in job.returned[1:]}
    assert len(pids) == 3  # the same runners for all


def test_a_job_of_a_queue_with_a_minimum_begins_at_once_while_another_fills_the_pool(
    start, configure, red, blue, raw, tmp_path
):
    configure(2, red="pool = { weight = 100 }", blue="pool = { minimum = 1 }")
    add(red, 5, until=str(tmp_path / "never"))
    run = start()
    until(lambda: active(raw, "red") == [1], "red has all but what is kept for blue")
    job = blue.add("any", {})
    assert blue.result(job, timeout_ms=4_000)[0] == "blue"
    assert active(raw, "red") == [1]
    assert len(run.runners()) == 2


def test_a_flood_of_short_jobs_does_not_starve_who_has_no_minimum(start, configure, red, blue):
    add(red, 6_000, s=0.001)
    configure(2, red="pool = { weight = 3 }", blue="")
    start()
    until(lambda: done(red) > 200, "the flood is under way, with jobs ahead")
    for _ in range(3):
        blue.result(blue.add("any", {}), timeout_ms=5_000)
    assert red.counts()["waiting"] > 500


def test_retries_and_delayed_jobs_of_one_queue_come_through_while_another_is_full(
    start, configure, red, blue
):
    add(red, 200, s=0.05)
    jobs = [
        blue.add("any", {"fails": 2}, attempts=3, backoff=50),
        blue.add("any", {}, delay_ms=300),
        blue.add("any", {}, priority=5),
    ]
    configure(2, red="", blue="")
    start()
    for job in jobs:
        assert blue.result(job, timeout_ms=10_000)[0] == "blue"
    assert red.counts()["waiting"] > 0


def test_a_slot_that_goes_to_a_queue_of_another_kind_gets_another_runner_and_there_are_never_more(
    start, configure, queues, red, blue
):
    none, fresh = '[queue.blue.policy]\nprofile = "none"', "[queue.green.policy]\nfresh = true"
    configure(2, red="", blue=none, green=fresh)
    run, there = start(), []

    def finished(count):
        there.append(len(run.runners()))
        return done(red) == done(blue) == count

    for turn in (1, 2):
        there.clear()
        until(lambda: len(run.runners()) == 2, "both slots have a runner, and nobody is leaving")
        add(red, 4, s=0.02), add(blue, 4, s=0.02)
        until(lambda turn=turn: finished(4 * turn), "all are done")
        assert max(there) == 2
        add(queues["green"], 4)  # a fresh slot's next runner is born while its job runs
        until(lambda turn=turn: done(queues["green"]) == 4 * turn, "all are done")
    pids = [{job.returned[1] for job in each.jobs("completed")} for each in queues.values()]
    assert not (pids[0] & pids[1] or pids[0] & pids[2] or pids[1] & pids[2])
    assert len(pids[2]) == 8


def test_a_quiet_queue_leaves_its_share_to_the_others(start, configure, ask, known, red, blue, raw, tmp_path):
    go, never = tmp_path / "go", str(tmp_path / "never")
    configure(3, red="", blue="pool = { minimum = 2 }")
    add(red, 5, until=never), add(blue, 5, until=str(go))
    start()
    until(lambda: active(raw, "red", "blue") == [1, 2], "each has its part")
    ask("ctl", "quiet", "blue")
    go.touch()
    until(lambda: active(raw, "red", "blue") == [3, 0], "what was blue's ends, and is red's")
    assert slots_of(known()) == {"red": 3, "blue": 0}
    assert (blue.counts()["waiting"], known()["proof"]["ok"]) == (3, False)  # quiet, and it says so


def test_the_pool_gets_more_slots_and_fewer_by_name_and_by_signal(
    start, configure, ask, known, red, blue, raw
):
    configure(2, red="pool = { minimum = 1 }", blue="pool = { minimum = 1 }")
    run = start()
    assert "the pool has 4 slots" in ask("ctl", "scale", "+2")
    until(lambda: len(run.runners()) == 4, "there are more")
    assert "the pool has 3 slots" in ask("ctl", "scale", "-1", "blue")
    refusal = "the pool has 3 slots, and may have 2 to 1024; nothing was changed"
    assert refusal in ask("ctl", "scale", "-2", status=1)
    run.signal(signal.SIGTTOU)
    until(lambda: slots_of(known()) == {"red": 1, "blue": 1} and len(run.runners()) == 2, "there are fewer")
    add(red, 20, s=0.01), add(blue, 20, s=0.01)
    until(lambda: (done(red), done(blue)) == (20, 20), "and they work")
    until(lambda: run.events("pool.changed")[-1]["slots"] == 2, "it is told")


def test_a_queue_whose_jobs_all_lose_their_runner_holds_no_slots(start, configure, known, red, blue):
    configure(2, red="pool = { minimum = 1 }", blue="")
    add(red, 20, dies=True)
    run = start()
    run.until("queue.degraded")
    jobs = add(blue, 10, s=0.1)
    until(lambda: slots_of(known())["blue"] == 2, "blue has its slots too")
    for job in jobs:
        blue.result(job, timeout_ms=10_000)


def test_a_master_is_ready_though_one_of_its_queues_has_no_slot_yet(
    start, configure, known, red, blue, tmp_path
):
    add(red, 2, until=str(tmp_path / "never"))
    configure(1, red="pool = { minimum = 1 }", blue="")
    start()
    blue.add("any", {})
    until(lambda: known()["proof"]["ok"], "it works, and owes nobody anything")
    assert slots_of(known()) == {"red": 1, "blue": 0}


def test_a_job_that_a_full_pool_cannot_take_is_for_another_master_at_once(
    start, oxherd, configure, ask, red, blue, raw, tmp_path
):
    """The marker that the full one watches all the same, and pops, is put back."""
    configure(1, red="", blue="")

    def waits(run):
        known = json.loads(ask("ctl", "snapshot", "--pid", str(run.pid)))
        return all(each["fetched_ago_ms"] for each in known["queues"])

    full = start()
    until(lambda: waits(full), "there is nothing to fetch")
    red.add("any", {"until": str(tmp_path / "never")})
    until(lambda: active(raw, "red") == [1], "the pool is full")
    idle = oxherd("--queue", "blue", "--concurrency", "1", **TARGET)
    idle.until("master.started")
    until(lambda: waits(idle), "there is nothing to fetch")
    for _ in range(5):  # who waited first gets the marker first
        assert blue.result(blue.add("any", {}), timeout_ms=4_000)[0] == "blue"
    assert active(raw, "red") == [1]


def test_ps_shows_whom_each_slot_works_for_now(start, configure, ask, red, blue, raw, tmp_path):
    configure(2, red="pool = { weight = 3 }", blue="pool = { minimum = 1 }")
    red.add("any", {"until": str(tmp_path / "never")})
    start()
    until(lambda: active(raw, "red") == [1], "it runs")
    shown = ask("ps")
    assert "pool: 1 of 2 slots busy; red weight 3, blue weight 1 minimum 1" in shown
    assert len([line for line in shown.splitlines() if " red " in line and " busy " in line[:50]]) == 1


def test_a_pool_and_slots_for_each_queue_are_not_both_to_be_had(oxherd, red):
    job = red.add("any", {})
    run = oxherd("--queue", "red", "--pool", "2", "--concurrency", "2", **TARGET)
    assert run.ended() == 2
    assert "--concurrency gives each queue slots of its own, and --pool lets them share 2" in "".join(
        run.other
    )

    run = oxherd("--pool", "2", target="crowd", queue=None)
    assert run.ended() == 2
    assert "a slot of the pool is for one: give it slots of its own" in "".join(run.other)
    assert red.state(job.id) == "waiting"


def test_by_flags_alone_the_queues_that_are_named_share_slots(oxherd, red, blue):
    jobs = [(queue, queue.add("any", {})) for queue in (red, blue)]
    run = oxherd("--queue", "red", "--queue", "blue", "--pool", "1", "--burst", **TARGET)
    assert run.ended() == 0
    assert len({queue.get(job.id).returned[1] for queue, job in jobs}) == 1
