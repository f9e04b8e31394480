"""Reloading: config and code are read again, and new runners have the new ones.

Decides when the new generation takes over: when the config is in order, everything is imported and a runner
of each template has shown that it can work. Until then, and for good when it fails, everything goes on as
before and the error is said. There is no deadline: a job that runs keeps its runner, and that its code, for
as long as it takes; the runner is replaced behind it.

The races, and who wins:
    a reload while one is loading     the later one: the earlier is given up, whoever asked for it is told so
    a reload during a stop            the stop; the reload is refused
    a stop during a reload            the stop; what was loaded so far is ended
    a template that dies before the switch    the reload fails; after it, nursery.py starts another
    a birth of the old generation that is under way at the switch    it is replaced when it is ready
    HUP with a terminal               the window was closed: a stop, as for TERM (signals.py)
The switch itself is one turn of the event loop: no job is placed in the middle of it.

Reads    the config, by `plan.again`; the working directory by the name it had at the start
Tells    the log, the service manager, whoever asks
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from sandbox.linux import set_dumpable
from sandbox.titles import find_setter
from supervisor.config.changes import changes, needs_restart, taken_over
from supervisor.errors import MasterRefused, OxherdError
from supervisor.master.generation import Generation
from supervisor.master.hooks import Hooks
from supervisor.master.phases import Phase
from supervisor.master.plan import Plan
from supervisor.master.settings import QueueSettings, policy_of
from supervisor.master.succession import RELOADED
from supervisor.observe import log as log_room
from supervisor.observe.log import get

if TYPE_CHECKING:
    from supervisor.master.main import Master

log = get("reloading")

POLL_S: Final = 0.01
REPLACED_WITHIN_S: Final = 30.0  # the idle runners, before the answer; the busy ones when they have ended
NOTHING_LOST: Final = "Nothing was changed, and no job was touched."


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload came to.

    changed   options with another value, in force now.
    restart   options with another value, which only a restart would bring.
    came      queues that are served now and were not before.
    gone      the reverse.
    """

    generation: int
    changed: list[str]
    restart: list[str]
    came: list[str]
    gone: list[str]
    took_ms: int


class Reloading:
    """The reloads of one master."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._task: asyncio.Task[Reloaded] | None = None
        self._home = _home(os.environ.get("PWD", ""))

    def begin(self) -> asyncio.Task[Reloaded]:
        """Start one; one that is still loading is given up for it. How it ended is logged."""
        earlier = self._task
        if earlier is not None:
            earlier.cancel()
        self._task = task = self._master.loop.create_task(self._reload(earlier))
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Reloaded]) -> None:
        if task is self._task:
            self._task = None
            if task.cancelled() or task.exception() is not None:
                self._tell_manager()
            else:
                self._master.spawn(self._tell_when_replaced(task.result().generation))
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OxherdError):
            raise error  # to the loop's handler: a bug of ours, loudly

    async def _tell_when_replaced(self, generation: int) -> None:
        await self._until_replaced(generation)
        if self._task is None:  # else the later one will tell
            self._tell_manager()

    def _tell_manager(self) -> None:
        """It is over: `systemctl reload` returns, if it waits for us. The line is said before."""
        if self._master.watchdog is not None:
            self._master.watchdog.say()
        if not self._master.stopping:
            self._master.manager.ready()

    def cancel(self) -> None:
        """The master stops."""
        if self._task is not None:
            self._task.cancel()

    async def reload(self) -> Reloaded:
        """Reload, and return when no idle runner has the old code any more.

        Raises `MasterRefused` with what was wrong.
        """
        if self._master.stopping:
            raise MasterRefused(f"not reloaded: the master is stopping. {NOTHING_LOST}")
        task = self.begin()
        try:
            done = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise  # whoever asked has gone; the reload goes on
            why = "the master is stopping" if self._master.stopping else "a later reload has taken its place"
            raise MasterRefused(f"not reloaded: {why}. {NOTHING_LOST}") from None
        await self._until_replaced(done.generation)
        return done

    async def _until_replaced(self, generation: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLACED_WITHIN_S):
                while self._master.generation == generation and self._any_idle_before(generation):
                    await asyncio.sleep(POLL_S)

    def _any_idle_before(self, generation: int) -> bool:
        slots = [slot for worker in self._master.workers if not worker.leaving for slot in worker.slots]
        seated = [slot.runner for slot in slots if slot.runner]
        return any(
            runner.phase in (Phase.IDLE, Phase.STARTING) and runner.nursery.generation < generation
            for runner in seated
        )

    async def _reload(self, earlier: asyncio.Task[Reloaded] | None) -> Reloaded:
        if earlier is not None:
            await asyncio.wait({earlier})  # it puts the working directory back
        number = self._master.generation + 1
        began_at = time.monotonic()
        log.info("reload.requested", generation=number)
        self._master.manager.reloading()
        before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            plan, changed = self._read_again()
            code, settings = await self._loaded(number, plan)
        except OxherdError as error:
            os.fchdir(before)  # a template of the old code that dies is started again where it was
            raise self._failed(number, str(error)) from None
        except asyncio.CancelledError:
            os.fchdir(before)
            self._failed(number, "given up for what was asked for later")
            raise
        finally:
            os.close(before)
        came, gone = self._switch(code, plan, settings)
        restart = [name for name in changed if needs_restart(name)]
        done = Reloaded(
            generation=number,
            changed=[name for name in changed if name not in restart],
            restart=restart,
            came=came,
            gone=gone,
            took_ms=round((time.monotonic() - began_at) * 1000),
        )
        log.info("reload.done", **structs.asdict(done))
        self._remember("")
        return done

    def _remember(self, refused: str) -> None:
        """Why it was refused: in the line that tells of the master, until another reload succeeds."""
        if self._master.watchdog is not None:
            self._master.watchdog.refused = refused.partition("\n")[0]

    def _failed(self, number: int, why: str) -> MasterRefused:
        """Log it; the same for whoever has asked."""
        for at_the_start in ("No job was taken from any queue.", "No job was taken."):
            why = why.replace(at_the_start, "No job was touched.")
        why = why.replace("nothing was started", "nothing was changed")
        log.error("reload.failed", generation=number, error=why)
        self._remember(why)
        return MasterRefused(f"not reloaded, generation {self._master.generation} goes on: {why}")

    def _read_again(self) -> tuple[Plan, list[str]]:
        """The plan by the files as they are now, and what is different. Raises `ConfigError`."""
        if self._home:
            try:
                os.chdir(self._home)  # a release that a symbolic link is turned to
            except OSError as error:
                raise MasterRefused(f"the working directory {self._home}: {error.strerror}") from None
        plan = self._master.plan
        if plan.again is None:
            return plan, []
        new = plan.again()
        changed = changes(plan.config, new.config)
        config = taken_over(plan.config, new.config)
        return structs.replace(new, config=config, address=plan.address, listener=plan.listener), changed

    async def _loaded(self, number: int, plan: Plan) -> tuple[Generation, list[QueueSettings]]:
        base = replace(policy_of(plan.config.policy), jobs_dir=self._master.jobs_path)
        if base.profile != "none":
            set_dumpable(False)
        code = Generation(number, plan, self._master.runners, base, self._master.loop)
        try:
            code.spawn()
            return code, await code.load()
        except BaseException:
            self._master.spawn(code.end())
            raise

    def _switch(
        self, code: Generation, plan: Plan, settings: list[QueueSettings]
    ) -> tuple[list[str], list[str]]:
        """From here on new runners have the new code. Nothing here waits."""
        old, old_plan = self._master.code, self._master.plan
        self._master.code, self._master.plan = code, plan
        self._master.generation = code.number
        find_setter()(f"oxherd: master g{code.number}")
        if plan.config.log != old_plan.config.log and not plan.burst:
            log_room.configure(plan.config.log.format, plan.config.log.level)
        if code.hooks is not None:
            code.hooks.open()
        came, gone = self._master.crew.adopt(settings, code.hooks)
        for worker in self._master.workers:
            if not worker.leaving:
                worker.places.replace_runners(RELOADED)
        self._master.spawn(self._retire(old, old.hooks))
        return came, gone

    async def _retire(self, old: Generation, hooks: Hooks | None) -> None:
        """The old templates end; calls of hooks that wait are made first, in the old code."""
        if hooks is not None:
            await hooks.drain(lambda: not self._master.stopping)
            self._master.runners.shut(hooks.slot)
        await old.end()


def _home(named: str) -> str:
    """The working directory by the name under which it was entered, if that is known and still leads here."""
    try:
        return named if named.startswith("/") and os.path.samefile(named, ".") else ""
    except OSError:
        return ""
