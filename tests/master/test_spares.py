"""Who takes the place of a dead runner when each has to import for itself (I5): one that has done so."""

from __future__ import annotations

import shutil
import signal

import pytest
from running import TESTS, title_of, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


@pytest.fixture
def place(tmp_path):
    """A directory with a module whose import starts a thread and takes a while."""
    shutil.copy(TESTS / "processors" / "heavy.py", tmp_path)
    return tmp_path


@pytest.fixture
def run(oxherd, place):
    def start(*flags: str, queue: str | None = "work"):
        running = oxherd("--concurrency", "1", *flags, target="heavy", queue=queue, cwd=place)
        running.until("template.has_threads")
        return running

    return start


def imported(place) -> list[int]:
    """Who has begun to import, in that order; the first is the template that has found the thread."""
    return [int(line) for line in (place / "imports").read_text().split()]


def spares(running, generation: int = 1) -> list[int]:
    """Those that have imported, been told who they are, and wait."""
    title = f"oxherd: spare g{generation} idle"
    return [each.pid for each in running.family() if title_of(each) == title]


def spare(running, generation: int = 1) -> int:
    (found,) = until(lambda: spares(running, generation), "a spare")
    return found


def dies(queue) -> None:
    job = queue.add("any", "dies")
    until(lambda: queue.state(job.id) == "failed", "it dies with its runner")


def test_the_next_job_after_a_crash_runs_in_a_runner_that_had_imported_before_it(run, place, queue, ask):
    running = run()
    kept = spare(running)
    assert f"kept ready: {kept} spare" in ask("ps")
    before = imported(place)
    jobs = [queue.add("any", "dies"), queue.add("any", None)]

    assert queue.result(jobs[1], timeout_ms=10_000) == kept and kept in before
    assert running.until("spare.taken")["runner"] == kept
    idle = ["oxherd: runner 1 g1 idle"]
    until(lambda: [title_of(each) for each in running.runners()] == idle, "it is called by its slot now")
    another = spare(running)
    assert imported(place) == [*before, another], "one import for one crash"


def test_a_spare_of_several_jobs_is_one_for_async_processors(run, place, queue, redis_url):
    """And each kind of slot has its own."""
    running = run("--concurrency", "2", queue=None)
    until(lambda: len(spares(running)) == 2, "one for each kind")
    with Queue("many", url=redis_url) as many:
        dies(many)
        assert many.result(many.add("any", None), timeout_ms=10_000) in imported(place)
    taken = running.until("spare.taken")
    assert taken["queue"] == "many"
    until(lambda: len(spares(running)) == 2, "again one for each")
    assert queue.result(queue.add("any", None), timeout_ms=10_000) != taken["runner"]


def test_a_spare_that_is_killed_is_followed_by_another_and_gone_after_a_stop(run, place, queue):
    """I8."""
    running = run()
    first = spare(running)
    [each.kill() for each in running.family() if each.pid == first]
    second = until(lambda: [pid for pid in spares(running) if pid != first], "another")[0]
    assert queue.result(queue.add("any", None), timeout_ms=10_000) not in (first, second)
    everybody = running.family()
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert not [each for each in everybody if each.is_running()]


def test_a_reload_ends_the_spare_of_the_old_code_and_keeps_one_of_the_new(run, ask):
    running = run()
    old = spare(running)
    ask("ctl", "reload")
    new = spare(running, generation=2)
    until(lambda: not spares(running), "the old one has gone")
    assert new != old
    assert not running.events("spare.given_up") and not running.events("runner.failed")


def test_nobody_is_kept_ready_while_nothing_is_fetched(run, ask, queue):
    running = run()
    spare(running)
    ask("ctl", "quiet")
    until(lambda: not spares(running), "it has gone")
    ask("ctl", "resume")
    spare(running)
    assert queue.result(queue.add("any", None), timeout_ms=10_000)


def test_an_import_that_has_come_to_fail_is_not_tried_for_ever_by_a_spare(run, place, queue):
    """I10: the slot's own runner goes on, and one that can work brings the spare back."""
    running = run()
    first = spare(running)
    before = imported(place)
    (place / "broken").touch()
    [each.kill() for each in running.family() if each.pid == first]
    given_up = running.until("spare.given_up")
    assert given_up["deaths"] == 5
    assert len(imported(place)) == len(before) + 4
    assert queue.result(queue.add("any", None), timeout_ms=10_000) in before
    assert not running.events("queue.degraded")

    (place / "broken").unlink()
    dies(queue)
    assert queue.result(queue.add("any", None), timeout_ms=10_000) not in before
    spare(running)


def test_a_fresh_slot_keeps_no_spare_beside_its_next_runner(run, place, queue, tmp_path):
    (tmp_path / "oxherd.toml").write_text("[policy]\nfresh = true\n")
    running = run("--config", str(tmp_path / "oxherd.toml"))
    done = [queue.result(queue.add("any", None), timeout_ms=10_000) for _ in range(2)]
    until(lambda: len(running.runners()) == 1, "its next runner")
    assert not spares(running) and len(set(done)) == 2
    assert len(imported(place)) <= 2 + 2 + 1, "the template, the proof, two jobs and the next"
