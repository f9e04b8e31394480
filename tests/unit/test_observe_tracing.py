"""Spans: what the SDK's own exporter gets of an attempt, and what a producer's context may be."""

from __future__ import annotations

import asyncio
import builtins
import json
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from supervisor.config.model import Config, TracingConfig
from supervisor.errors import ConfigError
from supervisor.master.attempt import Attempt
from supervisor.master.reporting import Reporting
from supervisor.master.verdicts import Cause, Crashed, Returned
from supervisor.observe import tracing
from supervisor.observe.tracing import Ended, Tracing, provider_with, tracing_to
from supervisor.protocol.commands.work import Completed, FetchedJob, Retried
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.trace_context import LONGEST_OPTIONS, carrier_of

TRACE = "1a95959becd29bf24db3337707edfd4d"
PARENT = "2d9d52cf32e68031"
# As BullMQ 6.7 with bullmq-otel 2.0 stores it.
OPTIONS = f'{{"tm":"{{\\"traceparent\\":\\"00-{TRACE}-{PARENT}-01\\"}}","attempts":0}}'.encode()


class Spans:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider)

    def of(self, *ended: Ended):
        for each in ended:
            self.tracing.ended(each)
        self.tracing.make(len(ended))
        return self.exporter.get_finished_spans()


@pytest.fixture
def spans() -> Spans:
    return Spans()


def ended(options: bytes = b"{}", **more) -> Ended:
    known = {
        "queue": "thumbnails",
        "job_id": "7",
        "job_name": "resize",
        "attempt": 2,
        "outcome": "completed",
        "started_on_ns": 1_700_000_000_000_000_000,
        "ended_on_ns": 1_700_000_001_500_000_000,
        "carrier": lambda: carrier_of(options),
    }
    return Ended(**(known | more))


def test_a_span_continues_the_trace_of_bullmqs_producer(spans: Spans):
    [span] = spans.of(ended(OPTIONS))
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.parent.is_remote
    assert (span.name, span.kind) == ("process thumbnails", SpanKind.CONSUMER)
    assert (span.start_time, span.end_time) == (1_700_000_000_000_000_000, 1_700_000_001_500_000_000)
    assert dict(span.attributes) == {
        "bullmq.queue.name": "thumbnails",
        "bullmq.queue.operation": "process",
        "bullmq.job.id": "7",
        "bullmq.job.name": "resize",
        "bullmq.job.attempts.made": 2,
        "bullmq.job.processed.timestamp": 1_700_000_000_000,
        "bullmq.job.attempt_finished_timestamp": 1_700_000_001_500,
        "oxherd.outcome": "completed",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_failed_attempt_is_an_error_with_its_reason_and_its_cause(spans: Spans):
    [span] = spans.of(ended(reason="died " * 2_000, cause="signal", outcome="failed"))
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description.startswith("died")
    assert len(span.status.description) <= tracing.LONGEST_REASON
    assert span.attributes["oxherd.cause"] == "signal"
    assert [event.name for event in span.events] == ["exception"]
    assert span.parent is None  # nobody's trace: one of its own


def test_a_producer_that_does_not_sample_is_obeyed(spans: Spans):
    assert not spans.of(ended(OPTIONS.replace(b"-01", b"-00")))


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 100_000,
        b'{"tm":5}',
        b'{"tm":"custom"}',
        b'{"tm":"[1]"}',
        b'{"tm":"{\\"traceparent\\":7}"}',
        b'{"tm":"\xff"}',
        json.dumps({"tm": json.dumps({"traceparent": "x" * LONGEST_OPTIONS})}).encode(),
        json.dumps({"tm": json.dumps({"traceparent": "00-0-0-01"})}).encode(),
    ],
)
def test_what_is_no_context_begins_a_trace_of_its_own(spans: Spans, options: bytes):
    [span] = spans.of(ended(options))
    assert span.parent is None


def test_spans_that_cannot_be_made_in_time_are_dropped_and_counted(spans: Spans, monkeypatch):
    monkeypatch.setattr(tracing, "MOST_WAITING", 3)
    for _ in range(5):
        spans.tracing.ended(ended())
    assert spans.tracing.dropped == 2
    assert len(spans.of()) == 0
    spans.tracing.make(100)
    assert len(spans.exporter.get_finished_spans()) == 3


async def test_they_are_made_some_at_a_time_between_two_turns_of_the_loop(spans: Spans):
    for _ in range(3 * tracing.AT_A_TIME):
        spans.tracing.ended(ended())
    keeping = asyncio.create_task(spans.tracing.keep())
    sizes = set()
    while len(made := spans.exporter.get_finished_spans()) < 3 * tracing.AT_A_TIME:
        sizes.add(len(made))
        await asyncio.sleep(0)
    keeping.cancel()
    assert sizes - {0} == {tracing.AT_A_TIME, 2 * tracing.AT_A_TIME}


async def test_what_waits_at_the_end_is_sent():
    sent = InMemorySpanExporter()
    made = Tracing(provider_with(sent))
    made.ended(ended())
    await made.close()
    [span] = sent.get_finished_spans()
    assert span.resource.attributes["service.name"] == "oxherd"


async def test_a_collector_that_never_answers_does_not_hold_a_stop(monkeypatch):
    monkeypatch.setattr(tracing, "END_WITHIN_S", 0.05)
    answer = threading.Event()

    class Silent(SpanExporter):
        def export(self, spans):
            answer.wait(30)
            return SpanExportResult.SUCCESS

    made = Tracing(provider_with(Silent()))
    made.ended(ended())
    async with asyncio.timeout(5):
        await made.close()
    answer.set()


def test_without_the_extra_spans_are_refused_with_a_sentence(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"\[tracing\] endpoint: spans need the extra `otel` .*nothing was"):
        tracing_to("http://127.0.0.1:4318", tell=print)


def attempt(verdict) -> Attempt:
    job = FetchedJob("7", "t", "resize", b"{}", OPTIONS, 1_000, 0, 0, 1, 0, None, None)
    made = Attempt(job, 0.0)
    made.started_at, made.ended_at, made.verdict = 50.0, 50.25, verdict
    return made


async def test_the_master_tells_of_each_attempt_once_its_outcome_is_written(spans: Spans):
    config = Config(tracing=TracingConfig(endpoint="http://127.0.0.1:1"))
    reporting = Reporting(
        config, snapshot=dict, look=None, clock=lambda: 50.0, wall_clock=lambda: 1_000_050.0
    )
    assert reporting.on_written is None  # off: an attempt is told to nobody
    reporting._tracing = spans.tracing

    crashed = Crashed(Cause.SIGNAL, "the runner died of signal 11")
    reporting.on_written("work", attempt(Returned(b"1")), Completed("7", "t", b"1", KeepJobs()))
    reporting.on_written("work", attempt(crashed), Retried("7", "t", crashed.reason, None, 0, False, None))

    spans.tracing.make(2)
    good, bad = spans.exporter.get_finished_spans()
    assert (good.start_time, good.end_time) == (1_000_050 * 10**9, 1_000_050 * 10**9 + 250_000_000)
    assert f"{good.context.trace_id:032x}" == f"{bad.context.trace_id:032x}" == TRACE
    assert bad.attributes["oxherd.outcome"] == "retried"
    assert bad.status.description == crashed.reason
