"""Reads a workbook back and holds every cell against facts and factors: what the blocking check asks.

Another library than the one that wrote it (openpyxl), and from the file alone: a wrong format, a lost digit, a
reference to another fact or a name that points beside its cell is found however it came about. Widths, colours,
charts and what is printed around the cells are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from offgridflow_pipeline.reporting.display import NOT_AVAILABLE
from offgridflow_pipeline.reporting.fact import Fact, FactSet, fact_set
from offgridflow_pipeline.reporting.workbook.cells import (
    FORMULA_STARTS,
    Cell,
    Digits,
    Stated,
    all_digits,
    cell_unit,
    defined_name,
    dimensions,
    fits,
    number_format,
    safe_text,
)
from offgridflow_pipeline.reporting.workbook.document import DATE_FORMAT, HEAD_ROW, made_from
from offgridflow_pipeline.reporting.workbook.sheets import FACT_COLUMNS, FACTS, Sheet, headline, sheets

if TYPE_CHECKING:
    import pyarrow as pa

#: What the library raises on a file that is no workbook: both its XML parsers raise kinds of SyntaxError.
_UNREADABLE = (BadZipFile, SyntaxError, LookupError, ValueError, TypeError)
_HEADS = tuple(column.head for column, _ in FACT_COLUMNS)
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A cell of the file: its formula if it has one, the value it shows, and the number format."""

    formula: str | None
    value: Any
    number_format: str | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a cell has to show, in which format, and the fact it has to refer to."""

    value: object
    number_format: str | None = None
    refers_to: Fact | None = None


def differences(path: Path, facts: pa.Table, factors: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the workbook does not say what facts and factors say; empty when it does.

    Args:
        path: workbook.
        facts: rows of `schemas.REPORT_FACTS`.
        factors: rows of `cited_factors`.

    Returns:
        one sentence per difference, with sheet and cell.
    """
    try:
        read, names = _read(path)
    except _UNREADABLE as error:
        return [f"{path.name} cannot be read as a workbook: {type(error).__name__}: {error}"]
    stated = fact_set(facts)
    wanted = sheets(stated, factors, made_from(facts))
    if list(read) != [sheet.name for sheet in wanted]:
        return [f"The sheets are {', '.join(read)}, not {', '.join(sheet.name for sheet in wanted)}."]
    found = list(_facts_sheet(read[FACTS], stated, names))
    for sheet in wanted:
        found += _by_place(sheet.name, read[sheet.name], _layout(sheet, headline(stated)))
    return found


def _read(path: Path) -> tuple[dict[str, dict[Place, _Seen]], dict[str, str]]:
    """Cells that hold something, by sheet, row and column, and what the names stand for."""
    with (
        closing(load_workbook(path, read_only=True)) as written,
        closing(load_workbook(path, read_only=True, data_only=True)) as shown,
    ):
        names = {name: definition.attr_text for name, definition in written.defined_names.items()}
        return {sheet.title: dict(_cells(sheet, shown[sheet.title])) for sheet in written.worksheets}, names


def _cells(written: Any, shown: Any) -> Iterator[tuple[Place, _Seen]]:
    for sheet in (written, shown):
        sheet.reset_dimensions()  # else nothing is read beyond the area that the file itself declares
    for cells, values in zip(written.iter_rows(), shown.iter_rows(values_only=True), strict=True):
        for cell, value in zip(cells, values, strict=True):
            if cell.value is not None:
                formula = str(cell.value) if cell.data_type == "f" else None
                yield (cell.row, cell.column), _Seen(formula, value, cell.number_format)


def _facts_sheet(cells: Mapping[Place, _Seen], facts: FactSet, names: Mapping[str, str]) -> Iterator[str]:
    """Each fact once, as the fact itself says it, whatever `sheets` makes of it; and the name of its cell."""
    known = {fact.fact_id: fact for fact in facts}
    for number in sorted({row for row, _ in cells if row > HEAD_ROW + 1}):
        values = (cells.get((number, column)) for column in range(1, len(_HEADS) + 1))
        row = {head: seen.value if seen else None for head, seen in zip(_HEADS, values, strict=True)}
        fact = known.pop(str(row["Fact"]), None)
        if fact is None:
            yield f"{FACTS} row {number}: {row['Fact']} is no fact of the report, or stands there twice."
            continue
        for head, expected in _expected(fact).items():
            if not _same(row[head], expected):
                yield f"{FACTS} row {number}: {head} of {fact.fact_id} is {row[head]!r}, the fact has {expected!r}."
        place = f"{FACTS}!${get_column_letter(_HEADS.index('Value') + 1)}${number}"
        if names.get(defined_name(fact.fact_id)) != place:
            yield f"The name of {fact.fact_id} is {names.get(defined_name(fact.fact_id))}, its value is in {place}."
    yield from (f"{FACTS}: {fact.fact_id} ({fact.metric}) is missing." for fact in known.values())


def _expected(fact: Fact) -> dict[str, object]:
    digits = all_digits(fact)
    return {
        "Value": _value(fact),
        "Unit": cell_unit(fact) if fact.value_type == "number" else "",
        "Decimals": fact.decimals,
        "All digits": digits.text if digits else None,
        "Exact": fact.exact,
        "Not available because": safe_text(fact.reason or ""),
        "From": fact.period_start,
        "To": fact.period_end,
        "Metric": fact.metric,
        "Dimensions": safe_text(dimensions(fact)),
        "Computed from": safe_text(" ".join(fact.basis)),
    }


def _layout(sheet: Sheet, headline: str) -> dict[Place, _Wanted]:
    """What every cell of the sheet has to be, by row and column."""
    texts = {(1, 1): sheet.title, (2, 1): headline, (3, 1): sheet.lead}
    texts |= {(HEAD_ROW + 1, place): column.head for place, column in enumerate(sheet.columns, 1)}
    marks = {reason: f"[{number}]" for number, reason in enumerate(sheet.reasons, 1)}
    below = HEAD_ROW + 3 + len(sheet.rows)
    texts |= {(below + number, 1): f"{mark} {reason}" for number, (reason, mark) in enumerate(marks.items())}
    layout = {place: _Wanted(safe_text(text)) for place, text in texts.items()}
    for number, row in enumerate(sheet.rows, HEAD_ROW + 2):
        layout |= {(number, place): _wanted(cell, marks) for place, cell in enumerate(row.cells, 1)}
    return layout


def _wanted(cell: Cell, marks: Mapping[str, str]) -> _Wanted:
    if isinstance(cell, Fact):
        return _referred(cell, marks)
    if isinstance(cell, Stated):
        return _Wanted(_value(cell.fact), _format(cell.fact))
    if isinstance(cell, Digits):
        return _Wanted(cell.text)
    if isinstance(cell, Decimal | int):
        return _Wanted(Decimal(cell) if fits(Decimal(cell)) else f"{cell:f}")
    if isinstance(cell, date):
        return _Wanted(cell, DATE_FORMAT)
    return _Wanted(safe_text(cell or ""))


def _referred(fact: Fact, marks: Mapping[str, str]) -> _Wanted:
    if fact.value is None:
        return _Wanted(f"{NOT_AVAILABLE} {marks[fact.reason or '']}")
    return _Wanted(_value(fact), _format(fact), fact if fact.value_type == "number" else None)


def _format(fact: Fact) -> str | None:
    """Number format of a value that has one."""
    if fact.value is None or fact.value_type not in ("number", "date"):
        return None
    return number_format(fact) if fact.value_type == "number" else DATE_FORMAT


def _by_place(name: str, cells: Mapping[Place, _Seen], layout: Mapping[Place, _Wanted]) -> Iterator[str]:
    """Differences of a sheet, cell by cell; what stands beside its tables is one too."""
    for row, column in sorted(cells.keys() | layout.keys()):
        seen = cells.get((row, column), _Seen(None, None, None))
        for finding in _findings(seen, layout.get((row, column), _Wanted(None))):
            yield f"{name} {get_column_letter(column)}{row}: {finding}"


def _findings(seen: _Seen, wanted: _Wanted) -> Iterator[str]:
    fact = wanted.refers_to
    if fact is not None and seen.formula != f"={defined_name(fact.fact_id)}":
        yield f"{seen.formula or seen.value!r} is no reference to {fact.fact_id}."
    if fact is None and seen.formula is not None:
        yield f"{seen.formula!r} is a formula where none belongs."
    if not _same(seen.value, wanted.value):
        yield f"shows {seen.value!r}, {fact.fact_id if fact else 'what belongs there'} is {wanted.value!s}."
    if wanted.number_format is not None and seen.number_format != wanted.number_format:
        yield f"is shown as {seen.number_format}, not as {wanted.number_format}."
    if isinstance(seen.value, str) and seen.value.startswith(FORMULA_STARTS) and not _is_number(seen.value):
        yield f"{seen.value[:40]!r} could be run as a formula."


def _value(fact: Fact) -> object:
    if fact.value is None:
        return None
    if fact.value_type == "number":
        return fact.number
    return date.fromisoformat(fact.value) if fact.value_type == "date" else safe_text(fact.value)


def _same(cell: object, expected: object) -> bool:
    if isinstance(expected, Decimal):
        return isinstance(cell, int | float) and not isinstance(cell, bool) and _equals(cell, expected)
    if isinstance(cell, datetime):
        return cell.date() == expected
    if isinstance(expected, str) and isinstance(cell, str):
        return _alike(cell) == _alike(expected)
    return cell == expected or (cell is None and expected == "")


def _equals(cell: float, value: Decimal) -> bool:
    """Digit for digit; where a double cannot hold the digits, as near as the file's 16 digits are."""
    nearest = float(value)
    return Decimal(repr(cell)) == value if fits(value) else cell in (nearest, float(f"{nearest:.16G}"))


def _alike(text: str) -> str:
    """The library drops this escape sequence wherever it stands, and reads every line end as one."""
    return text.replace("x005F_", "").replace("\r\n", "\n")


def _is_number(text: str) -> bool:
    try:
        Decimal(text)
    except ArithmeticError:
        return False
    return True
