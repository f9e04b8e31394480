"""A user of its own for what could harm the host: with no right, and with limits already in force.

As root the tests become a uid that nobody has; the interpreter and our files may lie where that uid cannot
read them, so an interpreter is looked for, and our files are copied. As anybody else it is the tests' own
uid, with the same limits: processes are counted per uid, so those that it has already are added.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
# Processes are counted by uid: two lanes of suites that run beside each other must not share one.
UID = 61_200 + int(os.environ.get("OXHERD_TEST_LANE", "0"))
PROCESSES = 64
DATA_BYTES = 256 * 1024 * 1024
PROCESSORS = ("behaviours.py", "hogs.py")
# Debian's Python 3.11.2 is older than what redis takes asyncio's own timeout from.
SHIM = "from asyncio import timeout\n"


@dataclass(frozen=True)
class User:
    """How a program is started as that user.

    uid     its number
    prefix  what stands before the interpreter
    paths   for PYTHONPATH
    home    the working directory: the processors lie in it
    """

    uid: int
    prefix: tuple[str, ...]
    python: str
    paths: str
    home: Path


def make_user(home: Path) -> User:
    """Raises `LookupError` with a sentence when there is no interpreter that it could run."""
    home.chmod(0o755)
    for package in ("sandbox", "supervisor"):
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "oxherd.py", home)
    (home / "async_timeout.py").write_text(SHIM)
    work = home / "work"
    work.mkdir()
    for name in PROCESSORS:
        shutil.copy(ROOT / "tests" / "processors" / name, work)
    root = os.geteuid() == 0
    uid = UID if root else os.getuid()
    become = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups") if root else ()
    if root:
        os.chown(work, uid, uid)
    processes = PROCESSES + sum(_threads(each) for each in psutil.process_iter(["uids"]) if _is_of(each, uid))
    prefix = (*become, "prlimit", f"--nproc={processes}", f"--data={DATA_BYTES}", "--core=0", "--")
    paths = f"{home}{os.pathsep}{sysconfig.get_path('purelib')}"
    for python in (sys.executable, "/usr/bin/python3"):
        user = User(uid, prefix, python, paths, work)
        if _can_run(user):
            return user
    raise LookupError(f"no interpreter that uid {uid} may run with our dependencies")


def _threads(process: psutil.Process) -> int:
    try:
        return process.num_threads()
    except psutil.Error:
        return 0


def _is_of(process: psutil.Process, uid: int) -> bool:
    return process.info["uids"] is not None and process.info["uids"].real == uid


def _can_run(user: User) -> bool:
    done = subprocess.run(
        [*user.prefix, user.python, "-c", "import supervisor.cli, redis, msgspec, structlog, psutil"],
        cwd=user.home,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": user.paths},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.fixture(scope="session")
def unprivileged() -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="oxherd-user-"))
    try:
        yield make_user(home)
    except LookupError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    finally:
        shutil.rmtree(home, ignore_errors=True)
