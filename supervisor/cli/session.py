"""A conversation with Redis from a command that ends: choose the server, talk, leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from supervisor.cli.command import Common
from supervisor.cli.redis_choice import chosen_redis
from supervisor.client.queue import Queue
from supervisor.config.model import Config, DefaultsConfig
from supervisor.config.shapes import BackoffConfig, Keep
from supervisor.protocol.backoff_choice import Backoff
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.new_job import AddOptions
from supervisor.transport.aio import Redis


class Session(msgspec.Struct, frozen=True):
    """Where to talk to, and the settings it came from."""

    url: str
    config: Config
    json: bool

    @property
    def prefix(self) -> str:
        return self.config.redis.prefix

    def queue(self, name: str) -> Queue:
        """One queue, not yet connected, with the job defaults the config gives it."""
        return Queue(name, url=self.url, prefix=self.prefix, defaults=self.defaults(name))

    def defaults(self, queue: str) -> AddOptions:
        """What `[queue.NAME.defaults]` says, as `add` takes it."""
        own = self.config.queues.get(queue)
        return {} if own is None else job_defaults(own.defaults)

    async def connect(self) -> Redis:
        """A connection of its own, for what is not about one queue."""
        times = self.config.redis
        return await Redis.connect(
            self.url,
            prefix=self.prefix,
            reply_timeout_s=times.reply_timeout_ms / 1000,
            connect_timeout_s=times.connect_timeout_ms / 1000,
        )


def converse(common: Common, talk: Callable[[Session], Awaitable[int]]) -> int:
    """Run `talk` with a server chosen for it; its return value is the exit status."""
    config = common.load().config

    async def talked(url: str) -> int:
        return await talk(Session(url, config, common.json))

    with chosen_redis(config) as choice:
        return asyncio.run(talked(choice.url))


def job_defaults(settings: DefaultsConfig) -> AddOptions:
    """The job defaults of the config in the words of the client."""
    options: dict[str, Any] = {}
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, BackoffConfig):
            value = Backoff(value.kind, value.delay_ms, value.jitter)
        elif isinstance(value, Keep):
            value = KeepJobs(count=value.count, age_s=value.age_s, limit=value.limit)
        if value is not None:
            options[_CLIENT_NAMES.get(name, name)] = value
    return cast(AddOptions, options)


_CLIENT_NAMES = {"size_limit_bytes": "size_limit"}
