"""Thresholds of the config, as a whole master tells them."""

from __future__ import annotations


def test_a_master_says_that_a_threshold_is_passed_and_that_it_is_over(oxherd, queue, tmp_path):
    config = tmp_path / "oxherd.toml"
    config.write_text(
        '[alerts]\nmax_waiting = 10\ninterval = "100ms"\n[queue.work.alerts]\nmax_waiting = 2\n'
    )
    queue.add_bulk([("any", {"do": "sleep", "s": 0.4})] * 5)
    running = oxherd("--config", str(config), "--concurrency", "1")
    raised = running.until("alert.raised")
    assert (raised["queue"], raised["threshold"], raised["level"]) == ("work", "waiting", "warning")
    assert raised["why"].endswith("jobs wait, more than 2")
    running.until("job.completed", 3)
    running.until("alert.cleared")
    assert len(running.events("alert.raised")) == 1


def test_the_oldest_job_is_watched_by_a_flag_too(oxherd, queue):
    queue.add_bulk([("any", {"do": "sleep", "s": 1})] * 2)
    running = oxherd("--alerts-max-age", "200ms", "--alerts-interval", "100ms", "--concurrency", "1")
    assert running.until("alert.raised")["threshold"] == "age"
    running.until("alert.cleared")


def test_without_a_threshold_nobody_looks(oxherd, queue, raw):
    raw.config_resetstat()
    queue.add("any", {"do": "nothing"})
    running = oxherd("--alerts-interval", "100ms")
    running.until("job.completed")
    assert not running.events("alert.raised")
    assert "cmdstat_lindex" not in raw.info("commandstats")
