"""Heartbeats: who lives, who has vanished, and that neither fills a server."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from redis.crc import key_slot

from supervisor.cli import main
from supervisor.cli.masters import Master as Listening
from supervisor.master.attempt import Attempt
from supervisor.master.heartbeat import MISSED, Heartbeat
from supervisor.master.latency import Latency
from supervisor.observe.log import hooked
from supervisor.protocol.commands.hosts import MOST_HOSTS, REMEMBERED_MS, HostId, HostKeys
from supervisor.protocol.commands.work import FetchedJob
from supervisor.transport.aio import Redis

NOW_S = 1_700_000_000.0
UNREADABLE = (b"\xff", b"[1]", b'{"queues":5}', b'{"queues":[1],"pid":[]}', b"[" * 90_000)


class Master:
    """What a master tells: a snapshot, and its clocks."""

    def __init__(self, host: str = "cow", pid: int = 7, queue: str = "work") -> None:
        self.at = 0.0
        self.latency = Latency()
        self.queue = {
            "name": queue,
            "slots": 4,
            "busy": 1,
            "quiet": False,
            "degraded": "",
            "done": 0,
            "failed": 0,
            "limits_by": "cgroup",
            "fetched_ago_ms": 5,
        }
        self.known = {
            "host": host,
            "pid": pid,
            "version": "0.1.0",
            "generation": 1,
            "started_on": 5,
            "slots": [],
        }

    def snapshot(self):
        return {**self.known, "queues": [self.queue]}

    def heartbeat(self, redis: Redis, prefix: str = "bull", interval_ms: int = 60_000) -> Heartbeat:
        return Heartbeat(
            redis,
            prefix,
            snapshot=self.snapshot,
            latencies=lambda: {self.queue["name"]: self.latency},
            interval_ms=interval_ms,
            clock=lambda: self.at,
            wall_clock=lambda: NOW_S + self.at,
        )


def attempt(*, ended_at: float, ran_s: float) -> Attempt:
    """The second of a job."""
    job = FetchedJob(
        *("1", "t", "x", b"{}", b"{}"),
        timestamp=1,
        priority=0,
        attempts_made=1,
        attempts_started=2,
        stalled_count=0,
        deferred=None,
        parent=None,
    )
    made = Attempt(job, 0.0)
    made.started_at, made.ended_at = ended_at - ran_s, ended_at
    return made


@pytest.fixture
async def redis(redis_url: str):
    async with await Redis.connect(redis_url) as redis:
        yield redis


def ids(raw) -> list[str]:
    return [each.decode() for each in raw.zrange("oxherd:hosts", 0, -1)]


async def test_a_beat_is_one_key_that_expires_and_says_what_a_person_asks(redis, raw):
    master = Master()
    beats = master.heartbeat(redis)
    await beats.beat()
    master.at, master.queue["done"], master.queue["failed"] = 10.0, 45, 5
    for ran_s in (0.2, 3.0):
        master.latency.ended(attempt(ended_at=9.0, ran_s=ran_s))
    await beats.beat()

    [host_id] = ids(raw)
    key = f"oxherd:host:{host_id}"
    assert {each.decode() for each in raw.keys("*")} == {key, "oxherd:hosts"}
    assert 0 < raw.pttl(key) <= MISSED * 60_000
    assert 0 < raw.pttl("oxherd:hosts") <= REMEMBERED_MS
    told = json.loads(raw.get(key))
    queue = told.pop("queues")[0]
    numbers = {
        "waited_ms": None,  # it had been postponed
        "ran_ms": {"count": 2, "p50": 200.0, "p95": 3_000.0},
    }
    assert {name: queue[name] for name in numbers} == numbers
    assert told == numbers | {
        "host": "cow",
        "pid": 7,
        "version": "0.1.0",
        "generation": 1,
        "started_on": 5,
        "prefix": "bull",
        "interval_ms": 60_000,
        "slots": 4,
        "busy": 1,
        "ended_per_s": 5.0,
        "limits_by": "cgroup",
        "degraded": [],
    }
    assert queue["name"] == "work" and queue["ended_per_s"] == 5.0


async def test_who_stops_leaves_nothing(redis, raw):
    beats = Master().heartbeat(redis)
    await beats.beat()
    await beats.leave()
    assert raw.keys("*") == []


async def test_who_has_vanished_is_told_of_until_another_does_his_work(redis, raw, capsys, redis_url):
    gone, other = Master("cow", 7), Master("ox", 8)
    await gone.heartbeat(redis, interval_ms=1).beat()
    await other.heartbeat(redis).beat()
    [vanished] = [each for each in ids(raw) if each.startswith("cow:7:")]
    while raw.exists(f"oxherd:host:{vanished}"):
        pass  # three milliseconds

    exit_status, told, said = await status(redis_url, capsys)
    assert (exit_status, told) == (1, ["cow vanished", "ox up"])
    assert "pid 7 on cow has vanished" in said

    await Master("cow", 9, queue="mail").heartbeat(redis).beat()  # other work is no replacement
    assert (await status(redis_url, capsys))[1] == ["cow vanished", "cow up", "ox up"]

    await Master("cow", 10).heartbeat(redis).beat()
    assert (await status(redis_url, capsys))[:2] == (0, ["cow up", "cow up", "ox up"])
    assert vanished not in ids(raw)


async def status(url: str, capsys) -> tuple[int, list[str], str]:
    """Exit status, who is how, and what stands on stderr."""
    exit_status = await asyncio.to_thread(main, ["status", "--hosts", "--json", "--redis", url])
    said = capsys.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    told.sort(key=lambda each: (each["host"], each["pid"]))
    return exit_status, [f"{each['host']} {each['state']}" for each in told], said.err


async def test_a_queue_that_a_master_takes_no_jobs_of_is_told_where_jobs_are_counted(
    redis, raw, capsys, redis_url
):
    raw.hset("bull:work:meta", "x", "y")
    raw.hset("bull:mail:meta", "x", "y")
    sick, well = Master("cow", 7), Master("ox", 8)
    sick.queue["degraded"] = "5 jobs have lost their runner\x1b[2J"
    await sick.heartbeat(redis).beat()
    await well.heartbeat(redis).beat()
    raw.set("oxherd:host:h:1:a:b", UNREADABLE[2])
    raw.zadd("oxherd:hosts", {"h:1:a:b": 5})

    def told(*flags):
        exit_status = main(["status", "--redis", redis_url, *flags])
        said = capsys.readouterr()
        return exit_status, said.out.splitlines(), said.err

    exit_status, lines, said = await asyncio.to_thread(told)
    assert exit_status == 0
    assert [line.endswith("degraded") for line in lines[1:]] == [False, True]
    assert re.search(
        r"work is degraded, says the master with pid 7 on cow \(\d+ d ago\): 5 jobs have lost their runner",
        said,
    )
    assert "\x1b" not in said and "mail is" not in said and "pid 8" not in said

    threshold = ("--check", "--max-waiting", "5")
    assert (await asyncio.to_thread(told, "work", *threshold))[0] == 1
    assert (await asyncio.to_thread(told, "mail", *threshold))[0] == 0
    raw.hset("other:work:meta", "x", "y")
    assert "degraded" not in (await asyncio.to_thread(told, "--prefix", "other"))[2]


async def test_a_master_of_this_host_is_asked_and_its_last_heartbeat_is_not_believed(
    redis, raw, capsys, redis_url, monkeypatch
):
    raw.hset("bull:work:meta", "x", "y")
    ours, other = Master("cow", 7), Master("ox", 7)
    ours.queue["degraded"] = other.queue["degraded"] = "5 jobs have lost their runner"
    await ours.heartbeat(redis).beat()
    monkeypatch.setattr("supervisor.cli.status.running", lambda common: [Listening(7, Path("7.sock"))])
    monkeypatch.setattr(
        "supervisor.cli.status.ask",
        lambda *asked, **more: {**ours.snapshot(), "proof": {"ok": True, "why": ""}},
    )

    def told(*flags):
        exit_status = main(["status", "--redis", redis_url, *flags])
        return exit_status, capsys.readouterr().err

    ours.queue["degraded"] = ""
    assert "degraded" in (await asyncio.to_thread(told))[1], "who only counts asks nobody but Redis"
    assert await asyncio.to_thread(told, "--check") == (0, "")
    await other.heartbeat(redis).beat()
    exit_status, said = await asyncio.to_thread(told, "--check")
    assert exit_status == 1
    assert "on ox (" in said and "on cow" not in said
    ours.queue["degraded"] = "5 others"
    assert "on cow: 5 others" in (await asyncio.to_thread(told, "--check"))[1]


async def test_those_who_never_leave_are_bounded_in_age_and_number(redis, raw):
    old_ms = round(NOW_S * 1000) - REMEMBERED_MS - 1
    raw.zadd("oxherd:hosts", {"old:1:a:b": old_ms})
    raw.zadd("oxherd:hosts", {f"h:{n}:a:b": round(NOW_S * 1000) - 2_000 + n for n in range(MOST_HOSTS)})
    await Master().heartbeat(redis).beat()
    assert raw.zcard("oxherd:hosts") == MOST_HOSTS
    assert "old:1:a:b" not in ids(raw) and "h:0:a:b" not in ids(raw)
    assert any(each.startswith("cow:7:") for each in ids(raw))


@pytest.mark.parametrize("prefix", ["{bull}", "a{b}c{d}"])
def test_in_a_cluster_they_stand_in_the_slot_of_their_prefix(prefix: str):
    keys = HostKeys(prefix)
    slots = {key_slot(key.encode()) for key in (keys.hosts, keys.host("cow:7:a:b"), f"{prefix}:work:wait")}
    assert len(slots) == 1


@pytest.mark.parametrize("prefix", ["bull", "{}bull", "bull}{"])
def test_without_a_hash_tag_the_hosts_of_all_prefixes_are_one_list(prefix: str):
    assert HostKeys(prefix).hosts == "oxherd:hosts"


def test_an_id_tells_host_and_pid_whatever_the_host_is_called():
    made = HostId("a {b}:c\n", 7, "work", "run")
    again = HostId.parse(str(made))
    assert again is not None and (again.host, again.pid) == ("a__b__c_", 7)
    assert HostId.parse("nonsense") is None
    assert HostId("a {b}:c\n", 8, "work", "other").replaces(again)
    assert not made.replaces(again)  # itself


async def test_what_others_write_there_is_shown_and_harms_nothing(redis, raw, redis_url, capsys):
    """I7: anybody may write these keys."""
    for number, record in enumerate(UNREADABLE):
        host_id = f"ox:{number}:a:b"
        raw.zadd("oxherd:hosts", {host_id: round(NOW_S * 1000)})
        raw.set(f"oxherd:host:{host_id}", record)
    raw.zadd("oxherd:hosts", {"\x1b[2J": 5})
    assert await asyncio.to_thread(main, ["status", "--hosts", "--redis", redis_url]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("unreadable") == 5
    assert "\x1b" not in shown.out + shown.err


async def test_a_beat_that_fails_is_told_once_and_harms_nothing(redis, raw):
    raw.set("oxherd:hosts", "no sorted set")
    heard = []
    with hooked(lambda event, fields: heard.append(event)):
        beats = Master().heartbeat(redis)
        for _ in range(3):
            await beats.beat()
        raw.delete("oxherd:hosts")
        await beats.beat()
        raw.set("oxherd:hosts", "again")
        await beats.beat()
    assert heard == ["heartbeat.failed"] * 2


async def test_a_key_of_a_master_that_cannot_be_read_hides_no_other(redis, raw, redis_url, capsys):
    await Master().heartbeat(redis).beat()
    raw.zadd("oxherd:hosts", {"ox:1:a:b": round(NOW_S * 1000)})
    raw.lpush("oxherd:host:ox:1:a:b", "a list")
    assert (await status(redis_url, capsys))[1] == ["cow up", "ox vanished"]
