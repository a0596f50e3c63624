"""What the providers themselves state: daily control totals of their bills, and their carbon statements.

Neither enters the ledger. Control totals are held against it by checks; statements are kept in all their versions.
A connection that cannot be asked does not hold up the others: its error stands on the connection and in a check.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.catalog import lake_asset
from offgridflow_pipeline.defs.partitions import (
    daily_backfill,
    day_tenant,
    days_by_tenant,
    month_tenant,
    monthly_backfill,
    months_by_tenant,
)
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import pyarrow as pa

    from offgridflow_pipeline.connectors.connections import Connection

EXTRACTS = ("aws_billing_extract", "azure_billing_extract", "gcp_billing_extract", "focus_billing_extract")
_Ask = Callable[[dg.AssetExecutionContext, Platform, str, "Connection"], "pa.Table"]


@lake_asset(
    "control_totals",
    group="1_ingest",
    partitions_def=day_tenant,
    backfill_policy=daily_backfill,
    deps=EXTRACTS,
    pool="provider_cost_apis",
    on_failure="The connection's last error names the missing permission or the API that did not answer.",
)
def control_totals(context: dg.AssetExecutionContext, platform: Platform) -> dict[str, Any]:
    """Billed cost per account, day and currency as Cost Explorer, the Query API or BigQuery state it.

    One request (and its pages) per connection for all days of the run. Connections that reconcile with nothing
    have no rows.
    """
    import pyarrow as pa

    empty = schemas.CONTROL_TOTALS.no_rows()
    found: dict[str, Any] = {}
    for tenant, days in days_by_tenant(context.partition_keys).items():
        asked = [c for c in platform.connections(tenant) if c.reconcile != "none" and c.role == "record"]
        answers = _answers(context, platform, tenant, asked, partial(_totals, days=days))
        found[tenant] = platform.engine.register("control_totals", pa.concat_tables([empty, *answers]))
    return found


@lake_asset(
    "provider_statements",
    group="5_reconcile",
    partitions_def=month_tenant,
    backfill_policy=monthly_backfill,
    pool="provider_carbon_apis",
    on_failure="Earlier versions stay. The connection's last error names permission, month or file. Re-run the month.",
)
def provider_statements(context: dg.AssetExecutionContext, platform: Platform) -> dict[str, Any]:
    """Carbon statements of the providers for the month, every model version beside the earlier ones."""
    from offgridflow_pipeline.inventory.statements import appended

    ((tenant, (month,)),) = months_by_tenant(context.partition_keys).items()
    table = schemas.PROVIDER_STATEMENTS
    rows = platform.engine.to_arrow(platform.engine.table(platform.lake.slice(tenant, table.name, [month])))
    asked = [c for c in platform.connections(tenant) if not c.is_feed]
    for answer in _answers(context, platform, tenant, asked, partial(_statements, month=month)):
        rows = appended(rows, answer)
    return {tenant: platform.engine.register(table.name, rows)}


def _answers(
    context: dg.AssetExecutionContext, platform: Platform, tenant: str, asked: "Iterable[Connection]", ask: _Ask
) -> "list[pa.Table]":
    """What the connections answer; how each fared is recorded on it."""
    from offgridflow_pipeline.connectors.connections import record_outcome
    from offgridflow_pipeline.connectors.errors import (
        BillingObjectError,
        ConnectionConfigError,
        DeliveryError,
        SecretError,
    )
    from offgridflow_pipeline.connectors.secrets.shapes import redacted

    found = []
    for connection in asked:
        try:
            found.append(ask(context, platform, tenant, connection))
        except (BillingObjectError, ConnectionConfigError, DeliveryError, SecretError) as error:
            context.log.warning(redacted(f"{connection.id}: {error}"))
            record_outcome(platform.database, tenant, connection.id, error)
        else:
            record_outcome(platform.database, tenant, connection.id)
    return found


def _totals(
    _: dg.AssetExecutionContext, platform: Platform, tenant: str, connection: "Connection", *, days: list[date]
) -> "pa.Table":
    from offgridflow_pipeline.connectors.control_totals import control_totals as totals

    # BigQuery grows while we read: its total is asked for the rows that were read, and no later ones.
    read = platform.database.source_snapshots.latest(tenant, connection.id, days[0])
    return totals(
        connection,
        platform.access(tenant, connection),
        days,
        tenant=tenant,
        retrieved_at=datetime.now(UTC),
        watermark=read["version"] if read else None,
    )


def _statements(
    context: dg.AssetExecutionContext, platform: Platform, tenant: str, connection: "Connection", *, month: str
) -> "pa.Table":
    from offgridflow_pipeline.connectors.secrets.shapes import redacted
    from offgridflow_pipeline.connectors.statements import read_statements

    read = read_statements(
        connection, platform.access(tenant, connection), [month], tenant=tenant, run_id=context.run.run_id
    )
    for notice in (*read.notices, *(f"{part.part}, {part.month}: {part.reason}" for part in read.incomplete)):
        context.log.warning(redacted(f"{connection.id}: {notice}"))
    return read.rows
