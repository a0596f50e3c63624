"""Control totals: what the providers' own billing APIs say a day cost, to hold the bills we read against.

They never enter the ledger (billing-feeds.md 1.2). One module per API, each asked once for all days together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.connectors.access import Access, AwsAccess, AzureAccess, GcpAccess
from offgridflow_pipeline.connectors.control_totals.totals import as_table
from offgridflow_pipeline.connectors.errors import ConnectionConfigError
from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.connectors.providers.calls import Budget, Calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.control_totals.cost_management import Dataset
    from offgridflow_pipeline.connectors.control_totals.totals import Total

#: What `Connection.reconcile` names -> what the column `source` says.
_SOURCES = {
    "cost_explorer": "cost_explorer",
    "cost_management": "cost_management_query",
    "bigquery": "bigquery",
}


def control_totals(
    connection: Connection,
    access: Access,
    days: Sequence[date],
    *,
    tenant: str,
    retrieved_at: datetime,
    watermark: str | None = None,
    budget: Budget | None = None,
) -> pa.Table:
    """What the API that `connection.reconcile` names says the days cost, as rows of `schemas.CONTROL_TOTALS`.

    Days without cost have no row; a connection that is not reconciled has none at all. All days are one request
    (and its pages). `watermark` is the version of the BigQuery delivery that the totals are to be held against.

    Raises:
        AccessDeniedError: the right is missing; names it.
        ExpiredCredentialsError: the credentials are not accepted.
        ProviderUnavailableError: throttled or failing until the budget was spent.
        ConnectionConfigError: the access is one to another provider.
        DeliveryError: the API refuses the request, or answers with something else than it documents.
    """
    source = connection.reconcile
    found: Iterable[Total] = ()
    if source != "none" and days:
        found = _found(connection, access, days, retrieved_at.date(), watermark, budget)
    return as_table(
        found,
        tenant=tenant,
        connection_id=connection.id,
        source=_SOURCES.get(source, source),
        retrieved_at=retrieved_at,
    )


def _found(
    connection: Connection,
    access: Access,
    days: Sequence[date],
    asked_on: date,
    watermark: str | None,
    budget: Budget | None,
) -> Iterable[Total]:
    source = connection.reconcile
    if source == "cost_explorer" and isinstance(access, AwsAccess):
        from offgridflow_pipeline.connectors.control_totals.cost_explorer import cost_explorer

        calls = Calls("cost_explorer", f"connection {connection.id}", budget)
        return cost_explorer(access, days, calls, account_ids=connection.aws.account_ids)
    if source == "cost_management" and isinstance(access, AzureAccess):
        from offgridflow_pipeline.connectors.control_totals.cost_management import cost_management

        calls = Calls("cost_management", f"scope {connection.azure.scope} of connection {connection.id}", budget)
        dataset: Dataset = "AmortizedCost" if connection.kind == "azure_amortized" else "ActualCost"
        return cost_management(access, connection.azure.scope, days, calls, asked_on=asked_on, dataset=dataset)
    if source == "bigquery" and isinstance(access, GcpAccess):
        from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, TableName
        from offgridflow_pipeline.connectors.control_totals.billing_table import billing_table

        table = BigQueryTable(TableName.of_uri(connection.uri), access)
        return billing_table(table, FEEDS[connection.kind].dialect, days, watermark=watermark)
    raise ConnectionConfigError(
        f"Connection {connection.id!r} is reconciled by {source}, but its access is {type(access).__name__}: "
        "give it the access of that provider."
    )
