"""The other clients, as the tests see them: a process behind JSON lines, one for a whole test module.

`Peer` is the blocking end of such a process. What a peer tells unasked (events of its workers and listeners)
is kept in the order it came; `until` waits for a told line, never for a time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE_S = 30.0


class PeerError(Exception):
    """The peer's own error, with its text and its code."""

    def __init__(self, message: str, code: int | None) -> None:
        self.code = code
        super().__init__(message)


class Peer:
    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, bufsize=1
        )
        self._changed = threading.Condition()
        self._replies: dict[int, dict[str, Any]] = {}
        self._told: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._seq = 0
        self._gone = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, do: str, **request: Any) -> Any:
        """Have the peer do one thing; its answer, or `PeerError`."""
        return self.answer(self.send(do, **request))

    def send(self, do: str, **request: Any) -> int:
        """Ask without waiting; `answer` waits."""
        self._seq += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seq": self._seq, "do": do, **request}) + "\n")
        return self._seq

    def answer(self, seq: int) -> Any:
        with self._changed:
            self._wait(lambda: seq in self._replies, lambda: f"answer {seq}")
            reply = self._replies.pop(seq)
        if "error" in reply:
            raise PeerError(reply["error"], reply.get("code"))
        return reply["ok"]

    def told(self, by: str, queue: str, name: str | None = None) -> list[dict[str, Any]]:
        """What was told so far by the workers or the listeners of one queue."""
        with self._changed:
            return [
                line
                for line in self._told
                if line["told"] == by and line["queue"] == queue and name in (None, line["name"])
            ]

    def until(self, by: str, queue: str, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until `name` was told `count` times."""
        with self._changed:
            self._wait(
                lambda: len(self.told(by, queue, name)) >= count,
                lambda: f"{count} x {name!r} told by {by} of {queue}; so far {self.told(by, queue)}",
            )
            return self.told(by, queue, name)

    def forget(self) -> None:
        """Drop what was told so far; it belongs to an earlier test."""
        with self._changed:
            self._told.clear()
            self.errors.clear()

    def kill(self) -> None:
        """kill -9, as a worker that is lost."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(10)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            with self._changed:
                if line.get("told") == "worker" and line["name"] == "error":
                    self.errors.append(line["args"][0])
                if "seq" in line:
                    self._replies[line["seq"]] = line
                elif "told" in line:
                    self._told.append(line)
                self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _wait(self, fact: Callable[[], bool], what: Callable[[], str]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not fact():
            left = deadline - time.monotonic()
            if self._gone or left <= 0:
                raise AssertionError(f"{'the peer is gone' if self._gone else 'nobody saw'}: {what()}")
            self._changed.wait(left)
