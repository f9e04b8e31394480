"""Directories of runners: made for them alone, emptied and removed whatever lies in them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sandbox import jobdir
from supervisor.errors import SandboxError
from supervisor.master.jobs_dir import PREFIX, JobsDir, remove_abandoned


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_for_nobody_else_to_read(temporary: Path):
    made = JobsDir()
    try:
        assert Path(made.path).parent == temporary
        assert os.stat(made.path).st_mode & 0o777 == 0o700
    finally:
        made.close()
    assert list(temporary.iterdir()) == []


def test_the_directory_of_a_dead_runner_is_removed_at_once_if_it_is_empty():
    made = JobsDir()
    try:
        jobdir.make(made.path, "17")
        assert made.removed(17) is True
        assert made.removed(17) is True  # none at all
        assert os.listdir(made.path) == []
        Path(jobdir.make(made.path, "18"), "file").write_text("left")
        assert made.removed(18) is False
        made.remove(18)
        assert os.listdir(made.path) == []
    finally:
        made.close()


def test_a_name_that_a_runner_has_put_a_link_in_the_place_of_is_removed_as_a_link(temporary: Path):
    kept = temporary / "kept"
    kept.mkdir()
    (kept / "file").write_text("untouched")
    made = JobsDir()
    try:
        os.symlink(kept, Path(made.path, "17"))
        assert made.removed(17) is False
        made.remove(17)
        assert os.listdir(made.path) == []
        assert (kept / "file").read_text() == "untouched"
    finally:
        made.close()


def test_what_a_dead_master_left_is_removed_and_what_a_living_one_has_is_not(temporary: Path):
    code = (
        "import os, tempfile; tempfile.tempdir = os.environ['HERE']\n"
        "from supervisor.master.jobs_dir import JobsDir\n"
        "path = JobsDir().path; os.makedirs(path + '/17/deep'); print(path)"
    )
    environment = {**os.environ, "HERE": str(temporary), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    abandoned = Path(done.stdout.strip())
    assert abandoned.is_dir(), done.stderr
    (temporary / f"{PREFIX}a-file").write_text("no directory")
    (temporary / f"{PREFIX}a-link").symlink_to("/usr")
    living = JobsDir()
    try:
        remove_abandoned()
        assert not abandoned.exists()
        assert Path(living.path).is_dir()
        assert (temporary / f"{PREFIX}a-file").exists()
    finally:
        living.close()


def test_a_place_that_cannot_be_written_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    with pytest.raises(SandboxError, match="no directory for jobs can be made"):
        JobsDir()


def test_a_home_is_made_when_it_is_asked_for_and_once(temporary: Path):
    home = jobdir.Home(str(temporary))
    home.tidy()
    assert list(temporary.iterdir()) == []
    path = home.directory()
    assert path == home.directory() == str(temporary / str(os.getpid()))
    Path(path, "file").write_text("x")
    home.tidy()
    assert os.listdir(path) == []
    os.rmdir(path)
    home.tidy()  # the job has removed it itself
    assert home.directory() == path
    assert os.path.isdir(path)
    home.remove()
    home.remove()
    assert list(temporary.iterdir()) == []


def test_a_tree_deeper_than_any_path_is_emptied_with_few_descriptors(temporary: Path):
    top = jobdir.make(str(temporary), "17")
    fd = os.open(top, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("n" * 200, dir_fd=fd)
        inner = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    jobdir.empty(top)
    assert os.listdir(top) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wide_tree_with_the_names_we_use_ourselves_is_emptied(temporary: Path):
    top = Path(jobdir.make(str(temporary), "17"))
    for number in range(30):
        (top / "one" / f".oxherd-{number}" / "two").mkdir(parents=True)
        (top / f".oxherd-{number}").mkdir()
        (top / f".oxherd-{number}" / "file").write_text("x")
    jobdir.empty(str(top))
    assert os.listdir(top) == []
