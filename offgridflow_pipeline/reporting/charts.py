"""Charts, defined once: stacked columns with a line, split bars and share bars, drawn on any surface.

A surface is what a reportlab canvas offers of its drawing operators; the PDF passes its canvas, the portal an SVG.
Lengths are drawn from rounded figures that also stand in a table beside the chart; nothing is computed here. All
words come with the chart, so that a chart speaks its reader's language. Coordinates are points, the origin is at
the lower left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth

from offgridflow_pipeline.reporting.pdf.theme import (
    FILLS,
    INK,
    MUTED,
    REGULAR,
    RULE,
    RUST,
    SEMIBOLD,
    WHITE,
)

#: Steps of an axis end that people read without effort.
_NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


class Surface(Protocol):
    """The drawing operators that charts use, named as a reportlab canvas names them."""

    def setFillColor(self, aColor: Color) -> object: ...  # noqa: N802, N803, D102
    def setStrokeColor(self, aColor: Color) -> object: ...  # noqa: N802, N803, D102
    def setLineWidth(self, width: float) -> object: ...  # noqa: N802, D102
    def setFont(self, psfontname: str, size: float) -> object: ...  # noqa: N802, D102
    def drawString(self, x: float, y: float, text: str) -> object: ...  # noqa: N802, D102
    def drawRightString(self, x: float, y: float, text: str) -> object: ...  # noqa: N802, D102
    def drawCentredString(self, x: float, y: float, text: str) -> object: ...  # noqa: N802, D102
    def line(self, x1: float, y1: float, x2: float, y2: float) -> object: ...  # noqa: D102
    def rect(self, x: float, y: float, width: float, height: float, stroke: int = 1, fill: int = 0) -> object: ...  # noqa: D102
    def circle(self, x_cen: float, y_cen: float, r: float, stroke: int = 1, fill: int = 0) -> object: ...  # noqa: D102
    def beginPath(self) -> Any: ...  # noqa: N802, D102
    def clipPath(self, aPath: Any, stroke: int = 1, fill: int = 0) -> object: ...  # noqa: N802, N803, D102
    def saveState(self) -> object: ...  # noqa: N802, D102
    def restoreState(self) -> object: ...  # noqa: N802, D102


@dataclass(frozen=True, slots=True)
class Mark:
    """A charted figure: how long it is, in the unit of its axis, and how it is written."""

    length: float
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One month of the trend: its label, stacked marks by member, total, point of the line, and state."""

    label: str
    parts: Mapping[str, Mark]
    total: Mark
    line: Mark | None
    provisional: bool = False


def plain_tick(value: float) -> str:
    """A figure of the axis as the report writes it."""
    return f"{value:,.6g}"


@dataclass(frozen=True, slots=True)
class Trend:
    """Stacked columns with a second total as a line, and the words beside them.

    Attributes:
        columns: oldest first.
        members: label of every member that is stacked.
        line_label: what the line is.
        axis_label: unit and basis of the axis.
        provisional_label: what hatched columns are.
        tick: how figures of the axis are written.
        legend: whether the legend is drawn; the portal writes it as text below the chart.
    """

    columns: Sequence[Column]
    members: Mapping[str, str]
    line_label: str
    axis_label: str = "tCO2e, location-based"
    provisional_label: str = "provisional"
    tick: Callable[[float], str] = plain_tick
    legend: bool = True

    @property
    def series(self) -> list[str]:
        """Stacked members, in order of drawing."""
        return list(dict.fromkeys(name for column in self.columns for name in column.parts))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole: the member whose fill it has, its length and its caption."""

    member: str
    length: float
    caption: str


def draw_trend(surface: Surface, trend: Trend, width: float, height: float) -> None:
    """Grid, columns, line, legend."""
    series = trend.series
    columns = trend.columns
    peak = axis_end([mark.length for c in columns for mark in (c.total, c.line) if mark is not None])
    left, bottom, top = 9 * mm, (12 if trend.legend else 7) * mm, height - 12 * mm
    scale = (top - bottom) / peak
    _grid(surface, trend, (left, bottom, width, top), peak, height)
    slot = (width - left) / max(1, len(columns))
    thick = min(slot * 0.56, 15 * mm)
    crowded = slot < 13 * mm
    points: list[tuple[float, float]] = []
    for number, column in enumerate(columns):
        middle = left + slot * (number + 0.5)
        y = bottom
        for name in series:
            part = (column.parts[name].length if name in column.parts else 0.0) * scale
            _block(surface, middle - thick / 2, y, thick, part, FILLS[name], hatched=column.provisional)
            y += part
        line = bottom + (column.line.length if column.line else 0.0) * scale
        if not crowded or column is columns[-1]:
            _centred(surface, middle, _clear_of_line(y, line) + 1.6 * mm, column.total.text, SEMIBOLD, 7.4, INK)
        if not crowded or number % 3 == (len(columns) - 1) % 3:
            _centred(surface, middle, bottom - 4.2 * mm, column.label, REGULAR, 7.4, MUTED)
        if column.line is not None:
            points.append((middle, line))
    _line(surface, points)
    if trend.legend:
        _legend(surface, trend, [(trend.members[name], FILLS[name]) for name in series], left)


def draw_split(surface: Surface, title: str, parts: Sequence[Part], width: float, height: float) -> None:
    """Title, one bar of parts that add up to a whole, legend of captions."""
    surface.setFillColor(INK)
    surface.setFont(SEMIBOLD, 8.2)
    surface.drawString(0, height - 3.4 * mm, title)
    draw_whole(surface, parts, width, 5.6 * mm, 5.2 * mm)
    x = 0.0
    for part in parts:
        surface.setFillColor(FILLS[part.member])
        surface.rect(x, 1.2 * mm, 2.4 * mm, 2.4 * mm, stroke=0, fill=1)
        surface.setFillColor(MUTED)
        surface.setFont(REGULAR, 7.2)
        surface.drawString(x + 3.6 * mm, 1.5 * mm, part.caption)
        x += 3.6 * mm + float(stringWidth(part.caption, REGULAR, 7.2)) + 4.5 * mm


def draw_whole(surface: Surface, parts: Sequence[Part], width: float, y: float, height: float) -> None:
    """The bar of a split alone: parts side by side, as wide as their shares."""
    whole = sum(part.length for part in parts)
    x = 0.0
    for part in parts:
        share = width * part.length / whole if whole else 0
        surface.setFillColor(FILLS[part.member])
        surface.setStrokeColor(WHITE)
        surface.setLineWidth(0.8)
        surface.rect(x, y, share, height, stroke=1, fill=1)
        x += share


def draw_share(surface: Surface, share: float, width: float, colour: Color) -> None:
    """A bar on a pale track, as long as a share of the whole."""
    surface.setFillColor(RULE)
    surface.rect(0, 0.4, width, 4.4, stroke=0, fill=1)
    surface.setFillColor(colour)
    surface.rect(0, 0.4, width * max(0.0, min(1.0, share)), 4.4, stroke=0, fill=1)


def axis_end(values: Iterable[float]) -> float:
    """The smallest readable axis end that is not below any value."""
    largest = max([*values, 0.0])
    if largest <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(largest)}") - 1) if largest >= 1 else 1.0
    while power > largest:
        power /= 10
    return next(step * power for step in _NICE if step * power >= largest)


def _clear_of_line(column_top: float, line: float) -> float:
    """Where a column's label starts: above the line's point when that would cross the label."""
    return line + 0.8 * mm if column_top - 1 * mm < line < column_top + 5 * mm else column_top


def _grid(surface: Surface, trend: Trend, frame: tuple[float, float, float, float], peak: float, height: float) -> None:
    left, bottom, right, top = frame
    surface.setLineWidth(0.4)
    for number in range(5):
        y = bottom + (top - bottom) * number / 4
        surface.setStrokeColor(INK if number == 0 else RULE)
        surface.line(left, y, right, y)
        surface.setFillColor(MUTED)
        surface.setFont(REGULAR, 7)
        surface.drawRightString(left - 1.6 * mm, y - 2.4, trend.tick(peak * number / 4))
    surface.drawString(0, height - 3 * mm, trend.axis_label)


def _block(
    surface: Surface, x: float, y: float, width: float, height: float, fill: Color, *, hatched: bool
) -> None:  # fmt: skip
    surface.setFillColor(fill)
    surface.setStrokeColor(WHITE)
    surface.setLineWidth(0.6)
    surface.rect(x, y, width, height, stroke=1, fill=1)
    if not hatched:
        return
    surface.saveState()
    frame = surface.beginPath()
    frame.rect(x, y, width, height)
    surface.clipPath(frame, stroke=0, fill=0)
    surface.setLineWidth(0.5)
    step = 1.7 * mm
    start = x - height
    while start < x + width:
        surface.line(start, y, start + height, y + height)
        start += step
    surface.restoreState()


def _line(surface: Surface, points: Sequence[tuple[float, float]]) -> None:
    surface.setStrokeColor(RUST)
    surface.setLineWidth(1.3)
    for (x1, y1), (x2, y2) in pairwise(points):
        surface.line(x1, y1, x2, y2)
    surface.setFillColor(WHITE)
    for x, y in points:
        surface.circle(x, y, 1.9, stroke=1, fill=1)


def _legend(surface: Surface, trend: Trend, entries: Iterable[tuple[str, Color]], x: float) -> None:
    for label, fill in entries:
        surface.setFillColor(fill)
        surface.rect(x, 0.6 * mm, 2.6 * mm, 2.6 * mm, stroke=0, fill=1)
        x = _label(surface, x + 4 * mm, label)
    surface.setStrokeColor(RUST)
    surface.setLineWidth(1.3)
    surface.line(x, 1.9 * mm, x + 5 * mm, 1.9 * mm)
    surface.setFillColor(WHITE)
    surface.circle(x + 2.5 * mm, 1.9 * mm, 1.9, stroke=1, fill=1)
    x = _label(surface, x + 6.4 * mm, trend.line_label)
    if any(column.provisional for column in trend.columns):
        _block(surface, x, 0.6 * mm, 4 * mm, 2.6 * mm, MUTED, hatched=True)
        _label(surface, x + 5.4 * mm, trend.provisional_label)


def _label(surface: Surface, x: float, label: str) -> float:
    """Write a legend label; returns where the next entry starts."""
    surface.setFillColor(INK)
    surface.setFont(REGULAR, 7.4)
    surface.drawString(x, 1 * mm, label)
    return x + float(stringWidth(label, REGULAR, 7.4)) + float(5 * mm)


def _centred(surface: Surface, x: float, y: float, label: str, font: str, size: float, colour: Color) -> None:
    surface.setFillColor(colour)
    surface.setFont(font, size)
    surface.drawCentredString(x, y, label)
