"""Extract assets: billing objects of a tenant's connections into the lake, as delivered.

A run reads each source object once, whatever the number of its days. A connection whose delivery is
refused keeps its old days; the other days, connections and tenants are written.
"""

from typing import Any

import dagster as dg

from offgridflow_pipeline.defs.catalog import OWNERS, asset_tags, description
from offgridflow_pipeline.defs.partition_metadata import column_schema, partition_metadata
from offgridflow_pipeline.defs.partitions import daily_backfill, day_key, day_tenant, days_by_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas


def _extract(context: dg.AssetExecutionContext, platform: Platform, table: schemas.Table) -> dg.MaterializeResult[None]:
    from offgridflow_pipeline.connectors.ingest import ingest_days
    from offgridflow_pipeline.connectors.reading import ReadLimits

    refused: dict[str, str] = {}
    written: dict[str, dict[str, Any]] = {}
    objects = 0
    for tenant, days in days_by_tenant(context.partition_keys).items():
        connections = platform.connections(tenant)
        if not connections:  # replacing the days by nothing would look like a month without bills
            reason = f"{tenant} has no connection: add one to {platform.settings.connections_path}."
            refused |= {day_key(day, tenant): reason for day in days}
            continue
        result = ingest_days(
            platform.engine,
            platform.lake,
            platform.raw_objects,
            table=table,
            tenant=tenant,
            connections=connections,
            days=days,
            run_id=context.run.run_id,
            limits=ReadLimits(platform.settings.maximum_object_bytes, platform.settings.maximum_compression_ratio),
        )
        objects += len(result.snapshots)
        for snapshot in result.snapshots:
            platform.database.source_snapshots.record(tenant=tenant, run_id=context.run.run_id, snapshot=snapshot)
        for notice in result.notices:
            context.log.warning(notice)
        refused |= {day_key(day, tenant): reason for day, reason in result.refused.items()}
        good = [day for day in days if day not in result.refused]
        rows = platform.engine.table(platform.lake.slice(tenant, table.name, good, result.lake_version))
        for key, metadata in partition_metadata(platform.engine, table, rows, good).items():
            written[f"{key}|{tenant}"] = {**metadata, "source_objects": len(result.snapshots)}
    if refused:
        for key, metadata in written.items():
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata=metadata))
        reasons = sorted(set(refused.values()))
        raise dg.Failure(
            "Refused, the old partitions stay:\n" + "\n".join(reasons),
            metadata={"refused_partitions": len(refused), "refused": sorted(refused)[:100]},
            allow_retries=False,
        )
    for key, metadata in written.items():
        context.add_asset_metadata(metadata, partition_key=key)
    context.log.info(f"{objects} source objects read")
    return dg.MaterializeResult()


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
            f"{source} of the tenant's connections; raw objects are kept content-addressed",
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
focus_billing_extract = _extract_asset("focus_billing_extract", "FOCUS 1.0 to 1.4 files")
