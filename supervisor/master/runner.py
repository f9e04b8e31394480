"""One runner, the slot it sits in, and how it may end. Records; births and burials are `runners.py`'s."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sandbox.wire import Kind
from supervisor.config.policy import RecycleConfig
from supervisor.master.budget import OutputBudget
from supervisor.master.cgroup import Leaf
from supervisor.master.evidence import Tail
from supervisor.master.faults import Faults
from supervisor.master.messages import Told
from supervisor.master.meter import Meter
from supervisor.master.nursery import Nursery
from supervisor.master.output import OutputPipe
from supervisor.master.phases import Fact, Phase, advance
from supervisor.master.pipe import Pipe
from supervisor.master.recycling import Wear

if TYPE_CHECKING:
    from supervisor.master.attempt import Attempt

FOR_EVER = RecycleConfig()
STANDS_AFTER_S: Final = 1.0


class Exit(msgspec.Struct, frozen=True):
    """How a process ended: its exit status, or the signal that ended it."""

    status: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"signal {self.signal} ({_signal_name(self.signal)})"
        return f"exit status {self.status}" if self.status is not None else "an unknown exit"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


class SlotOwner(Protocol):
    """Who uses a slot's runner."""

    def on_ready(self, runner: Runner) -> None: ...
    def on_frame(self, runner: Runner, kind: Kind, body: bytes, attempt: int, note: int) -> None: ...
    def on_bad_frame(self, runner: Runner, error: str) -> None: ...  # it is killed for it
    def on_line(self, runner: Runner, stream: str, text: str) -> None: ...
    def on_leaving(self, runner: Runner) -> None: ...  # it takes no job any more; its exit follows
    def on_exit(self, runner: Runner, how: Exit) -> None: ...


class Slot:
    """The master's place for one job of one queue; it has a runner, or waits for one.

    nursery   where its runners come from.
    title     what the titles of its runners begin with, if not its number and their generation.
    queue     whose jobs it serves; empty for hooks and proofs.
    fresh     every job has a runner of its own.
    recycle   how long a runner serves.
    room      how many jobs a runner of it may have at a time: one, but for async processors.

    on_failed_birth   is told why a runner did not come up, or died before it had a job.
    """

    UNTOLD: Final = -1  # the number of a slot whose births and deaths the log does not tell

    def __init__(
        self,
        number: int,
        owner: SlotOwner,
        *,
        nursery: Nursery,
        title: str = "",
        queue: str = "",
        fresh: bool = False,
        recycle: RecycleConfig = FOR_EVER,
        on_failed_birth: Callable[[str], None] = lambda why: None,
        room: int = 1,
    ) -> None:
        self.number = number
        self.owner = owner
        self.nursery = nursery
        self._title = title
        self.queue = queue
        self.fresh = fresh
        self.recycle = recycle
        self.room = room
        self.runner: Runner | None = None
        self.successor: Runner | None = None  # born, and takes over when its turn comes
        self.on_failed_birth = on_failed_birth
        self.filling = False  # a birth is under way
        self.owes = False  # its last runner came to nothing: the next one waits for its turn
        self.failures = 0  # starts in a row that came to nothing
        self.closed = False  # no new runner is started for it
        self.on_empty: Callable[[], None] = lambda: None  # it is closed, and its last runner gone

    @property
    def title(self) -> str:
        """What the titles of its runners begin with, from now on."""
        return self._title or f"oxherd: runner {self.number} g{self.nursery.generation}"

    @property
    def takes_ahead(self) -> bool:
        """May jobs be sent ahead to its runner? Of a queue, one at a time, several in its life."""
        return bool(self.queue) and self.room == 1 and not self.fresh

    def stands(self, now: float) -> bool:
        """It has a runner that was ready and has lived for a while."""
        runner = self.runner
        return runner is not None and runner.was_ready and now - runner.born_at >= STANDS_AFTER_S


class Runner:
    """One runner process. `phase` changes only by `_advance`, following phases.TRANSITIONS."""

    def __init__(self, slot: Slot, pid: int, pidfd: int, nursery: Nursery | None = None) -> None:
        self.slot = slot
        self.nursery = nursery or slot.nursery  # where it was born: the slot's may be another by now
        self.room = slot.room  # how many jobs it may have at a time
        self.pid = pid
        self.pidfd = pidfd
        self.phase = Phase.STARTING
        # By the number their frames carry. Of one at a time the first is at work, the others were sent ahead.
        self.attempts: dict[int, Attempt] = {}
        self.recalled: set[int] = set()  # numbers of jobs that were taken back, until it has said SKIPPED
        self.last_number = 0  # of the attempt whose outcome was heard last: a late word of it is no lie
        self.was_ready = False
        self.let_go = False  # told to leave when it had no job
        self.useless_why = ""  # what is known of why it did not come up
        self.wear: Wear | None = None  # None: it serves for ever
        self.replace_why = ""  # why a successor is to take over
        self.draining = False  # it takes no more jobs; the last of those it has ends it
        self.unclean = False  # a job left in it what cannot be put back: it is given no other
        self.layers: Sequence[Sequence[object]] = ()
        self.born_at = 0.0  # monotonic seconds of its registration
        self.served = 0  # jobs whose outcome it has said
        self.abandoned = False  # killed, and stuck in the kernel: its slot has another
        self.was_killed = False  # by us: its end needs no other explanation
        self.faults: Faults | None = None  # what its faulthandler writes
        self.tail: Tail | None = None  # the last of what it has printed for its job
        self.usage: resource.struct_rusage | None = None  # of its whole life, once it is reaped
        self.cpu_ns = 0  # its own CPU time, read once it has ended
        self.pipe: Pipe
        self.outputs: list[OutputPipe] = []
        self.budget: OutputBudget | None = None  # of both
        self.leaf: Leaf | None = None  # its cgroup, where there is one
        self.meter: Meter | None = None  # what its whole tree uses, from READY on
        self.kill_timer: asyncio.TimerHandle | None = None
        self.told: tuple[Told, float] | None = None  # what it says that it uses, and when it said so

    def advance(self, fact: Fact) -> Phase:
        self.phase = advance(self.phase, fact)
        return self.phase

    def drain_output(self) -> None:
        """Take what the runner has written: everything it wrote before its last frame is in the pipes."""
        for output in self.outputs:
            output.drain()

    def at_work(self) -> list[Attempt]:
        """Those that have begun, without those that were sent ahead."""
        return list(self.attempts.values())[: 1 if self.room == 1 else None]

    def hear_first(self) -> None:
        """It has printed: whose job is at work? With others behind that one, what it has said may tell."""
        if len(self.attempts) > 1 and self.room == 1:
            self.pipe.look()

    def hear(self) -> None:
        """Is the job over by now? Not while what it has printed is told: the rest of that would be the next
        one's.
        """
        if not any(output.telling for output in self.outputs):
            self.pipe.look()

    def end_lines(self) -> None:
        """The job is over, and nothing that it wrote is left to be read, as the runner says."""
        for output in self.outputs:
            output.end_line()

    def take_back(self) -> list[Attempt]:
        """The jobs that were sent ahead to it and not begun; it never will begin them."""
        if self.pipe.permits is None:
            return []
        self.pipe.flush()  # who was put and has no permit yet would be taken for one that has begun
        left = self.pipe.permits.take_back()
        back = [attempt for attempt in self.attempts.values() if attempt.ahead][-left:] if left else []
        for attempt in back:
            del self.attempts[attempt.number]
            self.recalled.add(attempt.number)
        return back

    @property
    def printed_bytes(self) -> int:
        """What it has written to stdout and stderr in its life, as far as it was read."""
        return sum(output.total_bytes for output in self.outputs)

    def pause(self) -> None:
        """Stop reading what it says and prints: it then blocks, which is the back-pressure wanted."""
        self.pipe.pause()
        for output in self.outputs:
            output.pause()

    def resume(self) -> None:
        self.pipe.resume()
        for output in self.outputs:
            output.resume()

    def leave(self) -> None:
        """Let it finish what it does and exit."""
        self.advance(Fact.TOLD)
        self.pipe.send(Kind.LEAVE)
