"""Traces: how they leave the process, which of them are kept, and the context that a request hands to a run.

A span never carries a secret: query strings and texts of exceptions (which may quote values) are taken off before it
leaves. A collector that does not answer costs spans and one warning, nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline import __version__
from offgridflow_pipeline.telemetry.shown_paths import shown

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.telemetry.durations import Durations

EXPORT_TIMEOUT_SECONDS = 5.0
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 0x01
_DROPPED_ATTRIBUTES = frozenset({"url.query", "url.full", "exception.message", "exception.stacktrace"})

log = logging.getLogger("offgridflow.telemetry")


@dataclass(frozen=True, slots=True)
class TraceParent:
    """W3C trace context: trace id, id of the parent span, and whether the trace is exported."""

    trace_id: int
    span_id: int
    sampled: bool

    @classmethod
    def parse(cls, text: str) -> TraceParent | None:
        """The context that the header or tag states; None when it has not the form of version 00."""
        found = _TRACEPARENT.fullmatch(text)
        if found is None:
            return None
        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        return cls(trace_id, span_id, bool(flags & _SAMPLED)) if trace_id and span_id else None

    def __str__(self) -> str:
        """The header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def run_is_sampled(run_id: str, rate: float) -> bool:
    """Whether a run without a parent is exported: the share `rate` of all runs.

    Decided from SHA-256: a ratio sampler reads bits that are fixed in a UUID, and would keep none or all
    (observability reference, "Sampling of run traces").
    """
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8]) < rate * 2**64


def resource(settings: Settings, service_name: str | None = None) -> Resource:
    """Who exports: name and version of the service."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {
            "service.name": service_name or settings.service_name,
            "service.version": __version__,
            "deployment.environment.name": settings.environment,
        }
    )


def span_exporter(settings: Settings, reachability: Reachability) -> SpanExporter:
    """Exporter of spans to the collector of the settings, over HTTP."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    _silence_exporters()
    return _careful(
        OTLPSpanExporter(
            endpoint=_collector_url(settings, "traces"), timeout=EXPORT_TIMEOUT_SECONDS, compression=Compression.Gzip
        ),
        reachability,
    )


def metric_exporter(settings: Settings, reachability: Reachability, durations: Durations) -> MetricExporter:
    """Exporter of metrics to the collector of the settings, over HTTP; the histograms go along."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult

    class Careful(OTLPMetricExporter):
        """Warns once."""

        def export(self, metrics_data: MetricsData, *rest: Any, **named: Any) -> MetricExportResult:
            result = super().export(durations.joined(metrics_data), *rest, **named)
            reachability.note("metrics", reached=result is MetricExportResult.SUCCESS)
            return result

    _silence_exporters()
    return Careful(
        endpoint=_collector_url(settings, "metrics"), timeout=EXPORT_TIMEOUT_SECONDS, compression=Compression.Gzip
    )


def _collector_url(settings: Settings, signal: str) -> str:
    return f"{settings.otlp_endpoint.rstrip('/')}/v1/{signal}"


def _silence_exporters() -> None:
    """Let OpenTelemetry's exporters be quiet about every failed attempt; ours warn once."""
    for name in ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.sdk.metrics", "opentelemetry.exporter.http"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Reachability:
    """Tells once that the collector takes no data, and once that it does again, whatever is sent to it."""

    def __init__(self) -> None:
        self._lost: set[str] = set()

    def note(self, signal: str, *, reached: bool) -> None:
        """Note how an export of traces or metrics went."""
        before = bool(self._lost)
        (self._lost.discard if reached else self._lost.add)(signal)
        if self._lost and not before:
            log.warning("The OpenTelemetry collector takes no %s; telemetry is lost until it does.", signal)
        elif before and not self._lost:
            log.info("The OpenTelemetry collector takes data again.")


def _careful(exporter: SpanExporter, reachability: Reachability) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Careful(SpanExporter):
        """Takes off what may be secret, and warns once."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export([harmless(span) for span in spans])
            reachability.note("traces", reached=result is SpanExportResult.SUCCESS)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Careful()


def harmless(span: ReadableSpan) -> ReadableSpan:
    """The span without query strings, links that open something, and texts of exceptions; their types stay."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace.status import Status

    def kept(attributes: object) -> dict[str, object]:
        items = dict(attributes or {})  # type: ignore[call-overload]
        if "url.path" in items:
            items["url.path"] = shown(str(items["url.path"]))
        return {name: value for name, value in items.items() if name not in _DROPPED_ATTRIBUTES}

    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=kept(span.attributes),  # type: ignore[arg-type]
        events=[Event(event.name, kept(event.attributes), event.timestamp) for event in span.events],  # type: ignore[arg-type]
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )
