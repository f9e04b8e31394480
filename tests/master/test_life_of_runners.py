"""Where runners come from, how long they serve, and what is done when none can work."""

from __future__ import annotations

import os

import pytest

from supervisor.blocking import Queue


@pytest.fixture
def queues(redis_url):
    """A queue by its name."""
    opened: dict[str, Queue] = {}

    def named(name):
        if name not in opened:
            opened[name] = Queue(name, url=redis_url)
        return opened[name]

    yield named
    for each in opened.values():
        each.close()


def results(oxherd, queues, names, *flags, **how):
    """What one job of each queue returned, in a burst."""
    jobs = {name: queues(name).add("any", None) for name in names}
    run = oxherd("--burst", *flags, queue=None, **how)
    assert run.ended() == 0, run.story()
    return run, {name: queues(name).get(job.id).returned for name, job in jobs.items()}


# --- profiles ------------------------------------------------------------------------------------------


def test_a_stricter_profile_of_a_decorator_is_there_before_its_module_is_imported(oxherd, queues):
    """I6: the module is imported again under it, and a queue that did not ask keeps what the flag said."""
    run, seen = results(oxherd, queues, ["plain", "guarded"], "--profile", "none", target="profiles")
    assert seen["guarded"]["scheduler"] == os.SCHED_BATCH, "the import of `process` was isolated"
    assert seen["plain"]["scheduler"] == os.SCHED_OTHER
    assert seen["guarded"]["template"] != seen["plain"]["template"]
    first_fetch = run.lines.index(run.events("master.started")[0])
    assert max(run.lines.index(line) for line in run.events("template.started")) < first_fetch


def test_queues_of_one_profile_share_a_template(oxherd, queues):
    run, seen = results(oxherd, queues, ["plain", "guarded"], target="profiles")
    assert seen["guarded"]["template"] == seen["plain"]["template"]
    assert len(run.events("template.started")) == 1


def test_a_queue_of_the_config_has_a_profile_of_its_own(oxherd, queues, tmp_path):
    """The stricter of what file and decorator say."""
    config = tmp_path / "oxherd.toml"
    config.write_text('[queue.plain.policy]\nprofile = "none"\n[queue.guarded.policy]\nprofile = "none"\n')
    _, seen = results(oxherd, queues, ["plain", "guarded"], "--config", str(config), target="profiles")
    assert seen["plain"]["scheduler"] == os.SCHED_OTHER
    assert seen["guarded"]["scheduler"] == os.SCHED_BATCH


def test_a_user_that_cannot_be_had_ends_the_start_with_a_sentence(oxherd):
    run = oxherd("--user", "no-such-user", "--burst")
    assert run.ended() == 2
    assert "no user 'no-such-user'" in "".join(run.other)
