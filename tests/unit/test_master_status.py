"""The judgement whether a master works, and its one line. The watchdog that acts on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.errors import RedisRefused, RedisUnavailable
from supervisor.master.sd_notify import Manager
from supervisor.master.status import Facts, QueueFacts, line, proof
from supervisor.master.watchdog import Watchdog
from supervisor.observe.log import hooked
from supervisor.protocol.commands.look import LookForWork, QueueLook
from supervisor.protocol.keys import QueueKeys

WELL = QueueFacts(name="mail", slots=4, busy=3, waiting=120, done=8412, renewed_s=0.4)


def judged(**queue: Any):
    return proof(Facts(queues=[replace(WELL, **queue)]))


def test_the_line_says_what_the_master_does():
    assert line(Facts(queues=[WELL])) == "3/4 busy, 120 waiting, 8,412 done, locks renewed 0.4 s ago"


def test_the_line_counts_all_queues_and_the_oldest_of_their_locks():
    other = QueueFacts(name="post", slots=2, busy=1, waiting=5, done=8, renewed_s=7.0)
    assert line(Facts(queues=[WELL, other])) == "4/6 busy, 125 waiting, 8,420 done, locks renewed 7.0 s ago"


def test_what_redis_did_not_say_is_left_out_and_not_0():
    assert "waiting" not in line(Facts(queues=[replace(WELL, waiting=None)]))


def test_who_is_at_work_is_well():
    assert proof(Facts(queues=[WELL])).ok


def test_jobs_that_wait_while_a_slot_is_free_for_too_long_are_the_masters_own_fault():
    found = judged(owed_s=10.0, busy=0)
    assert (found.ok, found.alive) == (False, False)
    assert found.why == "queue 'mail': 120 jobs waiting and a slot is free, but nothing was fetched for 10 s"
    assert judged(owed_s=9.9).ok


def test_locks_that_are_not_renewed_in_time_are_the_masters_own_fault():
    assert judged(renewed_s=15.2).ok, "at half of 30 s it is being renewed"
    assert judged(renewed_s=22.6).alive is False


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (Facts(phase="starting"), "starting"),
        (Facts(phase="stopping"), "stopping"),
        (Facts(away="connection refused", queues=[replace(WELL, owed_s=99.0)]), "connection refused"),
        (Facts(silent_s=12.0), "12 s"),
        (Facts(queues=[replace(WELL, quiet=True)]), "quiet"),
        (Facts(queues=[replace(WELL, degraded="5 jobs in a row have crashed")]), "in a row"),
        (Facts(queues=[replace(WELL, refused="WRONGTYPE")]), "WRONGTYPE"),
    ],
)
def test_what_a_restart_would_not_change_is_no_reason_for_one(facts: Facts, word: str):
    found = proof(facts)
    assert (found.ok, found.alive) == (False, True)
    assert word in found.why


def test_a_queue_that_is_paused_is_no_fault_and_the_line_says_so():
    facts = Facts(queues=[replace(WELL, busy=0, closed="it is paused")])
    assert proof(facts).ok
    assert line(facts).endswith("queue 'mail': it is paused")


def test_a_line_about_trouble_begins_with_it():
    assert line(Facts(away="gone", queues=[WELL])).startswith("Redis cannot be used: gone; 3/4 busy")


# --- what is asked of Redis ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "look"),
    [
        ((3, 2, 0, [None, None]), QueueLook(5)),
        ((3, 0, 0, [b"1", None]), QueueLook(3, "it is paused")),
        ((3, 0, 2, [None, b"2"]), QueueLook(3, "it is at its global concurrency of 2")),
        ((3, 0, 1, [None, b"2"]), QueueLook(3)),
        ((3, 0, 1, [None, b"rubbish"]), QueueLook(3)),
    ],
)
def test_a_look_counts_what_could_be_fetched_and_says_why_nobody_may(reply: Any, look: QueueLook):
    assert LookForWork(QueueKeys("mail")).decode(reply) == look


# --- the watchdog ---------------------------------------------------------------------------------------


@dataclass
class Fetcher:
    quiet: bool = False
    fetched: int = 0
    fetched_at: float = 1.0
    refusal: str = ""
    holds: bool = False
    asked_anew: int = 0
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1

    def ask_anew(self) -> None:
        self.asked_anew += 1


@dataclass
class Worker:
    keys: QueueKeys = field(default_factory=lambda: QueueKeys("mail"))
    fetcher: Fetcher = field(default_factory=Fetcher)
    lock_s: float = 30.0
    held_back: str = ""
    slots_free: int = 1
    lock: float | None = None

    def room(self) -> int:
        return 2

    def free(self) -> int:
        return self.slots_free

    def running(self) -> int:
        return 2 - self.slots_free

    def done(self) -> int:
        return 7

    def oldest_lock_s(self) -> float | None:
        return self.lock


@dataclass
class Server:
    look: QueueLook | Exception = field(default_factory=lambda: QueueLook(3))
    connected: bool = True
    trouble: str = ""
    again: int = 0

    def connect_again(self, why: str) -> None:
        self.again += 1

    async def execute(self, command: Any, *, patience_s: float | None = None) -> Any:
        if isinstance(self.look, Exception):
            raise self.look
        return self.look


class Scene:
    """A watchdog of 30 s, that is looked with every 5 s."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        self.listener = listener
        self.server, self.worker = Server(), Worker()
        self.now = 100.0
        self.given_up: list[str] = []
        self.events: list[str] = []
        env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "5"}
        self.manager = Manager(env, pid=5)
        self.dog = Watchdog(
            self.server,
            [self.worker],
            self.manager,
            clock=lambda: self.now,
            give_up=self.given_up.append,
        )

    def look(self, times: int = 1) -> list[str]:
        """What the manager was told by so many looks."""
        told: list[str] = []
        with hooked(lambda event, fields: self.events.append(event)):
            for _ in range(times):
                asyncio.run(self.dog.look())
                self.now += self.dog.pause_s
                told += self.told()
        return told

    def told(self) -> list[str]:
        told = []
        while True:
            try:
                told += self.listener.recv(4096).decode().split("\n")
            except BlockingIOError:
                return told


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(str(tmp_path / "notify"))
        made = Scene(listener, str(tmp_path / "notify"))
        yield made
        made.manager.close()


def test_ready_is_said_when_redis_has_answered_a_fetch_and_not_before(scene: Scene):
    scene.worker.fetcher.fetched_at = 0.0
    assert "READY=1" not in scene.look(2)
    scene.worker.fetcher.fetched_at = 3.0
    assert "READY=1" in scene.look()
    assert "READY=1" not in scene.look(), "once"


def test_who_works_feeds_the_watchdog_and_says_its_line(scene: Scene):
    scene.worker.slots_free = 0
    told = scene.look()
    assert "WATCHDOG=1" in told
    assert "STATUS=2/2 busy, 3 waiting, 7 done, no locks held" in told
    assert scene.look() == ["WATCHDOG=1"], "a line that has not changed is not said again"


def test_consumption_that_stops_is_asked_anew_and_then_ended_and_nobody_is_fed_meanwhile(scene: Scene):
    assert "WATCHDOG=1" in scene.look(2)
    told = scene.look()
    assert "WATCHDOG=1" not in told
    assert scene.events == ["proof.failed"]
    assert (scene.server.again, scene.worker.fetcher.asked_anew) == (1, 1)
    scene.look()
    assert not scene.given_up, "it has time to help"
    scene.look()
    assert scene.events == ["proof.failed", "master.stuck"]
    assert len(scene.given_up) == 1 and "nothing was fetched" in scene.given_up[0]
    assert "WATCHDOG=1" in scene.look(), "while it ends itself it is left to that"
    assert len(scene.given_up) == 1


def test_a_queue_that_shares_slots_and_has_none_is_no_reason_to_wait_and_claims_one_for_jobs_that_wait(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scene.worker, "room", lambda: 0)
    scene.worker.slots_free = 0
    scene.worker.fetcher.fetched_at = 0.0
    scene.server.look = QueueLook(0)
    assert "READY=1" in scene.look()
    assert not scene.worker.fetcher.woken
    scene.server.look = QueueLook(1)
    assert scene.look(20).count("WATCHDOG=1") == 20
    assert scene.worker.fetcher.woken == 20


def test_what_helps_is_told_and_then_all_is_as_before(scene: Scene):
    scene.look(3)
    scene.worker.fetcher.fetched += 1
    assert "WATCHDOG=1" in scene.look()
    assert scene.events == ["proof.failed", "proof.restored"]
    scene.look(2)
    assert not scene.given_up


def test_what_is_known_here_is_judged_as_it_is_now_and_not_as_it_was_at_the_last_look(scene: Scene):
    scene.look()
    assert scene.dog.judged.ok
    scene.worker.fetcher.quiet = True
    assert "quiet" in scene.dog.judged.why
    scene.dog.say()
    assert scene.told()[0].startswith("STATUS=queue 'mail' is quiet")
    scene.worker.fetcher.quiet = False
    scene.server.connected, scene.server.trouble = False, "connection refused"
    assert "connection refused" in scene.dog.judged.why


def test_what_was_owed_at_the_last_look_is_not_when_it_was_fetched_since(scene: Scene):
    scene.look(3)
    assert not scene.dog.judged.alive
    scene.worker.fetcher.fetched += 1
    assert scene.dog.judged.ok


def test_a_reload_that_was_refused_is_told_and_no_reason_for_a_restart(scene: Scene):
    scene.dog.refused = "cannot load shop: importing shop raised ModuleNotFoundError"
    (told,) = (each for each in scene.look() if each.startswith("STATUS="))
    assert told.startswith("STATUS=the last reload was refused: cannot load shop: importing shop raised")
    assert told.endswith("; 1/2 busy, 3 waiting, 7 done, no locks held")
    assert scene.dog.judged.ok
    scene.dog.refused = "x" * 9_000
    assert line(scene.dog.facts).endswith("x; 1/2 busy, 3 waiting, 7 done, no locks held")
    assert len(line(scene.dog.facts)) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda scene: setattr(scene.worker, "slots_free", 0),
        lambda scene: setattr(scene.worker, "held_back", "degraded"),
        lambda scene: setattr(scene.worker.fetcher, "quiet", True),
        lambda scene: setattr(scene.worker.fetcher, "holds", True),
        lambda scene: setattr(scene.worker.fetcher, "refusal", "WRONGTYPE"),
        lambda scene: setattr(scene.server, "look", QueueLook(0)),
        lambda scene: setattr(scene.server, "look", QueueLook(9, "it is paused")),
        lambda scene: setattr(scene.server, "look", RedisUnavailable("gone", sent=False)),
        lambda scene: setattr(scene.server, "look", RedisRefused("WRONGTYPE")),
    ],
)
def test_nothing_is_owed_while_there_is_a_reason_not_to_fetch(scene: Scene, change: Any):
    change(scene)
    assert scene.look(20).count("WATCHDOG=1") == 20
    assert not scene.given_up and not scene.events


def test_jobs_that_are_fetched_now_and_then_are_consumption(scene: Scene):
    for _ in range(20):
        scene.worker.fetcher.fetched += 1
        scene.look(2)
    assert not scene.events


def test_a_redis_that_is_away_ends_nobody(scene: Scene):
    scene.server.connected, scene.server.trouble = False, "connection refused"
    scene.server.look = RedisUnavailable("gone", sent=False)
    told = scene.look(50)
    assert told.count("WATCHDOG=1") == 50
    assert any(each.startswith("STATUS=Redis cannot be used: connection refused") for each in told)


def test_while_stopping_the_manager_is_asked_for_time(scene: Scene):
    scene.dog.stopping()
    told = scene.told()
    assert told[0] == "STOPPING=1"
    assert "EXTEND_TIMEOUT_USEC=30000000" in told and "WATCHDOG=1" in told
    assert "STATUS=stopping: 1 job still running" in told


# --- the manager ------------------------------------------------------------------------------------------


def test_without_a_manager_nothing_is_said_and_nothing_fails():
    manager = Manager({})
    assert not manager.listens and manager.watchdog_s == 0
    manager.ready()
    manager.alive()


def test_a_manager_that_is_gone_hinders_nobody(tmp_path: Path):
    manager = Manager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    manager.ready()
    manager.close()


def test_the_watchdog_of_another_process_is_not_ours():
    env = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}
    assert Manager(env, pid=7).watchdog_s == 2.0
    assert Manager(env, pid=8).watchdog_s == 0.0
    assert Manager({"WATCHDOG_USEC": "rubbish"}, pid=8).watchdog_s == 0.0


def test_an_abstract_address_is_reached(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0oxherd-test-notify-" + tmp_path.name)
        manager = Manager({"NOTIFY_SOCKET": "@oxherd-test-notify-" + tmp_path.name})
        manager.status("one\nline")
        manager.reloading()
        manager.close()
        assert listener.recv(100) == b"STATUS=one line"
        first, second = listener.recv(100).decode().split("\n")
        assert first == "RELOADING=1" and second.startswith("MONOTONIC_USEC=")
