"""What others see of a whole master: its pages, its heartbeat, its spans."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from running import ROOT, until

from supervisor.config.load import load
from supervisor.observe.catalogue import CATALOGUE
from supervisor.observe.metric_catalogue import HISTOGRAM, METRICS
from supervisor.protocol.fields import STATES

TRACE = "1a95959becd29bf24db3337707edfd4d"


def asked(running, path: str) -> tuple[int, str]:
    host, _, port = running.until("http.listening")["address"].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def metrics(running) -> dict[tuple[str, ...], float]:
    status, text = asked(running, "/metrics")
    assert status == 200
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_of_attempts_limits_and_runners_and_of_the_dead_no_more(oxherd, queue):
    running = oxherd("--http-listen", "0", "--concurrency", "1")
    running.until("master.started")
    queue.add("job", {"do": "nothing"})
    running.until("job.completed")
    queue.add("job", {"do": "crash_in_c"})
    running.until("job.failed")
    died = running.events("runner.died")[0]["runner"]
    until(
        lambda: [each["runner"] for each in running.events("runner.started")][-1] != died,
        "another runner is ready",
    )

    found = metrics(running)

    assert found["oxherd_attempts_total", "completed", "job", "work"] == 1
    assert found["oxherd_attempts_total", "failed", "job", "work"] == 1
    assert found["oxherd_abnormal_ends_total", "signal", "work"] == 1
    assert found["oxherd_attempt_run_seconds_count", "job", "work"] == 2
    assert found["oxherd_limits_mode", "cgroup"] + found["oxherd_limits_mode", "sampling"] == 1
    assert found["oxherd_log_events_total", "runner.died", "work"] == 1
    runner = str(running.events("runner.started")[-1]["runner"])
    assert found["oxherd_runner_memory_bytes", *sorted(["work", "1", runner])] > 0
    assert not any(str(died) in name for name in found)


def test_metrics_tell_how_deep_a_queue_is(oxherd, queue):
    queue.pause()
    for options in ({}, {}, {"delay_ms": 60_000}, {"priority": 3}):
        queue.add("job", {}, **options)
    running = oxherd("--http-listen", "0", "--concurrency", "1")
    running.until("master.started")
    found = metrics(running)

    jobs = {state: found["oxherd_queue_jobs", *sorted(["work", state])] for state in STATES}
    assert jobs == dict.fromkeys(STATES, 0) | {"waiting": 2, "delayed": 1, "prioritized": 1}
    assert found["oxherd_queue_paused", "work"] == 1
    assert 0 < found["oxherd_queue_oldest_waiting_seconds", "work"] < 30


def test_livez_and_readyz_answer_with_the_watchdogs_judgement(oxherd):
    running = oxherd("--http-listen", "0", "--concurrency", "1")
    running.until("http.listening")
    until(lambda: asked(running, "/readyz")[0] == 200, "the master is ready")
    assert asked(running, "/livez")[0] == 200
    assert asked(running, "/nothing")[0] == 404


def hosts(url: str, told: str = "state") -> tuple[int, list]:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "status", "--hosts", "--json", "--redis", url],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, [json.loads(line)[told] for line in done.stdout.splitlines()]


def test_a_master_is_seen_by_others_vanishes_when_it_is_killed_and_leaves_when_it_stops(
    oxherd, redis_url, queue
):
    killed = oxherd("--heartbeat-interval", "200ms", "--concurrency", "1")
    killed.until("master.started")
    until(lambda: hosts(redis_url) == (0, ["up"]), "it is seen")
    killed.signal(signal.SIGKILL)
    until(lambda: hosts(redis_url) == (1, ["vanished"]), "it has vanished")

    again = oxherd("--heartbeat-interval", "200ms", "--concurrency", "1")
    again.until("master.started")
    until(lambda: hosts(redis_url) == (0, ["up"]), "another does its work")
    queue.add("job", {"do": "sleep", "s": 0.1})
    (ran,) = until(
        lambda: any(found := hosts(redis_url, "ran_ms")[1]) and found, "it tells how long jobs run"
    )
    assert (ran["count"], ran["p50"]) == (1, ran["p95"])
    assert ran["p95"] >= 100
    assert hosts(redis_url, "waited_ms")[1][0]["p95"] >= 0
    again.signal(signal.SIGTERM)
    assert again.ended() == 0
    assert hosts(redis_url) == (1, [])


@pytest.fixture
def collector():
    """What an OTLP collector is: it takes what is posted."""
    got: list[ExportTraceServiceRequest] = []

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *about):
            pass

    server = HTTPServer(("127.0.0.1", 0), Taker)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield server.server_port, got
    server.shutdown()
    server.server_close()
    serving.join()


def test_a_span_of_an_attempt_reaches_the_collector_in_its_producers_trace(oxherd, queue, raw, collector):
    port, got = collector
    job = queue.add("job", {"do": "nothing"}, delay_ms=3_600_000)
    context = json.dumps({"traceparent": f"00-{TRACE}-2d9d52cf32e68031-01"})
    options = json.loads(raw.hget(f"bull:work:{job.id}", "opts"))
    raw.hset(f"bull:work:{job.id}", "opts", json.dumps({**options, "tm": context}))
    queue.promote(job.id)
    running = oxherd("--tracing-endpoint", f"http://127.0.0.1:{port}", "--concurrency", "1")
    running.until("job.completed")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0

    spans = [
        span
        for request in got
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    [span] = spans
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == "2d9d52cf32e68031"
    assert span.name == "process work"


def test_a_collector_that_is_away_is_told_of_once_and_hinders_nobody(oxherd, queue):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        running = oxherd("--tracing-endpoint", endpoint, "--concurrency", "1", "--stop-deadline", "2s")
        queue.add("job", {"do": "nothing"})
        running.until("job.completed")
        began_at = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
    assert time.monotonic() - began_at < 8
    assert len(running.events("tracing.failed")) <= 1
    assert not running.other, "what the SDK says goes into lines of the log"


def test_a_port_that_is_taken_starts_nothing_and_is_told_in_a_sentence(oxherd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        running = oxherd("--http-listen", str(taken.getsockname()[1]))
        assert running.ended() == 2
    assert any("cannot listen on 127.0.0.1" in line for line in running.other)
    assert not running.events("master.started")


PAGES = ("metrics", "logs", "tracing")


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_events_and_metrics_that_a_page_names_exist(page: str):
    """And what it shows of a config is a config."""
    path = ROOT / "docs" / "how-to" / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    known = set(METRICS) | {
        f"{name}_{part}"
        for name, metric in METRICS.items()
        if metric.kind == HISTOGRAM
        for part in ("bucket", "count", "sum")
    }
    assert set(re.findall(r"\boxherd_[a-z_]+", text)) <= known
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", text))
    of_spans = {"oxherd.outcome", "oxherd.cause"}
    assert named <= {*CATALOGUE, *of_spans}, named - set(CATALOGUE)
    for block in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        tomllib.loads(block)
        file = Path(os.environ.get("TMPDIR", "/tmp")) / f"oxherd-{page}-{os.getpid()}.toml"
        file.write_text(block)
        try:
            load(file, {}, {})
        finally:
            file.unlink()
