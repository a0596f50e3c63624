"""Redis for tests: fakeredis behind a real TCP socket, so that the client, its time-outs and its scripts are the real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fakeredis import TcpFakeServer

from offgridflow_pipeline_tests.counterparts.processes import free_port


@contextmanager
def redis_server() -> Iterator[str]:
    """URL of a running server."""
    port = free_port()
    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
