"""`offgridflow connections`: where a tenant's bills come from: add, test, list, pause, remove, rotate keys.

Prints and exits only. Secrets come from standard input or stay where a reference points; none is ever printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offgridflow_pipeline.cli.db import database_command

if TYPE_CHECKING:
    from pydantic import SecretStr

    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.connections import ConnectionRow, SealedSecret

app = typer.Typer(no_args_is_help=True, help="Connections: where the bills and carbon statements of a tenant are.")

Tenant = Annotated[str, typer.Argument(help="Slug of the tenant.")]
Id = Annotated[str, typer.Argument(help="Id of the connection, unique for the tenant: aws-payer.")]
#: Bytes read from standard input at most.
_LONGEST_SECRET = 64 * 2**10


@contextmanager
def _connections_command() -> Iterator[Database]:
    """The database; a refusal of a connection or secret becomes one line and exit code 1."""
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretError
    from offgridflow_pipeline.database.pipeline.connections import UnknownConnectionError
    from offgridflow_pipeline.database.statements import RecordError

    with database_command(ready=True) as database:
        try:
            yield database
        except (ConnectionConfigError, SecretError, UnknownConnectionError, RecordError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


@app.command()
def add(
    tenant: Tenant,
    connection_id: Id,
    kind: Annotated[str, typer.Option(help="cur2, cur, azure_amortized, gcp_detailed, focus, azure_carbon, ...")],
    uri: Annotated[str, typer.Option(help="s3://, az://, gs://, bigquery://, https:// or a local path.")] = "",
    role: Annotated[str, typer.Option(help="record, or reconciliation: read only to check the record.")] = "record",
    reconcile: Annotated[str, typer.Option(help="cost_explorer, cost_management, bigquery or none.")] = "none",
    role_arn: Annotated[str, typer.Option(help="AWS: role to assume.")] = "",
    external_id: Annotated[str, typer.Option(help="AWS: external id of the role; made for you when left out.")] = "",
    region: Annotated[str, typer.Option(help="AWS: region of the bucket.")] = "",
    endpoint_url: Annotated[str, typer.Option(help="AWS: another endpoint than Amazon's.")] = "",
    account_id: Annotated[list[str] | None, typer.Option(help="AWS: only this account; again for more.")] = None,
    directory_id: Annotated[str, typer.Option(help="Azure: directory (tenant) of the client.")] = "",
    client_id: Annotated[str, typer.Option(help="Azure: service principal or managed identity.")] = "",
    account_url: Annotated[str, typer.Option(help="Azure: another Blob endpoint than the account's own.")] = "",
    management_url: Annotated[str, typer.Option(help="Azure: another Resource Manager than the public one.")] = "",
    scope: Annotated[str, typer.Option(help="Azure: billing scope for Cost Management.")] = "",
    subscription: Annotated[list[str] | None, typer.Option(help="Azure: of carbon statements; again for more.")] = None,
    project: Annotated[str, typer.Option(help="Google Cloud: project that runs and pays for queries.")] = "",
    api_endpoint: Annotated[str, typer.Option(help="Google Cloud: another endpoint than Google's.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Google Cloud: send no credentials.")] = False,
    allowed_host: Annotated[list[str] | None, typer.Option(help="Https: one more host; again for more.")] = None,
    secret_ref: Annotated[str, typer.Option(help="env:NAME, file:/PATH, aws-sm:, gcp-sm: or azure-kv: ...")] = "",
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Seal the secret on standard input.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the connection of that id.")] = False,
) -> None:
    """Add a connection. Without a secret it uses the identity of the process, or the role."""
    from offgridflow_pipeline.connectors.connections import connection, to_row

    with _connections_command() as database:
        before = _before(database, tenant, connection_id)
        if role_arn and not external_id:
            external_id = _external_id(before, role_arn)
        parts: dict[str, dict[str, Any]] = {
            "aws": {
                "role_arn": role_arn, "external_id": external_id, "region": region, "endpoint_url": endpoint_url,
                "account_ids": account_id,
            },
            "azure": {
                "directory_id": directory_id, "client_id": client_id, "account_url": account_url,
                "management_url": management_url, "scope": scope, "subscriptions": subscription,
            },
            "gcp": {"project": project, "api_endpoint": api_endpoint, "anonymous": anonymous},
            "https": {"allowed_hosts": allowed_host},
        }  # fmt: skip
        wanted = connection(
            {
                "id": connection_id,
                "kind": kind,
                "uri": uri if "://" in uri or not uri else str(Path(uri).resolve()),
                "role": role,
                "reconcile": reconcile,
                "secret_ref": _reference(secret_ref, secret_stdin=secret_stdin),
                **{name: {k: v for k, v in part.items() if v} for name, part in parts.items()},
            }
        )
        sealed = _sealed(tenant, wanted) if secret_stdin else None
        with _audited(database, tenant, connection_id, "connectors:added") as bound:
            _require_room(bound, tenant, connection_id)
            bound.connections.add(tenant, connection_id, **to_row(wanted), sealed=sealed, replace=replace)
    typer.echo(f"{'Replaced' if before else 'Added'} {connection_id} of {tenant}: {kind} by {wanted.provider}.")
    if wanted.aws.external_id:
        typer.echo(f"Trust policy of {wanted.aws.role_arn}: condition sts:ExternalId = {wanted.aws.external_id}")
    typer.echo(f"Try it: offgridflow connections test {tenant} {connection_id}")


@app.command("list")
def list_connections(tenant: Tenant) -> None:
    """List the tenant's connections with their state: the last success, and what went wrong last."""
    with _connections_command() as database:
        rows = database.connections.list(tenant)
    if not rows:
        typer.echo(f"No connections yet: offgridflow connections add {tenant} ID --kind KIND --uri URI", err=True)
        return
    typer.echo(f"{'ID':<24} {'KIND':<18} {'STATUS':<8} {'LAST SUCCESS':<17} {'SECRET':<12} SOURCE")
    for row in rows:
        success = f"{row.last_success_at:%Y-%m-%d %H:%M}Z" if row.last_success_at else "never"
        secret = (row.secret_ref or "ambient").partition(":")[0]
        typer.echo(
            f"{row.connection_id:<24} {row.kind:<18} {row.status:<8} {success:<17} {secret:<12} {row.uri or 'API'}"
        )
        if row.last_error:
            typer.echo(f"  {row.last_attempt_at:%Y-%m-%d %H:%M}Z {' '.join(row.last_error.split())}")


@app.command()
def test(
    tenant: Tenant,
    connection_id: Annotated[str | None, typer.Argument(help="Only this connection; else all of them.")] = None,
) -> None:
    """Try what connections need, and say which right is missing on which resource; exit 1 when one is."""
    from offgridflow_pipeline.connectors.connections import from_row

    with _connections_command() as database:
        rows = [database.connections.get(tenant, connection_id)] if connection_id else database.connections.list(tenant)
        if not rows:
            typer.echo(f"{tenant} has no connections.", err=True)
            raise typer.Exit(1)
        failed = [row.connection_id for row in rows if not _works(database, tenant, from_row(row))]
    if failed:
        typer.echo(f"Not usable: {', '.join(failed)}.", err=True)
        raise typer.Exit(1)


@contextmanager
def _audited(database: Database, tenant: str, connection_id: str, action: str) -> Iterator[Database]:
    """A transaction of the tenant that also tells its audit log what the operator did."""
    from offgridflow_pipeline.identity.audit import Action, record

    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        yield bound
        record(bound, tenant, Action(action), actor="system", target=f"connection:{connection_id}")


def _require_room(bound: Database, tenant: str, connection_id: str) -> None:
    """Refuse one connection more than the plan has: it would be paused within the hour."""
    from offgridflow_pipeline.settings import load_settings
    from offgridflow_pipeline.subscriptions.entitlements import standing_of
    from offgridflow_pipeline.subscriptions.room import for_connection

    decision = for_connection(bound, tenant, standing_of(bound, load_settings(), tenant), connection_id)
    if not decision.allowed:
        typer.echo(f"Error: {decision.reason}", err=True)
        raise typer.Exit(1)


@app.command()
def remove(tenant: Tenant, connection_id: Id) -> None:
    """Remove a connection and its sealed secret; what was read through it stays until its days are read again."""
    with _connections_command() as database, _audited(database, tenant, connection_id, "connectors:removed") as bound:
        bound.connections.remove(tenant, connection_id)
    typer.echo(f"Removed {connection_id} of {tenant}.")


@app.command()
def pause(tenant: Tenant, connection_id: Id) -> None:
    """Stop reading a connection."""
    with _connections_command() as database, _audited(database, tenant, connection_id, "connectors:paused") as bound:
        bound.connections.pause(tenant, connection_id)
    typer.echo(f"Paused {connection_id} of {tenant}.")


@app.command()
def resume(tenant: Tenant, connection_id: Id) -> None:
    """Read a connection again."""
    with _connections_command() as database, _audited(database, tenant, connection_id, "connectors:resumed") as bound:
        _require_room(bound, tenant, connection_id)
        bound.connections.resume(tenant, connection_id)
    typer.echo(f"{connection_id} of {tenant} is read again.")


@app.command("rotate-key")
def rotate_key() -> None:
    """Wrap all sealed secrets by the first key of OFFGRIDFLOW_SECRET_KEYS; the others can be removed then."""
    from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, rotate
    from offgridflow_pipeline.settings import load_settings

    with _connections_command() as database:
        ring = KeyRing.of(load_settings())
        done = rotate(database, ring)
    typer.echo(f"{done.rewrapped} secrets wrapped by the key {ring.current}, {done.current} were already.")
    if others := [key_id for key_id in ring.keys if key_id != ring.current]:
        typer.echo(f"No secret needs the key {', '.join(others)} any more: remove it from OFFGRIDFLOW_SECRET_KEYS.")


def _before(database: Database, tenant: str, connection_id: str) -> ConnectionRow | None:
    return next((row for row in database.connections.list(tenant) if row.connection_id == connection_id), None)


def _external_id(before: ConnectionRow | None, role_arn: str) -> str:
    """The external id that the role already has here, else a new one: nobody else can make us use the role."""
    from uuid import uuid4

    aws: dict[str, Any] = before.config.get("aws", {}) if before else {}
    known = aws.get("external_id") if aws.get("role_arn") == role_arn else None
    return str(known or f"ogf-{uuid4().hex}")


def _reference(secret_ref: str, *, secret_stdin: bool) -> str:
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError
    from offgridflow_pipeline.connectors.secrets.references import SEALED

    if secret_stdin and secret_ref:
        raise ConnectionConfigError("Give either --secret-ref or --secret-stdin.")
    return SEALED if secret_stdin else secret_ref


def _sealed(tenant: str, wanted: Connection) -> SealedSecret:
    from offgridflow_pipeline.connectors.credentials import check_form
    from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, seal
    from offgridflow_pipeline.settings import load_settings

    ring = KeyRing.of(load_settings())
    secret = _standard_input()
    check_form(wanted, secret)
    return seal(ring, tenant, wanted.id, secret)


def _standard_input() -> SecretStr:
    from pydantic import SecretStr

    from offgridflow_pipeline.connectors.errors import SecretMissingError

    if sys.stdin.isatty():
        text = typer.prompt("Secret", hide_input=True)
    else:
        text = sys.stdin.read(_LONGEST_SECRET + 1).removesuffix("\n").removesuffix("\r")
    if not 0 < len(text) <= _LONGEST_SECRET:
        raise SecretMissingError(f"Standard input holds no secret of 1 to {_LONGEST_SECRET} characters: pipe it in.")
    return SecretStr(text)


def _works(database: Database, tenant: str, connection: Connection) -> bool:
    from offgridflow_pipeline.connectors.credentials import access_of
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretError
    from offgridflow_pipeline.connectors.probe import probe
    from offgridflow_pipeline.connectors.secrets.references import SecretResolver
    from offgridflow_pipeline.settings import load_settings

    typer.echo(f"{connection.id}: {connection.kind} by {connection.provider} {connection.uri}".rstrip())
    settings = load_settings()
    try:
        access = access_of(connection, SecretResolver(tenant, settings, database), settings)
    except (ConnectionConfigError, SecretError) as error:
        typer.echo(f"  FAILED  access: {error}")
        return False
    findings = probe(connection, access)
    for finding in findings:
        typer.echo(f"  {'ok    ' if finding.ok else 'FAILED'}  {finding.step}: {finding.text}")
    return all(finding.ok for finding in findings)
