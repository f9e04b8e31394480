"""What is different between two readings of the settings, and which of it a running master cannot take over.

Decides   which options need a restart: what is opened once and for all at the start
Leaves    how the others are applied to whoever applies them

Only names are told, never values: one of them may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import structs

from supervisor.config.model import OVERRIDES, SECTIONS, Config, QueueConfig
from supervisor.config.option import options_of, toml_name

# Sections, or single options of one.
RESTART: Final = frozenset(
    {"redis", "embedded", "http", "heartbeat", "tracing", "worker.name", "policy.user"}
)


def changes(old: Config, new: Config) -> list[str]:
    """The options that have another value, as `lock.duration` or `queue.mail.lock.duration`; a queue's table
    that came or went as `queue.mail`."""
    found = [
        name for section in SECTIONS for name in _of(section, getattr(old, section), getattr(new, section))
    ]
    for queue in dict.fromkeys([*old.queues, *new.queues]):
        before, after = old.queues.get(queue), new.queues.get(queue)
        if before is None or after is None:
            found.append(f"queue.{queue}")
        else:
            found += _of_queue(f"queue.{queue}", before, after)
    return found


def _of(where: str, old: Any, new: Any) -> Iterator[str]:
    if old is None or new is None:
        if old is not new:
            yield where
        return
    for attribute, _, _ in options_of(type(old)):
        if getattr(old, attribute) != getattr(new, attribute):
            yield f"{where}.{toml_name(attribute)}"


def _of_queue(where: str, old: QueueConfig, new: QueueConfig) -> Iterator[str]:
    yield from _of(where, old, new)
    for section in (*OVERRIDES, "defaults"):
        yield from _of(f"{where}.{section}", getattr(old, section), getattr(new, section))


def needs_restart(name: str) -> bool:
    return name in RESTART or name.partition(".")[0] in RESTART


def taken_over(old: Config, new: Config) -> Config:
    """The new settings, but with what only a restart would change as it was."""
    values: dict[str, Any] = {}
    for name in RESTART:
        section, _, option = name.partition(".")
        before = getattr(old, section)
        if option:
            before = structs.replace(getattr(new, section), **{option: getattr(before, option)})
        values[section] = before
    return structs.replace(new, **values)
