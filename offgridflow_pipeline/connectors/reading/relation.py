"""One billing object as a SELECT with SQL expressions per extract column, and the SQL text both readers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: A longer row is refused: no bill has one, and the engine would hold it in memory.
MAXIMUM_LINE_BYTES = 2 * 2**20
#: Name of the row number inside an object's relation; the first data row is 1.
ROW = '"@row"'

#: Attributes that CUR 2.0 may deliver in the `product` map only: extract column -> key of the map.
PRODUCT_KEYS = {
    "product_product_name": "product_name",
    "product_instance_type": "instance_type",
    "product_vcpu": "vcpu",
    "product_memory": "memory",
    "product_gpu": "gpu",
    "product_product_family": "product_family",
    "product_region": "region",
    "product_region_code": "region_code",
}


@dataclass(frozen=True, slots=True)
class LocalObject:
    """A billing object on this machine, with where it came from."""

    path: Path
    source: str
    sha256: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits against hostile objects: uncompressed bytes, and uncompressed / compressed bytes."""

    maximum_bytes: int = 64 * 2**30
    maximum_ratio: int = 1000


@dataclass(frozen=True, slots=True)
class Relation:
    """SQL of an object's rows and, per column, the SQL of its text (null when empty).

    `columns` are extract columns, `other` the rest under their canonical names, `headers` the delivered name
    of each extract column for messages.
    """

    rows: str
    columns: Mapping[str, str]
    other: Mapping[str, str]
    headers: Mapping[str, str]


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def json_of(values: Mapping[str, str]) -> str:
    """SQL of a JSON object text of the non-empty values, keys sorted; null when all are empty."""
    import json

    if not values:
        return "NULL::VARCHAR"
    members = ", ".join(
        f"{quoted(json.dumps(name, ensure_ascii=False) + ':')} || to_json({value})::VARCHAR"
        for name, value in sorted(values.items())
    )
    return f"nullif('{{' || concat_ws(',', {members}) || '}}', '{{}}')"
