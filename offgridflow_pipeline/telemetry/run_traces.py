"""Spans of a run that has ended, made of what its event log told: one for the run, one for each step.

Ids are made of the run's id, so that a second export sends the same spans. Knows nothing of Dagster.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace.status import Status, StatusCode

from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.telemetry.traces import Reachability, TraceParent, resource, span_exporter

SERVICE_NAME = "offgridflow-pipeline"
_NANOSECONDS = 1_000_000_000

Attributes = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt of a step; times in seconds since 1970. `error` is the class of what went wrong, never its text."""

    key: str
    began: float
    ended: float
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run; `parent` is the request that asked for it. Without one the run id is the trace id."""

    run_id: str
    name: str
    began: float
    ended: float
    steps: Sequence[Step]
    attributes: Attributes = field(default_factory=dict)
    failed: bool = False
    parent: TraceParent | None = None


def export(run: Run, settings: Settings) -> bool:
    """Send the run's spans; False when the collector did not take them."""
    return _exporter(settings.otlp_endpoint).export(spans_of(run, settings)) is SpanExportResult.SUCCESS


def spans_of(run: Run, settings: Settings) -> Sequence[ReadableSpan]:
    """The spans of the run and of its steps."""
    memory, ids = InMemorySpanExporter(), _GivenIds(uuid.UUID(run.run_id).int)
    provider = TracerProvider(id_generator=ids, resource=resource(settings, SERVICE_NAME), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("offgridflow.runs")
    ids.span_id = span_id(run.run_id)
    root = tracer.start_span(run.name, context=_below(_context(run.parent)), start_time=_ns(run.began))
    root.set_attributes(dict(run.attributes))
    if run.failed:
        root.set_status(Status(StatusCode.ERROR))
    attempts: Counter[str] = Counter()
    for step in run.steps:
        attempts[step.key] += 1
        ids.span_id = span_id(run.run_id, f"{step.key}|{attempts[step.key]}")
        span = tracer.start_span(step.key, context=_below(root.get_span_context()), start_time=_ns(step.began))
        span.set_attributes(dict(step.attributes))
        if step.error is not None:
            span.set_attribute("error.type", step.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(step.ended))
    root.end(_ns(run.ended))
    return memory.get_finished_spans()


def span_id(run_id: str, key: str = "") -> int:
    """Id of the run's span, or of one attempt of a step (`key`)."""
    return int.from_bytes(hashlib.sha256(f"{run_id}{key}".encode()).digest()[:8])


class _GivenIds(IdGenerator):
    def __init__(self, trace_id: int) -> None:
        self.span_id = 0
        self._trace_id = trace_id

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self.span_id


def _context(parent: TraceParent | None) -> trace.SpanContext | None:
    if parent is None:
        return None
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)


def _below(parent: trace.SpanContext | None) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(parent or trace.INVALID_SPAN_CONTEXT), Context())


def _ns(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)


@cache
def _exporter(_endpoint: str) -> SpanExporter:
    """One per process, so that an unreachable collector is told of once."""
    return span_exporter(Settings(otlp_endpoint=_endpoint), Reachability())
