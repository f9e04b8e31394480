from __future__ import annotations

import pytest

from supervisor.config.load import find, load
from supervisor.config.shapes import BackoffConfig, Keep, Limiter
from supervisor.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path):
    """Write the config file; returns its path."""

    def write_file(text: str):
        path = tmp_path / "oxherd.toml"
        path.write_text(text)
        return path

    return write_file


def mistakes_of(path, env=None, flags=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, env or {}, flags or {})
    return str(caught.value)


def test_without_anything_every_option_has_its_default():
    loaded = load(None, {}, {})
    assert loaded.path is None
    assert loaded.config.lock.duration_ms == 30_000
    assert loaded.origin("lock", "duration") == "default"


def test_flags_win_over_environment_over_file_over_default(write):
    path = write('[lock]\nduration = "10s"\n[stalled]\ninterval = "11s"\n[stop]\ndeadline = "12s"\n')
    env = {"OXHERD_LOCK_DURATION": "20s", "OXHERD_STALLED_INTERVAL": "21s"}

    loaded = load(path, env, {"--lock-duration": "30s"})

    config = loaded.config
    values = (config.lock.duration_ms, config.stalled.interval_ms, config.stop.deadline_ms)
    assert values == (30_000, 21_000, 12_000)
    assert loaded.origin("lock", "duration") == "flag --lock-duration"
    assert loaded.origin("stalled", "interval_ms") == "env OXHERD_STALLED_INTERVAL"
    assert loaded.origin("stop", "deadline") == "file oxherd.toml:6"
    assert loaded.origin("stalled", "max_count") == "default"


def test_the_file_is_the_named_one_else_the_variables_else_the_one_here(write, tmp_path):
    here = write('[worker]\nname = "here"\n')
    other = tmp_path / "other.toml"
    other.write_text('[worker]\nname = "other"\n')

    assert load(None, {}, {}).config.worker.name == "here"
    assert load(None, {"OXHERD_CONFIG": str(other)}, {}).config.worker.name == "other"
    assert load(here, {"OXHERD_CONFIG": str(other)}, {}).config.worker.name == "here"


def test_a_queue_has_a_table_of_its_own(write):
    path = write(
        """
        [lock]
        duration = "10s"

        [queue.thumbnails]
        target = "work:resize"
        concurrency = 4
        limiter = { max = 100, duration = "1s" }
        dead_letter = "dead"

        [queue.thumbnails.lock]
        duration = "5s"
        [queue.thumbnails.policy]
        timeout = "60s"
        [queue.thumbnails.keep]
        completed = { count = 1000, age = "24h" }
        [queue.thumbnails.defaults]
        attempts = 3
        backoff = "exponential:1s"
        delay = "500ms"

        [queue."mail.out"]
        target = ["mail", "bulk"]
        """
    )

    config = load(path, {}, {}).config

    settings = config.effective("thumbnails")
    assert settings.target == ("work:resize",)
    assert settings.concurrency == 4
    assert settings.limiter == Limiter(max=100, duration_ms=1_000)
    assert settings.dead_letter == "dead"
    assert settings.lock_ms == 5_000
    assert settings.policy.timeout_ms == 60_000
    assert settings.keep.completed == Keep(count=1000, age_s=86_400)
    defaults = config.queues["thumbnails"].defaults
    assert (defaults.attempts, defaults.delay_ms) == (3, 500)
    assert defaults.backoff == BackoffConfig(kind="exponential", delay_ms=1_000)
    assert config.effective("mail.out").target == ("mail", "bulk")
    assert config.effective("mail.out").lock_ms == 10_000


@pytest.mark.parametrize(("text", "cpus"), [("1.5", 1.5), ("2", 2.0), ('"0.25"', 0.25), ("0", 0.0)])
def test_cores_are_a_number_that_need_not_be_whole(write, text, cpus):
    path = write(f"[queue.work.policy]\ncpus = {text}\ncpu_weight = 50\n")
    policy = load(path, {}, {}).config.effective("work").policy
    assert (policy.cpus, policy.cpu_weight) == (cpus, 50)
    assert load(path, {}, {"--cpus": "3"}).config.effective("work").policy.cpus == 3.0
    assert load(path, {"OXHERD_POLICY_CPUS": "0.5"}, {}).config.policy.cpus == 0.5


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('cpus = "many"', "'many' is no number"),
        ("cpus = true", "true is no number"),
        ("cpus = nan", "nan is no number"),
        ("cpus = -1", "-1 is less than 0"),
        ("cpus = 0.005", "the kernel keeps 0.01 at least"),
        ("cpu_weight = 10001", "10001 is more than 10000"),
    ],
)
def test_cores_and_weights_that_cannot_be_are_a_sentence(write, line, sentence):
    with pytest.raises(ConfigError) as caught:
        load(write(f"[policy]\n{line}\n"), {}, {})
    assert sentence in str(caught.value)


def test_a_flag_wins_over_the_table_of_a_queue_too(write):
    path = write('[queue.thumbnails.lock]\nduration = "5s"\n[stalled]\ninterval = "9s"\n')

    loaded = load(path, {"OXHERD_STALLED_INTERVAL": "8s"}, {"--lock-duration": "7s"})

    settings = loaded.config.effective("thumbnails")
    assert (settings.lock_ms, settings.stalled_interval_ms) == (7_000, 8_000)
    assert loaded.origin("queue.thumbnails.lock", "duration") == "flag --lock-duration"
    assert loaded.origin("queue.thumbnails.stalled", "interval") == "env OXHERD_STALLED_INTERVAL"


def test_a_table_of_a_queue_keeps_what_it_does_not_override(write):
    path = write('[stalled]\ninterval = "9s"\n[queue.thumbnails.stalled]\nmax_count = 5\n')
    settings = load(path, {}, {}).config.effective("thumbnails")
    assert (settings.stalled_interval_ms, settings.max_stalled) == (9_000, 5)


def test_all_mistakes_are_said_together_with_file_key_and_nearest_name(write):
    path = write(
        """
        [lock]
        duratoin = "10s"
        [stalled]
        interval = 30
        max_count = -1
        [lok]
        [queue.thumbnails]
        concurency = 3
        [queue.thumbnails.policy]
        timeout = "long"
        """
    )

    text = mistakes_of(path, {"OXHERD_STOP_DEADLIN": "3s"}, {"--log-level": "loud"})

    assert text.splitlines()[0] == "the settings have 8 mistakes; nothing was started:"
    assert "oxherd.toml:3: [lock] 'duratoin' is unknown; did you mean 'duration'?" in text
    assert (
        "oxherd.toml:5: [stalled] interval: 30 has no unit; write it in quotes with one, like '30s'" in text
    )
    assert "oxherd.toml:6: [stalled] max_count: -1 is less than 0" in text
    assert "oxherd.toml:7: [lok]: 'lok' is unknown; did you mean 'lock'?" in text
    assert "oxherd.toml:9: [queue.thumbnails] 'concurency' is unknown; did you mean 'concurrency'?" in text
    assert "oxherd.toml:11: [queue.thumbnails.policy] timeout: 'long' is no duration" in text
    assert "env 'OXHERD_STOP_DEADLIN' is unknown; did you mean 'OXHERD_STOP_DEADLINE'?" in text
    assert "--log-level: 'loud' is none of debug, info, warning, error" in text


def test_one_mistake_is_one_sentence(write):
    text = mistakes_of(write('[lock]\nduration = "10ms"\n'))
    assert text == "oxherd.toml:2: [lock] duration: 10ms is less than 1s; nothing was started"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[lock\n", "is not TOML"),
        ("lock = 5\n", "lock must be a table"),
        ("queue = 5\n", "each queue has a table of its own"),
        ("[queue]\ntarget = 'x'\n", "each queue has a table of its own"),
        ('[queue."a:b"]\n', "a queue's name has no colon"),
        ('[queue.""]\n', "'': a queue's name is not empty"),
        ('[queue.q]\ntarget = ""\n', "[queue.q] target: it is empty"),
        ("[policy]\ntimeout = true\n", "true has no unit"),
        ("[queue.q]\nlimiter = 5\n", "5 is no table"),
        ("[queue.q]\nlimiter = { max = 5 }\n", "a limiter needs both"),
        ("[queue.q]\nlimiter = { max = 5, duration = 3 }\n", "must be written with its unit"),
        ("[queue.q]\nlimiter = { max = 0, duration = '3s' }\n", "must be a whole number, 1 or more"),
        ("[queue.q]\ntarget = 5\n", "5 is not text"),
        ("[queue.q]\nconcurrency = 0\n", "0 is less than 1"),
        ("[queue.q]\nconcurrency = true\n", "true is no whole number"),
        ("[queue.q]\ndead_letter = 5\n", "5 is not text"),
        ("[queue.q]\ndead_letter = 'a:b'\n", "dead_letter: a queue's name has no colon"),
        ("[queue.q]\ndead_letter = 'q'\n", "jobs of 'q' that fail would come back to it; nothing"),
        ("[queue.q.defaults]\nbackoff = 'exponential:1s:7'\n", "a number from 0 to 1"),
        ("[queue.q.defaults]\nbackoff = { tpye = 'fixed' }\n", "'tpye' is unknown"),
        ("[queue.q]\npolicy = 5\n", "queue.q.policy must be a table"),
        ("[policy]\ntimeout = '5s'\nsoft_timeout = '5s'\n", "the hard timeout comes first"),
        ("[stop]\ndeadline = '5s'\ngrace = '6s'\n", "the grace is longer than the deadline"),
        ("[queue.q.policy]\nresult = '1M'\n", "it is the same for all queues; set it in [policy]"),
        ("[redis]\nurl = 'http://x'\n", "an address starts with one of redis://"),
        ("[worker]\nname = true\n", "true is not text"),
        ("[stalled]\nskip = 'perhaps'\n", "is neither true nor false"),
    ],
)
def test_what_cannot_be_understood_is_said_in_one_sentence(write, text, sentence):
    message = mistakes_of(write(text))
    assert sentence in message
    assert "oxherd.toml" in message
    assert message.endswith("nothing was started")
    assert "\n" not in message


def test_a_question_is_followed_by_a_sentence(write):
    text = mistakes_of(write("[polcy]\n"))
    assert text == "oxherd.toml:1: [polcy]: 'polcy' is unknown; did you mean 'policy'? Nothing was started"


def test_a_file_that_is_no_text_or_may_not_be_read_is_said_without_pythons_words(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert f"{tmp_path / 'binary.toml'} is not UTF-8 text; nothing" in mistakes_of(tmp_path / "binary.toml")
    assert f"{tmp_path} cannot be read: Is a directory; nothing was started" in mistakes_of(tmp_path)


def test_where_the_directory_may_not_be_looked_into_there_is_no_file(monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as during:
        during.setattr("os.stat", refuse)
        found = find({})
    assert found is None


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--result", "64M", "64M is more than 63M"),
        ("--stalled-max-count", "many", "'many' is no whole number"),
        ("--lock-duratoin", "1s", "did you mean '--lock-duration'?"),
    ],
)
def test_a_limit_that_would_not_be_kept_is_refused_and_never_ignored(flag, value, sentence):
    assert sentence in mistakes_of(None, flags={flag: value})


def test_an_empty_variable_counts_as_unset_and_foreign_ones_are_left_alone():
    env = {
        "OXHERD_LOCK_DURATION": "",
        "OXHERD_HOME_OF_MINE": "x",
        "OXHERD_TRACEBACK": "1",
        "LOCK_DURATION": "x",
    }
    assert load(None, env, {}).config.lock.duration_ms == 30_000


def test_a_variable_of_a_section_of_ours_must_be_an_option():
    assert "OXHERD_LOCK_NONSENSE" in mistakes_of(None, {"OXHERD_LOCK_NONSENSE": "1"})


def test_a_named_file_that_is_not_there_is_a_mistake(tmp_path):
    assert "does not exist" in mistakes_of(tmp_path / "none.toml")
    assert "does not exist" in mistakes_of(None, {"OXHERD_CONFIG": str(tmp_path / "none.toml")})


def test_a_file_that_is_no_text_is_a_mistake(tmp_path):
    path = tmp_path / "oxherd.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in mistakes_of(path)
    assert "cannot be read" in mistakes_of(tmp_path)  # a directory


def test_the_state_directory_is_that_of_the_environment_given():
    assert str(load(None, {"XDG_STATE_HOME": "/s"}, {}).config.embedded.state_dir) == "/s/oxherd"
    env = {"XDG_STATE_HOME": "/s", "OXHERD_EMBEDDED_STATE_DIR": "/mine"}
    assert str(load(None, env, {}).config.embedded.state_dir) == "/mine"


def test_switches_are_true_or_false_in_words():
    assert load(None, {"OXHERD_STALLED_SKIP": "yes"}, {}).config.stalled.skip
    assert not load(None, {"OXHERD_STALLED_SKIP": "yes"}, {"--stalled-skip": "false"}).config.stalled.skip


def test_dead_letters_may_be_handed_on_but_not_in_a_circle(write):
    chain = """
        [queue.a]
        dead_letter = "b"
        [queue.b]
        dead_letter = "c"
        """
    assert load(write(chain), {}, {}).config.effective("b").dead_letter == "c"

    message = mistakes_of(write(chain + '[queue.c]\ndead_letter = "b"\n'))

    assert "jobs of 'b' that fail would come back to it by way of 'c'" in message
    assert "jobs of 'c' that fail would come back to it by way of 'b'" in message
    assert "jobs of 'a'" not in message
