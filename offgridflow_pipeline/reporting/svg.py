"""A drawing surface that writes SVG: charts drawn on it look as they do in the PDF.

Presentation attributes only, no style attributes and no elements with an id but clip paths: the portal's content
security policy allows no inline style. Text is escaped here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from reportlab.lib.colors import Color

from offgridflow_pipeline.reporting.pdf.theme import LIGHT, REGULAR, SEMIBOLD, printable, register_fonts

_WEIGHTS = {LIGHT: "300", REGULAR: "400", SEMIBOLD: "600"}


@dataclass(slots=True)
class _Path:
    """A clip path of rectangles, in SVG coordinates."""

    height: float
    rects: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float) -> None:
        self.rects.append(
            f'<rect x="{_n(x)}" y="{_n(self.height - y - height)}" width="{_n(width)}" height="{_n(height)}"/>'
        )


class SvgSurface:
    """Writes what is drawn as SVG elements; `document` puts them together."""

    def __init__(self, width: float, height: float, name: str, *, crisp: bool = False) -> None:
        """A surface of so many points; `name` keeps its ids apart from those of other drawings of a page.

        A crisp one draws edges without smoothing, so that squares side by side leave no seam.
        """
        register_fonts()
        self._width, self._height, self._name, self._crisp = width, height, name, crisp
        self._elements: list[str] = []
        self._fill = self._stroke = "#000000"
        self._line_width = 1.0
        self._font, self._size = REGULAR, 10.0
        self._clips = 0
        self._open: list[int] = []

    def document(self, title: str, description: str, *, stretched: bool = False) -> str:
        """The drawing with its name and description for people who do not see it.

        A stretched drawing fills the room it gets in both directions: for bars without text.
        """
        label = f"{self._name}-title {self._name}-desc"
        return self._svg(
            f' role="img" aria-labelledby={quoteattr(label)}',
            f'<title id="{self._name}-title">{_text(title)}</title>'
            f'<desc id="{self._name}-desc">{_text(description)}</desc>',
            stretched=stretched,
        )

    def hidden(self, *, stretched: bool = False) -> str:
        """The drawing as an ornament: what it shows stands in words beside it."""
        return self._svg(' aria-hidden="true"', "", stretched=stretched)

    def _svg(self, attributes: str, head: str, *, stretched: bool) -> str:
        fit = ' preserveAspectRatio="none"' if stretched else ""
        fit += ' shape-rendering="crispEdges"' if self._crisp else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self._width)} {_n(self._height)}"{fit}'
            f'{attributes} focusable="false">{head}{"".join(self._elements)}</svg>'
        )

    def setFillColor(self, aColor: Color) -> None:  # noqa: N802, N803
        """Colour of fills and text from here on."""
        self._fill = _colour(aColor)

    def setStrokeColor(self, aColor: Color) -> None:  # noqa: N802, N803
        """Colour of lines from here on."""
        self._stroke = _colour(aColor)

    def setLineWidth(self, width: float) -> None:  # noqa: N802
        """Width of lines from here on, points."""
        self._line_width = width

    def setFont(self, psfontname: str, size: float) -> None:  # noqa: N802
        """Font of texts from here on."""
        self._font, self._size = psfontname, size

    def drawString(self, x: float, y: float, text: str) -> None:  # noqa: N802
        """Text that begins at x."""
        self._write(x, y, text, "start")

    def drawRightString(self, x: float, y: float, text: str) -> None:  # noqa: N802
        """Text that ends at x."""
        self._write(x, y, text, "end")

    def drawCentredString(self, x: float, y: float, text: str) -> None:  # noqa: N802
        """Text in the middle of which lies x."""
        self._write(x, y, text, "middle")

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A line."""
        self._elements.append(
            f'<path d="M{_n(x1)} {_n(self._height - y1)}L{_n(x2)} {_n(self._height - y2)}" {self._pen(1, 0)}/>'
        )

    def rect(self, x: float, y: float, width: float, height: float, stroke: int = 1, fill: int = 0) -> None:
        """A rectangle whose lower left corner is x, y; nothing where it has no extent."""
        if width <= 0 or height <= 0:
            return
        self._elements.append(
            f'<rect x="{_n(x)}" y="{_n(self._height - y - height)}" width="{_n(width)}" height="{_n(height)}"'
            f" {self._pen(stroke, fill)}/>"
        )

    def circle(self, x_cen: float, y_cen: float, r: float, stroke: int = 1, fill: int = 0) -> None:
        """A circle."""
        self._elements.append(
            f'<circle cx="{_n(x_cen)}" cy="{_n(self._height - y_cen)}" r="{_n(r)}" {self._pen(stroke, fill)}/>'
        )

    def beginPath(self) -> _Path:  # noqa: N802
        """A path to clip with."""
        return _Path(self._height)

    def clipPath(self, aPath: _Path, stroke: int = 1, fill: int = 0) -> None:  # noqa: N802, N803
        """Show only what lies inside the path, until the state is restored."""
        self._clips += 1
        name = f"{self._name}-clip{self._clips}"
        self._elements.append(f'<clipPath id="{name}">{"".join(aPath.rects)}</clipPath><g clip-path="url(#{name})">')
        self._open[-1] += 1

    def saveState(self) -> None:  # noqa: N802
        """Begin a part whose clipping ends with `restoreState`."""
        self._open.append(0)

    def restoreState(self) -> None:  # noqa: N802
        """End clipping since `saveState`."""
        self._elements.append("</g>" * self._open.pop())

    def _pen(self, stroke: int, fill: int) -> str:
        inside = f'fill="{self._fill}"' if fill else 'fill="none"'
        return f'{inside} stroke="{self._stroke}" stroke-width="{_n(self._line_width)}"' if stroke else inside

    def _write(self, x: float, y: float, text: str, anchor: str) -> None:
        self._elements.append(
            f'<text x="{_n(x)}" y="{_n(self._height - y)}" text-anchor="{anchor}" font-size="{_n(self._size)}"'
            f' font-weight="{_WEIGHTS[self._font]}" fill="{self._fill}">{_text(text)}</text>'
        )


def drawing(name: str, title: str, description: str, size: tuple[float, float], draw: Callable[..., None]) -> str:
    """An SVG document of `draw(surface)` with the size in points."""
    surface = SvgSurface(*size, name)
    draw(surface)
    return surface.document(title, description)


def _colour(colour: Color) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in (colour.red, colour.green, colour.blue))


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    return escape(printable(text))
