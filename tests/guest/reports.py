"""Tests that run in a guest: a machine of its own with systemd and cgroup v2, where harm does none.

On the host the tests of this directory, and of tests/systemd, are only collected. Their guest (image.py has
two) is started once, with the list of those that were selected; inside, pytest runs them as it runs any test,
and sends each report over a serial line. Here the reports are passed on as if the tests had run here: same
names, same tracebacks, and -k works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from queue import Empty
from typing import Any, Final

import image
import pytest
from image import NEWER, USUAL, Recipe
from machine import Guest

HERE: Final = Path(__file__).parent
SUITES: Final = (HERE, HERE.parent / "systemd")
IN_THE_NEWER: Final = HERE.parent / "systemd" / "trixie"
INSIDE: Final = os.environ.get("OXHERD_TEST_GUEST") == "inside"
PATIENCE_S: Final = 100.0  # for the next report; below pytest's own limit for a test
PLUGIN: Final = "oxherd-guest"
LOGS: Final = HERE.parents[1] / ".state" / "guest"


def recipe_of(item: pytest.Item) -> Recipe | None:
    """Which guest a test runs in; None for the host."""
    if IN_THE_NEWER in item.path.parents:
        return NEWER
    return USUAL if any(suite in item.path.parents for suite in SUITES) else None


class Inside:
    """In the guest: tell the host what becomes of each test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._serial = open("/dev/ttyS1", "w", encoding="ascii")  # noqa: SIM115 (for as long as we live)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._say(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._say({"exitstatus": int(exitstatus)})

    def _say(self, what: dict[str, Any]) -> None:
        self._serial.write(json.dumps(what) + "\n")
        self._serial.flush()


class Visit:
    """One of the guests, and what has become of its tests so far. It is started when the first is due."""

    def __init__(self, config: pytest.Config, recipe: Recipe) -> None:
        self._config = config
        self._recipe = recipe
        self._guest: Guest | None = None
        self._image: Path | None = None
        self._obstacle = "the image was not built"
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._wanted: set[str] = set()
        self._complete: set[str] = set()

    def prepare(self) -> None:
        """Build the image before any test's clock runs."""
        try:
            self._image = image.build(self._recipe)
        except image.CannotBuild as error:
            self._obstacle = str(error)

    def reports_of(self, item: pytest.Item) -> list[pytest.TestReport]:
        if self._image is None:
            return [no_guest(item, self._obstacle)]
        if self._guest is None:
            self._guest = self._start(self._image, item.session.items)
        try:
            while item.nodeid not in self._complete:
                line = self._guest.line(PATIENCE_S)
                if line is None:
                    return [*self._reports.pop(item.nodeid, ()), broken(item, "the guest ended", self._guest)]
                self._take(json.loads(line))
        except (Empty, ValueError) as error:
            self._guest.close(0)
            why = f"the guest was ended: {type(error).__name__} while waiting for its report"
            return [*self._reports.pop(item.nodeid, ()), broken(item, why, self._guest)]
        return self._reports.pop(item.nodeid)

    def _start(self, built: Path, items: Sequence[pytest.Item]) -> Guest:
        names = [each.nodeid for each in items if recipe_of(each) is self._recipe]
        options = ["--long"] if self._config.getoption("--long", default=False) else []
        options += ["-x"] if self._config.option.maxfail == 1 else []
        self._wanted = set(names)
        return Guest(built, [*options, *names], LOGS / f"{self._recipe.suite}.log")

    def _take(self, data: dict[str, Any]) -> None:
        if "exitstatus" in data:
            return
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        self._reports.setdefault(report.nodeid, []).append(report)
        if report.when == "teardown":
            self._complete.add(report.nodeid)

    def finish(self) -> None:
        if self._guest is None:
            return
        if not self._wanted <= self._complete:  # stopped early
            self._guest.close(0)
        elif not self._guest.close():
            print(f"\nthe guest did not power off and was ended; its console is in {self._guest.log}")

    def close(self) -> None:
        if self._guest is not None:
            self._guest.close(0)


class Outside:
    """On the host: have each test run in its guest, and pass its reports on."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._visits: dict[Recipe, Visit] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        if self._config.option.collectonly:
            return
        for recipe in filter(None, dict.fromkeys(map(recipe_of, session.items))):
            self._visits[recipe] = Visit(self._config, recipe)
            self._visits[recipe].prepare()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        recipe = recipe_of(item)
        if recipe is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._visits[recipe].reports_of(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        for visit in self._visits.values():
            visit.finish()

    def pytest_unconfigure(self) -> None:
        for visit in self._visits.values():
            visit.close()


def no_guest(item: pytest.Item, why: str) -> pytest.TestReport:
    """A test that cannot be run: skipped, with CI=true an error."""
    if os.environ.get("CI") == "true":
        return report_of(item, "failed", f"there is no guest: {why}")
    return report_of(item, "skipped", (str(item.path), 0, f"Skipped: there is no guest: {why}"))


def broken(item: pytest.Item, why: str, guest: Guest) -> pytest.TestReport:
    text = f"{why}; its console ({guest.log}) ends so:\n{guest.console()}"
    return report_of(item, "failed", text)


def report_of(item: pytest.Item, outcome: Any, longrepr: Any) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, "setup")


def pass_on(config: pytest.Config) -> None:
    """To be called by the conftest of each suite: one guest is shared by them."""
    if not config.pluginmanager.has_plugin(PLUGIN):
        config.pluginmanager.register(Inside(config) if INSIDE else Outside(config), PLUGIN)
