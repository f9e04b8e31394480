"""The life of a runner as a table.

`advance` says which phase follows; acting on it is `runners.py`'s work.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Phase(Enum):
    STARTING = "starting"  # forked and registered, has not said READY
    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"  # told to leave or being killed; takes no job any more
    GONE = "gone"


class Fact(Enum):
    READY = "ready"
    JOB_SENT = "job sent"
    OUTCOME = "outcome"
    TOLD = "told"
    EXITED = "exited"


TRANSITIONS: Final[Mapping[Phase, Mapping[Fact, Phase]]] = {
    # A runner can be told to leave, or vanish, in every phase but the last.
    Phase.STARTING: {Fact.READY: Phase.IDLE, Fact.TOLD: Phase.LEAVING, Fact.EXITED: Phase.GONE},
    Phase.IDLE: {Fact.JOB_SENT: Phase.BUSY, Fact.TOLD: Phase.LEAVING, Fact.EXITED: Phase.GONE},
    # A runner of async processors may have several jobs; OUTCOME is told when the last of them is done.
    Phase.BUSY: {
        Fact.JOB_SENT: Phase.BUSY,
        Fact.OUTCOME: Phase.IDLE,
        Fact.TOLD: Phase.LEAVING,
        Fact.EXITED: Phase.GONE,
    },
    # READY or an outcome may have been on its way when the runner was told.
    Phase.LEAVING: {
        Fact.READY: Phase.LEAVING,
        Fact.OUTCOME: Phase.LEAVING,
        Fact.TOLD: Phase.LEAVING,
        Fact.EXITED: Phase.GONE,
    },
    Phase.GONE: {},
}


class IllegalTransition(Exception):
    """A fact that cannot happen in this phase: a bug of ours, never a runner's doing."""

    def __init__(self, phase: Phase, fact: Fact) -> None:
        super().__init__(f"a {phase.value} runner cannot have the fact {fact.value!r}")


def advance(phase: Phase, fact: Fact) -> Phase:
    """The phase after `fact`. Does nothing else."""
    try:
        return TRANSITIONS[phase][fact]
    except KeyError:
        raise IllegalTransition(phase, fact) from None
