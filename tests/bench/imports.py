"""Where the start goes: what `python -X importtime` says of `oxherd run`, its master alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from typing import Final

from ground import PEERS, Failed, Ground, oxherd

_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")
SHOWN: Final = 12
PATIENCE_S: Final = 60


def report(ground: Ground) -> list[str]:
    """Markdown: the packages with the most time of their own. Counting slows every import."""
    ground.empty()
    command = oxherd(ground, 1, "--burst").command
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command[1:]],
        cwd=PEERS,
        env=ground.environment({"BENCH_MARKS": str(ground.home / "imports")}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise Failed(f"oxherd run --burst ended with {done.returncode}:\n{done.stderr[-2000:]}")
    own_us: dict[str, int] = defaultdict(int)
    modules: dict[str, int] = defaultdict(int)
    for own, _, _, module in _LINE.findall(done.stderr):
        package = _package(module)
        own_us[package] += int(own)
        modules[package] += 1
    most = sorted(own_us, key=lambda name: -own_us[name])
    rows = [f"| {name} | {modules[name]} | {own_us[name] / 1000:.1f} |" for name in most[:SHOWN]]
    rest = most[SHOWN:]
    rest_modules, rest_us = (sum(each[name] for name in rest) for each in (modules, own_us))
    return [
        "### The master's imports, by `python -X importtime`",
        "",
        "| package | modules | ms, its own |",
        "|---|---:|---:|",
        *rows,
        f"| {len(rest)} others | {rest_modules} | {rest_us / 1000:.1f} |",
        f"| all | {sum(modules.values())} | {sum(own_us.values()) / 1000:.1f} |",
    ]


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ("supervisor", "sandbox") else parts[0]
