"""`add --wait`: what is seen of one job until it ends, and what it returned.

How the end is found is the client's business; here the events of the job are followed beside it, for the eye
alone. Missing one shows a stale picture and nothing worse.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import time
from collections.abc import Iterator
from typing import Any, Final, Protocol

from supervisor.cli.display import WITHOUT_RICH
from supervisor.cli.render import as_json, clean, clipped, note, out, pretty_json
from supervisor.client.job import Job
from supervisor.client.listen import first_place
from supervisor.client.manage import deduplication_owner
from supervisor.client.queue import Queue
from supervisor.errors import JobFailed, RedisError
from supervisor.protocol import fields
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.new_job import JobSpec

LINE_EVERY_S: Final = 1.0


class Watcher(Protocol):
    """Somebody who is shown the job."""

    def show(self, state: str, progress: Any) -> None: ...


async def wait_for(queue: Queue, spec: JobSpec, wait_ms: int | None, *, as_json_line: bool) -> int:
    """Add the job, show it until it has ended, print what it returned; the exit status."""
    since = await queue.run(first_place(None))  # before the job is there: none of its events is missed
    before = await there_before(queue, spec)
    job = await queue.add(spec.name, spec.data, **spec.options)
    if job.id in before:
        note(f"oxherd: {queue.name}/{job.id} is already there; nothing was added")
    else:
        note(f"oxherd: added {queue.name}/{job.id}")
    return await watch(queue, job, since, wait_ms, as_json_line=as_json_line)


async def watch(queue: Queue, job: Job, since: str, wait_ms: int | None, *, as_json_line: bool) -> int:
    """Show a job, by its events after `since`, until it has ended, print the result; the exit status."""
    with _watcher(job) as watcher:
        following = asyncio.create_task(_follow(queue, job.id, since, watcher))
        try:
            returned = await queue.result(job, timeout_ms=wait_ms)
        except JobFailed as error:
            if not as_json_line:
                raise
            out(as_json(_record(job, fields.FAILED) | {"failed_reason": str(error)}))
            return error.exit_status
        finally:
            following.cancel()
            # Whether Redis is lost, is for who waits for the result to say.
            with contextlib.suppress(asyncio.CancelledError, RedisError):
                await following
    out(
        as_json(_record(job, fields.COMPLETED) | {"returned": returned})
        if as_json_line
        else pretty_json(returned)
    )
    return 0


async def there_before(queue: Queue, spec: JobSpec) -> set[str]:
    """The ids of jobs that may stand for this one. Told to people, so that a race does no harm."""
    found: set[str] = set()
    job_id, deduplication = spec.options.get("job_id"), spec.options.get("deduplication")
    if job_id is not None and await queue.get(job_id) is not None:
        found.add(job_id)
    if isinstance(deduplication, Deduplication):
        owner = await queue.run(deduplication_owner(deduplication.id))
        found |= {owner} if owner is not None else set()
    return found


def _record(job: Job, state: str) -> dict[str, Any]:
    return {"queue": job.queue, "id": job.id, "state": state}


async def _follow(queue: Queue, job_id: str, since: str, watcher: Watcher) -> None:
    async for event in queue.events(since=since):
        if event.job_id != job_id:
            continue
        if event.name == fields.EVENT_PROGRESS:
            watcher.show(fields.ACTIVE, event.values.get("progress"))
        elif event.name in fields.STATES:
            watcher.show(event.name, None)


@contextlib.contextmanager
def _watcher(job: Job) -> Iterator[Watcher]:
    if not sys.stderr.isatty():
        yield _Lines(job)
    elif importlib.util.find_spec("rich") is None:
        note(WITHOUT_RICH)
        yield _Lines(job)
    else:
        with _bar(job) as watcher:
            yield watcher


class _Lines:
    """A line for each new state, and at most one a second for progress."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._state = ""
        self._said_at = 0.0

    def show(self, state: str, progress: Any) -> None:
        now_at = time.monotonic()
        if state == self._state and now_at - self._said_at < LINE_EVERY_S:
            return
        self._state, self._said_at = state, now_at
        percent, text = _progress(progress)
        said = f" {percent:g}%" if percent is not None else f" {text}" if text else ""
        note(f"oxherd: {self._job.queue}/{self._job.id} {state}{said}")


@contextlib.contextmanager
def _bar(job: Job) -> Iterator[Watcher]:
    # At the top they would cost every other command some 50 ms, and they are an extra.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}", markup=False))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        name = clean(f"{job.queue}/{job.id} {job.name}")
        task = progress.add_task(f"{name} {fields.WAITING}", total=None, said="")

        class Bar:
            def show(self, state: str, value: Any) -> None:
                percent, said = _progress(value)
                total = None if percent is None else 100
                progress.update(
                    task, description=f"{name} {state}", completed=percent or 0, total=total, said=said
                )

        yield Bar()


def _progress(value: Any) -> tuple[float | None, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(100.0, max(0.0, float(value))), ""
    return None, "" if value is None else clipped(clean(as_json(value)), 40)
