"""Thirty-four ways to behave badly, through a whole master: the verdict is told, and nobody else is harmed.

Each test has beside the guilty job a sibling that is at work all the time. It asserts what became of the
guilty one; `World.end` asserts for all of them that the sibling finished, that the next job of the queue
succeeds, and that no process, no temporary directory and no descriptor of the master remains.

Those that could harm the host run as a user of their own with limits already in force (`unprivileged`).
ELSEWHERE names the tests of what cannot be seen from here; the last test here finds any number that has none.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ordinary_user import unprivileged  # noqa: F401
from running import ROOT, Running, oxherd, queue, until  # noqa: F401

pytestmark = [
    pytest.mark.parametrize("redis_server", ["redis"], indirect=True),
    pytest.mark.timeout(120),
]

# What is blocked in `strict` alone has a suite of its own; what needs another kernel, a guest.
ELSEWHERE = {
    15: "tests/sandbox/test_escapes.py",  # the network
    16: "tests/sandbox/test_escapes.py",  # links out of the job's directory
    19: "tests/unit/test_master_births.py::test_who_cannot_be_killed_gives_up_its_slot",
}


class World:
    """A master with two slots, one of them taken by the sibling."""

    def __init__(self, run: Running, jobs: Any, mark: Path, temporary: Path) -> None:
        self.run, self.queue, self.mark, self.temporary = run, jobs, mark, temporary
        self.started = run.until("master.started")
        self.master = psutil.Process(run.pid)
        self.quiet = until(self._both_idle, "two runners, and nobody else")
        self.sibling = jobs.add("sibling", str(mark), attempts=1)
        self.sibling_pid = until(lambda: self.of(self.sibling).progress, "the sibling is at work")
        self.do("nothing")  # from here on all connections are made
        self.fds, self.files = self._fds(), sorted(temporary.iterdir())

    def _both_idle(self) -> bool:
        titles = sorted(_title(each) for each in self.run.family())
        return len(titles) == 3 and titles[0].endswith("idle") and titles[1].endswith("idle")

    def of(self, job: Any) -> Any:
        return self.queue.get(job.id)

    def do(self, name: str, data: Any = None, **options: Any) -> Any:
        """The job, once it is over."""
        job = self.queue.add(name, data, **{"attempts": 1, **options})
        return self.over(job)

    def over(self, job: Any) -> Any:
        def state() -> bool:
            return self.queue.state(job.id) in ("completed", "failed")

        try:
            until(state, f"the end of {job.name}", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run.story()}") from None
        return self.of(job)

    def line(self, event: str, job: Any) -> dict[str, Any]:
        """The line of the log about this job."""
        return until(
            lambda: next((each for each in self.run.events(event) if each.get("job_id") == job.id), None),
            f"{event} of {job.id}",
        )

    def crashed(self, job: Any, cause: str) -> str:
        """Its verdict is this cause, and one sentence; the sentence."""
        assert job.failed_reason, "I10"
        assert self.line("job.failed", job)["cause"] == cause, job.failed_reason
        return job.failed_reason

    def rows(self, job: Any) -> str:
        return "\n".join(self.queue.logs(job.id))

    def end(self, *, sibling: bool = True) -> None:
        """The sibling finishes, the next job succeeds, and nothing remains."""
        self.mark.touch()
        if sibling:
            assert self.over(self.sibling).returned == "done", self.run.story()
        assert isinstance(self.do("nothing").returned, int)
        until(self._both_idle, f"nobody but the template and two runners: {self.run.family()}")
        until(lambda: sorted(self.temporary.iterdir()) == self.files, "no directory remains")
        try:
            until(lambda: self._fds() <= self.fds, "the master's descriptors are closed again")
        except AssertionError:
            raise AssertionError(f"more than at first: {self._fds() - self.fds}") from None

    def _fds(self) -> Counter[str]:
        """What the master has open, by kind. As it is not dumpable only root may look that closely."""
        found: Counter[str] = Counter()
        try:
            listed = os.listdir(f"/proc/{self.run.pid}/fd")
        except PermissionError:
            return Counter({"all": os.stat(f"/proc/{self.run.pid}/fd").st_size})
        for fd in listed:
            with contextlib.suppress(OSError):
                found[os.readlink(f"/proc/{self.run.pid}/fd/{fd}").partition(":")[0]] += 1
        return found


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


@pytest.fixture
def world(oxherd, queue, tmp_path) -> Iterator[World]:  # noqa: F811
    (tmp_path / "tmp").mkdir()
    run = oxherd("--concurrency", "2", target="behaviours", env={"TMPDIR": str(tmp_path / "tmp")})
    made = World(run, queue, tmp_path / "mark", tmp_path / "tmp")
    yield made
    made.mark.touch()


@pytest.fixture
def harmless(oxherd, queue, unprivileged, redis_server) -> Iterator[World]:  # noqa: F811
    """The same as a user that can do no harm, with 64 processes and 256 MB."""
    home = unprivileged.home
    os.chmod(os.path.dirname(redis_server.socket), 0o711)
    os.chmod(redis_server.socket, 0o777)
    temporary = home / f"tmp-{os.urandom(4).hex()}"
    temporary.mkdir()
    temporary.chmod(0o777)
    mark = home / f"{temporary.name}-mark"
    env = {"HOME": str(home), "TMPDIR": str(temporary)}
    run = oxherd("--concurrency", "2", target="behaviours", user=unprivileged, env=env)
    made = World(run, queue, mark, temporary)
    assert made.master.uids().real == unprivileged.uid != 0
    yield made
    made.mark.touch()


# --- 1 to 4, 14, 23: what uses up the host ------------------------------------------------------------


def test_01_a_fork_bomb(harmless):
    job = harmless.do("fork bomb")
    sentence = harmless.crashed(job, "processes")
    assert "20" in sentence
    harmless.end()


def test_02_a_memory_hog(harmless):
    job = harmless.do("memory hog")
    sentence = harmless.crashed(job, "memory_limit")
    assert "48 MB" in sentence
    harmless.end()


def test_03_it_opens_all_the_files_that_it_may(world):
    job = world.do("descriptors")
    assert "Errno 24" in job.failed_reason
    assert world.line("job.left_behind", job)["retired"] is True
    world.end()


def test_04_it_fills_the_disk(harmless):
    file = Path(harmless.mark.parent) / "filled"
    job = harmless.do("disk fill", str(file))
    assert "File too large" in job.failed_reason
    assert file.stat().st_size <= 1024 * 1024
    harmless.end()
    file.unlink()


def test_14_it_forks_away_from_whoever_kills_it(harmless):
    harmless.crashed(harmless.do("runner"), "wall_time")
    harmless.end()


def test_23_deep_recursion(harmless):
    assert harmless.do("recursion").failed_reason == "maximum recursion depth exceeded"
    job = harmless.do("recursion", 10**9)
    assert re.search("MemoryError|memory|SIGSEGV|error return without", job.failed_reason), job.failed_reason
    harmless.end()


# --- 5 to 8, 33, 34: what it may not see or touch -----------------------------------------------------


def test_05_it_reads_the_masters_memory(harmless):
    found = harmless.do("spy").returned
    assert found == {"environ": "PermissionError", "mem": "PermissionError", "maps": "PermissionError"}
    harmless.end()


def test_06_it_reads_its_own_environment(oxherd, queue, redis_url, tmp_path):  # noqa: F811
    (tmp_path / "tmp").mkdir()
    env = {"OXHERD_REDIS_URL": redis_url, "PASSWORD": redis_url, "TMPDIR": str(tmp_path / "tmp")}
    run = oxherd("--concurrency", "2", target="behaviours", env=env)
    world = World(run, queue, tmp_path / "mark", tmp_path / "tmp")
    text = world.do("own environment").returned
    assert redis_url not in text and "OXHERD_REDIS_URL" not in text
    world.end()


def test_07_it_kills_its_sibling(world):
    """Not prevented in `process`: they have one uid. It is seen, told, and harms nobody else."""
    assert world.do("kill", world.sibling_pid).returned == "killed"
    assert "SIGKILL" in world.crashed(world.over(world.sibling), "signal")
    world.end(sibling=False)


def test_08_it_traces_its_sibling(harmless):
    assert harmless.do("ptrace", harmless.sibling_pid).returned == "Operation not permitted"
    harmless.end()


def test_33_it_kills_the_template(world):
    """A new one is started; who has been forked works on."""
    before = world.run.events("template.started")
    assert isinstance(world.do("kill the template").returned, int)
    world.run.until("template.started", len(before) + 1)
    world.end()


def test_34_a_layer_that_is_required_cannot_be_had(oxherd):  # noqa: F811
    """`process` has no file rules: whoever requires them runs nothing, and is told which is missing."""
    run = oxherd("--require", "file_rules", target="behaviours")
    assert run.ended() != 0
    assert "file_rules" in run.story()


# --- 9 to 11, 30, 32: what it says to the master ------------------------------------------------------


def test_09_it_writes_garbage_on_the_link(world):
    world.crashed(world.do("garbage"), "bad_frame")
    world.end()


def test_10_it_closes_the_link_and_goes_on(world):
    sentence = world.crashed(world.do("closes the link"), "bad_frame")
    assert "closed its link" in sentence
    world.end()


def test_11_it_says_half_a_frame(world):
    world.crashed(world.do("half a frame"), "wall_time")
    world.end()


def test_30_it_tells_much_and_of_another_job(world):
    job = world.do("progress")
    assert job.returned == "told" and job.progress == 199_999
    world.crashed(world.do("another's frame"), "bad_frame")
    world.end()


def test_32_a_copy_of_it_comes_back_into_our_loop(world):
    assert world.do("two of it").returned == ["the original", 70]
    world.end()


# --- 12, 18, 20 to 22, 29, 31: how it ends ------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["ignores signals", "sleeps in C", "holds the GIL", "stops itself"],
    ids=["12-ignores-signals", "18-sleeps-in-c", "29-holds-the-gil", "31-stops-itself"],
)
def test_12_18_29_31_it_does_not_end(world, name):
    sentence = world.crashed(world.do(name), "wall_time")
    assert "500 ms" in sentence
    world.end()


def test_20_a_crash_in_c(world):
    job = world.do("segfault")
    assert "SIGSEGV" in world.crashed(job, "signal")
    assert "string_at" in "\n".join(job.stacktrace)  # what faulthandler said
    world.end()


@pytest.mark.parametrize("how", ["sys.exit", "SystemExit", "KeyboardInterrupt", "Own"])
def test_21_it_raises_what_is_no_exception(world, how):
    job = world.do("leaves", how)
    name = "SystemExit" if how == "sys.exit" else how
    assert name in job.failed_reason
    world.end()


@pytest.mark.parametrize("status", [0, 3])
def test_22_it_exits_in_the_middle(world, status):
    sentence = world.crashed(world.do("exits", status), "exit")
    assert f"status {status}" in sentence
    world.end()


# --- 13, 17, 24 to 28: what it returns, prints and leaves behind --------------------------------------


@pytest.mark.parametrize("name", ["daemon", "subprocess left"])
def test_13_a_process_of_it_outlives_it(world, name):
    job = world.do(name)
    assert isinstance(job.returned, str), job.failed_reason
    told = world.line("job.left_behind", job)
    assert told["retired"] is True and told["left"][0].startswith("process ")
    assert re.fullmatch(r"left behind: process \d+ \(.+\); the runner was replaced", world.rows(job))
    world.end()


def test_17_it_prints_without_end(world):
    job = world.do("output")
    assert job.returned == "said"
    told = until(lambda: [each for each in lines_of(world, job) if "left out" in each], "what was left out")
    assert len(lines_of(world, job)) < 10_000 and told
    assert all(len(each) <= 4 * 16 * 1024 for each in lines_of(world, job))
    world.end()


def lines_of(world: World, job: Any) -> list[str]:
    return [each["line"] for each in world.run.events("job.output") if each["job_id"] == job.id]


def test_24_its_result_cannot_be_said(world):
    job = world.do("no JSON")
    assert "cannot be said in JSON" in job.failed_reason
    world.end()


def test_25_its_result_is_too_large(world):
    job = world.do("large result")
    assert re.search("more than the .* allowed", job.failed_reason), job.failed_reason
    world.end()


def test_26_it_changes_its_surroundings(world):
    before = world.do("seen").returned
    job = world.do("surroundings")
    assert job.returned == "moved"
    assert "working directory / (put back)" in world.rows(job)
    assert world.do("seen").returned == before
    world.end()


@pytest.mark.parametrize(
    ("name", "words"),
    [("thread", "thread Straggler"), ("many descriptors", "100 descriptors more than at first")],
    ids=["27-thread", "28-descriptors"],
)
def test_27_28_it_leaves_what_cannot_be_put_back(world, name, words):
    job = world.do(name)
    assert isinstance(job.returned, str), job.failed_reason
    assert words in world.rows(job) and "the runner was replaced" in world.rows(job)
    world.end()


# --- all of them --------------------------------------------------------------------------------------


def test_each_of_the_thirty_four_has_a_test(request, redis_server):
    numbers = set(ELSEWHERE)
    for name in globals():
        if found := re.match(r"test((_\d\d)+)_", name):
            numbers |= {int(each) for each in found[1].strip("_").split("_")}
    assert numbers == set(range(1, 35))
    for place in ELSEWHERE.values():
        file, _, test = place.partition("::")
        assert test in (ROOT / file).read_text()
