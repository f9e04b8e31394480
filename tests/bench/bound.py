"""The Redis bound: how many jobs a second this server does when nothing else takes time.

Our own finish-and-fetch, at the batch size that a real run has had, driven by a bare client: the bytes of all
calls are made before the clock starts, one write is always ahead, so that the server never waits for us. A
worker that makes such calls cannot be faster than that.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Final

import hiredis
from ground import QUEUE, Failed, Ground

from supervisor import lua
from supervisor.client import Queue
from supervisor.protocol.commands.work import Completed, FinishAndFetch
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.requests import Scripts, pack_script

AT_ONCE: Final = 1_000
CALLS_A_WRITE: Final = 8
LOCK_MS: Final = 30_000
PATIENCE_S: Final = 60


async def _fill(ground: Ground, jobs: int) -> None:
    async with Queue(QUEUE, url=ground.url, prefix="bull") as queue:
        for first in range(0, jobs, AT_ONCE):
            await queue.add_bulk([("noop", {"i": i}) for i in range(first, min(jobs, first + AT_ONCE))])


def calls(jobs: int, a_call: float) -> list[FinishAndFetch]:
    """The calls for jobs 1 to `jobs`: each finishes what the one before it took. `a_call` on the average."""
    keys, now_ms = QueueKeys(QUEUE, "bull"), int(time.time() * 1000)
    ends = [min(jobs, round(number * a_call)) for number in range(int(jobs / a_call) + 2)]
    ends += [jobs] if ends[-1] < jobs else []
    made, taken = [], range(0)
    for number, (begin, end) in enumerate(zip(ends, [*ends[1:], jobs], strict=True)):
        outcomes = [Completed(str(i), f"bound:{number - 1}", b"null", KEEP_ALL) for i in taken]
        taken = range(begin + 1, end + 1)
        if outcomes or taken:
            made.append(FinishAndFetch(keys, f"bound:{number}", now_ms, LOCK_MS, len(taken), outcomes))
    return made


def drive(ground: Ground, a_call: float, jobs: int) -> dict[str, float]:
    ground.empty()
    asyncio.run(_fill(ground, jobs))
    script = Scripts(lua.source).get(FinishAndFetch.script)
    ground.raw.script_load(lua.source(FinishAndFetch.script))
    requests = [pack_script(script, call) for call in calls(jobs, a_call)]
    writes = [requests[at : at + CALLS_A_WRITE] for at in range(0, len(requests), CALLS_A_WRITE)]
    before = ground.spent()
    with socket.create_connection(("127.0.0.1", ground.port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took_s = _drive(connection, writes)
    after = ground.spent()
    if ground.completed() != jobs:
        raise Failed(f"the bound: {ground.completed()} of {jobs} jobs were completed")
    return {
        "bound jobs/s": jobs / took_s,
        "bound a call": jobs / len(requests),
        "bound CPU us": (after.cpu_s - before.cpu_s) / jobs * 1e6,
        "bound script us": (after.script_s - before.script_s) / jobs * 1e6,
    }


def _drive(connection: socket.socket, writes: list[list[bytes]]) -> float:
    """Send all with one write ahead; how long it took. A reply with an error in it is a failure."""
    reader, joined = hiredis.Reader(), [b"".join(write) for write in writes]
    began_at = time.monotonic()
    connection.sendall(joined[0])
    for number, write in enumerate(writes):
        if number + 1 < len(writes):
            connection.sendall(joined[number + 1])
        left = len(write)
        while left:
            reply: Any = reader.gets()
            if reply is False:
                reader.feed(connection.recv(1 << 18))
                continue
            left -= 1
            if isinstance(reply, hiredis.ReplyError) or any(reply[0]) or reply[7]:
                raise Failed(f"the bound: Redis said {reply!r:.300}")
    return time.monotonic() - began_at
