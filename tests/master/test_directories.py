"""Directories of runners in a whole master: there while a job runs, gone whatever the runner's end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running import until


@pytest.fixture
def temporary(tmp_path: Path) -> dict[str, str]:
    place = tmp_path / "temporary"  # beside the sockets that masters are asked over
    place.mkdir()
    for each in (tmp_path, place):
        each.chmod(0o755)
    return {"TMPDIR": str(place)}


def left(temporary: dict[str, str]) -> list[str]:
    return sorted(os.listdir(temporary["TMPDIR"]))


def test_a_directory_of_a_runner_that_died_is_removed_and_the_masters_own_when_it_ends(
    oxherd, queue, temporary
):
    run = oxherd(target="confined", env=temporary)
    run.until("master.started")
    (master,) = left(temporary)
    first = queue.add("write_into_directory", None)
    kept = queue.result(first, timeout_ms=20_000)["directory"]
    assert Path(kept).parent == Path(temporary["TMPDIR"], master)
    assert Path(kept).is_dir()  # empty, for the next job

    for _ in range(4):  # whichever runner takes it
        queue.add("die", None)
    until(lambda: queue.counts()["failed"] == 4, "the runners to die")
    alive = {str(each.pid) for each in run.runners()}
    until(lambda: set(os.listdir(Path(temporary["TMPDIR"], master))) <= alive, "their directories to go")

    run.signal(15)
    assert run.ended() == 0, run.story()
    assert left(temporary) == []
