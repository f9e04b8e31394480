"""Two dashboards over a queue of ours, and a browser that looks at them.

`letters`   a master at work on a queue with one job in every state
`board`     a process with bull-board, Arena and headless Chromium, behind JSON lines
`picture`   keep a picture of the page: with OXHERD_TEST_PICTURES=true in docs/images (those were made so,
            with `-k redis`), else in the test's own directory
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
for directory in (HERE.parent, HERE.parent / "interop"):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))

from peers import Peer  # noqa: E402 (found through the path above)
from running import Running, oxherd, queue, until  # noqa: E402, F401

from supervisor.blocking import Queue  # noqa: E402
from supervisor.client import flows  # noqa: E402
from supervisor.client.flows import FlowJob  # noqa: E402

STATES = ("active", "waiting", "prioritized", "delayed", "waiting-children", "completed", "failed")


@pytest.fixture
def board(redis_server: Any, redis_url: str, tmp_path: Path) -> Iterator[Peer]:
    chromium = shutil.which("chromium")
    missing = None
    if chromium is None:
        missing = "Chromium is not installed (Debian: apt-get install chromium)"
    elif shutil.which("node") is None or not (HERE / "node_modules" / "bull-arena").is_dir():
        missing = "the dashboards are not installed; ./scripts/test installs them"
    if missing is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    command = ["node", str(HERE / "board.mjs"), redis_server.socket, str(chromium), str(tmp_path / "profile")]
    peer = Peer(command)
    yield peer
    peer.close()


@pytest.fixture
def picture(board: Peer, tmp_path: Path) -> Callable[[str], None]:
    keep = os.environ.get("OXHERD_TEST_PICTURES") == "true"
    home = ROOT / "docs" / "images" if keep else tmp_path

    def take(name: str) -> None:
        home.mkdir(exist_ok=True)
        board.ask("picture", path=str(home / f"{name}.png"))

    return take


@dataclass
class Letters:
    """`jobs` are the ids by state; the master's only runner is busy until `end` is there."""

    run: Running
    queue: Queue
    jobs: dict[str, str]
    stamp: Path
    end: Path

    def state(self, job_id: str) -> str:
        return self.queue.state(job_id)

    def release(self) -> None:
        self.stamp.touch()
        self.end.touch()


@pytest.fixture
def letters(
    oxherd: Callable[..., Running],  # noqa: F811 (the fixture)
    queue: Queue,  # noqa: F811
) -> Iterator[Letters]:
    # Not where the checkout is, and short: a stack trace on a picture names the place.
    with tempfile.TemporaryDirectory(prefix="letters-") as place:
        shutil.copy(HERE / "processors" / "letters.py", place)
        yield _in_every_state(oxherd, queue, Path(place))


def _in_every_state(oxherd: Callable[..., Running], queue: Queue, place: Path) -> Letters:  # noqa: F811
    stamp, end = place / "stamp", place / "end"

    def send(to: str) -> dict[str, str]:
        return {"do": "send", "to": to}

    jobs = {}
    path = os.pathsep.join([str(place), str(ROOT)])
    run = oxherd("--concurrency", "1", target="letters", env={"PYTHONPATH": path})
    jobs["failed"] = queue.add("letter", send("Ada")).id
    until(lambda: queue.state(jobs["failed"]) == "failed", "a letter without a stamp fails")
    stamp.touch()
    jobs["completed"] = queue.add("letter", send("Grace")).id
    until(lambda: queue.state(jobs["completed"]) == "completed", "a letter is sent")
    jobs["active"] = queue.add("novel", {"do": "write"}).id
    until(lambda: queue.get(jobs["active"]).progress == 60, "a novel is being written")
    jobs["waiting"] = queue.add("letter", send("Edith")).id
    jobs["prioritized"] = queue.add("telegram", send("Grete"), priority=3).id
    jobs["delayed"] = queue.add("birthday card", send("Mary"), delay_ms=3_600_000).id
    child = FlowJob("page", send("Hedy"), queue="work", options={"delay_ms": 3_600_000})
    jobs["waiting-children"] = queue.run(flows.add(FlowJob("book", send("Emmy"), children=[child]))).job.id
    assert {state: queue.state(job_id) for state, job_id in jobs.items()} == {each: each for each in STATES}
    return Letters(run, queue, jobs, stamp, end)
