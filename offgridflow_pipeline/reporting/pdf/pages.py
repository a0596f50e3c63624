"""What stands on the pages outside the text: the cover, running heads and feet, and the status watermark.

Drawn on the canvas; only facts and the entity's name appear, as text.
"""

from __future__ import annotations

from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from offgridflow_pipeline.reporting.display import long_date, month_name, text_of, unit_text, with_unit
from offgridflow_pipeline.reporting.fact import Fact, FactSet, metric
from offgridflow_pipeline.reporting.pdf.charts import length
from offgridflow_pipeline.reporting.pdf.marks import Pages
from offgridflow_pipeline.reporting.pdf.theme import (
    ACCENT,
    AMBER,
    DEEP,
    INK,
    LIGHT,
    MARGIN,
    MINT,
    MUTED,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    REGULAR,
    RULE,
    SEMIBOLD,
    WATERMARK,
    WHITE,
    WIDTH,
    printable,
)

BRAND = "OffGridFlow"
#: Statuses that a page must show behind its text.
MARKED = ("provisional", "superseded")
_PANEL_BOTTOM = 104 * mm


def cover(canvas: Canvas, facts: FactSet, pages: Pages, *, has_ixbrl: bool) -> None:
    """Title, entity and month over the days of the month; headline figures and identity below."""
    canvas.saveState()
    canvas.setFillColor(DEEP)
    canvas.rect(0, _PANEL_BOTTOM, PAGE_WIDTH, PAGE_HEIGHT - _PANEL_BOTTOM, stroke=0, fill=1)
    _days(canvas, list(facts.along("day", "scope3_location").items()))
    canvas.setFillColor(MINT)
    canvas.setFont(SEMIBOLD, 12)
    canvas.drawString(MARGIN, PAGE_HEIGHT - 24 * mm, BRAND)
    status = facts.one("status")
    _pill(canvas, status.value or "")
    pages.note(status.fact_id, canvas.getPageNumber())
    canvas.setFillColor(WHITE)
    canvas.setFont(LIGHT, 44)
    canvas.drawString(MARGIN - 2, PAGE_HEIGHT - 74 * mm, "Cloud footprint")
    canvas.setFont(LIGHT, 24)
    canvas.setFillColor(MINT)
    canvas.drawString(MARGIN, PAGE_HEIGHT - 87 * mm, month_name(facts.period[0]))
    entity = facts.one("entity_name")
    pages.note(entity.fact_id, canvas.getPageNumber())
    _entity(canvas, printable(entity.value or ""))
    _headline(canvas, facts, pages)
    _identity(canvas, facts, pages)
    _attached(canvas, has_ixbrl=has_ixbrl)
    canvas.restoreState()


def running(canvas: Canvas, facts: FactSet) -> None:
    """Watermark, head and foot of every page after the cover."""
    canvas.saveState()
    status = facts.one("status").value or ""
    if status in MARKED:
        _watermark(canvas, status)
    entity = _clipped(printable(facts.one("entity_name").value or ""), REGULAR, 7.6, WIDTH * 0.55)
    canvas.setFont(REGULAR, 7.6)
    canvas.setFillColor(MUTED)
    top = PAGE_HEIGHT - 13 * mm
    canvas.drawString(MARGIN, top, entity)
    canvas.drawRightString(PAGE_WIDTH - MARGIN, top, f"Cloud footprint, {month_name(facts.period[0])}")
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.5)
    canvas.line(MARGIN, top - 2.6 * mm, PAGE_WIDTH - MARGIN, top - 2.6 * mm)
    foot = 10 * mm
    canvas.drawString(MARGIN, foot, f"{BRAND}  \N{MIDDLE DOT}  {status}")
    canvas.drawRightString(PAGE_WIDTH - MARGIN, foot, f"{canvas.getPageNumber()}")
    canvas.restoreState()


def _days(canvas: Canvas, days: list[tuple[str, Fact]]) -> None:
    """The month's days as bars along the lower edge of the panel: the cover shows the data itself."""
    measured = [fact for day, fact in days if not day.startswith("#")]
    peak = max((length(fact) for fact in measured), default=0.0)
    if not peak:
        return
    slot = PAGE_WIDTH / len(measured)
    canvas.setFillColor(ACCENT)
    for number, fact in enumerate(measured):
        height = 46 * mm * length(fact) / peak
        canvas.rect(slot * number + slot * 0.14, _PANEL_BOTTOM, slot * 0.72, height, stroke=0, fill=1)


def _pill(canvas: Canvas, status: str) -> None:
    label = status.capitalize()
    width = float(stringWidth(label, SEMIBOLD, 9)) + 9 * mm
    x, y = PAGE_WIDTH - MARGIN - width, PAGE_HEIGHT - 26 * mm
    colour = AMBER if status in MARKED else MINT
    canvas.setStrokeColor(colour)
    canvas.setLineWidth(0.9)
    canvas.roundRect(x, y, width, 6.6 * mm, 3.3 * mm, stroke=1, fill=0)
    canvas.setFillColor(colour)
    canvas.setFont(SEMIBOLD, 9)
    canvas.drawCentredString(x + width / 2, y + 2.15 * mm, label)


def _entity(canvas: Canvas, name: str) -> None:
    """The entity's name, smaller where it is long, on at most two lines."""
    size = 17 if stringWidth(name, SEMIBOLD, 17) <= WIDTH else 12.5
    canvas.setFillColor(WHITE)
    canvas.setFont(SEMIBOLD, size)
    y = PAGE_HEIGHT - 106 * mm
    for line in _lines(name, SEMIBOLD, size, WIDTH, 2):
        canvas.drawString(MARGIN, y, line)
        y -= size * 1.3


def _headline(canvas: Canvas, facts: FactSet, pages: Pages) -> None:
    names = ("total_location", "total_market", "electricity")
    for number, name in enumerate(names):
        fact = facts.one(name)
        x = MARGIN + WIDTH * number / len(names)
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 8.4)
        canvas.drawString(x, 91 * mm, metric(name).label)
        canvas.setFillColor(DEEP)
        canvas.setFont(LIGHT, 30)
        canvas.drawString(x - 1, 78 * mm, text_of(fact))
        if fact.value is not None:
            gap = float(stringWidth(text_of(fact), LIGHT, 30)) + 2 * mm
            canvas.setFillColor(MUTED)
            canvas.setFont(REGULAR, 9)
            canvas.drawString(x + gap, 78 * mm, unit_text(fact))
        pages.note(fact.fact_id, canvas.getPageNumber())
    canvas.setStrokeColor(RULE)
    canvas.setLineWidth(0.6)
    canvas.line(MARGIN, 70 * mm, PAGE_WIDTH - MARGIN, 70 * mm)


def _identity(canvas: Canvas, facts: FactSet, pages: Pages) -> None:
    """Six facts on what the report is, in two rows; all of them stand in the last section too."""
    start, end = facts.period
    names = ("edition", "book_of_record", "assurance_level", "method_name", "factor_set")
    entries = [("Period", f"{start.day} to {long_date(end)}")]
    for name in names:
        fact = facts.one(name)
        entries.append((metric(name).label, with_unit(fact)))
        pages.note(fact.fact_id, canvas.getPageNumber())
    for number, (label, value) in enumerate(entries):
        x = MARGIN + WIDTH * (number % 3) / 3
        y = (60 if number < 3 else 44) * mm
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 7.8)
        canvas.drawString(x, y, label)
        canvas.setFillColor(INK)
        canvas.setFont(REGULAR, 9.2)
        for line in _lines(printable(value), REGULAR, 9.2, WIDTH / 3 - 6 * mm, 2):
            y -= 4.6 * mm
            canvas.drawString(x, y, line)


def _attached(canvas: Canvas, *, has_ixbrl: bool) -> None:
    attached = "Its facts as CSV are attached to this file."
    if has_ixbrl:
        attached = "The Inline XBRL edition of this report and its facts as CSV are attached to this file."
    canvas.setFillColor(MUTED)
    canvas.setFont(REGULAR, 7.8)
    canvas.drawString(MARGIN, 18 * mm, attached)


def _watermark(canvas: Canvas, status: str) -> None:
    canvas.saveState()
    canvas.setFillColor(WATERMARK)
    canvas.setFont(SEMIBOLD, 84)
    canvas.translate(PAGE_WIDTH / 2, PAGE_HEIGHT / 2)
    canvas.rotate(54)
    canvas.drawCentredString(0, -20, status.upper())
    canvas.restoreState()


def _lines(text: str, font: str, size: float, width: float, limit: int) -> list[str]:
    """The text on at most `limit` lines; the last one is clipped."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < limit - 1:
        line = words.pop(0)
        while words and stringWidth(f"{line} {words[0]}", font, size) <= width:
            line += f" {words.pop(0)}"
        lines.append(_clipped(line, font, size, width))
    return [*lines, _clipped(" ".join(words), font, size, width)] if words else lines


def _clipped(text: str, font: str, size: float, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width`."""
    if stringWidth(text, font, size) <= width:
        return text
    while text and stringWidth(text + "\N{HORIZONTAL ELLIPSIS}", font, size) > width:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}"
