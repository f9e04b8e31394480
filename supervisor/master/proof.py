"""The proof that a nursery's runners can work: one is born, says what isolates it, and goes, before anything
is fetched.

Decides whether the master may start (I10). What is required is said in `layers.py`; template and
runner have refused by themselves what they can see, the cgroup is the master's to see.

Rule     I10: runners that cannot work take no job
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from sandbox.wire import Kind
from supervisor.errors import NoRunner
from supervisor.master.layers import missing
from supervisor.master.nursery import Nursery
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.runners import Runners

TRIES: Final = 3  # runners that die before they are ready, without a word why
OURS: Final = "oxherd: "  # what our own half of a runner says begins with it


class Proof:
    """The owner of a slot whose first runner is all that is wanted of it."""

    def __init__(self, runners: Runners, nursery: Nursery, loop: asyncio.AbstractEventLoop) -> None:
        self._runners = runners
        self._nursery = nursery
        self._slot = Slot(Slot.UNTOLD, self, nursery=nursery, title="oxherd: proof of runners")
        self._ready: asyncio.Future[Runner] = loop.create_future()
        self._words: deque[str] = deque(maxlen=20)
        self._deaths = 0

    async def done(self) -> None:
        """Return when a runner was ready under all that is required. Raises `NoRunner`."""
        self._runners.open(self._slot)
        try:
            runner = await self._ready
            self._judge(runner)
        finally:
            self._slot.closed = True
            if self._slot.runner is not None:
                self._runners.kill(self._slot.runner)

    def _judge(self, runner: Runner) -> None:
        policy, layers = self._nursery.policy, list(runner.layers)
        for name, why in (("cgroup", self._runners.no_groups), ("cgroup_cpu", self._runners.no_cpu)):
            if name in policy.require:
                layers.append((name, not why, why))
        lacking = missing(policy, layers)
        if lacking:
            reasons = {name: reason for name, _, reason in layers}
            told = ", ".join(f"{name} ({reasons.get(name) or 'not part of it'})" for name in lacking)
            raise NoRunner(
                f"profile {policy.profile} requires what is not in force here: {told}. "
                "No job was taken; oxherd doctor says how to get it."
            )

    # --- the owner of a slot ----------------------------------------------------------------------------

    def on_ready(self, runner: Runner) -> None:
        if not self._ready.done():
            self._ready.set_result(runner)

    def on_line(self, runner: Runner, stream: str, text: str) -> None:
        self._words.append(text)

    def on_exit(self, runner: Runner, how: Exit) -> None:
        if self._ready.done():
            return
        self._deaths += 1
        refusal = next((line for line in self._words if line.startswith(OURS)), None)
        if refusal is not None:
            self._give_up(refusal.removeprefix(OURS))
        elif self._deaths >= TRIES:
            said = "".join(f"\n  | {line}" for line in self._words)
            self._give_up(f"{self._deaths} runners died before they were ready, the last with {how}", said)

    def _give_up(self, why: str, said: str = "") -> None:
        self._ready.set_exception(NoRunner(f"{why}. No job was taken from any queue.{said}"))

    def on_frame(self, runner: Runner, kind: Kind, body: bytes, attempt: int, note: int) -> None:
        self._runners.bad_frame(runner, f"a {kind.name} frame without a job")

    def on_bad_frame(self, runner: Runner, error: str) -> None:
        self._words.append(f"it sent a bad frame: {error}")

    def on_leaving(self, runner: Runner) -> None: ...
