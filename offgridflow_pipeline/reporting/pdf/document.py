"""Builds the PDF: cover, sections and fact index, then the archive finish with the iXBRL attached.

The document is drawn twice: the first drawing finds the page of each fact, the second prints them in the
index. Equal facts give equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Frame, NextPageTemplate, PageBreak, PageTemplate

from offgridflow_pipeline.reporting.artefact import written
from offgridflow_pipeline.reporting.display import month_name
from offgridflow_pipeline.reporting.fact import FactSet, fact_set
from offgridflow_pipeline.reporting.facts_file import facts_csv
from offgridflow_pipeline.reporting.pdf import pages as furniture
from offgridflow_pipeline.reporting.pdf import theme
from offgridflow_pipeline.reporting.pdf.archive import Attachment, archived
from offgridflow_pipeline.reporting.pdf.marks import Pages
from offgridflow_pipeline.reporting.pdf.sections import sections

if TYPE_CHECKING:
    import pyarrow as pa

    from offgridflow_pipeline.reporting.profile import ReportProfile


def build_pdf(facts: pa.Table, profile: ReportProfile, attachments: Sequence[Path], out: Path) -> Path:
    """Write the report as PDF/A-3b.

    Args:
        facts: rows of `schemas.REPORT_FACTS`.
        profile: entity of the report.
        attachments: files to embed, the Inline XBRL first if there is one; the facts as CSV are added.
        out: file to write; replaced atomically.

    Returns:
        `out`.
    """
    theme.register_fonts()
    stated = fact_set(facts)
    title = f"Cloud footprint, {month_name(stated.period[0])}, {theme.printable(profile.display_name)}"
    has_ixbrl = any(path.suffix == ".xhtml" for path in attachments)
    found = Pages()
    _drawn(stated, title, found, Pages(), has_ixbrl=has_ixbrl)
    content = _drawn(stated, title, Pages(), found, has_ixbrl=has_ixbrl)
    files = [Attachment(path.name, path.read_bytes()) for path in attachments]
    files.append(Attachment(f"{out.stem}-facts.csv", facts_csv(facts)))
    return written(out, archived(content, title=title, author=furniture.BRAND, attachments=files))


def _drawn(facts: FactSet, title: str, pages: Pages, index_pages: Pages, *, has_ixbrl: bool) -> bytes:
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=(theme.PAGE_WIDTH, theme.PAGE_HEIGHT),
        title=title,
        author=furniture.BRAND,
        lang="en-GB",
        invariant=1,
        initialFontName=theme.REGULAR,
    )

    def on_cover(canvas: Canvas, _: BaseDocTemplate) -> None:
        furniture.cover(canvas, facts, pages, has_ixbrl=has_ixbrl)

    def on_page(canvas: Canvas, _: BaseDocTemplate) -> None:
        furniture.running(canvas, facts)

    height = theme.PAGE_HEIGHT - 40 * mm
    plain = {"leftPadding": 0, "rightPadding": 0, "topPadding": 0, "bottomPadding": 0}
    document.addPageTemplates(
        [
            PageTemplate("cover", [Frame(theme.MARGIN, 18 * mm, theme.WIDTH, height, **plain)], onPage=on_cover),
            PageTemplate("page", [Frame(theme.MARGIN, 18 * mm, theme.WIDTH, height, **plain)], onPage=on_page),
        ]
    )
    document.build([NextPageTemplate("page"), PageBreak(), *sections(facts, pages, index_pages, has_ixbrl=has_ixbrl)])
    return buffer.getvalue()
