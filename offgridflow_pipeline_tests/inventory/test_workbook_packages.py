"""Workbooks as hostile archives: what is no workbook is refused by name, and nothing costs more than its bounds."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Callable
from datetime import date
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.inventory import activity_workbooks, workbook_packages
from offgridflow_pipeline.inventory.activity_files import FileForm, examine
from offgridflow_pipeline.inventory.workbook_packages import MAXIMUM_PARTS
from offgridflow_pipeline_tests.inventory.workbooks import (
    BOOK,
    MAIN,
    PACKAGE,
    SHEET,
    STRINGS,
    STYLES,
    TYPES,
    WORKBOOK_TYPE,
    book,
    packed,
    padded,
    parts,
    relationships,
    texts,
)

HEADER = ("mode", "quantity", "unit", "date")
ROWS = texts(1, *HEADER) + texts(2, "air", "1200", "km", "2026-03-04")
SOUND = packed(parts(ROWS))
ENTITIES = f'<!DOCTYPE worksheet [<!ENTITY a "{"x" * 1000}"><!ENTITY b "{"&a;" * 1000}">]>'
MACROS = "application/vnd.ms-excel.sheet.macroEnabled.main+xml"


def form(content: bytes) -> FileForm:
    return examine("travel", io.BytesIO(content))


def message(content: bytes) -> str:
    [fault] = form(content).faults
    assert fault.cure
    return fault.message


def changed(**contents: str | bytes) -> bytes:
    """The sound workbook with other parts."""
    names = {"sheet": SHEET, "strings": STRINGS, "styles": STYLES, "book": BOOK, "types": TYPES}
    return packed(parts(ROWS) | {names[name]: content for name, content in contents.items()}, padded)


def worksheet(rows: str) -> str:
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def protected(content: bytes) -> bytes:
    """The archive with the mark of encryption on its first entry."""
    place = content.index(b"PK\x01\x02") + 8
    return content[:place] + b"\x01" + content[place + 1 :]


def test_the_workbook_that_the_others_are_made_of_is_sound() -> None:
    assert form(SOUND).is_accepted


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "this is an old workbook (.xls), or one with a password"),
        (protected(SOUND), "the workbook is protected with a password"),
        (packed(parts(ROWS, workbook_type=MACROS)), "the workbook holds macros (.xlsm)"),
        (
            packed(
                parts(ROWS)
                | {TYPES: f'<Types xmlns="{PACKAGE}/content-types"><Override ContentType="{WORKBOOK_TYPE}"/><Default ContentType="application/vnd.ms-office.vbaProject"/></Types>'}
            ),
            "the workbook holds macros (.xlsm)",
        ),
        (
            packed(parts(ROWS) | {"_rels/.rels": relationships(("officeDocument", "xl/workbook.bin")), "xl/workbook.bin": b"\x83"}),
            "this is a binary workbook (.xlsb)",
        ),
        (packed({"mimetype": "x", "content.xml": "<a/>"}), "this is an OpenDocument spreadsheet (.ods)"),
        (packed({"trips.csv": "mode"}), "this is an archive, not a workbook"),
        (packed({}), "this is an archive, not a workbook"),
        (packed({TYPES: f'<Types xmlns="{PACKAGE}/content-types"/>', "_rels/.rels": relationships(("officeDocument", "word/document.xml"))}), "the workbook is damaged"),
        (SOUND[: len(SOUND) // 2], "the workbook or archive ends early"),
        (SOUND[:-1], "the workbook or archive ends early"),
    ],
    ids=["ole", "password", "xlsm", "macros", "xlsb", "ods", "zip", "empty zip", "docx", "half", "one byte short"],
)  # fmt: skip
def test_what_is_no_plain_workbook_is_refused_by_its_name(content: bytes, expected: str) -> None:
    assert message(content) == expected


@pytest.mark.parametrize(
    "content",
    [
        changed(sheet=worksheet(ROWS)[:-20]),
        changed(sheet=b"\0\1\2"),
        changed(strings=f'<sst xmlns="{MAIN}">'),
        changed(sheet=f'<?xml version="1.0" encoding="no-such"?>{worksheet(ROWS)}'),
        changed(sheet=f'<worksheet xmlns="{MAIN}">{"<a>" * 100}{"</a>" * 100}</worksheet>'),
        changed(sheet=worksheet(f"{ROWS}<extLst>{'<a>' * 100}{'</a>' * 100}</extLst>")),
        changed(sheet=worksheet(ROWS).replace(MAIN, "urn:other")),
        changed(sheet=worksheet(ROWS).replace("</sheetData>", "</sheetData><sheetData/>")),
        changed(sheet=worksheet("").replace("</worksheet>", f"{ROWS}</worksheet>")),
        changed(sheet=worksheet(f"{texts(1, *HEADER)}<o:a xmlns:o='urn:other'>{texts(2, 'air')}</o:a>")),
        changed(strings=f"<sst xmlns='{MAIN}'><o:a xmlns:o='urn:other'><si/></o:a></sst>"),
        changed(sheet=worksheet(texts(2, "a") + texts(1, "b"))),
        changed(sheet=worksheet(texts(1, "a") + texts(1, "b"))),
        changed(sheet=worksheet('<row r="1"><c r="B1"><v>1</v></c><c r="A1"><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="1"><c r="A2"><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="1"><c r="XFE1"><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="1048577"><c><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="-1"><c><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="1"><row r="2"></row></row>')),
        changed(sheet=worksheet('<row r="1"><c><c/></c></row>')),
        changed(sheet=worksheet("<c><v>1</v></c>")),
        changed(sheet=worksheet('<row r="1"><c t="s"><v>0</v></c></row>')),
        changed(
            sheet=worksheet('<row r="1"><c t="s"><v>-1</v></c></row>'),
            strings=f"<sst xmlns='{MAIN}'>{'<si><t>mode</t></si>' * 2}</sst>",
        ),
        changed(sheet=worksheet('<row r="1"><c s="7"><v>1</v></c></row>')),
        changed(sheet=worksheet('<row r="1"><c><v>one</v></c></row>')),
        changed(styles=f"<styleSheet xmlns='{MAIN}'><cellXfs>{'<xf/>' * 65_537}</cellXfs></styleSheet>"),
        changed(styles=f'<styleSheet xmlns="{MAIN}"><numFmts><numFmt numFmtId="x"/></numFmts></styleSheet>'),
        changed(book=f"<workbook xmlns='{MAIN}'>{'<sheet/>' * 2**17}</workbook>"),
        packed({name: part for name, part in parts(ROWS).items() if name != SHEET}),
        packed(parts(ROWS) | {"XL/Workbook.xml": "<workbook/>"}),
        packed(
            parts(ROWS)
            | {
                "xl/_rels/workbook.xml.rels": relationships(
                    ("worksheet", "worksheets/sheet1.xml"), *[("sharedStrings", "sharedStrings.xml")] * 2
                )
            }
        ),
    ],
)
def test_what_no_spreadsheet_program_writes_is_refused_and_nothing_of_it_is_lost_in_silence(content: bytes) -> None:
    assert "the workbook is damaged" in {fault.message for fault in form(content).faults}


def test_a_part_that_is_altered_or_larger_than_it_declares_is_refused() -> None:
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_STORED) as archive:
        for name, part in parts(ROWS).items():
            archive.writestr(name, part)
    plain = stream.getvalue()
    assert message(plain.replace(b"1200", b"9200")) == "the workbook is damaged"
    entry = plain.rindex(SHEET.encode()) - 46
    (size,) = struct.unpack_from("<L", plain, entry + 24)
    smaller = plain[: entry + 24] + struct.pack("<L", size - 40) + plain[entry + 28 :]
    assert message(smaller) == "the workbook is damaged"


@pytest.mark.parametrize(
    "content",
    [
        changed(sheet=ENTITIES + worksheet(texts(1, "&b;"))),
        changed(strings=f"{ENTITIES}<sst/>"),
        changed(styles=f"{ENTITIES}<styleSheet/>"),
        changed(book=f"{ENTITIES}<workbook/>"),
        changed(types=f"{ENTITIES}<Types/>"),
        changed(sheet=(ENTITIES + worksheet(texts(1, "&b;"))).encode("utf-16")),
        changed(sheet=f'<!DOCTYPE a SYSTEM "file:///etc/passwd">{worksheet(ROWS)}'),
    ],
    ids=["sheet", "strings", "styles", "book", "types", "utf-16", "external"],
)
def test_a_declaration_of_entities_is_refused_in_every_part(content: bytes) -> None:
    assert message(content) == "the workbook declares XML entities, which no spreadsheet program does"


def blanks(archive: ZipFile) -> None:
    """Parts that unpack to more than 64 MiB together, at an ordinary ratio."""
    padded(archive)
    for number in range(2):
        archive.writestr(f"xl/media/{number}.bmp", b"\0" * (33 * 2**20), compresslevel=1)


def ratio(archive: ZipFile) -> None:
    archive.writestr("xl/media/a.bmp", b"\0" * (10 * 2**20))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (blanks, "the content is larger than 64 MiB, or compressed beyond what bills are"),
        (ratio, "the content is larger than 64 MiB, or compressed beyond what bills are"),
        (
            lambda archive: [archive.writestr(f"xl/{n}", b"") for n in range(MAXIMUM_PARTS)],
            "the archive has more parts than a workbook has",
        ),
        (
            lambda archive: [archive.writestr(f"{'x' * 2000}{n}", b"") for n in range(200)],
            "the archive has more parts than a workbook has",
        ),
    ],
    ids=["sum", "ratio", "parts", "directory"],
)
def test_an_archive_beyond_its_bounds_is_refused_before_anything_is_unpacked(
    change: Callable[[ZipFile], object], expected: str
) -> None:
    content = packed(parts(ROWS), change)
    tracemalloc.start()
    assert message(content) == expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("method", [ZIP_BZIP2, ZIP_LZMA])
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_part_packed_in_a_way_that_inflates_beyond_its_size_is_never_opened(
    method: int, is_broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of bzip2 and LZMA `zipfile` unpacks all that a piece holds, whatever the entry declares."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for name, part in parts(ROWS).items():
            archive.writestr(name, part, method if name == SHEET else None)
    content = bytearray(stream.getvalue())
    if is_broken:
        place = content.index(SHEET.encode()) + len(SHEET) + 4
        content[place : place + 5] = b"\xff" * 5
    opened: list[object] = []
    monkeypatch.setattr(ZipFile, "open", lambda _archive, part, *_rest: opened.append(part))
    assert message(bytes(content)) == "the workbook is damaged"
    assert opened == []


def test_an_archive_of_the_kind_beyond_four_gigabytes_is_refused() -> None:
    locator = b"PK\x06\x07" + b"\0" * 16
    place = SOUND.rindex(b"PK\x05\x06")
    assert message(SOUND[:place] + locator + SOUND[place:]) == "the archive has more parts than a workbook has"


@pytest.mark.parametrize(
    "rows",
    [
        "<row>" + "<c><v>1</v></c>" * 16_384 + "</row>",
        "".join(f'<row r="{n}"><c r="XFD{n}"><v> </v></c></row>' for n in range(1, 50_000)),
        texts(1, "x" * (32 * 2**20)),
        f'<row><c t="{"n" * 2**20}"><v>1</v></c></row>',
        "<row>" + "<c/>" * 10_000 + "</row>",
    ],
    ids=["wide", "far", "long text", "long attribute", "empty cells"],
)
def test_a_sheet_of_any_form_is_read_in_little_memory(rows: str) -> None:
    content = packed(parts(rows), padded)
    tracemalloc.start()
    found = form(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.is_accepted
    assert peak < 12 * 2**20


def test_texts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_workbooks, "MAXIMUM_TEXTS", 3)
    assert form(packed(parts(ROWS, strings="<si/>" * 3))).is_accepted
    assert message(packed(parts(ROWS, strings="<si/>" * 4))) == "the workbook holds more than 3 texts"


def test_letters_of_texts_are_counted_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_workbooks, "MAXIMUM_LETTERS", 12)
    text = "<si><t>\U0001f600\U0001f600\U0001f600\U0001f600</t></si>"
    assert form(packed(parts(ROWS, strings=text * 3))).is_accepted
    assert message(packed(parts(ROWS, strings=text * 4))) == "the texts of the workbook have more than 12 letters"


def test_elements_are_counted_over_all_parts_and_where_they_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook_packages, "MAXIMUM_ELEMENTS", 200)
    beyond = "the content is larger than 64 MiB, or compressed beyond what bills are"
    assert form(SOUND).is_accepted
    for more in ("<c/>" * 170, f"<extLst>{'<a/>' * 170}</extLst>"):
        assert message(changed(sheet=worksheet(ROWS + f'<row r="3">{more}</row>'))) == beyond
    halves = f"<extLst>{'<a/>' * 90}</extLst>"
    strings, styles = f'<sst xmlns="{MAIN}">{halves}</sst>', f'<styleSheet xmlns="{MAIN}">{halves}</styleSheet>'
    assert form(changed(strings=strings)).is_accepted
    assert message(changed(strings=strings, styles=styles)) == beyond


@given(st.data())
def test_no_damage_breaks_the_check(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([SOUND, OFFICE]))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = form(bytes(broken))
    assert all(fault.message and fault.cure for fault in found.faults)


@given(st.text(alphabet='<>/rcvtsifn="12A ', max_size=60))
def test_no_content_of_a_sheet_breaks_the_check(content: str) -> None:
    found = form(changed(sheet=worksheet(f"{ROWS}{content}")))
    assert all(fault.message and fault.cure for fault in found.faults)


OFFICE = book([HEADER, ("air", 1200, "km", date(2026, 3, 4))])
