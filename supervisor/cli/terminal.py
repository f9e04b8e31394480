"""A terminal for a program that fills it: one key at a time in, whole screens out, and left as it was found.

Plain ANSI, which every terminal and every ssh understands; no library. Decides nothing about what is shown.
Whatever ends us but SIGKILL, the cursor, the keys and the old screen come back; Ctrl-Z too.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

from supervisor.cli.render import OutputFailed

ENTER: Final = "\x1b[?1049h\x1b[?25l"  # another screen, no cursor
LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"
STYLES: Final = {"": "", "bold": "\x1b[1m", "reverse": "\x1b[7m", "dim": "\x1b[2m", "red": "\x1b[31m"}
KEYS: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x04": "q",
}
_KEY: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?\Z")  # an arrow's first bytes, or the key Escape
REST_WITHIN_S: Final = 0.05  # ssh may cut a key in two
MOST_READ: Final = 1024
ENDS: Final = (signal.SIGTERM, signal.SIGHUP)

Line = tuple[str, str]  # the text, and a style


def split_keys(text: str) -> tuple[list[str], str]:
    """The keys in what was read, and what may be the beginning of one more; what is no key is left out.

    A key that is held down, or a slow line, brings several at once.
    """
    rest = found[0] if (found := _UNFINISHED.search(text)) is not None else ""
    names = (KEYS.get(key, key) for key in _KEY.findall(text.removesuffix(rest)))
    return [name for name in names if name[0] != "\x1b"], rest


class Terminal:
    """A context; stdin and stdout are a terminal."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._wake_read, self._wake_write = -1, -1
        self._plain = "NO_COLOR" in os.environ
        self._ahead: deque[str] = deque()  # keys that were read with the one before
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        handlers = {signal.SIGWINCH: self._resized, signal.SIGTSTP: self._suspend}
        for number, handler in {**handlers, **dict.fromkeys(ENDS, _end)}.items():
            self._handlers[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _take(self) -> None:
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        _write(ENTER)

    def _give_back(self) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        _write(LEAVE)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        os.write(self._wake_write, b".")

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here we go on when somebody says `fg`.
        signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        os.write(self._wake_write, b".")

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        found = os.get_terminal_size(self._fd)  # not what COLUMNS says: it does not follow
        return found.columns or 80, found.lines or 24

    def key(self, within_s: float) -> str:
        """The next key; empty when none comes in time, or the size has changed."""
        if self._ahead:
            return self._ahead.popleft()
        ready, _, _ = select.select([self._fd, self._wake_read], [], [], max(0.0, within_s))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._fd not in ready:
            return ""
        text = self._read()
        if not text:
            return "q"  # nobody is at the other end any more
        keys, rest = split_keys(text)
        while rest and select.select([self._fd], [], [], REST_WITHIN_S)[0] and (more := self._read()):
            found, rest = split_keys(rest + more)
            keys += found
        self._ahead.extend([*keys, "escape"] if rest == "\x1b" else keys)
        return self._ahead.popleft() if self._ahead else ""

    def _read(self) -> str:
        """What has been typed; empty at the end, and never for half a letter."""
        while data := os.read(self._fd, MOST_READ):
            if text := self._decoder.decode(data):
                return text
        return ""

    def draw(self, lines: Sequence[Line]) -> None:
        """A whole screen, in one write so that it does not flicker."""
        pieces = ["\x1b[H"]
        for number, (text, style) in enumerate(lines):
            code = "" if self._plain and style == "red" else STYLES[style]
            pieces.append(f"{code}{text}{chr(27) + '[0m' if code else ''}\x1b[K")
            if number + 1 < len(lines):
                pieces.append("\r\n")
        pieces.append("\x1b[J")
        _write("".join(pieces))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(error) from None
