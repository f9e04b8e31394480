"""A Node program cancels jobs of ours, with the very lines of docs/how-to/cancel.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peers import Peer
from running import ROOT, Running, oxherd, until

from supervisor.blocking import Queue

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "how-to" / "cancel.md"
BEGIN = "const redis = new Redis({{ path: '{socket}' }});\n"
END = "await cancel(redis, 'work', '{job_id}', 'wrong size', 'node');\nawait redis.quit();\n"
SENTENCE = "cancelled by node: wrong size"

__all__ = ["oxherd"]  # the fixture


def snippet() -> str:
    (found,) = re.findall(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def cancel(socket: str, job_id: str) -> None:
    program = snippet() + BEGIN.format(socket=socket) + END.format(job_id=job_id)
    subprocess.run(["node", "--input-type=module", "-e", program], cwd=HERE, check=True, timeout=30)


@pytest.fixture
def work(redis_url: str):
    with Queue("work", url=redis_url) as queue:
        yield queue


@pytest.mark.parametrize("name", ["sleep", "swallows_everything"])
def test_a_job_that_runs_is_ended(node: Peer, oxherd: Any, work: Queue, redis_server: Any, name: str) -> None:
    running: Running = oxherd(target="stubborn")
    node.ask("events", queue="work")
    job = work.add(name, {}, attempts=3)
    until(lambda: work.logs(job.id) == ["started"], "it has started")

    cancel(redis_server.socket, job.id)

    (line,) = node.until("events", "work", "failed", 1)
    assert line["args"][0]["failedReason"] == SENTENCE
    assert work.get(job.id).failed_reason == SENTENCE
    assert running.events("cancel.asked")[0]["by"] == "node"


def test_a_job_that_waits_never_runs(node: Peer, oxherd: Any, work: Queue, redis_server: Any) -> None:
    oxherd(target="stubborn").until("master.started")
    job = work.add("echo", 5, delay_ms=60_000)

    cancel(redis_server.socket, job.id)

    until(lambda: work.state(job.id) == "failed", "it has failed")
    seen = node.ask("job", queue="work", id=job.id)
    assert (seen["failedReason"], seen["attemptsMade"]) == (SENTENCE, 0)
