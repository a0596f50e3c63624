"""The canonical form of a register row and the hashes made from it (factors/README.md section 6).

Same figures give the same hashes on any machine: JSON, keys sorted, UTF-8, no spaces, decimals as plain
strings without exponent or trailing zeros, dates ISO, without `ingested_at` and `factor_uid`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

#: Columns of every register CSV, in order.
COLUMNS = (
    "factor_uid", "factor_key", "kind", "value", "null_reason", "unit", "co2_kg", "ch4_kg", "n2o_kg",
    "co2_co2e", "ch4_co2e", "n2o_co2e", "ch4_origin", "gwp_basis", "boundary", "method", "geography_kind",
    "geography", "data_year", "valid_from", "valid_to", "published_at", "published_precision", "known_from",
    "ingested_at", "source_id", "source_locator", "gsd", "quality", "supersedes_uid", "attributes",
)  # fmt: skip
_NUMBERS = ("value", "co2_kg", "ch4_kg", "n2o_kg", "co2_co2e", "ch4_co2e", "n2o_co2e", "gsd")
_JSON = ("quality", "attributes")
_LEFT_OUT = frozenset({"factor_uid", "ingested_at"})


def factor_uid(row: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a register row given as text, one entry per column of `COLUMNS`."""
    return hashlib.sha256(canonical_row(row).encode()).hexdigest()


def canonical_row(row: Mapping[str, str]) -> str:
    """The text that is hashed; empty fields are null."""
    content: dict[str, Any] = {}
    for name in COLUMNS:
        text = row[name]
        if name in _LEFT_OUT:
            continue
        if name in _JSON:
            content[name] = _plain(json.loads(text or "{}", parse_float=Decimal, parse_int=Decimal))
        elif not text:
            content[name] = None
        else:
            content[name] = plain_decimal(Decimal(text)) if name in _NUMBERS else text
    return _dump(content)


def set_sha(name: str, semver: str, factor_uids: Iterable[str]) -> str:
    """SHA-256 (hex) over the sorted uids, the name and the version of a set."""
    content = {"factor_uids": sorted(factor_uids), "name": name, "semver": semver}
    return hashlib.sha256(_dump(content).encode()).hexdigest()


def plain_decimal(number: Decimal) -> str:
    """A decimal without exponent and without trailing zeros (`0` for every zero)."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _plain(content: Any) -> Any:
    if isinstance(content, Decimal):
        return plain_decimal(content)
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return content


def _dump(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
