"""Bad input for every public function of the clients: a sentence that helps, soon, and Redis as it was.

What there is to call is found by looking, so a function or a parameter that comes new fails here until the
tables below say what may be given to it.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import pkgutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from bad_values import (
    BELOW,
    DATA,
    FLAG,
    HALF,
    HUGE,
    JOB_ID,
    MEGABYTE,
    NO_NUMBERS,
    NO_TEXTS,
    NUL,
    ODD_TEXTS,
    STATE,
    TEXT,
    Kind,
    circle,
    deep,
    judged,
    shown,
    whole,
)
from keyspace import Keyspace, difference, keyspace, put_back

import supervisor.blocking
import supervisor.client
import supervisor.client.listening
import supervisor.client.listening_blocking
from supervisor.client import Deduplication, FlowJob, KeepJobs, Queue
from supervisor.client.alerts import Thresholds
from supervisor.client.edit import add_log, change_delay
from supervisor.client.schedulers import Schedule, Scheduler, every, upsert_scheduler
from supervisor.protocol.new_job import AddOptions

SLOWEST_S = 3.0
NOW = time.time_ns() // 1_000_000

# Modules whose functions are given what we made ourselves.
OUR_OWN = {
    "core": "the operations behind `Queue`",
    "job": "records of what was read",
    "prometheus": "the text behind `getters.prometheus`",
    "where": "what environment and config say; see test_client_where.py",
    "blocking": "the twin of queue",
    "listening_blocking": "the twin of listening",
}
OUR_OWN_NAMES = {
    "alerts.oldest_due_on": "steps of `alerts`",
    "listen.result": "behind `Queue.result`",
    "listen.first_place": "behind `Queue.events`",
    "listen.next_events": "behind `Queue.events`",
    "queue.epoch_ms": "a clock",
}
RECORDS = {"NextRun", "Scheduler", "Flow", "Dependencies", "ChildrenPage", "Job"}  # made by us, read by users
# Checked where they are given to something; their parts stand in the tables as values of that.
CHECKED_LATER = {
    "every",
    "by_cron",
    "FlowJob",
    "JobSpec",
    "KeepJobs",
    "AddOptions",
    "Schedule",
    "Thresholds",
    "Alert",
}
PLAIN = {"job_id": "1", "queue": "work"}

LIMIT = whole(1, "limit", none=True)
PLACE = whole(None, "start", "end")
BAD_OPTIONS = Kind(
    [
        *(None, True, 7, "delay_ms", [], object()),
        {"delay": 5},
        {7: 8},
        {HALF: 1},
        {"delay_ms": "soon"},
        {"": 1},
    ],
    fine=[{}, {"attempts": 3}],
    words=["option", "delay", "job_id", "priority"],
)
NO_OPTIONS = replace(BAD_OPTIONS, bad=BAD_OPTIONS.bad[1:], fine=[*BAD_OPTIONS.fine, None])
KEEP = Kind(
    [
        *("all", 1.5, math.nan, [], {}, {"counts": 1}, {7: 7}, object(), -2, 2**64, 10**5000, {"count": "1"}),
        *(KeepJobs(), KeepJobs(count=1.5), KeepJobs(age_s=-1), KeepJobs(limit="x"), KeepJobs(count=2**64)),
    ],
    fine=[None, True, False, 0, 5, -1, {"count": 1}, KeepJobs(count=1, age_s=2, limit=3)],
    words=["remove_on"],
)
FLOW = Kind(
    [
        *(None, True, 7, "a", [], {}, {"name": "a"}, object(), ("a", {})),
        *(FlowJob(name) for name in (None, 7, b"a", [], HALF)),
        *(FlowJob("a", value) for value in (object(), math.nan, deep(10_000), circle())),
        *(FlowJob("a", queue=name) for name in ("", "a:b", 7, HALF, b"q", [])),
        *(FlowJob("a", prefix=name) for name in (7, HALF, b"q", [])),
        *(
            FlowJob("a", options=value)
            for value in (None, 7, "a", [], {"dealy_ms": 5}, {7: 7}, {"delay_ms": -1})
        ),
        *(FlowJob("a", options={"deduplication": value}) for value in ("x", {"id": 7})),
        *(
            FlowJob("a", children=value)
            for value in (None, 7, "ab", {}, {"a": 1}, [None], ["a"], [[]], object())
        ),
        FlowJob("a", children=[FlowJob("b", options={"job_id": "x"})] * 2),
        FlowJob("a", children=[FlowJob("b", options={"parent": {"id": "1", "queue": "work"}})]),
    ],
    fine=[FlowJob(MEGABYTE), FlowJob(NUL), FlowJob("", children=[FlowJob("b", queue="o{t}her")])],
)


def tower(levels: int) -> FlowJob:
    job = FlowJob("a")
    for _ in range(levels):
        job = FlowJob("a", children=[job])
    return job


def own_child() -> FlowJob:
    children: list[FlowJob] = []
    job = FlowJob("a", children=children)
    children.append(job)
    return job


FLOW = replace(FLOW, bad=[*FLOW.bad, tower(500), own_child()])
SCHEDULE = Kind(
    [
        *(
            None,
            True,
            60_000,
            "* * * * *",
            {},
            object(),
            Schedule(),
            Schedule(every_ms=1, pattern="* * * * *"),
        ),
        *(Schedule(every_ms=value) for value in (*NO_NUMBERS, *BELOW, 0, 2**53, 10**5000)),
        *(Schedule(pattern=value) for value in (7, b"* * * * *", [], " ", HALF, NUL, "99 * * * *", "x" * 99)),
        *(
            Schedule(pattern="* * * * *", tz=value)
            for value in (7, "", "Mars", "../etc", NUL, HALF, [], MEGABYTE)
        ),
        *(Schedule(every_ms=9, limit=value) for value in (*NO_NUMBERS, *BELOW, 0, 2**64)),
        *(Schedule(every_ms=9, offset_ms=value) for value in (*NO_NUMBERS, *BELOW, 9, 2**64)),
        *(Schedule(every_ms=9, start_on=value) for value in (*NO_NUMBERS, *BELOW, *HUGE[1:])),
        *(Schedule(every_ms=9, end_on=value) for value in (*NO_NUMBERS, *BELOW, *HUGE[1:], 5)),
        *(Schedule(pattern="* * * * *", immediately=value) for value in (None, 1, "yes", [])),
        Schedule(pattern="* " * 500_000),
    ],
    fine=[every(5), Schedule(pattern="@daily", tz="Asia/Kolkata"), Schedule(pattern=MEGABYTE)],
)
SCHEDULE = replace(SCHEDULE, bad=[*SCHEDULE.bad, *SCHEDULE.fine[2:]], fine=SCHEDULE.fine[:2])

# What may be given to a parameter, by its name; then where one function differs.
KINDS: dict[str, Kind] = {
    "job_id": JOB_ID,
    "job": replace(JOB_ID, bad=[*JOB_ID.bad, every(5)]),
    "state": STATE,
    "letter_id": JOB_ID,
    "to": Kind([*NO_TEXTS[1:], "", "a:b", HALF], fine=[None], words=["queue"]),
    "states": STATE,
    "outcome": replace(STATE, bad=[*STATE.bad, "active"], words=["metrics"]),
    "group": replace(STATE, words=["group"]),
    "name": replace(TEXT, words=["name"]),
    "data": DATA,
    "progress": replace(DATA, words=[*DATA.words, "progress"]),
    "reason": Kind([*NO_TEXTS, HALF], fine=[*ODD_TEXTS, ""], words=["reason"]),
    "by": Kind([*NO_TEXTS[1:], HALF], fine=[*ODD_TEXTS, "", None], words=["by"]),
    "row": replace(TEXT, words=["row", "log"], bad=NO_TEXTS, fine=[*ODD_TEXTS, "", HALF]),
    "limit": LIMIT,
    "start": PLACE,
    "end": PLACE,
    "delay_ms": whole(0, "delay_ms", "delay is"),
    "duration_ms": whole(1, "duration_ms"),
    "grace_ms": whole(0, "grace_ms"),
    "hold_ms": whole(1, "hold_ms"),
    "timeout_ms": replace(whole(0, "timeout_ms", none=True), fine=[0, 1]),
    "before_on": whole(0, "before_on", none=True),
    "due_on": whole(0, "due_on"),
    "priority": whole(0, "priority"),
    "priorities": whole(0, "priority"),
    "most": whole(1, "global", none=True),
    "max_events": whole(0, "max_events"),
    "max_jobs": whole(1, "max_jobs", none=True),
    "max_waiting": whole(0, "max_waiting", none=True),
    "max_children": whole(1, "max_children"),
    "depth": whole(1, "depth"),
    "count": whole(1, "count"),
    "keep": whole(0, "keep"),
    "cursor": Kind(whole(0).bad, fine=[0, 2**63, 7], words=["cursor"]).but(*HUGE[:2]),
    **dict.fromkeys(
        ("newest_first", "latest_first", "lifo", "reset_attempts", "reset_started", "delayed", "force"), FLAG
    ),
    "cursors": Kind(
        [*(True, 7, "ab", ["processed"], object()), {"all": 0}, {7: 0}, {"failed": -1}, {"failed": "0"}],
        fine=[None, {}, {"failed": 5}],
        words=["cursor", "group"],
    ),
    "labels": Kind(
        [*(True, 7, "a", ["a"], object()), {7: "a"}, {"": "a"}, {"queue": "a"}, {"a b": "a"}, {HALF: "a"}],
        fine=[None, {}, {"a": NUL}, {"a": HALF}, {"a": 7}],
        words=["label"],
    ),
    "thresholds": Kind(
        [
            *(None, True, 7, "a", {}, object()),
            *(Thresholds(max_waiting=value) for value in (*NO_NUMBERS, *BELOW)),
            *(Thresholds(max_age_ms=value) for value in (*NO_NUMBERS, *BELOW)),
            *(Thresholds(max_failed_share=value) for value in (True, "1", math.nan, -1, 1.5, [], 10**400)),
        ],
        fine=[Thresholds(), Thresholds(0, 0.0, 0)],
        words=["Thresholds", "max_"],
    ),
    "deduplication_id": replace(TEXT, bad=[*TEXT.bad, ""], words=["deduplication id"]),
    "scheduler_id": replace(TEXT, bad=[*TEXT.bad, ""], words=["id of a scheduler"]),
    "schedule": SCHEDULE,
    "options": NO_OPTIONS,
    "defaults": NO_OPTIONS,
    "tree": FLOW,
    "trees": Kind(
        [None, True, 7, "ab", {}, {"a": 1}, object(), FlowJob("a"), *([value] for value in FLOW.bad)],
        fine=[[], (), iter([]), *([value] for value in FLOW.fine)],
    ),
    "jobs": Kind(
        [
            *(None, True, 7, "ab", {}, {"ab": 1}, object(), [None], ["ab"], [()], [("a",)], [("a", 1, 2)]),
            *([("a", 1, {}, 5)], [("a", {}, {"dealy_ms": 5})], [("a", {}, {7: 7})], [(7, {})], [(HALF, {})]),
            *(
                [("a", object())],
                [("a", deep(10_000))],
                [("a", {}), ("b", math.nan)],
                [{"name": "a", "data": 1}],
            ),
        ],
        fine=[[], (), iter([]), [("a", {}, None)], [(NUL, {})], [["a", {}]]],
    ),
    "values": Kind(
        [
            *(True, 7, "ab", ["a"], object(), {7: "a"}, {HALF: "a"}, {"a": HALF}, {"a": object()}),
            *({"a": math.nan}, {"event": "x"}, {"a": deep(10_000)}, {f"v{n}": "" for n in range(2_000)}),
        ],
        fine=[None, {}, {"a": None}, {"": ""}, {NUL: NUL}, {"a": MEGABYTE}],
        words=["value", "values"],
    ),
    "since": Kind(
        [*NO_TEXTS[1:], "", "x", "1-", "-1", "1-2-3", "$", "+", NUL, HALF, MEGABYTE, "9" * 30, f"{2**64}-0"],
        fine=["0-0", "0", "5-5"],
        words=["event"],
    ),
    "queue": Kind([*NO_TEXTS, "", "a:b", HALF], words=["queue"]),
    "url": Kind(
        [
            *NO_TEXTS[1:],
            "",
            " ",
            "localhost",
            "http://localhost",
            "unix://",
            "redis://h:99999",
            HALF,
            NUL,
            "redis://[",
        ],
        words=["url", "redis", "address"],
    ),
    "redis": Kind([True, 7, "redis://", b"", [], {}, object()], fine=[None], words=["redis"]),
    "prefix": Kind([*NO_TEXTS[1:], "", HALF], fine=[*ODD_TEXTS, "a:b"], words=["prefix"]),
    "clock": Kind([None, True, 7, "now", [], object()], words=["clock"]),
    "action": Kind(
        [
            *(None, True, 7, "drain", object(), [], print, drain := lambda: None, change_delay, add_log),
            *(lambda context: None, lambda context: 7, lambda context: iter([1])),
        ],
        words=["action"],
    ),
    "scheduler": Kind([None, True, 7, "nightly", {}, object()], words=["scheduler"]),
    # --- the options of a job, and what makes them ---
    "job_id:option": Kind(
        [*NO_TEXTS[1:], "0", "0:1", "7", "-7", "NaN", "a:b", "wait", "meta", HALF],
        fine=["own", " ", None, "", "a:b:c", NUL, BRACES_ID := "{a}", MEGABYTE],
        words=["job_id", "JobId", "Custom Id"],
    ),
    "attempts": whole(0, "attempts", none=True),
    "backoff": Kind(
        [
            *(
                True,
                "1",
                1.5,
                math.nan,
                [],
                {},
                object(),
                *BELOW,
                2**64,
                10**5000,
                {"kind": 7},
                {"type": "fixed"},
            ),
            *(
                {"kind": "fixed", "delay_ms": "1"},
                {7: 7},
                {"kind": "fixed", "jitter": math.nan},
                {"kind": HALF},
            ),
        ],
        fine=[None, 0, 5, {"kind": "mine"}],
        words=["backoff", "jitter"],
    ),
    **{name: whole(0, name, none=True) for name in ("keep_logs", "stack_trace_limit", "timestamp")},
    "timeout_ms:option": whole(0, "timeout_ms", none=True),
    "size_limit": whole(0, "size_limit", none=True),
    "delay_ms:option": whole(0, "delay_ms", none=True),
    "priority:option": whole(0, "priority", none=True),
    "lifo:option": Kind(NO_FLAGS_BUT_NONE := FLAG.bad[1:], fine=[None, True], words=["lifo"]),
    "remove_on_complete": KEEP,
    "remove_on_fail": KEEP,
    "deduplication": Kind(
        [
            *(True, 7, "a", [], {}, object(), {"id": ""}, {"id": 7}, {"id": HALF}, {"ids": "a"}, {7: 7}),
            *({"id": "a", "ttl_ms": value} for value in (*NO_NUMBERS, *BELOW, 2**64, 10**5000)),
            *({"id": "a", "extend": value} for value in (None, 1, "yes")),
        ],
        fine=[None, {"id": NUL}, {"id": MEGABYTE}, Deduplication("a", ttl_ms=5)],
        words=["deduplication"],
    ),
    "parent": Kind(
        [
            *(
                True,
                7,
                "1",
                [],
                {},
                object(),
                {"id": "1"},
                {"id": 1, "queue": "work"},
                {"id": "", "queue": "work"},
            ),
            *({"id": "1", "queue": value} for value in ("", 7, None, HALF, "bull:")),
            *({"id": value, "queue": "work"} for value in ("gone", HALF, "wait", "meta")),
        ],
        fine=[None],
        words=["parent", "queue"],
    ),
    **{
        name: Kind(NO_FLAGS_BUT_NONE, fine=[None, False, True], words=[name])
        for name in (
            "fail_parent_on_failure",
            "continue_parent_on_failure",
            "ignore_dependency_on_failure",
            "remove_dependency_on_failure",
        )
    },
    "id": replace(TEXT, bad=[*TEXT.bad, ""], words=["deduplication id"]),
    **dict.fromkeys(("extend", "replace", "keep_last_if_active", "reschedule"), FLAG),
    "items": Kind(
        [*(None, True, 7, "ab", {}, object(), circle()), [object()], [deep(10_000)], [1, math.nan]],
        fine=[[], iter([1]), [None, NUL, HALF]],
        words=["items", "data"],
    ),
    "collect": Kind(
        [
            *(None, True, 7, [], {}, object(), HALF, FlowJob("c", children=[FlowJob("d")]), FlowJob(7)),
            *(FlowJob("c", options={"job_id": "x"}), FlowJob("c", options=7), FlowJob("c", object())),
        ],
        fine=["", NUL, MEGABYTE, FlowJob("c")],
        words=["collect", "flow", "job"],
    ),
    "chunk": whole(1, "chunk", none=True),
    "on_failure": Kind([*NO_TEXTS, "", HALF, "ignore", MEGABYTE], words=["on_failure"]),
    "batch_id": Kind([*NO_TEXTS[1:], "", HALF, "7", "a:b", "wait"], fine=[None, "b"], words=["batch", "id"]),
    "kind": replace(TEXT, bad=[*TEXT.bad, ""], words=["kind"]),
    "jitter": Kind(
        [True, None, "0", math.nan, math.inf, -1, 1.5, [], 10**400], fine=[0, 0.5, 1], words=["jitter"]
    ),
    "ttl_ms": whole(0, "ttl_ms", none=True),
}

# Where a parameter of one function is not like the others of its name.
KINDS_OF: dict[str, Kind] = {
    "edit.change_priority.priority": KINDS["priority"],
    "edit.retry.state": replace(STATE, bad=[*STATE.bad, "waiting"], words=["only"]),
    "manage.retry_all.state": replace(STATE, bad=[*STATE.bad, "waiting"], words=["only"]),
    "Queue.retry.state": replace(STATE, bad=[*STATE.bad, "waiting"], words=["only"]),
    "listen.publish.name": replace(
        TEXT, bad=[*TEXT.bad, "", "completed", "ox:gap"], words=["name of an event"]
    ),
    "listen.publish.max_events": whole(1, "max_events", none=True),
    "listening.listen.queue": KINDS["queue"],
    "schedulers.upsert_scheduler.name": replace(
        TEXT, bad=TEXT.bad[1:], fine=[*ODD_TEXTS, None, ""], words=["name"]
    ),
    "schedulers.upsert_scheduler.options": replace(
        NO_OPTIONS, bad=[*NO_OPTIONS.bad, {"delay_ms": 5}, {"job_id": "own"}, {"priority": -1}]
    ),
    "manage.remove_deduplication.job_id": replace(JOB_ID, bad=JOB_ID.bad[1:], fine=[None]),
    "flows.add.defaults": Kind(
        [
            *(True, 7, "a", ["a"], object()),
            {7: {}},
            {"work": 7},
            {"work": {"job_id": "x"}},
            {"work": {"dealy": 1}},
        ],
        fine=[None, {}, {"a:b": {}}, {"work": None}],
        words=["defaults", "option", "default"],
    ),
    "Queue.__init__.name": replace(KINDS["queue"], fine=[*ODD_TEXTS, "träge"], words=["name"]),
    "Queue.__init__.defaults": replace(NO_OPTIONS, bad=[*NO_OPTIONS.bad, {"job_id": "x"}]),
    "Queue.add.name": KINDS["name"],
}
KINDS_OF["flows.add_bulk.defaults"] = KINDS_OF["flows.add.defaults"]

SEEDED = Scheduler(id="nightly", every_ms=5, next_on=NOW)
# What each function is given but for the parameter in question.
CALLS: dict[str, dict[str, Any]] = {
    "alerts.alerts": {"thresholds": Thresholds()},
    "batches.add": {"name": "a", "items": [1, 2], "collect": "all", "options": {}},
    "dead_letter.dead_letters": {},
    "dead_letter.dead_letter": {"letter_id": "1"},
    "dead_letter.replay": {"letter_id": "1"},
    "dead_letter.replay_all": {},
    "edit.retry": {"job_id": "4"},
    "edit.remove": {"job_id": "1"},
    "edit.promote": {"job_id": "2"},
    "cancel.cancel": {"job": "2"},
    "edit.change_delay": {"job_id": "2", "delay_ms": 5},
    "edit.change_priority": {"job_id": "1", "priority": 5},
    "edit.update_progress": {"job_id": "1", "progress": 5},
    "edit.update_data": {"job_id": "1", "data": {}},
    "edit.add_log": {"job_id": "1", "row": "row"},
    "edit.clear_log": {"job_id": "1"},
    "edit.set_global_concurrency": {"most": 5},
    "edit.set_global_rate_limit": {"most": 5, "duration_ms": 1_000},
    "edit.register": {},
    "flows.add": {"tree": FlowJob("a")},
    "flows.add_bulk": {"trees": [FlowJob("a")]},
    "flows.get": {"job_id": "parent"},
    "flows.dependencies": {"job_id": "parent"},
    "flows.dependency_counts": {"job_id": "parent"},
    "flows.children": {"job_id": "parent", "group": "processed"},
    "flows.pages": {"job_id": "parent"},
    "flows.children_values": {"job_id": "parent"},
    "flows.ignored_failures": {"job_id": "parent"},
    "flows.remove_child_dependency": {"job_id": "child"},
    "flows.remove_unprocessed_children": {"job_id": "parent"},
    "flows.remove": {"job_id": "parent"},
    "getters.counts": {"states": ()},
    "getters.count": {"states": ()},
    "getters.counts_by_priority": {"priorities": ()},
    "getters.count_due_before": {"due_on": NOW},
    "getters.ids": {"states": ("failed",)},
    "getters.jobs": {"states": ("failed",)},
    "getters.log_page": {"job_id": "1"},
    "getters.workers": {},
    "getters.listeners": {},
    "getters.metrics": {"outcome": "completed"},
    "getters.prometheus": {},
    "getters.meta": {},
    "listen.publish": {"name": "mine"},
    "listening.listen": {"queue": "work", "since": "0-0"},
    "manage.drain": {},
    "manage.clean": {},
    "manage.obliterate": {},
    "manage.retry_all": {},
    "manage.promote_all": {},
    "manage.remove_orphaned": {},
    "manage.remove_deprecated_priority": {},
    "manage.forget_events": {},
    "manage.rate_limit": {"hold_ms": 5},
    "manage.remove_rate_limit": {},
    "manage.rate_limit_ttl_ms": {},
    "manage.is_maxed": {},
    "manage.deduplication_owner": {"deduplication_id": "same"},
    "manage.remove_deduplication": {"deduplication_id": "same"},
    "schedulers.upsert_scheduler": {"scheduler_id": "nightly", "schedule": every(60_000)},
    "schedulers.get_scheduler": {"scheduler_id": "nightly"},
    "schedulers.list_schedulers": {},
    "schedulers.count_schedulers": {},
    "schedulers.remove_scheduler": {"scheduler_id": "nightly"},
    "schedulers.upcoming": {"scheduler": SEEDED, "count": 3},
    "schedulers.migration_advice": {"scheduler": SEEDED},
    "make.fixed": {"delay_ms": 5},
    "make.exponential": {"delay_ms": 5},
    "make.custom": {"kind": "mine"},
    "make.Backoff": {"kind": "mine"},
    "make.Deduplication": {"id": "same"},
    "Queue.__init__": {"name": "work"},
    "Queue.add": {"name": "a", "data": {}, "options": {}},
    "Queue.add_bulk": {"jobs": [("a", {})]},
    "Queue.get": {"job_id": "1"},
    "Queue.state": {"job_id": "1"},
    "Queue.jobs": {"state": "failed"},
    "Queue.counts": {},
    "Queue.logs": {"job_id": "1"},
    "Queue.is_paused": {},
    "Queue.result": {"job": "1", "timeout_ms": 0},
    "Queue.events": {"since": "0-0"},
    "Queue.pause": {},
    "Queue.resume": {},
    "Queue.retry": {"job_id": "4"},
    "Queue.remove": {"job_id": "1"},
    "Queue.promote": {"job_id": "2"},
    "Queue.cancel": {"job": "2"},
    "Queue.drain": {},
    "Queue.clean": {},
    "Queue.run": {"action": change_delay("2", 5)},
    "Queue.connect": {},
    "Queue.close": {},
}
PURE = {"schedulers.upcoming", "schedulers.migration_advice"}


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Everything a user may call that takes something, by the name of its row."""
    for found in pkgutil.iter_modules(supervisor.client.__path__):
        module = importlib.import_module(f"supervisor.client.{found.name}")
        if found.name in OUR_OWN:
            continue
        named = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        for name in named:
            value = getattr(module, name)
            ours = f"{found.name}.{name}" in OUR_OWN_NAMES or name.startswith("_")
            if inspect.isfunction(value) and not ours and name not in CHECKED_LATER:
                yield f"{found.name}.{name}", value
    for name in supervisor.client.__all__:
        value = getattr(supervisor.client, name)
        if callable(value) and value is not Queue and name not in CHECKED_LATER | RECORDS:
            yield f"make.{name}", value
    for name, value in vars(Queue).items():
        if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__"):
            yield f"Queue.{name}", value


FUNCTIONS = dict(functions())


def parameters(row: str) -> list[tuple[str, str]]:
    """(parameter, its kind's name) of a function; of `**options` each option."""
    found = []
    for name, parameter in inspect.signature(FUNCTIONS[row]).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found += [(f"**{option}", f"{option}:option") for option in AddOptions.__annotations__]
        elif name != "self":
            found.append((name, name))
    return found


def kind_of(row: str, name: str, kind: str) -> Kind | None:
    return KINDS_OF.get(f"{row}.{name}") or KINDS.get(kind) or KINDS.get(kind.removesuffix(":option"))


def test_every_public_function_and_each_of_its_parameters_is_in_the_tables():
    assert FUNCTIONS.keys() == CALLS.keys()
    assert not [
        f"{row}.{name}" for row in CALLS for name, kind in parameters(row) if kind_of(row, name, kind) is None
    ]


def arguments(row: str, name: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """The call of a row with `value` for the parameter `name`."""
    given = dict(CALLS[row])
    if name.startswith("**"):
        given["options"] = given["options"] | {name[2:]: value}
    else:
        given[name] = value
    places, names = [], {}
    for each, parameter in inspect.signature(FUNCTIONS[row]).parameters.items():
        if each not in given:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            places += [value] if each == name else list(given[each])
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names |= given[each]
        else:
            names[each] = given[each]
    return places, names


async def call(row: str, url: str, queue: Queue, places: list[Any], names: dict[str, Any]) -> None:
    """As a user calls it in a program with asyncio."""
    module, _, name = row.partition(".")
    if row == "Queue.__init__":
        async with Queue(*places, **({"url": url} | names)) as made:
            await made.add("a", {})
    elif row == "Queue.events" or module == "listening":
        events = queue.events(**names) if module == "Queue" else supervisor.client.listening.listen(**names)
        async with contextlib.aclosing(events):
            await anext(events)
    elif module == "Queue":
        await getattr(queue, name)(*places, **names)
    elif module == "make" or row in PURE:
        FUNCTIONS[row](*places, **names)
    else:
        await queue.run(FUNCTIONS[row](*places, **names))


def call_blocking(row: str, url: str, queue: Any, places: list[Any], names: dict[str, Any]) -> None:
    """As a user calls it without."""
    module, _, name = row.partition(".")
    if row == "Queue.__init__":
        with supervisor.blocking.Queue(*places, **({"url": url} | names)) as made:
            made.add("a", {})
    elif row == "Queue.events" or module == "listening":
        events = queue.events(**names) if module == "Queue" else supervisor.blocking.listen(**names)
        with contextlib.closing(events):
            next(events)
    elif module == "Queue":
        getattr(queue, name)(*places, **names)
    else:
        queue.run(FUNCTIONS[row](*places, **names))


@pytest.fixture
def seeded(raw: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Keyspace:
    """A queue with a job in every state, each known by its id, and something of everything else."""
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    with supervisor.blocking.Queue("work", url=redis_url) as queue:
        queue.add("waiting", {})
        queue.add("delayed", {}, delay_ms=3_600_000)
        for _ in ("completed", "failed", "active"):
            queue.add("ended", {})
        queue.add("first", {}, priority=5)
        queue.run(add_log("1", "a row"))
        queue.add("once", {}, deduplication=Deduplication("same"))
        tree = FlowJob(
            "a", options={"job_id": "parent"}, children=[FlowJob("b", options={"job_id": "child"})]
        )
        queue.run(supervisor.blocking.flows.add(tree))
        queue.run(upsert_scheduler("nightly", every(3_600_000)))
    for job_id, state in (("3", "completed"), ("4", "failed")):
        raw.lrem("bull:work:wait", 0, job_id)
        raw.zadd(f"bull:work:{state}", {job_id: NOW})
        raw.hset(f"bull:work:{job_id}", "finishedOn", NOW)
    raw.lrem("bull:work:wait", 0, "5")
    raw.rpush("bull:work:active", "5")
    raw.set("bull:work:5:lock", "token", px=3_600_000)
    raw.hset("bull:work:metrics:completed", mapping={"count": 1, "prevTS": NOW, "prevCount": 1})
    raw.set("bull:work:ox:x", "x")
    return keyspace(raw)


def values(kind: Kind) -> list[tuple[Any, str]]:
    return [(value, how) for how in ("bad", "strange", "fine") for value in getattr(kind, how)]


async def troubles(row: str, once: Any, raw: redis.Redis, stored: Keyspace) -> list[str]:
    """Call a function with everything the tables have for it; what went wrong, a line each."""
    wrong = []

    async def tried(name: str, kind: Kind, how: str, value: Any) -> None:
        began = time.monotonic()
        error: BaseException | None = None
        try:
            await once(*arguments(row, name, value))
        except Exception as raised:
            error = raised
        said = judged(error, kind.words, must_fail=how == "bad")
        took_s = time.monotonic() - began
        if said is None and took_s > SLOWEST_S:
            said = f"it took {took_s:.1f} s"
        if said is not None:
            wrong.append(f"{name}={shown(value)} ({how}): {said}")

    for name, kind_name in parameters(row):
        kind = kind_of(row, name, kind_name)
        assert kind is not None
        harmless = [(how, value) for how in ("bad", "strange") for value in getattr(kind, how)]
        for how, value in harmless:
            await tried(name, kind, how, value)
        if difference(stored, keyspace(raw)):  # now one by one, to name the one that did it
            for how, value in harmless:
                put_back(raw, stored)
                await tried(name, kind, how, value)
                changed = difference(stored, keyspace(raw))
                wrong += [f"{name}={shown(value)} ({how}): changed {changed}"] if changed else []
            put_back(raw, stored)
        for value in kind.fine:
            await tried(name, kind, "fine", value)
        put_back(raw, stored)
    return list(dict.fromkeys(wrong))


@pytest.mark.parametrize("row", CALLS)
async def test_bad_input_is_a_sentence_and_redis_is_as_it_was(row, redis_url, raw, seeded):
    async with Queue("work", url=redis_url) as queue:

        async def once(places: list[Any], names: dict[str, Any]) -> None:
            await call(row, redis_url, queue, places, names)

        wrong = await troubles(row, once, raw, seeded)

    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


BLOCKING = [row for row in CALLS if row.startswith(("Queue.", "listening."))]


@pytest.mark.parametrize("row", BLOCKING)
async def test_the_blocking_client_does_not_take_it_either(row, redis_url, raw, seeded):
    with supervisor.blocking.Queue("work", url=redis_url) as queue:

        async def once(places: list[Any], names: dict[str, Any]) -> None:
            call_blocking(row, redis_url, queue, places, names)

        wrong = await troubles(row, once, raw, seeded)

    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
