"""A trial: a template and one runner, started as a master starts them, without Redis and thrown away.

What `oxherd doctor` and `oxherd check` tell comes from here: the layers that a runner has read back, what the
import cost and left behind. Nothing is decided, and no job of anybody's is run; the runner runs one of ours
(sandbox/trial.py), which looks about.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import msgspec
from msgspec import structs

from sandbox.linux import set_child_subreaper, set_dumpable
from sandbox.policy import Limits, Policy
from sandbox.wire import Kind
from supervisor.errors import SandboxError, TemplateFailed
from supervisor.master.killing import kill_tree
from supervisor.master.messages import start_frame
from supervisor.master.output import OutputPipe
from supervisor.master.pipe import Pipe
from supervisor.master.plan import Target
from supervisor.master.spawning import Ends, new_ends
from supervisor.master.template import NONE_TAKEN, ImportStartsThreads, ProcessorFacts, Template
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.job_options import decode_options

LOOK_QUEUE: Final = "oxherd-trial"
LOOK: Final = Target(name="sandbox.trial:look", queue=LOOK_QUEUE)
ANSWERS_WITHIN_S: Final = 20.0
ENDS_WITHIN_S: Final = 2.0
TITLE: Final = "oxherd: trial template"
BESIDE: Final = (Kind.PROGRESS, Kind.LOG, Kind.LEFT, Kind.USED)  # what comes before an outcome


OnLine = Callable[[str, str], None]


def _unheard(_stream: str, _text: str) -> None:
    pass


class Layer(msgspec.Struct, frozen=True, array_like=True):
    """One layer as a runner reports it."""

    name: str
    in_force: bool
    reason: str


class _Ready(msgspec.Struct, frozen=True):
    layers: list[Layer]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner saw; the words are those of sandbox/trial.py."""

    first_line_at: float
    uid: int
    readable: list[str]
    variables: list[str]
    pss_bytes: int | None = None
    private_bytes: int | None = None


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What one trial found.

    import_ms        from the start of the template's process until it has imported everything
    fork_ms          from asking it for a runner until that has said that it is ready
    first_line_ms    the same until the first line of a processor, the job sent at once
    template_bytes   what the template holds in memory; by PSS where the kernel lets us read it
    threads          why nothing could be forked after the import; each runner imports for itself then
    """

    processors: Sequence[ProcessorFacts]
    layers: Sequence[Layer]
    import_ms: float
    fork_ms: float
    first_line_ms: float
    template_bytes: int
    seen: Seen
    threads: str = ""


def run_trial(
    targets: Sequence[Target],
    policy: Policy,
    env: Mapping[str, str],
    *,
    on_line: OnLine = _unheard,
) -> Trial:
    """`try_out` with a loop of its own, and a place for the runner's directory."""
    with tempfile.TemporaryDirectory(prefix="oxherd-trial-") as jobs_dir:
        if policy.uid:
            os.chown(jobs_dir, policy.uid, policy.gid)
        return asyncio.run(try_out(targets, replace(policy, jobs_dir=jobs_dir), env, on_line=on_line))


async def try_out(
    targets: Sequence[Target], policy: Policy, env: Mapping[str, str], *, on_line: OnLine
) -> Trial:
    """Start a template with `targets` under `policy`, have one runner look about, and end both.

    on_line   gets (stream, text) of what the import and the runner print.

    Raises `TemplateFailed` when the targets cannot be imported, `SandboxError` when there is no runner.
    """
    loop = asyncio.get_running_loop()
    set_child_subreaper(True)
    if policy.profile != "none":
        set_dumpable(False)  # as the master does, so that the runner tries what it would meet there
    started_at = time.monotonic()
    threads, facts = "", []
    async with a_template(loop, env, on_line) as template:
        try:
            facts = await _loaded(template, targets, policy)
        except ImportStartsThreads as found:
            threads, facts = str(found), found.processors
        else:
            import_ms = 1000 * (time.monotonic() - started_at)
            return await _seen(loop, template, policy, on_line, facts, import_ms)
    import_ms = 1000 * (time.monotonic() - started_at)
    async with a_template(loop, env, on_line) as template:
        await template.load([*targets, LOOK], policy, TITLE, bare=True)
        trial = await _seen(loop, template, policy, on_line, facts, import_ms)
    return structs.replace(trial, threads=threads)


async def _seen(
    loop: asyncio.AbstractEventLoop,
    template: Template,
    policy: Policy,
    on_line: OnLine,
    facts: Sequence[ProcessorFacts],
    import_ms: float,
) -> Trial:
    template_bytes = _memory_of(template.pid)
    forked_at = time.monotonic()
    async with a_runner(loop, template, policy, on_line) as runner:
        layers = await runner.ready()
        ready_at = time.monotonic()
        seen = await runner.look()
    return Trial(
        processors=[each for each in facts if each.queue != LOOK_QUEUE],
        layers=layers,
        import_ms=import_ms,
        fork_ms=1000 * (ready_at - forked_at),
        first_line_ms=1000 * (seen.first_line_at - forked_at),
        template_bytes=template_bytes,
        seen=seen,
    )


async def _loaded(template: Template, targets: Sequence[Target], policy: Policy) -> list[ProcessorFacts]:
    try:
        return await template.load([*targets, LOOK], policy, TITLE)
    except TemplateFailed as error:
        ours = f" {LOOK.name}:" if targets else f"cannot load {LOOK.name}: "
        told = str(error).replace(ours, ":" if targets else "")
        # Nobody had thought so.
        raise TemplateFailed(told.replace(f"{NONE_TAKEN} ", "").removesuffix(f"\n{NONE_TAKEN}")) from None


@asynccontextmanager
async def a_template(
    loop: asyncio.AbstractEventLoop, env: Mapping[str, str], on_line: OnLine
) -> AsyncIterator[Template]:
    template = Template(loop, on_line)
    template.spawn(env)
    watching = loop.create_task(_notice_the_end(template))
    try:
        yield template
    finally:
        watching.cancel()
        template.close()
        give_up_at = time.monotonic() + ENDS_WITHIN_S
        while template.reap() is None:
            if time.monotonic() > give_up_at:
                template.kill()
            await asyncio.sleep(0.002)


async def _notice_the_end(template: Template) -> None:
    while template.reap() is None:
        await asyncio.sleep(0.02)


@asynccontextmanager
async def a_runner(
    loop: asyncio.AbstractEventLoop, template: Template, policy: Policy, on_line: OnLine
) -> AsyncIterator[TrialRunner]:
    ours, theirs = new_ends(socket.SOCK_STREAM)
    try:
        with theirs:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                pid = await template.fork(1, theirs.fds())
    except TimeoutError:
        ours.close()
        raise SandboxError(f"the template did not fork within {ANSWERS_WITHIN_S:g} s") from None
    except BaseException:
        ours.close()
        raise
    runner = TrialRunner(loop, pid, ours, policy, on_line)
    try:
        yield runner
    finally:
        runner.end()


class TrialRunner:
    """The runner of a trial. One frame is waited for at a time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        ends: Ends,
        policy: Policy,
        on_line: OnLine,
    ) -> None:
        self._loop = loop
        self.pid = pid
        self.leaf = None
        self._pidfd = os.pidfd_open(pid)
        self._frames: asyncio.Queue[tuple[Kind, bytes] | None] = asyncio.Queue()
        self._words: list[str] = []
        self._pipe = Pipe(
            loop,
            ends.link,
            max_body=policy.result_bytes,
            on_frame=lambda kind, body, *_: self._frames.put_nowait((kind, body)),
            on_bad=lambda error: self._frames.put_nowait(None),
        )

        def line(stream: str, text: str) -> None:
            self._words.append(text)
            on_line(stream, text)

        self._outputs = [
            OutputPipe(loop, fd, lambda text, s=stream: line(s, text))  # type: ignore[misc]
            for stream, fd in ends.outputs.items()
        ]
        loop.add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        # What it said before it died is still on the link; the pipe has been read once more by then.
        self._loop.call_later(0.05, self._frames.put_nowait, None)

    async def _frame(self, wanted: Kind) -> bytes:
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                while (found := await self._frames.get()) is not None and found[0] in BESIDE:
                    pass
        except TimeoutError:
            raise SandboxError(f"the runner said nothing for {ANSWERS_WITHIN_S:g} s") from None
        if found is None:
            said = "; ".join(self._words[-3:])
            raise SandboxError("the runner ended before it had answered" + (said and f": {said}"))
        kind, body = found
        if kind is not wanted:
            raise SandboxError(f"the runner answered {kind.name}: {body[:300].decode(errors='replace')}")
        return body

    async def ready(self) -> list[Layer]:
        go = {"slot": 1, "title": "oxherd: trial runner", "master_pid": os.getpid(), "limits": {}}
        self._pipe.send(Kind.GO, msgspec.json.encode(go))
        return msgspec.json.decode(await self._frame(Kind.READY), type=_Ready).layers

    async def look(self) -> Seen:
        told = await self.run(LOOK_QUEUE, msgspec.json.encode({"master": os.getpid()}))
        return msgspec.json.decode(told, type=Seen)

    async def run(self, queue: str, data: bytes = b"null") -> bytes:
        """The result of one job, by whichever processor takes any of this queue."""
        job = FetchedJob(
            id="1",
            token="",
            name="trial",
            data=data,
            opts=b"{}",
            timestamp=0,
            priority=0,
            attempts_made=0,
            attempts_started=1,
            stalled_count=0,
            deferred=None,
            parent=None,
        )
        body = start_frame(queue, job, decode_options(job.opts), Limits())
        self._pipe.send(Kind.START, body, 1)
        return await self._frame(Kind.COMPLETED)

    def end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        kill_tree(self.pid)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pipe.close()
        for output in self._outputs:
            output.close()


def _memory_of(pid: int) -> int:
    """PSS, else what is resident; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            found = [line.split() for line in file]
        return next(int(words[1]) * 1024 for words in found if words[0] == "Pss:")
    except (OSError, StopIteration):
        pass
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
