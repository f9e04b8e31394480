"""The master: puts its parts together, and decides one request at a time what happens to the whole.

Composes only. The order of the start matters: the template is spawned before any connection to Redis exists,
so that neither its memory nor its descriptors ever held one (I1), and no job is fetched before it has
imported the processors (I10).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sandbox.linux import set_child_subreaper, set_dumpable
from sandbox.titles import find_setter
from supervisor.config.runtime import NAMED_BY, runtime_dirs
from supervisor.errors import MasterStuck, OxherdError
from supervisor.master import probes, signals
from supervisor.master.alone import Alone
from supervisor.master.burst import QueueBroken, QueueDegraded, QueuePaused, until_nothing_left
from supervisor.master.cgroup import Groups
from supervisor.master.control import opened
from supervisor.master.crew import Crew
from supervisor.master.generation import Generation
from supervisor.master.jobs_dir import JobsDir, remove_abandoned
from supervisor.master.orphans import end_orphans
from supervisor.master.plan import Plan, secrets_of
from supervisor.master.pool import Pool
from supervisor.master.redis_checks import look_at, tell_doubts
from supervisor.master.reloading import Reloading
from supervisor.master.reporting import Reporting
from supervisor.master.runners import Runners
from supervisor.master.sd_notify import Manager
from supervisor.master.settings import QueueSettings, policy_of
from supervisor.master.signals import Request
from supervisor.master.slots import Numbers
from supervisor.master.snapshot import snapshot
from supervisor.master.spawning import TemplateProcess, environment
from supervisor.master.stopping import Step, Stopping
from supervisor.master.verbs import Verbs
from supervisor.master.watch import Watch
from supervisor.master.watchdog import Watchdog
from supervisor.master.worker import Surroundings, Worker
from supervisor.observe.log import gathered, get
from supervisor.transport.aio import Redis

log = get("master")

Ready = tuple[list[QueueSettings], Redis]
STOPS: Final = (Request.STOP, Request.HAND_BACK, Request.DONE, Request.BROKEN, Request.STUCK, Request.HANGUP)


def run_master(plan: Plan, process: TemplateProcess | None = None) -> int:
    """Run until told to stop, or with `plan.burst` until nothing is left; returns the exit status.
    `process` is for the first template.

    Raises `TemplateFailed` when a target cannot be imported, `RedisUnavailable` when Redis cannot be reached
    at the start, `ConfigError`; no job was taken then.
    """
    return asyncio.run(_run(plan, process))


async def _run(plan: Plan, process: TemplateProcess | None) -> int:
    with gathered(asyncio.get_running_loop()):
        return await Master(plan, process).run()


def _tell_orphans(ended: asyncio.Future[list[int]]) -> None:
    if not ended.cancelled() and ended.result():
        log.warning("orphans.killed", pids=ended.result())


class Master:
    """One run of one master.

    What has no underscore is for `snapshot.py`.
    """

    def __init__(self, plan: Plan, process: TemplateProcess | None = None) -> None:
        self.plan = plan
        self._process = process
        self.address = plan.address
        self.redis: Redis | None = None  # None until it is connected for the first time
        self.runners: Runners
        self.loop: asyncio.AbstractEventLoop
        self.generation = 1  # of the code that new runners have
        self.started_on = round(time.time() * 1000)
        self.manager = Manager(os.environ)
        self.pool: Pool
        self.watchdog: Watchdog | None = None  # None until jobs are fetched
        self._inbox: asyncio.Queue[Request] = asyncio.Queue()
        self.workers: list[Worker] = []
        self.verbs = Verbs(self)
        self.reloading = Reloading(self)
        look = self.verbs.looking.look
        self.reporting = Reporting(plan.config, lambda: snapshot(self), look, time.monotonic, time.time)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping: Stopping | None = None
        self._status = 0
        self._sentence: OxherdError | None = None
        self._broken: BaseException | None = None

    async def run(self) -> int:
        self.loop = loop = asyncio.get_running_loop()
        self.pool = Pool(time.monotonic, loop.call_soon)
        set_child_subreaper(True)
        if self.plan.config.policy.profile != "none":
            set_dumpable(False)
        find_setter()("oxherd: master")
        self.manager.status("starting: importing the processors")
        loop.set_exception_handler(self._unexpected)
        signals.install(loop, self._inbox)
        self.runners = runners = self._make_runners(loop)
        runners.groups = self._groups()
        base = policy_of(self.plan.config.policy)
        runners.jobs_dir = jobs_dir = JobsDir(base.uid, base.gid)
        loop.run_in_executor(None, remove_abandoned, base.uid)
        loop.run_in_executor(None, end_orphans, base.uid).add_done_callback(_tell_orphans)
        self.jobs_path = jobs_dir.path
        base = replace(base, jobs_dir=jobs_dir.path)
        self.code = Generation(self.generation, self.plan, runners, base, loop)
        # Before there is a child: the end of one that dies at once would never be told.
        loop.add_signal_handler(signals.CHILD, runners.on_sigchld)
        loop.call_soon(runners.on_sigchld)  # the first template is older than we: it may be dead already
        try:
            if self.plan.config.http.listen is not None:
                self.reporting.pages |= probes.pages(lambda: self.watchdog)
            await self.reporting.open()
            self.code.spawn()
            ready = await self._unless_stopped(loop.create_task(self._ready_to_work()))
            if ready is None:
                log.info("master.stopped", done=0)
            else:
                await self._work_with(loop, *ready)
        finally:
            await runners.close()
            await self.reporting.close()
            await loop.run_in_executor(None, jobs_dir.close)
            signals.uninstall(loop)
            self.manager.close()
        return self._outcome()

    async def _unless_stopped(self, starting: asyncio.Task[Ready]) -> Ready | None:
        """What the start comes to; None when a stop was asked for first. An import may take a minute."""
        others: list[Request] = []
        while not starting.done():
            asked = asyncio.ensure_future(self._inbox.get())
            await asyncio.wait({asked, starting}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                asked.cancel()
            elif not starting.done() and self._means_stop(asked.result()):
                starting.cancel()
                await asyncio.wait({starting})
                return None
            else:
                others.append(asked.result())
        for request in others:
            self._inbox.put_nowait(request)
        return starting.result()

    async def _work_with(
        self, loop: asyncio.AbstractEventLoop, settings: list[QueueSettings], redis: Redis
    ) -> None:
        self.redis = redis
        try:
            look_at(redis, str(self.plan.address))
            await self._work(loop, redis, settings)
        finally:
            for worker in self.workers:
                await worker.close()
            await self.reporting.leave()
            await redis.close()

    def _make_runners(self, loop: asyncio.AbstractEventLoop) -> Runners:
        env = environment(secrets_of(self.plan.address, self.plan.config))
        return Runners(loop, env=env, rng=random.random, process=self._process)

    def _groups(self) -> Groups | None:
        """The cgroup that was delegated to us; taken before there is a child, which would live in it."""
        groups = Groups.find()
        if isinstance(groups, str):
            log.info("limits.kept", by="sampling", why=groups)
            self.runners.no_groups = groups
            return None
        log.info("limits.kept", by="cgroup", group=str(groups.root))
        return groups

    async def _ready_to_work(self) -> Ready:
        """Load the processors and connect, side by side. Each fails the start with a sentence."""
        redis_config = self.plan.config.redis
        connecting = asyncio.ensure_future(
            Redis.connect(
                self.plan.address,
                reply_timeout_s=self._reply_timeout_s(),
                connect_timeout_s=redis_config.connect_timeout_ms / 1000,
                on_state=self._redis_state,
            )
        )
        try:
            return await self.code.load(), await connecting
        except BaseException:
            connecting.cancel()
            with suppress(asyncio.CancelledError, OxherdError):
                await (await connecting).close()
            raise

    def _reply_timeout_s(self) -> float:
        """A dead connection must be noticed while there is time to renew on a fresh one."""
        config = self.plan.config
        locks = [config.lock, *(queue.lock for queue in config.queues.values() if queue.lock is not None)]
        shortest_s = min(lock.duration_ms for lock in locks) / 1000
        return min(config.redis.reply_timeout_ms / 1000, max(0.5, shortest_s / 4))

    def _redis_state(self, connected: bool, why: str) -> None:
        if connected:
            log.info("redis.connected", address=str(self.plan.address), why=why)
            tell_doubts(self.redis, str(self.plan.address))
            for worker in self.workers:
                worker.reconnected()
        else:
            log.warning("redis.lost", address=str(self.plan.address), why=why)

    async def _work(
        self, loop: asyncio.AbstractEventLoop, redis: Redis, settings: list[QueueSettings]
    ) -> None:
        around = Surroundings(
            redis=redis,
            runners=self.runners,
            nursery_of=lambda queue: self.code.profiles.of(queue),
            numbers=Numbers(),
            listener=self.plan.listener,
            clock=time.monotonic,
            wall_clock=time.time,
            rng=random.random,
            loop=loop,
            hooks=self.code.hooks,
            watch=Watch(loop, time.monotonic),
            alone=Alone(loop.call_soon),
            pool=self.pool,
            on_written=self.reporting.on_written,
        )
        dirs = runtime_dirs(os.environ, self.plan.config.embedded.state_dir)
        control = await opened(dirs, named=NAMED_BY in os.environ, verbs=self.verbs.table)
        if self.code.hooks is not None:
            self.code.hooks.open()
        self.crew = Crew(
            self.workers,
            around,
            self.spawn,
            address=self.plan.address,
            prefix=self.plan.config.redis.prefix,
            connect_timeout_s=self.plan.config.redis.connect_timeout_ms / 1000,
        )
        self.crew.begin(settings)
        self.reporting.start(redis, self.spawn, self.workers)
        self.watchdog = Watchdog(redis, self.workers, self.manager, clock=time.monotonic, give_up=self._stuck)
        self.spawn(self.watchdog.keep())
        self.spawn(self.verbs.looking.keep_peaks())
        log.info(
            "master.started",
            queues=[each.name for each in settings],
            slots=sum(len(worker.slots) for worker in self.workers),
            redis=str(self.plan.address),
            pid=os.getpid(),
        )
        if self.plan.burst:
            self.spawn(self._burst(redis))
        try:
            await self._obey()
        finally:
            if control is not None:
                await control.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError, Exception):
                    await task
        log.info("master.stopped", done=sum(w.dispatcher.done for w in self.workers))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of ours has raised, or a task that nobody waits for: a job may hang on it for ever."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        if error is not None and not isinstance(error, OxherdError):
            self._break(error)

    def _break(self, error: BaseException) -> None:
        log.error("master.broken", error=f"{type(error).__name__}: {error}")
        if self._broken is None:
            self._broken = error
            self._inbox.put_nowait(Request.BROKEN)

    def _stuck(self, why: str) -> None:
        self._sentence = MasterStuck(why)
        self._inbox.put_nowait(Request.STUCK)

    async def _burst(self, redis: Redis) -> None:
        try:
            await until_nothing_left(redis, self.workers)
        except (QueueBroken, QueueDegraded, QueuePaused) as error:
            self._sentence = error
        self._inbox.put_nowait(Request.DONE)

    # --- requests -----------------------------------------------------------------------------------------

    async def _obey(self) -> None:
        """One request after the other, until a stop has come to its end."""
        stop: asyncio.Task[None] | None = None
        while True:
            asked = asyncio.ensure_future(self._inbox.get())
            waiting = {asked} if stop is None else {asked, stop}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stop is not None and stop in done:
                asked.cancel()
                stop.result()
                return
            request = asked.result()
            log.debug("request.received", request=request.value)
            if self._means_stop(request):
                stop = self._stop(stop, request)
            elif not self.stopping:
                self._carry_out(request)

    def _carry_out(self, request: Request) -> None:
        match request:
            case Request.HANGUP:
                self.reloading.begin()
            case Request.MORE:
                self.crew.scale(1, self.workers)
            case Request.FEWER:
                self.crew.scale(-1, self.workers)
            case _:
                self.crew.tell(request, self.workers)

    def request(self, request: Request) -> None:
        """As a signal would."""
        self._inbox.put_nowait(request)

    @property
    def stopping(self) -> bool:
        return self._stopping is not None

    def _means_stop(self, request: Request) -> bool:
        if request is Request.HANGUP and not signals.has_terminal():
            return False
        return request in STOPS

    def _stop(self, stop: asyncio.Task[None] | None, request: Request) -> asyncio.Task[None]:
        if stop is None:
            config = self.plan.config.stop
            self._stopping = Stopping(
                self.workers,
                cancel_after_s=config.cancel_after_ms / 1000,
                kill_after_s=config.kill_after_ms / 1000,
                deadline_s=config.deadline_ms / 1000,
                clock=time.monotonic,
            )
            for worker in self.workers:
                worker.exchanger.give_up = self._stopping.over
            self.runners.spares.rest(True)
            if self.watchdog is not None:
                self.watchdog.stopping()
            self.reloading.cancel()
            stop = asyncio.get_running_loop().create_task(self._come_to_an_end(self._stopping))
        elif request is Request.STOP and self._stopping is not None:
            self._stopping.hurry()
        if request in (Request.HAND_BACK, Request.BROKEN, Request.STUCK) and self._stopping is not None:
            self._stopping.hurry(Step.KILL)
        return stop

    async def _come_to_an_end(self, stopping: Stopping) -> None:
        await stopping.run()
        if self.code.hooks is not None:
            await self.code.hooks.drain(stopping.patient)

    def _outcome(self) -> int:
        if self._broken is not None:
            raise self._broken
        if self._sentence is not None:
            raise self._sentence
        if self.plan.burst and any(worker.dispatcher.failed_for_good for worker in self.workers):
            return 1
        return self._status
