"""`oxherd run --inline`: processors called in this very process, with the terminal attached and no isolation.

The same loading, the same Job, the same judgement of outcomes as in a runner; only the frames are replaced by
functions of the caller. For `breakpoint()` and nothing else. Must be used from the main thread, outside a
running event loop (an `async def` processor gets a loop of its own).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sandbox.alarm import SoftLimit
from sandbox.attempt import Attempts, Outcome, flush_output
from sandbox.jobdir import Home
from sandbox.loader import load
from sandbox.policy import Policy
from sandbox.processors import Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A `Channel` made of functions. Bodies are JSON text, log rows UTF-8 text.

    on_ask   gets what is asked and its arguments, returns the value or raises `AskFailed`.
    """

    on_progress: Callable[[bytes], None]
    on_log: Callable[[bytes], None]
    on_data: Callable[[bytes], None]
    on_ask: Callable[[str, dict[str, Any]], Any]
    why_cancelled: Callable[[], str | None]
    home: Home = field(default_factory=lambda: Home(""))

    def progress(self, encoded: bytes, value: Any) -> None:
        self.on_progress(encoded)

    def log(self, text: bytes) -> None:
        self.on_log(text)

    def data(self, encoded: bytes) -> None:
        self.on_data(encoded)

    def ask(self, what: str, arguments: dict[str, Any]) -> Any:
        return self.on_ask(what, arguments)

    def directory(self) -> str:
        return self.home.directory()

    def cancel_reason(self) -> str | None:
        return self.why_cancelled()


class Inline:
    """The processors of `targets`, loaded into this process. Raises `LoadError`.

    targets   each with the queue of its plain function; a decorated one has its own.
    """

    def __init__(self, targets: Sequence[tuple[str, str | None]], policy: Policy) -> None:
        here = os.getcwd()
        if here not in sys.path:
            sys.path.insert(0, here)
        self.processors: list[Processor] = load(targets)
        # Ctrl-C belongs to the person at the terminal, not to the job.
        self._attempts = Attempts(self.processors, policy, SoftLimit(), let_through=(KeyboardInterrupt,))

    def run(self, meta: dict[str, Any], raw: bytes, listening: Listening) -> Outcome:
        """One attempt: (COMPLETED, JSON result) or (FAILED, JSON failure). `meta` is that of a START frame.

        KeyboardInterrupt passes through: the job has then no outcome and the caller hands it back.
        """
        try:
            return self._attempts.run(meta, raw, listening)
        finally:
            flush_output()
            with suppress(OSError):  # what the job has put beyond our reach there stays
                listening.home.remove()

    def close(self) -> None:
        """Close the event loop of `async def` processors. No job is run after it."""
        self._attempts.close()
