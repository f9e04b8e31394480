"""The log: one structured line an event, on stderr.

Decides   how a line looks and where it goes; which events there are is said in `catalogue.py`
Leaves    what is worth telling to the caller; job data never appears

`get` gives a logger that costs nothing until it is used, so any module may have one at its top. Every event
is also given to the hooks (metrics count them; tests wait for them), whatever the level. Lines for people are
structlog's work; a JSON line is one call of the encoder, and structlog is not even loaded for it.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from supervisor.observe.writer import Later, LineWriter, StreamWriter, writer_for

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

Fields = dict[str, Any]
Hook = Callable[[str, Fields], None]

# All that may move a terminal's cursor or change its colours, but for tab and line feed.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# What a line begins with when the journal reads it, which takes it off: the priorities of syslog.
_PRIORITIES: Final = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}


class _State:
    """What `configure` has set. One a process, as stderr is."""

    least: int = LEVELS["info"]
    say: Callable[[str, Fields], object] | None = None  # writes a line; None until the first
    writer: LineWriter | StreamWriter | None = None
    started_for: TextIO | None = None  # the stream that `writer` writes to
    format: str = "auto"
    stream: TextIO | None = None
    hooks: tuple[Hook, ...] = ()
    soon: Callable[[Later], object] | None = None
    later: Callable[[float, Later], object] | None = None


class Log:
    """A named logger. The event is `noun.past_participle`; the fields are those of the catalogue."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def debug(self, event: str, /, **fields: Any) -> None:
        _emit(self.name, "debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        _emit(self.name, "info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        _emit(self.name, "warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        _emit(self.name, "error", event, fields)


def get(name: str) -> Log:
    """A logger for one module; `name` is shown as `logger`."""
    return Log(name)


def configure(format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Say how lines look from now on. `stream` None is stderr; `format` as in [log] format."""
    flush()
    _State.least = LEVELS[level]
    _State.format = format
    _State.stream = stream
    _restart()


def crowded() -> bool:
    """The reader does not keep up, and lines will be lost soon: what a job prints gives way to ours."""
    return _State.writer is not None and _State.writer.crowded()


def flush() -> None:
    """Write what waits, for at most a second. Called at exit."""
    if _State.writer is not None:
        _State.writer.flush()


@contextmanager
def gathered(loop: AbstractEventLoop) -> Iterator[None]:
    """While inside, the lines of one turn of `loop` go out in one write, and what a reader has not taken is
    tried again."""
    _State.soon, _State.later = loop.call_soon, loop.call_later
    _restart()
    try:
        yield
    finally:
        flush()
        _State.soon = _State.later = None
        _restart()


def _restart() -> None:
    """Have the next line set the log up anew."""
    _State.say = _State.writer = _State.started_for = None


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """While inside, `hook(event, fields)` is called for every event, before it is written."""
    _State.hooks = (*_State.hooks, hook)
    try:
        yield
    finally:
        _State.hooks = tuple(one for one in _State.hooks if one is not hook)


def _emit(name: str, level: str, event: str, fields: Fields) -> None:
    for hook in _State.hooks:
        hook(event, fields)
    if LEVELS[level] < _State.least:
        return
    stream = _State.stream or sys.stderr
    if stream is None:  # the process was started without one
        return
    say = _State.say
    if say is None or stream is not _State.started_for:  # the first line, or sys.stderr was replaced
        _State.started_for = stream
        say = _State.say = _start(stream)
    writer = _State.writer
    if writer is not None and writer.dropped:
        count, writer.dropped = writer.dropped, 0
        say("warning", {"logger": "log", "lines": count, "event": "log.dropped"})
    say(level, {"logger": name, **fields, "event": event})


def _start(stream: TextIO) -> Callable[[str, Fields], object]:
    """What writes a line: its level, and its fields with `event` among them."""
    writer = _State.writer = writer_for(stream, _State.soon, _State.later)
    as_json = _State.format == "json" or (_State.format == "auto" and not stream.isatty())
    prefixed = _is_journal(stream)
    if not as_json:
        return _for_people(writer, stream, prefixed=prefixed)
    encode = _json_line()
    if prefixed:
        return lambda level, fields: writer.write(_with_priority(None, level, encode(level, fields)))
    return lambda level, fields: writer.write(encode(level, fields))


def _for_people(
    writer: LineWriter | StreamWriter, stream: TextIO, *, prefixed: bool
) -> Callable[[str, Fields], object]:
    """structlog, set up for the stream. The first line pays for its import."""
    structlog = _import_structlog()
    colors = stream.isatty() and "NO_COLOR" not in os.environ
    renderer = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24, sort_keys=False
    )
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _without_controls,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        renderer,
        _encode,
    ]
    if prefixed:
        processors.append(_with_priority)
    bound = structlog.wrap_logger(
        writer,
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_State.least),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()
    return lambda level, fields: getattr(bound, level)(**fields)


def _without_controls(_logger: Any, _method: str, fields: Fields) -> Fields:
    """I7: what a runner printed is shown, never obeyed, by the terminal."""
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return fields


def _is_journal(stream: TextIO) -> bool:
    """Does the journal read this stream? Its name is in the environment, which others may have inherited."""
    try:
        of = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{of.st_dev}:{of.st_ino}"


def _with_priority(_logger: Any, level: str, line: bytes) -> bytes:
    """Each line of it: the journal makes an entry of every one."""
    priority = _PRIORITIES[level]
    return priority + line.replace(b"\n", b"\n" + priority)


def _encode(_logger: Any, _method: str, line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


class _Stamps:
    """The time as lines tell it. All but the milliseconds is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._until_second = ""

    def now(self) -> str:
        second, ns = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._until_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._until_second}.{ns // 1_000_000:03}Z"


def _json_line() -> Callable[[str, Fields], bytes]:
    """All of a JSON line in one step: a chain of processors costs several times as much a line."""
    # At the top it would be loaded by everything that may log, the processors' face included.
    import msgspec

    encode = msgspec.json.Encoder(enc_hook=str).encode
    clock = _Stamps()

    def line(level: str, fields: Fields) -> bytes:
        if "exc_info" in fields:
            fields = _import_structlog().processors.format_exc_info(None, level, fields)
        fields["level"] = level
        fields["timestamp"] = clock.now()
        try:
            return encode(fields)
        except UnicodeEncodeError:  # a lone surrogate in what a processor printed
            return json.dumps(fields, default=str).encode()

    return line


def _import_structlog() -> Any:
    """structlog without rich, which it imports whenever it finds it: 70 ms for tracebacks we do not want."""
    absent = "rich" not in sys.modules
    if absent:
        sys.modules["rich"] = None  # type: ignore[assignment]  # makes `import rich` fail
    try:
        # At the top it would cost every command 100 ms, also those that log nothing.
        import structlog
    finally:
        if absent:
            del sys.modules["rich"]
    return structlog


atexit.register(flush)
