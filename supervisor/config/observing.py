"""The settings of what others see of a master: its heartbeat, its HTTP pages, its spans."""

from __future__ import annotations

from supervisor.config.option import Section, option
from supervisor.config.place import PLACE, Place


def _check_endpoint(url: str) -> str | None:
    return None if url.startswith(("http://", "https://")) else "an endpoint starts with http:// or https://"


class HttpConfig(Section):
    """[http] Pages for programs: /metrics for Prometheus, /livez and /readyz for whoever restarts us."""

    listen: Place | None = option(
        None,
        kind=PLACE,
        shown="nowhere",
        doc="""
        Where to listen: a port of the loopback (9464), HOST:PORT, [IPv6]:PORT, or unix:/PATH. The pages have
        no password: what is not the loopback is for networks that are yours alone. Port 0: the log tells
        which.
        """,
    )


class HeartbeatConfig(Section):
    """[heartbeat] One key in Redis that says that this master lives: `oxherd status --hosts` reads it."""

    interval_ms: int = option(
        5_000,
        at_least=0,
        doc="""
        Time between two beats; three missed ones make a host vanished. 0 for none: then no other host sees
        this one. Shorter: sooner known, more calls.
        """,
    )


class TracingConfig(Section):
    """[tracing] OpenTelemetry: one span for each attempt, in the trace that its producer began."""

    endpoint: str | None = option(
        None,
        check=_check_endpoint,
        shown="none",
        doc="""
        The collector that gets the spans, by OTLP over HTTP: http://127.0.0.1:4318. Needs the extra `otel`.
        OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS in the
        environment mean what they mean everywhere.
        """,
    )
