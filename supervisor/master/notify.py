"""Whom the master tells what happens, beside the log: the display of `run --burst`, and tests.

Decides nothing. Every method is called from the event loop and must return at once.
"""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Facts about jobs, in the order in which the master learned them."""

    def on_fetched(self, queue: str, job_id: str, name: str, slot: int) -> None:
        """The job begins in a runner."""

    def on_progress(self, queue: str, job_id: str, progress: bytes) -> None:
        """`progress` is JSON text, at most ten times a second for one job."""

    def on_finished(self, queue: str, job_id: str, state: str, reason: str | None) -> None:
        """The attempt's outcome is written. `state`: completed, failed, retried, delayed or handed-back. One
        that has not begun, because it waited behind another, may be handed back too.
        """

    def on_output(self, queue: str, job_id: str, stream: str, line: str) -> None:
        """One line of the processor's stdout or stderr."""


class Nobody:
    """The listener that does not listen."""

    def on_fetched(self, queue: str, job_id: str, name: str, slot: int) -> None: ...
    def on_progress(self, queue: str, job_id: str, progress: bytes) -> None: ...
    def on_finished(self, queue: str, job_id: str, state: str, reason: str | None) -> None: ...
    def on_output(self, queue: str, job_id: str, stream: str, line: str) -> None: ...
