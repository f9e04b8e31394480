"""The master's instructions per job: the figure that does not depend on the machine's mood.

callgrind counts those of `drive.py` for two numbers of jobs; their difference is what the jobs cost, without
the start. `instructions.json` has what it was when somebody looked at it last, by interpreter: another
interpreter has another count, so there it is told and judged by nothing.

    instructions.py             count and tell; exit status 1 when it has grown by more than 10 %
    instructions.py --write     the same, and it is the measure from now on
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
MEASURE: Final = HERE / "instructions.json"
MOST_GROWTH: Final = 0.10
FEW, MANY = 1_000, 3_000  # jobs
WITHIN_S: Final = 400


def main(argv: list[str]) -> int:
    count = per_job()
    known: dict[str, int] = json.loads(MEASURE.read_text()) if MEASURE.exists() else {}
    before = known.get(interpreter())
    if "--write" in argv:
        MEASURE.write_text(json.dumps({**known, interpreter(): count}, indent=4, sort_keys=True) + "\n")
    if before is None:
        print(f"the master's own instructions: {count:,} a job; no measure yet for {interpreter()}")
        return 0
    growth = count / before - 1
    print(f"the master's own instructions: {count:,} a job, {growth:+.1%} against the {before:,} on record")
    if growth > MOST_GROWTH and "--write" not in argv:
        print(f"more than {MOST_GROWTH:.0%} more: make it less, or say why and run instructions.py --write")
        return 1
    return 0


def per_job() -> int:
    with tempfile.TemporaryDirectory() as place:
        few, many = (_started(place, jobs) for jobs in (FEW, MANY))
        (few_jobs, few_count), (many_jobs, many_count) = _counted(*few), _counted(*many)
    return round((many_count - few_count) / (many_jobs - few_jobs))


def _started(place: str, jobs: int) -> tuple[subprocess.Popen[str], Path]:
    out = Path(place) / str(jobs)
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [*command, sys.executable, str(HERE / "drive.py"), str(jobs)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ), out


def _counted(process: subprocess.Popen[str], out: Path) -> tuple[int, int]:
    """How many jobs it did, and all its instructions."""
    try:
        said, errors = process.communicate(timeout=WITHIN_S)
    except BaseException:
        process.kill()
        raise
    if process.returncode:
        raise SystemExit(f"drive.py failed under callgrind:\n{errors}")
    (summary,) = [line for line in out.read_text().splitlines() if line.startswith("summary:")]
    return int(said), int(summary.split()[1])


def interpreter() -> str:
    """What the count depends on beside our code."""
    flags = sysconfig.get_config_var("PY_CORE_CFLAGS") or ""
    level = next((word for word in reversed(flags.split()) if word.startswith("-O")), "-O?")
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()} {level}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
