"""What a master tells the service manager: systemd's notification protocol, in a few lines of our own.

Decides nothing. Without NOTIFY_SOCKET every message goes nowhere; a manager that is gone, or does not read,
hinders nobody for long.

Reads    NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, once; the template's environment has none of them
Writes   one datagram a message
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
TAKEN_WITHIN_S: Final = 0.5
LONGEST_STATUS: Final = 400  # characters; the manager shows one line


class Manager:
    """The service manager of this process, if it has one.

    watchdog_s   how long it waits for a sign of life; 0 when it does not.
    """

    def __init__(self, env: Mapping[str, str], pid: int | None = None) -> None:
        self._socket: socket.socket | None = None
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(env, os.getpid() if pid is None else pid)
        self._status = ""

    @property
    def listens(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        """The start, or a reload, has come to its end."""
        self._say("READY=1")

    def reloading(self) -> None:
        # In microseconds of the clock that systemd compares with its own.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self) -> None:
        self._say("WATCHDOG=1")

    def status(self, line: str) -> None:
        """One line for people. Said only when it has changed."""
        line = " ".join(line.split())[:LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._say(f"STATUS={line}")

    def more_time(self, seconds: float) -> None:
        """What goes on now may take so long from now, whatever the unit allows."""
        self._say(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.settimeout(TAKEN_WITHIN_S)
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            pass  # nobody listens any more, or not now


def _address(name: str) -> str:
    """Where to; empty for nowhere. `@` stands for the byte 0 of an abstract name."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _watchdog_s(env: Mapping[str, str], pid: int) -> float:
    told, whose = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not told.isdecimal() or (whose and whose != str(pid)):
        return 0.0
    return int(told) / 1_000_000
