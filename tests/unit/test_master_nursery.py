"""A template that takes its time over its import: somebody at the console is told, again and again."""

from __future__ import annotations

import asyncio

from sandbox.policy import Policy
from supervisor.master import nursery as module
from supervisor.master.nursery import Nursery
from supervisor.master.plan import Target
from supervisor.observe import log


class Importing:
    """A template whose import ends when it is told to."""

    pid, identity, alive = 7, "", True

    def __init__(self):
        self.done = asyncio.Event()

    async def load(self, targets, policy, title, *, hooks, bare):
        await self.done.wait()
        return []


def test_an_import_that_takes_long_is_told_until_it_ends(monkeypatch):
    monkeypatch.setattr(module, "SLOW_S", 0.01)
    slow = []

    async def load():
        loop = asyncio.get_running_loop()
        twice = asyncio.Event()

        def heard(event, fields):
            if event == "template.slow":
                slow.append(fields)
                if len(slow) == 2:
                    twice.set()

        nursery = Nursery(loop, env={}, targets=[Target(name="app", queue=None)], policy=Policy(), title="t")
        nursery._template = template = Importing()
        with log.hooked(heard):
            loading = asyncio.create_task(nursery.load())
            await asyncio.wait_for(twice.wait(), 5)
            template.done.set()
            assert await loading == []
        assert nursery._slow.cancelled()

    asyncio.run(load())
    assert [fields["waited_s"] for fields in slow[:2]] == [0.01, 0.02]
    assert slow[0]["targets"] == ["app"] and slow[0]["pid"] == 7
