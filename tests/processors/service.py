"""What the services of tests/systemd run: a copy, in which another RELEASE makes another release."""

import signal
import time

from oxherd import processor

RELEASE = 1
MEGABYTE = 1 << 20


@processor("work", name="release")
def release(job):
    time.sleep(job.data or 0)
    return RELEASE


@processor("work", name="hog", memory="64M")
def hog(job):
    held = []
    while True:
        held.append(bytearray(MEGABYTE))


@processor("work", name="ignores")
def ignores(job):
    """Does not end, whoever asks."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job.log("started")
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            continue
