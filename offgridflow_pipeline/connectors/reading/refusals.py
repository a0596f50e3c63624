"""What the engine says while it reads an object, turned into errors that name object, row, column and cure."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.gzip_objects import DAMAGED, OVERSIZED, is_gzip, trouble
from offgridflow_pipeline.connectors.reading.relation import MAXIMUM_LINE_BYTES, ROW, LocalObject, quoted

_MARKER = "OGF-REFUSED"
_BAD_VALUE = re.compile(rf"{_MARKER}\|(?P<row>\d+)\|(?P<column>[^|]*)\|(?P<source>[^|]*)\|(?P<problem>[^\n]*)")
_LINE = re.compile(r"[Ll]ine:? (\d+)")
_AGAIN = "Deliver the object again"
#: What DuckDB says of a row that does not fit its read buffer.
_OVERSIZED = "Parallel CSV Reader currently does not support"
_UNREADABLE = (
    (r"Expected Number of Columns: (\d+) Found: (\d+)", r"the row has \2 cells, the header \1", _AGAIN),
    (r"unterminated quote", "a quote is not closed", _AGAIN),
    (r"[Mm]aximum line size of (\d+) bytes", r"the row is longer than \1 bytes", "Remove the oversized cell"),
    (r"unicode|utf-?8", "the text is not UTF-8", "Export it as UTF-8"),
    (r"GZIP|gzip|miniz|inflate", *DAMAGED),
    (r"invalid state|RFC 4180", "the text is not valid CSV (quotes or line ends)", _AGAIN),
)


def refusal(item: LocalObject, header: str, value: str, problem: str) -> str:
    """SQL that stops the reading at this row: `value` is the SQL of the bad text, `header` the column's name."""
    column, source = (text.replace("|", "¦") for text in (header, item.source))
    head = f"{quoted(_MARKER + '|')} || {ROW}::VARCHAR || {quoted(f'|{column}|{source}|')}"
    return f"error({head} || coalesce(left({value}, 80) || ' ', '') || {quoted(problem)})"


@contextmanager
def reading_errors(objects: Sequence[LocalObject]) -> Iterator[None]:
    """Turn an error of the engine while it reads all of the objects into a BillingObjectError."""
    import duckdb

    try:
        yield
    except (duckdb.Error, OSError) as error:  # an Arrow stream wraps the engine's error as OSError
        found = _troubled(objects, unfinished=False) or _refused(str(error), objects)
        if found is None:
            raise
        raise found from None
    if unseen := _troubled(objects, unfinished=True):
        raise unseen


def _troubled(objects: Sequence[LocalObject], *, unfinished: bool) -> BillingObjectError | None:
    """The refusal of an object whose reading failed, whatever the engine says of it."""
    for item in objects:
        if problem := trouble(item, unfinished=unfinished):
            cure = OVERSIZED[1] if problem == OVERSIZED[0] else _AGAIN
            return BillingObjectError(item.source, problem, cure)
    return None


def _refused(text: str, objects: Sequence[LocalObject]) -> BillingObjectError | None:
    if bad := _BAD_VALUE.search(text):
        return BillingObjectError(
            bad["source"], bad["problem"].strip(), "Correct the value and deliver the object again",
            row=int(bad["row"]), column=bad["column"],
        )  # fmt: skip
    if _OVERSIZED in text:
        item, row_number = _oversized_row(objects)
        return BillingObjectError(
            item.source if item else _named(text, objects),
            *OVERSIZED,
            row=row_number,
        )
    for pattern, problem, cure in _UNREADABLE:
        if found := re.search(pattern, text):
            line = _LINE.search(text)
            row = int(line[1]) - 1 if line and "CSV Error" in text else None
            return BillingObjectError(_named(text, objects), found.expand(problem), cure, row=row)
    named = [o for o in objects if str(o.path) in text]
    return BillingObjectError(named[0].source, text.splitlines()[0][:300], _AGAIN) if named else None


def _oversized_row(objects: Sequence[LocalObject]) -> tuple[LocalObject | None, int | None]:
    """The first object with a line over the limit, and its row; the engine does not say where it stopped."""
    for item in objects:
        with (gzip.open if is_gzip(item.path) else open)(item.path, "rb") as stream:
            row, length = 0, 0
            while chunk := stream.read(1 << 20):
                for position, part in enumerate(chunk.split(b"\n")):
                    row, length = (row + 1, 0) if position else (row, length)
                    length += len(part)
                    if length > MAXIMUM_LINE_BYTES:
                        return item, row
    return None, None


def _named(text: str, objects: Sequence[LocalObject]) -> str:
    named = [o.source for o in objects if str(o.path) in text]
    return named[0] if named else " or ".join(o.source for o in objects)
