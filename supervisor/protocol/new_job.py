"""Job options: what a producer may ask for, checked, and encoded as BullMQ stores it (core.md 2.1-2.3).

Decides   which options exist and what values they take; how defaults and a job's own options combine.
Not here  what the scripts do with them; the text of a result or of a worker's options.

Everything is checked before anything is sent, so that a bulk add with one bad job adds none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict, cast

from supervisor.errors import InvalidJob
from supervisor.protocol import fields
from supervisor.protocol.backoff_choice import Backoff
from supervisor.protocol.commands.add import NewJob, ParentRef
from supervisor.protocol.deduplication import Deduplication, deduplication_of
from supervisor.protocol.given import MAX_WHOLE as MAX_WHOLE
from supervisor.protocol.given import check_flag, check_mapping, clipped, kind, shown
from supervisor.protocol.given import check_text as check_text
from supervisor.protocol.given import whole as whole
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.jsontext import encode
from supervisor.protocol.keys import DEFAULT_PREFIX
from supervisor.protocol.parent_option import stored_parent, take_parent
from supervisor.protocol.validate import PARENT_POLICIES, check_job_id, check_priority, check_size

Json: TypeAlias = Any

# A job travels to its runner in one frame of at most 64 MiB, so a larger one could be added but never run.
MAX_DATA_BYTES: Final = 60 * 1024 * 1024
# Scores hold (due + 1) * 4096; a century of delay is as far as anybody can mean it.
MAX_DELAY_MS: Final = 100 * 366 * 24 * 3_600_000


class AddOptions(TypedDict, total=False):
    """The options of one job; also what a queue takes as `defaults`.

    delay_ms              not before this many milliseconds from now, by this host's clock.
    priority              0 for none (first come, first served), else 1 (first) to 2_097_151 (last).
    job_id                your own id, to make adding idempotent: a second add with the same id adds nothing
                          and emits `duplicated`. Not a whole number: those are the queue's own.
    lifo                  True: run before all that wait without a priority.
    attempts              how often to try in all; 0 and 1 are both once.
    backoff               milliseconds between attempts, or `fixed(...)`, `exponential(...)`, `custom(...)`.
    timeout_ms            wall time of one attempt; the worker's own limit holds if it is smaller.
    remove_on_complete    True removes the finished job, n keeps the n newest, `KeepJobs(...)` says more.
    remove_on_fail        the same for a job that failed for good.
    keep_logs             the newest n rows of the job's log stay.
    stack_trace_limit     the newest n entries of its stack traces stay.
    size_limit            refuse data larger than this many bytes once encoded.
    deduplication         not while another job of the same `Deduplication(id, ...)` stands.
    timestamp             when the job was made, in epoch milliseconds; now if not given.
    parent                the job that waits for this one: a job, or its `id` and `queue` in a mapping, where
                          the queue may be `<prefix>:<name>`. It must be there and not have ended.
    fail_parent_on_failure, continue_parent_on_failure, ignore_dependency_on_failure,
    remove_dependency_on_failure
                          what a failure for good does to the parent, one of them at most: it fails too; it
                          runs at once; it waits for the others and is told; it waits for the others. With
                          none of them it waits until this job is retried or removed.
    """

    delay_ms: int
    priority: int
    job_id: str | None
    lifo: bool
    attempts: int
    backoff: Backoff | int | Mapping[str, Any] | None
    timeout_ms: int
    remove_on_complete: bool | int | KeepJobs | Mapping[str, int] | None
    remove_on_fail: bool | int | KeepJobs | Mapping[str, int] | None
    keep_logs: int
    stack_trace_limit: int
    size_limit: int
    deduplication: Deduplication | Mapping[str, Any] | None
    timestamp: int
    parent: Any
    fail_parent_on_failure: bool
    continue_parent_on_failure: bool
    ignore_dependency_on_failure: bool
    remove_dependency_on_failure: bool


class JobSpec(NamedTuple):
    """One job of a bulk add; a plain tuple of the same parts will do."""

    name: str
    data: Json
    options: AddOptions = {}  # noqa: RUF012 (only read)


class Choices(NamedTuple):
    """What a job's options say, checked; the same for all jobs that are given the same options."""

    opts: bytes
    timestamp: int | None
    delay_ms: int
    priority: int
    lifo: bool
    job_id: str | None
    claim: bytes | None
    parent: ParentRef | None
    size_limit: int | None


def encode_job(
    spec: JobSpec,
    *,
    now_ms: int,
    defaults: AddOptions | None = None,
    max_data_bytes: int = MAX_DATA_BYTES,
    prefix: str = DEFAULT_PREFIX,
    known: dict[int, Choices] | None = None,
) -> NewJob:
    """Check one job and encode it. Raises `InvalidJob` or `DataTooLarge`; nothing was sent then.

    known   what each mapping of options says, by its identity; of one bulk, which the mappings outlive.
    """
    name, data, options = spec
    check_text(name, "the name of a job")
    choices = known.get(id(options)) if known is not None else None
    if choices is None and options == {} and not defaults:
        choices = _NO_CHOICES
    if choices is None:
        choices = _choices(name, options, defaults, prefix)
        if known is not None:
            known[id(options)] = choices
    try:
        text = encode(data)
    except InvalidJob as error:
        raise _unsayable(data, f"the data of job {shown(name)}", error) from None
    limit = max_data_bytes if choices.size_limit is None else min(max_data_bytes, choices.size_limit)
    check_size(name, text, limit)
    return NewJob(
        name=name,
        data=text,
        opts=choices.opts,
        timestamp=now_ms if choices.timestamp is None else choices.timestamp,
        delay_ms=choices.delay_ms,
        priority=choices.priority,
        lifo=choices.lifo,
        job_id=choices.job_id,
        claim=choices.claim,
        parent=choices.parent,
    )


def _choices(name: str, given: AddOptions, defaults: AddOptions | None, prefix: str) -> Choices:
    check_mapping(given, f"the options of job {shown(name)}")
    merged: dict[str, Any] = {**(defaults or {}), **given}
    options = {
        name: value for name, value in merged.items() if name not in _ENCODERS or _is_given(name, value)
    }
    parent = take_parent(options, prefix)
    stored = encode_options(options)
    return Choices(
        opts=encode(stored),
        timestamp=options.get("timestamp"),
        delay_ms=options.get("delay_ms", 0),
        priority=options.get("priority", 0),
        lifo=options.get("lifo", False),
        job_id=options.get("job_id"),
        claim=_claim(options, parent),
        parent=parent,
        size_limit=options.get("size_limit"),
    )


def _claim(options: Mapping[str, Any], parent: ParentRef | None) -> bytes | None:
    value = options.get("deduplication")
    if value is None:
        return None
    if parent is not None:
        raise InvalidJob("Deduplication and parent options cannot be used together")
    return encode(deduplication_of(value).stored())


def check_defaults(defaults: AddOptions | None) -> AddOptions:
    """The defaults of a queue, checked when the queue is made and not at its first job."""
    if defaults is None:
        return AddOptions()
    check_mapping(defaults, "the default options of jobs")
    given = dict(defaults)
    if "job_id" in given:
        raise InvalidJob("job_id cannot be a default: the second job would never be added")
    encode_options({name: value for name, value in given.items() if value is not None})
    return cast(AddOptions, given)


def _is_given(name: str, value: Any) -> bool:
    return value is not None and not (name == "job_id" and value == "")


def encode_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options under their stored names. `attempts` is always there."""
    stored: dict[str, Any] = {}
    for name, value in options.items():
        checked = _ENCODERS.get(name)
        if checked is None:
            raise InvalidJob(_unknown_option(name))
        stored[fields.OPTION_NAMES[name]] = checked(name, value)
    stored.setdefault(fields.OPTION_NAMES["attempts"], 0)
    return stored


def as_spec(job: JobSpec | tuple[Any, ...]) -> JobSpec:
    """A `JobSpec` of what `add_bulk` was given."""
    if isinstance(job, JobSpec):
        return job
    if not isinstance(job, (tuple, list)) or not 2 <= len(job) <= len(JobSpec._fields):
        raise InvalidJob("each job of a bulk add is a JobSpec or a tuple of name, data and, if any, options")
    spec = JobSpec(*job)
    return spec if spec.options is not None else spec._replace(options={})


def encode_json(value: Json, whose: str) -> bytes:
    """`value` as JSON text; else `InvalidJob` with a sentence that says what is wrong and where."""
    try:
        return encode(value)
    except InvalidJob as error:
        raise _unsayable(value, whose, error) from None


def _unsayable(value: Any, whose: str, error: InvalidJob) -> InvalidJob:
    path = clipped(_path_of_the_unsayable(value))
    return InvalidJob(f"{whose}: {error} (at {path})" if path else f"{whose}: {error}")


def _path_of_the_unsayable(value: Any, depth: int = 20) -> str:
    """Where in `value` the first part is that JSON cannot say, as `[3].when`; empty for the value itself."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        parts = [
            (f".{clipped(key)}" if isinstance(key, str) else f"[{shown(key)}]", part)
            for key, part in value.items()
        ]
    elif isinstance(value, (list, tuple)):
        parts = [(f"[{place}]", part) for place, part in enumerate(value)]
    for path, part in parts if depth else ():
        try:
            encode(part)
        except InvalidJob:
            return path + _path_of_the_unsayable(part, depth - 1)
    return ""


# --- one check for each kind of value --------------------------------------------------------------


def _unknown_option(name: object) -> str:
    import difflib  # at the top it would cost each start 1 ms for a mistake that few make

    near = difflib.get_close_matches(clipped(str(name)), _ENCODERS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"a job has no option {shown(name)}{hint}"


def _priority(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise InvalidJob(f"{name} is a whole number, not {kind(value)}")
    check_priority(value)
    return int(value)


def _job_id(name: str, value: Any) -> str:
    check_text(value, name)
    check_job_id(value)
    return str(value)


def _backoff(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        try:
            value = Backoff(**value)
        except TypeError:
            raise InvalidJob(
                f"{name} has kind, delay_ms and jitter, not {clipped(str(sorted(map(str, value))))}"
            ) from None
    elif not isinstance(value, Backoff):
        value = Backoff("fixed", whole(0)(name, value))
    stored: dict[str, Any] = {"type": value.kind, "delay": value.delay_ms}
    if value.jitter:
        stored["jitter"] = value.jitter
    return stored


_KEEP_NAMES: Final = {"count": "count", "age_s": "age", "limit": "limit"}


def _keep(name: str, value: Any) -> bool | int | dict[str, int]:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return whole(-1)(name, value)
    if isinstance(value, KeepJobs):
        value = {part: getattr(value, part) for part in _KEEP_NAMES if getattr(value, part) is not None}
    if not isinstance(value, Mapping) or not value or not set(value) <= set(_KEEP_NAMES):
        raise InvalidJob(f"{name} is True, False, a number of jobs, or KeepJobs(count=, age_s=, limit=)")
    return {
        _KEEP_NAMES[part]: whole(-1 if part == "count" else 0)(f"{name}.{part}", n)
        for part, n in value.items()
    }


def _deduplication(name: str, value: Any) -> dict[str, Any]:
    return deduplication_of(value).stored()


_ENCODERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "delay_ms": whole(0, MAX_DELAY_MS),
    "priority": _priority,
    "job_id": _job_id,
    "lifo": check_flag,
    "attempts": whole(0),
    "backoff": _backoff,
    "timeout_ms": whole(0),
    "remove_on_complete": _keep,
    "remove_on_fail": _keep,
    "keep_logs": whole(0),
    "stack_trace_limit": whole(0),
    "size_limit": whole(0),
    "deduplication": _deduplication,
    "timestamp": whole(0),
    "parent": stored_parent,
    **dict.fromkeys(PARENT_POLICIES, check_flag),
}

_NO_CHOICES: Final = _choices("", AddOptions(), None, DEFAULT_PREFIX)  # what most jobs say
