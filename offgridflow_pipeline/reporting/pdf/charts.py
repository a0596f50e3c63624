"""Charts as vector drawings on the page: stacked columns with a line, split bars, and bars inside tables.

Lengths are drawn from the facts' rounded values, and every charted fact also stands in a table beside the
chart. Text goes to the canvas as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth

from offgridflow_pipeline.reporting.display import member_label, shown, text_of
from offgridflow_pipeline.reporting.fact import Fact
from offgridflow_pipeline.reporting.pdf.marks import Fixed, Pages
from offgridflow_pipeline.reporting.pdf.theme import (
    ACCENT,
    FILLS,
    INK,
    MUTED,
    REGULAR,
    RULE,
    RUST,
    SEMIBOLD,
    WHITE,
    printable,
)

#: Steps of an axis end that people read without effort.
_NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Column:
    """One month of the trend: its label, stacked facts by member, total, value of the line, and state."""

    label: str
    parts: dict[str, Fact]
    total: Fact
    line: Fact | None
    provisional: bool = False


class TrendChart(Fixed):
    """Stacked columns by provider with the market-based total as a line."""

    def __init__(self, columns: Sequence[Column], width: float, height: float, line_label: str) -> None:
        super().__init__(width, height)
        self._columns = columns
        self._line_label = line_label

    def draw(self) -> None:
        """Grid, columns, line, legend."""
        series = list(dict.fromkeys(name for column in self._columns for name in column.parts))
        peak = axis_end([length(f) for c in self._columns for f in (c.total, c.line)])
        left, bottom, top = 9 * mm, 12 * mm, self.height - 12 * mm
        scale = (top - bottom) / peak
        self._grid(left, bottom, top, peak)
        slot = (self.width - left) / max(1, len(self._columns))
        thick = min(slot * 0.56, 15 * mm)
        crowded = slot < 13 * mm
        points: list[tuple[float, float]] = []
        for number, column in enumerate(self._columns):
            middle = left + slot * (number + 0.5)
            y = bottom
            for name in series:
                part = length(column.parts.get(name)) * scale
                self._block(middle - thick / 2, y, thick, part, FILLS[name], hatched=column.provisional)
                y += part
            if not crowded or column is self._columns[-1]:
                above = self._clear_of_line(y, bottom + length(column.line) * scale)
                self._centred(middle, above + 1.6 * mm, text_of(column.total), SEMIBOLD, 7.4, INK)
            if not crowded or number % 3 == (len(self._columns) - 1) % 3:
                self._centred(middle, bottom - 4.2 * mm, column.label, REGULAR, 7.4, MUTED)
            if column.line is not None and column.line.value is not None:
                points.append((middle, bottom + length(column.line) * scale))
        self._line(points)
        legend = [(member_label("cloud_provider", name), FILLS[name]) for name in series]
        self._legend(legend, left)

    @staticmethod
    def _clear_of_line(column_top: float, line: float) -> float:
        """Where a column's label starts: above the line's point when that would cross the label."""
        return line + 0.8 * mm if column_top - 1 * mm < line < column_top + 5 * mm else column_top

    def _grid(self, left: float, bottom: float, top: float, peak: float) -> None:
        canvas = self.canv
        canvas.setLineWidth(0.4)
        for number in range(5):
            y = bottom + (top - bottom) * number / 4
            canvas.setStrokeColor(INK if number == 0 else RULE)
            canvas.line(left, y, self.width, y)
            canvas.setFillColor(MUTED)
            canvas.setFont(REGULAR, 7)
            canvas.drawRightString(left - 1.6 * mm, y - 2.4, f"{peak * number / 4:,.6g}")
        canvas.drawString(0, self.height - 3 * mm, "tCO2e, location-based")

    def _block(self, x: float, y: float, width: float, height: float, fill: Color, *, hatched: bool) -> None:
        canvas = self.canv
        canvas.setFillColor(fill)
        canvas.setStrokeColor(WHITE)
        canvas.setLineWidth(0.6)
        canvas.rect(x, y, width, height, stroke=1, fill=1)
        if not hatched:
            return
        canvas.saveState()
        frame = canvas.beginPath()
        frame.rect(x, y, width, height)
        canvas.clipPath(frame, stroke=0, fill=0)
        canvas.setLineWidth(0.5)
        step = 1.7 * mm
        start = x - height
        while start < x + width:
            canvas.line(start, y, start + height, y + height)
            start += step
        canvas.restoreState()

    def _line(self, points: Sequence[tuple[float, float]]) -> None:
        canvas = self.canv
        canvas.setStrokeColor(RUST)
        canvas.setLineWidth(1.3)
        for (x1, y1), (x2, y2) in pairwise(points):
            canvas.line(x1, y1, x2, y2)
        canvas.setFillColor(WHITE)
        for x, y in points:
            canvas.circle(x, y, 1.9, stroke=1, fill=1)

    def _legend(self, entries: Iterable[tuple[str, Color]], x: float) -> None:
        canvas = self.canv
        for label, fill in entries:
            canvas.setFillColor(fill)
            canvas.rect(x, 0.6 * mm, 2.6 * mm, 2.6 * mm, stroke=0, fill=1)
            x = self._label(x + 4 * mm, label)
        canvas.setStrokeColor(RUST)
        canvas.setLineWidth(1.3)
        canvas.line(x, 1.9 * mm, x + 5 * mm, 1.9 * mm)
        canvas.setFillColor(WHITE)
        canvas.circle(x + 2.5 * mm, 1.9 * mm, 1.9, stroke=1, fill=1)
        x = self._label(x + 6.4 * mm, self._line_label)
        if any(column.provisional for column in self._columns):
            self._block(x, 0.6 * mm, 4 * mm, 2.6 * mm, MUTED, hatched=True)
            self._label(x + 5.4 * mm, "provisional")

    def _label(self, x: float, label: str) -> float:
        """Write a legend label; returns where the next entry starts."""
        self.canv.setFillColor(INK)
        self.canv.setFont(REGULAR, 7.4)
        self.canv.drawString(x, 1 * mm, label)
        return x + float(stringWidth(label, REGULAR, 7.4)) + float(5 * mm)

    def _centred(self, x: float, y: float, label: str, font: str, size: float, colour: Color) -> None:
        self.canv.setFillColor(colour)
        self.canv.setFont(font, size)
        self.canv.drawCentredString(x, y, label)


class SplitBar(Fixed):
    """One bar of parts that add up to a whole, with a legend of values; widths follow the facts."""

    def __init__(
        self, title: str, parts: Sequence[tuple[str, str, Fact]], width: float, unit: str, pages: Pages
    ) -> None:
        super().__init__(width, 16 * mm)
        self._pages = pages
        self._title = printable(title)
        self._parts = [part for part in parts if part[2].value is not None]
        self._unit = unit

    def draw(self) -> None:
        """Title, bar, legend."""
        canvas = self.canv
        canvas.setFillColor(INK)
        canvas.setFont(SEMIBOLD, 8.2)
        canvas.drawString(0, self.height - 3.4 * mm, self._title)
        whole = sum(length(fact) for _, _, fact in self._parts)
        x = 0.0
        for member, _, fact in self._parts:
            part = self.width * length(fact) / whole if whole else 0
            canvas.setFillColor(FILLS[member])
            canvas.setStrokeColor(WHITE)
            canvas.setLineWidth(0.8)
            canvas.rect(x, 5.6 * mm, part, 5.2 * mm, stroke=1, fill=1)
            x += part
        x = 0.0
        for member, label, fact in self._parts:
            self._pages.note(fact.fact_id, canvas.getPageNumber())
            canvas.setFillColor(FILLS[member])
            canvas.rect(x, 1.2 * mm, 2.4 * mm, 2.4 * mm, stroke=0, fill=1)
            caption = f"{label} {text_of(fact)} {self._unit}"
            canvas.setFillColor(MUTED)
            canvas.setFont(REGULAR, 7.2)
            canvas.drawString(x + 3.6 * mm, 1.5 * mm, caption)
            x += 3.6 * mm + float(stringWidth(caption, REGULAR, 7.2)) + 4.5 * mm


class CellBar(Fixed):
    """A bar inside a table cell, as long as its share of the largest value in the column."""

    def __init__(self, share: float, width: float, colour: Color = ACCENT) -> None:
        super().__init__(width, 8)
        self._share = max(0.0, min(1.0, share))
        self._colour = colour

    def draw(self) -> None:
        """The bar on a pale track."""
        self.canv.setFillColor(RULE)
        self.canv.rect(0, 0.4, self.width, 4.4, stroke=0, fill=1)
        self.canv.setFillColor(self._colour)
        self.canv.rect(0, 0.4, self.width * self._share, 4.4, stroke=0, fill=1)


def length(fact: Fact | None) -> float:
    """Length of a mark: the fact's displayed figure, zero where not available or negative."""
    if fact is None or fact.value is None or shown(fact).negative:
        return 0.0
    return float(fact.number)


def axis_end(values: Iterable[float]) -> float:
    """The smallest readable axis end that is not below any value."""
    largest = max([*values, 0.0])
    if largest <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(largest)}") - 1) if largest >= 1 else 1.0
    while power > largest:
        power /= 10
    return next(step * power for step in _NICE if step * power >= largest)
