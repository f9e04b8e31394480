"""What a start loads: each module costs every start its milliseconds, and every process its memory.

A list of names and no timing, so that a heavy import cannot creep in unseen. Of the standard library and of
other packages the list has the roots: what they load themselves is theirs, and differs between Pythons. Who
adds a name has measured it (`python -X importtime`); what only some need is imported in a function instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from running import ROOT, TESTS

from supervisor.blocking import Queue

# The roots, beside what every Python has loaded before its first line.
MASTER = """
asyncio atexit base64 concurrent.futures.thread ctypes dataclasses datetime fcntl hashlib
importlib.util ipaddress json pathlib platform pwd queue random resource socket ssl subprocess
tempfile termios traceback unicodedata urllib.parse uuid zoneinfo click hiredis msgspec oxherd
"""
TEMPLATE = """
__future__ array ctypes dataclasses decimal faulthandler fcntl importlib.util inspect json mmap resource
signal socket termios textwrap traceback typing zlib
"""
# Of ours: these rooms as a whole, of the others these modules.
MASTER_ROOMS = ("supervisor.config", "supervisor.lua", "supervisor.master", "supervisor.protocol")
MASTER_MODULES = """
sandbox.jobdir sandbox.layers sandbox.linux sandbox.policy sandbox.titles sandbox.wire
supervisor.errors
supervisor.cli.command supervisor.cli.display supervisor.cli.redis_choice supervisor.cli.render
supervisor.cli.run
supervisor.observe.log supervisor.observe.spread supervisor.observe.tree supervisor.observe.writer
supervisor.transport.address supervisor.transport.aio supervisor.transport.answers
supervisor.transport.asking supervisor.transport.call
supervisor.transport.finding supervisor.transport.link supervisor.transport.marker
supervisor.transport.opening supervisor.transport.pool supervisor.transport.requests
supervisor.transport.session supervisor.transport.slots supervisor.transport.subscription
"""
NEVER_OF_THE_MASTER = ("supervisor.master.figures", "supervisor.master.trial")
OURS = ("oxherd", "sandbox", "supervisor")

# Runs the command line that follows the first argument, and writes there what it has loaded in the end.
WITNESS = """
import json, sys
told = sys.argv.pop(1)
import oxherd
status = oxherd.main()
with open(told, "w") as file:
    json.dump(sorted(sys.modules), file)
sys.exit(status)
"""


def loaded_by(roots: str) -> set[str]:
    """All that a fresh Python has loaded when it has imported the roots."""
    names = "\n".join(f"import {name}" for name in roots.split())
    code = f"import sys\n{names}\nprint(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def foreign(modules: Iterable[str]) -> set[str]:
    """Of others, and not a part of the interpreter."""
    modules = set(modules) - set(sys.builtin_module_names)
    return {name for name in modules if name.partition(".")[0] not in OURS}


def ours(modules: Iterable[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] in OURS}


def of_master(name: str) -> bool:
    if name in NEVER_OF_THE_MASTER:
        return False
    listed = {*MASTER_MODULES.split(), *MASTER_ROOMS, "oxherd"}
    packages = {each.rpartition(".")[0] for each in listed} | {"supervisor", "sandbox"}
    return name in listed | packages or name.startswith(tuple(f"{room}." for room in MASTER_ROOMS))


def test_a_start_loads_what_is_on_the_list_and_nothing_else(redis_url: str, tmp_path: Path):
    # Not the tests' own: for a name that is no setting the nearest one is looked for.
    of_the_tests = {name for name in os.environ if name.startswith("OXHERD_TEST_")}
    environment = {name: value for name, value in os.environ.items() if name not in of_the_tests}
    with Queue("work", url=redis_url) as queue:
        job = queue.add("x", None)
        flags = ["--queue", "work", "--redis", redis_url, "--burst", "--log-format", "json"]
        subprocess.run(
            [sys.executable, "-P", "-c", WITNESS, str(tmp_path / "told"), "run", "loaded:told", *flags],
            cwd=TESTS / "processors",
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        told = queue.result(job, timeout_ms=1_000)
    master, template, runner = json.loads((tmp_path / "told").read_text()), told["template"], told["runner"]

    assert foreign(master) - loaded_by(MASTER) == set()
    assert {name for name in ours(master) if not of_master(name)} == set()

    assert foreign(template) - loaded_by(TEMPLATE) - {"loaded", "__main__"} == set()
    assert {name for name in ours(template) if not name.startswith("sandbox")} == set()

    assert set(runner) - set(template) == set(), "what a runner needs is loaded before the fork, once for all"
