"""Which Redis a client talks to: never one that nobody named."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.client import blocking, queue
from supervisor.client.where import find, resolve_url
from supervisor.errors import ConfigError


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without oxherd.toml and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("OXHERD_REDIS_URL", "OXHERD_CONFIG", "OXHERD_REDIS_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("kind", [queue.Queue, blocking.Queue])
def test_without_a_redis_a_queue_is_not_made_and_the_variable_is_named(kind: type):
    with pytest.raises(ConfigError, match=r"OXHERD_REDIS_URL=redis://HOST:PORT.*OXHERD_REDIS_URL=embedded"):
        kind("thumbnails")


def test_the_environment_names_it():
    found = find("q", {"OXHERD_REDIS_URL": "redis://there:1", "OXHERD_REDIS_PREFIX": "mine"})
    assert (found.url, found.prefix, found.defaults) == ("redis://there:1", "mine", {})


def test_the_file_names_it_and_the_defaults_of_the_queue(no_settings: Path, monkeypatch: pytest.MonkeyPatch):
    (no_settings / "oxherd.toml").write_text(
        '[redis]\nurl = "redis://there:1"\n[queue.q.defaults]\nattempts = 3\nbackoff = "exponential:1s"\n'
        "remove_on_complete = 5\n"
    )
    made = blocking.Queue("q")
    options = made.context.defaults
    assert options["attempts"] == 3
    assert made.keys.base == "bull:q"
    assert blocking.Queue("other").context.defaults == {}


def test_a_url_that_is_given_is_all_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OXHERD_REDIS_PREFIX", "mine")
    assert blocking.Queue("q", url="redis://there:1").keys.base == "bull:q"
    assert blocking.Queue("q", url="redis://there:1", prefix="{x}").keys.base == "{x}:q"


def test_a_url_leads_where_it_says():
    where = resolve_url("unix:///tmp/s")
    assert (where.url, where.server) == ("unix:///tmp/s", None)
    where.close()


def test_an_embedded_server_that_does_not_run_is_not_started(tmp_path: Path):
    with pytest.raises(ConfigError, match="does not run, and a client does not start it"):
        resolve_url("embedded", tmp_path)
    assert list(tmp_path.iterdir()) == []
