"""Fixtures of the small master (small_master.py)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from small_master import AS_ROOT, SYSTEM_PYTHON, UID, Master, Place, Runner, be_without

from sandbox import linux


@pytest.fixture(scope="session", autouse=True)
def _adopt_runners() -> None:
    linux.set_child_subreaper(True)


@pytest.fixture
def new_master() -> Iterator[Callable[..., Master]]:
    masters: list[Master] = []

    def make(**how: Any) -> Master:
        masters.append(Master(**how))
        return masters[-1]

    try:
        yield make
    finally:
        for each in masters:
            each.close()


@pytest.fixture
def master(new_master: Callable[..., Master]) -> Master:
    return new_master()


@pytest.fixture
def runner(master: Master) -> Runner:
    """A ready runner with the processors of tests/processors/simple.py."""
    assert master.load("simple")["what"] == "ready"
    return master.runner()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    try:
        yield made
    finally:
        shutil.rmtree(made.made, ignore_errors=True)


@pytest.fixture
def confined(place: Place, new_master: Callable[..., Master]) -> Callable[..., Master]:
    """A master that has loaded `confined`, or another target, under a profile."""

    def start(
        target: str = "confined",
        *,
        profile: str = "strict",
        host_without: Collection[str] = (),
        expected: str = "ready",
        **policy: Any,
    ) -> Any:
        if AS_ROOT and not os.path.exists(SYSTEM_PYTHON):
            pytest.skip("no system Python")
        master = new_master(
            python=SYSTEM_PYTHON if AS_ROOT else sys.executable,
            cwd=place.processors,
            home=place.home,
            **({"preexec_fn": lambda: be_without(host_without)} if host_without else {}),
        )
        policy = {"uid": UID, "gid": UID, "jobs_dir": str(place.jobs_dir), **policy}
        packet = master.load(target, profile=profile, **policy)
        assert packet["what"] == expected, packet
        return master if expected == "ready" else packet

    return start
