"""What a template does once more than it must: a few lives of a runner that has one job, which is nobody's.

What the interpreter looks for once and keeps (how it specialises code, where it has found an attribute, which
function of C stands behind a name) is then in memory that all runners share. Else each would find it anew,
and each place that it is kept in is a page that is copied: 70 of 600 a runner, and an eighth of its CPU.

Decides nothing and leaves nothing: no descriptor, no handler, no timer. It reads no job, and no code of the
user's is run in it. The process has one thread (I5).
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from sandbox import codec, wire
from sandbox.alarm import SoftLimit
from sandbox.isolation import REHEARSALS
from sandbox.link import Link
from sandbox.processors import Processor
from sandbox.runner import Birth, serve
from sandbox.wire import Kind

_GO: Final = {"slot": 0, "title": "", "master_pid": 0, "limits": {}, "at_once": 1, "once": True}
_META: Final = {
    "id": "0",
    "name": "",
    "queue": "",
    "attempt": 1,
    "attempts": 1,
    "timestamp": 0,
    "priority": 0,
    "parent": None,
    "soft_timeout_ms": 0,
    "limits": None,
    "started": 1,
}


def rehearse(birth: Birth) -> None:
    """By a template, after the import and before it forks. What cannot be rehearsed is none the worse."""
    birth = replace(birth, set_title=lambda title: None)
    timer = signal.getitimer(signal.ITIMER_REAL)  # of the user's import: the end of a job stops it
    try:
        with suppress(OSError):  # where no socket can be made
            for _ in range(REHEARSALS):
                _live(birth)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _live(birth: Birth) -> bytes:
    """One life, without isolation; what it has said."""
    meta = codec.encode(_META)
    near, far = socket.socketpair()
    with near:
        with far:
            near.sendall(wire.frame(Kind.GO, codec.encode(_GO)))
            near.sendall(wire.frame(Kind.START, wire.START_META.pack(len(meta)) + meta + b"null", 1))
            limit = SoftLimit()
            link = Link(far, limit.shield)
            limit.cancel_reason = link.cancel_reason
            serve(birth, [_NOBODYS], limit, link, 0, None)
        return near.recv(wire.MAX_CONTROL)


def _nothing(job: Any) -> None:
    return None


_NOBODYS: Final = Processor(queue="", name=None, function=_nothing, target="")
