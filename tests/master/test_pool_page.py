"""What docs/how-to/pool.md shows is what is printed, and its config does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from running import ROOT, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

PAGE = (ROOT / "docs/how-to/pool.md").read_text()


def block(name: str) -> str:
    [text] = re.findall(rf"`{re.escape(name)}`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return text


def test_the_page_is_what_happens(oxherd, ask, redis_url, tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(block("shop.py"))
    (tmp_path / "oxherd.toml").write_text(block("oxherd.toml"))
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    checked = subprocess.run(
        [sys.executable, "-m", "supervisor", "config", "check"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert checked.stdout in PAGE

    with Queue("thumbnails", url=redis_url) as thumbnails, Queue("mail", url=redis_url) as mail:
        running = oxherd(target="shop", queue=None, cwd=tmp_path)
        running.until("master.started")
        told = until(
            lambda: "starting" not in (lines := ask("ps", width=160)) and lines.splitlines(), "all are ready"
        )
        assert told[2] in PAGE

        thumbnails.add_bulk([("any", {"s": 60})] * 6)
        until(lambda: thumbnails.counts()["active"] == 3, "all slots but the one that is kept")
        assert mail.result(mail.add("any", {}), timeout_ms=5_000) == "sent"
        assert ask("ctl", "scale", "+2").strip() in PAGE
        until(lambda: thumbnails.counts()["active"] == 5, "what was added is used")
        slots = {each["name"]: each["slots"] for each in json.loads(ask("ctl", "snapshot"))["queues"]}
        assert slots == {"thumbnails": 5, "mail": 1}
