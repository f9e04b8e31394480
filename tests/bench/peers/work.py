"""What the measured jobs do, the same for every system of this language; work.cjs is its twin for Node.

Each job appends one record to the file $BENCH_MARKS: start and end by CLOCK_MONOTONIC, process id, number of
the job; 24 bytes and no call to Redis. A job that sleeps leaves one with end 0 when it begins, too.
"""

import os
import struct
import time

if os.environ.get("BENCH_NUMPY"):
    import numpy  # noqa: F401  (for its memory)

MARK = struct.Struct("<ddii")
BURN_S = 0.020
SLEEP_S = 1.0
marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def do(kind, number):
    start_at = time.monotonic()
    if kind == "burn":
        ends_at = time.thread_time() + BURN_S
        while time.thread_time() < ends_at:
            for _ in range(200):
                pass
    elif kind == "sleep":
        os.write(marks, MARK.pack(start_at, 0.0, os.getpid(), number))
        time.sleep(SLEEP_S)
    elif kind != "noop":
        raise ValueError(kind)
    os.write(marks, MARK.pack(start_at, time.monotonic(), os.getpid(), number))
