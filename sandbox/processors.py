"""`@processor`: which function takes which jobs, and under which limits.

Decorating registers and returns the function as it was. Which of the registered ones are served is the
loader's decision; what the limits mean is the master's.
"""

from __future__ import annotations

import inspect
import json
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from sandbox.errors import LoadError
from sandbox.policy import LEAST_CPUS, MOST_WEIGHT, Limits

if TYPE_CHECKING:
    from sandbox.job import Job

Function = TypeVar("Function", bound=Callable[..., Any])
Backoff = Callable[[int, BaseException, "Job"], int]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """One function, the jobs it takes and the limits it asks for.

    queue, name       jobs of this queue with this name; name None: all that no other processor takes.
    target            `module:function`, for messages.
    concurrency       how many at a time the decorator asks for; None: not said.
    limits            what the decorator allows an attempt.
    profile           `process` or `strict`; None: not said. The strictest of a queue's processors holds.
    fresh             a process of its own for every job; None: not said.
    per_runner        how many jobs of this queue one process may have at a time; for `async def` only.
    max_crashes       how many attempts may end by a crash before the job fails; None: not said.
    on_memory         `bigger`: who hits the memory limit runs once more with twice as much; None: not said.
    backoff           (attempt, exception, job) to milliseconds, or -1 to give the job up.
    data_type         what its data are made into; None: they stay as JSON has them.
    read_data         makes them; set when the processor is loaded.
    decode            makes the data of what the frame says and of their bytes; None: they are JSON.
    target_number     which of the targets has brought it, from 0; known when it is loaded.
    """

    queue: str
    name: str | None
    function: Callable[..., Any]
    target: str
    concurrency: int | None = None
    limits: Limits = NO_LIMITS
    profile: str | None = None
    fresh: bool | None = None
    per_runner: int | None = None
    max_crashes: int | None = None
    on_memory: str | None = None
    backoff: Backoff | None = None
    data_type: Any = None
    read_data: Callable[[Any], Any] | None = None
    decode: Callable[[dict[str, Any], bytes], Any] | None = None
    target_number: int = 0

    def to_json(self) -> dict[str, Any]:
        kind = self.data_type if self.read_data is not None else None
        return {
            "queue": self.queue,
            "name": self.name,
            "target": self.target,
            "concurrency": self.concurrency,
            "custom_backoff": self.backoff is not None,
            "limits": self.limits.to_json(),
            "profile": self.profile,
            "fresh": self.fresh,
            "per_runner": self.per_runner,
            "max_crashes": self.max_crashes,
            "on_memory": self.on_memory,
            "target_number": self.target_number,
            "data_type": None if kind is None else getattr(kind, "__name__", str(kind)),
        }


def identity_of(processors: Iterable[Processor]) -> str:
    """Stands for what these are: a runner that has others than its template told of takes no job (I10)."""
    return f"{zlib.crc32(json.dumps([each.to_json() for each in processors]).encode()):08x}"


_registered: list[Processor] = []


def processor(
    queue: str,
    *,
    name: str | None = None,
    concurrency: int | None = None,
    timeout: str | None = None,
    soft_timeout: str | None = None,
    silence: str | None = None,
    memory: str | None = None,
    cpu: str | None = None,
    cpus: float | None = None,
    cpu_weight: int | None = None,
    processes: int | None = None,
    open_files: int | None = None,
    file_size: str | None = None,
    output: str | None = None,
    profile: str | None = None,
    fresh: bool | None = None,
    per_runner: int | None = None,
    max_crashes: int | None = None,
    on_memory: str | None = None,
    backoff: Backoff | None = None,
    data: Any = None,
) -> Callable[[Function], Function]:
    """Take the jobs of a queue.

    queue          the queue's name
    name           only jobs of this name; without it every job of the queue that no other processor takes
    concurrency    how many at a time in one `oxherd run`, unless the command line says otherwise
    timeout        "60s", "500ms", "10m", "1h": then the job's processes are killed and the attempt has failed
    soft_timeout   the same form: then `TimeLimit` is raised in the function
    silence        the same form: without progress, log row or output for so long the processes are killed
    memory         "512M", "2G": memory of the job's own, over all its processes
    cpu            "30s": CPU time of all its processes
    cpus           1.5: how many cores they may keep busy at a time; a cgroup keeps it, and nothing else
    cpu_weight     their share of the CPU when it is short, 1 to 10000: of 100 for a job that says nothing; by
                   a cgroup as well
    processes      processes and threads at a time
    open_files     descriptors of one process
    file_size      "1G": the largest file that it may write
    output         "10M": what it may print
    profile        "process" or "strict"; the strictest that anybody asks for a queue holds for all of it
    fresh          True: every job in a process of its own
    per_runner     how many jobs one process may have at a time, for `async def` functions
    max_crashes    how many attempts may end by a crash of the process before the job fails for good
    on_memory      "bigger": a job that hits its memory limit is run once more, alone, with twice as much
    backoff        for jobs with a custom backoff: a function of (attempt, exception, job) that returns the
                   milliseconds to wait before the next attempt, or -1 to give the job up
    data           a dataclass, a msgspec.Struct or a pydantic model that `job.data` is made into; the same as
                   writing `job: Job[Resize]`. A job whose data do not fit fails without another attempt

    The function stays as it is and can be called as before. Raises `LoadError` for what cannot be.
    """
    if callable(queue):
        raise LoadError(f'@processor needs a queue: write @processor("queue") above {_describe(queue)}')

    def register(function: Function) -> Function:
        target = _describe(function)
        if not callable(function):
            raise LoadError(f"@processor({queue!r}) stands above {target}, which is no function")
        _check_queue(target, queue)
        _check_choices(target, name, concurrency, backoff)
        _check_several(target, function, per_runner)
        _add(
            Processor(
                queue=queue,
                name=name,
                function=function,
                target=target,
                concurrency=concurrency,
                limits=Limits(
                    timeout_ms=duration_ms(target, "timeout", timeout) or 0,
                    soft_timeout_ms=duration_ms(target, "soft_timeout", soft_timeout) or 0,
                    silence_ms=duration_ms(target, "silence", silence) or 0,
                    memory_bytes=size_bytes(target, "memory", memory) or 0,
                    cpu_ms=duration_ms(target, "cpu", cpu) or 0,
                    cpus=_cpus(target, cpus) or 0.0,
                    cpu_weight=_weight(target, cpu_weight) or 0,
                    processes=_count(target, "processes", processes) or 0,
                    open_files=_count(target, "open_files", open_files) or 0,
                    file_size_bytes=size_bytes(target, "file_size", file_size) or 0,
                    output_bytes=size_bytes(target, "output", output) or 0,
                ),
                profile=_one_of(target, "profile", profile, ("process", "strict")),
                fresh=_one_of(target, "fresh", fresh, (True, False)),
                per_runner=_count(target, "per_runner", per_runner),
                max_crashes=_count(target, "max_crashes", max_crashes),
                on_memory=_one_of(target, "on_memory", on_memory, ("bigger",)),
                backoff=backoff,
                data_type=data,
            )
        )
        return function

    return register


def registered() -> list[Processor]:
    """All processors that have been decorated in this process, in order."""
    return list(_registered)


def forget_all() -> None:
    """For tests, which load many modules into one process."""
    _registered.clear()


def refuse_second(first: Processor, second: Processor) -> LoadError:
    """The sentence about two processors for the same jobs."""
    jobs = f"jobs named {first.name!r} of queue" if first.name is not None else "the jobs of queue"
    return LoadError(
        f"two processors for {jobs} {first.queue!r}: {first.target} and {second.target}; "
        f"one of them needs another queue or another name"
    )


def _add(new: Processor) -> None:
    for n, known in enumerate(_registered):
        if (known.queue, known.name) == (new.queue, new.name):
            if not _is_reload(known, new):
                raise refuse_second(known, new)
            _registered[n] = new
            return
    _registered.append(new)


def _is_reload(known: Processor, new: Processor) -> bool:
    """The same line of the same file, run again by `importlib.reload`."""
    first, second = (getattr(each.function, "__code__", None) for each in (known, new))
    return (
        first is not None
        and second is not None
        and (first.co_filename, first.co_firstlineno) == (second.co_filename, second.co_firstlineno)
    )


def _describe(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or repr(function)
    return f"{getattr(function, '__module__', '?')}:{name}"


def _check_queue(target: str, queue: Any) -> None:
    if not isinstance(queue, str) or not queue:
        raise LoadError(f"{target}: the queue must be a name, not {queue!r}")
    if ":" in queue:
        raise LoadError(f"{target}: the queue name {queue!r} contains ':', which BullMQ keeps for its keys")


def _check_choices(target: str, name: Any, concurrency: Any, backoff: Any) -> None:
    if name is not None and not isinstance(name, str):
        raise LoadError(f"{target}: name must be a job's name, not {name!r}")
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise LoadError(f"{target}: concurrency must be a whole number, 1 or more, not {concurrency!r}")
    if backoff is not None and not callable(backoff):
        raise LoadError(f"{target}: backoff must be a function of (attempt, exception, job), not {backoff!r}")


def _check_several(target: str, function: Any, per_runner: Any) -> None:
    if per_runner not in (None, 1) and not inspect.iscoroutinefunction(function):
        raise LoadError(
            f"{target}: per_runner={per_runner!r} is for `async def` functions; "
            f"others would wait for each other"
        )


def duration_ms(target: str, option: str, text: Any) -> int | None:
    """Milliseconds of "60s" and the like. A bare number is refused: nobody can see its unit."""
    if text is None:
        return None
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise LoadError(f'{target}: {option}={text!r} has no unit; write "{text:g}s" or "{text:g}ms"')
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise LoadError(
            f'{target}: {option}={text!r} is no duration; write a number with ms, s, m, h or d, as in "60s"'
        )
    value_ms = int(Decimal(found[1]) * _UNITS_MS[found[2]])
    if value_ms < 1:
        raise LoadError(f"{target}: {option}={text!r} is less than a millisecond")
    return value_ms


def size_bytes(target: str, option: str, text: Any) -> int | None:
    """Bytes of "512M" and the like, K = 1024."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise LoadError(
            f'{target}: {option}={text!r} is no size; write a number with K, M, G or T, as in "512M"'
        )
    value = int(Decimal(found[1]) * _BYTES[found[2].upper()])
    if value < 1:
        raise LoadError(f"{target}: {option}={text!r} is less than a byte")
    return value


def _count(target: str, option: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise LoadError(f"{target}: {option} must be a whole number, 1 or more, not {value!r}")
    return value


def _cpus(target: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_CPUS <= value < inf:
        raise LoadError(f"{target}: cpus must be a number of cores, {LEAST_CPUS} or more, not {value!r}")
    return float(value)


def _weight(target: str, value: Any) -> int | None:
    if _count(target, "cpu_weight", value) is not None and value > MOST_WEIGHT:
        raise LoadError(f"{target}: cpu_weight must be {MOST_WEIGHT} or less, not {value!r}")
    return value  # type: ignore[no-any-return]


Choice = TypeVar("Choice")


def _one_of(target: str, option: str, value: Any, choices: tuple[Choice, ...]) -> Choice | None:
    if value is None:
        return None
    if type(value) not in (str, bool) or value not in choices:
        raise LoadError(f"{target}: {option} must be {' or '.join(map(repr, choices))}, not {value!r}")
    return value  # type: ignore[no-any-return]
