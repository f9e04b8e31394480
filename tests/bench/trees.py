"""Jobs that leave a tree of processes behind, each deaf to SIGTERM; all of them end by themselves in 10 s."""

import os
import signal
import time

LIVES_S = 10.0


def still(job):
    """A child, one in a session of its own, a daemon."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _child(lambda: _stay())
    _child(lambda: (os.setsid(), _stay()))
    _child(lambda: _child(lambda: (os.setsid(), _stay())))
    time.sleep(0.02)  # until they are there


def forking(job):
    """And one that forks, and leaves its own child behind, every 5 ms."""
    still(job)
    _child(_run_away)
    time.sleep(0.02)


def _run_away():
    ends_at = time.monotonic() + LIVES_S
    while time.monotonic() < ends_at:
        if os.fork():
            os._exit(0)
        os.setsid()
        time.sleep(0.005)


def _stay():
    time.sleep(LIVES_S)


def _child(do):
    if os.fork() == 0:
        try:
            do()
        finally:
            os._exit(0)
