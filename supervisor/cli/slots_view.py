"""How the processes of a master look: lines from what its control socket tells, for `ps` and `top`.

Decides which columns fit and how a value is spelled. What is not known is `-`, never 0. Names of jobs and
processes are strangers' words: nothing in them moves the cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from supervisor.cli.render import clean, clipped, columns_of, padded, span

Known = Mapping[str, Any]

UNKNOWN: Final = "-"
BAR: Final = 10
PROGRESS: Final = BAR + len(" 100%")
LEAST_WIDTH: Final = 60
_PHASES: Final = {"starting": "start", "leaving": "leave"}
_SIZES: Final = ((2**40, "T"), (2**30, "G"), (2**20, "M"), (2**10, "K"))


class Row(NamedTuple):
    """One line of slots: a job of a slot, or a slot without one. `first` of its slot."""

    slot: Known
    job: Known | None
    first: bool


class Column(NamedTuple):
    """`from_width`: the terminal's, below which it is left out. `grows`: takes what room there is."""

    title: str
    width: int
    value: Callable[[Row], str]
    right: bool = True
    from_width: int = 0
    grows: bool = False


# --- values -------------------------------------------------------------------------------------------


def size(value: float | None) -> str:
    """Bytes in five columns at most: `980`, `9.5K`, `120M`, `1.2G`."""
    if value is None:
        return UNKNOWN
    for worth, unit in _SIZES:
        if value >= worth:
            number = value / worth
            return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"
    return f"{value:.0f}"


def short_span(ms: float | None) -> str:
    """A length of time in five columns: `340ms`, `1.2s`, `12s`, `1.7m`, `3m`, `2h`, `5d`."""
    return UNKNOWN if ms is None else span(ms).replace(" min", "m").replace(" ", "")


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.0f}"


def progress(value: Any, *, plain: bool = False) -> str:
    """A bar for a number from 0 to 100, the text itself for anything else that is short."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return clipped(clean(value if isinstance(value, str) else str(value)), PROGRESS)
    full = int(value * BAR / 100)
    bar = ("#" if plain else "█") * full + ("." if plain else "░") * (BAR - full)
    return f"{bar} {value if value == 100 else min(99, round(value)):.0f}%"  # 100 is all of it


def job_text(job: Known | None) -> str:
    """Its id first, because that is what one types; the number of its attempt from the second on."""
    if job is None:
        return ""
    again = f" #{job['attempt']}" if job["attempt"] > 1 else ""
    return f"{clean(str(job['id']))}{again} {clean(str(job['name']))}"


# --- columns ------------------------------------------------------------------------------------------


def _of_slot(read: Callable[[Known], str]) -> Callable[[Row], str]:
    return lambda row: read(row.slot) if row.first else ""


def _of_tree(name: str, spell: Callable[[Any], str]) -> Callable[[Row], str]:
    return _of_slot(lambda slot: spell((slot["tree"] or {}).get(name)))


def _of_dear(name: str, spell: Callable[[Any], str]) -> Callable[[Row], str]:
    return _of_slot(lambda slot: spell(((slot["tree"] or {}).get("dear") or {}).get(name)))


def _number(value: Any) -> str:
    return UNKNOWN if value is None else str(value)


def _phase(slot: Known) -> str:
    phase = str(slot["phase"])
    return _PHASES.get(phase, phase)


def _of_job(read: Callable[[Known], str]) -> Callable[[Row], str]:
    return lambda row: "" if row.job is None else read(row.job)


def columns(*, plain: bool = False) -> list[Column]:
    """All there are, in their order. `plain`: letters of ASCII only."""
    return [
        Column("SLOT", 4, _of_slot(lambda slot: str(slot["number"]))),
        Column("QUEUE", 8, _of_slot(lambda slot: clean(slot["queue"])), right=False, grows=True),
        Column("RUNNER", 7, _of_slot(lambda slot: _number(slot["runner"]))),
        Column("PHASE", 5, _of_slot(_phase), right=False),
        Column("GEN", 3, _of_slot(lambda slot: _number(slot["generation"])), from_width=90),
        Column("CPU%", 4, _of_tree("cpu_share", percent)),
        Column("CPU", 5, _of_tree("cpu_ms", short_span), from_width=96),
        Column("MEM", 5, _of_tree("anon_bytes", size)),
        Column("PSS", 5, _of_dear("pss_bytes", size), from_width=102),
        Column("FILES", 5, _of_dear("open_files", _number), from_width=108),
        Column("READ", 5, _of_dear("read_bytes", size), from_width=114),
        Column("WRIT", 5, _of_dear("written_bytes", size), from_width=120),
        Column("PROC", 4, _of_tree("count", _number), from_width=126),
        Column("THR", 3, _of_tree("threads", _number), from_width=130),
        Column("AGE", 5, _of_slot(lambda slot: short_span(slot["age_ms"])), from_width=136),
        Column("JOBS", 5, _of_slot(lambda slot: _number(slot["served"])), from_width=142),
        Column("RUNS", 5, _of_job(lambda job: short_span(job["running_ms"]))),
        Column("LOCK", 5, _of_job(lambda job: short_span(job["lock_margin_ms"])), from_width=64),
        Column("JOB", 12, lambda row: job_text(row.job), right=False, grows=True),
        Column(
            "PROGRESS",
            PROGRESS,
            _of_job(lambda job: progress(job["progress"], plain=plain)),
            right=False,
            from_width=79,
        ),
    ]


def rows_of(slots: Iterable[Known]) -> list[Row]:
    return [
        Row(slot, job, number == 0) for slot in slots for number, job in enumerate(slot["jobs"] or (None,))
    ]


def slots_table(
    slots: Sequence[Known], width: int, *, trees: bool = False, plain: bool = False
) -> Iterator[tuple[str, Row | None]]:
    """Lines of at most `width` columns, each with the row it is of; the header, and processes, with None.

    trees   also a line for each process below a runner.
    """
    width = max(width, LEAST_WIDTH)
    shown = [column for column in columns(plain=plain) if column.from_width <= width]
    widths = _shared_out(shown, width)
    yield _line([column.title for column in shown], shown, widths), None
    for row in rows_of(slots):
        yield _line([column.value(row) for column in shown], shown, widths), row
        if trees and row.first:
            for text in _processes(row.slot, width):
                yield text, None


def _shared_out(shown: Sequence[Column], width: int) -> list[int]:
    room = width - sum(column.width + 1 for column in shown) + 1
    growing = [number for number, column in enumerate(shown) if column.grows]
    widths = [column.width for column in shown]
    for number in growing:
        # The last, the job, gets twice as much.
        share = room // 3 if number != growing[-1] else room - room // 3 * (len(growing) - 1)
        widths[number] = max(4, widths[number] + share)
    return widths


def _line(cells: Sequence[str], shown: Sequence[Column], widths: Sequence[int]) -> str:
    return " ".join(
        padded(fitted(cell, width), width, right=column.right)
        for cell, column, width in zip(cells, shown, widths, strict=True)
    ).rstrip()


def fitted(text: str, width: int) -> str:
    """`text` in so many columns at most, whatever letters it has."""
    if columns_of(text) <= width:
        return text
    while columns_of(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _processes(slot: Known, width: int) -> Iterator[str]:
    """Those below a runner; it is the first of its tree."""
    tree = slot["tree"] or {}
    listed = tree.get("processes", ())
    depth = {slot["runner"]: 0}
    for each in listed[1:]:
        depth[each["pid"]] = level = depth.get(each["parent"], 0) + 1
        threads = f", {each['threads']} threads" if each["threads"] > 1 else ""
        text = (
            f"{'':13}{'  ' * min(level, 5)}{each['pid']:>7} {each['state']} {clean(each['name'])}: CPU "
            f"{short_span(each['user_ms'] + each['system_ms'])}, {size(each['anon_bytes'])}{threads}, "
            f"{short_span(each['age_ms'])} old"
        )
        yield fitted(text, width)
    if (more := tree.get("count", 0) - len(listed)) > 0:
        yield f"{'':15}and {more} more"


# --- queues and the master ----------------------------------------------------------------------------


def title_line(known: Known, width: int) -> str:
    """Who this is."""
    up = span(_since(known))
    text = f"oxherd {known['pid']} on {clean(known['host'])}, generation {known['generation']}, up {up}"
    return fitted(text, width)


def _since(known: Known) -> float:
    return max(0, known["asked_on"] - known["started_on"]) if "asked_on" in known else 0


def redis_line(known: Known, width: int) -> str:
    redis = known["redis"]
    ago = redis["answered_ago_ms"]
    if not redis["connected"]:
        heard = "NOT CONNECTED" + (f", last heard {span(ago)} ago" if ago is not None else "")
    else:
        heard = f"answered {span(ago)} ago" if ago is not None else "connected"
    return fitted(f"redis {clean(redis['address'])}: {heard}", width)


def proof_line(known: Known, width: int) -> Iterator[str]:
    """Why no jobs are taken, if they are not: the judgement of `status --check`."""
    proof = known.get("proof") or {}
    if not proof.get("ok", True):
        yield fitted(f"takes no jobs: {clean(proof['why'])}", width)


def spares_line(known: Known, width: int) -> Iterator[str]:
    """Who is kept ready, if anybody is."""
    spares = known.get("runners", {}).get("spares") or ()
    if spares:
        told = "; ".join(f"{each['runner']} {_phase(each)}, {_memory_of(each)}" for each in spares)
        yield fitted(f"kept ready: {told}", width)


def _memory_of(runner: Known) -> str:
    return size((runner["tree"] or {}).get("anon_bytes"))


def pool_line(known: Known, width: int) -> Iterator[str]:
    """What is shared, and how, if there is a pool."""
    if (pool := known.get("pool")) is None:
        return
    members = (each for each in known["queues"] if each["pool"] is not None)
    told = ", ".join(f"{clean(each['name'])} {_share(each['pool'])}" for each in members)
    yield fitted(f"pool: {pool['busy']} of {pool['slots']} slots busy; {told}", width)


def _share(share: Known) -> str:
    kept = f" minimum {share['minimum']}" if share["minimum"] else ""
    return f"weight {share['weight']}{kept}"


def queues_table(known: Known, width: int, rates: Mapping[str, float | None] | None = None) -> Iterator[str]:
    """`rates`: jobs a second by queue; left out when nobody has counted."""
    name_width = max([5, *(min(24, columns_of(clean(each["name"]))) for each in known["queues"])])
    per_s = "" if rates is None else "  JOBS/S"
    yield f"{padded('QUEUE', name_width)} SLOTS BUSY     DONE  FAILED{per_s}  STATE"
    for each in known["queues"]:
        rate = ""
        if rates is not None:
            number = rates.get(each["name"])
            rate = f" {UNKNOWN if number is None else f'{number:.1f}':>7}"
        name = padded(fitted(clean(each["name"]), name_width), name_width)
        counts = f"{each['slots']:>5} {each['busy']:>4} {each['done']:>8,} {each['failed']:>7,}"
        yield fitted(f"{name} {counts}{rate}  {_state_of(each)}", width)


def _state_of(queue: Known) -> str:
    if queue["degraded"]:
        return f"degraded: {clean(queue['degraded'])}"
    renewed = queue["renewed_ago_ms"]
    said = ["quiet" if queue["quiet"] else clean(queue.get("held") or "fetching")]
    if unkept := queue.get("unkept"):
        said.append(f"nobody keeps {' and '.join(unkept)}")
    if renewed is not None:
        said.append(f"locks renewed {span(renewed)} ago")
    return ", ".join(said)
