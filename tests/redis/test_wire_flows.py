"""Trees of jobs on the wire: added as a whole or not at all, read, waited for and removed."""

from __future__ import annotations

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.commands.work import AwaitsChildren, Completed
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

PAGES = QueueKeys("pages")


def running_parent(wire, **parts):
    wire.add(wire.job("book", job_id="B", **parts))
    (job,) = wire.fetch()
    return job


def add_child(wire, job_id="C"):
    """In its own queue, so that the parent's has nothing else to fetch."""
    ref = ParentRef(wire.queue.job("B"), b'{"id":"B","queueKey":"bull:paint"}')
    here, wire.queue = wire.queue, PAGES
    assert wire.add(wire.job("page", job_id=job_id, parent=ref)) == [job_id]
    wire.queue = here


# --- a running job waits for its children ------------------------------------------------------------


def test_a_running_job_waits_for_its_children_and_no_attempt_is_counted(wire):
    job = running_parent(wire)
    add_child(wire)
    wire.forget_events()

    done = wire.exchange([AwaitsChildren("B", job.token)])

    assert [written.code for written in done.written] == [Code.DONE]
    assert wire.raw.zscore(wire.queue.waiting_children, "B") == wire.now_ms
    assert wire.events() == [{"event": "waiting-children", "jobId": "B", "prev": "active"}]
    assert wire.raw.exists(wire.queue.active, wire.queue.lock("B")) == 0
    assert "atm" not in wire.hash("B") and wire.hash("B")["ats"] == "1"


def test_it_runs_again_when_its_last_child_is_done(wire):
    job = running_parent(wire)
    add_child(wire)
    wire.exchange([AwaitsChildren("B", job.token)])
    here, wire.queue = wire.queue, PAGES
    (child,) = wire.fetch()
    wire.exchange([Completed("C", child.token, b"7", KEEP_ALL)])
    wire.queue = here

    (again,) = wire.fetch()

    assert (again.id, again.attempts_made, again.attempts_started) == ("B", 0, 2)


def test_with_no_child_pending_it_is_the_next_to_run(wire):
    job = running_parent(wire)
    wire.add(wire.job("other"))
    wire.forget_events()

    (again,) = wire.exchange([AwaitsChildren("B", job.token)], count=1).jobs

    assert again.id == "B"
    assert wire.events()[0] == {"event": "waiting", "jobId": "B", "prev": "active"}
    assert wire.raw.exists(wire.queue.waiting_children) == 0


def test_with_a_priority_and_no_child_pending_it_is_the_first_of_its_priority_and_wakes_somebody(wire):
    job = running_parent(wire, priority=3)
    wire.raw.delete(wire.queue.marker)

    wire.exchange([AwaitsChildren("B", job.token)])

    assert wire.raw.zscore(wire.queue.prioritized, "B") == 3 * 2**32
    assert wire.markers() == {"0": 0}


def test_a_job_with_a_failed_child_does_not_wait(wire):
    job = running_parent(wire)
    add_child(wire)
    wire.raw.zadd(wire.queue.job("B") + ":unsuccessful", {"bull:pages:X": 1})

    done = wire.exchange([AwaitsChildren("B", job.token)])

    assert [written.code for written in done.written] == [Code.FAILED_CHILDREN]
    assert wire.ids(wire.queue.active) == ["B"]
    assert wire.raw.get(wire.queue.lock("B")) == job.token.encode()


@pytest.mark.parametrize(("token", "code"), [("other", Code.OTHER_LOCK), (None, Code.NO_LOCK)])
def test_who_does_not_hold_the_lock_moves_nothing_to_its_children(wire, token, code):
    """I3."""
    job = running_parent(wire)
    add_child(wire)
    if token is None:
        wire.raw.delete(wire.queue.lock("B"))
    else:
        wire.raw.set(wire.queue.lock("B"), token)

    done = wire.exchange([AwaitsChildren("B", job.token)])

    assert [written.code for written in done.written] == [code]
    assert wire.ids(wire.queue.active) == ["B"]
    assert wire.raw.exists(wire.queue.waiting_children) == 0


def test_a_key_of_another_type_is_named_and_the_job_stays_active(wire):
    job = running_parent(wire)
    add_child(wire)
    wire.raw.set(wire.queue.waiting_children, "text")

    (written,) = wire.exchange([AwaitsChildren("B", job.token)]).written

    assert written.code == Code.GUILTY and "waiting-children is a string" in written.text
    assert wire.ids(wire.queue.active) == ["B"]
