"""Signals become requests. A handler does nothing else, ever; the main loop decides, one at a time."""

from __future__ import annotations

import asyncio
import signal
from enum import Enum
from typing import Final


class Request(Enum):
    STOP = "stop"  # quiet, grace, cancel, kill; a second one skips the grace, a third kills
    HAND_BACK = "hand back"  # every job goes back now, then exit
    QUIET = "quiet"  # fetch nothing more
    RESUME = "resume"
    REPORT = "report"  # one log line for each slot, and the stacks of who works
    HANGUP = "hangup"  # stop when the terminal went away
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
}

# Not a request: whoever has ended is buried at once (runners.py).
CHILD: Final = signal.SIGCHLD


def install(loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Request]) -> None:
    for signum, request in REQUESTS.items():
        loop.add_signal_handler(signum, inbox.put_nowait, request)


def uninstall(loop: asyncio.AbstractEventLoop) -> None:
    for signum in (*REQUESTS, CHILD):
        loop.remove_signal_handler(signum)
