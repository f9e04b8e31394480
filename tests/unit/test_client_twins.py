"""The two clients are one: same methods, same parameters, same words."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
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


# --- everything else of the client --------------------------------------------------------------------------

# What there is twice. All else there is once, for both, and a test below sees to that.
TWINS = {
    "supervisor.client.queue.Queue": "supervisor.client.blocking.Queue",
    "supervisor.client.listening.listen": "supervisor.client.listening_blocking.listen",
}


def of_the_client() -> dict[str, Any]:
    """Every public function and class that a module of supervisor/client makes, by its full name."""
    found = {}
    for item in pkgutil.iter_modules(supervisor.client.__path__, "supervisor.client."):
        for name, value in vars(importlib.import_module(item.name)).items():
            if name.startswith("_") or getattr(value, "__module__", "") != item.name:
                continue
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{item.name}.{name}"] = value
    return found


EVERYTHING = of_the_client()
ONCE = sorted(EVERYTHING.keys() - TWINS.keys() - set(TWINS.values()))


def is_async(value: Any) -> bool:
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)


def test_both_of_each_twin_are_there():
    assert EVERYTHING.keys() >= {*TWINS, *TWINS.values()}
    assert len(ONCE) > 60
    modules = {name.rpartition(".")[0].rpartition(".")[2] for name in ONCE}
    assert modules >= {"alerts", "edit", "flows", "getters", "listen", "manage", "schedulers"}


@pytest.mark.parametrize("name", ONCE)
def test_what_there_is_once_serves_both_clients(name: str):
    """It awaits nothing, says what it does, and has types; an action is carried out by either queue."""
    value = EVERYTHING[name]
    members = vars(value).values() if inspect.isclass(value) else [value]
    assert not any(map(is_async, members))
    if inspect.isclass(value):
        assert value.__doc__ and not value.__doc__.startswith(f"{value.__name__}(")
        return
    signature = inspect.signature(value)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())
    if str(signature.return_annotation).startswith("Action["):
        assert inspect.getdoc(value), "an action is public, so it has a docstring"


def test_only_the_asyncio_twins_await():
    awaiting = {
        name
        for name, value in EVERYTHING.items()
        if any(map(is_async, [value, *(vars(value).values() if inspect.isclass(value) else [])]))
    }
    assert awaiting == TWINS.keys()
