"""Form of uploaded activity files (fuel, electricity, travel, spend): is this a table that can be computed from?

Columns are rows of `data/activity_columns.csv`. Every fault has row (as in a spreadsheet, the header is row 1), column,
message and cure. Nothing is converted or calculated here, and nothing that a file holds is trusted: text is inflated,
counted and cut off within bounds.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from itertools import chain
from typing import BinaryIO, Literal, get_args

from offgridflow_pipeline.data_rows import data_rows

ActivityKind = Literal["fuel", "electricity", "travel", "spend"]
KINDS: tuple[ActivityKind, ...] = get_args(ActivityKind)

MAXIMUM_TEXT_BYTES = 64 * 2**20
#: Plain / compressed size; text of real bills stays below 30.
MAXIMUM_RATIO = 200
MAXIMUM_ROWS = 100_000
MAXIMUM_COLUMNS = 50
MAXIMUM_CELL_LENGTH = 2_000
#: Faults that are told; the others are counted.
MAXIMUM_FAULTS = 100

_CHUNK_BYTES = 1 << 16
_GZIP, _ZIP, _OLE = b"\x1f\x8b", b"PK", b"\xd0\xcf\x11\xe0"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,12})?")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong where; `row` 0 means the file as a whole, `column` empty the whole row."""

    row: int
    column: str
    message: str
    cure: str


@dataclass(frozen=True, slots=True)
class FileForm:
    """What a file is: data rows read, its media type, and its faults; `more_faults` were found and are not told."""

    row_count: int
    media_type: str
    faults: tuple[Fault, ...]
    more_faults: int

    @property
    def is_accepted(self) -> bool:
        """Whether the form is right."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class ActivityColumn:
    """A column of a kind of file."""

    name: str
    is_required: bool
    form: str
    values: tuple[str, ...]


class _UnreadableError(ValueError):
    """The file is no table; carries the one fault that says so."""

    def __init__(self, message: str, cure: str, row: int = 0, column: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(row, column, message, cure)


@cache
def activity_columns(kind: ActivityKind) -> tuple[ActivityColumn, ...]:
    """Columns of the kind, the required ones among them."""
    return tuple(
        ActivityColumn(
            row["column"], row["is_required"] == "x", row["form"], tuple(filter(None, row["values"].split("|")))
        )
        for row in data_rows(__file__, "activity_columns.csv")
        if row["kind"] == kind
    )


def examine(kind: ActivityKind, file: BinaryIO) -> FileForm:
    """The form of the file, read from its current position; CSV in UTF-8, plain or gzip."""
    start = file.read(4)
    file.seek(-len(start), io.SEEK_CUR)
    media_type = "application/gzip" if start.startswith(_GZIP) else "text/csv"
    found = _Findings()
    try:
        _refuse_other_formats(start)
        plain = _inflated(file) if start.startswith(_GZIP) else _plain(file)
        _examine_rows(kind, _lines(plain), found)
    except _UnreadableError as error:
        found.add(error.fault)
    return FileForm(found.rows, media_type, tuple(found.faults), found.more)


@dataclass
class _Findings:
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    more: int = 0

    def add(self, fault: Fault) -> None:
        if len(self.faults) < MAXIMUM_FAULTS:
            self.faults.append(fault)
        else:
            self.more += 1


def _refuse_other_formats(start: bytes) -> None:
    if not start:
        raise _UnreadableError("the file is empty", "upload a CSV file with a header row")
    if start.startswith((_ZIP, _OLE)):
        raise _UnreadableError(
            "this is a workbook or an archive, not CSV",
            "open it and save the sheet as CSV UTF-8 (comma delimited), then upload that file",
        )


def _plain(file: BinaryIO) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAXIMUM_TEXT_BYTES:
            raise _too_large()
        yield chunk


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """The text of a gzip file, piece by piece: never more than a chunk is inflated at once."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    packed = unpacked = 0
    while chunk := file.read(_CHUNK_BYTES):
        packed += len(chunk)
        while chunk and not inflater.eof:
            try:
                text = inflater.decompress(chunk, _CHUNK_BYTES)
            except zlib.error:
                raise _UnreadableError("the gzip file is damaged", "compress it again, or upload plain CSV") from None
            chunk = inflater.unconsumed_tail
            unpacked += len(text)
            if unpacked > MAXIMUM_TEXT_BYTES or unpacked > MAXIMUM_RATIO * max(packed, 1024):
                raise _too_large()
            yield text
        if inflater.eof and (inflater.unused_data or file.read(1)):
            raise _UnreadableError("the gzip file holds several parts", "upload one part, or plain CSV")
    if not inflater.eof:
        raise _UnreadableError("the gzip file ends early", "upload it again, or upload plain CSV")


def _too_large() -> _UnreadableError:
    return _UnreadableError(
        f"the text is larger than {MAXIMUM_TEXT_BYTES // 2**20} MiB, or compressed beyond what bills are",
        "split the file",
    )


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8 text with their ends, as `csv` takes them."""
    rest = b""
    number = 1
    is_first = True
    for chunk in chunks:
        rest += chunk
        *complete, rest = rest.split(b"\n")
        if len(rest) > MAXIMUM_COLUMNS * MAXIMUM_CELL_LENGTH:
            raise _UnreadableError("the line does not end", "save the file as CSV with a line for each row", number)
        for line in complete:
            yield _text(line + b"\n", number, is_first=is_first)
            is_first = False
            number += 1
    if rest:
        yield _text(rest, number, is_first=is_first)


def _text(line: bytes, number: int, *, is_first: bool) -> str:
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError:
        raise _UnreadableError("the text is not UTF-8", "save the file as CSV UTF-8", number) from None
    if "\0" in text:
        raise _UnreadableError("the text holds a NUL character: this is no CSV", "save it as CSV UTF-8", number)
    return text


def _examine_rows(kind: ActivityKind, lines: Iterator[str], found: _Findings) -> None:
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    periods: dict[tuple[str, str], list[tuple[date, date, int]]] = defaultdict(list)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        columns = _columns_of(kind, header, found)
        if columns is None:
            return
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            found.rows += 1
            if found.rows > MAXIMUM_ROWS:
                raise _UnreadableError(f"there are more than {MAXIMUM_ROWS:,} rows", "split the file", number)
            if len(cells) != len(header):
                message = f"{len(cells)} cells, but the header has {len(header)}"
                found.add(Fault(number, "", message, "quote cells that hold the delimiter"))
                continue
            _examine_row(number, dict(zip(header, cells, strict=True)), columns, found, periods)
    except csv.Error as error:
        raise _UnreadableError(f"the quoting is broken ({error})", "close every quote", reader.line_num + 1) from None
    if not found.rows:
        raise _UnreadableError("there is no row below the header", "add the rows")
    for fault in _overlaps(periods):
        found.add(fault)


def _columns_of(kind: ActivityKind, header: Sequence[str], found: _Findings) -> Mapping[str, ActivityColumn] | None:
    """Known columns by name; None with a fault when rows cannot be read by this header."""
    known = {column.name: column for column in activity_columns(kind)}
    if len(header) > MAXIMUM_COLUMNS:
        found.add(Fault(1, "", f"there are more than {MAXIMUM_COLUMNS} columns", "leave out what is not listed"))
        return None
    before = len(found.faults)
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        found.add(Fault(1, _shown(name), "the column is there twice", "leave one out"))
    for column in known.values():
        if column.is_required and column.name not in header:
            found.add(
                Fault(1, column.name, "the column is missing", f"a {kind} file has the columns {', '.join(known)}")
            )
    for name in header:
        if name not in known:
            found.add(Fault(1, _shown(name), "the column is not known", f"leave it out; known are {', '.join(known)}"))
    return None if len(found.faults) > before else known


def _examine_row(
    number: int,
    cells: Mapping[str, str],
    columns: Mapping[str, ActivityColumn],
    found: _Findings,
    periods: dict[tuple[str, str], list[tuple[date, date, int]]],
) -> None:
    is_sound = True
    for name, raw in cells.items():
        if (wrong := _cell_fault(columns[name], raw)) is not None:
            found.add(Fault(number, name, *wrong))
            is_sound = False
    if not is_sound or "period_start" not in cells or "period_end" not in cells:
        return
    start, end = (date.fromisoformat(cells[name].strip()) for name in ("period_start", "period_end"))
    if end < start:
        found.add(Fault(number, "period_end", "the period ends before it begins", "swap the days"))
    elif meter := cells.get("meter", "").strip():
        periods[cells["site"].strip(), meter].append((start, end, number))


def _cell_fault(column: ActivityColumn, raw: str) -> tuple[str, str] | None:
    """Message and cure of what is wrong with a cell; None when it is right."""
    text = raw.strip(" ")
    if len(text) > MAXIMUM_CELL_LENGTH:
        return "the text is too long", f"at most {MAXIMUM_CELL_LENGTH} characters"
    if not text.strip():
        return ("the cell is empty", "fill it") if column.is_required else None
    if text.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return "the cell begins like a formula", "write the value itself, without = + - @ or a tab in front"
    return _FORMS[column.form](text.strip(), column)


def _text_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    return None if text.isprintable() else ("the text holds control characters", "remove them")


def _choice_fault(text: str, column: ActivityColumn) -> tuple[str, str] | None:
    return None if text in column.values else (f"{_shown(text)} is not known", f"one of {', '.join(column.values)}")


def _date_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    try:
        if _DATE.fullmatch(text) and date.fromisoformat(text).year >= 1990:
            return None
    except ValueError:
        pass
    return f"{_shown(text)} is no day", "write it as 2026-10-31"


def _quantity_fault(text: str, column: ActivityColumn) -> tuple[str, str] | None:
    wrong = _amount_fault(text, column)
    if wrong is None and text.startswith("-"):
        return "the quantity is negative", "a quantity is at least 0; leave out what was corrected"
    return wrong


def _amount_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    if _NUMBER.fullmatch(text):
        return None
    return f"{_shown(text)} is no number", "write it as 1234.56: a point before decimals, no thousands separators"


def _code_fault(length: int, example: str) -> Callable[[str, ActivityColumn], tuple[str, str] | None]:
    def fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
        if len(text) == length and text.isascii() and text.isalpha() and text.isupper():
            return None
        return f"{_shown(text)} is no code", f"write {length} capital letters, for example {example}"

    return fault


_FORMS: Mapping[str, Callable[[str, ActivityColumn], tuple[str, str] | None]] = {
    "text": _text_fault,
    "choice": _choice_fault,
    "date": _date_fault,
    "quantity": _quantity_fault,
    "amount": _amount_fault,
    "country": _code_fault(2, "DE"),
    "currency": _code_fault(3, "EUR"),
}


def _overlaps(periods: Mapping[tuple[str, str], list[tuple[date, date, int]]]) -> Iterator[Fault]:
    for (_, meter), bills in sorted(periods.items()):
        latest, number = date.min, 0
        for start, end, row in sorted(bills):
            if start <= latest:
                yield Fault(
                    row,
                    "period_start",
                    f"the period overlaps that of row {number} for the meter {_shown(meter)}",
                    "a day may be billed once per meter",
                )
            if end > latest:
                latest, number = end, row


def _shown(text: str) -> str:
    """A piece of the file for a message: short, printable."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return repr(plain if len(plain) <= 40 else f"{plain[:37]}...")
