"""The tutorial and pages of docs/how-to as they stand: files written, commands typed, answers compared."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    "dead-letter-queue",
    "listen",
    "back-pressure",
    "alert-thresholds",
    "retry-after",
    "typed-data",
    "batches",
    "unique-jobs",
    "progress",
    "hooks",
    "circuit-breaker",
    "saga",
    "limits",
    "cancel",
    "async-processors",
    "a-job-that-dies",
    "a-queue-that-does-not-move",
    "configure",
)
FILE = re.compile(r"`(\w+\.(?:py|sh|toml))`:\n\n```(?:python|sh|toml)\n(.*?)```", re.DOTALL)
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Each command with the lines that are to come of it."""
    found: list[tuple[str, list[str]]] = []
    for block in CONSOLE.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def is_as_told(told: str, seen: str) -> bool:
    """Spaces are the table's; `...` stands for anything."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in told.split("..."))
    return re.fullmatch(pattern, " ".join(seen.split())) is not None


@pytest.mark.parametrize("name", ["tutorial", *(f"how-to/{name}" for name in PAGES)])
def test_a_page_does_what_it_says(name: str, redis_url: str, tmp_path: Path) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for file, text in FILE.findall(page):
        (tmp_path / file).write_text(text, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    for command, arguments in (("python", ""), ("oxherd", "-m supervisor")):
        shim = tmp_path / "bin" / command
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        shim.chmod(0o755)
    where = {
        **os.environ,
        "OXHERD_REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    typed = commands(page)
    assert typed
    for line, told in typed:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=where,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        seen = done.stdout.splitlines()
        log = tmp_path / "run.log"
        story = f"{line}\n{done.stdout}\n{log.read_text() if log.exists() else ''}"
        assert len(seen) == len(told), story
        assert all(map(is_as_told, told, seen)), story
