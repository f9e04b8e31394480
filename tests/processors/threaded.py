"""A module that starts a thread when it is imported, as numeric libraries do."""

import threading
import time

from sandbox.processors import processor

threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="nightly-refresh").start()


@processor("work")
def names(job):
    return [each.name for each in threading.enumerate()]
