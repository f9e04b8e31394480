"""The settings of [pool]: slots that several queues share, and what of them each queue has.

Decides what the pool and the tables of its queues must say together. Who gets a slot when is the master's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from supervisor.config.option import INT, Section, option
from supervisor.config.shapes import PoolShare


class PoolConfig(Section):
    """[pool] Slots that several queues share: whoever has jobs uses them."""

    slots: int | None = option(
        None,
        kind=INT,
        at_least=1,
        at_most=1024,
        flag="--pool",
        shown="no pool: each queue has slots of its own",
        doc="""
        So many slots for all queues together that have no concurrency of their own. More: more jobs at a
        time, and more memory. Fewer: queues wait for each other.
        """,
    )


class _Queue(Protocol):
    @property
    def concurrency(self) -> int | None: ...
    @property
    def pool(self) -> PoolShare | None: ...


def share_of(pool: PoolConfig, queue: _Queue) -> PoolShare | None:
    """What a queue has of the pool; None when its slots are its own."""
    if pool.slots is None or queue.concurrency is not None:
        return None
    return queue.pool or PoolShare()


def mistakes_of(
    pool: PoolConfig, queues: Mapping[str, _Queue], at: Callable[[str], str], slots_from: str
) -> Iterator[str]:
    """A sentence for each. `at` tells where a key of the file stands, `slots_from` where `slots` is from."""
    for name, queue in queues.items():
        if queue.pool is None:
            continue
        where = f"{at(f'queue.{name}.pool')}: [queue.{name}] pool"
        if queue.concurrency is not None:
            yield (
                f"{where}: a queue has slots of the pool or a concurrency of its own, not both; "
                "leave one of them out"
            )
        elif pool.slots is None:
            yield f"{where}: there is no pool; say how many slots it has: slots = N in [pool], or --pool N"
    kept = {name: each.minimum for name, each in _shares(pool, queues) if each.minimum}
    if pool.slots is not None and sum(kept.values()) > pool.slots:
        told = ", ".join(f"{name} {minimum}" for name, minimum in kept.items())
        yield (
            f"[pool] slots (from {slots_from}): {pool.slots} are fewer than the {sum(kept.values())} that "
            f"queues have as their minimum ({told})"
        )


def _shares(pool: PoolConfig, queues: Mapping[str, _Queue]) -> Iterator[tuple[str, PoolShare]]:
    for name, queue in queues.items():
        if (share := share_of(pool, queue)) is not None:
            yield name, share
