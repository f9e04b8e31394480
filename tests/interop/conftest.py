"""The other clients, one process of each for a module, and a queue of ours beside them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
for directory in (HERE, HERE.parent):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))

import comparing  # noqa: E402 (found through the path above)
from peers import Peer  # noqa: E402

from supervisor.blocking import Queue  # noqa: E402

PYTHON_PEER = HERE.parents[1] / ".state" / "python-peers" / "bin" / "python"


@pytest.fixture(autouse=True)
def _every_step_of_a_loaded_trace_is_compared() -> Iterator[None]:
    comparing.begin()
    yield
    mistakes = list(comparing.mistakes())
    assert not mistakes, "\n".join(mistakes)


def _left_out(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def _node_process(redis_server: Any) -> Iterator[Peer]:
    if shutil.which("node") is None or not (HERE / "node_modules" / "bullmq").is_dir():
        _left_out("the Node clients are not installed; ./scripts/test installs them")
    peer = Peer(["node", str(HERE / "node" / "harness.mjs"), redis_server.socket])
    yield peer
    peer.close()


@pytest.fixture
def node(_node_process: Peer, redis_url: str) -> Iterator[Peer]:
    """Node's clients, versions 6 and 5; what they opened is closed after the test."""
    _node_process.forget()
    yield _node_process
    _node_process.ask("close")


@pytest.fixture
def lone_node(redis_server: Any, _node_process: Peer) -> Iterator[Peer]:
    """A Node process of one test, to be killed."""
    peer = Peer(["node", str(HERE / "node" / "harness.mjs"), redis_server.socket])
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def _python_process(redis_server: Any) -> Iterator[Peer]:
    python = Path(os.environ.get("OXHERD_TEST_PYTHON_PEER", PYTHON_PEER))
    if not python.is_file():
        _left_out("PyPI's bullmq is not installed; ./scripts/test installs it")
    peer = Peer([str(python), str(HERE / "python_peer.py"), redis_server.url])
    yield peer
    peer.close()


@pytest.fixture
def python(_python_process: Peer, redis_url: str) -> Iterator[Peer]:
    """PyPI's bullmq; what it opened is closed after the test."""
    _python_process.forget()
    yield _python_process
    _python_process.ask("close")


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("q", url=redis_url) as made:
        yield made
