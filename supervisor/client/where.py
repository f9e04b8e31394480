"""Which Redis a client talks to, when the program does not say: environment and config file decide.

A client never starts a server and never falls back to one that nobody named: a private queue in production
would take jobs that no worker ever sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from supervisor.config.load import load
from supervisor.config.model import Config
from supervisor.config.redis_login import named_url, whole_url
from supervisor.errors import ConfigError
from supervisor.transport import embedded
from supervisor.transport.embedded import EmbeddedServer

EMBEDDED: Final = "embedded"


class Found(msgspec.Struct, frozen=True):
    """What environment and config file say of a queue. `state_dir` is where an embedded server is found."""

    url: str
    prefix: str
    defaults: Mapping[str, Any]
    state_dir: Path


class Where(msgspec.Struct, frozen=True):
    """A URL that can be connected to, and the hold on the embedded server if it is one."""

    url: str
    server: EmbeddedServer | None = None

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


def find(queue: str, env: Mapping[str, str]) -> Found:
    """The Redis, the prefix and the job defaults of `queue`. Raises `ConfigError` when no Redis is named."""
    config = load(None, env, {}).config
    url = named_url(config.redis, env)
    if url is None:
        raise ConfigError(
            "no Redis is named, and nothing was sent: set OXHERD_REDIS_URL=redis://HOST:PORT, or give "
            f'Queue({queue!r}, url="redis://HOST:PORT"); for the private server of `oxherd run` '
            "on a terminal, OXHERD_REDIS_URL=embedded"
        )
    of_queue = config.queues.get(queue)
    defaults = of_queue.defaults.as_options() if of_queue is not None else {}
    if url != EMBEDDED:
        url = whole_url(config.redis, env, url)
    return Found(url, config.redis.prefix, defaults, config.embedded.state_dir)


def resolve_url(url: str, state_dir: Path | None = None) -> Where:
    """Where `url` leads. `embedded` leads to the user's own server; `ConfigError` if it does not run.

    May wait a moment for another process that just starts or stops that server.
    """
    if url != EMBEDDED:
        return Where(url)
    server = embedded.join(state_dir or Config().embedded.state_dir)
    if server is None:
        raise ConfigError(
            "the embedded server does not run, and a client does not start it: keep `oxherd run` with "
            "--redis embedded running beside this program, or name a Redis with OXHERD_REDIS_URL"
        )
    return Where(server.url, server)
