"""What docs/how-to/drain.md and docs/how-to/upgrade.md have typed is what works, while a job runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, until

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

PAGES = ROOT / "docs" / "how-to"


def shell(line: str, place: Path, redis_url: str) -> str:
    """What a line of a page prints; `oxherd` is ours."""
    shim = place / "bin" / "oxherd"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m supervisor "$@"\n')
    shim.chmod(0o755)
    path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OXHERD_REDIS_URL": redis_url}
    done = subprocess.run(["sh", "-c", line], cwd=place, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_draining_a_host_cuts_no_job_off(oxherd, queue, ask, redis_url, tmp_path):
    page = (PAGES / "drain.md").read_text()
    quiet, wait, stop = re.findall(r"^\$ (.*)$", page, re.MULTILINE)
    running = oxherd()
    running.until("master.started")
    first = queue.add("x", {"do": "mark_and_wait", "mark": str(tmp_path / "on"), "go": str(tmp_path / "go")})
    until((tmp_path / "on").exists, "it runs")

    said = shell(quiet, tmp_path, redis_url).replace(str(running.pid), "4711").replace("work", "thumbnails")
    assert said.strip() in page
    second = queue.add("x", {})
    waiting = subprocess.Popen(
        ["sh", "-c", wait.replace("sleep 1", "sleep 0.1")],
        env={
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        assert queue.state(first.id) == "active"
        with pytest.raises(subprocess.TimeoutExpired):  # it goes on waiting while a job runs
            waiting.wait(1)
        (tmp_path / "go").touch()
        assert waiting.wait(20) == 0
    finally:
        waiting.kill()
        waiting.wait()
    assert shell(stop, tmp_path, redis_url).strip().replace(str(running.pid), "4711") in page
    assert running.ended() == 0
    assert queue.state(first.id) == "completed"
    assert queue.state(second.id) == "waiting"


def test_the_new_release_reads_config_and_processors_before_anything_depends_on_it(redis_url, tmp_path):
    page = (PAGES / "upgrade.md").read_text()
    (tmp_path / "shop.py").write_text(
        "from oxherd import processor\n\n\n@processor('a')\ndef work(job): ...\n"
    )
    (tmp_path / "oxherd.toml").write_text('[queue.a]\ntarget = "shop"\n')
    lines = re.findall(r"/opt/oxherd-new/bin/(oxherd .*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        said = shell(line.replace("/etc/oxherd/", ""), tmp_path, "unix:///no/redis/is/here")
    assert "shop:work" in said
