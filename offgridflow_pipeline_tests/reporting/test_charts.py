"""Charts on both surfaces: the PDF's canvas and SVG get the same words and as many marks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from lxml import etree
from reportlab.pdfgen.canvas import Canvas

from offgridflow_pipeline.reporting.charts import (
    Column,
    Mark,
    Part,
    Surface,
    Trend,
    axis_end,
    draw_share,
    draw_split,
    draw_trend,
)
from offgridflow_pipeline.reporting.pdf.theme import ACCENT, register_fonts
from offgridflow_pipeline.reporting.svg import drawing

SIZE = (300.0, 120.0)
NAMESPACE = "{http://www.w3.org/2000/svg}"


def trend(**changes: Any) -> Trend:
    columns = [
        Column(
            f"M{n}",
            {"aws": Mark(3.0 + n, ""), "gcp": Mark(1.0, "")},
            Mark(4.0 + n, f"{4 + n}.0"),
            Mark(2.0, "2"),
            n == 2,
        )
        for n in range(3)
    ]
    return Trend(columns, {"aws": "Amazon", "gcp": "Google"}, "market-based", **changes)


class Recorder(Canvas):
    """The PDF's canvas, which also remembers what was written on it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO())
        self.words: list[str] = []

    def drawString(self, x: float, y: float, text: str, *args: Any, **kwargs: Any) -> None:
        self.words.append(text)
        super().drawString(x, y, text, *args, **kwargs)

    def drawRightString(self, x: float, y: float, text: str, *args: Any, **kwargs: Any) -> None:
        self.words.append(text)
        super().drawRightString(x, y, text, *args, **kwargs)

    def drawCentredString(self, x: float, y: float, text: str, *args: Any, **kwargs: Any) -> None:
        self.words.append(text)
        super().drawCentredString(x, y, text, *args, **kwargs)


def svg(draw: Callable[[Surface], None]) -> etree._Element:
    return etree.fromstring(drawing("chart", "Name", "What it shows", SIZE, draw))


@pytest.mark.parametrize(
    "draw",
    [
        lambda surface: draw_trend(surface, trend(), *SIZE),
        lambda surface: draw_trend(
            surface, trend(legend=False, axis_label="t", tick=lambda value: f"{value:.1f}"), *SIZE
        ),
        lambda surface: draw_split(surface, "Parts", [Part("mapped", 3, "a"), Part("unmapped", 1, "b")], *SIZE),
        lambda surface: draw_share(surface, 0.4, 100, ACCENT),
    ],
    ids=["trend", "trend without legend", "split", "share"],
)
def test_a_chart_says_the_same_in_the_pdf_and_as_svg(draw: Callable[[Surface], None]) -> None:
    register_fonts()
    canvas = Recorder()
    draw(canvas)
    assert [text.text for text in svg(draw).iter(f"{NAMESPACE}text")] == canvas.words


def test_a_provisional_column_is_hatched_within_its_own_bounds() -> None:
    found = svg(lambda surface: draw_trend(surface, trend(legend=False), *SIZE))
    clips = found.findall(f"{NAMESPACE}clipPath")
    assert len(clips) == 2
    used = [group.get("clip-path") for group in found.iter(f"{NAMESPACE}g")]
    assert used == [f"url(#{clip.get('id')})" for clip in clips]


def test_text_in_a_drawing_is_never_markup_and_the_drawing_has_a_name() -> None:
    evil = '"><script>alert(1)</script>&'
    text = drawing("c", evil, evil, SIZE, lambda surface: surface.drawString(1, 1, evil))
    found = etree.fromstring(text)
    assert list(found.iter(f"{NAMESPACE}script")) == []
    assert found.findtext(f"{NAMESPACE}title") == evil
    assert found.get("role") == "img"
    assert set(found.get("aria-labelledby", "").split()) == {"c-title", "c-desc"}
    assert "style" not in {name for node in found.iter() for name in node.attrib}


def test_a_share_never_leaves_its_track() -> None:
    for share, width in ((-1.0, None), (0.25, 25.0), (7.0, 100.0)):
        rects = list(svg(lambda surface, share=share: draw_share(surface, share, 100, ACCENT)).iter(f"{NAMESPACE}rect"))
        assert [float(rect.get("width")) for rect in rects[1:]] == ([] if width is None else [width])


@pytest.mark.parametrize(("values", "end"), [([], 1.0), ([0.0], 1.0), ([0.03], 0.03), ([13.1], 15), ([999], 1000)])
def test_an_axis_ends_at_a_readable_figure_that_is_not_below_any_value(values: list[float], end: float) -> None:
    assert axis_end(values) == pytest.approx(end)
