"""CSV billing objects, plain or gzip, as relations over DuckDB's reader: all text, strict, one row a time.

The header is read here and bound by name; gzip objects are looked at and unpacked by `gzip_objects`.
"""

from __future__ import annotations

import csv
import io

from isal import igzip

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.gzip_objects import (
    DAMAGED,
    OVERSIZED,
    UNREADABLE,
    LastLine,
    engine_source,
    probed,
)
from offgridflow_pipeline.connectors.reading.header import TAG_PREFIX, bind, dialect
from offgridflow_pipeline.connectors.reading.relation import (
    MAXIMUM_LINE_BYTES,
    PRODUCT_KEYS,
    ROW,
    LocalObject,
    ReadLimits,
    Relation,
    json_of,
)
from offgridflow_pipeline.lake import schemas

_HEADER_BYTES = 2**20
#: Text that means null: empty, and in FOCUS files the word NULL as a whole field (billing-feeds.md section 3).
_NULLS = {"cur": "['']", "azure": "['']", "gcp": "['']", "focus": "['', 'NULL']"}


def csv_relation(item: LocalObject, table: schemas.Table, limits: ReadLimits) -> Relation:
    """The object's rows.

    Raises:
        BillingObjectError: too large, a decompression bomb, damaged, not UTF-8, or a header that cannot be bound.
    """
    probe = probed(item, limits)
    if probe is None:
        _refuse_endless_last_row(item)
    header = bind(_header_row(item, zipped=probe is not None), table, item.source)
    spoken = dialect(table)
    columns = {name: f"c{position}" for name, position in header.known.items()}
    other = {name: f"c{position}" for name, position in header.other.items()}
    if header.tags and "resource_tags" not in columns:
        columns["resource_tags"] = json_of({tag: f"c{position}" for tag, position in header.tags.items()})
    else:
        other |= {TAG_PREFIX + tag: f"c{position}" for tag, position in header.tags.items()}
    if product := columns.get("product"):
        columns |= {
            column: f"json_extract_string({product}, '$.{key}')"
            for column, key in PRODUCT_KEYS.items()
            if column not in columns
        }
    types = ", ".join(f"'c{position}': 'VARCHAR'" for position in range(len(header.names)))
    address = engine_source(item, probe, limits)
    read = (
        f"read_csv({address}, columns = {{{types}}}, auto_detect = false, header = true, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = {_NULLS[spoken]}, strict_mode = true, "
        f"null_padding = false, max_line_size = {MAXIMUM_LINE_BYTES}, buffer_size = {2 * MAXIMUM_LINE_BYTES}, "
        "compression = 'none')"
    )
    return Relation(
        f"SELECT *, row_number() OVER () AS {ROW} FROM {read}",
        columns,
        other,
        {name: header.delivered_name(name) for name in columns},
    )


def _header_row(item: LocalObject, *, zipped: bool) -> list[str]:
    try:
        with igzip.open(item.path, "rb") if zipped else item.path.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except UNREADABLE:
        raise BillingObjectError(item.source, *DAMAGED) from None
    line_end = head.find(b"\n", _last_quote_of_header(head))
    try:
        text = head[: line_end + 1 or None].decode("utf-8-sig")
        return next(csv.reader(io.StringIO(text), strict=True))
    except UnicodeDecodeError:
        raise BillingObjectError(item.source, "the header is not UTF-8", "Export it as UTF-8", row=0) from None
    except (StopIteration, csv.Error) as error:
        raise BillingObjectError(
            item.source, f"no readable header row ({error})", "Deliver the object again", row=0
        ) from None


def _last_quote_of_header(head: bytes) -> int:
    """Where the header's last quoted cell ends: a line break before that belongs to a name."""
    position, quotes = 0, 0
    while (end := head.find(b"\n", position)) >= 0:
        quotes += head.count(b'"', position, end)
        if quotes % 2 == 0:
            return position
        position = end + 1
    return 0


def _refuse_endless_last_row(item: LocalObject) -> None:
    """Refuse a last row longer than the engine's buffer: the engine drops it without a word (DuckDB 2.0)."""
    last_line = LastLine()
    with item.path.open("rb") as stream:
        stream.seek(max(0, item.path.stat().st_size - 4 * MAXIMUM_LINE_BYTES))
        last_line.add(stream.read())
    if last_line.length > MAXIMUM_LINE_BYTES:
        raise BillingObjectError(item.source, *OVERSIZED)
