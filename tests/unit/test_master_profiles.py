"""Which template has which targets, when config and decorators say different profiles (I6)."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.policy import Limits, Policy
from supervisor.config.load import load
from supervisor.errors import SandboxError
from supervisor.master.plan import Plan, Target
from supervisor.master.profiles import Profiles
from supervisor.master.template import ProcessorFacts
from supervisor.transport.address import Address


class Nursery:
    """What a template would tell of its targets: {target: [(queue, what its decorator asks for)]}."""

    def __init__(self, targets, policy, modules):
        self.targets, self.policy, self.modules = targets, policy, modules
        self.spawned = False

    def spawn(self):
        self.spawned = True

    async def load(self):
        return [
            ProcessorFacts(
                queue, None, target.name, None, False, Limits(), profile=profile, target_number=number
            )
            for number, target in enumerate(self.targets)
            for queue, profile in self.modules(target.name)
        ]


class Runners:
    def __init__(self, modules):
        self.modules, self.made, self.abandoned = modules, [], []

    def nursery(self, targets, policy, title):
        self.made.append(Nursery(list(targets), policy, self.modules))
        return self.made[-1]

    def abandon(self, nursery):
        self.abandoned.append(nursery)


def loaded(tmp_path, modules, *, config="", only=()):
    """Profiles after their load, and the registry; `modules` by name, or a function of the name."""
    (tmp_path / "oxherd.toml").write_text(config)
    plan = Plan(
        address=Address.parse("redis://127.0.0.1"),
        config=load(tmp_path / "oxherd.toml", {}, {}).config,
        targets=tuple(Target(name=name, queue=None) for name in ("a", "b")),
        only_queues=only,
    )
    runners = Runners(modules if callable(modules) else modules.__getitem__)
    profiles = Profiles(plan, runners, Policy())
    facts = asyncio.run(profiles.load())
    return profiles, runners, facts


def names(nursery):
    return nursery.policy.profile, [target.name for target in nursery.targets]


def test_targets_of_one_profile_share_a_template(tmp_path):
    profiles, runners, facts = loaded(tmp_path, {"a": [("x", None)], "b": [("y", None)]})
    assert [names(each) for each in profiles.all()] == [("process", ["a", "b"])]
    assert runners.abandoned == [] and profiles.of("x") is profiles.of("y")
    assert [each.queue for each in facts] == ["x", "y"]


def test_what_is_asked_for_at_import_is_imported_again_under_it(tmp_path):
    """I6: and the template that was not strict enough is ended, as is its share of the others."""
    profiles, runners, facts = loaded(tmp_path, {"a": [("x", "strict")], "b": [("y", None)]})
    assert sorted(names(each) for each in profiles.all()) == [("process", ["b"]), ("strict", ["a"])]
    assert [names(each) for each in runners.abandoned] == [("process", ["a", "b"])]
    assert profiles.dropped == runners.abandoned
    assert names(profiles.of("x"))[0] == "strict" and names(profiles.of("y"))[0] == "process"
    assert sorted(each.queue for each in facts) == ["x", "y"], "each once"
    assert all(each.spawned for each in profiles.all())


def test_a_module_of_two_profiles_is_in_both_templates_and_each_has_its_queue(tmp_path):
    profiles, _, facts = loaded(tmp_path, {"a": [("x", "strict"), ("y", None)], "b": []})
    assert sorted(names(each) for each in profiles.all()) == [("process", ["a", "b"]), ("strict", ["a"])]
    assert names(profiles.of("x"))[0] == "strict" and names(profiles.of("y"))[0] == "process"
    assert sorted(each.queue for each in facts) == ["x", "y"]


def test_who_may_serve_any_queue_is_imported_under_the_strictest_first(tmp_path):
    config = '[queue.x.policy]\nprofile = "strict"\n'
    profiles, runners, _ = loaded(tmp_path, {"a": [("x", None)], "b": [("x", None)]}, config=config)
    assert [names(each) for each in runners.made] == [("strict", ["a", "b"])]
    assert names(profiles.of("x"))[0] == "strict"


def test_queues_that_are_not_wanted_ask_for_nothing(tmp_path):
    _, runners, _ = loaded(tmp_path, {"a": [("x", "strict")], "b": [("y", None)]}, only=("y",))
    assert [names(each) for each in runners.made] == [("process", ["a", "b"])]


def test_a_module_that_asks_for_another_profile_each_time_is_refused(tmp_path):
    turns = iter(("strict", None) * 20)
    with pytest.raises(SandboxError, match="another profile at every import"):
        loaded(tmp_path, lambda name: [("x", next(turns))] if name == "a" else [])
