"""A module whose import starts a thread that is none of Python's, and that nobody has named."""

import ctypes

from sandbox.processors import processor

libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)


@processor("work")
def nothing(job):
    pass
