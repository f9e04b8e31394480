"""How a verdict reads: why an attempt ended otherwise than by its processor's own word, for people.

A record comes from Redis, where anybody may have written it: what is missing or nonsense is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from supervisor.cli.render import clean, pairs, span

LINES_OF_OUTPUT: Final = 10
_TIMES: Final = (
    ("waited_ms", "waited"),
    ("start_ms", "started in"),
    ("ran_ms", "ran"),
    ("user_ms", "CPU user"),
    ("system_ms", "CPU system"),
)
_SIZES: Final = (("peak_bytes", "memory"), ("read_bytes", "read"), ("written_bytes", "written"))


def verdicts_text(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A title and each verdict, the oldest first; nothing for none.

    The stacks of their threads are with the stack traces.
    """
    if records:
        yield "\nverdicts"
    for record in records:
        yield "\n".join(f"  {line}" for line in _verdict(record).splitlines())


def used_text(record: Mapping[str, Any]) -> str:
    """What an attempt used, on one line."""
    parts = [f"{title} {span(_number(record, name))}" for name, title in _TIMES if name in record]
    parts += [f"{title} {_size(_number(record, name))}" for name, title in _SIZES if _number(record, name)]
    if processes := _number(record, "processes"):
        parts.append(f"{processes} processes and threads at most" if processes > 1 else "1 process")
    return f"attempt {_number(record, 'attempt')}: {', '.join(parts)}"


def _verdict(record: Mapping[str, Any]) -> str:
    attempt = _number(record, "attempt")
    title = f"attempt {attempt}" if attempt else "not an attempt"
    rows = "\n".join(f"  {line}" for line in pairs(_rows(record)).splitlines())
    return f"{title}, {_text(record, 'cause') or 'no cause'}: {_text(record, 'reason')}\n{rows}".rstrip()


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if ended := _text(record, "ended"):
        by = _text(record, "killed_by")
        yield "ended", f"{ended}, sent by {by}" if by else ended
    if peak := _number(record, "peak_bytes"):
        resident = record.get("peak_of") == "runner"
        yield "memory", f"{_size(peak)} at most" + (", resident, with what it shares" if resident else "")
    if "ran_ms" in record:
        yield "time", f"{span(_number(record, 'ran_ms'))}, CPU {span(_number(record, 'cpu_ms'))}"
    if runner := _number(record, "runner"):
        age, jobs = span(_number(record, "runner_age_ms")), _number(record, "runner_jobs")
        yield "runner", f"{runner}, {age} old, {jobs} {'job' if jobs == 1 else 'jobs'} before this one"
    for name, title in (("progress", "progress"), ("no_stack", "no stack")):
        if text := _text(record, name):
            yield title, text
    output = record.get("output")
    if isinstance(output, str) and output.strip():
        lines = output.splitlines()
        cut = [f"... {len(lines) - LINES_OF_OUTPUT} lines before"] if len(lines) > LINES_OF_OUTPUT else []
        yield "output", "\n".join([*cut, *map(clean, lines[-LINES_OF_OUTPUT:])])


def _text(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    return clean(found) if isinstance(found, str) else ""


def _number(record: Mapping[str, Any], name: str) -> int:
    found = record.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _size(size: int) -> str:
    for unit, worth in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if size >= worth:
            return f"{size / worth:.3g} {unit}"
    return f"{size} bytes"
