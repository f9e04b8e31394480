"""Each line of docs/how-to/runbook.md: its symptom is made to happen, its command is typed, and answers."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import ROOT, TESTS, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

PAGE = ROOT / "docs" / "how-to" / "runbook.md"
LINE = re.compile(
    r"^\| (?P<seen>[^|]+) \| `(?P<ask>[^`]+)` \| (?P<says>`[^|]+`) \| [^|]+ \| (?P<do>[^|]+) \|$", re.M
)
LINES = {each["seen"]: each for each in LINE.finditer(PAGE.read_text(encoding="utf-8"))}


@dataclass
class World:
    """What a scene has at hand, and what it leaves for the command: the words that stand for its own."""

    run: Callable[..., Any]
    queue: Queue
    raw: Any
    path: Path
    url: str
    words: dict[str, str] = field(default_factory=lambda: {"QUEUE": "work"})

    def master(self, *flags: str, **named: Any) -> Any:
        running = self.run(*flags, **named)
        running.until("master.started")
        return running

    def add(self, name: str = "x", **data: Any) -> Any:
        job = self.queue.add(name, data)
        self.words["ID"] = job.id
        return job

    def typed(self, command: str) -> tuple[str, int]:
        argv = [self.words.get(word, word) for word in command.replace("'", "").split()]
        argv = [word.replace("QUEUE", "work") for word in argv]
        if argv[0] == "redis-cli":
            argv[1:1] = ["-s", self.url.removeprefix("unix://")]
        else:
            argv = [sys.executable, "-m", "supervisor", *argv[1:], *self._where(argv[1])]
        done = subprocess.run(argv, cwd=TESTS / "processors", capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr, done.returncode

    def _where(self, command: str) -> list[str]:
        return ["--config", str(self.path / "oxherd.toml")] if command == "check" else ["--redis", self.url]


Scene = Callable[[World], None]
SCENES: dict[str, Scene] = {}


def scene(seen: str) -> Callable[[Scene], Scene]:
    def keep(made: Scene) -> Scene:
        SCENES[seen] = made
        return made

    return keep


@pytest.fixture
def world(oxherd, queue, raw, redis_url, tmp_path, monkeypatch) -> Iterator[World]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    policy = raw.config_get("maxmemory-policy")["maxmemory-policy"]
    yield World(oxherd, queue, raw, tmp_path, redis_url)
    raw.config_set("maxmemory", 0)
    raw.config_set("maxmemory-policy", policy)


# --- jobs wait and nothing runs ---------------------------------------------------------------------------


@scene("jobs wait, no worker")
def no_worker(world):
    world.add()


@scene("jobs wait, a worker is there")
def paused(world):
    world.master()
    world.queue.pause()
    world.add()


@scene("the master takes nothing")
def quiet(world):
    world.master()
    world.typed("oxherd ctl quiet")
    world.add()


@scene("the master takes nothing, others do")
def at_its_concurrency(world):
    world.raw.hset("bull:work:meta", "concurrency", 1)
    world.master("--concurrency", "2")
    world.add(do="sleep")
    world.add()


@scene("jobs go through in bursts")
def limited(world):
    world.master()
    world.add(do="limited", mark=str(world.path / "mark"), ms=25_000)
    world.add()


@scene("fewer and fewer jobs, all fail")
def degraded(world):
    world.master("--concurrency", "1")
    for _ in range(7):
        world.add(do="leave", status=3)


@scene("all slots are busy for long")
def busy(world):
    world.master("--concurrency", "1")
    world.add(do="hang")


@scene("a master vanished")
def vanished(world):
    master = world.master(env={"OXHERD_HEARTBEAT_INTERVAL": "1s"})
    until(lambda: world.raw.zcard("oxherd:hosts"), "it has beaten")
    master.signal(signal.SIGKILL)
    master.ended()


@scene("no master on this host")
def nobody_here(world):
    world.add()


# --- the jobs I added are not there -----------------------------------------------------------------------


@scene("the queue does not exist")
def another_prefix(world):
    with Queue("work", url=world.url, prefix="other") as queue:
        queue.add("x", {})


@scene("nothing waits, much is delayed")
def delayed(world):
    world.words["ID"] = world.queue.add("x", {}, delay_ms=3_600_000).id


@scene("a parent does not run")
def parent(world):
    flow = world.path / "flow.json"
    flow.write_text('{"queue": "work", "name": "book", "children": [{"queue": "pages", "name": "page"}]}')
    said, status = world.typed(f"oxherd flow add {flow}")
    assert status == 0, said
    world.words["ID"] = said.strip()


# --- a job fails, or never ends ---------------------------------------------------------------------------


@scene("it runs for ever, in C too")
def hang(world):
    world.master("--concurrency", "1")
    world.add(do="hang")


@scene("it failed")
def failed(world):
    world.master()
    world.add(do="fail")


@scene("its runner died")
def crashed(world):
    world.master()
    world.add(do="crash_in_c")


@scene("it needs too much")
def too_much(world):
    world.master(target="hogs")
    world.add("own", mb=150)


@scene("it took too long")
def too_long(world):
    world.master("--timeout", "300ms")
    world.add(do="sleep")


@scene('it "stalled"')
def stalled(world):
    often = ("--lock-duration", "1s", "--stalled-interval", "500ms", "--stalled-max-count", "0")
    first = world.master(*often)
    world.add(do="hang")
    until(lambda: world.queue.counts()["active"], "it runs")
    first.signal(signal.SIGKILL)
    first.ended()
    world.master(*often)


@scene("failed jobs are elsewhere")
def dead_letters(world):
    world.master("--dead-letter", "work-dead")
    world.add(do="fail")


# --- Redis ------------------------------------------------------------------------------------------------


@pytest.fixture
def mortal(tmp_path_factory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis that may be ended."""
    home = tmp_path_factory.mktemp("r")
    options = [
        "--port",
        "0",
        "--unixsocket",
        f"{home}/s",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(home),
    ]
    process = subprocess.Popen([shutil.which("redis-server"), *options], stdout=subprocess.DEVNULL)
    until(lambda: (home / "s").exists(), "it listens")
    yield f"unix://{home}/s", process
    process.kill()
    process.wait()


@scene("every command fails, exit 3")
def no_redis(world):
    world.url += "-gone"


@scene("the master is there, Redis is not")
def redis_went(world):
    world.master("--stop-deadline", "1s")
    world.mortal.kill()


@scene("adding fails")
def full(world):
    world.add()
    world.raw.config_set("maxmemory-policy", "noeviction")
    world.raw.config_set("maxmemory", 1)


@scene("jobs are gone without a trace")
def evicting(world):
    world.raw.config_set("maxmemory-policy", "allkeys-lru")
    warned = world.master().until("redis.unsafe")
    assert "allkeys-lru" in warned["why"]


# --- a start, a release -----------------------------------------------------------------------------------


@scene("it does not start, exit 2")
def not_importable(world):
    (world.path / "oxherd.toml").write_text("")
    world.words["TARGET"] = "broken_import"


@scene("a reload is refused")
def reload_refused(world):
    release = world.path / "shop.py"
    release.write_text("from oxherd import processor\n\n\n@processor('work')\ndef work(job): ...\n")
    world.master(target="shop", cwd=world.path)
    release.write_text("import no_such_module_is_here\n")


@scene("is this host well?")
def not_well(world):
    quiet(world)


# --- the page ---------------------------------------------------------------------------------------------


def test_each_line_of_the_runbook_has_a_scene_and_each_scene_a_line(redis_server):
    assert LINES.keys() == SCENES.keys()
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    sections = PAGE.read_text().count("| You see |")
    assert len(rows) - sections == len(LINES), "a line of the page is not understood by this test"


@pytest.mark.parametrize("seen", sorted(LINES))
def test_the_command_of_a_line_says_what_the_line_promises(seen, world, request):
    if seen == "the master is there, Redis is not":
        url, world.mortal = request.getfixturevalue("mortal")
        world.run = aimed(world.run, url)
    SCENES[seen](world)
    line = LINES[seen]
    promised = re.findall(r"`([^`]+)`", line["says"])
    told = ""

    def as_promised() -> bool:
        nonlocal told
        told, _ = world.typed(line["ask"])
        return all(word in told for word in promised)

    try:
        until(as_promised, f"{line['ask']} says {promised}", patience_s=20)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{told}") from None


def aimed(run: Callable[..., Any], url: str) -> Callable[..., Any]:
    """`oxherd run`, at another Redis than the test's: the last of two flags counts."""
    return lambda *flags, **named: run(*flags, "--redis", url, **named)


@pytest.mark.parametrize(
    ("seen", "well"),
    [
        ("jobs wait, a worker is there", lambda world: world.queue.counts()["completed"] == 1),
        ("the master takes nothing", lambda world: world.queue.counts()["completed"] == 1),
        ("nothing waits, much is delayed", lambda world: world.queue.counts()["waiting"] == 1),
        ("it runs for ever, in C too", lambda world: world.queue.counts()["failed"] == 1),
        (
            "failed jobs are elsewhere",
            lambda world: not re.search(r"^1 ", world.typed("oxherd dlq list work-dead")[0], re.M),
        ),
    ],
)
def test_what_a_line_says_to_do_helps(seen, well, world):
    SCENES[seen](world)
    if seen == "it runs for ever, in C too":
        until(lambda: world.queue.counts()["active"] == 1, "it runs")
    elif seen == "failed jobs are elsewhere":
        until(lambda: "boom" in world.typed(LINES[seen]["ask"])[0], "there is a letter")
    remedy = re.findall(r"`(oxherd [^`]+)`", LINES[seen]["do"])[0]
    said, status = world.typed(remedy)
    assert status == 0, said
    until(lambda: well(world), "it is well again")
