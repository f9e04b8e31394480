"""The two clients are one: same methods, same parameters, same words."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

import supervisor.blocking
import supervisor.client
from supervisor.client import blocking, queue


def public(kind: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(kind).items()
        if not name.startswith("_") or name in ("__init__",)
    }


NAMES = sorted(public(queue.Queue))


def test_both_queues_have_the_same_public_names():
    assert public(queue.Queue).keys() == public(blocking.Queue).keys()
    assert {"add", "add_bulk", "get", "counts", "pause", "resume", "retry", "remove", "result"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_has_the_same_parameters_and_the_same_words_in_both(name: str):
    ours, twin = getattr(queue.Queue, name), getattr(blocking.Queue, name)
    assert inspect.getdoc(ours) == inspect.getdoc(twin)
    if not callable(ours):
        return
    assert without_async(inspect.signature(ours)) == without_async(inspect.signature(twin))
    assert not inspect.iscoroutinefunction(twin)


def without_async(signature: inspect.Signature) -> str:
    return re.sub(r"\bAsync", "", str(signature))


def test_the_examples_differ_by_async_and_await_alone():
    text = inspect.getdoc(queue.Queue) or ""
    assert re.sub(r"\b(async|await) ", "", text) == re.sub(
        r"\b(async|await) ", "", inspect.getdoc(blocking.Queue) or ""
    )


def test_both_rooms_offer_the_same_names():
    # `supervisor.client.listen` is a module, so the function stands in `supervisor` itself.
    assert set(supervisor.blocking.__all__) == {*supervisor.client.__all__, "listen"}
    assert supervisor.blocking.Queue is blocking.Queue
    assert supervisor.client.Queue is queue.Queue


def test_both_ways_to_listen_are_alike():
    ours, twin = supervisor.listen, supervisor.blocking.listen
    assert inspect.getdoc(ours) == inspect.getdoc(twin)
    assert without_async(inspect.signature(ours)) == without_async(inspect.signature(twin))
    assert inspect.isasyncgenfunction(ours)
    assert inspect.isgeneratorfunction(twin)


def test_every_public_method_has_a_docstring():
    for name in NAMES:
        assert inspect.getdoc(getattr(queue.Queue, name)), name
