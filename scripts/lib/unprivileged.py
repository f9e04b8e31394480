"""A second run of suites by a user without any right, which is how the program is run in production.

As root, a copy of the checkout and an environment with the locked packages are laid where such a user can
read them: the checkout and the interpreter may lie under root's home. As anybody else nothing is needed: the
first run was the unprivileged one.

Writes   a copy of the checkout in the temporary directory, removed afterwards; the environment beside it in
         /var/tmp, named by what it was made from and kept for the next run
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = ROOT / "requirements" / "ci.txt"
PYTHON: Final = Path("/usr/bin/python3")
UID: Final = 61_235  # that nobody has
COPIED: Final = (
    "sandbox", "supervisor", "tests", "docs", "scripts", "oxherd.py", "pyproject.toml", "README.md",
)  # fmt: skip
LEFT_OUT: Final = ("__pycache__", "node_modules", ".mypy_cache", ".ruff_cache")


class CannotBe(Exception):
    """One sentence that says what is missing."""


def wanted() -> bool:
    return os.geteuid() == 0


@contextmanager
def place() -> Iterator[Path]:
    """A copy of the checkout that this user owns."""
    home = Path(tempfile.mkdtemp(prefix="oxherd-tests-"))
    try:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, home / name, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
            else:
                shutil.copy(source, home / name)
        for path in [home, *home.rglob("*")]:
            os.chown(path, UID, UID, follow_symlinks=False)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def command(home: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """How pytest is started there, and its environment. Raises `CannotBe`."""
    python = environment()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CannotBe("setpriv is not installed (Debian: apt-get install util-linux)")
    as_user = [setpriv, f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    env = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PYTHONPATH": f"{home}:{home / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OXHERD_TEST_SEED": os.environ.get("OXHERD_TEST_SEED", "1"),
    }
    return [*as_user, str(python), "-m", "pytest", "-p", "plugin", *arguments], env


def environment() -> Path:
    """The interpreter of an environment with the locked packages; made once for each lock."""
    if not PYTHON.exists():
        raise CannotBe(f"there is no {PYTHON} that another user could run")
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    made_from = hashlib.sha256(f"{version}{LOCK.read_text()}".encode()).hexdigest()[:16]
    home = Path("/var/tmp") / f"oxherd-tests-venv-{made_from}"
    python = home / "bin" / "python"
    if (home / "complete").exists() and home.stat().st_uid == 0:
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"setting up {home} with the versions of requirements/ci.txt (once)", flush=True)
    steps = (
        [str(PYTHON), "-m", "venv", "--without-pip", str(home)],
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "-r", str(LOCK)],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, umask=0o022)
        if done.returncode:
            raise CannotBe(f"{' '.join(step[:4])} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    (home / "complete").touch()
    return python
