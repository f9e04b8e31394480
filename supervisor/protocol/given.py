"""What callers give: kinds of values, and the sentences for those of another kind.

Decides   how a value that cannot be is refused: one short sentence that names it and says what may be
Not here  which options a job has (`new_job.py`), BullMQ's own rules for names and ids (`validate.py`)

Everything here is asked before anything is sent. What was given may be of any size and depth, so it is shown
by `shown` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from supervisor.errors import InvalidJob, UsageError
from supervisor.protocol.keys import PARTS

MAX_WHOLE: Final = 2**53 - 1
_MOST_SHOWN: Final = 60
_LONGEST_NUMBER: Final = 20  # of decimal digits; Python refuses to write out thousands of them
# What other keys than a job's look like. An id that does would lead to one of them.
_SIDES: Final = (":logs", ":dependencies", ":processed", ":failed", ":unsuccessful", ":lock")
_NOT_JOBS: Final = ("de:", "dn:", "ox:", "metrics:")
_RUN: Final = re.compile(r"repeat:.*:[0-9]+", re.DOTALL)


def kind(value: object) -> str:
    return type(value).__name__


def clipped(text: str) -> str:
    """A text in one line: as it is, or its beginning when it is long."""
    cut = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return cut if cut.isprintable() else repr(cut)[1:-1]


def shown(value: object) -> str:
    """A value as a sentence can show it: short, whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else f"{value[:_MOST_SHOWN]}...")
    if isinstance(value, int | float):
        return digits(value)
    return kind(value)


def digits(number: float) -> str:
    """A number, however large."""
    if isinstance(number, int) and abs(number) >= 10**_LONGEST_NUMBER:
        return f"a number of more than {_LONGEST_NUMBER} digits"
    return str(number)


def check_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise InvalidJob(f"{what} is text, not {kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidJob(f"{what} holds half of a surrogate pair, which UTF-8 cannot say") from None


def whole(least: int, most: int = MAX_WHOLE) -> Callable[[str, Any], int]:
    """The check of a whole number from `least` to `most`."""

    def check(name: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidJob(f"{name} is a whole number, not {kind(value)}")
        if not least <= value <= most:
            raise InvalidJob(f"{name} is between {least} and {most}, not {digits(value)}")
        return value

    return check


def check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidJob(f"{name} is True or False, not {kind(value)}")
    return value


def check_flags(**given: object) -> None:
    for name, value in given.items():
        check_flag(name, value)


def check_state(state: object, states: Sequence[str]) -> None:
    if not isinstance(state, str) or state not in states:
        raise UsageError(f"there is no state {shown(state)}; the states are {', '.join(states)}")


def check_mapping(value: object, what: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidJob(f"{what} are a mapping, not {kind(value)}")


def check_job_ref(job_id: object) -> None:
    """Refuse what cannot be the id of a job that is there: it would lead to another key of the queue."""
    check_text(job_id, "the id of a job")
    assert isinstance(job_id, str)
    if not job_id:
        raise UsageError("the id of a job is empty")
    if job_id in PARTS or job_id.endswith(_SIDES) or job_id.startswith(_NOT_JOBS) or _is_scheduler(job_id):
        raise UsageError(f"{shown(job_id)} is no id of a job: the queue has other keys of such names")


def _is_scheduler(job_id: str) -> bool:
    return job_id.startswith("repeat:") and _RUN.fullmatch(job_id) is None
