"""Signals become requests. A handler does nothing else, ever; the main loop decides, one at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
from enum import Enum
from typing import Final


class Request(Enum):
    STOP = "stop"  # quiet, grace, cancel, kill; a second one skips the grace, a third kills
    HAND_BACK = "hand back"  # every job goes back now, then exit
    QUIET = "quiet"  # fetch nothing more
    RESUME = "resume"
    REPORT = "report"  # one log line for each slot, and the stacks of who works
    HANGUP = "hangup"  # reload; stop when there was a terminal, which has gone away
    MORE = "more"  # one slot more for each queue
    FEWER = "fewer"  # one less, but one at least
    DONE = "done"  # nothing is left to do (--burst)
    STUCK = "stuck"  # it does no work though there is some: hand back, and let another start
    BROKEN = "broken"  # a part of the master has failed: stop, and say so


REQUESTS: Final = {
    signal.SIGTERM: Request.STOP,
    signal.SIGINT: Request.STOP,  # the same, so that Ctrl-C is safe
    signal.SIGQUIT: Request.HAND_BACK,
    signal.SIGTSTP: Request.QUIET,
    signal.SIGCONT: Request.RESUME,
    signal.SIGHUP: Request.HANGUP,
    signal.SIGUSR1: Request.REPORT,
    signal.SIGTTIN: Request.MORE,
    signal.SIGTTOU: Request.FEWER,
}

# Not a request: whoever has ended is buried at once (runners.py).
CHILD: Final = signal.SIGCHLD


def install(loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Request]) -> None:
    for signum, request in REQUESTS.items():
        if signum is not signal.SIGTTOU or not _background_is_silenced():
            loop.add_signal_handler(signum, inbox.put_nowait, request)


def _background_is_silenced() -> bool:
    """`stty tostop`: the kernel sends TTOU to whoever in the background writes to the terminal, and again
    when the write is tried again. With a handler that would go on for ever, so the signal keeps its meaning.
    """
    try:
        return bool(termios.tcgetattr(2)[3] & termios.TOSTOP)
    except (termios.error, OSError):
        return False


def uninstall(loop: asyncio.AbstractEventLoop) -> None:
    for signum in (*REQUESTS, CHILD):
        loop.remove_signal_handler(signum)


def has_terminal() -> bool:
    """Is there a controlling terminal, whose end a SIGHUP then means?"""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()
    return True
