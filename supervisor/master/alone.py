"""Jobs that have the master for themselves: the second run of one that met its memory limit.

Decides when such a job may begin: when nothing else of this master runs. Until then, and until it is over,
nothing is fetched on any of its queues; what had been fetched before still runs first. With several they run
one after the other. A job that arrives all the same while one runs alone is handed back (dispatcher.py).

The price is the master's time, as long as its longest job and the job itself together; it is paid only for
processors that ask for it (`on_memory = "bigger"`). Other masters on the host are not asked to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from supervisor.master.attempt import Attempt


class Queue(Protocol):
    """What is needed of each queue's dispatcher."""

    def at_work(self) -> int: ...  # its attempts that have a runner, or wait for one
    def begin(self, attempt: Attempt) -> None: ...
    def go_on(self) -> None: ...  # it may fetch again
    def fewer(self) -> None: ...  # it may not


class Alone:
    """One for all queues of a master. All methods belong to the event loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._queues: list[Queue] = []
        self._waiting: deque[tuple[Attempt, Queue]] = deque()
        self._looking = False
        self.now: Attempt | None = None  # who runs alone

    def join(self, queue: Queue) -> None:
        self._queues.append(queue)

    def leave(self, queue: Queue) -> None:
        """It has come to its end; nothing of it waits or runs."""
        self._queues.remove(queue)
        self.look()

    @property
    def wanted(self) -> bool:
        """One runs alone or waits for it: nothing may be fetched."""
        return self.now is not None or bool(self._waiting)

    def wait(self, attempt: Attempt, queue: Queue) -> None:
        """`queue.begin(attempt)` is called when nothing else runs."""
        self._waiting.append((attempt, queue))
        for each in self._queues:
            each.fewer()
        self.look()

    def look(self) -> None:
        """Somebody may have ended. Judged when the facts of this turn of the loop are all in."""
        if self.wanted and not self._looking:
            self._looking = True
            self._call_soon(self._next)

    def _next(self) -> None:
        self._looking = False
        if self.now is None and self._waiting and not any(each.at_work() for each in self._queues):
            self.now, queue = self._waiting.popleft()
            queue.begin(self.now)

    def forget(self, attempt: Attempt) -> None:
        """It is over, or is not to be run any more."""
        if attempt is self.now:
            self.now = None
        else:
            self._waiting = deque(each for each in self._waiting if each[0] is not attempt)
        self.look()
        if not self.wanted:
            for each in self._queues:
                each.go_on()
