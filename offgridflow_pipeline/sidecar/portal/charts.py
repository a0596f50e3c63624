"""Charts of the pages as inline SVG, drawn by the definitions of `reporting.charts`: as in the PDF.

Every chart has a name and a description, and stands beside a table of the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from markupsafe import Markup
from reportlab.graphics.barcode.qrencoder import QRCode, QRErrorCorrectLevel

from offgridflow_pipeline.reporting.charts import Column, Mark, Part, Trend, draw_share, draw_trend, draw_whole
from offgridflow_pipeline.reporting.pdf.theme import ACCENT, DEEP
from offgridflow_pipeline.reporting.svg import SvgSurface, drawing
from offgridflow_pipeline.sidecar.portal.figures import Month, Sums
from offgridflow_pipeline.sidecar.portal.texts import Texts

#: Sizes in points, so that text is as large on a wide page as on a narrow one.
WIDE, NARROW = (560.0, 190.0), (254.0, 170.0)
NARROW_MONTHS = 6
_BAR = 200.0
_QUIET_ZONE = 4


def trend_chart(months: Sequence[Month], texts: Texts) -> Markup:
    """The months as stacked columns with the market-based line: once for wide pages, once for narrow ones."""
    parts = []
    for name, size, shown in (("wide", WIDE, months), ("narrow", NARROW, months[-NARROW_MONTHS:])):
        chart = _trend(shown, texts)
        title = texts("chart.trend_title")
        description = texts(
            "chart.trend_desc",
            first=texts.month(shown[0].first),
            last=texts.month(shown[-1].first),
            location=texts.tonnes(shown[-1].total.location_kg),
            market=texts.tonnes(shown[-1].total.market_kg),
        )
        svg = drawing(f"trend-{name}", title, description, size, lambda s, c=chart, z=size: draw_trend(s, c, *z))
        parts.append(f'<div class="{name}">{svg}</div>')
    return Markup("".join(parts))  # noqa: S704  made by SvgSurface, which escapes


def split_bar(name: str, parts: Sequence[tuple[str, Decimal | None]], title: str, description: str) -> Markup:
    """Parts of a whole as one bar; the legend with the figures stands below it in the page."""
    marks = [Part(member, float(max(value or Decimal(0), Decimal(0))), "") for member, value in parts]
    surface = SvgSurface(_BAR * 3, 17, name)
    draw_whole(surface, marks, _BAR * 3, 0, 17)
    return Markup(surface.document(title, description, stretched=True))  # noqa: S704  escapes itself


def share_bar(share: float) -> Markup:
    """A bar beside a figure, as long as its share of the largest; says nothing that the figure does not."""
    surface = SvgSurface(_BAR, 5, "bar")
    draw_share(surface, share, _BAR, ACCENT)
    return Markup(surface.hidden(stretched=True))  # noqa: S704  numbers only


def component_parts(sums: Sums) -> list[tuple[str, Decimal | None]]:
    """The parts of the location-based total."""
    return [("use_phase", sums.use_location_kg), ("embodied", sums.embodied_kg), ("upstream", sums.upstream_kg)]


def qr_code(text: str, title: str, description: str) -> Markup:
    """The text as a QR code (ISO/IEC 18004) with its quiet zone."""
    code = QRCode(None, QRErrorCorrectLevel.M)
    code.addData(text)
    code.make()
    count = code.getModuleCount()
    size = count + 2 * _QUIET_ZONE
    surface = SvgSurface(size, size, "qr", crisp=True)
    surface.setFillColor(DEEP)
    for row in range(count):
        for column in range(count):
            if code.isDark(row, column):
                surface.rect(_QUIET_ZONE + column, size - _QUIET_ZONE - row - 1, 1, 1, stroke=0, fill=1)
    return Markup(surface.document(title, description))  # noqa: S704  escapes itself


def _trend(months: Sequence[Month], texts: Texts) -> Trend:
    columns = [
        Column(
            texts.short_month(month.first),
            {name: _mark(sums.location_kg, texts) for name, sums in month.providers.items()},
            _mark(month.total.location_kg, texts),
            None if month.total.market_kg is None else _mark(month.total.market_kg, texts),
            provisional=not month.closed,
        )
        for month in months
    ]
    members = {name: texts(f"provider.{name}") for month in months for name in month.providers}
    return Trend(
        columns,
        members,
        texts("chart.line"),
        axis_label=texts("chart.axis"),
        provisional_label=texts("chart.provisional"),
        tick=lambda value: texts.number(Decimal(f"{value:.6g}"), _places(value)),
        legend=False,
    )


def _mark(kg: Decimal | None, texts: Texts) -> Mark:
    return Mark(float(max(kg or Decimal(0), Decimal(0)) / 1000), texts.tonnes(kg))


def _places(value: float) -> int:
    text = f"{value:.6g}"
    return len(text.partition(".")[2]) if "e" not in text else 0
