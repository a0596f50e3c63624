"""Form of uploaded activity files (fuel, electricity, travel, spend): is this a table that can be computed from?

Columns are rows of `data/activity_columns.csv`. Every fault has row (as in a spreadsheet, the header is row 1), column,
message and cure. Nothing is calculated here, and nothing that a file holds is trusted: what it unpacks to is counted
and cut off within bounds.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from typing import BinaryIO, Literal, get_args

from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.inventory.activity_rows import (
    MAXIMUM_CELL_LENGTH,
    MAXIMUM_COLUMNS,
    MAXIMUM_ROWS,
    Cell,
    Fault,
    Misread,
    Row,
    Table,
    UnreadableError,
    shown,
)
from offgridflow_pipeline.inventory.activity_text import GZIP, text_table

ActivityKind = Literal["fuel", "electricity", "travel", "spend"]
KINDS: tuple[ActivityKind, ...] = get_args(ActivityKind)

#: Faults that are told; the others are counted.
MAXIMUM_FAULTS = 100

_ZIP, _OLE = "application/zip", "application/x-ole-storage"
#: By the letters that a file begins with; anything else is text.
_MEDIA_TYPES = {b"\x1f\x8b": GZIP, b"PK\x03\x04": _ZIP, b"PK\x05\x06": _ZIP, b"\xd0\xcf\x11\xe0": _OLE}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,12})?")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
#: Joiners, without which Persian and Hindi words and many emoji are others.
_JOINERS = frozenset("\u200c\u200d")


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
    """The form of the file: CSV in UTF-8, plain or gzip, or a worksheet of an Excel workbook (.xlsx)."""
    start = file.read(4)
    file.seek(0)
    media_type = next((name for letters, name in _MEDIA_TYPES.items() if start.startswith(letters)), "text/csv")
    found = _Findings()
    try:
        table = _table(kind, media_type, file)
        media_type, found.sheet = table.media_type, table.sheet
        _examine_rows(kind, table.rows, found)
    except UnreadableError as error:
        found.add(error.fault)
    return FileForm(found.rows, media_type, tuple(found.faults), found.more)


def _table(kind: ActivityKind, media_type: str, file: BinaryIO) -> Table:
    if media_type == _OLE:
        raise UnreadableError(
            "this is an old workbook (.xls), or one with a password",
            "open it and save it as an Excel workbook (.xlsx) without a password, or as CSV UTF-8",
        )
    if media_type == _ZIP:
        from offgridflow_pipeline.inventory.activity_workbooks import workbook_table

        return workbook_table(kind, file)
    return text_table(file, media_type)


@dataclass
class _Findings:
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    more: int = 0
    sheet: str = ""

    def add(self, fault: Fault) -> None:
        if len(self.faults) < MAXIMUM_FAULTS:
            self.faults.append(replace(fault, sheet=self.sheet))
        else:
            self.more += 1


def _examine_rows(kind: ActivityKind, rows: Iterator[Row], found: _Findings) -> None:
    periods: dict[tuple[str, str], list[tuple[date, date, int]]] = defaultdict(list)
    header = _header(next(rows), found)
    if header is None or (columns := _columns_of(kind, header, found)) is None:
        return
    for row in rows:
        found.rows += 1
        if found.rows > MAXIMUM_ROWS:
            raise UnreadableError(f"there are more than {MAXIMUM_ROWS:,} rows", "split the file", row.number)
        if row.wrong is not None:
            found.add(Fault(row.number, "", row.wrong.message, row.wrong.cure))
        else:
            _examine_row(row.number, dict(zip(header, row.cells, strict=True)), columns, found, periods)
    if not found.rows:
        raise UnreadableError("there is no row below the header", "add the rows")
    for fault in _overlaps(periods):
        found.add(fault)


def _header(row: Row, found: _Findings) -> list[str] | None:
    """Names of the columns; None with a fault when one stands for no name."""
    names = [cell.strip().casefold() for cell in row.cells if not isinstance(cell, Misread)]
    for wrong in (cell for cell in row.cells if isinstance(cell, Misread)):
        found.add(Fault(row.number, "", wrong.message, wrong.cure))
    return names if len(names) == len(row.cells) else None


def _columns_of(kind: ActivityKind, header: Sequence[str], found: _Findings) -> Mapping[str, ActivityColumn] | None:
    """Known columns by name; None with a fault when rows cannot be read by this header."""
    known = {column.name: column for column in activity_columns(kind)}
    if len(header) > MAXIMUM_COLUMNS:
        found.add(Fault(1, "", f"there are more than {MAXIMUM_COLUMNS} columns", "leave out what is not listed"))
        return None
    before = len(found.faults)
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        found.add(Fault(1, shown(name), "the column is there twice", "leave one out"))
    for column in known.values():
        if column.is_required and column.name not in header:
            found.add(
                Fault(1, column.name, "the column is missing", f"a {kind} file has the columns {', '.join(known)}")
            )
    for number, name in enumerate(header, start=1):
        if not name:
            found.add(Fault(1, "", f"column {number} has no name", "write its name into row 1, or leave it out"))
        elif name not in known:
            found.add(Fault(1, shown(name), "the column is not known", f"leave it out; known are {', '.join(known)}"))
    return None if len(found.faults) > before else known


def _examine_row(
    number: int,
    cells: Mapping[str, Cell],
    columns: Mapping[str, ActivityColumn],
    found: _Findings,
    periods: dict[tuple[str, str], list[tuple[date, date, int]]],
) -> None:
    texts: dict[str, str] = {}
    for name, cell in cells.items():
        if (wrong := _cell_fault(columns[name], cell)) is not None:
            found.add(Fault(number, name, *wrong))
        elif isinstance(cell, str):
            texts[name] = cell.strip()
    if len(texts) < len(cells) or "period_start" not in texts or "period_end" not in texts:
        return
    start, end = (date.fromisoformat(texts[name]) for name in ("period_start", "period_end"))
    if end < start:
        found.add(Fault(number, "period_end", "the period ends before it begins", "swap the days"))
    elif meter := texts.get("meter"):
        periods[texts["site"], meter].append((start, end, number))


def _cell_fault(column: ActivityColumn, cell: Cell) -> tuple[str, str] | None:
    """Message and cure of what is wrong with a cell; None when it is right."""
    if isinstance(cell, Misread):
        return cell.message, cell.cure
    text = cell.strip(" ")
    if len(text) > MAXIMUM_CELL_LENGTH:
        return "the text is too long", f"at most {MAXIMUM_CELL_LENGTH} characters"
    if not text.strip():
        return ("the cell is empty", "fill it") if column.is_required else None
    bare = text.strip()
    if (text.startswith(_FORMULA_STARTS) or bare.startswith(_FORMULA_STARTS)) and not _NUMBER.fullmatch(text):
        return "the cell begins like a formula", "write the value itself, without = + - @ or a tab in front"
    return _FORMS[column.form](bare, column)


def _text_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    """Spaces of every width are text; line breaks, direction overrides and what else shows as nothing are none."""
    wrong = [
        letter
        for letter in text
        if not letter.isprintable() and letter not in _JOINERS and unicodedata.category(letter) != "Zs"
    ]
    return (f"the text holds control characters (U+{ord(wrong[0]):04X})", "remove them") if wrong else None


def _choice_fault(text: str, column: ActivityColumn) -> tuple[str, str] | None:
    return None if text in column.values else (f"{shown(text)} is not known", f"one of {', '.join(column.values)}")


def _date_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    try:
        if _DATE.fullmatch(text) and date.fromisoformat(text).year >= 1990:
            return None
    except ValueError:
        pass
    return f"{shown(text)} is no day", "write it as 2026-10-31"


def _quantity_fault(text: str, column: ActivityColumn) -> tuple[str, str] | None:
    wrong = _amount_fault(text, column)
    if wrong is None and text.startswith("-"):
        return "the quantity is negative", "a quantity is at least 0; leave out what was corrected"
    return wrong


def _amount_fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
    if _NUMBER.fullmatch(text):
        return None
    return f"{shown(text)} is no number", "write it as 1234.56: a point before decimals, no thousands separators"


def _code_fault(length: int, example: str) -> Callable[[str, ActivityColumn], tuple[str, str] | None]:
    def fault(text: str, _column: ActivityColumn) -> tuple[str, str] | None:
        if len(text) == length and text.isascii() and text.isalpha() and text.isupper():
            return None
        return f"{shown(text)} is no code", f"write {length} capital letters, for example {example}"

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
                    f"the period overlaps that of row {number} for the meter {shown(meter)}",
                    "a day may be billed once per meter",
                )
            if end > latest:
                latest, number = end, row
