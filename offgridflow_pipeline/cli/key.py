"""`offgridflow key`: API keys of tenants, for the operator. Prints and exits only; the work is in `identity`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from offgridflow_pipeline.cli.db import database_command

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")

Tenant = Annotated[str, typer.Argument(help="Slug of the tenant.")]
ACTOR = "system"


@contextmanager
def _command(tenant: str) -> Iterator[Database]:
    """The database in one transaction of the tenant; a refusal becomes one line and exit code 1.

    As `ogf_api`: only the sidecar's role may read and write keys.
    """
    from offgridflow_pipeline.database.people.api_keys import UnknownKeyError
    from offgridflow_pipeline.identity.api_keys import ApiKeyError

    with database_command(ready=True, role="ogf_api") as database:
        try:
            with database.tenant(tenant) as scope:
                yield database.within(scope)
        except (ApiKeyError, UnknownKeyError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="What the key is for.")],
    permission: Annotated[list[str], typer.Option(help="Permission such as emissions:read; repeat for more.")],
    days: Annotated[int, typer.Option(help="Days until the key ends.", min=1, max=730)] = 365,
) -> None:
    """Create a key and print it: it is shown this once."""
    from offgridflow_pipeline.identity import api_keys
    from offgridflow_pipeline.identity.permissions import Permission, key_permissions
    from offgridflow_pipeline.settings import load_settings

    known = {str(found): found for found in Permission}
    if unknown := [text for text in permission if text not in known]:
        raise typer.BadParameter(
            f"{unknown[0]!r} is no permission; keys may have {', '.join(sorted(key_permissions()))}."
        )
    with _command(tenant) as database:
        created = api_keys.create(
            database,
            tenant,
            name,
            [known[text] for text in permission],
            creator=ACTOR,
            creator_permissions=key_permissions(),
            expires_at=datetime.now(UTC) + timedelta(days=days),
            at_most=load_settings().maximum_live_keys,
        )
    typer.echo(created.text)
    typer.echo(f"Shown this once. Ends {created.row.expires_at:%Y-%m-%d}.", err=True)


@app.command("list")
def list_keys(tenant: Tenant) -> None:
    """List keys: id, state, end, last use, name and permissions."""
    with _command(tenant) as database:
        rows = database.api_keys.list(tenant)
    for row in rows:
        used = f"{row.last_used_at:%Y-%m-%d %H:%M}" if row.last_used_at else "never used"
        typer.echo(
            f"{row.key_id}  {row.state:<8} {row.expires_at:%Y-%m-%d}  {used:<16}  {row.name}: "
            f"{', '.join(row.permissions)}"
        )
    if not rows:
        typer.echo(f"No keys of {tenant}.", err=True)


@app.command()
def revoke(tenant: Tenant, key_id: Annotated[str, typer.Argument(help="Id as `list` shows it.")]) -> None:
    """End a key now."""
    from offgridflow_pipeline.identity import api_keys

    with _command(tenant) as database:
        api_keys.revoke(database, tenant, key_id, by=ACTOR)
    typer.echo(f"Revoked {key_id}.")
