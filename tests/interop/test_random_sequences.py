"""Random sequences of operations on one queue, half by Node's client, half by ours, checked after each step.

What is checked stands in `invariants.py`, what is done in `sequences.py`, by whom in `performers.py`, and
what of Node's doings is no breach in `quirks.py`. A failure prints the shortest sequence that was found, as a
line to run it again. 50 sequences from a fixed seed, 500 with `--long`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from conftest import HERE
from hypothesis import HealthCheck, Phase, given, seed, settings
from peers import Peer
from sequences import Step, World, play, sequences

SEED = 20_261_122
AGAIN = "OXHERD_SEQUENCE"


@pytest.fixture(scope="module")
def sequencer(redis_server: Any, _node_process: Peer) -> Iterator[Peer]:
    peer = Peer(["node", str(HERE / "node" / "sequences.mjs"), redis_server.socket])
    yield peer
    peer.close()


def run(node: Peer, raw: redis.Redis, url: str, sequence: list[Step]) -> None:
    raw.flushall()
    world = World(node, raw, url)
    try:
        play(world, sequence)
    finally:
        world.close()


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("first", [SEED], ids="seed {}".format)
def test_no_sequence_by_both_clients_leaves_a_queue_in_disorder(
    request: pytest.FixtureRequest, sequencer: Peer, redis_url: str, raw: redis.Redis, first: int
):
    if AGAIN in os.environ:
        run(sequencer, raw, redis_url, json.loads(os.environ[AGAIN]))
        return
    count = 500 if request.config.getoption("--long", default=False) else 50

    @seed(first)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(sequences)
    def sequences_keep_order(sequence: list[Step]) -> None:
        run(sequencer, raw, redis_url, sequence)

    sequences_keep_order()
