"""What one master is asked to do: a value, made by the command line from flags and config."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from supervisor.config.model import Config
from supervisor.master.notify import Listener, Nobody
from supervisor.transport.address import Address


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`module` or `module:function`, and the queue it serves when it does not say so itself."""

    name: str
    queue: str | None = None


def secrets_of(address: Address, config: Config) -> list[str]:
    """Texts that no template may find in its environment."""
    passwords = (address.password, address.sentinel_password, address.known_secret())
    return [text for text in (*passwords, config.redis.url) if text]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `run_master` needs.

    only_queues   serve only these queues of what the targets declare; empty for all.
    concurrency   slots of every queue; None for what decorator and config say.
    dead_letter   the queue that gets a copy of each job that fails for good; None for what the config says.
    burst         stop when nothing is left (design.md section 4).
    again         reads the same files, environment and flags once more, for a reload; raises `ConfigError`.
    """

    address: Address
    config: Config
    targets: tuple[Target, ...]
    only_queues: tuple[str, ...] = ()
    concurrency: int | None = None
    dead_letter: str | None = None
    burst: bool = False
    listener: Listener = msgspec.field(default_factory=Nobody)
    again: Callable[[], Plan] | None = None
