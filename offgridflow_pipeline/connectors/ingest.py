"""Days of a tenant's bills into the lake: survey, fetch, read each object once, replace the days that changed.

A refused delivery leaves its days as they were; other periods, connections and tenants are written. A day whose
rows are the committed ones gets no commit. Nothing is visible before the one commit that replaces the days.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.changes.detection import Fingerprint, covered_units, fingerprints
from offgridflow_pipeline.connectors.changes.digests import DayDigest, DayOfConnection, changed_days, day_digests
from offgridflow_pipeline.connectors.errors import BillingObjectError, ConnectionConfigError, DeliveryError, SecretError
from offgridflow_pipeline.connectors.feeds import feeds_of
from offgridflow_pipeline.connectors.reading.extracts import LocalObject, ReadLimits, extracts, reading_errors

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.deliveries.listing import Delivery
    from offgridflow_pipeline.connectors.sources import Source
    from offgridflow_pipeline.connectors.stores import StoredObject
    from offgridflow_pipeline.lake import schemas
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.objects import RawObjects
    from offgridflow_pipeline.lake.tables import Lake

OpenSource = Callable[["Connection"], "Source"]


@dataclass
class Ingested:
    """What an ingest did.

    Attributes:
        snapshots: objects read, as `database.source_snapshots` records them.
        refused: days that keep their old rows, with the reason.
        committed: days that were written because their rows changed; the other good days were unchanged.
        digests: rows and their digest per connection and good day; days without rows are not there.
        kept: connections that were not read and whose rows stayed as they were.
        versions: connection id -> version of what it delivered, of every connection that was read.
        failures: connection id -> why it could not be read, or one of its periods; null when all was well.
        states: connection id -> units of its source whose state may advance now.
        observed_at: when the sources were asked.
        notices: what a person may want to know.
        lake_version: version of the table that holds the days.
    """

    snapshots: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[date, str] = field(default_factory=dict)
    committed: list[date] = field(default_factory=list)
    digests: dict[DayOfConnection, DayDigest] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str | None] = field(default_factory=dict)
    states: dict[str, dict[str, Fingerprint]] = field(default_factory=dict)
    observed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    notices: list[str] = field(default_factory=list)
    lake_version: int | None = None

    def refuse(self, connection_id: str, days: Sequence[date], reason: str) -> None:
        """Keep the days as they are, and remember why."""
        self.refused |= {day: reason for day in days if day not in self.refused}
        self.failures[connection_id] = reason


@dataclass(frozen=True, slots=True)
class _Fetched:
    stored: StoredObject
    local: LocalObject
    size_bytes: int


@dataclass(frozen=True)
class _Reader:
    """Reads deliveries of one tenant and table into spooled rows."""

    engine: Engine
    raw_objects: RawObjects
    table: schemas.Table
    tenant: str
    limits: ReadLimits | None
    folder: Path
    result: Ingested


def ingest_days(
    engine: Engine,
    lake: Lake,
    raw_objects: RawObjects,
    *,
    table: schemas.Table,
    tenant: str,
    connections: Sequence[Connection],
    open_source: OpenSource,
    days: Sequence[date],
    run_id: str,
    paused: Collection[str] = (),
    only: str | None = None,
    limits: ReadLimits | None = None,
) -> Ingested:
    """Bring the tenant's days of the extract table to what its connections deliver.

    Days without any row become empty; rows of connections whose ids are in `paused` stay as they are, and with
    `only` those of every other connection. Each source is listed once and each of its objects read once, however
    many days are asked for.
    """
    result = Ingested()
    mine = {feed.name for feed in feeds_of(table.name)}
    with tempfile.TemporaryDirectory(prefix="ogf-fetch-") as folder:
        reader = _Reader(engine, raw_objects, table, tenant, limits, Path(folder), result)
        parts: list[ir.Table] = []
        read: defaultdict[str, list[Delivery]] = defaultdict(list)
        for connection in connections:
            if connection.kind in mine and connection.role == "record" and only in (None, connection.id):
                parts += _connection_rows(reader, connection, open_source, days, read[connection.id])
        good = [day for day in days if day not in result.refused]
        if good:
            _commit(reader, lake, parts, good, lambda mark: mark in paused or only not in (None, mark), run_id)
            for connection_id, found in read.items():
                result.versions[connection_id] = " + ".join(sorted({delivery.version for delivery in found}))
                result.states[connection_id] = covered_units(fingerprints(found), good, today=datetime.now(UTC).date())
    return result


def _connection_rows(
    reader: _Reader, connection: Connection, open_source: OpenSource, days: Sequence[date], read: list[Delivery]
) -> list[ir.Table]:
    """Rows of everything the connection delivers for the days; deliveries that were read are added to `read`."""
    result = reader.result
    result.failures[connection.id] = None
    try:
        source = open_source(connection)
        found, unusable = source.survey(days)
    except (ConnectionConfigError, DeliveryError, SecretError) as error:
        result.refuse(connection.id, days, str(error))
        return []
    for period in unusable:
        result.refuse(connection.id, [d for d in days if period.touches([d])], period.reason)
    parts = []
    for delivery in found:
        try:
            parts.append(_delivery_rows(reader, source, delivery))
            read.append(delivery)
        except (BillingObjectError, DeliveryError) as error:
            result.refuse(connection.id, [d for d in days if delivery.touches([d])], str(error))
    return parts


def _commit(
    reader: _Reader,
    lake: Lake,
    parts: Sequence[ir.Table],
    days: Sequence[date],
    is_kept: Callable[[str], bool],
    run_id: str,
) -> None:
    """Replace the days whose rows differ from the committed ones, in one commit."""
    engine, table, tenant, result = reader.engine, reader.table, reader.tenant, reader.result
    result.lake_version = lake.version(tenant, table.name)
    stored = engine.table(lake.slice(tenant, table.name, list(days), result.lake_version))
    if not parts and engine.is_known_empty(stored):
        return  # nothing delivered, nothing stored: most tenants have one or two of the four feeds
    rows = _united(engine, table, parts)
    rows = rows.filter(rows.usage_date.isin(list(days)))
    result.digests = day_digests(engine, rows)
    committed = day_digests(engine, stored)
    result.kept = {connection for connection, _ in committed if is_kept(connection)}
    if result.kept:
        rows = rows.union(stored.filter(stored.connection_id.isin(sorted(result.kept))), distinct=False)
    standing = {key: digest for key, digest in committed.items() if key[0] in result.kept}
    result.committed = sorted(changed_days(committed, result.digests | standing, days))
    if result.committed:
        changed = engine.reader(rows.filter(rows.usage_date.isin(result.committed)), table)
        result.lake_version = lake.replace(tenant, table.name, result.committed, changed, run_id=run_id)


def _united(engine: Engine, table: schemas.Table, parts: Sequence[ir.Table]) -> ir.Table:
    rows = parts[0] if parts else engine.register(table.name, table.no_rows())
    for part in parts[1:]:
        rows = rows.union(part, distinct=False)
    return rows


def _delivery_rows(reader: _Reader, source: Source, delivery: Delivery) -> ir.Table:
    engine, result = reader.engine, reader.result
    fetched = _fetch(reader, source, delivery)
    objects = [f.local for f in fetched]
    tables = extracts(
        engine,
        objects,
        reader.table,
        tenant=reader.tenant,
        connection_id=delivery.connection_id,
        feed=delivery.feed,
        limits=reader.limits,
        extracted_at=datetime.now(UTC),
    )
    with reading_errors(objects):
        rows = _united(engine, reader.table, [engine.spool(part) for part in tables])
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


def _fetch(reader: _Reader, source: Source, delivery: Delivery) -> list[_Fetched]:
    fetched: list[_Fetched] = []
    seen: dict[str, str] = {}
    for number, stored in enumerate(delivery.objects):
        path = reader.folder / f"{delivery.connection_id}-{len(reader.result.snapshots)}-{number}"
        source.fetch(stored, path)
        kept = reader.raw_objects.put(reader.tenant, path)
        if kept.sha256 in seen:
            reader.result.notices.append(f"{stored.uri} has the same bytes as {seen[kept.sha256]}: counted once.")
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
