"""`offgridflow db`: migrations of the database, proof of tenant isolation, stop of the embedded server.

Prints and exits only; the work is in `database`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

app = typer.Typer(no_args_is_help=True, help="PostgreSQL: migrations, status, verification.")


@contextmanager
def database_command(*, ready: bool, role: Literal["ogf_pipeline", "ogf_api"] = "ogf_pipeline") -> Iterator[Database]:
    """The configured database (`ready`: migrated and guarded); refusals become one line and exit code 1."""
    from offgridflow_pipeline.database.engine import (
        DatabaseError,
        MigrationError,
        UnknownTenantError,
        connect,
        open_database,
    )
    from offgridflow_pipeline.database.server.embedded import EmbeddedServerError
    from offgridflow_pipeline.database.tenants import TenantError
    from offgridflow_pipeline.settings import SettingsError, load_settings

    refusals = (
        SettingsError,
        EmbeddedServerError,
        DatabaseError,
        MigrationError,
        TenantError,
        UnknownTenantError,
    )
    try:
        database = (connect if ready else open_database)(load_settings(), role=role)
        try:
            yield database
        finally:
            database.close()
    except refusals as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def migrate() -> None:
    """Make roles and database where missing and apply pending migrations."""
    with database_command(ready=False) as database:
        applied = database.prepare()
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo("The schema is up to date.")


@app.command()
def status() -> None:
    """List every migration with its state; changes nothing."""
    from offgridflow_pipeline.database.server import migrations

    with database_command(ready=False) as database:
        states = migrations.status(database.admin_engine)
    for row in states:
        typer.echo(f"{row.state:<8} {row.name}")


@app.command()
def verify() -> None:
    """Exit 1 unless the schema is the code's and tenants are kept apart by row level security."""
    from offgridflow_pipeline.database.server import catalog, migrations

    with database_command(ready=False) as database:
        migrations.verify(database.admin_engine)
        database.require_ready()
        with database.admin_engine.connect() as connection:
            found = catalog.findings(connection)
            tables = catalog.tenant_tables(connection)
    for finding in found:
        typer.echo(f"Error: {finding}", err=True)
    if found:
        raise typer.Exit(1)
    typer.echo(f"Schema current; row level security enabled and forced on {len(tables)} tenant tables.")


@app.command()
def stop() -> None:
    """Stop the embedded server of the data folder."""
    from offgridflow_pipeline.database.server import embedded
    from offgridflow_pipeline.settings import SettingsError, load_settings

    try:
        stopped = embedded.stop(load_settings().postgres_dir)
    except (embedded.EmbeddedServerError, SettingsError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo("Stopped." if stopped else "No embedded server was running.")
