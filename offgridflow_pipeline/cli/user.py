"""`offgridflow user`: people, as the operator makes, disables and helps them. No HTTP; the work is in `identity`.

Passwords are read from standard input or made, and a made one is printed once; nothing else secret is ever printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from offgridflow_pipeline.cli.db import database_command

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

app = typer.Typer(no_args_is_help=True, help="People: who signs in, in which organisation, as what.")

Email = Annotated[str, typer.Argument(help="Address of the person.")]
_LONGEST_PASSWORD = 1025


@contextmanager
def _people_command(role: Literal["ogf_api", "ogf_pipeline"] = "ogf_api") -> Iterator[Database]:
    """The database in the role that may do it; a refusal becomes one line and exit code 1."""
    from offgridflow_pipeline.database.statements import RecordError
    from offgridflow_pipeline.identity.envelope import EnvelopeError
    from offgridflow_pipeline.identity.refusals import RefusedError

    with database_command(ready=True, role=role) as database:
        try:
            yield database
        except (RefusedError, RecordError, EnvelopeError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


@app.command()
def add(
    email: Email,
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    tenant: Annotated[str, typer.Option(help="Make them a member of this tenant.")] = "",
    role: Annotated[str, typer.Option(help="owner, admin, engineer, analyst, auditor, billing or viewer.")] = "owner",
    days: Annotated[int, typer.Option(min=1, max=366, help="An auditor's access ends after so many days.")] = 90,
    locale: Annotated[str, typer.Option(help="en or de.")] = "en",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password.")] = False,
) -> None:
    """Add a person. Without --password-stdin a password is made and printed, once."""
    from offgridflow_pipeline.identity import accounts
    from offgridflow_pipeline.identity.permissions import ROLES

    if tenant and role not in ROLES:
        typer.echo(f"Error: no role {role!r}: choose from {', '.join(ROLES)}.", err=True)
        raise typer.Exit(1)
    password = _password() if password_stdin else ""
    with _people_command() as database:
        if tenant:
            database.tenants.get(tenant)
        made = accounts.add(database, email, name, locale=locale, password=password)
        if tenant:
            ends = datetime.now(UTC) + timedelta(days=days) if role == "auditor" else None
            accounts.add_member(database, made.user_id, tenant, role, expires_at=ends)
    typer.echo(f"Added {email} ({made.user_id}){f', {role} of {tenant}' if tenant else ''}.")
    if not password:
        typer.echo(f"Password, shown once: {made.password}")


@app.command("list")
def list_users() -> None:
    """List everybody: status, platform role, memberships, address and name."""
    with _people_command("ogf_pipeline") as database:
        rows = database.users.directory()
    for row in rows:
        tenants = ", ".join(row.tenants) or "-"
        typer.echo(f"{row.email:<36} {row.status:<9} {row.platform_role or '-':<18} {tenants:<28} {row.display_name}")
    if not rows:
        typer.echo("No users yet: offgridflow user add EMAIL NAME", err=True)


@app.command()
def disable(email: Email) -> None:
    """Disable a person: their sessions end at once, and the API keys that they made."""
    from offgridflow_pipeline.identity import accounts

    with _people_command() as database:
        accounts.set_status(database, accounts.find(database, email).user_id, active=False)
    typer.echo(f"Disabled {email}; their sessions and API keys have ended.")


@app.command()
def enable(email: Email) -> None:
    """Let a disabled person sign in again."""
    from offgridflow_pipeline.identity import accounts

    with _people_command("ogf_pipeline") as directory:
        found = accounts.listed(directory, email)
    with _people_command() as database:
        accounts.set_status(database, found.user_id, active=True)
    typer.echo(f"Enabled {email}.")


@app.command()
def erase(
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase a person who asks for it (GDPR, article 17): what names them goes for good, what they did stays."""
    from offgridflow_pipeline.identity import accounts, erasure

    with _people_command("ogf_pipeline") as directory:
        found = accounts.listed(directory, email)
        everywhere = directory.tenants.list(inactive=True)
    if not yes:
        typer.confirm(f"Erase {found.email}, {found.display_name}? This cannot be undone", abort=True)
    # First what the operator's role alone may do: afterwards the address is not known, and staff would be nameless.
    with _people_command("ogf_pipeline") as operator:
        if found.platform_role is not None:
            accounts.set_platform_role(operator, found.user_id, None)
            typer.echo(f"{found.email} is {found.platform_role} no more.")
        operator.erasures.payloads(found.email)
    with _people_command() as database:
        erasure.erase(database, found.user_id, everywhere)
    typer.echo(f"Erased; audit logs know the person as user:{found.user_id}.")


@app.command("set-password")
def set_password(
    email: Email,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password.")] = False,
) -> None:
    """Give a person a new password and end their sessions. Without --password-stdin it is made and printed, once."""
    from offgridflow_pipeline.identity import accounts

    password = _password() if password_stdin else ""
    with _people_command() as database:
        given = accounts.set_password(database, accounts.find(database, email).user_id, password)
    typer.echo(f"{email} has a new password; their sessions have ended.")
    if not password:
        typer.echo(f"Password, shown once: {given}")


@app.command("reset-second-factor")
def reset_second_factor(email: Email) -> None:
    """Forget a lost second factor. Check first, by other means, that it is them who ask."""
    from offgridflow_pipeline.identity import accounts

    with _people_command() as database:
        removed = accounts.remove_second_factor(database, accounts.find(database, email).user_id)
    typer.echo(f"{email} signs in with the password alone now." if removed else f"{email} has no second factor.")


@app.command("platform-role")
def platform_role(
    email: Email,
    role: Annotated[str, typer.Argument(help="platform_operator, platform_engineer or none.")],
) -> None:
    """Make a person platform staff (the Dagster UI), or no more."""
    from offgridflow_pipeline.identity import accounts

    if role not in {"platform_operator", "platform_engineer", "none"}:
        typer.echo(f"Error: no platform role {role!r}: platform_operator, platform_engineer or none.", err=True)
        raise typer.Exit(1)
    with _people_command("ogf_pipeline") as database:
        accounts.set_platform_role(database, accounts.find(database, email).user_id, None if role == "none" else role)
    typer.echo(f"{email}: {role}.")


@app.command("break-glass")
def break_glass(
    email: Email,
    tenant: Annotated[str, typer.Argument(help="Slug of the tenant to read.")],
    reason: Annotated[str, typer.Option(help="Why: the tenant reads it in its audit log.")] = "",
    hours: Annotated[float, typer.Option(min=0.1, max=24)] = 2.0,
    revoke: Annotated[bool, typer.Option("--revoke", help="End it now.")] = False,
) -> None:
    """Let platform staff read a tenant for hours; told in that tenant's audit log."""
    from offgridflow_pipeline.identity import accounts
    from offgridflow_pipeline.identity import break_glass as grants

    with _people_command("ogf_pipeline") as database:
        person = accounts.find(database, email)
        if revoke:
            ended = grants.revoke(database, tenant, person.user_id)
            typer.echo(f"{email}: {ended} grants in {tenant} ended.")
            return
        made = grants.grant(database, tenant, person.user_id, reason=reason, lifetime=timedelta(hours=hours))
    typer.echo(f"{email} may read {tenant} until {made.expires_at:%Y-%m-%d %H:%M} UTC.")


@app.command()
def invite(
    tenant: Annotated[str, typer.Argument(help="Slug of the tenant.")],
    email: Email,
    role: Annotated[str, typer.Option(help="owner, admin, engineer, analyst, auditor, billing or viewer.")] = "owner",
    days: Annotated[int, typer.Option(min=1, max=366, help="An auditor's access ends after so many days.")] = 90,
    locale: Annotated[str, typer.Option(help="Language of the mail: en or de.")] = "en",
) -> None:
    """Invite somebody by mail; the sidecar sends it."""
    from offgridflow_pipeline.identity import invitations

    ends = datetime.now(UTC) + timedelta(days=days) if role == "auditor" else None
    with _people_command() as database:
        row = invitations.invite_as_operator(database, tenant, email=email, role=role, expires_at=ends, language=locale)
    typer.echo(f"Invited {row.email} into {tenant} as {role}; the link is good until {row.expires_at:%Y-%m-%d}.")


@app.command("rotate-key")
def rotate_key() -> None:
    """Wrap the keys of second factors by the current key of OFFGRIDFLOW_SECRET_KEYS; see also connections."""
    from offgridflow_pipeline.identity import second_factor
    from offgridflow_pipeline.identity.envelope import KeyRing
    from offgridflow_pipeline.settings import load_settings

    with _people_command("ogf_pipeline") as directory:
        everybody = [row.user_id for row in directory.users.directory()]
    with _people_command() as database:
        done = second_factor.rotate_keys(database, KeyRing.of(load_settings()), everybody)
    typer.echo(f"Rotated {done} second factors.")


def _password() -> str:
    """One line of standard input."""
    line = sys.stdin.readline(_LONGEST_PASSWORD).rstrip("\r\n")
    if not line:
        typer.echo("Error: no password on standard input.", err=True)
        raise typer.Exit(1)
    return line
