"""`offgridflow tenant`: add and list the organisations that report. The work is in `database`."""

from __future__ import annotations

from typing import Annotated

import typer

from offgridflow_pipeline.cli.db import database_command
from offgridflow_pipeline.identity.audit import Action, record

app = typer.Typer(no_args_is_help=True, help="Tenants: the organisations that report.")


@app.command()
def add(
    slug: Annotated[str, typer.Argument(help="Immutable key: lower-case letters, digits, single dashes.")],
    name: Annotated[str, typer.Argument(help="Display name.")],
    lei: Annotated[str | None, typer.Option(help="Legal entity identifier (ISO 17442).")] = None,
    currency: Annotated[str, typer.Option(help="Reporting currency (ISO 4217).")] = "EUR",
) -> None:
    """Add a tenant."""
    with database_command(ready=True) as database:
        tenant = database.tenants.add(slug, name, lei=lei, currency=currency)
        record(database, tenant.slug, Action.TENANT_ADDED, actor="system", target=f"tenant:{tenant.tenant_id}")
    typer.echo(f"Added {tenant.slug} ({tenant.tenant_id}).")


@app.command("list")
def list_tenants(
    inactive: Annotated[bool, typer.Option("--all", help="Suspended and closed ones too.")] = False,
) -> None:
    """List tenants: slug, status, currency, LEI and name."""
    with database_command(ready=True) as database:
        rows = database.tenants.list(inactive=inactive)
    for row in rows:
        typer.echo(f"{row.slug:<24} {row.status:<10} {row.currency} {row.lei or '-':<20} {row.display_name}")
    if not rows:
        typer.echo("No tenants yet: offgridflow tenant add SLUG NAME", err=True)
