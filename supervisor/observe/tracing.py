"""Spans: one for each attempt, by OpenTelemetry, in the trace that the job's producer began.

Decides what a span says and when it is made: not when an attempt ends, but soon after, some at a time between
two turns of the loop; a thread of the SDK's sends them. When the collector is too slow the newest are dropped
and counted. Names and attributes are those of BullMQ's own spans, so that a trace reads the same whoever ran
its jobs; what only we know begins with `oxherd.`.

Needs the extra `otel`; nothing of it is imported by a master that makes no spans.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from supervisor import __version__
from supervisor.errors import ConfigError
from supervisor.observe.log import get

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

log = get("tracing")

MOST_WAITING: Final = 10_000  # spans that are not made yet
AT_A_TIME: Final = 32  # about a millisecond
PAUSE_S: Final = 0.2
END_WITHIN_S: Final = 2.0  # to send what is left, at the end of a stop
LONGEST_REASON: Final = 4_096
_PATH: Final = "/v1/traces"


class Ended(msgspec.Struct, frozen=True):
    """What is known of an attempt that has ended. Times are epoch nanoseconds.

    carrier    gives the context of its producer; asked when the span is made.
    reason     why it failed; None when it did not.
    """

    queue: str
    job_id: str
    job_name: str
    attempt: int
    outcome: str
    started_on_ns: int
    ended_on_ns: int
    carrier: Callable[[], Mapping[str, str]]
    reason: str | None = None
    cause: str | None = None


class Tracing:
    """The spans of one master. `dropped` counts those that were not made."""

    def __init__(self, provider: TracerProvider) -> None:
        # At the top it would cost every master 100 ms and the extra.
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("oxherd", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._waiting: deque[Ended] = deque()
        self.dropped = 0
        self._told = 0

    def ended(self, attempt: Ended) -> None:
        """Have a span made of this attempt, soon."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(attempt)
        else:
            self.dropped += 1

    async def keep(self) -> None:
        """Make spans for ever; ends by being cancelled."""
        while True:
            await asyncio.sleep(0 if self._waiting else PAUSE_S)
            self.make(AT_A_TIME)
            if self.dropped > self._told and not self._waiting:
                log.warning("tracing.dropped", spans=self.dropped - self._told)
                self._told = self.dropped

    def make(self, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            self._make(self._waiting.popleft())

    def _make(self, attempt: Ended) -> None:
        from opentelemetry.trace import SpanKind, StatusCode  # as above

        carrier = attempt.carrier()
        context = self._extract(carrier) if carrier else None
        span = self._tracer.start_span(
            f"process {attempt.queue}",
            context=context,
            kind=SpanKind.CONSUMER,
            attributes=_attributes(attempt),
            start_time=attempt.started_on_ns,
        )
        if attempt.reason is not None:
            reason = attempt.reason[:LONGEST_REASON]
            span.add_event("exception", {"exception.message": reason}, attempt.ended_on_ns)
            span.set_status(StatusCode.ERROR, reason)
        span.end(attempt.ended_on_ns)

    async def close(self) -> None:
        """Make and send what is left, for at most END_WITHIN_S: a collector that is away must not hold us."""
        self.make(len(self._waiting))
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        give_up_at = asyncio.get_running_loop().time() + END_WITHIN_S
        while sending.is_alive() and asyncio.get_running_loop().time() < give_up_at:
            await asyncio.sleep(0.02)


def _attributes(attempt: Ended) -> dict[str, str | int]:
    known: dict[str, str | int] = {
        "bullmq.queue.name": attempt.queue,
        "bullmq.queue.operation": "process",
        "bullmq.job.id": attempt.job_id,
        "bullmq.job.name": attempt.job_name,
        "bullmq.job.attempts.made": attempt.attempt,
        "bullmq.job.processed.timestamp": attempt.started_on_ns // 1_000_000,
        "bullmq.job.attempt_finished_timestamp": attempt.ended_on_ns // 1_000_000,
        "oxherd.outcome": attempt.outcome,
    }
    if attempt.cause is not None:
        known["oxherd.cause"] = attempt.cause
    return known


def tracing_to(endpoint: str, *, tell: Callable[[str], None]) -> Tracing:
    """Spans to a collector. `tell` hears, from another thread, when one cannot be reached.

    Raises `ConfigError` with one sentence when the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # as above
    except ImportError as error:
        raise ConfigError(
            f"[tracing] endpoint: spans need the extra `otel` ({error}); install 'oxherd[otel]' or take the "
            "setting out; nothing was started"
        ) from None
    _take_over_the_log(tell)
    url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
    return Tracing(provider_with(OTLPSpanExporter(endpoint=url)))


def provider_with(exporter: SpanExporter) -> TracerProvider:
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # as above
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource.create({SERVICE_NAME: "oxherd", "service.version": __version__})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _Told(logging.Handler):
    """What the SDK logs goes where our lines go: on stderr it would stand between them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


def _take_over_the_log(tell: Callable[[str], None]) -> None:
    theirs: Any = logging.getLogger("opentelemetry")
    theirs.handlers = [_Told(tell)]
    theirs.propagate = False
