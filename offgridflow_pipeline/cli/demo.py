"""`offgridflow demo`: generated bills of three tenants through the main job, to validated reports; a subscription."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offgridflow_pipeline.demo.people import DemoPeople
    from offgridflow_pipeline.demo.tenants import DemoTenant
    from offgridflow_pipeline.settings import Settings

REPORT_SUFFIXES = (".pdf", ".xhtml", ".xbrl", ".xlsx", ".zip")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for copies of the reports.")] = Path("var/demo-reports"),
    months: Annotated[int, typer.Option(min=1, max=12, help="Months of bills.")] = 3,
) -> None:
    """Generate bills, run the main job on the embedded defaults, and print where the reports are."""
    from offgridflow_pipeline.cli.dagster_home import prepare
    from offgridflow_pipeline.database.server import cluster, embedded
    from offgridflow_pipeline.demo.generator import generate
    from offgridflow_pipeline.settings import load_settings

    started = time.monotonic()
    settings = load_settings()
    ours = settings.database_url is None and not cluster.postgres_processes(settings.postgres_dir)
    typer.echo("1/4 Generating bills of three tenants ...")
    bills = generate(settings.data_dir / "demo" / "bills", months=months)
    typer.echo("2/4 Preparing PostgreSQL and the Dagster instance ...")
    environment = prepare(settings)
    people = _register(settings, bills.tenants)
    try:
        log = settings.data_dir / "demo" / "run.log"
        typer.echo(f"3/4 Running the main job (log: {log}) ...")
        log.write_text("", encoding="utf-8")
        # Production anchors the audit log every night; here the reports would have no anchor to name.
        _launch(environment, log, "The job audit_anchor", "--job", "audit_anchor")
        for tenant in bills.tenants:
            _launch(environment, log, f"The run of {tenant.slug}", tenant.slug, *bills.months)
        typer.echo("4/4 A fourth company subscribes, at a Stripe that exists only here ...")
        story = _subscription(settings, environment, log)
    finally:
        if ours:
            embedded.stop(settings.postgres_dir)
    _show(settings.data_dir / "reports", out, [t.slug for t in bills.tenants], bills.months)
    typer.echo()
    for line in (*story, "", *people.lines()):
        typer.echo(line)
    typer.echo(f"\nDone in {time.monotonic() - started:.0f} s. `make dev` serves portal, API and Dagster UI over them.")


def _launch(environment: Mapping[str, str], log: Path, what: str, *arguments: str) -> None:
    """Run the launcher with the arguments; its output goes to the log.

    Raises:
        typer.Exit: it failed; the end of the log is shown.
    """
    from offgridflow_pipeline.cli.dagster_home import project_root

    with log.open("a", encoding="utf-8") as stream:
        code = subprocess.run(
            [sys.executable, "-m", "offgridflow_pipeline.defs.launch", *arguments],
            cwd=project_root(), env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if code:
        typer.echo(f"{what} failed; the last lines of {log}:", err=True)
        typer.echo("\n".join(log.read_text(encoding="utf-8").splitlines()[-30:]), err=True)
        raise typer.Exit(1)


def _subscription(settings: Settings, environment: Mapping[str, str], log: Path) -> list[str]:
    """What came of the company that subscribes, line by line."""
    from offgridflow_pipeline.database.engine import connect
    from offgridflow_pipeline.demo.stripe_counterpart.journal import Journal
    from offgridflow_pipeline.demo.subscription import account_journal, tell

    def consume(stated: Mapping[str, str]) -> None:
        _launch(stated, log, "The job billing_events", "--job", "billing_events")

    database = connect(settings)
    try:
        return list(tell(database, environment, consume, log, Journal(account_journal(settings))))
    finally:
        database.close()


def _register(settings: Settings, tenants: Sequence[DemoTenant]) -> DemoPeople:
    """Add the demonstration's tenants, connections and people where missing; others stay."""
    from offgridflow_pipeline.connectors.connections import to_row
    from offgridflow_pipeline.database.engine import connect
    from offgridflow_pipeline.demo.people import add_demo_people

    database = connect(settings)
    try:
        known = {row.slug for row in database.tenants.list()}
        for tenant in tenants:
            if tenant.slug not in known:
                database.tenants.add(tenant.slug, tenant.display_name, lei=tenant.lei, currency=tenant.currency)
            for connection in tenant.connections:
                database.connections.add(tenant.slug, connection.id, **to_row(connection), replace=True)
        return add_demo_people(settings, database)
    finally:
        database.close()


def _show(reports: Path, out: Path, tenants: Sequence[str], months: Sequence[str]) -> None:
    for tenant in tenants:
        typer.echo(f"\n{tenant}")
        for month in months:
            for source in sorted((reports / tenant / month).iterdir()):
                if source.suffix in REPORT_SUFFIXES:
                    target = out / tenant / source.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                    typer.echo(f"  {target}")
