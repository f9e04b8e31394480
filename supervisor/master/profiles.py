"""Which queue's runners come from which template: one nursery for each profile.

Decides the profile of each queue: what the config says of it, or what one of its processors asks for when
that is stricter. Decorators are known only when a module is imported, so each target is imported first under
what the config alone tells; where that was not strict enough, or was meant for others, another template is
started under the right profile before anything is fetched (I6).

Rule     invariant I6
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sandbox.policy import Policy
from supervisor.errors import SandboxError
from supervisor.master.nursery import Nursery
from supervisor.master.plan import Plan, Target
from supervisor.master.runners import Runners
from supervisor.master.settings import STRICTNESS, profile_of, strictest
from supervisor.master.template import ProcessorFacts

MOST_LOADS: Final = len(STRICTNESS) + 1  # a profile that each load finds too weak is at its end by then


def first_profile(plan: Plan, target: Target) -> str:
    """Under which profile a target is imported when nothing is known of it but its name.

    A module that does not say whom it serves may serve any queue, so the strictest of all holds.
    """
    if target.queue is not None:
        return plan.config.effective(target.queue).policy.profile
    policies = [plan.config.policy, *(each.policy for each in plan.config.queues.values() if each.policy)]
    return strictest(each.profile for each in policies)


class Profiles:
    """The nurseries of a master's processors."""

    def __init__(self, plan: Plan, runners: Runners, base: Policy, generation: int = 1) -> None:
        """Make the first ones, all with policy `base` but for the profile. Somebody else starts them."""
        self._generation = generation
        self._plan = plan
        self._base = base
        self._runners = runners
        self._by_queue: dict[str, Nursery] = {}
        self._facts: dict[Nursery, list[ProcessorFacts]] = {}
        first: dict[str, list[Target]] = {}
        for target in plan.targets:
            first.setdefault(first_profile(plan, target), []).append(target)
        self.dropped: list[Nursery] = []  # they were not strict enough
        self._nurseries = [self._nursery(profile, targets) for profile, targets in first.items()]

    def _nursery(self, profile: str, targets: Sequence[Target]) -> Nursery:
        title = f"oxherd: template g{self._generation} " + " ".join(target.name for target in targets)
        made = self._runners.nursery(targets, replace(self._base, profile=profile), title)
        made.generation = self._generation
        return made

    def all(self) -> list[Nursery]:
        return list(self._nurseries)

    def of(self, queue: str) -> Nursery:
        """Where the runners of a queue come from, once everything is loaded."""
        return self._by_queue[queue]

    async def load(self) -> list[ProcessorFacts]:
        """Import every target under the profile it needs; what is known of the processors.

        Raises `TemplateFailed`.
        """
        for _ in range(MOST_LOADS):
            new = [each for each in self._nurseries if each not in self._facts]
            for nursery, facts in zip(new, await asyncio.gather(*(n.load() for n in new)), strict=True):
                self._facts[nursery] = facts
            if not self._rearrange(self._wanted()):
                return self._settle()
        raise SandboxError("the processors ask for another profile at every import. No job was taken.")

    def _wanted(self) -> dict[str, list[Target]]:
        """Profile -> the targets that have a processor of one of its queues.

        A target that serves none of the queues that are wanted stays where it is.
        """
        wanted: dict[str, list[Target]] = {}
        for nursery, facts in self._facts.items():
            for number, target in enumerate(nursery.targets):
                queues = {each.queue for each in facts if each.target_number == number and self._serves(each)}
                for profile in {self._profile_of(queue) for queue in queues} or {nursery.policy.profile}:
                    targets = wanted.setdefault(profile, [])
                    if target not in targets:
                        targets.append(target)
        return {profile: sorted(targets, key=self._plan.targets.index) for profile, targets in wanted.items()}

    def _serves(self, facts: ProcessorFacts) -> bool:
        return not self._plan.only_queues or facts.queue in self._plan.only_queues

    def _profile_of(self, queue: str) -> str:
        return profile_of(self._plan, queue, [each for facts in self._facts.values() for each in facts])

    def _rearrange(self, wanted: dict[str, list[Target]]) -> bool:
        """End the templates that are not as wanted, and start those that are missing; False for none."""
        there = {each.policy.profile: each for each in self._nurseries}
        good = {profile for profile, each in there.items() if wanted.get(profile) == [*each.targets]}
        for profile in there.keys() - good:
            self._runners.abandon(there[profile])
            self.dropped.append(there[profile])
            self._nurseries.remove(there[profile])
            del self._facts[there[profile]]
        missing = [profile for profile in wanted if profile not in good]
        for profile in missing:
            nursery = self._nursery(profile, wanted[profile])
            nursery.spawn()
            self._nurseries.append(nursery)
        return bool(missing)

    def _settle(self) -> list[ProcessorFacts]:
        """Each queue gets its nursery; the processors as that one has imported them."""
        found: list[ProcessorFacts] = []
        for nursery, facts in self._facts.items():
            for each in facts:
                if self._profile_of(each.queue) == nursery.policy.profile:
                    self._by_queue[each.queue] = nursery
                    found.append(each)
        return found
