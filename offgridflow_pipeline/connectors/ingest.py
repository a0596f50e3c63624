"""Days of a tenant's bills into the lake: list, fetch, read each object once, replace the days.

A refused delivery leaves its days as they were; other periods of the tenant are written. Nothing is
visible before the one commit that replaces the days.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries import Delivery, survey
from offgridflow_pipeline.connectors.errors import BillingObjectError, DeliveryError
from offgridflow_pipeline.connectors.location import download
from offgridflow_pipeline.connectors.reading import LocalObject, ReadLimits, extracts, reading_errors
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.objects import RawObjects
    from offgridflow_pipeline.lake.tables import Lake

KINDS = {"aws_billing_extract": ("cur", "cur2"), "focus_billing_extract": ("focus",)}


@dataclass
class Ingested:
    """What an ingest did: objects read, days refused with the reason, notices, and the table's version."""

    snapshots: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[date, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    lake_version: int | None = None


@dataclass(frozen=True, slots=True)
class _Fetched:
    stored: StoredObject
    local: LocalObject
    size_bytes: int


def ingest_days(
    engine: Engine,
    lake: Lake,
    raw_objects: RawObjects,
    *,
    table: schemas.Table,
    tenant: str,
    connections: Sequence[Connection],
    days: Sequence[date],
    run_id: str,
    limits: ReadLimits | None = None,
) -> Ingested:
    """Replace the tenant's days in the extract table by what its connections deliver.

    Days without any row become empty. Each source object is read once, however many days are asked for.
    """
    result = Ingested()
    mine = [c for c in connections if c.kind in KINDS[table.name]]
    with tempfile.TemporaryDirectory(prefix="ogf-fetch-") as folder:
        parts: list[ir.Table] = []
        for connection in mine:
            try:
                found, unusable = survey(connection, days)
            except DeliveryError as error:
                result.refused |= dict.fromkeys(days, str(error))
                continue
            for period in unusable:
                result.refused |= dict.fromkeys((d for d in days if period.touches([d])), period.reason)
            for delivery in found:
                try:
                    parts.append(
                        _read(engine, raw_objects, delivery, table, tenant, run_id, limits, Path(folder), result)
                    )
                except (BillingObjectError, DeliveryError) as error:
                    touched = [d for d in days if delivery.touches([d])]
                    result.refused |= dict.fromkeys(touched, str(error))
        good = [day for day in days if day not in result.refused]
        if good:
            result.lake_version = lake.replace(
                tenant, table.name, good, _rows(engine, table, parts, good), run_id=run_id
            )
    return result


def _rows(engine: Engine, table: schemas.Table, parts: Sequence[ir.Table], days: Sequence[date]) -> Any:
    rows = _united(engine, table, parts)
    return engine.reader(rows.filter(rows.usage_date.isin(list(days))), table)


def _united(engine: Engine, table: schemas.Table, parts: Sequence[ir.Table]) -> ir.Table:
    rows = parts[0] if parts else engine.register(table.name, table.arrow_schema.empty_table())
    for part in parts[1:]:
        rows = rows.union(part, distinct=False)
    return rows


def _read(
    engine: Engine,
    raw_objects: RawObjects,
    delivery: Delivery,
    table: schemas.Table,
    tenant: str,
    run_id: str,
    limits: ReadLimits | None,
    folder: Path,
    result: Ingested,
) -> ir.Table:
    fetched = _fetch(raw_objects, delivery, tenant, folder, result)
    objects = [f.local for f in fetched]
    tables = extracts(
        engine,
        objects,
        table,
        tenant=tenant,
        connection_id=delivery.connection_id,
        feed=delivery.feed,
        limits=limits,
        extracted_at=datetime.now(UTC),
    )
    with reading_errors(objects):
        rows = _united(engine, table, [engine.spool(part) for part in tables])
    for item in objects:
        item.path.unlink()
    _refuse_strangers(engine, rows, delivery)
    counts = rows.group_by("source_object_sha256").aggregate(n=rows.count())
    by_sha = {r["source_object_sha256"]: r["n"] for r in engine.to_arrow(counts).to_pylist()}
    result.snapshots += [
        {
            "connection_id": delivery.connection_id,
            "feed": delivery.feed,
            "uri": f.stored.uri,
            "etag": f.stored.etag,
            "sha256": f.local.sha256,
            "size_bytes": f.size_bytes,
            "row_count": by_sha.get(f.local.sha256, 0),
            "source_version": delivery.version,
            "billing_period": delivery.period_start,
        }
        for f in fetched
    ]
    return rows


def _fetch(raw_objects: RawObjects, delivery: Delivery, tenant: str, folder: Path, result: Ingested) -> list[_Fetched]:
    fetched: list[_Fetched] = []
    seen: dict[str, str] = {}
    for number, stored in enumerate(delivery.objects):
        path = folder / f"{delivery.connection_id}-{len(result.snapshots)}-{number}"
        download(stored, path)
        kept = raw_objects.put(tenant, path)
        if kept.sha256 in seen:
            result.notices.append(f"{stored.uri} has the same bytes as {seen[kept.sha256]}: counted once.")
            path.unlink()
            continue
        seen[kept.sha256] = stored.uri
        fetched.append(_Fetched(stored, LocalObject(path, stored.uri, kept.sha256, delivery.version), kept.size_bytes))
    return fetched


def _refuse_strangers(engine: Engine, rows: ir.Table, delivery: Delivery) -> None:
    """Refuse a delivery with rows dated outside its billing period: they would replace another period's days."""
    if delivery.period_start is None or delivery.period_end is None:
        return
    outside = rows.filter((rows.usage_date < delivery.period_start) | (rows.usage_date >= delivery.period_end))
    found = engine.to_arrow(
        outside.order_by("source_row").limit(1).select("source_object", "source_row", "usage_date")
    ).to_pylist()
    if found:
        raise BillingObjectError(
            found[0]["source_object"],
            f"the row is dated {found[0]['usage_date']}, outside the billing period "
            f"{delivery.period_start} to {delivery.period_end} (exclusive)",
            "Deliver the period again",
            row=found[0]["source_row"],
            column="charge period",
        )
