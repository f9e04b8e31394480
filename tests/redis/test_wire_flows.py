"""Trees of jobs on the wire: added as a whole or not at all, read, waited for and removed."""

from __future__ import annotations

import json
from itertools import count

import pytest

from supervisor.errors import InvalidJob, JobError, JobNotFound, JobNotInState, RedisRefused
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import NotAdded, ParentRef
from supervisor.protocol.commands.flow import (
    GROUPS,
    AddFlow,
    CountDependencies,
    GetDependencies,
    LeaveParent,
    RemoveChildren,
    RemoveFlow,
    ScanChildren,
    split_child_key,
)
from supervisor.protocol.commands.work import AwaitsChildren, Completed
from supervisor.protocol.flow_tree import FlowJob, Planner
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

PAGES = QueueKeys("pages")
ELSEWHERE = {"id": "B", "queue": "q"}
ONCE = {"id": "d"}


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


# --- a whole tree at once ----------------------------------------------------------------------------


def tree(**parts):
    return FlowJob(
        "book",
        {"b": 1},
        options={"job_id": "B"},
        children=[
            FlowJob("page", {"n": 1}, queue="pages", options={"job_id": "P1"}),
            FlowJob(
                "page", {"n": 2}, queue="pages", options={"job_id": "P2", "fail_parent_on_failure": True}
            ),
        ],
        **parts,
    )


def add_flow(wire, *trees, defaults=None):
    planner = Planner(wire.queue, wire.now_ms, defaults or {}, new_id=map(chr, count(ord("u"))).__next__)
    plans = [planner.plan(each) for each in trees]
    return wire.run(AddFlow([node for plan in plans for node in plan.nodes()], wire.now_ms))


def refused(wire, *trees, error=JobError):
    """The error, and that it left everything as it was."""
    before = dump(wire.raw)
    with pytest.raises(error) as caught:
        add_flow(wire, *trees)
    assert dump(wire.raw) == before
    return caught.value


def dump(raw):
    read = {b"hash": raw.hgetall, b"set": raw.smembers, b"string": raw.get, b"stream": raw.xrange}

    def value(key):
        kind = raw.type(key)
        return read[kind](key) if kind in read else raw.dump(key)

    return {key: value(key) for key in raw.scan_iter()}


def test_a_tree_is_there_as_a_whole(wire):
    add_flow(wire, tree())

    assert wire.raw.smembers("bull:paint:B:dependencies") == {b"bull:pages:P1", b"bull:pages:P2"}
    assert wire.raw.zscore(wire.queue.waiting_children, "B") == wire.now_ms
    assert wire.raw.exists(wire.queue.marker) == 0
    assert wire.ids(PAGES.wait) == ["P2", "P1"]
    assert wire.raw.zscore(PAGES.marker, "0") == 0
    assert [wire.raw.get(PAGES.id), wire.raw.get(wire.queue.id)] == [b"2", b"1"]
    child = wire.hash("P2", PAGES)
    assert child["parentKey"] == "bull:paint:B"
    assert json.loads(child["parent"]) == {"id": "B", "queueKey": "bull:paint", "fpof": True}
    assert json.loads(child["opts"]) == {
        "jobId": "P2", "attempts": 0, "fpof": True, "parent": {"id": "B", "queue": "bull:paint"},
    }  # fmt: skip
    assert wire.events() == [
        {"event": "added", "jobId": "B", "name": "book"},
        {"event": "waiting-children", "jobId": "B"},
    ]


def test_jobs_without_an_id_of_their_own_get_one_that_their_options_do_not_tell(wire):
    add_flow(wire, FlowJob("book", children=[FlowJob("page", None)]))

    assert wire.raw.smembers("bull:paint:u:dependencies") == {b"bull:paint:v"}
    assert "jobId" not in json.loads(wire.hash("u")["opts"])
    assert [wire.hash("u")["data"], wire.hash("v")["data"]] == ["{}", "null"]


def test_each_job_has_its_own_queue_prefix_options_and_the_defaults_of_its_queue(wire):
    leaf = FlowJob("leaf", queue="c", options={"delay_ms": 500, "attempts": 7})
    add_flow(
        wire,
        FlowJob("root", children=[FlowJob("mid", queue="b", prefix="{eu}", children=[leaf])]),
        defaults={"b": {"priority": 4}, "c": {"attempts": 2, "keep_logs": 5}},
    )

    assert wire.raw.smembers("bull:paint:u:dependencies") == {b"{eu}:b:v"}
    assert wire.raw.smembers("{eu}:b:v:dependencies") == {b"{eu}:c:w"}
    assert wire.raw.zscore("{eu}:b:waiting-children", "v") == wire.now_ms
    assert wire.raw.hget("{eu}:b:v", "priority") == b"4"
    assert json.loads(wire.raw.hget("{eu}:c:w", "opts"))["attempts"] == 7
    assert json.loads(wire.raw.hget("{eu}:c:w", "opts"))["kl"] == 5
    assert wire.raw.zscore("{eu}:c:delayed", "w") == (wire.now_ms + 500) * 4096
    assert wire.raw.zscore("{eu}:c:marker", "1") == wire.now_ms + 500


def test_many_trees_are_added_or_none(wire):
    add_flow(wire, tree(), FlowJob("other", options={"job_id": "O"}))
    assert wire.ids(wire.queue.wait) == ["O"]

    refused(wire, FlowJob("fine"), FlowJob("thief", children=tree().children))


def test_a_paused_queue_is_not_woken_by_a_tree(wire):
    wire.raw.hset(PAGES.meta, "paused", 1)

    add_flow(wire, tree())

    assert wire.raw.exists(PAGES.marker) == 0


def test_a_child_that_has_completed_before_counts_as_done(wire):
    """The parent is released at once, with its delay counting from now, and only when no child is left."""
    wire.raw.hset("bull:pages:P1", mapping={"name": "page", "returnvalue": "7"})
    wire.raw.zadd(PAGES.completed, {"P1": 1})
    done = FlowJob("page", queue="pages", options={"job_id": "P1"})

    add_flow(wire, FlowJob("one", options={"delay_ms": 900}, children=[done]))

    assert wire.raw.hgetall("bull:paint:u:processed") == {b"bull:pages:P1": b"7"}
    assert wire.raw.zscore(wire.queue.delayed, "u") == (wire.now_ms + 900) * 4096
    assert wire.hash("P1", PAGES)["parentKey"] == "bull:paint:u"
    assert wire.events(PAGES) == [{"event": "duplicated", "jobId": "P1"}]

    wire.raw.delete("bull:paint:u")  # so that P1 can have another parent
    add_flow(wire, FlowJob("two", options={"job_id": "T"}, children=[done, FlowJob("page", queue="pages")]))
    assert wire.ids(wire.queue.waiting_children) == ["T"]


def test_a_tree_can_hang_below_a_job_that_is_there(wire):
    job = running_parent(wire)
    add_flow(wire, FlowJob("sub", queue="pages", options={"parent": {"id": "B", "queue": "paint"}}))
    assert wire.raw.smembers("bull:paint:B:dependencies") == {b"bull:pages:u"}

    wire.exchange([AwaitsChildren("B", job.token)])
    add_child(wire, "late")
    assert wire.raw.scard("bull:paint:B:dependencies") == 2


def test_a_parent_that_is_not_there_is_refused_with_its_key(wire):
    error = refused(
        wire, FlowJob("sub", options={"parent": {"id": "gone", "queue": "eu:x"}}), error=JobNotFound
    )
    assert error.status == Code.NO_PARENT
    assert str(error) == "Missing key for parent job eu:x:gone. addFlow"


def test_a_child_of_another_parent_is_refused_and_nothing_waits_for_ever(wire):
    """BullMQ adds the new parent, which nobody will ever release."""
    add_flow(wire, tree())
    thief = FlowJob("thief", children=[FlowJob("page", queue="pages", options={"job_id": "P1"})])

    error = refused(wire, thief)

    assert error.status == Code.OTHER_PARENT
    assert str(error) == "The parent job bull:paint:u cannot be replaced. addFlow"
    wire.raw.delete("bull:paint:B")
    add_flow(wire, thief)
    assert wire.hash("P1", PAGES)["parentKey"] == "bull:paint:u"


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_a_parent_that_has_ended_takes_no_children(wire, state):
    wire.raw.hset("bull:paint:B", "name", "book")
    wire.raw.zadd(f"bull:paint:{state}", {"B": 1})

    error = refused(wire, tree(), error=JobNotInState)
    assert str(error) == "The parent job bull:paint:B has ended and takes no more children. addFlow"
    refused(wire, FlowJob("sub", options={"parent": {"id": "B", "queue": "paint"}}), error=JobNotInState)

    ref = ParentRef("bull:paint:B", b'{"id":"B","queueKey":"bull:paint"}')
    assert wire.add(wire.job(parent=ref)) == [NotAdded(Code.PARENT_ENDED)]


def test_an_add_that_is_sent_again_finds_its_job_though_the_parent_has_ended_meanwhile(wire):
    job = running_parent(wire)
    add_child(wire)
    wire.raw.delete("bull:paint:B:dependencies")
    wire.exchange([Completed("B", job.token, b"1", KEEP_ALL)])

    add_child(wire)


def test_jobs_that_would_wait_for_themselves_are_refused(wire):
    twice = FlowJob("a", options={"job_id": "A"})
    with pytest.raises(InvalidJob, match="stands twice"):
        add_flow(wire, FlowJob("a", children=[FlowJob("b", children=[twice])], options={"job_id": "A"}))
    endless = FlowJob("a", children=[])
    endless.children.append(endless)
    with pytest.raises(InvalidJob, match="its own child"):
        add_flow(wire, endless)

    # A waits for nobody yet and is below D; now D shall wait for A.
    wire.raw.hset("bull:paint:D", "name", "d")
    wire.raw.hset("bull:paint:A", mapping={"name": "a", "parentKey": "bull:paint:D"})
    below = FlowJob("b", children=[FlowJob("d", options={"job_id": "D"})])
    error = refused(wire, FlowJob("a", options={"job_id": "A"}, children=[below]))
    assert error.status == Code.CYCLE

    ref = ParentRef("bull:paint:A", b'{"id":"A","queueKey":"bull:paint"}')
    assert wire.add(wire.job(job_id="D", parent=ref)) == [NotAdded(Code.CYCLE)]


@pytest.mark.parametrize("key", ["bull:pages:wait", "bull:paint:waiting-children", "bull:pages:P2"])
def test_a_key_of_another_type_is_named_and_nothing_is_added(wire, key):
    wire.raw.set(key, "text")

    assert f"{key} is a string" in str(refused(wire, tree(), error=RedisRefused))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"name": "x"}, "FlowJobs, not dict"),
        (FlowJob("x", options=[]), "mapping, not list"),
        (FlowJob("x", children="abc"), "list, not str"),
        (FlowJob("x", queue=5), "queue of job 'x' is text"),
        (FlowJob(5), "name of a job is text"),
        (FlowJob("\ud800"), "half of a surrogate pair"),
        (FlowJob("x", queue="\ud800"), "half of a surrogate pair"),
        (FlowJob("x", prefix="\ud800"), "half of a surrogate pair"),
        (FlowJob("x", options={"parent": {"id": "\ud800", "queue": "q"}}), "half of a surrogate pair"),
        (FlowJob("x", options={"job_id": "7"}), "cannot be integers"),
        (FlowJob("x", {"n": float("nan")}), "NaN"),
        (FlowJob("x", options={"parent": "B"}), "parent is a job"),
        (FlowJob("x", children=[FlowJob("y", options={"parent": ELSEWHERE})]), "another parent"),
        (FlowJob("x", options={"deduplication": ONCE}, children=[FlowJob("y")]), "Deduplication options"),
        (FlowJob("x", children=[FlowJob("y", options={"deduplication": ONCE})]), "is a child in its flow"),
        (
            FlowJob("x", options={"fail_parent_on_failure": True, "continue_parent_on_failure": True}),
            "failParentOnFailure, continueParentOnFailure",
        ),
    ],
)  # fmt: skip
def test_a_tree_that_cannot_be_is_refused_before_anything_is_sent(wire, bad, told):
    assert told in str(refused(wire, bad, error=InvalidJob))


# --- who leaves ------------------------------------------------------------------------------------------


def test_a_child_leaves_its_parent_and_the_last_one_releases_it(wire):
    add_flow(wire, tree())

    assert wire.run(LeaveParent(PAGES, "P1")) is True
    assert wire.ids(wire.queue.waiting_children) == ["B"]
    assert "parent" not in wire.hash("P1", PAGES) and "parentKey" not in wire.hash("P1", PAGES)
    assert wire.run(LeaveParent(PAGES, "P2")) is True
    assert wire.ids(wire.queue.wait) == ["B"]


def test_a_child_that_has_ended_cannot_leave(wire):
    add_flow(wire, tree())
    wire.raw.srem("bull:paint:B:dependencies", "bull:pages:P1")

    assert wire.run(LeaveParent(PAGES, "P1")) is False
    assert wire.hash("P1", PAGES)["parentKey"] == "bull:paint:B"


@pytest.mark.parametrize(("job_id", "code"), [("nobody", Code.NO_JOB), ("B", Code.NO_PARENT)])
def test_who_has_no_parent_cannot_leave_it(wire, job_id, code):
    add_flow(wire, tree())
    with pytest.raises(JobNotFound) as caught:
        wire.run(LeaveParent(wire.queue, job_id))
    assert caught.value.status == code


def test_unprocessed_children_are_removed_with_theirs_but_for_active_and_failed_ones(wire):
    leaf = FlowJob("leaf", queue="leaves", options={"job_id": "L"})
    kids = [
        FlowJob("page", queue="pages", options={"job_id": job_id}, children=[leaf] if job_id == "m" else [])
        for job_id in ("act", "bad", "wai", "m", "a:b:c")
    ]
    add_flow(wire, FlowJob("book", options={"job_id": "B"}, children=kids))
    wire.raw.set("bull:pages:act:lock", "t")
    wire.raw.lrem(PAGES.wait, 0, "bad")
    wire.raw.zadd(PAGES.failed, {"bad": 1})

    wire.run(RemoveChildren(wire.queue, "B"))

    assert wire.raw.smembers("bull:paint:B:dependencies") == {b"bull:pages:act", b"bull:pages:bad"}
    assert wire.raw.exists("bull:pages:wai", "bull:pages:m", "bull:leaves:L", "bull:pages:a:b:c") == 0
    assert wire.raw.exists(PAGES.waiting_children) == 0
    removed = {event["jobId"]: event["prev"] for event in wire.events(PAGES) if event["event"] == "removed"}
    assert removed == {"wai": "wait", "m": "wait", "a:b:c": "wait"}
    with pytest.raises(JobNotFound):
        wire.run(RemoveChildren(wire.queue, "nobody"))


def test_a_flow_is_removed_with_all_below_it_unless_a_worker_holds_one(wire):
    leaf = FlowJob("leaf", queue="leaves", options={"job_id": "L"})
    add_flow(
        wire,
        FlowJob("book", options={"job_id": "B"}, children=[FlowJob("mid", queue="pages", children=[leaf])]),
    )
    wire.raw.set("bull:leaves:L:lock", "t")
    before = dump(wire.raw)
    assert wire.run(RemoveFlow(wire.queue, "B")) is False
    assert dump(wire.raw) == before

    wire.raw.delete("bull:leaves:L:lock")
    assert wire.run(RemoveFlow(wire.queue, "B")) is True

    left = {key.decode() for key in wire.raw.scan_iter()}
    assert {key for key in left if not key.endswith((":id", ":meta", ":events", ":marker"))} == set()
    assert wire.run(RemoveFlow(wire.queue, "B")) is True  # nobody there


def test_a_finished_child_is_removed_with_its_flow_unless_it_is_another_jobs_by_now(wire):
    add_flow(wire, tree())
    for job_id in ("P1", "P2"):
        wire.raw.lrem(PAGES.wait, 0, job_id)
        wire.raw.zadd(PAGES.completed, {job_id: 1})
        wire.raw.smove("bull:paint:B:dependencies", "unused", f"bull:pages:{job_id}")
        wire.raw.hset("bull:paint:B:processed", f"bull:pages:{job_id}", "1")
    wire.raw.hset("bull:pages:P2", "parentKey", "bull:other:O")

    wire.run(RemoveFlow(wire.queue, "B"))

    assert wire.ids(PAGES.completed) == ["P2"]
    assert wire.raw.exists("bull:pages:P1", "bull:paint:B", "bull:paint:B:processed") == 0


# --- reading -------------------------------------------------------------------------------------------


def test_children_come_in_pages_that_cover_each_group_once(wire):
    """BullMQ asks for a range that ends before it begins on the second page of the failed ones."""
    key = "bull:paint:B"
    for n in range(1_000):
        wire.raw.hset(f"{key}:processed", f"bull:c:{n}", n)
        wire.raw.sadd(f"{key}:dependencies", f"bull:c:{n}")
        wire.raw.hset(f"{key}:failed", f"bull:c:{n}", f"why {n}")
        wire.raw.zadd(f"{key}:unsuccessful", {f"bull:c:{n}": n})

    for group in GROUPS:
        seen, cursor, pages = {}, 0, 0
        while pages == 0 or cursor:
            page = wire.run(ScanChildren(wire.queue, "B", group, cursor, 100))
            cursor, pages = page.cursor, pages + 1
            seen |= page.items
        assert len(seen) == 1_000 and pages > 3, group
    assert wire.run(ScanChildren(wire.queue, "B", "failed", 900, 100)).cursor == 0
    assert wire.run(CountDependencies(wire.queue, "B")) == {
        "processed": 1_000, "unprocessed": 1_000, "ignored": 1_000, "failed": 1_000,
    }  # fmt: skip


def test_a_childs_result_that_is_not_json_is_shown_as_it_is(wire):
    wire.raw.hset("bull:paint:B:processed", "bull:c:1", "{broken")

    assert wire.run(GetDependencies(wire.queue, "B")).processed == {"bull:c:1": "{broken"}


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("bull:q:1", ("bull", "q", "1")),
        ("bull:q:a:b:c", ("bull", "q", "a:b:c")),
        ("bull:eu:q:1", ("bull:eu", "q", "1")),
        ("{x}:q:1", ("{x}", "q", "1")),
        ("nonsense", ("", "", "nonsense")),
    ],
)
def test_a_childs_key_is_taken_apart(key, parts):
    assert split_child_key(key, QueueKeys("paint")) == parts
