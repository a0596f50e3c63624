"""Billing objects as extract rows: one lazily evaluated SELECT per object over DuckDB's readers.

Columns are bound by the names in the object's own header, text stays text, and a column nobody asks for is
not computed. A bad date, quantity or cost stops the reading with object, row, column and cure
(billing-feeds.md section 3). What a row means is decided in `usage`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.charge_dates import usage_date
from offgridflow_pipeline.connectors.reading.csv_objects import csv_relation
from offgridflow_pipeline.connectors.reading.gcp_lists import checked_credits, with_json_lists
from offgridflow_pipeline.connectors.reading.gzip_objects import SCHEME, register
from offgridflow_pipeline.connectors.reading.header import SOURCE_COLUMNS, dialect
from offgridflow_pipeline.connectors.reading.json_objects import is_json, json_relation
from offgridflow_pipeline.connectors.reading.parquet_objects import PARQUET_MAGIC, parquet_relation
from offgridflow_pipeline.connectors.reading.refusals import reading_errors, refusal
from offgridflow_pipeline.connectors.reading.relation import (
    ROW,
    LocalObject,
    ReadLimits,
    Relation,
    identifier,
    json_of,
    quoted,
)
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine

__all__ = ["LocalObject", "ReadLimits", "extract", "extracts", "reading_errors"]

#: Columns that may change between deliveries of the same row (billing-feeds.md section 3).
VOLATILE = frozenset(
    {"identity_line_item_id", "bill_invoice_id", "InvoiceId", "PreviousInvoiceId", "x_ExportTime", "export_time"}
)
QUANTITIES = frozenset({"line_item_usage_amount", "ConsumedQuantity", "Quantity", "usage_amount"})
COSTS = frozenset({"line_item_unblended_cost", "BilledCost", "Cost", "cost"})
_DECIMAL = "DECIMAL(38, 18)"
_ZIP_MAGIC = b"PK\x03\x04"
_MISSING = "NULL::VARCHAR"
_READERS = 2
#: Objects that one extract table of `extracts` reads.
OBJECTS_AT_ONCE = 12


def extracts(
    engine: Engine,
    objects: Sequence[LocalObject],
    table: schemas.Table,
    *,
    tenant: str,
    connection_id: str,
    feed: str,
    limits: ReadLimits | None = None,
    extracted_at: datetime | None = None,
) -> Iterator[ir.Table]:
    """As `extract`, in tables of a few objects each; every object is in exactly one.

    Evaluate one table before taking the next: memory then stays bounded for any number of objects, since
    every open CSV reader holds buffers of 16 times the longest row.
    """
    distinct = tuple({item.sha256: item for item in reversed(objects)}.values())[::-1]
    for start in range(0, len(distinct), OBJECTS_AT_ONCE):
        yield extract(
            engine,
            distinct[start : start + OBJECTS_AT_ONCE],
            table,
            tenant=tenant,
            connection_id=connection_id,
            feed=feed,
            limits=limits,
            extracted_at=extracted_at,
        )


def extract(
    engine: Engine,
    objects: Sequence[LocalObject],
    table: schemas.Table,
    *,
    tenant: str,
    connection_id: str,
    feed: str,
    limits: ReadLimits | None = None,
    extracted_at: datetime | None = None,
) -> ir.Table:
    """Extract rows of the objects as one lazily evaluated table with the declared columns of `table`.

    The same bytes twice count once. For many objects use `extracts`. Errors of the content surface while the
    table is evaluated: wrap the evaluation in `reading_errors`.

    Raises:
        BillingObjectError: an object is empty, damaged, hostile, or lacks a required column.
    """
    moment = (extracted_at or datetime.now(UTC)).astimezone(UTC)
    lineage = {
        "tenant_id": quoted(tenant),
        "connection_id": quoted(connection_id),
        "feed": quoted(feed),
        "extracted_at": f"TIMESTAMPTZ {quoted(moment.strftime('%Y-%m-%d %H:%M:%S.%f+00'))}",
    }
    distinct = {item.sha256: item for item in reversed(objects)}
    selects = [_select(item, table, lineage, limits or ReadLimits()) for item in reversed(distinct.values())]
    if not selects:
        return engine.register(table.name, table.no_rows())
    rows = " UNION ALL ".join(selects)
    if f"{SCHEME}://" in rows:
        register(engine)
    if len(selects) > _READERS:
        # A window over all rows makes the engine read one object after the other, not all at once.
        columns = ", ".join(identifier(column) for column in table.column_names)
        rows = f"SELECT {columns} FROM (SELECT *, row_number() OVER () AS turn FROM ({rows})) WHERE turn > 0"
    name = f"{table.name}_{uuid.uuid4().hex[:12]}"
    engine.connection.raw_sql(f'CREATE VIEW "{name}" AS {rows}')
    return engine.connection.table(name)


def _select(item: LocalObject, table: schemas.Table, lineage: dict[str, str], limits: ReadLimits) -> str:
    relation = _relation(item, table, limits)
    declared = SOURCE_COLUMNS[dialect(table)]
    values = {column: relation.columns.get(column, _MISSING) for column in declared}
    values |= {column: _checked(item, relation, column) for column in QUANTITIES | COSTS if column in values}
    if "credits" in declared:
        values["credits"] = checked_credits(item, relation)
    values |= lineage | {
        "usage_date": usage_date(item, relation, dialect(table)),
        "source_object_sha256": quoted(item.sha256),
        "source_object": quoted(item.source),
        "source_row": ROW,
        "source_version": quoted(item.version or item.sha256),
        "source_row_hash": _row_hash(relation),
        "other_columns": json_of(relation.other),
    }
    selected = ", ".join(f"{values[column]} AS {identifier(column)}" for column in table.column_names)
    return f"SELECT {selected} FROM ({relation.rows})"


def _relation(item: LocalObject, table: schemas.Table, limits: ReadLimits) -> Relation:
    with item.path.open("rb") as stream:
        magic = stream.read(4)
    if not magic:
        raise BillingObjectError(
            item.source, "the object is empty (0 bytes)", "Deliver it again; a period without rows has a header"
        )
    if magic == _ZIP_MAGIC:
        raise BillingObjectError(item.source, "it is a zip archive", "Export as gzip or Parquet")
    read = parquet_relation if magic == PARQUET_MAGIC else json_relation if is_json(item) else csv_relation
    relation = read(item, table, limits)
    return with_json_lists(relation) if dialect(table) == "gcp" else relation


def _checked(item: LocalObject, relation: Relation, column: str) -> str:
    """The column's text, refused where it is not a decimal; a cost is refused where it is missing."""
    value = relation.columns.get(column, _MISSING)
    if value == _MISSING:
        return value
    header = relation.headers[column]
    branches = f"WHEN try_cast({value} AS {_DECIMAL}) IS NOT NULL THEN {value} "
    if column in COSTS:
        branches += f"WHEN {value} IS NULL THEN {refusal(item, header, value, 'the cost is missing')} "
    else:
        branches += f"WHEN {value} IS NULL THEN {_MISSING} "
    return f"CASE {branches} ELSE {refusal(item, header, value, 'is not a number')} END"


def _row_hash(relation: Relation) -> str:
    """SHA-256 over ``name=value`` of the non-empty columns, sorted by name, trimmed, volatile ones left out."""
    cells = {**relation.other, **relation.columns}
    members = [
        f"{quoted(name + '=')} || {_canonical(name, cells[name])}" for name in sorted(cells) if name not in VOLATILE
    ]
    return f"sha256(concat_ws(chr(31), {', '.join(members)}))"


def _canonical(name: str, value: str) -> str:
    if name in QUANTITIES | COSTS:
        return f"coalesce(try_cast({value} AS {_DECIMAL})::VARCHAR, {value})"
    # DuckDB's trim walks every code point; two byte comparisons spare it for almost every cell.
    return f"CASE WHEN starts_with({value}, ' ') OR ends_with({value}, ' ') THEN trim({value}) ELSE {value} END"
