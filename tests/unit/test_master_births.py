"""Births and burials in the orders of events that seldom happen (I8)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from sandbox.policy import Policy
from sandbox.wire import Kind
from supervisor.errors import SandboxError
from supervisor.master import nursery as module
from supervisor.master.births import pause_after
from supervisor.master.nursery import BACKOFF_LAST_S
from supervisor.master.phases import Phase
from supervisor.master.runner import Runner, Slot
from supervisor.master.runners import Runners
from supervisor.master.spawning import new_ends
from supervisor.master.template import Template


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


class Owner:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told = []
        self.at_frame = lambda runner: None

    def on_ready(self, runner):
        self.told.append("ready")

    def on_frame(self, runner, kind, body, attempt, note):
        self.told.append(kind)
        self.at_frame(runner)

    def on_bad_frame(self, runner, error):
        self.told.append(error)

    def on_line(self, runner, stream, text):
        self.told.append(text)

    def on_leaving(self, runner):
        self.told.append("leaving")

    def on_exit(self, runner, how):
        self.told.append(str(how))


@pytest.fixture
async def registry():
    made = Runners(asyncio.get_running_loop(), env={}, rng=lambda: 0.5)
    made.stopping = True  # no birth follows a burial here
    yield made
    for runner in list(made._by_pid.values()):
        made.kill(runner)
    await until(lambda: not made._by_pid)


def child(registry, code):
    """A registered child that runs `code` with its end of the link in `link`."""
    ours, theirs = new_ends(socket.SOCK_STREAM)
    link, out, err = theirs.fds()
    program = f"import os, socket, sys, time; link = socket.socket(fileno={link}); {code}"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program], pass_fds=[link], stdout=out, stderr=err
        )
    process.returncode = 0  # the registry buries it
    slot = Slot(1, Owner(), nursery=registry.nursery([], Policy(), ""))
    runner = Runner(slot, process.pid, os.pidfd_open(process.pid))
    registry._register(runner, ours)
    return runner


def is_zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


READY = "link.send(b'\\x10\\0\\0\\0\\0\\0\\0\\0\\x0d\\0\\0\\0\\0' + b'{\"layers\":[]}')"
COMPLETED = "link.send(b'\\x15\\0\\0\\0\\0\\0\\0\\0\\x04\\0\\0\\0\\0null')"


async def test_the_number_of_a_dead_runner_is_its_own_while_its_last_words_are_read(registry):
    """A kill that its last frame asks for must not reach whoever has the number next."""
    runner = child(registry, f"{READY}; {COMPLETED}; print('bye')")
    seen = []
    runner.slot.owner.at_frame = lambda each: (seen.append(is_zombie(each.pid)), registry.kill(each))
    while not is_zombie(runner.pid):
        os.sched_yield()  # the loop must not see the frame before the death
    registry._reap(runner)
    assert seen == [True]
    assert not os.path.exists(f"/proc/{runner.pid}"), "buried"


async def test_the_last_outcome_of_a_dead_runner_does_not_make_it_look_idle(registry):
    """The next job would be given to a corpse, and fail for it."""
    runner = child(registry, f"{READY}; {COMPLETED}")
    phases = []
    runner.slot.owner.at_frame = lambda each: phases.append(each.phase)
    while not is_zombie(runner.pid):
        os.sched_yield()
    registry._reap(runner)
    assert phases == [Phase.LEAVING]
    assert runner.slot.owner.told == ["leaving", Kind.COMPLETED, "exit status 0"]


async def test_who_is_killed_is_idle_no_more_before_it_is_dead(registry):
    runner = child(registry, f"{READY}; time.sleep(60)")
    await until(lambda: "ready" in runner.slot.owner.told)
    registry.kill(runner)
    assert runner.slot.owner.told == ["ready", "leaving"]
    await until(lambda: runner.phase is Phase.GONE)
    assert "SIGKILL" in runner.slot.owner.told[-1]


async def test_a_runner_that_is_killed_before_it_was_ready_counts_as_a_failure(registry, monkeypatch):
    monkeypatch.setattr(registry, "open", lambda slot: None)
    registry.stopping = False
    runner = child(registry, "time.sleep(60)")
    registry._never_ready(runner)
    await until(lambda: runner.phase is Phase.GONE)
    assert runner.slot.failures == 1


async def test_who_cannot_be_killed_gives_up_its_slot(registry, monkeypatch):
    """Stuck in the kernel it is neither dead nor at work; buried it is all the same when it goes."""
    monkeypatch.setattr("supervisor.master.runners.end_tree", lambda runner: None)
    monkeypatch.setattr("supervisor.master.runners.UNKILLABLE_AFTER_S", 0.01)
    opened = []
    monkeypatch.setattr(registry, "open", opened.append)
    registry.stopping = False
    runner = child(registry, f"{READY}; time.sleep(60)")
    slot = runner.slot
    await until(lambda: "ready" in slot.owner.told)
    slot.runner = runner

    registry.kill(runner)
    await until(lambda: opened)
    assert slot.owner.told == ["ready", "leaving", "signal 9 (SIGKILL)"]
    assert opened == [slot] and slot.runner is None and runner.pid in registry._by_pid

    slot.runner = successor = object()
    os.kill(runner.pid, signal.SIGKILL)
    await until(lambda: not registry._by_pid)
    assert slot.runner is successor and opened == [slot]
    assert slot.owner.told.count("signal 9 (SIGKILL)") == 1


def test_a_slot_that_failed_for_hours_is_still_tried_again():
    assert pause_after(1) < pause_after(3) < BACKOFF_LAST_S
    assert pause_after(100_000) == BACKOFF_LAST_S


# --- the template --------------------------------------------------------------------------------------


class FakeTemplate:
    """Behaves as the test's script says: the n-th one does `script[n]`."""

    script: ClassVar[list[str]]
    born: ClassVar[list[FakeTemplate]]

    def __init__(self, loop, on_line):
        self.deed = self.script[len(self.born)]
        self.born.append(self)
        self.pid, self.alive, self.forking, self.killed = 1, False, False, False
        self.identity = ""

    def spawn(self, env):
        if self.deed == "no room":
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.alive = True

    async def load(self, *args, **more):
        if self.deed == "deaf":
            raise SandboxError("the template does not listen")
        if self.deed == "dies once it is loaded":
            self.alive = False
        return []

    async def fork(self, slot, fds):
        await asyncio.Event().wait()

    def reap(self):
        return -9

    def close(self):
        pass

    def kill(self):
        self.killed = True


@pytest.fixture
async def templates(monkeypatch):
    """A registry whose templates are fakes."""
    monkeypatch.setattr(module, "Template", FakeTemplate)
    monkeypatch.setattr(module, "BACKOFF_FIRST_S", 0.001)
    FakeTemplate.born = []
    made = Runners(asyncio.get_running_loop(), env={}, rng=lambda: 0.5)
    made.only = made.nursery([], Policy(), "")
    yield made
    made.stopping = True
    made.only.stop()
    for task in made.births._tasks:
        task.cancel()


async def test_a_dead_template_is_replaced_until_one_lives(templates):
    """Whatever goes wrong on the way, and though one dies while its reviver is believed to be at work."""
    FakeTemplate.script = ["lives", "no room", "deaf", "dies once it is loaded", "lives"]
    first = templates.only.spawn()
    await templates.only.load()
    first.alive = False
    templates.only.ended(first)
    await until(lambda: len(FakeTemplate.born) == 5)
    await until(lambda: templates.only.reviving is None)
    assert FakeTemplate.born[-1].alive


async def test_a_template_that_dies_at_its_first_load_is_not_replaced(templates):
    """That start has failed, with a sentence."""
    FakeTemplate.script = ["deaf", "lives"]
    first = templates.only.spawn()
    with pytest.raises(SandboxError):
        await templates.only.load()
    first.alive = False
    templates.only.ended(first)
    assert templates.only.reviving is None


async def test_a_template_that_does_not_answer_a_fork_is_killed(templates, monkeypatch):
    monkeypatch.setattr(module, "FORK_WITHIN_S", 0.01)
    FakeTemplate.script = ["lives"]
    template = templates.only.spawn()
    await templates.only.load()
    slot = Slot(1, Owner(), nursery=templates.only)
    templates.open(slot)
    await until(lambda: slot.failures)
    assert template.killed


async def test_a_template_that_ended_is_buried_though_a_kill_comes_first():
    """A kill must not reap it in passing: nobody would be told of its end."""
    template = Template(asyncio.get_running_loop(), lambda stream, text: None)
    template.spawn({"PATH": os.environ["PATH"]})
    os.kill(template.pid, signal.SIGKILL)
    while not is_zombie(template.pid):
        os.sched_yield()
    template.kill()
    assert is_zombie(template.pid)
    assert template.reap() == -signal.SIGKILL and not template.alive
    template.close()


# --- the gate ------------------------------------------------------------------------------------------


async def test_a_runner_with_other_processors_than_its_template_told_of_takes_no_job(registry, monkeypatch):
    """I10: the module was changed between, or the template was replaced meanwhile."""
    monkeypatch.setattr(registry, "open", lambda slot: None)
    registry.stopping = False
    runner = child(registry, f"{READY}; time.sleep(60)")
    runner.slot.nursery.identity = "another"
    why = []
    runner.slot.on_failed_birth = why.append
    await until(lambda: runner.phase is Phase.GONE)
    assert "ready" not in runner.slot.owner.told
    assert why == ["it has loaded other processors than its template told of"]


async def test_who_dies_right_after_ready_is_born_again_with_growing_pauses(registry, monkeypatch):
    monkeypatch.setattr(registry, "open", lambda slot: None)
    registry.stopping = False
    runner = child(registry, READY)
    await until(lambda: runner.phase is Phase.GONE)
    assert "ready" in runner.slot.owner.told
    assert runner.slot.failures == 1 and runner.slot.owes


async def test_of_many_births_that_fail_for_one_cause_the_log_tells_one(registry, monkeypatch):
    told = []
    log = SimpleNamespace(error=lambda event, **fields: told.append(fields))
    monkeypatch.setattr("supervisor.master.births.log", log)
    monkeypatch.setattr("supervisor.master.births.FAILURES_TOLD_EVERY_S", 0.01)
    nursery = registry.nursery([], Policy(), "")
    for number in range(300):
        registry.births.failed(Slot(number, Owner(), nursery=nursery), "no room")
    await until(lambda: len(told) == 2)
    assert told == [{"slot": 0, "error": "no room", "failures": 1}, {"error": "no room", "more": 299}]


async def test_a_group_that_empties_slowly_is_tried_again_until_it_is_gone(registry, monkeypatch):
    """Seen in the guest: the last of a family died after the last birth, and its empty group stayed."""
    monkeypatch.setattr("supervisor.master.runners.SWEEP_AGAIN_S", 0.0)
    tries = []
    gone = asyncio.Event()

    class Groups:
        def sweep(self):
            tries.append(1)
            if len(tries) == 3:
                gone.set()
            return gone.is_set()

    registry.groups, registry.stopping = Groups(), False
    registry._sweep_groups()
    await asyncio.wait_for(gone.wait(), 5)
    registry.groups, registry.stopping = None, True
    assert len(tries) == 3
