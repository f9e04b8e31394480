"""Which Redis a command talks to: the one that was named, or a private one where a person is looking.

Flag, environment and file are weighed by the config; here it is decided what happens when none of them names
a server. A service, a container or a pipeline never gets a private queue without having asked for it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from supervisor.cli.render import note
from supervisor.config.model import Config
from supervisor.config.redis_login import named_url, whole_url
from supervisor.errors import ConfigError

if TYPE_CHECKING:
    from supervisor.transport.embedded import EmbeddedServer

EMBEDDED: Final = "embedded"


class Choice(msgspec.Struct, frozen=True):
    """The address, and the hold on the private server if it is one."""

    url: str
    server: EmbeddedServer | None = None


@contextlib.contextmanager
def chosen_redis(config: Config, *, long_lived: bool = False) -> Iterator[Choice]:
    """The Redis to use, for as long as the block lasts.

    long_lived   for `run`: say each time that the server is a private one. Others say it when they started it
                 without being asked to.
    """
    url = named_url(config.redis, os.environ)
    if url is not None and url != EMBEDDED:
        yield Choice(whole_url(config.redis, os.environ, url))
        return
    asked = url == EMBEDDED
    with _private_server(config, asked=asked, long_lived=long_lived) as server:
        if long_lived or (server.started and not asked):
            note(f"oxherd: {_introduction(server, asked=asked)}")
        yield Choice(server.url, server)


def _private_server(config: Config, *, asked: bool, long_lived: bool) -> EmbeddedServer:
    # At the top it would cost 10 ms wherever a server is named.
    from supervisor.transport import embedded

    at = config.embedded
    if asked or sys.stderr.isatty():
        return embedded.acquire(at.state_dir, at.binary)
    # One that runs was started by this same user, so that a pipeline that finds it surprises nobody.
    running = None if long_lived else embedded.join(at.state_dir)
    if running is not None:
        return running
    raise ConfigError(
        "no Redis is named, and nothing was done: set OXHERD_REDIS_URL=redis://HOST:PORT, give --redis URL, "
        "or ask for a private server with --redis embedded (only on a terminal is one used unasked)"
    )


def _introduction(server: EmbeddedServer, *, asked: bool) -> str:
    why = "as asked, Redis is" if asked else "no Redis is named, so this is"
    from supervisor.transport import embedded  # as above

    text = f"{why} a private one at {server.socket}, its data kept; another is named with OXHERD_REDIS_URL"
    if embedded.answers_ping():
        text += " (one answers at redis://127.0.0.1:6379)"
    return text
