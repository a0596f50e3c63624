"""A collector that takes OTLP over HTTP and keeps what it got: real protocol messages, compressed or not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def attributes_of(pairs: object) -> dict[str, str | int | float | bool]:
    """Attributes as a dictionary."""
    found: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else ""
    return found


class Collector:
    """What arrived. `bodies` are the uncompressed messages, to look for what must not be in them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.bodies: list[bytes] = []
        self.refuses = False
        self._traces: list[ExportTraceServiceRequest] = []
        self._metrics: list[ExportMetricsServiceRequest] = []

    def take(self, path: str, body: bytes) -> int:
        """Keep a message; the status to answer with."""
        if self.refuses:
            return 400
        self.bodies.append(body)
        if path == "/v1/traces":
            self._traces.append(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._metrics.append(ExportMetricsServiceRequest.FromString(body))
        else:
            return 404
        return 200

    @property
    def spans(self) -> list[Span]:
        """Spans in the order of arrival."""
        return [s for r in self._traces for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    @property
    def services(self) -> set[str]:
        """Names of the services that sent spans."""
        resources = [rs.resource for r in self._traces for rs in r.resource_spans]
        return {str(attributes_of(resource.attributes)["service.name"]) for resource in resources}

    @property
    def metric_names(self) -> set[str]:
        """OpenTelemetry names of the metrics that arrived."""
        requests = [rm for r in self._metrics for rm in r.resource_metrics]
        return {m.name for rm in requests for sm in rm.scope_metrics for m in sm.metrics}


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.send_response(found.take(self.path, body))
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Messages are kept, not printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
