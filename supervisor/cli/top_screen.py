"""What `oxherd top` shows and what its keys mean, without a terminal and without a master.

Decides what stands on the screen and which question a key asks; asking it is `top.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from supervisor.cli.render import clean, columns_of, padded
from supervisor.cli.slots_view import (
    Known,
    Row,
    fitted,
    pool_line,
    proof_line,
    queues_table,
    redis_line,
    rows_of,
    slots_table,
    spares_line,
    title_line,
)
from supervisor.cli.terminal import Line

HELP: Final = (
    "",
    "  up, down, k, j      choose a job or a slot       page up, page down   by ten",
    "  s                   sort by the next of: slot, cpu, mem, runs, queue",
    "  t                   show the processes below each runner, or not",
    "  enter, x            what is this job doing: the stacks of all its threads",
    "  p                   fetch nothing more from this queue (quiet), or fetch again",
    "  + -                 one slot more or less for this queue",
    "  c                   cancel this job (asks first)",
    "  m                   the next master of this host",
    "  q, Ctrl-C           end; the jobs go on",
    "",
    "  CPU%  of one core, since the last look",
    "  MEM   RssAnon of the runner and all below it",
    "  RUNS  how long the job has run     LOCK  how long its lock is still trusted",
    "  -     is not known; a wider terminal shows more: GEN, CPU time, PSS, FILES,",
    "        READ, WRIT, PROC, THR, AGE, JOBS",
)
MORE_LINE: Final = "there is more below: down, page down; escape goes back"
KEYS_LINE: Final = "q end  ? help  s sort  t tree  x stack  p quiet  + - slots  c cancel  m master"
SORTS: Final[Mapping[str, Callable[[Known], Any]]] = {
    "slot": lambda slot: slot["number"],
    "cpu": lambda slot: -((slot["tree"] or {}).get("cpu_share") or 0),
    "mem": lambda slot: -((slot["tree"] or {}).get("anon_bytes") or 0),
    "runs": lambda slot: -max((job["running_ms"] or 0 for job in slot["jobs"]), default=-1),
    "queue": lambda slot: (slot["queue"], slot["number"]),
}
PAGE: Final = 10


class Question(NamedTuple):
    """What is to be asked of the master. `confirm`: only after a y to this."""

    verb: str
    args: dict[str, Any]
    confirm: str = ""


class Screen:
    """`message` stands on the last line until the next key."""

    def __init__(self, *, plain: bool = False) -> None:
        self._plain = plain  # letters of ASCII alone
        self._known: Known | None = None
        self._rates: dict[str, float | None] = {}
        self._sort = "slot"
        self._trees = False
        self._chosen: tuple[int, Any] | None = None  # slot and job; None: whatever comes first
        self._top = 0
        self._pages: list[str] | None = None  # instead of the slots
        self._waiting: Question | None = None
        self.message = ""
        self.others = ""  # which master of how many

    def take(self, known: Known) -> None:
        """A new look."""
        before = self._known
        self._rates = {}
        if before is not None and before["pid"] == known["pid"]:
            seconds = (known["asked_on"] - before["asked_on"]) / 1000
            counts = {each["name"]: each["done"] + each["failed"] for each in before["queues"]}
            for each in known["queues"]:
                if each["name"] in counts and seconds > 0:
                    more = each["done"] + each["failed"] - counts[each["name"]]
                    self._rates[each["name"]] = more / seconds
        self._known = known

    # --- keys -------------------------------------------------------------------------------------------

    def press(self, key: str) -> Question | None:
        """What follows from a key; `q`, `m` and the like are the caller's."""
        self.message = ""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            if key == "y":
                return waiting
            self.message = "nothing was done"
            return None
        if key in ("?", "h"):
            self._pages, self._top = (None if self._pages else list(HELP)), 0
        elif key == "escape":
            self._pages, self._top = None, 0
        elif key in ("up", "k", "down", "j", "page up", "page down"):
            step = PAGE if "page" in key else 1
            self._move(-step if key in ("up", "k", "page up") else step)
        elif key == "s":
            names = list(SORTS)
            self._sort = names[(names.index(self._sort) + 1) % len(names)]
            self._chosen = None
            self.message = f"sorted by {self._sort}"
        elif key == "t":
            self._trees = not self._trees
        else:
            return self._question(key)
        return None

    def _move(self, by: int) -> None:
        if self._pages is not None:
            self._top = max(0, min(len(self._pages) - 1, self._top + by))
        elif rows := rows_of(self._slots()):
            at = rows.index(self._row() or rows[0])
            self._chosen = _who(rows[max(0, min(len(rows) - 1, at + by))])

    def _question(self, key: str) -> Question | None:
        row = self._row()
        if self._pages is not None and key in ("enter", "x"):
            self._pages = None
        elif row is None:
            return None
        elif key in ("x", "enter", "c"):
            return self._of_job(key, row)
        elif key == "p":
            assert self._known is not None
            queue = next(each for each in self._known["queues"] if each["name"] == row.slot["queue"])
            return Question("resume" if queue["quiet"] else "quiet", {"queue": queue["name"]})
        elif key in ("+", "-"):
            return Question("scale", {"by": 1 if key == "+" else -1, "queue": row.slot["queue"]})
        return None

    def _of_job(self, key: str, row: Row) -> Question | None:
        if row.job is None:
            self.message = "this slot has no job"
            return None
        args = {"queue": row.slot["queue"], "id": row.job["id"]}
        if key != "c":
            return Question("stack", args)
        name = f"{clean(args['queue'])}/{clean(args['id'])}"
        self._waiting = Question("cancel", {**args, "by": "oxherd top"}, f"cancel the job {name}? y or n")
        return None

    def show(self, lines: list[str]) -> None:
        """These instead of the slots, until a key."""
        self._pages, self._top = lines, 0

    # --- the screen -------------------------------------------------------------------------------------

    def _slots(self) -> list[Known]:
        return [] if self._known is None else sorted(self._known["slots"], key=SORTS[self._sort])

    def _row(self) -> Row | None:
        """The one that is chosen; its slot when its job has ended, or whatever comes first."""
        rows = rows_of(self._slots())
        if self._chosen is not None:
            same = [row for row in rows if row.slot["number"] == self._chosen[0]]
            for row in (*(row for row in same if _who(row) == self._chosen), *same):
                return row
        return rows[0] if rows else None

    def lines(self, width: int, height: int) -> list[Line]:
        """Exactly what fits."""
        if self._known is None:
            return [("no master is known yet", ""), self._bottom(width, False)]
        head = self._head(self._known, width, max(3, height // 2))
        if self._pages is not None:
            head = head[:2]  # the page needs the room
        room = max(1, height - len(head) - 1)
        if self._pages is not None:
            body: list[Line] = [
                (part, "") for text in self._pages[self._top :] for part in _wrapped(text, width)
            ]
        else:
            body = self._body(width, room)
        bottom = self._bottom(width, self._pages is not None and len(body) > room)
        body = body[:room]
        lines = [*head, *body, *[("", "")] * (room - len(body))]
        return [*lines[: height - 1], bottom]

    def _bottom(self, width: int, more: bool) -> Line:
        if self._waiting is not None:
            return fitted(self._waiting.confirm, width), "bold"
        if self.message:
            return fitted(self.message, width), "bold"
        return fitted(MORE_LINE if more else KEYS_LINE, width), "dim"

    def _head(self, known: Known, width: int, most: int) -> list[Line]:
        redis_style = "" if known["redis"]["connected"] else "red"
        lines: list[Line] = [
            (fitted(f"{title_line(known, width)}{self.others}", width), "bold"),
            (redis_line(known, width), redis_style),
            *((line, "red") for line in proof_line(known, width)),
            *((line, "") for line in spares_line(known, width)),
            *((line, "") for line in pool_line(known, width)),
            ("", ""),
        ]
        title, *queues = queues_table(known, width, self._rates)
        lines.append((fitted(title, width), "dim"))
        for text, queue in zip(queues, known["queues"], strict=True):
            lines.append((text, "red" if queue["degraded"] else ""))
        if len(lines) > most:
            more = len(lines) - most + 1
            lines = [*lines[: most - 1], (f"and {more} more queues", "dim")]
        return [*lines, ("", "")]

    def _body(self, width: int, room: int) -> list[Line]:
        chosen = self._row()
        table = list(slots_table(self._slots(), width, trees=self._trees, plain=self._plain))
        header, lines = (table[0][0], "dim"), table[1:]
        at = next((number for number, (_, row) in enumerate(lines) if row == chosen), 0)
        first = max(0, min(at - (room - 1) // 2, len(lines) - (room - 1)))
        found: list[Line] = [header]
        for text, row in lines[first : first + room - 1]:
            found.append((padded(text, width) if row == chosen else text, _style(row, chosen)))
        return found


def _who(row: Row) -> tuple[int, Any]:
    return row.slot["number"], None if row.job is None else row.job["id"]


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The end of a line of a stack is what counts, so nothing of it is cut off."""
    while columns_of(text) > width:
        part = text[:width]
        while columns_of(part) > width:
            part = part[:-1]
        yield part
        text = f"      {text[len(part) :]}"
    yield text


def _style(row: Row | None, chosen: Row | None) -> str:
    if row is None:
        return "dim"
    return "reverse" if row == chosen else ""
