"""The template's rehearsal: it goes all the way, and leaves nothing."""

from __future__ import annotations

import os
import signal

import pytest

from sandbox import rehearsal, wire
from sandbox.isolation import Inherited
from sandbox.policy import Policy
from sandbox.runner import birth_of
from sandbox.wire import Kind


@pytest.fixture
def titles():
    return []


@pytest.fixture
def birth(titles):
    return birth_of(
        Policy(profile="none"),
        Inherited(layers=[]),
        kept_fds=frozenset(),
        master_pid=os.getpid(),
        load=list,
        identity="some",
        set_title=titles.append,
    )


def test_it_goes_from_go_to_the_outcome(birth):
    """Else the runners would pay for the rest without anybody noticing."""
    said = bytearray(rehearsal._live(birth))
    allowed = frozenset({Kind.READY, Kind.COMPLETED})

    assert wire.take_frame(said, allowed)[0] is Kind.READY
    assert wire.take_frame(said, allowed)[:2] == (Kind.COMPLETED, b"null")
    assert not said


def test_it_leaves_nothing_of_the_users_import_changed(birth, titles):
    """An alarm, what a signal does, the descriptors, the title."""
    before = (
        os.listdir("/proc/self/fd"),
        [signal.getsignal(each) for each in (signal.SIGUSR2, signal.SIGALRM)],
    )
    signal.setitimer(signal.ITIMER_REAL, 1_000)
    try:
        rehearsal.rehearse(birth)
        left_s, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

    assert 0 < left_s <= 1_000
    assert before == (
        os.listdir("/proc/self/fd"),
        [signal.getsignal(each) for each in (signal.SIGUSR2, signal.SIGALRM)],
    )
    assert titles == []


def test_where_no_socket_can_be_made_it_is_left_out(birth, monkeypatch):
    def refused():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(rehearsal.socket, "socketpair", refused)

    rehearsal.rehearse(birth)
