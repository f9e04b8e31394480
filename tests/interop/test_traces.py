"""The recorded traces, replayed through our client and our commands, compared key by key after each step.

Elsewhere: flows in test_traces_flows.py, schedulers with drain and obliterate in test_traces_scheduler.py,
the rest of management in test_traces_manage.py and test_traces_dedup.py, getters in test_traces_getters.py.
In 14b v5's own moves are made here by hand; the adds and the worker are ours.

Not replayed or compared, and why: NOT_REPLAYED, NOT_COMPARED (steps) and NOT_APPLICABLE (fields) in
comparing.py. A fixture fails a test that leaves a step of its trace out. Frames of a stack are another
language's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from comparing import load
from scene import Postponed, RateLimited, Scene, completed, failed, retried

from supervisor.client.edit import (
    add_log,
    change_delay,
    change_priority,
    register,
    set_global_concurrency,
    set_global_rate_limit,
    update_data,
    update_progress,
)
from supervisor.protocol.backoff_choice import exponential, fixed
from supervisor.protocol.commands.work import FetchedJob, Limiter, Outcome
from supervisor.protocol.job_options import KeepJobs

Open = Callable[[str], AbstractContextManager[Scene]]


@pytest.fixture
def scene(redis_url: str, raw: redis.Redis) -> Open:
    def open_scene(name: str) -> AbstractContextManager[Scene]:
        return Scene(redis_url, raw, name).opened()

    return open_scene


def steps(name: str) -> Iterator[dict[str, Any]]:
    return iter(load(name)["steps"])


def test_01_one_job_added_and_completed(scene: Open) -> None:
    step = steps("01_add_complete")
    with scene("q1") as play:
        play.queue.run(register())
        play.matches(next(step))
        play.queue.add("paint", {"colour": "red"})
        play.matches(next(step))
        play.worker_name = "w-one"
        play.attach()
        job = play.fetch()
        play.matches(next(step))
        play.exchange(completed(job, b'{"ok":true}'))
        play.idle()
        play.matches(next(step))


def test_02_failed_twice_with_backoff_then_for_good(scene: Open) -> None:
    step = steps("02_fail_retry_backoff")
    with scene("q2") as play:
        play.queue.add("j", {}, attempts=3, backoff=fixed(400))
        play.matches(next(step))
        play.attach()
        job = play.fetch()
        play.matches(next(step))
        assert not play.exchange(retried(job, "boom 0", delay_ms=400)).jobs
        play.idle()
        play.matches(next(step))
        play.clock.pass_ms(400)
        job = play.fetch()
        play.matches(next(step))
        play.exchange(retried(job, "boom 1", delay_ms=400))
        play.clock.pass_ms(400)
        job = play.fetch()
        play.exchange(failed(job, "boom 2"))
        play.idle()
        play.matches(next(step))


def test_02b_failed_once_without_backoff(scene: Open) -> None:
    step = steps("02b_fail_retry_immediate")
    with scene("q2b") as play:
        play.queue.add("j", {}, attempts=2)
        play.attach()
        (job,) = play.exchange(retried(play.fetch(), "first")).jobs
        play.matches(next(step))
        play.exchange(completed(job, b"7"))
        play.idle()
        play.matches(next(step))


def test_03_two_delayed_jobs_of_one_millisecond(scene: Open) -> None:
    step = steps("03_delayed")
    with scene("q3") as play:
        made_on = play.clock()
        play.queue.add("a", {"n": 1}, delay_ms=600, timestamp=made_on)
        play.matches(next(step))
        play.queue.add("b", {"n": 2}, delay_ms=600, timestamp=made_on, priority=5)
        play.matches(next(step))
        play.attach()
        assert play.exchange().next_due_ms == made_on + 600
        play.idle()
        play.matches(next(step))
        play.clock.pass_ms(600)
        job = play.fetch()
        play.matches(next(step))
        play.run(completed, job)
        play.matches(next(step))


def test_04_prioritized_jobs_run_in_their_order(scene: Open) -> None:
    step = steps("04_prioritized")
    with scene("q4") as play:
        for name, priority in (("p5a", 5), ("p1", 1), ("p5b", 5), ("p0", None), ("max", 2_097_151)):
            play.queue.add(name, {}, **({} if priority is None else {"priority": priority}))
        play.matches(next(step))
        play.attach()
        assert play.run(completed) == ["p0", "p1", "p5a", "p5b", "max"]
        play.matches(next(step))


def test_05_stalled_twice_then_failed_unrun(scene: Open) -> None:
    step = steps("05_stalled")
    with scene("q5") as play:

        def lose(job: FetchedJob) -> None:
            play.raw.delete(play.keys.lock(job.id))

        def check_in_the_next_interval() -> list[str]:
            play.raw.delete(play.keys.stalled_check)
            return play.check_stalled()

        play.queue.add("j", {})
        job = play.fetch(token="tokA")
        play.matches(next(step))
        lose(job)
        assert play.check_stalled() == []
        play.matches(next(step))
        assert play.check_stalled() == []
        play.matches(next(step))
        assert check_in_the_next_interval() == ["1"]
        play.matches(next(step))
        lose(play.fetch())
        assert check_in_the_next_interval() == []
        assert check_in_the_next_interval() == ["1"]
        play.matches(next(step))
        job = play.fetch()
        assert job.deferred == "job stalled more than allowable limit"
        play.exchange(failed(job, job.deferred, "UnrecoverableError"))
        play.idle()
        play.matches(next(step))


def test_07_worker_limiter(scene: Open) -> None:
    step = steps("07_rate_limited")
    with scene("q7") as play:
        play.limiter = Limiter(2, 600)
        play.queue.add_bulk([(f"j{n}", {"i": n}) for n in (1, 2, 3)])
        play.matches(next(step))
        play.attach()
        (second,) = play.exchange(completed(play.fetch())).jobs
        held = play.exchange(completed(second))
        assert not held.jobs
        assert 0 < held.limited_ms <= 600
        play.matches(next(step))
        play.raw.delete(play.keys.limiter)  # as when its time is over
        play.run(completed)
        play.matches(next(step))


def test_08_lifo(scene: Open) -> None:
    step = steps("08_lifo")
    with scene("q8") as play:
        play.queue.add("a", {})
        play.queue.add("b", {})
        play.queue.add("c", {}, lifo=True)
        play.matches(next(step))
        play.attach()
        assert play.run(completed) == ["c", "a", "b"]
        play.matches(next(step))


def test_14_pause_add_resume(scene: Open) -> None:
    step = steps("14_paused_v6")
    with scene("qp") as play:
        play.queue.add("a", {})
        play.matches(next(step))
        play.queue.pause()
        play.matches(next(step))
        play.queue.add("b", {})
        play.queue.add("c", {}, priority=3)
        play.queue.add("d", {}, delay_ms=50_000)
        play.matches(next(step))
        play.attach()
        assert play.run(completed) == []
        play.matches(next(step))
        play.queue.resume()
        assert play.run(completed) == ["a", "b", "c"]
        play.matches(next(step))


def test_14b_adds_beside_a_v5_pause_go_where_v5_looks_for_them(scene: Open) -> None:
    step = steps("14b_paused_v5")
    with scene("qp") as play:
        play.queue.add("a", {})
        play.queue.add("a2", {})
        play.matches(next(step))
        _v5_pauses(play)
        play.matches(next(step))
        play.queue.add("b", {})
        play.queue.add("c", {}, priority=3)
        play.queue.add("l", {}, lifo=True)
        play.matches(next(step))
        play.attach()
        assert play.run(completed) == []
        play.matches(next(step))
        play.queue.resume()  # ours merges the list that v5 left
        assert play.run(completed) == ["l", "a", "a2", "b", "c"]
        play.matches(next(step))


def _v5_pauses(play: Scene) -> None:
    play.raw.rename(play.keys.wait, play.keys.paused)
    play.raw.hset(play.keys.meta, "paused", 1)
    play.raw.delete(play.keys.marker)
    play.raw.xadd(play.keys.events, {"event": "paused"})


def test_15_ways_to_end_without_an_outcome(scene: Open) -> None:
    step = steps("15_control_errors")
    value = b'{"attemptsMade":0,"attemptsStarted":2}'
    with scene("qe") as play:
        play.limiter = Limiter(100, 1_000)
        play.attach()
        play.queue.add("del", {}, attempts=3)
        job = _fetch_uncounted(play)
        play.exchange(Postponed(job.id, job.token, 200), fetch=0)
        play.matches(next(step))
        play.clock.pass_ms(200)
        play.run(lambda job: completed(job, value), _fetch_uncounted(play))
        _forget_limiter(play)
        play.matches(next(step))

        play.queue.add("wai", {})
        job = _fetch_uncounted(play)
        play.exchange(RateLimited(job.id, job.token), fetch=0)
        play.matches(next(step))
        play.run(lambda job: completed(job, value), _fetch_uncounted(play))
        _forget_limiter(play)
        play.matches(next(step))

        play.queue.add("rl", {})
        job = _fetch_uncounted(play)
        assert play.exchange(RateLimited(job.id, job.token, hold_ms=250)).limited_ms > 0
        play.matches(next(step))
        _forget_limiter(play)
        play.run(lambda job: completed(job, value), _fetch_uncounted(play))
        _forget_limiter(play)
        play.matches(next(step))

        play.queue.add("unr", {}, attempts=5)
        play.run(lambda job: failed(job, "no way", "UnrecoverableError"), _fetch_uncounted(play))
        _forget_limiter(play)
        play.matches(next(step))


def _fetch_uncounted(play: Scene) -> FetchedJob:
    """The recorded worker had waited its window out before each step, so its counter is not in the trace."""
    job = play.fetch()
    _forget_limiter(play)
    return job


def _forget_limiter(play: Scene) -> None:
    play.raw.delete(play.keys.limiter)


def test_16_progress_logs_data_duplicates_and_kept_jobs(scene: Open) -> None:
    step = steps("16_progress_log_data")
    with scene("qm") as play:
        play.queue.run(register(max_events=500))
        play.metrics = 10
        keep = KeepJobs(count=1)
        for _ in range(2):
            play.queue.add("x", {"z": 0}, job_id="my-id", remove_on_complete=keep, keep_logs=2)
        play.attach()
        job = play.fetch()
        play.queue.run(update_progress("my-id", {"pct": 5}))
        play.queue.run(update_progress("my-id", 50))
        assert [play.queue.run(add_log("my-id", row, keep=2)) for row in ("l1", "l2", "l3")] == [1, 2, 2]
        play.queue.run(update_data("my-id", {"z": 1}))
        play.matches(next(step))
        play.run(lambda job: completed(job, b'"r"'), job)
        play.matches(next(step))
        for name, kept in (("y", keep), ("z", True)):
            play.queue.add(name, {}, remove_on_complete=kept)
            play.run(lambda job: completed(job, b'"r"'))
            play.matches(next(step))


def test_17_global_concurrency_and_global_rate_limit(scene: Open) -> None:
    step = steps("17_global_concurrency")
    with scene("qc") as play:
        play.queue.run(set_global_concurrency(1))
        play.queue.add("a", {})
        play.queue.add("b", {})
        play.attach()
        job = play.fetch()
        assert play.exchange().held
        play.idle()
        play.matches(next(step))
        play.run(completed, job)
        play.matches(next(step))
        play.queue.run(set_global_rate_limit(1, duration_ms=400))
        play.queue.add("c", {})
        job = play.fetch()
        play.queue.add("d", {})
        assert play.exchange(completed(job)).limited_ms > 0
        play.matches(next(step))
        play.raw.delete(play.keys.limiter)
        play.exchange(completed(play.fetch()))  # held back by the limit again, so it is not idle
        play.matches(next(step))


def test_22_odd_characters_and_ways_to_keep(scene: Open) -> None:
    (step,) = steps("22_keepjobs_and_bulk_events")
    stored = step["keys"]["bull:kj:n2"]["value"]
    # Telemetry is an option of Node's client alone.
    stored["opts"] = stored["opts"].replace('"tm":"tmeta","omc":true,', "")
    with scene("kj") as play:
        play.queue.add(
            'sl/ash "q" é',
            {"a": "x/y", "e": "é"},
            job_id="id/1",
            remove_on_complete=KeepJobs(count=2, age_s=3600),
        )
        play.queue.add("arr", {"z": []}, job_id="n2", remove_on_complete=1)
        play.matches(step)


def test_23_what_is_done_to_one_job(scene: Open) -> None:
    step = steps("23_retry_promote_admin")
    with scene("ad") as play:
        play.queue.add("d", {}, delay_ms=50_000)
        play.queue.run(change_delay("1", 70_000))
        play.matches(next(step))
        play.queue.promote("1")
        play.matches(next(step))
        play.queue.run(change_priority("1", 7))
        play.matches(next(step))
        play.queue.run(change_priority("1", 7, lifo=True))
        play.matches(next(step))
        play.queue.run(change_priority("1", 0))
        play.matches(next(step))
        play.attach()
        play.run(lambda job: failed(job, "F"))
        play.matches(next(step))
        play.queue.retry("1", reset_attempts=True)
        play.run(lambda job: completed(job, b'"R"'))
        play.matches(next(step))
        play.queue.remove("1")
        play.matches(next(step))


def test_24_retries_of_a_prioritized_and_of_a_lifo_job(scene: Open) -> None:
    (step,) = steps("24_limiter_with_delayed_and_lifo_retry")
    with scene("lr") as play:
        play.queue.pause()
        play.queue.add("p", {}, attempts=2, priority=9)
        play.queue.add("l", {}, attempts=2, lifo=True)
        play.queue.add("n", {})
        play.queue.resume()
        play.attach()

        def once(job: FetchedJob) -> Outcome:
            return retried(job, "once") if job.name != "n" and job.attempts_made == 0 else completed(job)

        assert play.run(once) == ["l", "l", "n", "p", "p"]
        play.matches(step)


def test_bulk_add(scene: Open) -> None:
    (step,) = steps("bulk")
    with scene("Q") as play:
        jobs = play.queue.add_bulk(
            [
                ("a", {"x": 1}),
                ("b", {"x": 2}, {"priority": 2}),
                ("c", {"x": 3}, {"delay_ms": 60_000}),
                ("d", {"x": 4}, {"job_id": "custom"}),
                ("d", {"x": 5}, {"job_id": "custom"}),
                (
                    "e",
                    {},
                    {
                        "attempts": 3,
                        "lifo": True,
                        "backoff": exponential(100, jitter=0.5),
                        "remove_on_complete": KeepJobs(age_s=3600, count=10),
                        "keep_logs": 5,
                        "size_limit": 1000,
                        "stack_trace_limit": 3,
                    },
                ),
            ]
        )
        assert [job.id for job in jobs] == [job["id"] for job in step["result"]]
        play.matches(step)


def test_pause_and_resume_with_every_kind_of_job(scene: Open) -> None:
    step = steps("pause-resume")
    with scene("Q") as play:
        play.queue.add("a", 1)
        play.queue.add("b", 2)
        play.matches(next(step))

        play.queue.pause()
        recorded = next(step)
        play.matches(recorded)
        assert play.queue.is_paused()
        assert play.queue.counts() == recorded["result"]["counts"]

        play.queue.add("c", 3)
        play.queue.add("p", 4, priority=2)
        play.queue.add("d", 5, delay_ms=60_000)
        play.queue.add("l", 6, lifo=True)
        recorded = next(step)
        play.matches(recorded)
        assert play.queue.counts() == recorded["result"]["counts"]

        play.matches(next(step))
        assert [play.queue.state("1"), play.queue.state("4")] == ["waiting", "prioritized"]

        play.queue.resume()
        play.matches(next(step))

        job = {
            "name": "legacy",
            "data": "{}",
            "opts": "{}",
            "timestamp": play.clock(),
            "delay": 0,
            "priority": 0,
        }
        play.raw.hset(play.keys.job("x1"), mapping=job)
        play.raw.rpush(play.keys.paused, "x1")
        play.queue.pause()
        play.queue.resume()
        play.matches(next(step))
