"""`offgridflow dev`: PostgreSQL, Dagster webserver and daemon, API and portal in one command, stopped by Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

STOP_SECONDS = 20
POLL_SECONDS = 0.5
#: Fixed: pages of the counterpart that were linked to before are found again.
STRIPE_PORT = 12111


def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address of the Dagster UI; keep it internal, it has no login.")
    ] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(help="Port of API and portal.")] = 8000,
    billing: Annotated[
        bool, typer.Option("--billing", help="Let tenants subscribe, at a Stripe that exists only here.")
    ] = False,
) -> None:
    """Start PostgreSQL (embedded unless DATABASE_URL is set), the Dagster UI with its daemon, and API and portal."""
    from offgridflow_pipeline.cli.dagster_home import prepare, project_root
    from offgridflow_pipeline.demo.people import demo_people
    from offgridflow_pipeline.settings import load_settings

    settings = load_settings()
    environment = prepare(settings)
    environment.setdefault("OFFGRIDFLOW_PUBLIC_URL", f"http://127.0.0.1:{api_port}")
    tools = Path(sys.executable).parent
    commands = _counterpart(settings, environment, api_port) if billing else []
    commands += [
        [str(tools / "dagster"), "dev", "-w", "workspace.yaml", "-h", host, "-p", str(port)],
        [str(tools / "offgridflow"), "serve", "--port", str(api_port)],
    ]
    # An ignored SIGINT would be inherited by Dagster's services, which then never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    children = [
        subprocess.Popen(command, cwd=project_root(), env=environment, start_new_session=True) for command in commands
    ]
    typer.echo(
        f"OffGridFlow: portal and API on {environment['OFFGRIDFLOW_PUBLIC_URL']} · "
        f"Dagster UI on http://{host}:{port} · Ctrl-C stops everything"
    )
    for line in demo_people(settings).lines():
        typer.echo(line)
    try:
        code = _first_end(children)
    finally:
        _stop(children)
        if settings.database_url is None:
            from offgridflow_pipeline.database.server import embedded

            embedded.stop(settings.postgres_dir)
    raise typer.Exit(0 if code in (0, -signal.SIGINT, 130) else code)


def _counterpart(settings: Settings, environment: dict[str, str], api_port: int) -> list[list[str]]:
    """Command of the Stripe counterpart; the environment is told of it."""
    from offgridflow_pipeline.demo.subscription import WEBHOOK_SECRET, account_journal, stripe_variables

    environment |= stripe_variables(f"http://127.0.0.1:{STRIPE_PORT}")
    webhook = f"http://127.0.0.1:{api_port}/v1/webhooks/stripe"
    program = [sys.executable, "-m", "offgridflow_pipeline.demo.stripe_counterpart"]
    stated = ["--port", str(STRIPE_PORT), "--webhook", webhook, "--secret", WEBHOOK_SECRET]
    return [[*program, *stated, "--journal", str(account_journal(settings).resolve())]]


def _first_end(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """Exit code of the child that ends first; one that ends by itself ends all. Ctrl-C and SIGTERM count as 0."""
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    while not stopping:
        for child in children:
            if (code := child.poll()) is not None:
                return code
        time.sleep(POLL_SECONDS)
    return 0


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    running = [child for child in children if child.poll() is None]
    for child in running:
        child.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_SECONDS
    for child in running:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
