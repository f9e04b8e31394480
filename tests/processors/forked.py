"""What a runner is after its fork. With FORK_TWICE its template does so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import sandbox.forks
from oxherd import processor

if os.environ.get("FORK_TWICE"):
    sandbox.forks._siblings = lambda: None


@processor("work")
def look(job):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
    thread.start()
    thread.join()
    said = subprocess.run([sys.executable, "-c", "print(17)"], capture_output=True, text=True, check=True)
    return {
        # In the number of a thread's clock stands the id that the C library keeps of the thread.
        "tid": ~(time.pthread_getcpuclockid(threading.get_ident()) >> 3),
        "another thread": seen != [os.getpid()],
        "parent": os.getppid(),
        "said": said.stdout,
    }
