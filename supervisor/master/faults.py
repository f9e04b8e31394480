"""What a runner's faulthandler writes, on a pipe of its own: the stacks of all its threads.

They come when it crashes, when it is asked before it is killed, and unasked: of a process that it forked and
that crashed, or because somebody else has sent it SIGUSR1. Those are told as output. Decides when a runner
has answered enough to be killed, and who need not be asked; whom to kill is the dispatcher's and
`runners.py`'s. The text is a stranger's (I7): bounded, and nothing but text.

Reads    the pipe; /proc/PID/status
Writes   SIGUSR1 to a runner that is about to be killed, or whose stacks somebody wants to see
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

ANSWER_WITHIN_S: Final = 0.15  # from the question to the kill, at most
LOOK_WITHIN_S: Final = 0.9  # when nobody is to be killed
QUIET_S: Final = 0.02  # nothing more came for so long: that was all
UNASKED_S: Final = 0.1
DIES_WITHIN_S: Final = 5.0  # on a loaded host, from its last words to its end
KEPT_BYTES: Final = 64 * 1024  # of one job; the innermost frames of the first thread come first
READ_BYTES: Final = 64 * 1024

# The outermost frame of the main thread, which faulthandler writes last: the template's start (template.py).
LAST_LINE: Final = b'File "<string>", line 1 in <module>\n'
FATAL: Final = b"Fatal Python error: "  # how it begins when the process crashes
DUMP_SIGNAL: Final = signal.SIGUSR1


Seen = Callable[[str, str], None]


class Faults:
    """The master's end of one runner's pipe. All methods belong to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, on_line: Callable[[str], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_line = on_line
        self._unasked: asyncio.TimerHandle | None = None
        self._told = 0  # bytes, as output of this job; they are no part of the text any more
        self._text = bytearray()
        self._last_words = b""  # of a process that crashed, told as output
        self._last_words_at = 0.0
        self._dumps_from = 0  # where the answer to our question begins
        self._answered: Callable[[], None] | None = None
        self._looking: list[Seen] = []  # who wants to see its stacks, and it lives on
        self._timers: list[asyncio.TimerHandle] = []
        self._reading = True
        self._closed = False
        self.asked = False
        self.no_answer = ""  # why a runner that was to be asked told nothing
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._readable)

    @property
    def text(self) -> str:
        """What it wrote since `clear`, but for what was told as output."""
        return self._text.decode("utf-8", "backslashreplace")

    def text_of_crash(self) -> str:
        """The same of a runner that has died of a fault: it may have taken so long to die that what it wrote
        was told as output, as that of a process that it forked.
        """
        if self._text or self._loop.time() > self._last_words_at + DIES_WITHIN_S:
            return self.text
        return self._last_words.decode("utf-8", "backslashreplace")

    def clear(self) -> None:
        """Another job begins."""
        if self._looking:
            self._done()
        self._last_words = b""
        self._text.clear()
        self._told = 0

    def ask(self, pid: int, pidfd: int, answered: Callable[[], None]) -> None:
        """Have it write the stacks of its threads, then call `answered`: at once, soon, or after 0.15 s."""
        if self._looking:
            self._done()
        self.asked = True
        self.no_answer = why_silent(pid)
        if self.no_answer or self._closed:
            answered()
            return
        self.drain()
        self._dumps_from = len(self._text)
        self._answered = answered
        try:
            signal.pidfd_send_signal(pidfd, DUMP_SIGNAL)
        except OSError:
            self.no_answer = "it has ended meanwhile"
            self._done()
            return
        self._timers.append(self._loop.call_later(ANSWER_WITHIN_S, self._too_late))

    def look(self, pid: int, pidfd: int, seen: Seen) -> None:
        """Have it write the stacks of its threads; it lives on. `seen(text, why)`: why there is no text.

        What is written is no output of its job, and no part of what is kept of it. Who looks while another
        does sees the same.
        """
        if self._looking:
            self._looking.append(seen)
            return
        why = "it is asked already" if self._answered is not None else why_silent(pid)
        if not why and not self._reading:
            why = "it has written too much where its stacks are written to"
        self.drain()
        if not why:
            try:
                signal.pidfd_send_signal(pidfd, DUMP_SIGNAL)
            except OSError:
                why = "it has ended meanwhile"
        if why:
            seen("", why)
            return
        self._dumps_from = before = len(self._text)

        def answered() -> None:
            looking, self._looking = self._looking, []
            text = self._text[before:].decode("utf-8", "backslashreplace")
            if not self._closed:  # it is dead: this may be the text of its crash
                del self._text[before:]
            for each in looking:
                each(text, "" if text else f"it did not answer within {LOOK_WITHIN_S:g} s")

        self._looking, self._answered = [seen], answered
        self._timers.append(self._loop.call_later(LOOK_WITHIN_S, self._done))

    def dump(self, pid: int, pidfd: int) -> None:
        """Have it write the stacks of its threads as output of its job; it lives on."""
        if self._answered is None and not why_silent(pid):
            with suppress(OSError):
                signal.pidfd_send_signal(pidfd, DUMP_SIGNAL)

    def _readable(self) -> None:
        self._read_once()
        if self._answered is None:
            if self._unasked is None and self._reading:
                self._unasked = self._loop.call_later(UNASKED_S, self._tell_unasked)
            return
        for timer in self._timers[1:]:
            timer.cancel()
        if self._text.endswith(LAST_LINE) or len(self._text) >= KEPT_BYTES:
            self._done()
        else:
            self._timers[1:] = [self._loop.call_later(QUIET_S, self._done)]

    def _tell_unasked(self) -> None:
        """It lives on. Had it crashed itself, its end would mostly have been noticed by now."""
        self._unasked = None
        lines = self.text.splitlines()
        if self._text.startswith(FATAL):
            self._last_words, self._last_words_at = bytes(self._text), self._loop.time()
        self._told += len(self._text)
        self._text.clear()
        for line in lines:
            self._on_line(line)

    def _too_late(self) -> None:
        if len(self._text) == self._dumps_from:
            self.no_answer = f"it did not answer within {round(ANSWER_WITHIN_S * 1000)} ms"
        self._done()

    def _done(self) -> None:
        answered, self._answered = self._answered, None
        self._disarm()
        if answered is not None:
            answered()

    def _disarm(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _read_once(self) -> bool:
        try:
            data = os.read(self._fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        room = KEPT_BYTES - self._told - len(self._text)
        self._text += data[:room]
        if not data or len(data) > room:
            # Closed; or somebody writes there who is no faulthandler. Its end does not block when it is full.
            self._stop_reading()
            return False
        return True

    def drain(self) -> None:
        """What it wrote before its end counts."""
        while self._reading and self._read_once():
            pass

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._looking:
                self._done()
            self._answered = None
            self._disarm()
            if self._unasked is not None:
                self._unasked.cancel()
            self._stop_reading()
            os.close(self._fd)


def why_silent(pid: int) -> str:
    """Why this process would not answer the question; empty when it may.

    `pid` is a child of ours that is not reaped.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            status = dict(line.split(b":\t", 1) for line in file if b":\t" in line)
    except OSError:
        return "it has ended already"
    state = status.get(b"State", b"?")[:1].decode()
    if state in "TtDZX":
        return {
            "T": "it was stopped (state T)",
            "t": "it was being traced (state t)",
            "D": "it was stuck in the kernel (state D)",
        }.get(state, "it has ended already")
    caught = int(status.get(b"SigCgt", b"0"), 16)
    if not caught >> (DUMP_SIGNAL - 1) & 1:
        # Asked all the same it would die of the question.
        return f"its handler of {DUMP_SIGNAL.name} was removed"
    return ""
