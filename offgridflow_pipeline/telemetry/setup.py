"""Telemetry of a sidecar process: started once, after the app is made and before it serves its first request.

Without a collector in the settings no span is made; without a metrics port nothing is served. Nothing here makes a
request fail: exporters work in threads of their own, and what they cannot send is dropped.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

# Before anything is instrumented: without it the old names come out, and durations in milliseconds.
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")

from offgridflow_pipeline.telemetry import counters, names
from offgridflow_pipeline.telemetry.logs import METHODS, Measured, RequestLog
from offgridflow_pipeline.telemetry.traces import Reachability

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client import CollectorRegistry
    from starlette.applications import Starlette
    from starlette.types import Scope

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.telemetry.durations import DurationHistogram, Durations
    from offgridflow_pipeline.telemetry.ledger import Ledger
    from offgridflow_pipeline.telemetry.server import MetricsServer

POOL_NAME = "sidecar"
#: Not worth a span or a series: they are asked every few seconds.
UNTRACED_PATHS = "/livez,/readyz"
OTHER_METHOD = "_OTHER"
METRIC_EXPORT_INTERVAL_MS = 60_000
FLUSH_TIMEOUT_MS = 3_000

log = logging.getLogger("offgridflow.telemetry")


class Telemetry:
    """What runs. `registry`, `ledger` and `server` are None where they are off."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry | None = None
        self.ledger: Ledger | None = None
        self.server: MetricsServer | None = None
        self._endings: list[Callable[[], Any]] = []

    def at_end(self, ending: Callable[[], Any]) -> None:
        """Call it at `shutdown`; the last one first."""
        self._endings.append(ending)

    def shutdown(self) -> None:
        """Send what is left, within seconds, and end everything; a second call does nothing."""
        endings, self._endings = self._endings, []
        for ending in reversed(endings):
            try:
                ending()
            except Exception:
                log.exception("Telemetry did not end cleanly.")


def start(
    settings: Settings,
    app: Starlette,
    database: Database,
    *,
    route_of: Callable[[Scope], str | None],
    rate_limit_policies: Iterable[str] = (),
    background: bool = True,
) -> Telemetry:
    """Log every request of the app, and instrument it and the database's pool as the settings say.

    `route_of` tells the template of a request's path. `rate_limit_policies` are exported as zero from the beginning.
    Without `background` no thread and no port is opened: a caller refreshes the ledger and reads the registry itself.
    """
    telemetry = Telemetry()
    if not settings.otlp_endpoint and not settings.metrics_port:
        app.add_middleware(RequestLog)
        return telemetry
    from offgridflow_pipeline.telemetry import pool
    from offgridflow_pipeline.telemetry.durations import Durations

    durations, reachability = Durations(), Reachability()
    app.add_middleware(RequestLog, measured=_measuring(durations.requests, route_of))
    tracer_provider = _traces(settings, telemetry, reachability)
    meter_provider = _metrics(settings, telemetry, reachability, durations)
    if tracer_provider is not None:
        _trace(app, database, tracer_provider, telemetry)
    meter = meter_provider.get_meter("offgridflow")
    telemetry.at_end(pool.observe(database.application_engine, POOL_NAME, meter, durations))
    _own_metrics(settings, database, meter, telemetry, {"policy": tuple(rate_limit_policies)})
    if background and telemetry.ledger is not None:
        telemetry.ledger.start()
    if background and telemetry.registry is not None:
        from offgridflow_pipeline.telemetry.server import serve

        telemetry.server = serve(telemetry.registry, settings.metrics_host, settings.metrics_port)
        if telemetry.server is not None:
            telemetry.at_end(telemetry.server.close)
    return telemetry


def _traces(settings: Settings, telemetry: Telemetry, reachability: Reachability) -> TracerProvider | None:
    if not settings.otlp_endpoint:
        return None
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    from offgridflow_pipeline.telemetry.traces import resource, span_exporter

    provider = TracerProvider(
        resource=resource(settings),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_rate)),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(span_exporter(settings, reachability)))
    telemetry.at_end(provider.shutdown)
    telemetry.at_end(lambda: provider.force_flush(FLUSH_TIMEOUT_MS))
    return provider


def _measuring(requests: DurationHistogram, route_of: Callable[[Scope], str | None]) -> Measured:
    def measured(scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
        requests.record(seconds, method, str(status), route_of(scope) or "")

    return measured


def _metrics(
    settings: Settings, telemetry: Telemetry, reachability: Reachability, durations: Durations
) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider

    from offgridflow_pipeline.telemetry.traces import resource

    readers: list[MetricReader] = []
    if settings.metrics_port:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import CollectorRegistry

        telemetry.registry = CollectorRegistry()
        readers.append(PrometheusMetricReader(scope_info_enabled=False, registry=telemetry.registry))
        for histogram in durations.all:
            telemetry.registry.register(histogram)
    if settings.otlp_endpoint:
        readers.append(_pushing_reader(settings, reachability, durations))
    provider = MeterProvider(readers, resource=resource(settings), shutdown_on_exit=False)
    telemetry.at_end(lambda: provider.shutdown(FLUSH_TIMEOUT_MS))
    return provider


def _pushing_reader(settings: Settings, reachability: Reachability, durations: Durations) -> MetricReader:
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from offgridflow_pipeline.telemetry.traces import metric_exporter

    return PeriodicExportingMetricReader(
        metric_exporter(settings, reachability, durations), export_interval_millis=METRIC_EXPORT_INTERVAL_MS
    )


def _trace(app: Starlette, database: Database, provider: TracerProvider, telemetry: Telemetry) -> None:
    """Spans of requests and statements; their metrics are ours, and cost a tenth of the instrumentations'."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider

    instrumented: Any = app  # a FastAPI, which only the sidecar may import
    no_metrics = NoOpMeterProvider()
    FastAPIInstrumentor.instrument_app(
        instrumented,
        tracer_provider=provider,
        meter_provider=no_metrics,
        excluded_urls=UNTRACED_PATHS,
        exclude_spans=["send", "receive"],
    )
    telemetry.at_end(lambda: FastAPIInstrumentor.uninstrument_app(instrumented))
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=database.application_engine, tracer_provider=provider, meter_provider=no_metrics)
    telemetry.at_end(instrumentor.uninstrument)


def _own_metrics(
    settings: Settings, database: Database, meter: Meter, telemetry: Telemetry, known: Mapping[str, Iterable[str]]
) -> None:
    from offgridflow_pipeline.telemetry.ledger import Ledger

    counters.bind(meter, known)
    telemetry.at_end(counters.release)
    _constant(meter, names.SLO_TARGET, {"availability": settings.availability_target})
    _constant(meter, names.FRESHNESS_TARGET, names.FRESHNESS_TARGETS)
    telemetry.ledger = ledger = Ledger(database)
    ledger.observe(meter)
    telemetry.at_end(ledger.close)
    if telemetry.registry is not None:
        from offgridflow_pipeline.telemetry.server import ReportDurations

        telemetry.registry.register(ReportDurations(lambda: ledger.durations))


def _constant(meter: Meter, metric: names.Metric, values: Mapping[str, float]) -> None:
    from opentelemetry.metrics import Observation

    (label,) = metric.labels

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, {label: key}) for key, value in values.items()]

    meter.create_observable_gauge(metric.name, [observe], unit=metric.unit, description=metric.meaning)
