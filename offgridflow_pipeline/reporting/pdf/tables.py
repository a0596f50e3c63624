"""`ReportTable`s on the page: ruled, figures to the right, totals in bold, reasons below.

A table may carry bars: a column of bars that repeats one column of figures as lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table

from offgridflow_pipeline.reporting.display import text_of
from offgridflow_pipeline.reporting.fact import Fact
from offgridflow_pipeline.reporting.pdf import theme
from offgridflow_pipeline.reporting.pdf.charts import CellBar, length
from offgridflow_pipeline.reporting.pdf.marks import FactMark, Pages
from offgridflow_pipeline.reporting.pdf.theme import text
from offgridflow_pipeline.reporting.tables import Cell, ReportTable, TableRow, reason_mark

#: Rows up to which a table is kept on one page with its caption.
_KEPT_TOGETHER = 18
_BAR_WIDTH = 17 * mm
_STYLES: dict[str, tuple[ParagraphStyle, ParagraphStyle]] = {
    "body": (theme.CELL, theme.CELL_RIGHT),
    "part": (theme.CELL_MUTED, theme.CELL_MUTED_RIGHT),
    "rounding": (theme.CELL_MUTED, theme.CELL_MUTED_RIGHT),
    "total": (theme.CELL_BOLD, theme.CELL_BOLD_RIGHT),
}


def table_flow(
    table: ReportTable,
    pages: Pages,
    *,
    width: float = theme.WIDTH,
    bars: int | None = None,
    kept: bool = True,
) -> list[Flowable]:
    """Caption, table and reasons.

    Args:
        table: what to print.
        pages: notes where its facts are printed.
        width: width of the whole table in points.
        bars: number of the column whose figures are repeated as bars, or None.
        kept: keep a short table on one page with its caption; not possible inside a cell.
    """
    if not table.rows:
        return []
    body = _table(table, pages, width, bars)
    parts: list[Flowable] = [text(table.caption, theme.CAPTION), body]
    if table.reasons:
        parts.append(Spacer(1, 1.4 * mm))
        parts += [
            text(f"[{number}] not available \N{EN DASH} {reason}.", theme.NOTE)
            for number, reason in enumerate(table.reasons, 1)
        ]
    return [KeepTogether(parts)] if kept and len(table.rows) <= _KEPT_TOGETHER else parts


def fact_cell(fact: Fact, shown_as: str, style: ParagraphStyle, pages: Pages) -> list[Flowable]:
    """A printed fact: its text, and the mark that notes the page."""
    return [FactMark(fact.fact_id, pages), text(shown_as, style)]


def _table(table: ReportTable, pages: Pages, width: float, bars: int | None) -> Table:
    unit = (width - (_BAR_WIDTH if bars is not None else 0)) / sum(table.widths)
    widths = [share * unit for share in table.widths]
    rows: list[list[Any]] = []
    if any(table.columns):
        rows.append(
            [
                text(head, theme.HEAD if number < table.text_columns else theme.HEAD_RIGHT)
                for number, head in enumerate(table.columns)
            ]
        )
    heads = len(rows)
    rows += [[_cell(cell, n, row, table, pages) for n, cell in enumerate(row.cells)] for row in table.rows]
    if bars is not None:
        widths.insert(table.text_columns, _BAR_WIDTH)
        lengths = [_bar_length(row, bars) for row in table.rows]
        longest = max([n for n in lengths if n is not None], default=0) or 1
        for row in rows[:heads]:
            row.insert(table.text_columns, "")
        for row, share in zip(rows[heads:], lengths, strict=True):
            row.insert(table.text_columns, "" if share is None else CellBar(share / longest, _BAR_WIDTH - 3 * mm))
    return Table(rows, colWidths=widths, repeatRows=heads, hAlign="LEFT", style=theme.table_style(_rules(table, heads)))


def _cell(cell: Cell, number: int, row: TableRow, table: ReportTable, pages: Pages) -> Any:
    left, right = _STYLES[row.kind]
    style = left if number < table.text_columns else right
    if isinstance(cell, Fact):
        shown_as = reason_mark(table, cell) if cell.value is None else text_of(cell)
        return fact_cell(
            cell, shown_as, theme.CELL_MUTED_RIGHT if cell.value is None and style is right else style, pages
        )
    indent = "\N{NO-BREAK SPACE}" * 4 if number == 0 and row.kind == "part" else ""
    return text(indent + (cell or ""), style)


def _bar_length(row: TableRow, column: int) -> float | None:
    cell = row.cells[column]
    return length(cell) if row.kind == "body" and isinstance(cell, Fact) and cell.value is not None else None


def _rules(table: ReportTable, heads: int) -> list[tuple[Any, ...]]:
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("VALIGN", (0, 0), (-1, heads - 1), "BOTTOM"),
        ("LEFTPADDING", (0, 0), (-1, -1), 2.2 * mm),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 1.15 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.35 * mm),
        ("LINEBELOW", (0, heads), (-1, -1), 0.4, theme.RULE),
    ]
    if heads:
        style += [
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, theme.DEEP),
            ("BOTTOMPADDING", (0, 0), (-1, 0), 1.4 * mm),
        ]
    for number, row in enumerate(table.rows, heads):
        if row.kind == "total":
            style += [
                ("LINEABOVE", (0, number), (-1, number), 0.8, theme.DEEP),
                ("LINEBELOW", (0, number), (-1, number), 0.8, theme.DEEP),
                ("BACKGROUND", (0, number), (-1, number), theme.PANEL),
            ]
    return style


def side_by_side(left: Sequence[Flowable], right: Sequence[Flowable], gap: float = 8 * mm) -> Table:
    """Two columns of flowables of equal width."""
    half = (theme.WIDTH - gap) / 2
    style = theme.table_style(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 5 * mm),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
        ]
    )
    return Table([[list(left), "", list(right)]], colWidths=[half, gap, half], style=style, hAlign="LEFT")
