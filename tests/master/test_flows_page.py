"""The page docs/how-to/flows.md, as a reader would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOONER = ("bind is waiting", "bind is active", "bind is completed")  # were its children quicker
PAGE = (ROOT / "docs/how-to/flows.md").read_text(encoding="utf-8")


def test_what_the_page_shows_is_what_a_reader_sees(oxherd, redis_url, tmp_path):
    processors, order = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "book.py").write_text(processors)
    (tmp_path / "order.py").write_text(order)
    environment = {**os.environ, "OXHERD_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}

    oxherd(target="book", queue=None, env={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"})
    done = subprocess.run(
        [sys.executable, "order.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert done.returncode == 0, done.stderr
    shown = re.search(r"\$ python order.py\n(.*?)```", PAGE, re.DOTALL)
    first, rest = done.stdout.split("\n", 1)
    assert first in ("bind is waiting-children", *SOONER)
    assert f"bind is waiting-children\n{rest}" == shown[1]
