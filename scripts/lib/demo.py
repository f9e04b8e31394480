"""The demo: a real batch through the real commands, on a private Redis that goes when the demo goes.

Reads    the files of this Python's standard library; the environment, but for OXHERD_*
Writes   a directory of its own under the system's place for such, removed at the end
Tells    what it runs, as one would type it, and a summary at the end
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SCRIPTS: Final = Path(__file__).resolve().parents[1]
OXHERD: Final = str(Path(sys.executable).with_name("oxherd"))
QUEUE: Final = "demo"
RUNNERS: Final = 2
NOT_OF_THE_LIBRARY: Final = ("site-packages", "dist-packages", "__pycache__")

sys.path.insert(0, str(SCRIPTS))
from demo_processors import PRESET, squeeze  # noqa: E402 (it stands where users' modules stand)


class Stopped(Exception):
    """The batch did not come to its end."""


@dataclass(frozen=True)
class Batch:
    """What the runners did."""

    results: list[dict[str, Any]]
    jobs_s: float  # first job taken to last job done
    command_s: float  # the whole of `oxherd run`
    cpu_s: float  # the master and its runners


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    files = sorted(standard_library(), key=lambda path: path.stat().st_size, reverse=True)
    size = sum(path.stat().st_size for path in files)
    print(
        f"\nThe work: compress (LZMA, preset {PRESET}) and fingerprint (SHA-256) every file of the standard"
    )
    print(
        f"library of Python {sysconfig.get_python_version()}: {len(files):,} files, {mega(size)}, each a job."
    )
    print("Redis is a private one, started by the first command and gone after the last.\n", flush=True)
    home = Path(tempfile.mkdtemp(prefix="oxherd-demo-"))
    try:
        batch = in_runners(files, home)
        loop_s, plain = in_a_loop(files)
    except KeyboardInterrupt:
        print("\nStopped; nothing is left behind.")
        return 130
    except Stopped as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shutil.rmtree(home, ignore_errors=True)
    return summary(batch, loop_s, plain)


def standard_library() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(sysconfig.get_paths()["stdlib"]):
        folders[:] = [name for name in folders if name not in NOT_OF_THE_LIBRARY]
        paths = [Path(folder, name) for name in names]
        found += [path for path in paths if path.is_file() and os.access(path, os.R_OK)]
    return found


# --- in runners ---------------------------------------------------------------------------------------


def in_runners(files: list[Path], home: Path) -> Batch:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OXHERD_")}
    env |= {
        "OXHERD_REDIS_URL": "embedded",
        "OXHERD_EMBEDDED_STATE_DIR": str(home / "redis"),
        "OXHERD_LOG_LEVEL": "warning",
        "PYTHONPATH": str(SCRIPTS),
    }
    lines = home / "files.jsonl"
    lines.write_text("".join(json.dumps({"path": str(path)}) + "\n" for path in files))
    oxherd(["add", QUEUE, "compress", "--jsonl", str(lines)], home, env, shown="files.jsonl", quiet=True)
    cpu_s = cpu_of_children_s()
    began_at = time.monotonic()
    oxherd(["run", "demo_processors", "--concurrency", str(RUNNERS), "--burst"], home, env)
    command_s = time.monotonic() - began_at
    cpu_s = cpu_of_children_s() - cpu_s
    oxherd(["status", QUEUE], home, env)
    told = oxherd(
        ["jobs", QUEUE, "--state", "completed", "--limit", str(len(files)), "--json"],
        home,
        env,
        quiet=True,
        shown=None,
    )
    jobs = [json.loads(line) for line in told.splitlines()]
    if len(jobs) != len(files):
        raise Stopped(f"{len(jobs):,} of {len(files):,} jobs completed")
    first, last = min(job["processed_on"] for job in jobs), max(job["finished_on"] for job in jobs)
    return Batch([job["returned"] for job in jobs], (last - first) / 1000, command_s, cpu_s)


def oxherd(
    arguments: list[str], home: Path, env: dict[str, str], *, shown: str | None = "", quiet: bool = False
) -> str:
    """Run one command of ours; what it printed, if it is `quiet`.

    shown   what stands for files of ours in the command line that is printed; None: it is not printed.
    """
    if shown is not None:
        print(
            f"$ oxherd {' '.join(shown if word.startswith(str(home)) else word for word in arguments)}",
            flush=True,
        )
    process = subprocess.Popen(
        [OXHERD, *arguments], cwd=home, env=env, stdout=subprocess.PIPE if quiet else None, text=True
    )
    try:
        told, _ = process.communicate()
    except KeyboardInterrupt:
        # A terminal has told it too, and it stops by itself: the files at hand are finished first.
        process.send_signal(signal.SIGTERM)
        process.communicate()
        raise
    if shown is not None:
        print(flush=True)
    if process.returncode:
        raise Stopped(f"oxherd {arguments[0]} ended with exit status {process.returncode}")
    return told or ""


def cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# --- in a plain loop, and what comes of it ------------------------------------------------------------


def in_a_loop(files: list[Path]) -> tuple[float, list[dict[str, Any]]]:
    """The same work without Oxherd; its wall time and its results."""
    print("For comparison, the same work in one plain loop of this process:", flush=True)
    began_at = said_at = time.monotonic()
    results = []
    every_s = 0.2 if sys.stdout.isatty() else 5.0
    for number, path in enumerate(files, start=1):
        results.append(squeeze(str(path)))
        if time.monotonic() - said_at > every_s:
            said_at = time.monotonic()
            end = "\r" if sys.stdout.isatty() else "\n"
            print(f"  {number:,} of {len(files):,} files, {said_at - began_at:.0f} s", end=end, flush=True)
    took_s = time.monotonic() - began_at
    print(f"  {len(files):,} files in {took_s:.1f} s{' ' * 20}\n", flush=True)
    return took_s, results


def summary(batch: Batch, loop_s: float, plain: list[dict[str, Any]]) -> int:
    count = len(batch.results)
    size = sum(result["bytes"] for result in batch.results)
    compressed = sum(result["compressed_bytes"] for result in batch.results)
    largest = max(batch.results, key=lambda result: result["bytes"])
    same = {result["path"]: result["sha256"] for result in plain} == {
        result["path"]: result["sha256"] for result in batch.results
    }
    took_s = batch.command_s
    cores = f"{batch.cpu_s / took_s:.1f} of {os.cpu_count()} cores"
    rows = {
        "jobs": f"{count:,} completed, {count / batch.jobs_s:,.0f} jobs/s",
        "first to last job": f"{batch.jobs_s:.1f} s; the whole command took {took_s:.1f} s",
        "CPU used": f"{batch.cpu_s:.1f} s in {took_s:.1f} s: {cores}",
        "compressed": f"{mega(size)} to {mega(compressed)}",
        "largest file": f"{Path(largest['path']).name}, {mega(largest['bytes'])} "
        f"in {largest['took_ms'] / 1000:.1f} s",
        "one plain loop": f"{loop_s:.1f} s, {loop_s / batch.jobs_s:.1f} times as long",
        "fingerprints": "the same in both" if same else "NOT the same in both",
    }
    print("Summary")
    for name, text in rows.items():
        print(f"  {name:19}{text}")
    print("\nNext: a processor of your own, as README.md shows. The command is .venv/bin/oxherd.")
    return 0 if same else 1


def mega(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
