"""Activity files that are Excel workbooks (.xlsx, ECMA-376 part 1): the rows of one worksheet, as text.

Which sheet counts: the only visible one; of several, the one that is named after the kind of the file. Cells are read
as their CSV would be written: days as 2026-10-31, numbers with a point. What only looks like a value is none: formulas,
errors, percentages. openpyxl says what a date is. Its reader is for files that one trusts: it opens charts and images,
rewrites shared formulas, warns for each cell into a registry that grows for ever, drops rows that do not ascend, does
not tell merged cells, and tells a value from the last result of a formula only in a second pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from math import isfinite
from typing import BinaryIO, TypeGuard

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format
from openpyxl.utils import column_index_from_string, get_column_letter
from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

from offgridflow_pipeline.decimal_text import exact_text
from offgridflow_pipeline.inventory.activity_rows import (
    MAXIMUM_CELL_LENGTH,
    MAXIMUM_ROWS,
    Cell,
    Misread,
    Row,
    Table,
    UnreadableError,
    shown,
)
from offgridflow_pipeline.inventory.workbook_packages import PartReader, WorkbookPackage, damaged

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
#: Texts that cells share, and the letters of them all (up to four bytes each); of all sheets.
MAXIMUM_TEXTS = 5 * MAXIMUM_ROWS
MAXIMUM_LETTERS = 16 * 2**20
#: Attribute of a sheet that names its relationship, in transitional and strict workbooks.
_RELATION_IDS = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships}id",
    "http://purl.oclc.org/ooxml/officeDocument/relationships}id",
)
#: Grid of Excel.
_GRID_ROWS, _GRID_COLUMNS = 1_048_576, 16_384
#: Cell formats that Excel keeps; a number format has at most 255 letters.
_MAXIMUM_STYLES, _MAXIMUM_FORMAT_LENGTH = 65_536, 255
#: Decimals that an activity file may have.
_MAXIMUM_DECIMALS = 12
_MAXIMUM_NAME_LENGTH = 31
_MAXIMUM_MERGED_SHOWN = 5

_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
#: Characters that XML cannot hold (22.4.2.4, ST_Xstring), and in formats what is shown as it stands.
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LITERALS = re.compile(r'"[^"]*"|\\.|_.')
_INTEGER = re.compile(r"[+-]?[0-9]+")
#: Forms of a double in XML Schema (part 2, 3.2.5); Python takes more, such as 1_000 and digits of other scripts.
_DOUBLE = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|-?INF|NaN")
_ISO_MIDNIGHT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T00:00(:00(\.0+)?)?Z?")
#: Built-in formats of dates in East Asian Excel (ECMA-376 part 1, 18.8.30), which openpyxl does not list.
_EAST_ASIAN_DATES = frozenset((*range(27, 37), *range(50, 59)))

_FORMULA = Misread("the cell holds a formula", "copy the column and paste it as values (Paste special)")
_PERCENTAGE = Misread("the number is formatted as a percentage", "format it as a plain number, and write what it means")


def workbook_table(kind: str, file: BinaryIO) -> Table:
    """Rows of the sheet that counts; raises `UnreadableError` when this is no workbook, or has no such sheet."""
    package = WorkbookPackage(file)
    related = package.related(package.workbook)
    name, part = _sheet(kind, package, related)
    settings = package.tags(package.workbook, "workbookPr")
    is_1904 = any(tag.get("date1904") in {"1", "true"} for tag in settings)
    return Table(_rows(package, part, related, is_1904=is_1904), MEDIA_TYPE, name)


def _sheet(kind: str, package: WorkbookPackage, related: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Name and part of the sheet that counts."""
    sheets = []
    for tag in package.tags(package.workbook, "sheet"):
        relation = next((tag[name] for name in _RELATION_IDS if name in tag), "")
        part_kind, part = related.get(relation, ("", ""))
        if part_kind == "worksheet" and tag.get("state", "visible") == "visible":
            sheets.append((tag.get("name", ""), part))
    named = sheets if len(sheets) == 1 else [sheet for sheet in sheets if sheet[0].strip().casefold() == kind]
    if len(named) == 1:
        name, part = named[0]
        return "".join(letter for letter in name[:_MAXIMUM_NAME_LENGTH] if letter.isprintable()), part
    if not sheets:
        raise UnreadableError("the workbook has no visible worksheet", "show the sheet that holds the rows, and save")
    raise UnreadableError(
        f"{len(sheets)} sheets are visible, and not exactly one of them is named {kind}",
        f"name the sheet {kind!r}, or hide or delete the others",
    )


def _rows(
    package: WorkbookPackage, part: str, related: Mapping[str, tuple[str, str]], *, is_1904: bool
) -> Iterator[Row]:
    texts, styles = _Texts(), _Styles()
    _read_related(package, related, "sharedStrings", texts)
    _read_related(package, related, "styles", styles)
    sheet = _Sheet(_Values(texts.texts, styles, CALENDAR_MAC_1904 if is_1904 else CALENDAR_WINDOWS_1900))
    width = 0
    for _ in package.read(part, sheet):
        for number, cells in sheet.taken():
            if not width:
                if number != 1:
                    raise UnreadableError("row 1 is empty", "write the names of the columns into row 1", row=1)
                width = max(cells)
            yield _row(number, cells, width)
    if not width:
        raise UnreadableError("the sheet is empty", "write the names of the columns into row 1, and the rows below")
    if sheet.merged:
        raise UnreadableError(f"cells are merged ({', '.join(sheet.merged)})", "unmerge all cells, and fill each")


def _read_related(
    package: WorkbookPackage, related: Mapping[str, tuple[str, str]], kind: str, reader: PartReader
) -> None:
    """Read the part of a kind that a workbook has once, or not at all."""
    found = [part for part_kind, part in related.values() if part_kind == kind]
    if len(found) > 1:
        raise damaged()
    for part in found:
        for _ in package.read(part, reader):
            continue


def _row(number: int, cells: Mapping[int, Cell], width: int) -> Row:
    laid = [cells.get(column, "") for column in range(1, width + 1)]
    beyond = max(cells)
    if beyond <= width:
        return Row(number, laid)
    message = f"there is something in column {get_column_letter(beyond)}, which has no header"
    return Row(number, laid, Misread(message, "write its name into row 1, or clear the cell"))


class _Text:
    """Text that comes in pieces, held no further than a cell may be long."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0

    def add(self, piece: str) -> None:
        self._length += len(piece)
        if self._length <= MAXIMUM_CELL_LENGTH:
            self._pieces.append(piece)

    def whole(self) -> Cell:
        if self._length > MAXIMUM_CELL_LENGTH:
            return Misread("the text is too long", f"at most {MAXIMUM_CELL_LENGTH} characters")
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), "".join(self._pieces))


class _Texts:
    """Reader of the texts that cells share, each in runs of one format; not of how they are pronounced (`rPh`)."""

    def __init__(self) -> None:
        self.texts: list[Cell] = []
        self._letters = 0
        self._text = _Text()
        self._is_told = self._is_phonetic = False

    def start(self, name: str, _attributes: Mapping[str, str]) -> None:
        if name == "si":
            self._text = _Text()
        elif name == "rPh":
            self._is_phonetic = True
        elif name == "t":
            self._is_told = not self._is_phonetic

    def end(self, name: str) -> None:
        if name == "si":
            if len(self.texts) == MAXIMUM_TEXTS:
                raise UnreadableError(f"the workbook holds more than {MAXIMUM_TEXTS:,} texts", "split the file")
            self.texts.append(text := self._text.whole())
            self._letters += len(text) if isinstance(text, str) else 0
            if self._letters > MAXIMUM_LETTERS:
                raise UnreadableError(
                    f"the texts of the workbook have more than {MAXIMUM_LETTERS:,} letters", "split the file"
                )
        elif name == "rPh":
            self._is_phonetic = False
        elif name == "t":
            self._is_told = False

    def text(self, text: str) -> None:
        if self._is_told:
            self._text.add(text)


class _Styles:
    """Reader of what formats make of numbers: a day, a percentage, or a number."""

    def __init__(self) -> None:
        self._codes: dict[int, str] = {}
        self._format_of_style: list[int] = []
        self._kinds: dict[int, str] = {}
        self._list = ""

    def kind(self, style: int) -> str:
        """`date`, `percentage` or `number`."""
        if style not in self._kinds:
            # A workbook without styles has one, the plain one.
            number_format = self._format_of_style[style] if style or self._format_of_style else 0
            self._kinds[style] = self._kind_of_format(number_format)
        return self._kinds[style]

    def _kind_of_format(self, number_format: int) -> str:
        if number_format not in self._codes and number_format in _EAST_ASIAN_DATES:
            return "date"
        code = self._codes.get(number_format) or BUILTIN_FORMATS.get(number_format, "General")
        if is_date_format(code):
            return "date"
        return "percentage" if "%" in _LITERALS.sub("", code) else "number"

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in {"numFmts", "cellXfs"}:
            self._list = name
        elif name == "xf" and self._list == "cellXfs":
            self._format_of_style.append(int(attributes.get("numFmtId", "0")))
        elif name == "numFmt" and self._list == "numFmts":
            self._codes[int(attributes["numFmtId"])] = attributes["formatCode"][:_MAXIMUM_FORMAT_LENGTH]
        if len(self._format_of_style) > _MAXIMUM_STYLES or len(self._codes) > _MAXIMUM_STYLES:
            raise damaged()

    def end(self, name: str) -> None:
        if name == self._list:
            self._list = ""

    def text(self, text: str) -> None:
        """Styles have none."""


@dataclass(frozen=True, slots=True)
class _Values:
    """Turns what is stored of a cell into the text that its CSV would have."""

    texts: Sequence[Cell]
    styles: _Styles
    epoch: datetime

    def cell(self, kind: str, style: int, stored: Cell) -> Cell:
        if isinstance(stored, Misread):
            return stored
        if kind == "s":
            return self.texts[_whole_number(stored)]
        if kind == "n":
            return self._number(style, stored)
        if kind == "e":
            return Misread(f"the cell holds the error {shown(stored)}", "write the value itself, or clear the cell")
        if kind == "b":
            return "TRUE" if stored == "1" else "FALSE"
        return _ISO_MIDNIGHT.sub(r"\1", stored) if kind == "d" else stored

    def _number(self, style: int, stored: str) -> Cell:
        kind = self.styles.kind(style)
        if kind == "percentage":
            return _PERCENTAGE
        if kind == "date":
            with suppress(ValueError, OverflowError):
                moment = from_excel(_double(stored), self.epoch)
                return moment.date().isoformat() if _is_midnight(moment) else str(moment)
        return _plain_number(stored)


class _Sheet:
    """Reader of a worksheet; `taken` hands over the rows that have ended. Rows ascend, and cells in a row.

    The value of a cell is its one `v`; of the type `inlineStr` its one `is`, whatever a `v` beside it holds.
    """

    def __init__(self, values: _Values) -> None:
        self.merged: list[str] = []
        self._values = values
        self._rows: list[tuple[int, dict[int, Cell]]] = []
        self._number = self._column = 0
        self._cells: dict[int, Cell] | None = None
        self._kind, self._style = "n", 0
        self._text: _Text | None = None
        self._has_data = self._is_data = False
        self._has_value = self._is_value = self._is_told = self._is_phonetic = self._is_formula = False

    def taken(self) -> list[tuple[int, dict[int, Cell]]]:
        rows, self._rows = self._rows, []
        return rows

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "c":
            self._begin_cell(attributes)
        elif name in {"v", "is"}:
            self._begin_value(name)
        elif name == "t":
            if not self._is_value or self._kind != "inlineStr":
                raise damaged()
            self._is_told = not self._is_phonetic
        elif name == "f":
            self._is_formula = True
        elif name == "row":
            self._begin_row(attributes)
        elif name == "rPh":
            self._is_phonetic = True
        elif name == "sheetData":
            if self._has_data:
                raise damaged()
            self._has_data = self._is_data = True
        elif name == "mergeCell" and len(self.merged) < _MAXIMUM_MERGED_SHOWN:
            self.merged.append(shown(attributes.get("ref", "")))

    def end(self, name: str) -> None:
        if name == "c":
            self._end_cell()
        elif name in {"v", "is"}:
            self._is_value = self._is_told = False
        elif name == "t":
            self._is_told = False
        elif name == "row" and self._cells is not None:
            if self._cells:
                self._rows.append((self._number, self._cells))
            self._cells = None
        elif name == "rPh":
            self._is_phonetic = False
        elif name == "sheetData":
            self._is_data = False

    def text(self, text: str) -> None:
        if self._is_told and self._text is not None:
            self._text.add(text)

    def _begin_row(self, attributes: Mapping[str, str]) -> None:
        number = _whole_number(attributes["r"]) if "r" in attributes else self._number + 1
        if not self._is_data or self._cells is not None or not self._number < number <= _GRID_ROWS:
            raise damaged()
        self._number, self._column, self._cells = number, 0, {}

    def _begin_cell(self, attributes: Mapping[str, str]) -> None:
        column = self._column + 1
        if (reference := attributes.get("r")) is not None:
            found = _REFERENCE.fullmatch(reference)
            if found is None or int(found[2]) != self._number:
                raise damaged()
            column = column_index_from_string(found[1])
        if self._cells is None or not self._column < column <= _GRID_COLUMNS:
            raise damaged()
        self._column = column
        self._kind, self._style = attributes.get("t", "n"), _whole_number(attributes.get("s", "0"))
        self._text, self._has_value, self._is_formula = _Text(), False, False

    def _begin_value(self, name: str) -> None:
        is_inline = self._kind == "inlineStr"
        if name == "v" and is_inline and not self._is_value:
            return
        if self._text is None or self._has_value or is_inline != (name == "is"):
            raise damaged()
        self._has_value = self._is_value = True
        self._is_told = name == "v"

    def _end_cell(self) -> None:
        if self._text is None or self._cells is None:
            raise damaged()
        stored, self._text = self._text.whole(), None
        cell = _FORMULA if self._is_formula else self._values.cell(self._kind, self._style, stored) if stored else ""
        if isinstance(cell, Misread) or cell.strip():
            self._cells[self._column] = cell


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise damaged()
    return int(text)


def _plain_number(stored: str) -> str:
    """The number as text; what Excel holds in binary has the shortest decimals that name it, and at most twelve."""
    if _INTEGER.fullmatch(stored):
        return stored
    number = _double(stored)
    if not isfinite(number):
        return stored
    decimal = Decimal(repr(number))
    if int(decimal.as_tuple().exponent) < -_MAXIMUM_DECIMALS:
        decimal = round(decimal, _MAXIMUM_DECIMALS)
    return exact_text(decimal)


def _double(stored: str) -> float:
    text = stored.strip()
    if _DOUBLE.fullmatch(text) is None:
        raise damaged()
    return float(text)


def _is_midnight(moment: object) -> TypeGuard[datetime]:
    return isinstance(moment, datetime) and moment.time() == time.min
