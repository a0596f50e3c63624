"""What a reader of activity files hands over: numbered rows of cells as text, or why the file is no table.

The bounds hold for every format. What a row means is judged in `activity_files`; formats are read in `activity_text`
and `activity_workbooks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

MAXIMUM_TEXT_BYTES = 64 * 2**20
#: Plain / compressed size; text of real bills stays below 30.
MAXIMUM_RATIO = 200
MAXIMUM_ROWS = 100_000
MAXIMUM_COLUMNS = 50
MAXIMUM_CELL_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong where; `row` 0 means the file as a whole, `column` empty the whole row, `sheet` no workbook."""

    row: int
    column: str
    message: str
    cure: str
    sheet: str = ""


class UnreadableError(Exception):
    """The file is no table; carries the one fault that says so."""

    def __init__(self, message: str, cure: str, row: int = 0, column: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(row, column, message, cure)


@dataclass(frozen=True, slots=True)
class Misread:
    """A cell, or the cells of a row, that stand for no value; why, and the cure."""

    message: str
    cure: str


Cell: TypeAlias = str | Misread


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in the order of the header, numbered as in a spreadsheet (the header is row 1).

    `wrong` says why the cells cannot be laid under the header. Rows in which nothing is written are passed over.
    """

    number: int
    cells: Sequence[Cell]
    wrong: Misread | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, the header first; `sheet` is the worksheet that they stand in, empty where the format has none."""

    rows: Iterator[Row]
    media_type: str
    sheet: str = ""


def too_large() -> UnreadableError:
    """The file unpacks to more than a file of rows does."""
    return UnreadableError(
        f"the content is larger than {MAXIMUM_TEXT_BYTES // 2**20} MiB, or compressed beyond what bills are",
        "split the file",
    )


def shown(text: str) -> str:
    """A piece of the file for a message: short, printable."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text[:41])
    return repr(plain if len(plain) <= 40 else f"{plain[:37]}...")
