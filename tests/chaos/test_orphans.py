"""What a killed master's jobs leave on the host is ended by the next master."""

from __future__ import annotations

import signal

import psutil
from running import until


def test_the_next_master_ends_what_the_jobs_of_a_killed_one_left(oxherd, queue):
    """It has a session of its own, so it dies neither with its runner nor with the master."""
    first = oxherd()
    job = queue.add("any", {"do": "litter", "hang": True}, attempts=1)
    orphan = psutil.Process(until(lambda: queue.get(job.id).progress, "the daemon's number"))
    first.signal(signal.SIGKILL)
    first.ended()
    assert orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE

    second = oxherd()
    assert second.until("orphans.killed")["pids"] == [orphan.pid]
    until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, "it is gone")


def test_a_second_master_leaves_what_belongs_to_the_first(oxherd, queue):
    first = oxherd()
    job = queue.add("any", {"do": "litter", "hang": True}, attempts=1)
    daemon = psutil.Process(until(lambda: queue.get(job.id).progress, "the daemon's number"))
    second = oxherd()
    second.until("master.started")
    second.signal(signal.SIGTERM)
    second.ended()
    assert not second.events("orphans.killed")
    assert daemon.is_running() and daemon.status() != psutil.STATUS_ZOMBIE
    first.signal(signal.SIGQUIT)
    first.ended()
    until(
        lambda: not daemon.is_running() or daemon.status() == psutil.STATUS_ZOMBIE, "it went with its runner"
    )
