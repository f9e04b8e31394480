"""What the tests of the wire share: commands run over a plain connection, on a clock they turn themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from supervisor.lua import source
from supervisor.protocol.commands.add import AddJobs, NewJob
from supervisor.protocol.commands.work import Exchange, FetchedJob, FinishAndFetch, Outcome
from supervisor.protocol.keys import QueueKeys

NOW_MS = 1_800_000_000_000
LOCK_MS = 30_000


@pytest.fixture(autouse=True)
def no_masters_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Suites share the cores, and `status --check` tells of every master of this user that it finds."""
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(tmp_path_factory.getbasetemp() / "run"))


class Wire:
    """One queue and a clock. `raw` is for looking at keys; `run` takes commands."""

    def __init__(self, raw: redis.Redis, name: str = "paint") -> None:
        self.raw = raw
        self.queue = QueueKeys(name)
        self.now_ms = NOW_MS
        self._calls = 0

    def request(self, *parts: Any) -> Any:
        """One request, its reply as the server gave it."""
        connection = self.raw.connection_pool.get_connection()
        try:
            connection.send_command(*parts)
            return connection.read_response()
        finally:
            self.raw.connection_pool.release(connection)

    def run(self, command: Any) -> Any:
        if hasattr(command, "script"):
            keys = command.keys()
            reply = self.request("EVAL", source(command.script), len(keys), *keys, *command.args())
            return command.decode(reply)
        return command.decode([self.request(*request) for request in command.requests()])

    def add(self, *jobs: NewJob, count: int = 0) -> list[Any]:
        """Add jobs; or `count` plain ones."""
        return self.run(AddJobs(self.queue, jobs or [self.job() for _ in range(count)]))

    def job(self, name: str = "j", **parts: Any) -> NewJob:
        return NewJob(
            **{"name": name, "data": b"{}", "opts": b'{"attempts":0}', "timestamp": self.now_ms} | parts
        )

    def exchange(self, outcomes: Sequence[Outcome] = (), count: int = 0, **parts: Any) -> Exchange:
        self._calls += 1
        call = {"call_token": f"w:{self._calls}", "now_ms": self.now_ms, "lock_ms": LOCK_MS} | parts
        return self.run(FinishAndFetch(self.queue, count=count, outcomes=outcomes, **call))

    def fetch(self, count: int = 1, **parts: Any) -> list[FetchedJob]:
        return list(self.exchange(count=count, **parts).jobs)

    def events(self, queue: QueueKeys | None = None) -> list[dict[str, str]]:
        entries = self.raw.xrange((queue or self.queue).events)
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    def forget_events(self) -> None:
        self.raw.delete(self.queue.events)

    def hash(self, job_id: str, queue: QueueKeys | None = None) -> dict[str, str]:
        found = self.raw.hgetall((queue or self.queue).job(job_id))
        return {name.decode(): value.decode() for name, value in found.items()}

    def ids(self, key: str) -> list[str]:
        """The members of a list, left to right, or of a sorted set, in order."""
        kind = self.raw.type(key)
        found = self.raw.lrange(key, 0, -1) if kind == b"list" else self.raw.zrange(key, 0, -1)
        return [member.decode() for member in found]

    def markers(self) -> dict[str, float]:
        return {
            member.decode(): score
            for member, score in self.raw.zrange(self.queue.marker, 0, -1, withscores=True)
        }


@pytest.fixture
def wire(raw: redis.Redis) -> Wire:
    return Wire(raw)
