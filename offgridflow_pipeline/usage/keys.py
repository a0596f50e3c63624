"""Identity of a usage line and its usage key: the one place that says which columns are hashed and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.expressions import builtin

if TYPE_CHECKING:
    import ibis.expr.types as ir

SEPARATOR = "\x1f"
KEY_TEXT = "_key_text"


@builtin(name="split_part")
def _part(text: str, separator: str, position: int) -> str:
    raise NotImplementedError  # body of a builtin: the engine computes it


def lineage(rows: ir.Table) -> dict[str, ir.Value]:
    """Columns of a usage line that say where it came from, and `connection_id` for its identity."""
    return {
        "tenant_id": rows.tenant_id,
        "usage_date": rows.usage_date,
        "connection_id": rows.connection_id,
        "x_ConnectionId": rows.connection_id,
        "x_Feed": rows.feed,
        "x_SourceRowHash": rows.source_row_hash,
        "x_SourceObjectSha256": rows.source_object_sha256,
        "x_SourceObject": rows.source_object,
        "x_SourceRow": rows.source_row,
        "x_SourceVersion": rows.source_version,
        "x_ExtractedAt": rows.extracted_at,
    }


def key_text(lines: ir.Table) -> ir.Value:
    """Texts of `schemas.USAGE_KEY_COLUMNS`, null as empty, joined by U+001F."""
    return joined_texts(lines, key_sources(lines))


def key_sources(lines: ir.Table) -> list[str]:
    """Columns that a `key_text` joins.

    A mapping may provide the text a number was read from as ``_text_<column>``: printing decimals of 38 digits
    costs more than the rest of the key.
    """
    return [f"_text_{c}" if f"_text_{c}" in lines.columns else c for c in schemas.USAGE_KEY_COLUMNS]


def usage_key(text: ir.Value) -> ir.Value:
    """The usage key: MD5 of a `key_text`."""
    return text.hexdigest("md5")


def key_columns(text: ir.Value) -> dict[str, ir.Value]:
    """The columns a `key_text` was made of, in their declared types; empty is null."""
    kinds = ibis.Schema.from_pyarrow(schemas.USAGE_LINES.arrow_schema)
    parts = split_texts(text, schemas.USAGE_KEY_COLUMNS)
    return {name: part if kinds[name].is_string() else part.try_cast(kinds[name]) for name, part in parts.items()}


def joined_texts(lines: ir.Table, columns: Sequence[str]) -> ir.Value:
    """Texts of the columns, null and a column that does not exist as empty, joined by U+001F."""
    parts = [lines[c].cast("string").fill_null("") if c in lines.columns else ibis.literal("") for c in columns]
    return ibis.literal(SEPARATOR).join(parts)


def split_texts(text: ir.Value, names: Sequence[str]) -> dict[str, ir.Value]:
    """The texts that were joined, by name; empty is null."""
    return {name: _part(text, SEPARATOR, n).nullif("") for n, name in enumerate(names, start=1)}


def separators(text: ir.Value) -> ir.Value:
    """Separators in joined texts: one less than there are texts, or one of them held the separator itself."""
    return text.length() - text.replace(SEPARATOR, "").length()


def with_identity(lines: ir.Table) -> ir.Table:
    """Add `x_UsageKey`, the text it is made of as `KEY_TEXT`, and `x_LineId`.

    The line id is SHA-256 of tenant, connection, billing period (epoch seconds), row hash and ordinal among
    equal hashes: the same after re-delivery, re-ordering and re-chunking of files. `lines` must hold all rows
    of the days it holds, since equal rows are told apart by counting them.
    """
    text = key_text(lines)
    keyed = lines.mutate(**{KEY_TEXT: text, "x_UsageKey": usage_key(text)})
    equals = ibis.window(group_by=["connection_id", "BillingPeriodStart", "x_SourceRowHash"])
    numbered = keyed.mutate(_ordinal=ibis.row_number().over(equals), _period=keyed.BillingPeriodStart.epoch_seconds())
    parts = ("tenant_id", "connection_id", "_period", "x_SourceRowHash", "_ordinal")
    return numbered.mutate(x_LineId=joined_texts(numbered, parts).hexdigest("sha256"))
