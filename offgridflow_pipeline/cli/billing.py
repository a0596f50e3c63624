"""`offgridflow billing`: the inbox of Stripe's events, standings of tenants, and their comparison with Stripe.

Prints and exits only; the work is in `subscriptions` and `database`. Events that are made due here are consumed by the
sensor `stripe_inbox` within a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from offgridflow_pipeline.cli.db import database_command

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.money.external_events import InboxEvent
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway

app = typer.Typer(no_args_is_help=True, help="Subscriptions: Stripe's events, standings of tenants, drift.")

#: Dead events that `status` lists.
LISTED = 20
_WITHOUT_STRIPE = "Stripe is not configured: nobody subscribes here and nothing is limited. Set STRIPE_SECRET_KEY."


@app.command()
def status(
    tenant: Annotated[str | None, typer.Argument(help="Slug of one tenant; left out: every customer.")] = None,
) -> None:
    """Show the inbox by state, the oldest event that is due, events that were given up, and standings of tenants."""
    from offgridflow_pipeline.settings import load_settings
    from offgridflow_pipeline.subscriptions.plans import is_configured

    with database_command(ready=True) as database:
        standings = _standings(database, tenant)
        inbox = database.external_events
        counts, oldest, dead = inbox.counts(), inbox.oldest_due(), inbox.given_up(LISTED)
    if not is_configured(load_settings()):
        typer.echo(_WITHOUT_STRIPE, err=True)
    typer.echo("Inbox: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    typer.echo(f"Oldest due: {_line(oldest)}" if oldest else "No event is due.")
    for event in dead:
        typer.echo(f"Dead: {_line(event)}: {event.last_error}")
    if dead:
        typer.echo("Mend the cause, then: offgridflow billing replay EVENT_ID", err=True)
    for line in standings:
        typer.echo(line)
    if not standings:
        typer.echo("No tenant is a customer yet.", err=True)


@app.command()
def replay(event_id: Annotated[str, typer.Argument(help="Id as `status` and Stripe show it: evt_...")]) -> None:
    """Make a settled event due again: its customer is fetched and applied anew."""
    with database_command(ready=True) as database:
        replayed = database.external_events.replay(event_id)
    if not replayed:
        _fail(
            f"No settled event {event_id}: it waits already (`offgridflow billing status`), or it never arrived "
            "(`offgridflow billing backfill --since DATE`)."
        )
    typer.echo(f"{event_id} is due again.")


@app.command()
def backfill(
    since: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="First day, UTC.")],
) -> None:
    """Put Stripe's events since a day into the inbox; from before 30 days ago, fetch every customer as well."""
    from offgridflow_pipeline.subscriptions import reconciliation

    with _stripe() as (database, gateway, settings):
        now = datetime.now(UTC)
        found = reconciliation.backfill(database, gateway, settings, since.replace(tzinfo=UTC), now)
    typer.echo(f"{found.listed} events listed, {found.added} of them were new, {found.unreadable} unreadable.")
    if found.refetched or found.failed:
        typer.echo(f"{found.refetched} customers fetched.")
    if found.failed:
        _fail(f"Not fetched: {', '.join(found.failed)}. `offgridflow billing reconcile` says why.")


@app.command()
def reconcile() -> None:
    """Hold every tenant's plan and state against Stripe's; exit 1 when one differs. Changes nothing."""
    from offgridflow_pipeline.subscriptions.reconciliation import drift

    with _stripe() as (database, gateway, settings):
        found = drift(database, gateway, settings, datetime.now(UTC))
    for difference in found:
        typer.echo(difference.text)
    if found:
        _fail(
            f"Billing drift = {len(found)}. What has not been consumed yet is drift too: look at `offgridflow billing "
            "status`; then `offgridflow billing backfill --since DATE`, or `replay` an event of the customer."
        )
    typer.echo("Billing drift = 0.")


@app.command()
def relink(
    tenant: Annotated[str, typer.Argument(help="Slug of the tenant.")],
    customer: Annotated[str, typer.Argument(help="Id of the customer that it is from now on, at Stripe: cus_...")],
) -> None:
    """Make a customer the tenant's when the one it has is unknown to our key; plan and state follow at once."""
    from offgridflow_pipeline.subscriptions.relinking import RelinkError
    from offgridflow_pipeline.subscriptions.relinking import relink as relinked

    with _stripe() as (database, gateway, settings):
        try:
            found = relinked(database, gateway, settings, tenant, customer, datetime.now(UTC))
        except RelinkError as error:
            _fail(str(error))
        (line,) = _standings(database, tenant)
    typer.echo(f"{tenant} was {found.before or 'no customer'} and is {customer} now.")
    if found.marked:
        typer.echo(f"{customer} bore no metadata of ours: tenant, environment and service were written at Stripe.")
    typer.echo(line)


@contextmanager
def _stripe() -> Iterator[tuple[Database, StripeGateway, Settings]]:
    """Database, Stripe and settings; what Stripe refuses becomes one line and exit code 1."""
    from offgridflow_pipeline.settings import load_settings
    from offgridflow_pipeline.subscriptions import gateway
    from offgridflow_pipeline.subscriptions.plans import is_configured

    with database_command(ready=True) as database:
        settings = load_settings()
        if not is_configured(settings):
            _fail(_WITHOUT_STRIPE)
        try:
            yield database, gateway.StripeGateway(settings), settings
        except gateway.STRIPE_ERRORS as error:
            _fail(f"{error} Nothing is lost: ask again when Stripe answers.")


def _standings(database: Database, tenant: str | None) -> list[str]:
    """One line per customer; of one tenant, whether it is a customer or not."""
    customers = database.subscriptions.customers()
    lines = []
    for slug in [tenant] if tenant else sorted(customers):
        found = database.subscriptions.standing(slug)
        since = f"since {found.since:%Y-%m-%d}" if found.since else "from the start"
        lines.append(f"{slug:<24} {found.plan:<10} {found.state:<10} {since:<16} {customers.get(slug, 'no customer')}")
    return lines


def _line(event: InboxEvent) -> str:
    waited = f"received {event.received_at:%Y-%m-%d %H:%M}"
    return f"{event.external_id}  {event.event_type}  {event.customer_id or '-'}  {waited}  attempts {event.attempts}"


def _fail(message: str) -> None:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(1)
