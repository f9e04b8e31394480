"""What differs between two readings of the settings, and what a running master cannot take over."""

from __future__ import annotations

from supervisor.config.changes import RESTART, changes, needs_restart, taken_over
from supervisor.config.load import load
from supervisor.config.model import SECTIONS, Config
from supervisor.config.option import options_of, toml_name


def config(tmp_path, text: str) -> Config:
    path = tmp_path / "oxherd.toml"
    path.write_text(text)
    return load(path, {}, {}).config


def test_each_option_is_named_with_its_section_and_queue(tmp_path):
    old = config(tmp_path, '[queue.a]\nconcurrency=1\n[queue.a.lock]\nduration="5s"\n[queue.b]\n')
    new = config(
        tmp_path,
        '[stop]\ndeadline="5s"\n[queue.a]\nconcurrency=2\n[queue.a.lock]\nduration="6s"\n'
        "[queue.a.stalled]\nskip=true\n[queue.c]\n",
    )
    assert changes(old, old) == []
    assert set(changes(old, new)) == {
        "stop.deadline",
        "queue.a.concurrency",
        "queue.a.lock.duration",
        "queue.a.stalled",
        "queue.b",
        "queue.c",
    }


def test_what_needs_a_restart_stays_as_it_was_and_the_rest_is_taken_over(tmp_path):
    old = config(tmp_path, "")
    new = config(
        tmp_path,
        '[redis]\nurl="redis://x"\nprefix="p"\n[worker]\nname="n"\nmetrics=5\n'
        '[policy]\nuser="u"\nmemory="1G"\n[lock]\nduration="5s"\n',
    )
    taken = taken_over(old, new)
    assert taken.redis == old.redis
    assert (taken.worker.name, taken.worker.metrics) == ("", 5)
    assert (taken.policy.user, taken.policy.memory_bytes) == ("", 1 << 30)
    assert taken.lock.duration_ms == 5_000
    assert {name for name in changes(old, new) if needs_restart(name)} == {
        "redis.url",
        "redis.prefix",
        "worker.name",
        "policy.user",
    }


def test_every_name_of_the_list_is_a_section_or_an_option():
    known = set(SECTIONS) | {
        f"{section}.{toml_name(name)}"
        for section, kind in SECTIONS.items()
        for name, _, _ in options_of(kind)
    }
    assert known >= RESTART
