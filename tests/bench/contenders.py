"""Who is measured beside us: where each other system is installed, and how its workers are started.

One that is not installed is left out, with the reason in `missing`. Settings are those with which the system
did best, or those a measure names: `2` is two worker processes, `50` fifty jobs at once in one process.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from ground import HERE, PEERS, STATE, Contender, Ground, oxherd

INTEROP: Final = HERE.parent / "interop"
INSTALLED: Final = STATE / "bench-peers"
PYTHONS: Final = {
    "bullmq": STATE / "python-peers",
    **{name: INSTALLED / name for name in ("huey", "taskiq", "dramatiq", "celery", "rq")},
}


@dataclass
class Field:
    """All contenders by name, and who is missing, with why."""

    by_name: dict[str, Contender] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def all_of(ground: Ground, *, with_peers: bool = True) -> Field:
    found = Field()
    fresh = ("--fresh", "true")
    for each in (
        *(oxherd(ground, slots) for slots in (2, 8, 16)),
        *(oxherd(ground, slots, *fresh, name=f"Oxherd fresh {slots}") for slots in (2, 8)),
    ):
        found.by_name[each.name] = each
    if not with_peers:
        found.missing["every other system"] = "it was asked for (--without-peers)"
        return found
    why = why_no_node()
    if why:
        found.missing["Node's bullmq"] = why
    else:
        _add(found, *_nodes())
    for peer, home in PYTHONS.items():
        if not is_installed(home):
            found.missing[peer] = "it could not be installed (see .state/install.log)"
        else:
            _add(found, *_pythons(peer, home / "bin", ground.url))
    return found


def _add(found: Field, *contenders: Contender) -> None:
    found.by_name |= {each.name: each for each in contenders}


def is_installed(home: Path) -> bool:
    """Whole: the stamp is left when everything was there, inside the environment or beside it."""
    return (home / "stamp").exists() or home.with_suffix(".stamp").exists()


def why_no_node() -> str:
    if shutil.which("node") is None:
        return "node is not installed (Node 18 or newer and npm are needed)"
    if not (INTEROP / "node_modules" / "bullmq").exists():
        return "it could not be installed (see .state/npm.log)"
    return ""


def numpy_path() -> Path | None:
    """Where NumPy is, for whoever has it on its path; None where it could not be installed."""
    home = INSTALLED / "numpy"
    return next(iter(home.glob("lib/python3*/site-packages")), None) if is_installed(home) else None


def _nodes() -> list[Contender]:
    def worker(mode: str, concurrency: int, guess: int) -> Contender:
        command = ["node", str(PEERS / "worker.cjs"), mode, str(concurrency)]
        return Contender(f"Node {mode} {concurrency}", "node", "", command, guess=guess)

    return [
        worker("inline", 50, 10_000),
        worker("inline", 1, 3_000),
        worker("sandboxed", 4, 3_000),
        worker("sandboxed", 2, 2_500),
        worker("sandboxed", 8, 2_500),
    ]


def _pythons(peer: str, tools: Path, url: str) -> list[Contender]:
    python = str(tools / "python")

    def worker(name: str, guess: int, *command: str) -> Contender:
        return Contender(name, peer, python, [str(tools / command[0]), *command[1:]], guess=guess)

    def celery(name: str, guess: int, slots: int, *more: str) -> Contender:
        command = ("celery", "-A", "p_celery", "worker", "-P", "prefork", "-l", "WARNING", "-c", str(slots))
        return worker(name, guess, *command, *more)

    def huey(slots: int) -> Contender:
        command = ("huey_consumer", "p_huey.huey", "-k", "process", "-q", "-w", str(slots))
        return worker(f"Huey {slots}", 3_500, *command)

    match peer:
        case "huey":
            return [huey(2), huey(8)]
        case "taskiq":
            command = ("taskiq", "worker", "p_taskiq:broker", "--log-level", "ERROR", "-w", "2")
            return [worker("Taskiq 2", 3_500, *command)]
        case "dramatiq":
            return [worker("Dramatiq 2x8", 3_300, "dramatiq", "-p", "2", "-t", "8", "p_dramatiq")]
        case "celery":
            return [
                celery("Celery prefork 2", 600, 2),
                celery("Celery prefork 8", 600, 8),
                celery("Celery fresh 2", 8, 2, "--max-tasks-per-child", "1"),
            ]
        case "rq":
            return [worker("RQ fork", 45, "rq", "worker", "-q", "-u", url, "-w", "rq.Worker", "bench")]
        case "bullmq":
            return [
                worker(f"PyPI bullmq {slots}", 1_000, "python", "p_bullmq.py", str(slots))
                for slots in (50, 1)
            ]
    raise ValueError(peer)


@cache
def versions() -> dict[str, str]:
    """Of every system that is installed, as its package manager says."""
    found = {}
    for peer, home in PYTHONS.items():
        if is_installed(home):
            found[peer] = said(str(home / "bin/python"), "-c", _VERSIONS, *_PACKAGES[peer])
    found["node"] = said("node", "--version")
    for package in ("bullmq", "ioredis"):
        found[f"Node's {package}"] = said(
            "node", "-p", f"require('{INTEROP}/node_modules/{package}/package.json').version"
        )
    return found


_VERSIONS: Final = (
    "import sys; from importlib.metadata import version as v; first, *rest = sys.argv[1:]; "
    "print(v(first) + ''.join(f' ({n} {v(n)})' for n in rest))"
)
_PACKAGES: Final = {
    "bullmq": ("bullmq", "redis"),
    "huey": ("huey", "redis"),
    "taskiq": ("taskiq", "taskiq-redis", "redis"),
    "dramatiq": ("dramatiq", "redis"),
    "celery": ("celery", "kombu", "redis"),
    "rq": ("rq", "redis"),
}


def said(*command: str) -> str:
    """The first line that a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "not installed"
    return done.stdout.strip().partition("\n")[0] or "unknown"
