"""Reload without a deadline, slots that come and go, and what `oxherd ctl` says of it."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time

import pytest
from running import TESTS, title_of, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a release in it, where commands and masters are at home."""
    shutil.copy(TESTS / "processors" / "release.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "release").write_text("one")
    configure(tmp_path)
    return tmp_path


def configure(place, *more: str, queues=("work",), slots=1) -> None:
    tables = [f'[queue.{name}]\ntarget = "release"\nconcurrency = {slots}' for name in queues]
    (place / "oxherd.toml").write_text("\n".join([*more, *tables]))


@pytest.fixture
def run(oxherd, ask, place):
    def start(*flags: str, queue: str | None = "work"):
        running = oxherd(*flags, target="release", queue=queue, cwd=place)
        running.until("master.started")
        return running

    return start


def titles(running) -> list[str]:
    return sorted(title_of(each) for each in running.runners())


def test_a_reload_leaves_a_busy_runner_its_job_and_gives_new_jobs_to_the_new_code(run, ask, place, queue):
    running = run("--concurrency", "2")
    old = queue.add("a", {"s": 3})
    running.at_work(1)

    (place / "release").write_text("two")
    assert "generation 2" in ask("ctl", "reload")
    new = queue.add("a", {})

    assert queue.result(new, timeout_ms=10_000) == "two"
    assert any(f"g1 work/{old.id}" in title for title in titles(running)), titles(running)
    assert queue.result(old, timeout_ms=10_000) == "one"
    until(lambda: all(" g2 idle" in title for title in titles(running)), "all are of generation 2")
    assert len(titles(running)) == 2
    assert len([each for each in running.family() if "template" in title_of(each)]) == 1


@pytest.mark.parametrize("release", ["broken", "dies"])
def test_a_release_that_cannot_be_imported_is_refused_and_the_old_one_goes_on(
    run, ask, place, queue, release
):
    running = run()

    (place / "release").write_text(release)
    said = ask("ctl", "reload", status=1)

    assert "not reloaded, generation 1 goes on: cannot load release" in said
    assert "No job was touched." in said
    running.until("reload.failed")
    assert queue.result(queue.add("a", {}), timeout_ms=10_000) == "one"
    snapshot = json.loads(ask("ctl", "snapshot"))
    assert snapshot["generation"] == 1
    until(lambda: len(running.family()) == 2, "nothing is left of the release")


def test_a_config_with_a_mistake_is_refused_and_nothing_hinders_to_stop(run, ask, place):
    running = run()

    configure(place, "[lock]\nduration = 5")

    assert "generation 1 goes on" in (said := ask("ctl", "reload", status=1))
    assert "[lock] duration" in said and "nothing was changed" in said
    assert "is stopping" in ask("ctl", "stop")
    assert running.ended() == 0, running.story()


def test_hup_reloads_and_the_later_of_two_reloads_wins(run, place, queue):
    running = run()

    (place / "release").write_text("hangs")
    running.signal(signal.SIGHUP)
    until((place / "hanging").exists, "the first is under way")
    (place / "release").write_text("three")
    running.signal(signal.SIGHUP)

    assert running.until("reload.done")["generation"] == 2
    assert "later" in running.until("reload.failed")["error"]
    until(lambda: all(" g2 idle" in each for each in titles(running) or [""]), "all are of generation 2")
    assert queue.result(queue.add("a", {}), timeout_ms=10_000) == "three"
    until(lambda: len(running.family()) == 2, "nothing is left of the one that hung")


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager that hears what is said to it: `manager()` is the next message, of several lines."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: listener.recv(4096).decode().split("\n")


def told_until(manager, last: str) -> list[str]:
    """What was said, that included, but for signs of life; the numbers of a line come and go."""
    told: list[str] = []
    while last not in told:
        told += [each for each in manager() if each != "WATCHDOG=1"]
    return told


def test_a_service_manager_is_told_when_a_reload_begins_and_when_it_is_over(run, place, queue, manager):
    """As systemd from 253 on does it: it sends HUP itself, and waits for READY."""
    running = run("--concurrency", "3")
    told_until(manager, "READY=1")

    (place / "release").write_text("two")
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    running.signal(signal.SIGHUP)
    told = told_until(manager, "READY=1")
    # Who had the old code and no job has no slot any more; its process may take a moment to be gone.
    until(
        lambda: all(" g2 " in title for title in titles(running) if "idle" in title),
        "no idle runner has the old code",
    )
    assert queue.result(queue.add("a", {}), timeout_ms=10_000) == "two"
    protocol = [each for each in told if not each.startswith("STATUS=")]
    assert [each.partition("=")[0] for each in protocol] == ["RELOADING", "MONOTONIC_USEC", "READY"]
    assert (
        before_us <= int(protocol[1].partition("=")[2]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )

    (place / "release").write_text("broken")
    running.signal(signal.SIGHUP)
    told = told_until(manager, "READY=1")
    assert told[-2].startswith("STATUS=the last reload was refused: cannot load release: "), told
    assert [each.partition("=")[0] for each in told if not each.startswith("STATUS=")] == [
        "RELOADING",
        "MONOTONIC_USEC",
        "READY",
    ]

    (place / "release").write_text("three")
    running.signal(signal.SIGHUP)
    told_until(manager, "RELOADING=1")
    assert "refused" not in told_until(manager, "READY=1")[-2]


def test_a_stop_ends_a_reload_that_hangs(run, place):
    running = run()

    (place / "release").write_text("hangs")
    running.signal(signal.SIGHUP)
    until((place / "hanging").exists, "it is under way")
    running.signal(signal.SIGTERM)

    assert running.ended() == 0


def test_a_reload_applies_what_it_can_and_names_what_needs_a_restart(run, ask, place, redis_url, raw):
    running = run(queue=None)
    configure(place, '[lock]\nduration = "4s"\n[worker]\nname = "new"', queues=("work", "mail"), slots=3)

    said = ask("ctl", "reload")

    assert "changed: lock.duration, queue.work.concurrency, queue.mail" in said
    assert "served from now on: mail" not in said  # the module serves it anyway
    assert "only a restart changes it: worker.name" in said
    slots = json.loads(ask("ctl", "snapshot", "work"))["slots"]
    assert len(slots) == 3
    with Queue("work", url=redis_url) as queue:
        job = queue.add("a", {"s": 1})
        until(lambda: raw.pttl(f"bull:work:{job.id}:lock") > 0, "it runs")
        assert raw.pttl(f"bull:work:{job.id}:lock") <= 4_000
        assert queue.result(job, timeout_ms=10_000) == "one"
    assert running.events("lock.lost") == []


def test_a_queue_that_is_served_no_more_ends_its_job_and_one_that_comes_is_served(run, ask, place, redis_url):
    """`both` serves work and mail, `one` only work: which queues there are is the code's to say."""
    source = (place / "release.py").read_text()
    running = run(queue=None)
    with Queue("mail", url=redis_url) as mail:
        job = mail.add("a", {"s": 2})
        running.at_work(1)

        (place / "release.py").write_text(source.replace('@processor("mail")', ""))
        assert "served no more: mail" in ask("ctl", "reload")
        later = mail.add("a", {})

        assert mail.result(job, timeout_ms=10_000) == "one"
        running.until("queue.left")
        assert mail.counts()["waiting"] == 1
        assert {each["name"] for each in json.loads(ask("ctl", "snapshot"))["queues"]} == {"work"}

        (place / "release.py").write_text(source)
        assert "served from now on: mail" in ask("ctl", "reload")
        assert mail.result(later, timeout_ms=10_000) == "one"


def test_slots_are_made_more_and_less_and_a_busy_one_ends_its_job(run, ask, queue):
    running = run("--concurrency", "2")
    jobs = [queue.add("a", {"s": 1.5}) for _ in range(2)]
    running.at_work(2)

    assert "work has 1 slots" in ask("ctl", "scale", "-1")
    assert [queue.result(job, timeout_ms=10_000) for job in jobs] == ["one", "one"]
    until(lambda: len(running.runners()) == 1, "one runner is left")
    assert "nothing was changed" in ask("ctl", "scale", "-1", "work", status=1)
    running.signal(signal.SIGTTOU)
    running.signal(signal.SIGTTIN)
    until(lambda: len(running.runners()) == 2, "one slot more")
    until(lambda: running.events("slots.changed")[-1]["slots"] == 2, "it is told")


def test_recycle_replaces_every_runner(run, ask):
    running = run("--concurrency", "2")
    until(lambda: len(running.runners()) == 2, "they are there")
    before = {each.pid for each in running.runners()}

    assert "2 runners are replaced" in ask("ctl", "recycle")

    until(
        lambda: len(now := {each.pid for each in running.runners()}) == 2 and not now & before,
        "two others are there",
    )


def test_quiet_and_resume_of_one_queue(run, ask, queue):
    running = run(queue=None)
    ask("ctl", "quiet", "work")
    running.until("master.quieted")
    job = queue.add("a", {})
    found = {each["name"]: each["quiet"] for each in json.loads(ask("ctl", "snapshot"))["queues"]}
    assert found == {"work": True, "mail": False}
    assert queue.counts()["waiting"] == 1

    ask("ctl", "resume")

    assert queue.result(job, timeout_ms=10_000) == "one"


def test_of_several_masters_one_must_be_named(run, ask):
    first, second = run(), run()

    said = ask("ctl", "quiet", status=2)

    assert "2 masters run here" in said
    assert str(first.pid) in said and str(second.pid) in said
    assert f"{second.pid} fetches nothing more" in ask("ctl", "quiet", "--pid", str(second.pid))
    assert first.events("master.quieted") == []
