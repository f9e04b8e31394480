"""A module whose import takes as long as the test wants."""

from __future__ import annotations

import os
import time

from oxherd import processor

print("importing")
while not os.path.exists(os.environ["GO_ON"]):
    time.sleep(0.01)


@processor("work")
def work(job):
    return None
