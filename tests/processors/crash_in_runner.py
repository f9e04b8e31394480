"""Starts a thread when it is imported, so that each runner imports it; and crashes there."""

import ctypes
import os
import threading
import time
from pathlib import Path

from sandbox.processors import processor

once = Path(os.environ["IMPORTED_ONCE"])
if once.exists():
    ctypes.string_at(0)
once.touch()
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


@processor("work")
def nothing(job):
    pass
