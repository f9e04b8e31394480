"""What scripts/test adds to pytest: two options, one marker, and the outcomes in a file.

`--long`            run the tests marked `long` too, and the longer variants of others
`--outcomes FILE`   write what became of each test, as JSON: {"passed": [node id, ...], "failed": ..., ...}
                    and {"reasons": {node id: why it was skipped}}

Loaded by `-p plugin` with tests/ on the path. `--long` may also be registered by tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("oxherd")
    with contextlib.suppress(ValueError):  # registered already
        group.addoption("--long", action="store_true", help="run the longer variants too")
    group.addoption("--outcomes", metavar="FILE", type=Path, help="write what became of each test, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes minutes; runs with --long only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    file = config.getoption("--outcomes")
    if file is None:
        return
    outcomes: dict[str, object] = {}
    reasons = {}
    for category in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        reports = terminalreporter.stats.get(category, [])
        outcomes[category] = [report.nodeid for report in reports]
        if category == "skipped":
            reasons = {report.nodeid: _reason(report) for report in reports}
    file.write_text(json.dumps({**outcomes, "reasons": reasons}))


def _reason(report: pytest.TestReport) -> str:
    """Why a test was skipped."""
    where_and_why = report.longrepr
    text = where_and_why[2] if isinstance(where_and_why, tuple) else str(where_and_why)
    return text.removeprefix("Skipped: ")
