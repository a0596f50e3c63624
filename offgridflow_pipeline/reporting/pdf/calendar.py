"""The month as a calendar: a cell for each day with its emissions, tinted by their size."""

from __future__ import annotations

from datetime import date

from reportlab.lib.colors import Color
from reportlab.lib.units import mm

from offgridflow_pipeline.inventory.inventory import month_days
from offgridflow_pipeline.reporting.display import member_label, text_of
from offgridflow_pipeline.reporting.fact import ROUNDING, Fact, FactSet
from offgridflow_pipeline.reporting.pdf.charts import length
from offgridflow_pipeline.reporting.pdf.marks import Fixed, Pages
from offgridflow_pipeline.reporting.pdf.theme import (
    FILLS,
    INK,
    MUTED,
    PANEL,
    REGULAR,
    SEMIBOLD,
    WIDTH,
)

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CELL_HEIGHT = 11.5 * mm
_GAP = 1.1 * mm
_HEAD = 5 * mm
_FOOT = 5 * mm


class Calendar(Fixed):
    """Weeks as rows; a day without billed usage stays empty."""

    def __init__(self, facts: FactSet, pages: Pages) -> None:
        self._facts: dict[str, Fact] = facts.along("day", "scope3_location")
        self._pages = pages
        self._days = month_days(f"{facts.period[0]:%Y-%m}")
        self._offset = self._days[0].weekday()
        weeks = -(-(len(self._days) + self._offset) // 7)
        super().__init__(WIDTH, _HEAD + weeks * (_CELL_HEIGHT + _GAP) + _FOOT)

    def draw(self) -> None:
        """Weekdays, cells, rounding line."""
        step = (WIDTH + _GAP) / 7
        self.canv.setFont(REGULAR, 7.4)
        self.canv.setFillColor(MUTED)
        for number, name in enumerate(_WEEKDAYS):
            self.canv.drawString(step * number, self.height - 3 * mm, name)
        lengths = [length(fact) for day, fact in self._facts.items() if day != ROUNDING] or [0.0]
        shortest, longest = min(lengths) * 0.8, max(lengths)
        for number, day in enumerate(self._days, self._offset):
            x = step * (number % 7)
            y = self.height - _HEAD - (number // 7 + 1) * (_CELL_HEIGHT + _GAP) + _GAP
            self._cell(x, y, step - _GAP, day, (shortest, longest))
        rounding = self._facts.get(ROUNDING)
        if rounding is not None:
            self._pages.note(rounding.fact_id, self.canv.getPageNumber())
            self.canv.setFillColor(MUTED)
            self.canv.setFont(REGULAR, 7.4)
            self.canv.drawString(0, 1 * mm, f"{member_label('day', ROUNDING)} {text_of(rounding)}")

    def _cell(self, x: float, y: float, width: float, day: date, ends: tuple[float, float]) -> None:
        fact = self._facts.get(day.isoformat())
        shortest, longest = ends
        self.canv.setFillColor(_tint((length(fact) - shortest) / (longest - shortest or 1)) if fact else PANEL)
        self.canv.rect(x, y, width, _CELL_HEIGHT, stroke=0, fill=1)
        self.canv.setFillColor(MUTED if fact is None else INK)
        self.canv.setFont(REGULAR, 6.8)
        self.canv.drawString(x + 1.6 * mm, y + _CELL_HEIGHT - 3.4 * mm, str(day.day))
        if fact is not None:
            self._pages.note(fact.fact_id, self.canv.getPageNumber())
            self.canv.setFont(SEMIBOLD, 9)
            self.canv.drawRightString(x + width - 1.6 * mm, y + 1.9 * mm, text_of(fact))


def _tint(share: float) -> Color:
    """Between the panel colour and a mid green, so that dark text stays readable."""
    full = FILLS["embodied"]
    bounded = max(0.0, min(1.0, share))
    parts = (
        low + (high - low) * bounded
        for low, high in zip((PANEL.red, PANEL.green, PANEL.blue), (full.red, full.green, full.blue), strict=True)
    )
    return Color(*parts)
