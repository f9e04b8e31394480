"""Data from files and from stdin, read as bytes.

A file of many jobs is read twice, once to check all of it and once to send it; stdin cannot be, so it is kept
on the side, in memory while it is small.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any, Final

from supervisor.cli.render import clean
from supervisor.cli.values import read_json
from supervisor.errors import InvalidJob, UsageError

STDIN: Final = "-"
IN_MEMORY_BYTES: Final = 8 * 1024 * 1024


class Spool:
    """The lines of a file, as often as wanted. Empty lines are passed over, and counted."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = name
        self._file = file

    @classmethod
    @contextmanager
    def of(cls, path: str) -> Iterator[Spool]:
        with _opened(path) as file:
            if path != STDIN and file.seekable():
                yield cls(path, file)
                return
            with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as copy:
                shutil.copyfileobj(file, copy)
                yield cls("stdin" if path == STDIN else path, copy)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            text = line.strip()
            if text:
                yield number, text

    def chunks(self, size: int) -> Iterator[list[tuple[int, bytes]]]:
        lines = iter(self)
        while chunk := list(islice(lines, size)):
            yield chunk


def read_data(path: str) -> Any:
    """The JSON value in a file."""
    with _opened(path) as file:
        text = file.read()
    try:
        return read_json(text)
    except ValueError as error:
        name = "stdin" if path == STDIN else path
        raise InvalidJob(f"the data in {name} is {error}; nothing was added") from None


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below; an error of the body must not pass for one of ours)
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        try:
            file.peek(1)  # some files can be opened and not read
        except OSError as error:
            raise _unreadable(path, error) from None
        yield file


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(f"{clean(path)} cannot be read: {error.strerror}; nothing was added")
