"""Extract assets: billing objects of a tenant's connections into the lake, as delivered.

A run lists each source once and reads each of its objects once, whatever the number of its days. A connection
whose delivery is refused keeps its old days; the other days, connections and tenants are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.catalog import OWNERS, asset_tags, description
from offgridflow_pipeline.defs.closed_periods import refuse_closed, restated_connection
from offgridflow_pipeline.defs.job_runs import CONNECTION_TAG
from offgridflow_pipeline.defs.partition_metadata import column_schema, partition_metadata
from offgridflow_pipeline.defs.partitions import daily_backfill, day_key, day_tenant, days_by_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.ingest import Ingested


@dataclass
class _Outcome:
    """Partition keys of a run: refused with the reason, or done with the metadata."""

    refused: dict[str, str] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)


def _extract(context: dg.AssetExecutionContext, platform: Platform, table: schemas.Table) -> dg.MaterializeResult[None]:
    outcome = _Outcome()
    for tenant, days in days_by_tenant(context.partition_keys).items():
        _extract_tenant(context, platform, table, tenant, days, outcome)
    if outcome.refused:
        for key, metadata in outcome.done.items():
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata))
        reasons = sorted(set(outcome.refused.values()))
        raise dg.Failure(
            "Refused, the old partitions stay:\n" + "\n".join(reasons),
            metadata={"refused_partitions": len(outcome.refused), "refused": sorted(outcome.refused)[:100]},
            allow_retries=False,
        )
    for key, metadata in outcome.done.items():
        context.add_asset_metadata(metadata, partition_key=key)
    return dg.MaterializeResult()


def _extract_tenant(
    context: dg.AssetExecutionContext,
    platform: Platform,
    table: schemas.Table,
    tenant: str,
    days: Sequence[date],
    outcome: _Outcome,
) -> None:
    from offgridflow_pipeline.connectors.ingest import ingest_days
    from offgridflow_pipeline.connectors.reading.extracts import ReadLimits
    from offgridflow_pipeline.connectors.secrets.shapes import redacted

    closed = refuse_closed(platform.database, tenant, days, context.run.tags)
    outcome.refused |= {day_key(day, tenant): reason for day, reason in closed.items()}
    if not (open_days := [day for day in days if day not in closed]):
        return
    only = restated_connection(platform.database, tenant, open_days, context.run.tags)
    only = only or context.run.tags.get(CONNECTION_TAG)
    feeds = [c for c in platform.connections(tenant) if c.is_feed and c.role == "record" and only in (None, c.id)]
    if not feeds:  # replacing the days by nothing would look like a month without bills
        reason = f"{tenant} has no connection that is to be read: `offgridflow connections add {tenant} ...`."
        outcome.refused |= {day_key(day, tenant): reason for day in open_days}
        return
    paused = [row for row in platform.database.connections.list(tenant) if row.status == "paused"]
    result = ingest_days(
        platform.engine,
        platform.lake,
        platform.raw_objects,
        table=table,
        tenant=tenant,
        connections=feeds,
        open_source=lambda connection: platform.source(tenant, connection),
        days=open_days,
        run_id=context.run.run_id,
        paused=[row.connection_id for row in paused if row.role == "record"],
        only=only,
        limits=ReadLimits(platform.settings.maximum_object_bytes, platform.settings.maximum_compression_ratio),
    )
    good = [day for day in open_days if day not in result.refused]
    _record(platform, table, tenant, good, result, context.run.run_id)
    for notice in result.notices:
        context.log.warning(notice)
    outcome.refused |= {day_key(day, tenant): redacted(reason) for day, reason in result.refused.items()}
    rows = platform.engine.table(platform.lake.slice(tenant, table.name, good, result.lake_version))
    for key, metadata in partition_metadata(platform.engine, table, rows, good).items():
        day = date.fromisoformat(key)
        billing = {connection for connection, billed in result.digests if billed == day}
        outcome.done[f"{key}|{tenant}"] = {
            **metadata,
            "source_objects": len(result.snapshots),
            "rows_changed": int(day in result.committed),
            "connections_without_rows": len(result.versions.keys() - billing),
        }


def _record(
    platform: Platform, table: schemas.Table, tenant: str, days: Sequence[date], result: "Ingested", run_id: str
) -> None:
    """After the commit: what was read, how each connection fared, and the state of its source."""
    from offgridflow_pipeline.connectors.connections import record_outcome

    database = platform.database
    for snapshot in result.snapshots:
        database.source_snapshots.record(tenant=tenant, run_id=run_id, snapshot=snapshot)
    database.day_digests.record(
        tenant,
        table.name,
        days=days,
        connections=result.versions,
        kept=result.kept,
        digests=result.digests,
        run_id=run_id,
    )
    for connection_id, units in result.states.items():
        observed = {unit: fingerprint.document() for unit, fingerprint in units.items()}
        database.feed_states.advance(tenant, connection_id, observed, observed_at=result.observed_at, run_id=run_id)
    for connection_id, failure in result.failures.items():
        record_outcome(database, tenant, connection_id, failure)


def _extract_asset(name: str, source: str) -> dg.AssetsDefinition:
    table = schemas.table(name)

    @dg.asset(
        name=name,
        group_name="1_ingest",
        partitions_def=day_tenant,
        backfill_policy=daily_backfill,
        io_manager_key="lake_io",
        kinds={"deltalake", "csv", "parquet"},
        owners=OWNERS,
        tags=asset_tags("medium", pii=True),
        description=description(
            table.meaning,
            "day x tenant",
            f"{source}, through the tenant's connections; raw objects are kept content-addressed",
            "The message names file, row, column and cure. Old days stay. Mend the delivery, re-run the days.",
        ),
        metadata={"dagster/column_schema": column_schema(table), "lake/key": ", ".join(table.key)},
        retry_policy=dg.RetryPolicy(
            max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
        ),
    )
    def extract(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
        return _extract(context, platform, table)

    return extract


aws_billing_extract = _extract_asset("aws_billing_extract", "Legacy CUR and CUR 2.0 deliveries")
azure_billing_extract = _extract_asset("azure_billing_extract", "Actual and amortized cost exports")
gcp_billing_extract = _extract_asset("gcp_billing_extract", "Standard and detailed billing exports")
focus_billing_extract = _extract_asset("focus_billing_extract", "FOCUS 1.0 to 1.4 files and tables of any provider")
