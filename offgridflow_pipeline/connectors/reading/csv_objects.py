"""CSV billing objects, plain or gzip, as relations over DuckDB's reader: all text, strict, one row a time.

The header is read here and bound by name. A gzip object is judged by its trailer and its first megabytes, so
that nothing is unpacked twice or to disk; the engine itself refuses a stream that is cut off.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
import zlib

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.header import TAG_PREFIX, bind, dialect
from offgridflow_pipeline.connectors.reading.relation import (
    MAXIMUM_LINE_BYTES,
    PRODUCT_KEYS,
    ROW,
    LocalObject,
    ReadLimits,
    Relation,
    json_of,
    quoted,
)
from offgridflow_pipeline.lake import schemas

GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 2**20
_PROBE_BYTES = 32 * 2**20
_TRAILER = struct.Struct("<I")
#: Text that means null: empty, and in FOCUS files the word NULL as a whole field (billing-feeds.md section 3).
_NULLS = {"cur": "['']", "azure": "['']", "gcp": "['']", "focus": "['', 'NULL']"}
_DAMAGED = ("the gzip stream is damaged or cut off", "Deliver the object again")


def csv_relation(item: LocalObject, table: schemas.Table, limits: ReadLimits) -> Relation:
    """The object's rows.

    Raises:
        BillingObjectError: too large, a decompression bomb, damaged, not UTF-8, or a header that cannot be bound.
    """
    zipped = checked_as_gzip(item, limits)
    if not zipped:
        _refuse_endless_last_row(item)
    header = bind(_header_row(item, zipped), table, item.source)
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
    read = (
        f"read_csv({quoted(str(item.path))}, columns = {{{types}}}, auto_detect = false, header = true, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = {_NULLS[spoken]}, strict_mode = true, "
        f"null_padding = false, max_line_size = {MAXIMUM_LINE_BYTES}, buffer_size = {2 * MAXIMUM_LINE_BYTES}, "
        f"compression = '{'gzip' if zipped else 'none'}')"
    )
    return Relation(
        f"SELECT *, row_number() OVER () AS {ROW} FROM {read}",
        columns,
        other,
        {name: header.delivered_name(name) for name in columns},
    )


def _header_row(item: LocalObject, zipped: bool) -> list[str]:
    try:
        with gzip.open(item.path, "rb") if zipped else item.path.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BillingObjectError(item.source, *_DAMAGED) from None
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
    with item.path.open("rb") as stream:
        stream.seek(max(0, item.path.stat().st_size - MAXIMUM_LINE_BYTES - 1))
        tail = stream.read()
    if len(tail) > MAXIMUM_LINE_BYTES and b"\n" not in tail[:-1]:
        raise BillingObjectError(
            item.source, f"the last row is longer than {MAXIMUM_LINE_BYTES} bytes", "Remove the oversized cell"
        )


def checked_as_gzip(item: LocalObject, limits: ReadLimits) -> bool:
    """Whether the object is a gzip stream, from its first bytes; shared with JSON objects.

    Raises:
        BillingObjectError: larger than the limits, unpacked or as it is.
    """
    with item.path.open("rb") as stream:
        zipped = stream.read(2) == GZIP_MAGIC
    size = item.path.stat().st_size
    if zipped:
        _refuse_gzip_bomb(item, size, limits)
    elif size > limits.maximum_bytes:
        raise BillingObjectError(item.source, f"it has {size:,} bytes", "Split the export into smaller files")
    return zipped


def _refuse_gzip_bomb(item: LocalObject, size: int, limits: ReadLimits) -> None:
    """Refuse by the ratio of the first megabytes and by the trailer's size modulo 2^32 (RFC 1952)."""
    with item.path.open("rb") as stream:
        stream.seek(max(0, size - _TRAILER.size))
        trailer = stream.read()
        stream.seek(0)
        probe = zlib.decompressobj(31)
        eaten = made = 0
        try:
            while made < _PROBE_BYTES and not probe.eof and (chunk := stream.read(2**16)):
                made += len(probe.decompress(chunk, _PROBE_BYTES))
                eaten += len(chunk) - len(probe.unconsumed_tail)
        except zlib.error:
            raise BillingObjectError(item.source, *_DAMAGED) from None
    if len(trailer) < _TRAILER.size or not eaten:
        raise BillingObjectError(item.source, *_DAMAGED)
    stated = _TRAILER.unpack(trailer)[0]
    if stated > size * limits.maximum_ratio >= made:  # a cut-off file ends with any four bytes
        raise BillingObjectError(
            item.source,
            f"its trailer states {stated:,} bytes for {size:,}: the gzip stream is damaged or cut off, or a "
            "decompression bomb",
            "Deliver the object again",
        )
    ratio = made / eaten
    if ratio > limits.maximum_ratio or ratio * size > limits.maximum_bytes or stated > limits.maximum_bytes:
        raise BillingObjectError(
            item.source,
            f"it unpacks to about {ratio:,.0f} times its {size:,} bytes, refused as a decompression bomb",
            "Check where it came from; raise OFFGRIDFLOW_MAXIMUM_COMPRESSION_RATIO or "
            "OFFGRIDFLOW_MAXIMUM_OBJECT_BYTES only for a trusted source",
        )
