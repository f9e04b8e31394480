"""Taking jobs: activation, promotion, limits, pause, ids that are no jobs, and calls sent again."""

from __future__ import annotations

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.flow import RemoveFlow
from supervisor.protocol.commands.job import RemoveJob
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob, Limiter, Retried, Written
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs


def completed(job, keep=KEEP_ALL):
    return Completed(job.id, job.token, b"null", keep)


def test_a_fetched_job_is_active_and_locked_with_the_token_of_its_call(wire):
    wire.add(wire.job("paint", data=b"[1]", priority=4))
    wire.forget_events()

    jobs = wire.fetch(3, call_token="me:7", worker_name="w-one")

    assert jobs == [
        FetchedJob(
            id="1",
            token="me:7",
            name="paint",
            data=b"[1]",
            opts=b'{"attempts":0}',
            timestamp=wire.now_ms,
            priority=4,
            attempts_made=0,
            attempts_started=1,
            stalled_count=0,
            deferred=None,
            parent=None,
        )
    ]
    assert wire.raw.get(wire.queue.lock("1")) == b"me:7"
    assert 29_000 < wire.raw.pttl(wire.queue.lock("1")) <= 30_000
    stored = wire.hash("1")
    assert (stored["processedOn"], stored["ats"], stored["pb"]) == (str(wire.now_ms), "1", "w-one")
    assert wire.ids(wire.queue.active) == ["1"]
    assert wire.markers() == {"0": 0}
    assert wire.events() == [{"event": "active", "jobId": "1", "prev": "waiting"}]


def test_what_waits_goes_before_what_has_a_priority_and_the_oldest_first(wire):
    wire.add(wire.job("c", priority=1), wire.job("a"), wire.job("b"))

    assert [job.name for job in wire.fetch(2)] == ["a", "b"]
    assert [job.name for job in wire.fetch(2)] == ["c"]
    assert wire.raw.exists(wire.queue.pc) == 0


def test_outcomes_go_before_the_fetch_of_the_same_call(wire):
    wire.raw.hset(wire.queue.meta, "concurrency", 2)
    wire.add(count=5)
    jobs = wire.fetch(2)

    exchange = wire.exchange([completed(job) for job in jobs], count=3)

    assert [job.id for job in exchange.jobs] == ["3", "4"]
    assert exchange.held is True
    assert wire.raw.llen(wire.queue.active) == 2


@pytest.mark.parametrize("priority", [0, 3])
def test_who_ends_a_job_and_takes_none_wakes_another_for_the_place_that_is_free(wire, priority):
    wire.raw.hset(wire.queue.meta, "concurrency", 1)
    wire.add(*(wire.job(priority=priority) for _ in range(2)))
    (job,) = wire.fetch()
    assert wire.exchange(count=1).held is True
    wire.raw.delete(wire.queue.marker)  # an idle worker waits on it

    wire.exchange([completed(job)])

    assert wire.markers() == {"0": 0}


def test_the_place_that_is_free_is_told_to_who_does_not_know_when_a_delayed_job_is_due(wire):
    wire.raw.hset(wire.queue.meta, "concurrency", 1)
    wire.add(wire.job(), wire.job(delay_ms=500))
    (job,) = wire.fetch()
    assert (exchange := wire.exchange(count=1)).held is True and exchange.next_due_ms == 0
    wire.raw.delete(wire.queue.marker)

    wire.exchange([completed(job)])

    assert wire.markers() == {"0": 0}


@pytest.mark.parametrize("remove", [RemoveJob, RemoveFlow])
def test_removing_a_lost_job_tells_of_the_place_that_is_free(wire, remove):
    wire.raw.hset(wire.queue.meta, "concurrency", 1)
    wire.add(count=2)
    (job,) = wire.fetch()
    wire.raw.delete(wire.queue.marker, wire.queue.lock(job.id))  # its worker is gone, an idle one waits

    wire.run(remove(wire.queue, job.id))

    assert wire.markers() == {"0": 0}


def test_who_ends_the_last_job_wakes_nobody(wire):
    wire.raw.hset(wire.queue.meta, "concurrency", 1)
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.raw.delete(wire.queue.marker)

    wire.exchange([completed(job)])

    assert wire.markers() == {}


def test_due_jobs_are_promoted_once_and_behind_those_that_wait(wire):
    wire.add(wire.job("a", delay_ms=10), wire.job("b", delay_ms=10, priority=2), wire.job("c"))
    wire.forget_events()
    wire.now_ms += 10

    jobs = wire.fetch(5)

    assert [job.name for job in jobs] == ["c", "a", "b"]
    assert wire.hash("1")["delay"] == "0"
    assert wire.events()[:2] == [
        {"event": "waiting", "jobId": "1", "prev": "delayed"},
        {"event": "waiting", "jobId": "2", "prev": "delayed"},
    ]


def test_an_empty_fetch_tells_when_the_next_job_is_due(wire):
    wire.add(wire.job(delay_ms=700))

    exchange = wire.exchange(count=1)

    assert (exchange.jobs, exchange.next_due_ms, exchange.held) == ([], wire.now_ms + 700, False)


def test_a_paused_queue_gives_nothing_but_promotes(wire):
    wire.add(wire.job(delay_ms=10))
    wire.raw.hset(wire.queue.meta, "paused", 1)
    wire.raw.delete(wire.queue.marker)
    wire.now_ms += 10

    exchange = wire.exchange(count=1)

    assert (exchange.jobs, exchange.held) == ([], True)
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.markers() == {}


# --- limits -------------------------------------------------------------------------------------------


def test_the_workers_limiter_counts_every_job_of_a_call(wire):
    wire.add(count=5)

    exchange = wire.exchange(count=5, limiter=Limiter(2, 600))

    assert len(exchange.jobs) == 2
    assert 0 < exchange.limited_ms <= 600
    assert wire.raw.get(wire.queue.limiter) == b"2"
    assert wire.exchange(count=1, limiter=Limiter(2, 600)).jobs == []
    wire.raw.delete(wire.queue.limiter)
    assert [job.id for job in wire.fetch(2, limiter=Limiter(2, 600))] == ["3", "4"]


def test_a_job_that_will_only_be_failed_takes_no_place_in_the_window(wire):
    wire.add(count=3)
    wire.raw.hset(wire.queue.job("1"), "defa", "child failed")

    jobs = wire.fetch(5, limiter=Limiter(2, 600))

    assert [job.deferred for job in jobs] == ["child failed", None, None]
    assert wire.raw.get(wire.queue.limiter) == b"2"


def test_the_queues_own_rate_goes_before_the_workers_but_not_its_duration(wire):
    wire.add(count=5)
    wire.raw.hset(wire.queue.meta, mapping={"max": 3, "duration": 50_000})

    assert len(wire.fetch(5, limiter=Limiter(1, 200))) == 3
    assert wire.raw.pttl(wire.queue.limiter) <= 200


def test_a_maximum_without_a_duration_is_no_limit(wire):
    wire.add(count=3)
    wire.raw.hset(wire.queue.meta, "max", 1)

    assert len(wire.fetch(3)) == 3


def test_a_limiter_without_an_end_never_limits(wire):
    wire.add(count=3)
    wire.raw.set(wire.queue.limiter, 99)

    assert len(wire.fetch(3, limiter=Limiter(2, 600))) == 3


# --- what is no job -----------------------------------------------------------------------------------


def test_ids_without_a_usable_hash_are_taken_off_and_reported(wire):
    wire.add(count=1)
    wire.raw.rpush(wire.queue.wait, "ghost", "text", "0:9")
    wire.raw.set(wire.queue.job("text"), "x")
    wire.raw.zadd(wire.queue.prioritized, {"ghost2": 1})
    wire.raw.zadd(wire.queue.delayed, {"ghost3": 1})

    exchange = wire.exchange(count=9)

    assert [job.id for job in exchange.jobs] == ["1"]
    assert list(exchange.dropped) == [
        ("ghost3", "it has no hash"),
        ("text", "its key is not a hash"),
        ("ghost", "it has no hash"),
        ("ghost2", "it has no hash"),
    ]
    assert wire.ids(wire.queue.active) == ["1"]
    assert wire.raw.exists(wire.queue.job("ghost"), wire.queue.job("ghost2"), wire.queue.job("ghost3")) == 0


def test_nonsense_in_the_numbers_of_a_hash_counts_as_nothing(wire):
    wire.add(count=1)
    nonsense = {"timestamp": "1.5e3", "priority": "many", "atm": "", "ats": "x", "stc": "NaN"}
    wire.raw.hset(wire.queue.job("1"), mapping={**nonsense, "name": b"caf\xe9"})

    (job,) = wire.fetch()

    assert (job.timestamp, job.priority, job.attempts_made, job.attempts_started) == (1500, 0, 0, 1)
    assert (job.stalled_count, job.name) == (0, "caf\ufffd")


def test_the_attempts_of_an_older_bullmq_are_read(wire):
    wire.add(count=1)
    wire.raw.hset(wire.queue.job("1"), "attemptsMade", 2)

    assert wire.fetch()[0].attempts_made == 2


@pytest.mark.parametrize("attribute", ["wait", "prioritized", "delayed", "limiter", "marker", "active"])
def test_a_fetch_that_cannot_be_says_why_and_never_hides_the_outcomes(wire, attribute):
    wire.add(count=2)
    (job,) = wire.fetch()
    if attribute == "active":
        wire.raw.rename(wire.queue.active, "elsewhere")
    key = getattr(wire.queue, attribute)
    wire.raw.delete(key)
    wire.raw.hset(key, "x", "y")

    exchange = wire.exchange([completed(job)], count=1, limiter=Limiter(9, 1_000))

    if attribute == "active":
        assert exchange.written[0].code == Code.GUILTY
    else:
        assert exchange.written == [Written(Code.DONE)]
        assert wire.hash("1")["returnvalue"] == "null"
    assert key in exchange.fetch_error
    assert exchange.jobs == []


# --- calls sent again after a lost reply ------------------------------------------------------------------


def again(wire, outcomes, count, token):
    """The first reply was lost; what the repetition answers."""
    wire.exchange(outcomes, count, call_token=token)
    wire.forget_events()
    return wire.exchange(outcomes, count, call_token=token, again=True)


def test_a_call_sent_again_finds_the_jobs_it_took(wire):
    wire.add(count=4)

    exchange = again(wire, [], 2, "me:1")

    assert sorted(job.id for job in exchange.jobs) == ["1", "2"]
    assert [job.attempts_started for job in exchange.jobs] == [1, 1]
    assert wire.hash("1")["ats"] == "1"
    assert wire.events() == []
    assert wire.ids(wire.queue.wait) == ["4", "3"]


def test_a_call_sent_again_starts_the_time_of_its_locks_anew(wire):
    wire.add(count=1)
    wire.exchange(count=1, call_token="me:1", lock_ms=5_000)

    wire.exchange(count=1, call_token="me:1", lock_ms=30_000, again=True)

    assert wire.raw.pttl(wire.queue.lock("1")) > 5_000


def test_a_call_that_never_ran_runs_as_a_repetition(wire):
    wire.add(count=2)
    (job,) = wire.fetch()

    exchange = wire.exchange([completed(job)], 1, again=True)

    assert exchange.written == [Written(Code.DONE)]
    assert [job.id for job in exchange.jobs] == ["2"]


def test_a_repetition_writes_no_outcome_twice_and_tells_what_it_sees(wire):
    wire.add(count=4)
    jobs = wire.fetch(4)
    outcomes = [
        completed(jobs[0]),
        completed(jobs[1], KeepJobs(count=0)),
        Failed(jobs[2].id, jobs[2].token, "boom", "s", KEEP_ALL, 1),
        Retried(jobs[3].id, jobs[3].token, "boom", "s"),
    ]

    exchange = again(wire, outcomes, 0, "me:9")

    assert exchange.written == [
        Written(Code.DONE, "written"),
        Written(Code.NO_JOB, "gone"),
        Written(Code.DONE, "written"),
        Written(Code.NO_LOCK, "not ours"),
    ]
    assert wire.hash("4")["atm"] == "1"
    assert wire.raw.llen(wire.queue.wait) == 1
    assert wire.events() == []


def test_a_job_that_was_retried_and_taken_again_by_the_same_call_is_found(wire):
    wire.add(count=1)
    (job,) = wire.fetch()

    exchange = again(wire, [Retried(job.id, job.token, "boom", None)], 1, "me:2")

    assert exchange.written == [Written(Code.OTHER_LOCK, "not ours")]
    assert [(job.id, job.attempts_made, job.attempts_started) for job in exchange.jobs] == [("1", 1, 2)]
    assert wire.hash("1")["atm"] == "1"


def test_what_another_worker_wrote_is_not_taken_for_ours(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.raw.delete(wire.queue.lock("1"))
    wire.raw.hset(wire.queue.job("1"), "finishedOn", wire.now_ms - 1)

    assert wire.exchange([completed(job)], again=True).written == [Written(Code.NO_LOCK, "not ours")]


def test_a_job_due_a_millisecond_later_stays_delayed(wire):
    wire.add(wire.job(delay_ms=2))
    wire.now_ms += 1

    assert wire.fetch() == []
    assert wire.ids(wire.queue.delayed) == ["1"]
    wire.now_ms += 1
    assert len(wire.fetch()) == 1


def test_jobs_promoted_by_a_worker_that_may_not_take_them_wake_another(wire):
    wire.add(wire.job(delay_ms=5))
    wire.raw.delete(wire.queue.marker)
    wire.raw.set(wire.queue.limiter, 9, px=60_000)
    wire.now_ms += 5

    assert wire.fetch(limiter=Limiter(1, 100)) == []
    assert wire.markers() == {"0": 0}
