"""These tests run in the guest of tests/guest, with the units that `oxherd systemd install` writes there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for directory in (Path(__file__).parents[1] / "guest", Path(__file__).parent, Path(__file__).parents[1]):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
from reports import pass_on  # noqa: E402 (found through the path above)
from services import machine, redis_server, service  # noqa: E402, F401


def pytest_configure(config: pytest.Config) -> None:
    pass_on(config)
