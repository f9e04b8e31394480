"""`oxherd dlq`: dead letters, the copies of jobs that failed for good, listed, shown and replayed."""

from __future__ import annotations

import time
from typing import Any

import click
from msgspec import structs

from supervisor.cli.acting import ALL, LIMIT, some_or_all
from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import (
    Report,
    as_json,
    clean,
    clipped,
    moment,
    note,
    out,
    pairs,
    pretty_json,
    table,
)
from supervisor.cli.session import Session, converse
from supervisor.cli.verdict import verdicts_text
from supervisor.client.dead_letter import (
    DeadLetter,
    Replayed,
    dead_letter,
    dead_letters,
    replay,
    replay_all,
)
from supervisor.errors import JobError, JobNotFound
from supervisor.protocol import fields
from supervisor.protocol.keys import QueueKeys

_REASON_WIDTH = 60


@command(
    "list",
    exits="0 listed, also when there is none; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd dlq list thumbnails-dead --json | jq -r .failed_reason | sort | uniq -c",
)
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, metavar="N", help="at most N letters (default: 20)"
)
@click.option(
    "--start", type=click.IntRange(min=0), default=0, metavar="N", help="leave out the first N (default: 0)"
)
def list_(common: Common, queue: str, limit: int, start: int) -> int:
    """List the letters that wait in QUEUE, oldest first; with --json all that they tell."""
    return converse(common, lambda session: _list(session, queue, start, limit))


async def _list(session: Session, name: str, start: int, limit: int) -> int:
    async with session.queue(name) as queue:
        total = (await queue.counts())[fields.WAITING]
        letters = await queue.run(dead_letters(start, start + limit - 1)) if total > start else []
    del letters[limit:]
    if session.json:
        for letter in letters:
            out(as_json(_record(name, letter)))
        return 0
    if not letters:
        note(f"oxherd: no letter waits in {clean(name)}" + (f" beyond the first {start}" if total else ""))
        return 0
    now_ms = time.time_ns() // 1_000_000
    out(table(("id", "job", "name", "attempts", "failed", ""), [_row(each, now_ms) for each in letters], [3]))
    if total > start + limit:
        note(f"oxherd: {len(letters)} of {total:,}; the next with --start {start + limit}")
    return 0


@command(
    "show",
    exits="0 shown, 1 there is no such letter, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd dlq show thumbnails-dead 3",
)
@click.argument("queue")
@click.argument("letter_id", metavar="ID")
def show(common: Common, queue: str, letter_id: str) -> int:
    """Show all that the letter ID of QUEUE tells of its job: data, options, reason and stack traces."""
    return converse(common, lambda session: _show(session, queue, letter_id))


async def _show(session: Session, name: str, letter_id: str) -> int:
    async with session.queue(name) as queue:
        letter = await queue.run(dead_letter(letter_id))
    if letter is None:
        raise JobNotFound(f"there is no letter {letter_id} in {name} (prefix {session.prefix!r})")
    if session.json:
        out(as_json(_record(name, letter)))
        return 0
    now_ms = time.time_ns() // 1_000_000
    out(
        pairs(
            [
                ("letter", clean(f"{name}/{letter.id}")),
                ("job", clean(f"{letter.queue}/{letter.job_id}")),
                ("name", clean(letter.name)),
                ("added", moment(letter.timestamp, now_ms)),
                ("failed", moment(letter.finished_on, now_ms)),
                ("attempts", str(letter.attempts_made)),
                ("reason", clean(letter.failed_reason)),
                ("options", pretty_json(letter.options)),
                ("data", pretty_json(letter.data)),
                *((clean(field), clean(text)) for field, text in letter.extra.items()),
            ]
        )
    )
    for text in verdicts_text(letter.verdicts):
        out(text)
    if letter.stacktrace:
        out("\nstack traces")
    for number, trace in enumerate(letter.stacktrace):
        if number:
            out("")
        out("\n".join(f"  {clean(line)}" for line in trace.splitlines() or [""]))
    for problem in letter.problems:
        note(f"oxherd: {problem}")
    return 0


@command(
    "replay",
    exits="0 all are replayed, 1 one or more are not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd dlq replay thumbnails-dead --all --limit 100",
)
@click.argument("queue")
@click.argument("letter_ids", metavar="ID...", nargs=-1)
@ALL
@LIMIT
@click.option("--to", metavar="QUEUE", help="the queue that gets the jobs (default: the one each came from)")
def replay_(
    common: Common,
    queue: str,
    letter_ids: tuple[str, ...],
    everything: bool,
    limit: int | None,
    to: str | None,
) -> int:
    """Let the jobs of letters in QUEUE run again; these, or --all that wait.

    A job starts with fresh attempts, its letter goes. One that is still in failed is put back under its id,
    else it is added anew. A letter is left as it is when its job was put back before or its id is taken.

    One line for each ID says what became of it; --all tells how many went, and of each that is left why.
    """
    everything = some_or_all(letter_ids, everything, limit)
    if to is not None:
        QueueKeys(to)  # refuses a name that no queue can have
    if everything:
        return converse(common, lambda session: _replay_all(session, queue, to, limit))
    return converse(common, lambda session: _replay(session, queue, to, letter_ids))


async def _replay(session: Session, name: str, to: str | None, letter_ids: tuple[str, ...]) -> int:
    status = 0
    with Report() as report:
        async with session.queue(name) as queue:
            for letter_id in dict.fromkeys(letter_ids):
                try:
                    result = await queue.run(replay(letter_id, to=to))
                except JobError as error:
                    result = Replayed(letter_id, "", "", str(error).rpartition(" is not replayed: ")[2])
                    status = 1
                report.out(_told(session, name, result))
    return status


async def _replay_all(session: Session, name: str, to: str | None, limit: int | None) -> int:
    async with session.queue(name) as queue:
        results = await queue.run(replay_all(to=to, limit=limit))
    left = [result for result in results if not result.done]
    done = len(results) - len(left)
    with Report() as report:
        for result in left:
            report.out(_told(session, name, result))
        if session.json:
            report.out(as_json({"queue": name, "count": done, "left": len(left)}))
        else:
            report.out(f"{done} replayed" + (f", {len(left)} left as they are" if left else ""))
    return 1 if left else 0


def _told(session: Session, name: str, result: Replayed) -> str:
    said = f"{result.queue}/{result.job_id}" if result.done else f"left as it is: {result.why}"
    if not session.json:
        return f"{clean(result.letter_id)}  {clean(said)}"
    return as_json(
        {
            "queue": name,
            "id": result.letter_id,
            "done": result.done,
            "outcome": said,
            "job_queue": result.queue or None,
            "job_id": result.job_id or None,
        }
    )


dlq = family(
    "dlq",
    "Dead letters: the copies of jobs that failed for good, in a queue of their own.",
    list_,
    show,
    replay_,
    exits="0 done, 1 the answer is no, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd dlq replay thumbnails-dead 3",
)


def _row(letter: DeadLetter, now_ms: int) -> tuple[str, ...]:
    said = letter.failed_reason if letter.queue else ", ".join(letter.problems)
    return (
        clean(letter.id),
        clipped(clean(f"{letter.queue}/{letter.job_id}"), 32) if letter.queue else "-",
        clipped(clean(letter.name), 32),
        str(letter.attempts_made),
        moment(letter.finished_on, now_ms),
        clipped(clean(said), _REASON_WIDTH),
    )


def _record(name: str, letter: DeadLetter) -> dict[str, Any]:
    """A letter for programs: the fields of `DeadLetter`, and the queue it stands in."""
    return {"dead_letter_queue": name, **structs.asdict(letter)}
