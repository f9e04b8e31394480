"""Which Redis is refused, and which is warned of."""

from __future__ import annotations

import pytest

from supervisor.errors import ConfigError
from supervisor.master.redis_checks import check_version, doubts
from supervisor.transport.opening import Server


@pytest.mark.parametrize("version", [(5, 0, 14), (6, 0, 16), (6, 1)])
def test_a_redis_that_is_too_old_is_refused_with_a_sentence(version: tuple[int, ...]) -> None:
    told = ".".join(map(str, version))
    with pytest.raises(ConfigError, match=rf"Redis {told} at redis://old is too old.*No job was taken"):
        check_version(Server(version=version, redis_version=told), "redis://old")


@pytest.mark.parametrize("version", [(6, 2), (6, 2, 0), (7, 0, 15), (0,)])
def test_a_redis_that_is_new_or_does_not_tell_is_taken(version: tuple[int, ...]) -> None:
    check_version(Server(version=version), "redis://new")


def test_a_redis_that_may_throw_jobs_away_is_warned_of() -> None:
    assert doubts(Server(version=(7, 0, 0), maxmemory_policy="noeviction")) == []
    assert "allkeys-lru" in doubts(Server(version=(7, 0, 0), maxmemory_policy="allkeys-lru"))[0]
    assert "no right to INFO" in doubts(Server())[0]
