"""Two masters in two network namespaces share the queues of a cluster; one of them loses its network.

It is what docs/how-to/scale.md promises. The scene itself is two_hosts.py, which needs the rights to make
network namespaces.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def unshare() -> str:
    """The command that gives a network of its own."""
    found = shutil.which("unshare")
    tried = None if found is None else subprocess.run([found, "--net", "ip", "link"], capture_output=True)
    if found is None or tried is None or tried.returncode:
        text = "no network namespaces can be made here (unshare --net ip link), so two hosts were not tried"
        if os.environ.get("CI") == "true" and os.getuid() == 0:
            pytest.fail(text)
        pytest.skip(text)
    return found


def test_two_hosts_share_a_queue_and_one_takes_over_from_the_other(unshare: str) -> None:
    """I3: the host that was cut off ends its jobs when trust ends, and the other has each of them once."""
    scene = Path(__file__).with_name("two_hosts.py")
    played = subprocess.run(
        [unshare, "--net", sys.executable, scene], capture_output=True, text=True, timeout=150
    )
    assert played.returncode == 0, played.stderr + played.stdout
    seen = json.loads(played.stdout)
    added, held, more = seen["jobs"]
    one, other = seen["completed"]

    assert Counter([*one, *other]) == Counter([*added, *held, *more])  # none is lost, none is done twice
    assert other, "the other never worked"
    assert seen["recovered"] == [2, 0]
    assert seen["locks_lost"] == [0, 2]
    assert set(held) <= set(one)
    assert seen["counts"]["completed"] == len(added) + len(held) + len(more)
