"""Add jobs: produce.py PEER fill|one|bulk|latency KIND COUNT; prints one line of JSON.

fill       as fast as the system lets us; only to have them there
one        one call after the other
bulk       1,000 in a call of the system's own for many; the rate is null where it has none
latency    each job when the one before it is done, 10 ms apart; from the call of add to the end of the job
produce.cjs is its twin for Node.
"""

import asyncio
import importlib
import json
import os
import struct
import sys
import time

AT_ONCE = 1_000
WARMING = 5
PATIENCE_S = 20
MARK = struct.Struct("<ddii")


async def many(producer, kind, count):
    began_at = time.monotonic()
    if producer.bulk:
        for first in range(0, count, AT_ONCE):
            await producer.add_many(kind, range(first, min(count, first + AT_ONCE)))
    else:
        for i in range(count):
            await producer.add(kind, i)
    return {"rate": count / (time.monotonic() - began_at)}


async def one(producer, kind, count):
    await producer.add(kind, 0)  # connects, and loads scripts
    began_at = time.monotonic()
    for i in range(count):
        await producer.add(kind, i)
    return {"rate": count / (time.monotonic() - began_at)}


async def latency(producer, kind, count):
    marks = os.open(os.environ["BENCH_MARKS_READ"], os.O_RDONLY)
    have = os.fstat(marks).st_size
    taken_ms = []
    for i in range(-WARMING, count):
        time.sleep(0.01)  # noqa: ASYNC251  (nothing else is to run in this process)
        added_at = time.monotonic()
        await producer.add(kind, i)
        while os.fstat(marks).st_size < have + MARK.size:
            time.sleep(0.0001)  # noqa: ASYNC251
            if time.monotonic() - added_at > PATIENCE_S:
                raise SystemExit(f"no job was done in {PATIENCE_S} s")
        end_at = MARK.unpack(os.pread(marks, MARK.size, have))[1]
        have += MARK.size
        if i >= 0:
            taken_ms.append((end_at - added_at) * 1000)
    taken_ms.sort()
    return {"p50": taken_ms[count // 2], "p99": taken_ms[min(count - 1, int(count * 0.99))]}


async def main(peer, mode, kind, count):
    producer = importlib.import_module("p_" + peer).Producer()
    await producer.open()
    if mode == "bulk" and not producer.bulk:
        said = {"rate": None}
    else:
        said = await {"fill": many, "bulk": many, "one": one, "latency": latency}[mode](producer, kind, count)
    await producer.close()
    print(json.dumps(said))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
