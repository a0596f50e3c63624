"""Newline-delimited JSON billing objects, plain or gzip, as BigQuery exports them: one object of a row a line.

The columns are those that any line has; records of GCP are taken apart, their names joined by dots. Values become
the text a CSV would hold, lists and records stay JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from isal import igzip

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.feeds import Dialect
from offgridflow_pipeline.connectors.reading.gzip_objects import UNREADABLE, is_gzip, probed
from offgridflow_pipeline.connectors.reading.header import bind, dialect
from offgridflow_pipeline.connectors.reading.relation import ROW, LocalObject, ReadLimits, Relation, quoted
from offgridflow_pipeline.lake import schemas

_STRUCTURE_MEMORY = "256MiB"


def is_json(item: LocalObject) -> bool:
    """Whether the object's text begins with a brace; no CSV header does."""
    try:
        with igzip.open(item.path, "rb") if is_gzip(item.path) else item.path.open("rb") as stream:
            return stream.read(1) == b"{"
    except UNREADABLE:
        return False  # the CSV reader says what is wrong with it


def json_relation(item: LocalObject, table: schemas.Table, limits: ReadLimits) -> Relation:
    """The object's rows.

    Raises:
        BillingObjectError: too large, a decompression bomb, not JSON, or members that cannot be bound.
    """
    zipped = probed(item, limits) is not None
    read = f"read_ndjson_objects({quoted(str(item.path))}, compression = '{'gzip' if zipped else 'none'}')"
    fields = list(_fields(_structure(item, read), dialect(table)))
    header = bind([name for name, _ in fields], table, item.source)
    return Relation(
        f"SELECT json, row_number() OVER () AS {ROW} FROM {read}",
        {name: fields[position][1] for name, position in header.known.items()},
        {name: fields[position][1] for name, position in header.other.items()},
        {name: header.delivered_name(name) for name in header.known},
    )


def _structure(item: LocalObject, read: str) -> Mapping[str, Any]:
    """Members of all lines together: name -> type, or members of a record, or [members of a list]."""
    import duckdb

    try:
        with duckdb.connect(config={"memory_limit": _STRUCTURE_MEMORY, "threads": 1}) as connection:
            found = connection.execute(f"SELECT json_group_structure(json) FROM {read}").fetchone()
    except duckdb.Error as error:
        raise BillingObjectError(
            item.source, f"the text is not valid JSON ({str(error).splitlines()[0][-120:]})", "Deliver the object again"
        ) from None
    structure = json.loads(found[0]) if found and found[0] else {}
    return structure if isinstance(structure, dict) else {}


def _fields(
    structure: Mapping[str, Any], spoken: Dialect, name: str = "", path: str = "$"
) -> Iterator[tuple[str, str]]:
    for member, kind in structure.items():
        inner = f'{path}."{member.replace(chr(34), "")}"'
        if spoken == "gcp" and isinstance(kind, dict):
            yield from _fields(kind, spoken, f"{name}{member}.", inner)
        else:
            text = f"json_extract_string(json, {quoted(inner)})"
            yield name + member, f"nullif(nullif({text}, ''), '{{}}')"
