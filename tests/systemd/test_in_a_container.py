"""A master as the first process of a container, as docs/how-to/containers.md has it: in podman as it comes.

There is no registry here: the container's files are those of the guest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from image import USER
from running import until
from services import Machine, command
from units import Server

from supervisor.blocking import Queue

pytestmark = pytest.mark.long

PODMAN = ("podman", "--cgroup-manager=cgroupfs", "--runtime=crun", "--log-level=error")
# This kernel has no overlay file system.
STORAGE = '[storage]\ndriver = "vfs"\nrunroot = "/run/podman-tests"\ngraphroot = "/var/lib/podman-tests"\n'
FILES = Path("/files-of-the-container")
APP = Path("/srv/in-a-container")
REDIS = "unix:///srv/redis.sock"
# What the page has for Compose.
LIMITS = ("--memory=512m", "--pids-limit=200", "--stop-timeout=60", "--network=none", "--user", USER)
CONFIG = '[stop]\ndeadline = "50s"\n[queue.thumbnails]\ntarget = "thumbnails"\nconcurrency = 2\n'
PROCESSOR = """
import time
from oxherd import processor

@processor("thumbnails", name="sleep")
def sleep(job):
    time.sleep(job.data)

@processor("thumbnails", name="hog")
def hog(job):
    held = []
    while True:
        held.append(bytearray(1 << 20))
"""

Execute = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def worker(machine: Machine, redis_server: Server) -> Iterator[Execute]:
    """`worker("ctl", "quiet")` is `podman exec worker oxherd ctl quiet`."""
    APP.mkdir()
    (APP / "thumbnails.py").write_text(PROCESSOR)
    (APP / "oxherd.toml").write_text(CONFIG)
    FILES.mkdir()
    command("mount", "--bind", "/", str(FILES))  # without what is mounted below it, so a process sees its own
    Path("/etc/containers/storage.conf").write_text(STORAGE)
    socket = redis_server.socket
    given = (f"--volume={socket}:/srv/redis.sock", f"--env=OXHERD_REDIS_URL={REDIS}", f"--workdir={APP}")
    oxherd = ("python3", "-P", "-m", "supervisor")
    run = ("run", "--detach", "--name=worker", *LIMITS, *given, "--rootfs", str(FILES))
    command(*PODMAN, *run, *oxherd, "run", "--config", "oxherd.toml")

    def execute(*words: str) -> subprocess.CompletedProcess[str]:
        return command(*PODMAN, "exec", "worker", *oxherd, *words, check=False)

    yield execute
    command(*PODMAN, "rm", "--force", "--time=0", "worker", check=False)
    command("umount", str(FILES))


@pytest.fixture(scope="module")
def queue(redis_server: Server) -> Iterator[Queue]:
    with Queue("thumbnails", url=redis_server.url) as made:
        yield made


@pytest.mark.timeout(300)
def test_the_health_check_tells_when_it_takes_jobs(worker: Execute, queue: Queue):
    until(lambda: worker("status", "--check").returncode == 0, "it is well", 80)
    queue.result(queue.add("sleep", 0), timeout_ms=60_000)


def test_a_job_that_takes_all_memory_of_the_container_ends_alone(worker: Execute, queue: Queue):
    job = queue.add("hog", None, attempts=1)
    until(lambda: queue.state(job.id) == "failed", "the hog fails", 80)
    assert queue.get(job.id).verdicts[-1]["cause"] == "host_out_of_memory"
    queue.result(queue.add("sleep", 0), timeout_ms=60_000)


def test_prestop_and_a_stop_hurt_no_job(worker: Execute, queue: Queue):
    job = queue.add("sleep", 4)
    until(lambda: queue.state(job.id) == "active", "it runs", 80)
    assert worker("ctl", "quiet").returncode == 0
    told = worker("status", "--check")
    assert told.returncode == 1 and "is quiet, as was asked" in told.stderr
    command(*PODMAN, "stop", "worker")
    assert command(*PODMAN, "inspect", "--format={{.State.ExitCode}}", "worker").stdout.strip() == "0"
    assert queue.state(job.id) == "completed"
    assert queue.get(job.id).attempts_made == 1
