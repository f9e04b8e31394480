"""Where runners come from: a template, and another one when it dies.

Decides when a template is replaced. What is born, and who buries it, is the registry's (`runners.py`). A
master has one nursery for each profile that its queues have (`profiles.py`), and one for its hooks if it has
any: neither's code is in the other's runners.

Rule     invariants I5, I10
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sandbox.policy import Policy
from supervisor.errors import SandboxError
from supervisor.master.plan import Target
from supervisor.master.spawning import TemplateProcess
from supervisor.master.template import ImportStartsThreads, ProcessorFacts, Template
from supervisor.observe.log import get

log = get("nursery")

FORK_WITHIN_S = 20.0  # a template that has not answered by then is killed and replaced
FORKS_AT_ONCE = 16  # more would not fit into the link to the template
BACKOFF_FIRST_S, BACKOFF_LAST_S = 0.05, 10.0
SLOW_S = 10.0  # an import that takes longer is told of, and again each time it has taken twice as long


class Nursery:
    """One template at a time. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        env: Mapping[str, str],
        targets: Sequence[Target],
        policy: Policy,
        title: str,
        hooks: bool = False,
    ) -> None:
        self._loop = loop
        self._env = env
        self.targets = tuple(targets)
        self.policy = policy
        self._title = title
        self._hooks = hooks
        self._template: Template | None = None
        self._taken = False  # it was started by somebody else, and `spawn` has not been called yet
        self._facts_of_bare: list[ProcessorFacts] | None = None  # set once it is known that it must be bare
        self.import_s = 0.0  # what a runner of a bare template needs before it is ready
        self._loaded = False  # once: from then on a dead template is replaced
        self._stopping = False
        self._room = asyncio.Semaphore(FORKS_AT_ONCE)
        self.identity = ""  # of the processors that its runners must have
        self.generation = 1  # of the code
        self.births = 0  # under way: asked for, and not answered
        self.reviving: asyncio.Task[None] | None = None
        self._slow: asyncio.TimerHandle

    def take(self, process: TemplateProcess) -> None:
        """Have a process that was started already; the first `spawn` finds it there."""
        self._template = Template(self._loop, self._line)
        self._template.take(process)
        self._taken = True

    def spawn(self) -> Template:
        """Start a template."""
        if self._taken and self._template is not None:
            self._taken = False
            return self._template
        template = Template(self._loop, self._line)
        template.spawn(self._env)
        self._template = template
        return template

    async def load(self) -> list[ProcessorFacts]:
        """Have the template import the targets; raises `TemplateFailed`.

        When the import starts threads nothing may be forked from that process (I5): a bare template takes its
        place, and each runner imports for itself.
        """
        began_at = self._loop.time()
        try:
            facts = await self._load()
        except ImportStartsThreads as found:
            self.import_s = self._loop.time() - began_at
            log.warning("template.has_threads", why=str(found), import_s=round(self.import_s, 2))
            self._facts_of_bare = found.processors
            await self._until_gone()
            self.spawn()
            facts = await self._load()
        assert self._template is not None
        kind = "hooks" if self._hooks else "processors"
        log.info(
            "template.started", pid=self._template.pid, profile=self.policy.profile, **{kind: len(facts)}
        )
        self._loaded = True
        self._revive_if_dead()
        return facts

    async def _load(self) -> list[ProcessorFacts]:
        template, bare = self._template, self._facts_of_bare
        assert template is not None
        self._slow = self._loop.call_later(SLOW_S, self._is_slow, template, SLOW_S)
        try:
            facts = await template.load(
                self.targets, self.policy, self._title, hooks=self._hooks, bare=bare is not None
            )
        finally:
            self._slow.cancel()
            if bare is None:
                self.identity = template.identity
        return facts if bare is None else bare

    def _is_slow(self, template: Template, waited_s: float) -> None:
        """Nothing ends an import: it may have a model to load. But nobody is to wonder what we wait for."""
        names = [target.name for target in self.targets]
        log.warning("template.slow", pid=template.pid, targets=names, waited_s=waited_s)
        self._slow = self._loop.call_later(waited_s, self._is_slow, template, 2 * waited_s)

    async def _until_gone(self) -> None:
        """The template ends by itself; its burial is told by SIGCHLD."""
        while self.lives:
            await asyncio.sleep(0.005)
        if self._template is not None:
            self._template.close()

    def _line(self, stream: str, text: str) -> None:
        log.info("template.output", stream=stream, line=text)

    # --- births -------------------------------------------------------------------------------------

    @property
    def bare(self) -> bool:
        """Its template imports nothing: each runner has to, before it is ready."""
        return self._facts_of_bare is not None

    @property
    def forking(self) -> bool:
        """A fork was asked for and not answered: an unknown child may be a runner not registered yet (I8)."""
        return self._template is not None and self._template.forking

    async def fork(self, slot: int, fds: Sequence[int]) -> int:
        """Have a runner forked onto `fds`; the pid that the template tells. Raises `SandboxError`."""
        self.births += 1
        try:
            async with self._room:
                if self._stopping:
                    raise SandboxError("no runner is born any more: its template is to end")
                return await self._fork(slot, fds)
        finally:
            self.births -= 1

    async def _fork(self, slot: int, fds: Sequence[int]) -> int:
        template = self._template
        assert template is not None
        try:
            async with asyncio.timeout(FORK_WITHIN_S):
                return await template.fork(slot, fds)
        except TimeoutError:
            template.kill()
            raise SandboxError(f"the template did not fork within {FORK_WITHIN_S:g} s") from None

    # --- the template's own life --------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The template's; 0 for none."""
        return self._template.pid if self._template is not None else 0

    def buried(self, pid: int) -> bool:
        """This child has ended. True if it was our template, which is reaped then, and replaced."""
        template = self._template
        if template is None or not template.alive or pid != template.pid:
            return False
        self.ended(template)
        return True

    def ended(self, template: Template) -> None:
        status = template.reap()
        if status is None or self._stopping or not self._loaded:
            return
        log.error("template.exited", pid=template.pid, status=status)
        self._revive_if_dead()

    async def _revive(self) -> None:
        """Replace a dead template. Runners that live go on; no new one is born meanwhile."""
        pause = BACKOFF_FIRST_S
        while not self._stopping:
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_LAST_S)
            if self._template is not None:
                self._template.kill()
                self._template.close()
            try:
                self.spawn()
                await self.load()
            except (SandboxError, OSError) as error:  # it cannot be loaded, or the host has no room for it
                log.error("template.failed", error=str(error))
                continue
            if self.lives:
                return

    @property
    def lives(self) -> bool:
        """There is a template that is not buried."""
        return self._template is not None and self._template.alive

    def _revive_if_dead(self) -> None:
        if self._loaded and self.reviving is None and not (self._stopping or self.lives):
            self.reviving = self._loop.create_task(self._revive())
            self.reviving.add_done_callback(self._revived)

    def _revived(self, task: asyncio.Task[None]) -> None:
        self.reviving = None
        if not task.cancelled():
            task.result()  # a bug of ours goes to the loop's handler, loudly
            # It may have died after it was loaded, while its reviver was still believed to be at work.
            self._revive_if_dead()

    # --- the end ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """No template is replaced from now on."""
        self._stopping = True
        if self.reviving is not None:
            self.reviving.cancel()

    def let_go(self) -> None:
        """End of file on its control link makes the template exit."""
        if self._template is not None:
            self._template.close()

    def kill(self) -> None:
        if self._template is not None:
            self._template.kill()

    def reap_last(self) -> bool:
        """Reap the template if it has ended; True while it lives."""
        return self._template is not None and self._template.reap() is None
