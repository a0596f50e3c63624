"""Parquet billing objects as relations over DuckDB's reader; every value becomes the text a CSV would hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.feeds import Dialect
from offgridflow_pipeline.connectors.reading.header import TAG_PREFIX, bind, dialect
from offgridflow_pipeline.connectors.reading.relation import (
    PRODUCT_KEYS,
    ROW,
    LocalObject,
    ReadLimits,
    Relation,
    identifier,
    json_of,
    quoted,
)
from offgridflow_pipeline.lake import schemas

PARQUET_MAGIC = b"PAR1"


def parquet_relation(item: LocalObject, table: schemas.Table, limits: ReadLimits) -> Relation:
    """The object's rows.

    Raises:
        BillingObjectError: not readable as Parquet, too large, or columns that cannot be bound.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(item.path)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowInvalid, OSError) as error:
        raise BillingObjectError(
            item.source, f"not a readable Parquet file ({str(error).splitlines()[0]})", "Deliver the object again"
        ) from None
    _refuse_bomb(item, metadata, limits)
    spoken = dialect(table)
    fields = list(_fields(schema, spoken))
    header = bind([name for name, _ in fields], table, item.source)
    columns = {name: fields[position][1] for name, position in header.known.items()}
    other = {name: fields[position][1] for name, position in header.other.items()}
    tags = {tag: fields[position][1] for tag, position in header.tags.items()}
    if tags and "resource_tags" not in columns:
        columns["resource_tags"] = json_of(tags)
    else:
        other |= {TAG_PREFIX + tag: value for tag, value in tags.items()}
    if "product" in header.known:
        columns |= _from_product(schema.field(header.known["product"]), columns)
    read = f"read_parquet({quoted(str(item.path))}, file_row_number = true, binary_as_string = true)"
    return Relation(
        f"SELECT *, file_row_number + 1 AS {ROW} FROM {read}",
        columns,
        other,
        {name: header.delivered_name(name) for name in columns},
    )


def _from_product(field: Any, columns: dict[str, str]) -> dict[str, str]:
    import pyarrow as pa

    name = identifier(field.name)
    is_map = pa.types.is_map(field.type)
    found: dict[str, str] = {}
    for column, key in PRODUCT_KEYS.items():
        inner = f"{name}[{quoted(key)}]" if is_map else f"json_extract_string({name}::VARCHAR, '$.{key}')"
        found[column] = f"coalesce({columns[column]}, {inner})" if column in columns else inner
    return found


def _fields(fields: Any, spoken: Dialect, name: str = "", path: str = "") -> Iterator[tuple[str, str]]:
    """Header names and the SQL of their texts; records of GCP are taken apart, their names joined by dots."""
    import pyarrow as pa

    for field in fields:
        if spoken == "gcp" and pa.types.is_struct(field.type):
            members = (field.type.field(position) for position in range(field.type.num_fields))
            yield from _fields(members, spoken, f"{name}{field.name}.", f"{path}{identifier(field.name)}.")
        else:
            yield name + field.name, _text(field.type, path + identifier(field.name), spoken)


def _text(kind: Any, name: str, spoken: Dialect) -> str:
    import pyarrow as pa

    if pa.types.is_nested(kind):
        return f"nullif(to_json({name})::VARCHAR, '{{}}')"
    if pa.types.is_timestamp(kind):
        moment = f"timezone('UTC', {name})" if kind.tz else name
        return f"strftime({moment}, '%Y-%m-%dT%H:%M:%SZ')"
    text = f"nullif({name}::VARCHAR, '')"
    return f"nullif({text}, 'NULL')" if spoken == "focus" else text


def _refuse_bomb(item: LocalObject, metadata: Any, limits: ReadLimits) -> None:
    unpacked = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    size = item.path.stat().st_size
    if unpacked > limits.maximum_bytes or unpacked > size * limits.maximum_ratio:
        raise BillingObjectError(
            item.source,
            f"it unpacks to {unpacked:,} bytes from {size:,}, refused as a decompression bomb",
            "Check where it came from; raise OFFGRIDFLOW_MAXIMUM_COMPRESSION_RATIO or "
            "OFFGRIDFLOW_MAXIMUM_OBJECT_BYTES only for a trusted source",
        )
