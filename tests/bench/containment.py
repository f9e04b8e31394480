"""What containment costs: measured on templates and runners as a master has them, without Redis.

spawning   from asking a template for a runner until it is ready; until the first line of a job, which is sent
           at once; and until the runner is buried after it: one job in a process of its own. Beside it a
           plain fork of a Python process of the same kind that writes one byte and exits.
killing    from the decision until every process of a tree is gone: a runner with a plain child, one in a
           session of its own and a daemon, all deaf to SIGTERM; and with one more that forks every 5 ms.
memory     PSS of each of eight runners when all of them have done a job, NumPy imported by their template.
fresh      jobs a second when each has a process of its own: the whole of oxherd run, as in measures.py.
loss       no-op jobs of the whole of oxherd run as it is, and with all of containment cut out that is done
           for a job (`without/`), in profile `none`.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ground import HERE, PEERS, Failed, Ground, oxherd
from measures import Figures, Size, of_no_ops

from sandbox.linux import set_child_subreaper
from sandbox.policy import Policy
from supervisor.errors import TemplateFailed
from supervisor.master.killing import descendants_of, end_tree
from supervisor.master.plan import Target
from supervisor.master.spawning import scrubbed
from supervisor.master.template import Template
from supervisor.master.trial import LOOK, TrialRunner, a_runner, a_template

WITHOUT: Final = HERE / "without"
FORKS: Final = 100  # runners of each profile in a round
TREES: Final = 10
RUNNERS: Final = 8
QUEUE: Final = "trees"
NAMESPACE: Final = "strict with a PID namespace"
PROFILES: Final = {
    "none": Policy(profile="none"),
    "process": Policy(profile="process"),
    "strict": Policy(profile="strict"),
    NAMESPACE: Policy(profile="strict", pid_namespace=True),
}
_PLAIN: Final = f"""
import os, time
import sandbox.template
spans = []
for _ in range({FORKS}):
    began_at = time.monotonic()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(theirs, b"x")
        finally:
            os._exit(0)
    os.read(ours, 1)
    first_at = time.monotonic()
    os.waitpid(pid, 0)
    spans.append((first_at - began_at, time.monotonic() - began_at))
    os.close(ours), os.close(theirs)
firsts, wholes = zip(*spans)
print(sorted(firsts)[len(firsts) // 2] * 1000, sorted(wholes)[len(wholes) // 2] * 1000)
"""


def plain_fork() -> Figures:
    """Milliseconds."""
    said = subprocess.run(
        [sys.executable, "-c", _PLAIN], capture_output=True, text=True, check=True, cwd=HERE.parents[1]
    )
    first_ms, whole_ms = map(float, said.stdout.split())
    return {"to its first byte ms, plain fork": first_ms, "a job of its own ms, plain fork": whole_ms}


def spawning(profile: str) -> Figures:
    """Milliseconds."""
    return asyncio.run(_with_template(PROFILES[profile], [], partial(_spawning, profile)))


async def _spawning(name: str, template: Template, policy: Policy) -> Figures:
    ready, first, whole = [], [], []
    loop = asyncio.get_running_loop()
    for _ in range(FORKS):
        began_at = time.monotonic()
        async with a_runner(loop, template, policy, _unheard) as runner:
            await runner.ready()
            ready_at = time.monotonic()
            seen = await runner.look()
        whole.append(time.monotonic() - began_at)
        ready.append(ready_at - began_at)
        first.append(seen.first_line_at - began_at)
    return {
        f"to READY ms, {name}": 1000 * statistics.median(ready),
        f"to the first line of a job ms, {name}": 1000 * statistics.median(first),
        f"a job of its own ms, {name}": 1000 * statistics.median(whole),
    }


def killing(profile: str) -> Figures:
    """Milliseconds."""
    figures: Figures = {}
    for kind in ("still", "forking"):
        target = Target(name=f"trees:{kind}", queue=QUEUE)
        figures |= asyncio.run(_with_template(PROFILES[profile], [target], partial(_killing, profile, kind)))
    return figures


async def _killing(name: str, kind: str, template: Template, policy: Policy) -> Figures:
    spans, counts = [], []
    loop = asyncio.get_running_loop()
    for _ in range(TREES):
        async with a_runner(loop, template, policy, _unheard) as runner:
            await runner.ready()
            await runner.run(QUEUE)
            below = descendants_of(runner.pid)
            counts.append(1 + len(below))
            began_at = time.monotonic()
            end_tree(runner)
            while any(map(_lives, [runner.pid, *below])):
                await asyncio.sleep(0)
            spans.append(time.monotonic() - began_at)
    trees = f"a {kind} tree of {statistics.median(counts):.0f}, {name}"
    return {f"kill ms, {trees}": 1000 * statistics.median(spans)}


def _lives(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def memory() -> Figures:
    """Megabytes."""
    target = Target(name="with_numpy:nothing", queue=QUEUE)
    return asyncio.run(_with_template(PROFILES["process"], [target], _memory))


async def _memory(template: Template, policy: Policy) -> Figures:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        runners: list[TrialRunner] = []
        for _ in range(RUNNERS):
            runners.append(await stack.enter_async_context(a_runner(loop, template, policy, _unheard)))
            await runners[-1].ready()
            await runners[-1].run(QUEUE)
        seen = [await each.look() for each in runners]
    pss = statistics.median((each.pss_bytes or 0) / 1e6 for each in seen)
    private = statistics.median((each.private_bytes or 0) / 1e6 for each in seen)
    who = f"each of {RUNNERS} runners with NumPy"
    return {f"PSS MB, {who}": pss, f"of its own MB, {who}": private}


def fresh(ground: Ground, slots: int, profile: str) -> Figures:
    more = ("--fresh", "true", "--profile", profile)
    more += ("--writable", str(ground.home))  # the marks; means nothing but in strict
    who = oxherd(ground, slots, *more, name=f"fresh, {slots} slots, {profile}")
    figures = of_no_ops(ground, who, Size(seconds=0.25))
    return {f"{name}, {who.name}": figures[name] for name in ("jobs/s", "main CPU us", "Redis CPU us")}


def loss(ground: Ground, slots: int, *, contained: bool) -> Figures:
    who = oxherd(ground, slots, name=f"{slots} slots, as it is")
    if not contained:
        who = oxherd(ground, slots, "--profile", "none", name=f"{slots} slots, without")
        path = [str(WITHOUT), str(PEERS), *filter(None, [os.environ.get("PYTHONPATH")])]
        who = replace(who, env={"PYTHONPATH": os.pathsep.join(path)})
    figures = of_no_ops(ground, who, Size())
    return {f"{name}, {who.name}": figures[name] for name in ("jobs/s", "main CPU us", "other CPU us")}


# --- the rounds -------------------------------------------------------------------------------------------


def _steps(ground: Ground) -> Iterator[tuple[str, Callable[[], Figures]]]:
    for profile in PROFILES:
        yield "spawning", partial(spawning, profile)
    yield "spawning", plain_fork
    for profile in ("process", NAMESPACE):
        yield "killing", partial(killing, profile)
    yield "memory", memory
    for profile in ("process", "strict"):
        for slots in (2, 8):
            yield "fresh", partial(fresh, ground, slots, profile)
    for slots in (16, 2):
        for contained in (True, False):
            yield "loss", partial(loss, ground, slots, contained=contained)


def run(ground: Ground, rounds: int, wanted: Sequence[str]) -> None:
    """Print the table: medians, with least and greatest."""
    known = dict.fromkeys(name for name, _ in _steps(ground))
    if unknown := set(wanted) - set(known):
        raise Failed(f"--sandbox has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    figures: dict[str, list[float]] = defaultdict(list)
    for at in range(rounds):
        steps = [step for step in _steps(ground) if not wanted or step[0] in wanted]
        for name, step in steps[:: -1 if at % 2 else 1]:  # so that nobody always goes first
            print(f"round {at + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            try:
                for figure, value in step().items():
                    figures[figure].append(value)
            except Failed as error:
                print(f"  {error}", file=sys.stderr, flush=True)
    print("| figure | median | least to greatest |\n|---|---:|---|")
    for figure, values in figures.items():
        print(f"| {figure} | {statistics.median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")


# --- templates --------------------------------------------------------------------------------------------


Measure = Callable[[Template, Policy], Awaitable[Figures]]


async def _with_template(policy: Policy, targets: Sequence[Target], measure: Measure) -> Figures:
    loop = asyncio.get_running_loop()
    set_child_subreaper(True)
    with TemporaryDirectory(prefix="oxherd-bench-") as jobs_dir:
        policy = replace(policy, jobs_dir=jobs_dir)
        env = {**scrubbed(os.environ, []), "PYTHONPATH": str(HERE)}
        env["OPENBLAS_NUM_THREADS"] = "1"  # a template must have one thread
        if "PYTHONPATH" in os.environ:
            env["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        async with a_template(loop, env, _unheard) as template:
            try:
                await template.load([*targets, LOOK], policy, "oxherd: bench template")
            except TemplateFailed as error:  # strict needs another user than root, one who may read Python
                raise Failed(str(error).partition("\n")[0]) from None
            return await measure(template, policy)


def _unheard(_stream: str, _text: str) -> None:
    pass
