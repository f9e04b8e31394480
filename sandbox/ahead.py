"""Jobs sent ahead, as their runner sees them: whether the next may begin.

A runner begins a job that was sent ahead only with a permit, which the master may have taken back meanwhile
(wire.py), and never while output of the one before waits to be read: nobody could tell whose it is then.
"""

from __future__ import annotations

import fcntl
import os
import termios
from typing import Final

_OUTPUTS: Final = (1, 2)


def take_permit(permits_fd: int) -> bool:
    """Is the next job ours to begin? From then on nobody else has it."""
    try:
        return bool(os.read(permits_fd, 1))
    except BlockingIOError:
        return False


class Output:
    """What the kernel holds of our stdout and stderr and the master has not read."""

    def __init__(self) -> None:
        self._count = bytearray(4)

    def waits(self) -> bool:
        """Is there any? Also when it cannot be told: a job has put something else in the place of a pipe."""
        count = self._count
        try:
            for fd in _OUTPUTS:
                fcntl.ioctl(fd, termios.FIONREAD, count)
                if any(count):
                    return True
        except OSError:
            return True
        return False
