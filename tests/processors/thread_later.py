"""Starts a thread long after the import: when its process gets SIGUSR2."""

import signal
import threading
import time

from sandbox.processors import processor


def start(signum, frame):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


signal.signal(signal.SIGUSR2, start)


@processor("work")
def fine(job):
    return "fine"
