"""Charts of facts as flowables of the PDF. What a chart looks like is defined in `reporting.charts`.

Lengths are drawn from the facts' rounded values, and every charted fact also stands in a table beside the
chart. Text goes to the canvas as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from reportlab.lib.colors import Color
from reportlab.lib.units import mm

from offgridflow_pipeline.reporting.charts import Mark, Part, Trend, draw_share, draw_split, draw_trend
from offgridflow_pipeline.reporting.display import shown, text_of
from offgridflow_pipeline.reporting.fact import Fact
from offgridflow_pipeline.reporting.pdf.marks import Fixed, Pages
from offgridflow_pipeline.reporting.pdf.theme import ACCENT, printable


class TrendChart(Fixed):
    """Stacked columns by provider with the market-based total as a line."""

    def __init__(self, trend: Trend, width: float, height: float) -> None:
        super().__init__(width, height)
        self._trend = trend

    def draw(self) -> None:
        """Draw the trend on the page."""
        draw_trend(self.canv, self._trend, self.width, self.height)


class SplitBar(Fixed):
    """One bar of parts that add up to a whole, with a legend of values; widths follow the facts."""

    def __init__(
        self, title: str, parts: Sequence[tuple[str, str, Fact]], width: float, unit: str, pages: Pages
    ) -> None:
        super().__init__(width, 16 * mm)
        self._pages = pages
        self._title = printable(title)
        self._facts = [fact for _, _, fact in parts if fact.value is not None]
        self._parts = [
            Part(member, length(fact), f"{label} {text_of(fact)} {unit}")
            for member, label, fact in parts
            if fact.value is not None
        ]

    def draw(self) -> None:
        """Note where the facts stand and draw the bar."""
        for fact in self._facts:
            self._pages.note(fact.fact_id, self.canv.getPageNumber())
        draw_split(self.canv, self._title, self._parts, self.width, self.height)


class CellBar(Fixed):
    """A bar inside a table cell, as long as its share of the largest value in the column."""

    def __init__(self, share: float, width: float, colour: Color = ACCENT) -> None:
        super().__init__(width, 8)
        self._share = share
        self._colour = colour

    def draw(self) -> None:
        """The bar on a pale track."""
        draw_share(self.canv, self._share, self.width, self._colour)


def mark(fact: Fact | None) -> Mark | None:
    """The fact as a charted figure; None where it is not available."""
    return None if fact is None or fact.value is None else Mark(length(fact), text_of(fact))


def length(fact: Fact | None) -> float:
    """Length of a mark: the fact's displayed figure, zero where not available or negative."""
    if fact is None or fact.value is None or shown(fact).negative:
        return 0.0
    return float(fact.number)
