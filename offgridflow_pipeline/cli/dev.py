"""`offgridflow dev`: PostgreSQL, Dagster webserver and daemon in one command, stopped cleanly by Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

STOP_SECONDS = 20


def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address of the Dagster UI; keep it internal, it has no login.")
    ] = "127.0.0.1",
) -> None:
    """Start PostgreSQL (embedded unless DATABASE_URL is set), the Dagster UI and its daemon."""
    from offgridflow_pipeline.cli.dagster_home import prepare, project_root
    from offgridflow_pipeline.settings import load_settings

    settings = load_settings()
    environment = prepare(settings)
    command = [
        str(Path(sys.executable).parent / "dagster"), "dev", "-w", "workspace.yaml", "-h", host, "-p", str(port),
    ]  # fmt: skip
    # An ignored SIGINT would be inherited by Dagster's services, which then never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(command, cwd=project_root(), env=environment, start_new_session=True)
    typer.echo(f"OffGridFlow: Dagster UI on http://{host}:{port} · Ctrl-C stops everything")

    def forward(_number: int, _frame: object) -> None:
        child.send_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    try:
        code = child.wait()
    finally:
        _stop(child)
        if settings.database_url is None:
            from offgridflow_pipeline.database import embedded

            embedded.stop(settings.postgres_dir)
    raise typer.Exit(0 if code in (0, -signal.SIGINT, 130) else code)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
