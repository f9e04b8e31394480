"""Leaves no room for another process of this user (root is not bound by it)."""

import resource

from sandbox.processors import processor

resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


@processor("work")
def never(job):
    return None
