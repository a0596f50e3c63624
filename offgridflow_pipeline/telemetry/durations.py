"""Histograms of durations that every request records several of: requests, statements, waits for a connection.

A record of OpenTelemetry's own histogram costs tens of microseconds, a record here about one. What is counted leaves
the same two ways as all other metrics: Prometheus collects it, and the exporter to the collector sends it along.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from offgridflow_pipeline.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
    from opentelemetry.sdk.metrics.export import Metric as SentMetric

#: A scope of its own: the exporter keeps one part per scope, and the meter's is `offgridflow`.
SCOPE = "offgridflow.durations"


class _Series:
    """Counts of one combination of labels: bucket i holds durations up to bound i, the last one all longer ones."""

    __slots__ = ("counts", "longest", "seconds", "shortest")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.seconds = 0.0
        self.shortest = float("inf")
        self.longest = 0.0


class DurationHistogram(Collector):
    """Durations of one metric of the registry, in seconds, since the process began. Thread safe."""

    def __init__(self, metric: names.Metric, bounds: Sequence[float] = names.DURATION_BOUNDS) -> None:
        self._metric = metric
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], _Series] = {}
        self._lock = threading.Lock()
        self._began_ns = time.time_ns()

    def record(self, seconds: float, *labels: str) -> None:
        """Count a duration; the labels stand in the order of the registry, the empty text for one without a value."""
        place = bisect_left(self._bounds, seconds)
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = _Series(len(self._bounds) + 1)
            series.counts[place] += 1
            series.seconds += seconds
            series.shortest = min(series.shortest, seconds)
            series.longest = max(series.longest, seconds)

    def collect(self) -> Iterable[Family]:
        """The histogram as Prometheus reads it: buckets add up."""
        metric = self._metric
        family = HistogramMetricFamily(metric.prometheus_name, metric.meaning, labels=metric.prometheus_labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        with self._lock:
            for labels, series in self._series.items():
                total, buckets = 0, []
                for bound, count in zip(bounds, series.counts, strict=True):
                    total += count
                    buckets.append((bound, float(total)))
                family.add_metric(labels, buckets, series.seconds)
        return [family]

    def sent(self) -> SentMetric:
        """The histogram as OpenTelemetry sends it: each bucket by itself, cumulative in time."""
        from opentelemetry.sdk.metrics.export import AggregationTemporality, Histogram, Metric

        now = time.time_ns()
        with self._lock:
            points = [self._point(labels, series, now) for labels, series in self._series.items()]
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return Metric(self._metric.name, self._metric.meaning, self._metric.unit, data)

    def _point(self, labels: tuple[str, ...], series: _Series, now: int) -> HistogramDataPoint:
        from opentelemetry.sdk.metrics.export import HistogramDataPoint

        return HistogramDataPoint(
            {name: value for name, value in zip(self._metric.labels, labels, strict=True) if value},
            self._began_ns, now, sum(series.counts), series.seconds, list(series.counts), self._bounds,
            series.shortest, series.longest,
        )  # fmt: skip


class Durations:
    """The histograms of a process."""

    def __init__(self) -> None:
        self.requests = DurationHistogram(names.REQUEST_DURATION)
        self.statements = DurationHistogram(names.OPERATION_DURATION)
        self.waits = DurationHistogram(names.POOL_WAIT)

    @property
    def all(self) -> tuple[DurationHistogram, ...]:
        """Every one."""
        return (self.requests, self.statements, self.waits)

    def joined(self, data: MetricsData) -> MetricsData:
        """What OpenTelemetry collected, and these histograms beside it."""
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        own = ScopeMetrics(InstrumentationScope(SCOPE), [histogram.sent() for histogram in self.all], "")
        return MetricsData(
            [
                ResourceMetrics(found.resource, [*found.scope_metrics, own], found.schema_url)
                for found in data.resource_metrics
            ]
        )
