"""The data dictionary: what every column of a lake table is, as rows for a CSV file.

Everything comes from the declarations in `schemas`; no meaning is written here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from offgridflow_pipeline.lake import schemas


class DictionaryRow(NamedTuple):
    """One column of one table: name, type, unit (empty for none), whether it may be empty, and meaning."""

    table: str
    name: str
    type: str
    unit: str
    nullable: bool
    meaning: str


def data_dictionary(table: schemas.Table) -> list[DictionaryRow]:
    """One row per column, in declared order."""
    return [DictionaryRow(table.name, c.name, type_name(c.type), c.unit, c.nullable, c.meaning) for c in table.columns]


def data_dictionaries(tables: Iterable[schemas.Table] = schemas.TABLES.values()) -> list[DictionaryRow]:
    """The rows of several tables, by default of all, one table after the other."""
    return [row for table in tables for row in data_dictionary(table)]


def type_name(kind: pa.DataType) -> str:
    """The type as people who do not know Arrow read it, for example ``decimal(38,12)`` or ``list of text``."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    if pa.types.is_timestamp(kind):
        return f"timestamp ({kind.tz})" if kind.tz else "timestamp"
    return _NAMES.get(str(kind), str(kind))


_NAMES = {
    "string": "text",
    "date32[day]": "date",
    "bool": "boolean",
    "int16": "integer (16 bit)",
    "int32": "integer (32 bit)",
    "int64": "integer (64 bit)",
}
