"""Fonts, colours and paragraph styles, and the one way a text becomes a paragraph.

`Paragraph` interprets markup: an unescaped tenant text could read local files or carry links. `text`
escapes every string and no other module builds a `Paragraph` (xbrl.md section 9.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, TableStyle

PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN = 20 * mm
WIDTH = PAGE_WIDTH - 2 * MARGIN

LIGHT, REGULAR, SEMIBOLD = "PlexSans-Light", "PlexSans", "PlexSans-SemiBold"
_FILES = {LIGHT: "Light", REGULAR: "Regular", SEMIBOLD: "SemiBold"}

INK = HexColor("#14211C")
MUTED = HexColor("#5A6862")
RULE = HexColor("#D9E1DD")
PANEL = HexColor("#F3F6F4")
WATERMARK = HexColor("#F7F4EE")
DEEP = HexColor("#0D2B23")
ACCENT = HexColor("#0F7A5A")
MINT = HexColor("#8FD3B6")
AMBER = HexColor("#F0B54A")
RUST = HexColor("#C8512A")
WHITE = white

#: Fills by member: different in lightness as well as hue, so that they stay apart in greyscale.
FILLS: dict[str, Color] = {
    "aws": HexColor("#0F5E46"),
    "azure": HexColor("#6FB79B"),
    "gcp": HexColor("#3B6FA0"),
    "oci": HexColor("#D9A441"),
    "other": HexColor("#B9C4BF"),
    "use_phase": HexColor("#0F5E46"),
    "embodied": HexColor("#6FB79B"),
    "upstream": HexColor("#CFE3DA"),
    "mapped": HexColor("#0F5E46"),
    "proxied": HexColor("#6FB79B"),
    "no_emission": HexColor("#DCE3DF"),
    "unmapped": HexColor("#E08A3C"),
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


@cache
def register_fonts() -> None:
    """Register the embedded TrueType fonts, once per process."""
    folder = resources.files(__package__).joinpath("fonts")
    for name, weight in _FILES.items():
        content = folder.joinpath(f"IBMPlexSans-{weight}.ttf").read_bytes()
        pdfmetrics.registerFont(TTFont(name, BytesIO(content)))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=SEMIBOLD, italic=REGULAR, boldItalic=SEMIBOLD)


def _style(
    name: str, size: float, leading: float, *, font: str = REGULAR, colour: Color = INK, right: bool = False,
    before: float = 0, after: float = 0,
) -> ParagraphStyle:  # fmt: skip
    return ParagraphStyle(
        name,
        fontName=font,
        bulletFontName=font,
        fontSize=size,
        leading=leading,
        textColor=colour,
        alignment=TA_RIGHT if right else 0,
        spaceBefore=before,
        spaceAfter=after,
        splitLongWords=1,
    )


HEADING = _style("heading", 21, 25, font=LIGHT, colour=DEEP, after=3 * mm)
LEAD = _style("lead", 10, 15, colour=MUTED, after=4 * mm)
CAPTION = _style("caption", 9.5, 13, font=SEMIBOLD, colour=ACCENT, before=5 * mm, after=1.2 * mm)
BODY = _style("body", 9.3, 14, after=2.4 * mm)
NOTE = _style("note", 7.6, 10.4, colour=MUTED)
CELL = _style("cell", 8.6, 11.4)
CELL_RIGHT = _style("cell-right", 8.6, 11.4, right=True)
CELL_MUTED = _style("cell-muted", 8.6, 11.4, colour=MUTED)
CELL_MUTED_RIGHT = _style("cell-muted-right", 8.6, 11.4, colour=MUTED, right=True)
CELL_BOLD = _style("cell-bold", 8.6, 11.4, font=SEMIBOLD)
CELL_BOLD_RIGHT = _style("cell-bold-right", 8.6, 11.4, font=SEMIBOLD, right=True)
HEAD = _style("head", 7.6, 9.6, colour=MUTED)
HEAD_RIGHT = _style("head-right", 7.6, 9.6, colour=MUTED, right=True)
FIGURE = _style("figure", 25, 29, font=LIGHT, colour=DEEP)
FIGURE_SMALL = _style("figure-small", 16, 20, font=LIGHT, colour=DEEP)
FIGURE_LABEL = _style("figure-label", 7.8, 10.4, colour=MUTED)
INDEX = _style("index", 5.6, 7.1)
INDEX_RIGHT = _style("index-right", 5.6, 7.1, right=True)


def printable(value: str) -> str:
    """The text without control characters and direction overrides, which print as nothing or mislead."""
    return _CONTROL.sub("", value)


def text(value: str, style: ParagraphStyle = BODY) -> Paragraph:
    """A paragraph that shows exactly this text: every markup character is escaped."""
    return Paragraph(escape(printable(value)), style)


def table_style(rules: Sequence[tuple[Any, ...]]) -> TableStyle:
    """Rules of a table in our font: reportlab's own default would name a font that is not embedded."""
    return TableStyle([("FONTNAME", (0, 0), (-1, -1), REGULAR), *rules])
