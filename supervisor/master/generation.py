"""A generation: the code of the processors and hooks as it was when it was loaded, and where its runners come
from.

Decides when a generation may be used: when everything is imported and a runner of each of its templates has
shown that it can work. Which generation new runners belong to is the master's to say, at the start, and
`reloading.py`'s after it.

Rule     I10: a child that cannot work takes no job
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from sandbox.policy import Policy
from supervisor.errors import NoRunner
from supervisor.master.hooks import Hooks, hook_targets
from supervisor.master.nursery import Nursery
from supervisor.master.plan import Plan
from supervisor.master.profiles import Profiles
from supervisor.master.proof import Proof
from supervisor.master.runners import Runners
from supervisor.master.settings import QueueSettings, settings_by_queue

PROVED_WITHIN_S: Final = 60.0  # beside what the import took
LOOK_EVERY_S: Final = 0.02
ENDS_WITHIN_S: Final = 2.0  # a template that is to


class Generation:
    """The nurseries of one loading."""

    def __init__(
        self, number: int, plan: Plan, runners: Runners, base: Policy, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Nothing is started yet. `base`: under what all live, but for the profile."""
        self.number = number
        self._plan = plan
        self._runners = runners
        self._loop = loop
        self.profiles = Profiles(plan, runners, base, number)
        self.hooks = self._make_hooks(base)

    def _make_hooks(self, policy: Policy) -> Hooks | None:
        config = self._plan.config.hooks
        targets = hook_targets(config)
        if not targets:
            return None
        timeout_s = config.timeout_ms / 1000
        hooks = Hooks(
            self._runners, targets, policy, timeout_s=timeout_s, wall_clock=time.time, loop=self._loop
        )
        hooks.nursery.generation = self.number
        return hooks

    def nurseries(self) -> list[Nursery]:
        return [*self.profiles.all(), *([self.hooks.nursery] if self.hooks is not None else [])]

    def spawn(self) -> None:
        """Start a template in each."""
        for each in self.nurseries():
            each.spawn()

    async def load(self) -> list[QueueSettings]:
        """Have everything imported, and see that a runner of each template can work: the workers' settings.

        Raises `TemplateFailed`, `NoRunner`, `ConfigError`.
        """
        began_at = self._loop.time()
        hooks = [self.hooks.nursery.load()] if self.hooks is not None else []
        facts, *_ = await asyncio.gather(self.profiles.load(), *hooks)
        settings = settings_by_queue(self._plan, facts)
        limit_s = PROVED_WITHIN_S + 4 * (self._loop.time() - began_at)
        try:
            async with asyncio.timeout(limit_s):
                for nursery in self.nurseries():
                    await Proof(self._runners, nursery, self._loop).done()
        except TimeoutError:
            raise NoRunner(
                f"no runner was ready within {limit_s:.0f} s. No job was taken from any queue."
            ) from None
        return settings

    async def end(self) -> None:
        """No runner is born of it any more; those that live go on. Returns when its templates are gone."""
        for nursery in (*self.profiles.dropped, *self.nurseries()):
            await self._end(nursery)

    async def _end(self, nursery: Nursery) -> None:
        # A birth that was asked for is let come to its end: its runner would be a stray without a word of it.
        while nursery.births and nursery.lives:
            await asyncio.sleep(LOOK_EVERY_S)
        self._runners.abandon(nursery)
        kill_at = self._loop.time() + ENDS_WITHIN_S
        while nursery.lives:
            if self._loop.time() > kill_at:
                nursery.kill()
            await asyncio.sleep(LOOK_EVERY_S)
        self._runners.forget(nursery)
