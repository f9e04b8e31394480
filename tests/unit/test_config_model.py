from __future__ import annotations

import pytest

from supervisor.config.host import default_state_dir, usable_cpus
from supervisor.config.load import flags
from supervisor.config.model import (
    SECTIONS,
    Config,
    DefaultsConfig,
    LockConfig,
    PolicyConfig,
    QueueConfig,
    RedisConfig,
    StopConfig,
)
from supervisor.config.option import env_name, options_of
from supervisor.config.shapes import KEEP, BackoffConfig, Keep
from supervisor.protocol.new_job import encode_options

SECTION_CLASSES = [*SECTIONS.values(), QueueConfig, DefaultsConfig]


@pytest.mark.parametrize("section", SECTION_CLASSES)
def test_every_option_says_what_it_is_for(section):
    assert all(len(about.doc) > 10 for _, about, _ in options_of(section))
    assert section.__doc__.startswith("[")


@pytest.mark.parametrize("section", SECTION_CLASSES)
def test_every_default_is_a_value_the_option_would_take(section):
    for name, about, default in options_of(section):
        if default is None or default in ("", ()):
            continue
        assert about.read(about.kind.show(default)) == default, name


@pytest.mark.parametrize("section", SECTION_CLASSES)
def test_numbers_of_time_and_size_carry_their_unit_in_the_name(section):
    for name, about, _ in options_of(section):
        if about.kind.metavar == "DURATION":
            assert name.endswith("_ms")
        if about.kind.metavar == "SIZE":
            assert name.endswith("_bytes")


def test_flags_and_variables_have_one_name_each():
    names = [flag.name for flag in flags()]
    variables = [
        env_name(section, name) for section, kind in SECTIONS.items() for name, _, _ in options_of(kind)
    ]
    assert len(set(names)) == len(names) == len(set(variables)) == len(variables)


def test_flags_carry_their_section_but_for_policy_and_the_address():
    names = {flag.name for flag in flags()}
    assert {"--redis", "--prefix", "--timeout", "--memory", "--profile", "--soft-timeout"} <= names
    assert {"--lock-duration", "--stalled-interval", "--stop-deadline"} <= names
    assert env_name("redis", "url") == "OXHERD_REDIS_URL"
    assert env_name("lock", "duration_ms") == "OXHERD_LOCK_DURATION"


def test_a_flag_tells_the_command_line_all_it_needs():
    by_name = {flag.name: flag for flag in flags()}
    assert by_name["--lock-duration"].default == "30s"
    assert by_name["--lock-duration"].parameter == "lock_duration"
    assert by_name["--stalled-skip"].switch
    assert by_name["--log-format"].choices == ("auto", "json", "console")
    assert by_name["--result"].default == "16M"


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        Config().lock.duration_ms = 5


def test_the_password_in_an_address_is_not_shown():
    assert "secret" not in repr(Config(redis=RedisConfig(url="redis://:secret@example.org")))


def test_a_queue_without_a_table_has_the_settings_of_the_file():
    settings = Config(lock=LockConfig(duration_ms=7_000)).effective("unknown")
    assert settings.lock_ms == 7_000
    assert settings.concurrency == usable_cpus()


def test_a_queue_overrides_what_its_table_says():
    own = QueueConfig(concurrency=3, lock=LockConfig(duration_ms=2_000), policy=PolicyConfig(timeout_ms=5))
    settings = Config(queues={"thumbnails": own}).effective("thumbnails", declared_concurrency=8)
    assert (settings.lock_ms, settings.concurrency, settings.policy.timeout_ms) == (2_000, 3, 5)


def test_the_concurrency_of_a_decorator_holds_where_the_settings_are_silent():
    assert Config().effective("thumbnails", declared_concurrency=8).concurrency == 8


@pytest.mark.parametrize("deadline_ms", [0, 1, 10, 1_000, 30_000, 90_000])
def test_grace_cancel_and_kill_fit_under_the_deadline_in_this_order(deadline_ms):
    """I9: quiet, grace, cancel, kill under one deadline."""
    stop = StopConfig(deadline_ms=deadline_ms)
    assert 0 <= stop.cancel_after_ms <= stop.kill_after_ms <= deadline_ms


def test_a_grace_of_the_users_own_moves_the_other_steps():
    stop = StopConfig(deadline_ms=30_000, grace_ms=0)
    assert (stop.cancel_after_ms, stop.kill_after_ms) == (0, 20_000)


def test_default_job_options_are_what_add_takes():
    defaults = DefaultsConfig(
        attempts=3,
        backoff=BackoffConfig(kind="exponential", delay_ms=1_000, jitter=0.5),
        remove_on_complete=Keep(count=5, age_s=60),
        remove_on_fail=Keep(),
        size_limit_bytes=100,
        timeout_ms=500,
        lifo=True,
    )
    stored = encode_options(defaults.as_options())
    assert stored["backoff"] == {"type": "exponential", "delay": 1_000, "jitter": 0.5}
    assert stored["attempts"] == 3
    assert DefaultsConfig().as_options() == {}


@pytest.mark.parametrize(
    ("value", "keep"),
    [
        ("all", Keep()),
        (0, Keep(count=0)),
        ("100", Keep(count=100)),
        ("24h", Keep(age_s=86_400)),
        ("100,24h", Keep(count=100, age_s=86_400)),
        ({"age": "1500ms"}, Keep(age_s=2)),
        ({"count": 3, "age": "1h", "limit": 10}, Keep(count=3, age_s=3600, limit=10)),
    ],
)
def test_what_to_keep_is_said_in_a_word_or_a_table(value, keep):
    assert KEEP.read(value) == keep


@pytest.mark.parametrize("value", ["some", -1, True, {"cuont": 3}, {"age": 5}, {"limit": 0}, [1], "1,2x"])
def test_nonsense_to_keep_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011
        KEEP.read(value)


def test_the_state_directory_follows_the_environment():
    assert str(default_state_dir({"XDG_STATE_HOME": "/state"})) == "/state/oxherd"
    assert str(default_state_dir({"HOME": "/home/ann"})) == "/home/ann/.local/state/oxherd"
    assert str(default_state_dir({"XDG_STATE_HOME": "relative", "HOME": "/h"})) == "/h/.local/state/oxherd"


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 64),
        ({"a/b": "max 100000"}, 64),
        ({"a/b": "150000 100000"}, 2),
        ({"a/b": "10000 100000"}, 1),
        ({"a": "300000 100000", "a/b": "max 100000"}, 3),
        ({"a": "100000 100000", "a/b": "300000 100000"}, 1),
        ({"a": "100000 100000"}, 1),
        ({"a/b": "nonsense"}, 64),
    ],
)
def test_a_quota_of_the_control_group_counts_as_fewer_cpus(tmp_path, monkeypatch, quotas, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    (tmp_path / "a/b").mkdir(parents=True)
    for group, text in quotas.items():
        (tmp_path / group / "cpu.max").write_text(text)
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/a/b\n")

    assert usable_cpus(tmp_path, own) == expected


def test_without_control_groups_the_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 5})
    assert usable_cpus(tmp_path, tmp_path / "missing") == 2
