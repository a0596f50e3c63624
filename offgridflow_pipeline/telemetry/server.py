"""`/metrics` for Prometheus, on a port of its own: what it tells is for operators, never for the internet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from offgridflow_pipeline.telemetry import names

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from offgridflow_pipeline.database.signals import Durations

log = logging.getLogger("offgridflow.telemetry")


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """A running server; `close` ends it."""

    _server: WSGIServer
    _thread: threading.Thread

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def serve(registry: CollectorRegistry, host: str, port: int) -> MetricsServer | None:
    """Serve the registry; None, with a warning, when the address cannot be used: that is no reason not to start."""
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        log.warning("Metrics are not served on %s:%s (%s): another process may use the port.", host, port, error)
        return None
    return MetricsServer(server, thread)


class ReportDurations(Collector):
    """The histogram of report durations, counted by PostgreSQL: it survives restarts as the counters do."""

    def __init__(self, durations: Callable[[], list[Durations]]) -> None:
        self._durations = durations

    def collect(self) -> Iterable[Metric]:
        """One histogram per outcome; nothing when another process exports the ledgers."""
        found = self._durations()
        metric = names.REPORT_DURATION
        family = HistogramMetricFamily(metric.prometheus_name, metric.meaning, labels=metric.prometheus_labels)
        for row in found:
            counts = [*row.within, row.total]
            bounds = [*(str(bound) for bound in names.REPORT_DURATION_BOUNDS), "+Inf"]
            family.add_metric([row.outcome], list(zip(bounds, counts, strict=True)), row.seconds)
        return [family]
