"""A module that starts a thread when it is imported, and ends it before a fork, as OpenBLAS does."""

import os
import threading

from sandbox.processors import processor

over = threading.Event()
helper = threading.Thread(target=over.wait, daemon=True)
helper.start()


def let_go():
    over.set()
    helper.join()


os.register_at_fork(before=let_go)


@processor("work")
def fine(job):
    return threading.active_count()
