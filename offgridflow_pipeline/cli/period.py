"""`offgridflow period` and `offgridflow restatement`: close months, and decide about what arrives for them later.

Prints and exits only; the rules are in `database.closures` and `connectors.completeness`.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from offgridflow_pipeline.cli.db import database_command
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.months import month_days

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.changes.detection import DayRange
    from offgridflow_pipeline.database.engine import Database

period = typer.Typer(no_args_is_help=True, help="Months: close, reopen, list.")
restatement = typer.Typer(no_args_is_help=True, help="Later changes of closed months: list, approve, reject.")

Tenant = Annotated[str, typer.Argument(help="Slug of the tenant.")]
Month = Annotated[str, typer.Argument(help="Month as YYYY-MM.")]
By = Annotated[
    str, typer.Option(help="Who decides; the user of this session by default.", default_factory=getpass.getuser)
]


@contextmanager
def _command() -> Iterator[Database]:
    """The database; a refusal becomes one line and exit code 1."""
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError
    from offgridflow_pipeline.database.statements import RecordError

    with database_command(ready=True) as database:
        try:
            yield database
        except (ConnectionConfigError, RecordError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error


@contextmanager
def _audited(database: Database, tenant: str, action: Action, target: str, by: str) -> Iterator[Database]:
    """One transaction of the tenant for a decision and its event; who decided is the operator's account here."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        yield bound
        record(bound, tenant, action, actor="system", target=target, details={"by": by})


@period.command()
def close(
    tenant: Tenant,
    month: Month,
    by: By,
    incomplete: Annotated[bool, typer.Option(help="Close although days of a connection were never read.")] = False,
) -> None:
    """Close a month: its days then change through an approved restatement only."""
    with _command() as database:
        unread = _unread_days(database, tenant, month)
        for line in unread:
            typer.echo(line, err=True)
        if unread and not incomplete:
            typer.echo("Error: read these days first, or close with --incomplete.", err=True)
            raise typer.Exit(1)
        with _audited(database, tenant, Action.PERIOD_CLOSED, f"period:{month}", by) as bound:
            bound.period_closures.close(tenant, month, by=by)
    typer.echo(f"Closed {month} of {tenant}.")


@period.command()
def reopen(tenant: Tenant, month: Month, by: By) -> None:
    """Reopen a closed month; what was proposed for it meanwhile counts as approved."""
    with _command() as database, _audited(database, tenant, Action.PERIOD_REOPENED, f"period:{month}", by) as bound:
        bound.period_closures.reopen(tenant, month, by=by)
    typer.echo(f"Reopened {month} of {tenant}.")


@period.command("list")
def list_closures(tenant: Tenant) -> None:
    """List every closure: month, when and by whom closed, when and by whom reopened."""
    with _command() as database:
        closures = database.period_closures.list(tenant)
    for row in closures:
        reopened = f"reopened {row.reopened_at:%Y-%m-%d %H:%M} by {row.reopened_by}" if row.reopened_at else "closed"
        typer.echo(f"{row.month}  closed {row.closed_at:%Y-%m-%d %H:%M} by {row.closed_by:<16} {reopened}")
    if not closures:
        typer.echo(f"No month of {tenant} was ever closed.", err=True)


@restatement.command("list")
def list_restatements(
    tenant: Tenant, everything: Annotated[bool, typer.Option("--all", help="Rejected and applied ones too.")] = False
) -> None:
    """List restatements: id, status, connection, days, reason and decision."""
    from offgridflow_pipeline.database.pipeline.closures import EVERY_STATUS, UNFINISHED

    with _command() as database:
        rows = database.restatements.list(tenant, EVERY_STATUS if everything else UNFINISHED)
    for row in rows:
        decision = f"by {row.decided_by} on {row.decided_at:%Y-%m-%d %H:%M}" if row.decided_at else "to be decided"
        typer.echo(
            f"{row.restatement_id}  {row.status:<8}  {row.connection_id:<20} "
            f"{row.first_day} to {row.last_day}  {row.reason}, {decision}"
        )
    if not rows:
        typer.echo(f"No restatement of {tenant} waits.", err=True)


@restatement.command()
def approve(
    tenant: Tenant, restatement_id: Annotated[UUID, typer.Argument(help="Id as `list` shows it.")], by: By
) -> None:
    """Take the change in: the sensor launches its days within a minute; the month stays closed."""
    target = f"restatement:{restatement_id}"
    with _command() as database, _audited(database, tenant, Action.RESTATEMENT_APPROVED, target, by) as bound:
        bound.restatements.approve(tenant, restatement_id, by=by)
    typer.echo(f"Approved {restatement_id}.")


@restatement.command()
def reject(
    tenant: Tenant, restatement_id: Annotated[UUID, typer.Argument(help="Id as `list` shows it.")], by: By
) -> None:
    """Leave the month as it is; the same delivery is not proposed again, a newer one is."""
    target = f"restatement:{restatement_id}"
    with _command() as database, _audited(database, tenant, Action.RESTATEMENT_REJECTED, target, by) as bound:
        bound.restatements.reject(tenant, restatement_id, by=by)
    typer.echo(f"Rejected {restatement_id}.")


def _unread_days(database: Database, tenant: str, month: str) -> list[str]:
    """One line per connection and table with days of the month that were never committed."""
    from offgridflow_pipeline.connectors.changes.completeness import missing_days
    from offgridflow_pipeline.connectors.connections import connections_of
    from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS

    days = _days_of(month)
    found: list[str] = []
    feeds = [c for c in connections_of(database, tenant) if c.is_feed and c.role == "record"]
    for table in sorted({EXTRACT_TABLES[FEEDS[c.kind].dialect] for c in feeds}):
        mine = [c.id for c in feeds if EXTRACT_TABLES[FEEDS[c.kind].dialect] == table]
        missing = missing_days(database.day_digests.read(tenant, table, days), mine, days[0], days[-1])
        found += [f"{name}: never read: {_told(gaps.unread)}" for name, gaps in missing.items() if gaps.unread]
    return found


def _days_of(month: str) -> list[date]:
    try:
        return month_days(month)
    except ValueError:
        raise typer.BadParameter(f"{month!r} is not a month such as 2026-10.") from None


def _told(days: tuple[DayRange, ...]) -> str:
    return ", ".join(str(r.first) if r.first == r.last else f"{r.first} to {r.last}" for r in days)
