"""A module that uses a thread while it is imported, and joins it."""

import threading

from sandbox.processors import processor

helper = threading.Thread(target=lambda: None)
helper.start()
helper.join()


@processor("work")
def fine(job):
    return threading.active_count()
