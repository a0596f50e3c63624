"""Columns of a billing export in BigQuery: which are read, under which name, and their values as exact texts.

Records of the GCP export are joined by underscores, as `reading.header` binds them in files; lists become JSON. Schemas
grow: a column that we do not know is left out and told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.reading.header import bound_names

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import SchemaField

    from offgridflow_pipeline.connectors.feeds import Dialect


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read: its name in our file and its path in SQL."""

    name: str
    path: str


def columns_of(schema: Sequence[SchemaField], spoken: Dialect) -> tuple[list[Column], list[str]]:
    """Columns to read, and the names of those that nothing here knows."""
    known = bound_names(spoken)
    found = list(_flat(schema) if spoken == "gcp" else _top(schema))
    return (
        [column for column in found if known.get(column.name.lower())],
        [column.name for column in found if column.name.lower() not in known],
    )


def texts(values: pa.Array) -> pa.Array:
    """The values as texts: numbers exact (shortest form of a double), times in UTC, lists and records as JSON."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_nested(kind):
        return pa.array([_json(value) if value else None for value in values.to_pylist()], pa.string())
    encoded = values.dictionary_encode()
    spelled = pa.array([_text(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(encoded.indices, spelled).cast(pa.string())


def _top(schema: Sequence[SchemaField]) -> Iterator[Column]:
    for field in schema:
        yield Column(field.name, f"`{field.name}`")


def _flat(schema: Sequence[SchemaField], name: str = "", path: str = "") -> Iterator[Column]:
    for field in schema:
        joined, inner = f"{name}{field.name}", f"{path}`{field.name}`"
        if field.field_type in ("RECORD", "STRUCT") and field.mode != "REPEATED":
            yield from _flat(field.fields, f"{joined}_", f"{inner}.")
        else:
            yield Column(joined, inner)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """The value for JSON; a decimal becomes a text, since a JSON number may be read as a double."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value if value is None or isinstance(value, str | bool | int | float) else _text(value)


def _text(value: Any) -> str:
    for kind, spell in _SPELLINGS:
        if isinstance(value, kind):
            return spell(value)
    return str(value)


def _decimal(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(value: datetime) -> str:
    return f"{value.replace(tzinfo=None).isoformat()}Z"


#: datetime before date, since every datetime is a date; bool before numbers.
_SPELLINGS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (bool, lambda value: str(value).lower()),
    (float, repr),
    (Decimal, _decimal),
    (datetime, _moment),
    (date, date.isoformat),
)
