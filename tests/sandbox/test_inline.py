"""`--inline`: the same outcomes, in this very process."""

from __future__ import annotations

import json
import sys

import pytest
from small_master import PROCESSORS

from sandbox import processors
from sandbox.errors import AskFailed, LoadError
from sandbox.inline import Inline, Listening
from sandbox.policy import Policy
from sandbox.wire import Kind


@pytest.fixture
def load(monkeypatch):
    monkeypatch.chdir(PROCESSORS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    made = []

    def load(*targets):
        made.append(Inline(targets, Policy()))
        return made[-1]

    yield load
    for each in made:
        each.close()
    processors.forget_all()
    for name in set(sys.modules) - before:
        if str(PROCESSORS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def heard():
    return []


@pytest.fixture
def listening(heard):
    def refuse(what, arguments):
        raise AskFailed(f"{what} is not there")

    return Listening(
        on_progress=lambda body: heard.append(("progress", body)),
        on_log=lambda text: heard.append(("log", text)),
        on_data=lambda body: heard.append(("data", body)),
        on_ask=refuse,
        why_cancelled=lambda: "cancelled by ann",
    )


def meta(name, queue="work", **more):
    return {"id": "17", "name": name, "queue": queue, **more}


def test_a_job_is_run_here_and_what_it_says_is_heard(load, listening, heard):
    inline = load(("simple", None))

    assert inline.run(meta("until_cancelled"), b"null", listening) == (Kind.COMPLETED, b'"cancelled"', False)
    assert heard == [("log", b"waiting")]


def test_a_failure_and_a_question_that_is_refused_are_judged_as_in_a_runner(load, listening):
    kind, body, _ = load(("simple", None)).run(meta("calls"), b"{}", listening)

    assert kind is Kind.FAILED
    assert json.loads(body)["reason"] == "children_values is not there"


def test_ctrl_c_is_the_persons_and_not_the_jobs(load, listening):
    inline = load(("simple", None))

    with pytest.raises(KeyboardInterrupt):
        inline.run(meta("raise_class"), b'"KeyboardInterrupt"', listening)


def test_coroutines_work_here_too(load, listening):
    assert load(("coroutines", None)).run(meta("echo"), b"[1]", listening) == (Kind.COMPLETED, b"[1]", False)


def test_a_target_that_cannot_be_is_a_load_error(load):
    with pytest.raises(LoadError, match="did you mean simple"):
        load(("simpel", None))
