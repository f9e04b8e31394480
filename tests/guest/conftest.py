"""These tests run in a guest (reports.py); `oxherd` and `queue` are those of every suite, but a master is a
unit of systemd (units.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for directory in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
from reports import pass_on  # noqa: E402 (found through the path above)
from units import herd, oxherd, queue, redis_server, who  # noqa: E402, F401


def pytest_configure(config: pytest.Config) -> None:
    pass_on(config)
