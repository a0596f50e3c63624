"""Workbooks for tests: real ones, as openpyxl writes them, and packages part by part, as no program would."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import openpyxl
from openpyxl.workbook import Workbook

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_DOCUMENT = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
TYPES = "[Content_Types].xml"
STRINGS, SHEET, STYLES, BOOK = (
    "xl/sharedStrings.xml",
    "xl/worksheets/sheet1.xml",
    "xl/styles.xml",
    "xl/workbook.xml",
)
WORKBOOK_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"


def book(rows: Iterable[Iterable[object]], change: Callable[[Workbook], object] = lambda _: None) -> bytes:
    """A workbook of one sheet, `Rows`, after a change."""
    made = openpyxl.Workbook()
    made.active.title = "Rows"
    for row in rows:
        made.active.append(tuple(row))
    change(made)
    stream = io.BytesIO()
    made.save(stream)
    return stream.getvalue()


def parts(sheet: str, *, workbook_type: str = WORKBOOK_TYPE, book_more: str = "", **more: str) -> dict[str, str]:
    """Parts of a workbook whose sheet has these rows; `strings` and `styles` are the content of theirs."""
    return {
        TYPES: f'<Types xmlns="{PACKAGE}/content-types"><Override PartName="/{BOOK}" ContentType="{workbook_type}"/></Types>',
        "_rels/.rels": relationships(("officeDocument", BOOK)),
        BOOK: f'<workbook xmlns="{MAIN}" xmlns:r="{_DOCUMENT}">{book_more}<sheets><sheet name="Rows" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": relationships(
            ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml"), ("styles", "/xl/styles.xml")
        ),
        SHEET: f'<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
        STRINGS: f'<sst xmlns="{MAIN}">{more.get("strings", "")}</sst>',
        STYLES: f'<styleSheet xmlns="{MAIN}">{more.get("styles", "")}</styleSheet>',
    }


def packed(parts: Mapping[str, str | bytes], change: Callable[[ZipFile], Any] = lambda _: None) -> bytes:
    """The package of the parts."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        change(archive)
    return stream.getvalue()


def padded(archive: ZipFile) -> None:
    """An image, so that it is not the ratio of compression that is met first."""
    archive.writestr("xl/media/image1.png", Random(0).randbytes(2**19), ZIP_STORED)


def relationships(*targets: tuple[str, str]) -> str:
    related = "".join(
        f'<Relationship Id="r{number}" Type="{_DOCUMENT}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{related}</Relationships>'


def texts(number: int, *cells: str) -> str:
    """A row of texts that stand in the cells themselves."""
    return f'<row r="{number}">{"".join(f"""<c t="inlineStr"><is><t>{cell}</t></is></c>""" for cell in cells)}</row>'
