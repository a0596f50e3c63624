"""`offgridflow serve`: the sidecar (API and portal) by itself, as it runs in production."""

from __future__ import annotations

from typing import Annotated

import typer

SHUTDOWN_SECONDS = 10
APPLICATION = "offgridflow_pipeline.sidecar.app:application"
PROTOCOL = "offgridflow_pipeline.sidecar.entrance.http_protocol:BoundedHttpProtocol"


def serve(
    port: Annotated[int, typer.Option(help="Port of API and portal.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve API and portal; several replicas may run beside each other on one PostgreSQL."""
    import uvicorn

    from offgridflow_pipeline.cli.db import database_command

    with database_command(ready=True, role="ogf_api"):
        # Refusals of settings and schema are told before the server starts; it opens a connection pool of its own.
        # Client addresses are told by our own middleware, which knows the trusted proxies.
        uvicorn.run(
            APPLICATION,
            factory=True,
            host=host,
            port=port,
            http=PROTOCOL,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_level="warning",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
