"""Reading a connection's carbon statements, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.connectors.access import Access, AwsAccess, AzureAccess, GcpAccess
from offgridflow_pipeline.connectors.errors import ConnectionConfigError
from offgridflow_pipeline.connectors.providers.calls import Budget, Calls
from offgridflow_pipeline.connectors.statements import aws_carbon_export, gcp_carbon
from offgridflow_pipeline.connectors.statements.figures import Figure, Incomplete, StatementRead, as_table
from offgridflow_pipeline.connectors.statements.files import (
    AWS_SUFFIXES,
    BIGQUERY_SUFFIXES,
    downloaded,
    rows,
    statement_objects,
)
from offgridflow_pipeline.connectors.stores import open_store
from offgridflow_pipeline.months import first_day

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection

#: Kind of connection -> provider and what the column `source` says.
_ORIGINS = {
    "aws_carbon_export": ("aws", "carbon_export"),
    "aws_sustainability": ("aws", "sustainability"),
    "azure_carbon": ("azure", "carbon_optimization"),
    "gcp_carbon": ("gcp", "bigquery"),
}


def read_statements(
    connection: Connection,
    access: Access,
    months: Sequence[str],
    *,
    tenant: str,
    run_id: str,
    retrieved_at: datetime | None = None,
    budget: Budget | None = None,
) -> StatementRead:
    """What the provider states for the months (``YYYY-MM``), in every model version the source has.

    A month that the provider has nothing for yet yields no rows and a notice. `retrieved_at` is now unless given.

    Raises:
        AccessDeniedError: the right is missing; names it.
        ExpiredCredentialsError: the credentials are not accepted.
        ProviderUnavailableError: throttled or failing until the budget was spent.
        BillingObjectError: a file is not what the provider documents; names file, row, column and cure.
        DeliveryError: nothing is there, or the provider refuses the request.
        ConnectionConfigError: the connection delivers no carbon statements, or the access is to another provider.
        ValueError: a month is not written as ``YYYY-MM``.
    """
    for month in months:
        first_day(month)
    if connection.kind not in _ORIGINS:
        raise ConnectionConfigError(f"Connection {connection.id!r} ({connection.kind}) delivers bills, no statements.")
    provider, source = _ORIGINS[connection.kind]
    asked = sorted(set(months))
    opened = _open(connection, access, asked, budget) if asked else _Opened(())
    table = as_table(
        opened.figures,
        tenant=tenant,
        connection_id=connection.id,
        provider=provider,
        source=source,
        retrieved_at=retrieved_at or datetime.now(UTC),
        run_id=run_id,
    )
    stated = set(table.column("month").to_pylist())
    nothing = [
        f"Connection {connection.id} has no statement for {month} yet." for month in asked if month not in stated
    ]
    return StatementRead(table, (*opened.notices, *nothing), tuple(opened.incomplete))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A source that is about to be read; its remarks are complete when the figures are."""

    figures: Iterable[Figure]
    notices: Sequence[str] = ()
    incomplete: Sequence[Incomplete] = ()


def _open(connection: Connection, access: Access, months: Sequence[str], budget: Budget | None) -> _Opened:
    kind = connection.kind
    if kind == "aws_sustainability" and isinstance(access, AwsAccess):
        from offgridflow_pipeline.connectors.statements.aws_sustainability import aws_sustainability

        calls = Calls("sustainability", f"connection {connection.id}", budget)
        return _Opened(aws_sustainability(access, months, calls, account_ids=connection.aws.account_ids))
    if kind == "azure_carbon" and isinstance(access, AzureAccess):
        from offgridflow_pipeline.connectors.statements.azure_carbon import AzureCarbon

        calls = Calls("carbon_optimization", f"connection {connection.id}", budget)
        carbon = AzureCarbon(access, connection.azure.subscriptions, calls)
        return _Opened(carbon.figures(months), carbon.notices, carbon.incomplete)
    if kind == "gcp_carbon" and connection.uri.startswith("bigquery://") and isinstance(access, GcpAccess):
        from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, TableName

        return _Opened(gcp_carbon.carbon_footprint(BigQueryTable(TableName.of_uri(connection.uri), access), months))
    if kind == "gcp_carbon":
        return _Opened(_of_files(connection, access, months, gcp_carbon.figures, BIGQUERY_SUFFIXES))
    if kind == "aws_carbon_export":
        return _Opened(_of_files(connection, access, months, aws_carbon_export.figures, AWS_SUFFIXES))
    raise ConnectionConfigError(
        f"Connection {connection.id!r} ({kind}) cannot be read with {type(access).__name__}: "
        "give it the access of that provider."
    )


def _of_files(
    connection: Connection,
    access: Access,
    months: Sequence[str],
    figures: Callable[..., Iterator[Figure]],
    suffixes: tuple[str, ...],
) -> Iterator[Figure]:
    store = open_store(connection.uri, access)
    for item in statement_objects(store, connection.uri, months, suffixes):
        with downloaded(store, item) as path:
            yield from figures(rows(path, item.uri), months, source=item.uri)
