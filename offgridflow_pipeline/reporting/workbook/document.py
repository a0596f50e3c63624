"""Writes the workbook: sheets of cells as one XLSX file. Equal facts give equal bytes."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reportlab.lib.colors import Color
from xlsxwriter import Workbook
from xlsxwriter.utility import xl_rowcol_to_cell

from offgridflow_pipeline.reporting.artefact import written
from offgridflow_pipeline.reporting.display import NOT_AVAILABLE, month_name
from offgridflow_pipeline.reporting.fact import Fact, FactSet, clean_text, fact_set
from offgridflow_pipeline.reporting.facts_file import facts_csv
from offgridflow_pipeline.reporting.pdf import theme
from offgridflow_pipeline.reporting.pdf.pages import BRAND, MARKED
from offgridflow_pipeline.reporting.workbook.cells import (
    Cell,
    Digits,
    Stated,
    defined_name,
    fits,
    number_format,
    safe_text,
)
from offgridflow_pipeline.reporting.workbook.sheets import Bars, Kind, Row, Sheet, headline, sheets

if TYPE_CHECKING:
    import pyarrow as pa

#: Nothing in a text becomes a formula, a link or a number; no file beside the one that is returned.
OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
#: Stands for the time of writing, which would make every build another file.
CREATED = datetime(1980, 1, 1)  # noqa: DTZ001 - the format knows no time zones
#: Rows above the head: title, entity with month and status, lead, an empty one.
HEAD_ROW = 4
DATE_FORMAT = "yyyy-mm-dd"
Style = dict[str, object]
_A4, _A3 = 9, 8
#: Characters that one A4 page shows in a row, and columns that leave room for a chart beside them.
_PAGE_WIDTH, _NARROW = 200, 3
#: Characters of the entity's name in a footer, which holds 255 in all.
_FOOTER_NAME = 80
#: Height of a line of text: not the format's default, which would leave the height to the text.
LINE_POINTS = 15.5


def build_workbook(facts: pa.Table, factors: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Write the report as a workbook.

    Args:
        facts: rows of `schemas.REPORT_FACTS`.
        factors: rows of `cited_factors`.
        out: .xlsx file to write; replaced atomically.

    Returns:
        `out`.

    Raises:
        UserWarning: the library would have left something out.
    """
    stated = fact_set(facts)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        book = _Book(Workbook(buffer, OPTIONS), stated)
        for sheet in sheets(stated, factors, made_from(facts)):
            _Page(book, sheet).write()
        book.close()
    return written(out, buffer.getvalue())


def made_from(facts: pa.Table) -> list[tuple[str, Cell]]:
    """What the first sheet says of the facts as a whole: whose they are, and their digest."""
    digest = hashlib.sha256(facts_csv(facts)).hexdigest()
    return [
        ("Tenant", facts["tenant_id"][0].as_py()),
        ("SHA-256 of the facts", f"{digest} (the facts as CSV, as the PDF attaches them)"),
    ]


class _Book:
    """The file under construction: what all its sheets share."""

    def __init__(self, book: Workbook, facts: FactSet) -> None:
        self.file = book
        self.entity = facts.one("entity_name").value or ""
        self.status = facts.one("status").value or ""
        self.headline = headline(facts)
        self._styles: dict[tuple[tuple[str, object], ...], Any] = {}
        title = f"Cloud footprint, {month_name(facts.period[0])}, {self.entity}"
        book.set_properties({"title": safe_text(title), "author": BRAND, "created": CREATED})

    def style(self, **properties: object) -> Any:
        """The format of these properties, made once."""
        properties = {name: _hex(value) if isinstance(value, Color) else value for name, value in properties.items()}
        key = tuple(properties.items())
        if key not in self._styles:
            self._styles[key] = self.file.add_format(properties)
        return self._styles[key]

    def close(self) -> None:
        """Complete the file."""
        self.file.close()


class _Page:
    """One sheet under construction."""

    def __init__(self, book: _Book, sheet: Sheet) -> None:
        self._book = book
        self._sheet = sheet
        self._page = book.file.add_worksheet(sheet.name)
        self._figures = sheet.figures
        self._reasons = {reason: number for number, reason in enumerate(sheet.reasons, 1)}

    def write(self) -> None:
        """Head, rows, reasons and chart."""
        self._set_up()
        self._heading()
        for number, row in enumerate(self._sheet.rows, HEAD_ROW + 1):
            self._row(number, row)
        last = HEAD_ROW + len(self._sheet.rows)
        muted = self._book.style(font_color=theme.MUTED)
        for reason, number in self._reasons.items():
            self._page.write_string(last + 1 + number, 0, safe_text(f"[{number}] {reason}"), muted)
        if self._sheet.is_list:
            self._page.autofilter(HEAD_ROW, 0, last, len(self._sheet.columns) - 1)
        if self._sheet.bars is not None:
            self._chart(self._sheet.bars)

    def _set_up(self) -> None:
        """Head in sight on screen and on every printed page, one page wide."""
        page, sheet = self._page, self._sheet
        page.freeze_panes(HEAD_ROW + 1, 1)
        page.hide_gridlines(2)
        page.set_landscape()
        page.set_paper(_A3 if sum(column.width for column in sheet.columns) > _PAGE_WIDTH else _A4)
        page.fit_to_pages(1, 0)
        page.repeat_rows(HEAD_ROW)
        # In the format's own escape, "P&&G", the library sees its mark for a picture.
        name = " ".join(clean_text(self._book.entity).split())
        entity = name[:_FOOTER_NAME].replace("&", "\N{FULLWIDTH AMPERSAND}")
        page.set_footer(f"&L{entity}&C{sheet.name}, {self._book.status}&RPage &P of &N")

    def _heading(self) -> None:
        page, sheet, book = self._page, self._sheet, self._book
        colour = theme.RUST if book.status in MARKED else theme.ACCENT
        page.write_string(0, 0, sheet.title, book.style(bold=True, font_size=16, font_color=theme.DEEP))
        page.write_string(1, 0, safe_text(book.headline), book.style(bold=True, font_color=colour))
        page.write_string(2, 0, sheet.lead, book.style(font_color=theme.MUTED))
        for place, column in enumerate(sheet.columns):
            aside = "right" if place in self._figures else "left"
            style = book.style(
                bold=True, font_color=theme.WHITE, bg_color=theme.DEEP, valign="vcenter", text_wrap=True, align=aside
            )
            page.set_column(place, place, column.width)
            page.write_string(HEAD_ROW, place, safe_text(column.head), style)
        page.set_row(HEAD_ROW, LINE_POINTS * max(_lines(column.head, column.width) for column in sheet.columns))

    def _row(self, number: int, row: Row) -> None:
        lines = 1
        for place, cell in enumerate(row.cells):
            column = self._sheet.columns[place]
            wraps = column.wraps and row.kind == "body"
            self._cell(number, place, cell, _style_of(row.kind, place, wraps=wraps))
            if wraps:
                lines = max(lines, _lines(cell, column.width))
        self._page.set_row(number, LINE_POINTS * min(lines, self._sheet.lines))

    def _cell(self, number: int, place: int, cell: Cell, style: Style) -> None:
        if isinstance(cell, Stated):
            self._value(number, place, cell.fact, style)
            where = f"={self._sheet.name}!{xl_rowcol_to_cell(number, place, row_abs=True, col_abs=True)}"
            self._book.file.define_name(defined_name(cell.fact.fact_id), where)
        elif isinstance(cell, Fact):
            self._fact(number, place, cell, style)
        elif isinstance(cell, Digits):
            self._page.write_string(number, place, cell.text, self._book.style(**style))
        elif isinstance(cell, date):
            self._page.write_datetime(
                number, place, cell, self._book.style(**style, num_format=DATE_FORMAT, align="left")
            )
        elif isinstance(cell, Decimal | int):
            self._number(number, place, cell, style)
        else:
            aligned = style if place not in self._figures else {**style, "align": "right"}
            self._text(number, place, cell or "", aligned)

    def _fact(self, number: int, place: int, fact: Fact, style: Style) -> None:
        """A figure as a reference to the fact's cell; a text as it is; the number of the reason for neither."""
        if fact.value is None:
            mark = f"{NOT_AVAILABLE} [{self._reasons[fact.reason or '']}]"
            self._cell(number, place, mark, style)
        elif fact.value_type == "number":
            shown = self._book.style(**style, num_format=number_format(fact))
            self._page.write_formula(number, place, f"={defined_name(fact.fact_id)}", shown, float(fact.number))
        else:
            self._value(number, place, fact, style)

    def _value(self, number: int, place: int, fact: Fact, style: Style) -> None:
        """The value of a fact, by its type; nothing where it is not available."""
        if fact.value is not None and fact.value_type == "number":
            shown = self._book.style(**style, num_format=number_format(fact))
            self._page.write_number(number, place, float(fact.number), shown)
        elif fact.value is not None and fact.value_type == "date":
            self._cell(number, place, date.fromisoformat(fact.value), style)
        else:
            self._text(number, place, fact.value or "", style)

    def _text(self, number: int, place: int, text: str, style: Style) -> None:
        """A text that stays one; an empty one leaves the cell empty."""
        if text:
            self._page.write_string(number, place, safe_text(text), self._book.style(**style))
        else:
            self._page.write_blank(number, place, None, self._book.style(**style))

    def _number(self, number: int, place: int, figure: Decimal | int, style: Style) -> None:
        """A number that is no fact: itself, or its digits where a double would lose some."""
        if fits(Decimal(figure)):
            self._page.write_number(number, place, figure, self._book.style(**style))
        else:
            self._page.write_string(number, place, f"{figure:f}", self._book.style(**style))

    def _chart(self, bars: Bars) -> None:
        """Columns side by side: beside a narrow table, below a wide one."""
        name = self._sheet.name
        chart = self._book.file.add_chart({"type": "column"})
        first, last = HEAD_ROW + 1, HEAD_ROW + bars.rows
        for place, colour in zip(bars.values, (theme.ACCENT, theme.FILLS["azure"]), strict=False):
            chart.add_series(
                {
                    "name": [name, HEAD_ROW, place],
                    "categories": [name, first, 0, last, 0],
                    "values": [name, first, place, last, place],
                    "fill": {"color": _hex(colour)},
                    "gap": 40,
                }
            )
        chart.set_title({"name": bars.title, "name_font": {"size": 11, "bold": False}})
        chart.set_legend({"position": "bottom"} if len(bars.values) > 1 else {"none": True})
        chart.set_size({"width": 720, "height": 320})
        chart.set_x_axis({"num_format": "d", "text_axis": True})
        width = len(self._sheet.columns)
        below = HEAD_ROW + len(self._sheet.rows) + len(self._reasons) + 3
        self._page.insert_chart(
            *((HEAD_ROW, width + 1) if width <= _NARROW else (below, 0)), chart, {"description": bars.title}
        )


def _style_of(kind: Kind, place: int, *, wraps: bool) -> Style:
    """Look of a cell by its row."""
    style: Style = {"valign": "top", "bottom": 1, "bottom_color": theme.RULE}
    if wraps:
        style["text_wrap"] = True
    if kind == "part" and place == 0:
        style["indent"] = 1
    if kind in ("total", "head"):
        style |= {"bold": True, "bg_color": theme.PANEL, "top": 1, "top_color": theme.DEEP}
    if kind in ("rounding", "note"):
        style |= {"italic": True, "font_color": theme.MUTED}
    return style


def _hex(colour: Color) -> str:
    return f"#{colour.hexval()[2:]}"


def _lines(cell: Cell, width: float) -> int:
    """Lines that a text takes in a column of that many characters, about."""
    shown = cell.fact if isinstance(cell, Stated) else cell
    text = shown.value if isinstance(shown, Fact) and shown.value_type == "text" else shown
    return sum(1 + int(len(part) / width / 1.1) for part in text.split("\n")) if isinstance(text, str) else 1
