"""[pool]: which queues share slots, and one sentence for each mistake."""

from __future__ import annotations

import pytest

from supervisor.config.load import load
from supervisor.config.shapes import PoolShare
from supervisor.errors import ConfigError


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "oxherd.toml"


@pytest.fixture
def loaded(path):
    def read(text, env=None, flags=None):
        path.write_text(text)
        return load(path, env or {}, flags or {})

    return read


FOUR = "[pool]\nslots = 4\n"


def test_each_queue_without_a_concurrency_of_its_own_has_a_share(loaded):
    config = loaded(
        f"{FOUR}[queue.red]\npool = {{ weight = 3, minimum = 1 }}\n[queue.blue]\n"
        "[queue.green]\nconcurrency = 2\n"
    ).config
    shares = [config.effective(name).pool for name in ("red", "blue", "green", "unheard_of")]
    assert shares == [PoolShare(weight=3, minimum=1), PoolShare(), None, PoolShare()]
    assert config.effective("green").concurrency == 2


def test_without_a_pool_nothing_is_shared(loaded):
    assert loaded("[queue.red]\n").config.effective("red").pool is None


def test_flag_and_variable_say_how_many_slots_there_are(loaded):
    assert loaded("", {"OXHERD_POOL_SLOTS": "3"}).config.pool.slots == 3
    made = loaded(FOUR, {"OXHERD_POOL_SLOTS": "3"}, {"--pool": "2"})
    assert (made.config.pool.slots, made.origin("pool", "slots")) == (2, "flag --pool")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[pool]\nslots = 0", "oxherd.toml:2: [pool] slots: 0 is less than 1"),
        ("[pool]\nslots = 2000", "oxherd.toml:2: [pool] slots: 2000 is more than 1024"),
        ('[pool]\nslots = "many"', "oxherd.toml:2: [pool] slots: 'many' is no whole number"),
        ("[pool]\nslot = 4", "oxherd.toml:2: [pool] 'slot' is unknown; did you mean 'slots'?"),
        (
            f"{FOUR}[queue.red]\npool = 3",
            "oxherd.toml:4: [queue.red] pool: 3 is no table like { weight = 3, minimum = 1 }",
        ),
        (f"{FOUR}[queue.red]\npool = true", "[queue.red] pool: true is no table like"),
        (
            f"{FOUR}[queue.red]\npool = {{ wieght = 3 }}",
            "oxherd.toml:4: [queue.red] pool: 'wieght' is unknown; did you mean 'weight'?",
        ),
        (
            f"{FOUR}[queue.red]\npool = {{ weight = 0 }}",
            "[queue.red] pool: weight is 0 and must be a whole number, 1 or more",
        ),
        (
            f"{FOUR}[queue.red]\npool = {{ weight = 1001 }}",
            "[queue.red] pool: weight is 1001 and must be a whole number, 1 to 1000",
        ),
        (
            f"{FOUR}[queue.red]\npool = {{ minimum = -1 }}",
            "[queue.red] pool: minimum is -1 and must be a whole number, 0 or more",
        ),
        (
            f"{FOUR}[queue.red]\nconcurrency = 2\npool = {{ weight = 2 }}",
            "oxherd.toml:5: [queue.red] pool: a queue has slots of the pool or a concurrency of its own, "
            "not both; leave one of them out",
        ),
        (
            "[queue.red]\npool = { weight = 2 }",
            "oxherd.toml:2: [queue.red] pool: there is no pool; say how many slots it has: slots = N in "
            "[pool], or --pool N",
        ),
        (
            f"{FOUR}[queue.red]\npool = {{ minimum = 3 }}\n[queue.blue]\npool = {{ minimum = 2 }}",
            "[pool] slots (from file oxherd.toml:2): 4 are fewer than the 5 that queues have as their "
            "minimum (red 3, blue 2)",
        ),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place_and_what_is_allowed(loaded, text, sentence):
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    assert sentence in str(caught.value)
    assert "othing was started" in str(caught.value)


def test_a_flag_that_leaves_too_few_slots_is_named(loaded):
    with pytest.raises(ConfigError, match=r"\[pool\] slots \(from flag --pool\): 1 are fewer than the 2"):
        loaded(f"{FOUR}[queue.red]\npool = {{ minimum = 2 }}", None, {"--pool": "1"})
