"""Activity files as Excel workbooks: what counts as a value, which sheet counts, and every fault has its place."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime
from decimal import Decimal

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.chart import BarChart
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from openpyxl.workbook import Workbook
from openpyxl.worksheet.formula import ArrayFormula

from offgridflow_pipeline.inventory import activity_files
from offgridflow_pipeline.inventory.activity_files import KINDS, MAXIMUM_FAULTS, ActivityKind, FileForm, examine
from offgridflow_pipeline.inventory.activity_rows import Misread, UnreadableError
from offgridflow_pipeline.inventory.activity_workbooks import MEDIA_TYPE, workbook_table
from offgridflow_pipeline_tests.inventory.test_activity_files import GOOD
from offgridflow_pipeline_tests.inventory.workbooks import BOOK, MAIN, SHEET, STRINGS, book, packed, parts, texts

HEADER = ("mode", "quantity", "unit", "date", "evidence")
TRIP = ("air", 1200, "km", date(2026, 3, 4), "B-1")


def form(content: bytes, kind: ActivityKind = "travel") -> FileForm:
    return examine(kind, io.BytesIO(content))


def faults(content: bytes, kind: ActivityKind = "travel") -> list[tuple[str, int, str, str]]:
    return [(fault.sheet, fault.row, fault.column, fault.message) for fault in form(content, kind).faults]


def cells(content: bytes) -> list[list[object]]:
    return [list(row.cells) for row in workbook_table("travel", io.BytesIO(content)).rows]


def stored(value: str, *, kind: str = "n", **more: str) -> object:
    """What the cell that stores the value is read as."""
    sheet = f'{texts(1, "name")}<row r="2"><c r="A2" t="{kind}" s="0"><v>{value}</v></c></row>'
    return cells(packed(parts(sheet, **more)))[1][0]


def with_format(code: str) -> str:
    return f'<numFmts><numFmt numFmtId="164" formatCode="{code}"/></numFmts><cellXfs><xf numFmtId="164"/></cellXfs>'


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_workbook_is_accepted_and_read_as_its_csv_would_be(kind: ActivityKind) -> None:
    header, row = csv.reader(GOOD[kind].splitlines())
    content = book([header, [typed(cell) for cell in row]])
    found = form(content, kind)
    assert (found.faults, found.row_count, found.media_type) == ((), 1, MEDIA_TYPE)
    assert cells(content) == [header, [cell.replace("-12.50", "-12.5") for cell in row]]


@pytest.mark.parametrize("constant_memory", [False, True], ids=["shared texts", "texts in cells"])
def test_another_writer_is_read_alike(constant_memory: bool) -> None:
    stream = io.BytesIO()
    options = {"constant_memory": constant_memory, "default_date_format": "d mmmm yyyy"}
    with xlsxwriter.Workbook(stream, options) as made:
        sheet = made.add_worksheet("Rows")
        sheet.write_row(0, 0, HEADER)
        sheet.write_row(1, 0, TRIP)
    assert cells(stream.getvalue()) == cells(book([HEADER, TRIP]))


def typed(cell: str) -> object:
    """A cell of CSV as a person types it into a spreadsheet."""
    for convert in (int, float, date.fromisoformat):
        try:
            return convert(cell)
        except ValueError:
            continue
    return cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1200", "1200"),
        ("-12.50", "-12.5"),
        ("0.28999999999999998", "0.29"),
        ("1234567.8899999999", "1234567.89"),
        ("1234.5600000000002", "1234.56"),
        ("33.333333333333336", "33.333333333333"),
        ("1.2E-5", "0.000012"),
        ("1E3", "1000"),
        ("-0.0", "0"),
        ("123456789012345678", "123456789012345678"),
        ("1e999", "1e999"),
        ("NaN", "NaN"),
        ("-INF", "-INF"),
    ],
)
def test_a_number_is_the_shortest_decimal_that_names_what_is_stored(value: str, text: str) -> None:
    assert stored(value) == text


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 6))
def test_a_number_of_fifteen_digits_comes_back_as_it_was_typed(digits: int, decimals: int) -> None:
    typed = Decimal(digits).scaleb(-decimals)
    assert Decimal(str(stored(format(float(typed), ".17g")))) == typed


@pytest.mark.parametrize("value", ["1_000", "\u0661\u0662", "nan", "inf", "infinity", "0x10", "1e", "."])
@pytest.mark.parametrize("code", ["0.00", "yyyy-mm-dd"])
def test_what_is_a_number_for_python_alone_is_none(value: str, code: str) -> None:
    with pytest.raises(UnreadableError, match="damaged"):
        stored(value, styles=with_format(code))


@pytest.mark.parametrize("value", ["5.", ".5", "+5", " 5\n", "5e0", "5E+00"])
def test_a_number_is_read_in_every_form_of_an_xml_schema_double(value: str) -> None:
    assert Decimal(str(stored(value))) in {Decimal(5), Decimal("0.5")}


def test_formats_of_conditions_are_none_of_cells() -> None:
    dxfs = '<dxfs><dxf><numFmt numFmtId="164" formatCode="yyyy-mm-dd"/></dxf></dxfs>'
    assert stored("46085", styles=with_format("0.00") + dxfs) == "46085"


EXTENSION = "<extLst><ext uri='x'><v>000</v><is><t>000</t></is><f>1</f></ext></extLst>"
OTHER = "xmlns:o='urn:other'"


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        (f"<c><v>12</v>{EXTENSION}</c>", "12"),
        (f"<c>{EXTENSION}<v>12</v></c>", "12"),
        (f"<c t='inlineStr'><is><t>air</t></is>{EXTENSION}</c>", "air"),
        ("<c t='inlineStr'><is><t>5</t></is><v>7</v></c>", "5"),
        ("<c t='inlineStr'><v>7</v></c>", None),
        (f"<c {OTHER} o:t='s' o:r='B9'><v>12</v></c>", "12"),
    ],
)
def test_a_cell_holds_its_own_value_and_nothing_of_an_extension(cell: str, read: str | None) -> None:
    content = packed(parts(f'{texts(1, "name")}<row r="2">{cell}</row>'))
    assert cells(content)[1:] == ([[read]] if read else [])


@pytest.mark.parametrize(
    "cell",
    [
        "<c><v>1</v><v>2</v></c>",
        "<c t='inlineStr'><is><t>1</t></is><is><t>2</t></is></c>",
        "<c><is><t>1</t></is></c>",
        "<c><v>1</v><is><t>2</t></is></c>",
        "<c><t>1</t></c>",
        f"<c><v>12</v><o:v {OTHER}>000</o:v></c>",
        f"<c {OTHER}><o:f>1</o:f><v>12</v></c>",
        "<c><v>1<v>2</v></v></c>",
        "<c><v><t>1</t></v></c>",
        "<c t='inlineStr'><is><v>1</v></is></c>",
    ],
)
def test_a_cell_of_two_values_or_of_another_vocabulary_is_refused(cell: str) -> None:
    with pytest.raises(UnreadableError, match="damaged"):
        cells(packed(parts(f'{texts(1, "name")}<row r="2">{cell}</row>')))


def test_settings_and_rows_of_extensions_count_for_nothing() -> None:
    setting = f"<extLst><ext><workbookPr date1904='1'/></ext></extLst><o:workbookPr {OTHER} date1904='1'/>"
    day = '<row r="2"><c s="0"><v>46085</v></c></row>'
    made = parts(texts(1, "name") + day, book_more=setting, styles=with_format("yyyy-mm-dd"))
    made[SHEET] = made[SHEET].replace(
        "</sheetData>", f"</sheetData><extLst>{day}</extLst><o:a {OTHER}>{day}<o:row/></o:a>"
    )
    assert cells(packed(made)) == [["name"], ["2026-03-04"]]


def test_what_excel_writes_for_its_later_versions_is_passed_over() -> None:
    later = (
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" mc:Ignorable="x15 x14ac xr" '
        'xmlns:x15="http://schemas.microsoft.com/office/spreadsheetml/2010/11/main" '
        'xmlns:x14ac="http://schemas.microsoft.com/office/spreadsheetml/2009/9/ac" '
        'xmlns:xr="http://schemas.microsoft.com/office/spreadsheetml/2014/revision" xr:uid="{0}"'
    )
    path = '<mc:AlternateContent><mc:Choice Requires="x15"><x15ac:absPath xmlns:x15ac="urn:ac" url="C:"/></mc:Choice></mc:AlternateContent>'
    made = parts('<row r="1" spans="1:1" x14ac:dyDescent="0.25"><c r="A1" t="s"><v>0</v></c></row>', book_more=path)
    made[STRINGS] = f'<sst xmlns="{MAIN}" count="1" uniqueCount="1"><si><t>name</t></si></sst>'
    made[SHEET] = made[SHEET].replace(
        "</sheetData>",
        '</sheetData><oleObjects><mc:AlternateContent><mc:Choice Requires="x14"><oleObject/></mc:Choice></mc:AlternateContent></oleObjects>',
    )
    made = {
        name: part.replace(f'xmlns="{MAIN}"', f'xmlns="{MAIN}" {later}', 1) if name in {BOOK, SHEET} else part
        for name, part in made.items()
    }
    assert cells(packed(made)) == [["name"]]


def test_a_sheet_is_found_by_the_relationship_and_not_by_what_is_called_alike() -> None:
    made = parts(texts(1, "name"))
    made[BOOK] = made[BOOK].replace('r:id="r1"', f"{OTHER} o:id='r2' r:id='r1'")
    assert cells(packed(made)) == [["name"]]


@pytest.mark.parametrize("prefix", ["", "x:"])
def test_strict_workbooks_and_those_with_prefixed_names_are_read(prefix: str) -> None:
    made = parts(texts(1, "name"))
    if prefix:
        tagged = texts(1, "name").replace("</", "</x:").replace("<", "<x:").replace("<x:/x:", "</x:")
        made[SHEET] = f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>{tagged}</x:sheetData></x:worksheet>'
    else:
        strict = "http://purl.oclc.org/ooxml"
        made = {
            name: part.replace(MAIN, f"{strict}/spreadsheetml/main").replace(
                "http://schemas.openxmlformats.org/officeDocument/2006", f"{strict}/officeDocument"
            )
            for name, part in made.items()
        }
    assert cells(packed(made)) == [["name"]]


@pytest.mark.parametrize(
    ("code", "serial", "text"),
    [
        ("dd/mm/yyyy", "46085", "2026-03-04"),
        ("[$-407]d. mmmm yyyy;@", "46085", "2026-03-04"),
        ("yyyy-mm-dd hh:mm", "46085.4375", "2026-03-04 10:30:00"),
        ("dd/mm/yyyy", "1e300", "1" + "0" * 300),
        ("0.00 &quot;days&quot;", "46085", "46085"),
        ("0.00\\ \\k\\W\\h", "46085", "46085"),
        ("0 &quot;% of all&quot;", "12", "12"),
        ("\\ " * 200 + "yyyy", "46085", "46085"),
    ],
)
def test_a_number_is_a_day_when_its_format_shows_one(code: str, serial: str, text: str) -> None:
    assert stored(serial, styles=with_format(code)) == text


def test_days_count_from_1904_where_the_workbook_says_so() -> None:
    def count_from_1904(made: Workbook) -> None:
        made.epoch = CALENDAR_MAC_1904
        made.active["D2"] = date(2026, 3, 4)

    assert cells(book([HEADER, TRIP], count_from_1904))[1][3] == "2026-03-04"


def test_days_of_an_east_asian_format_and_of_strict_workbooks_are_days() -> None:
    assert stored("46085", styles='<cellXfs><xf numFmtId="31"/></cellXfs>') == "2026-03-04"
    assert stored("2026-03-04T00:00:00.000", kind="d") == "2026-03-04"


def test_texts_are_whole_whatever_their_runs_and_without_their_pronunciation() -> None:
    strings = "<si><r><t>Ber</t></r><r><t xml:space='preserve'>lin </t></r><rPh><t>berurin</t></rPh></si>"
    assert stored("0", kind="s", strings=strings) == "Berlin "
    inline = f'<row r="1"><c t="inlineStr"><is>{strings.removeprefix("<si>").removesuffix("</si>")}</is></c></row>'
    assert cells(packed(parts(inline))) == [["Berlin "]]
    assert stored("a_x005F_x0041__x000A_b", kind="str") == "a_x0041_\nb"


@pytest.mark.parametrize(
    ("cell", "value", "column", "message"),
    [
        ("B2", "=600*2", "quantity", "the cell holds a formula"),
        ("B2", ArrayFormula("B2:B2", "=600*2"), "quantity", "the cell holds a formula"),
        ("B2", "#N/A", "quantity", "the cell holds the error '#N/A'"),
        ("B2", True, "quantity", "'TRUE' is no number"),
        ("B2", "1.200,5", "quantity", "'1.200,5' is no number"),
        ("B2", date(2026, 3, 4), "quantity", "'2026-03-04' is no number"),
        ("B2", -1, "quantity", "the quantity is negative"),
        ("B2", None, "quantity", "the cell is empty"),
        ("D2", datetime.fromisoformat("2026-03-04T10:30"), "date", "'2026-03-04 10:30:00' is no day"),
        ("D2", "46085", "date", "'46085' is no day"),
        ("E2", "\t=1", "evidence", "the cell begins like a formula"),
        ("E2", "x" * 2001, "evidence", "the text is too long"),
        ("G2", "note", "", "there is something in column G, which has no header"),
        ("A1", "=mode", "", "the cell holds a formula"),
    ],
)
def test_a_fault_is_told_with_sheet_row_column_and_cure(cell: str, value: object, column: str, message: str) -> None:
    def change(made: Workbook) -> None:
        made.active[cell] = value

    content = book([HEADER, TRIP], change)
    assert faults(content) == [("Rows", int(cell[1:]), column, message)]
    assert form(content).faults[0].cure


def test_a_percentage_is_refused_because_it_may_mean_two_numbers() -> None:
    def percentage(made: Workbook) -> None:
        made.active["B2"].number_format = "0.0%"

    assert faults(book([HEADER, TRIP], percentage)) == [
        ("Rows", 2, "quantity", "the number is formatted as a percentage")
    ]


def test_a_formula_is_refused_with_the_result_that_a_program_left_beside_it() -> None:
    sheet = f'{texts(1, *HEADER)}<row r="2"><c r="A2" t="str"><f>B1</f><v>air</v></c></row>'
    assert ("Rows", 2, "mode", "the cell holds a formula") in faults(packed(parts(sheet)))


def test_merged_cells_are_refused_by_name() -> None:
    content = book([HEADER, TRIP, ("", 3, "km", date(2026, 3, 5), "")], lambda made: made.active.merge_cells("A2:A3"))
    assert faults(content)[-1] == ("Rows", 0, "", "cells are merged ('A2:A3')")


def test_what_a_merged_range_is_called_is_told_printable() -> None:
    content = packed(parts(texts(1, *HEADER)) | {SHEET: f'<worksheet xmlns="{MAIN}"><sheetData>{texts(1, *HEADER)}</sheetData><mergeCells><mergeCell ref="A1\u202e"/></mergeCells></worksheet>'})  # fmt: skip
    assert faults(content)[-1] == ("Rows", 0, "", "cells are merged ('A1?')")


def test_of_many_merged_cells_some_are_named() -> None:
    def merge(made: Workbook) -> None:
        for row in range(10, 100, 2):
            made.active.merge_cells(f"A{row}:A{row + 1}")

    [(_, _, _, message)] = faults(book([HEADER, TRIP], merge))
    assert message.startswith("cells are merged ('A")
    assert message.count(":") == 5


def test_numbers_and_days_that_are_texts_are_read_as_in_csv() -> None:
    assert form(book([HEADER, ("air", "1200.5", "km", "2026-03-04", 4711)])).is_accepted


def test_control_characters_of_a_text_are_found() -> None:
    row = '<row r="2"><c t="inlineStr"><is><t>air_x0007_</t></is></c><c><v>1</v></c></row>'
    assert ("Rows", 2, "mode", "'air?' is not known") in faults(packed(parts(texts(1, *HEADER) + row)))


def sheets(made: Workbook, **states: str) -> None:
    """Further sheets, of a name and a state."""
    for name, state in states.items():
        made.create_sheet(name).sheet_state = state


def test_the_sheet_named_after_the_kind_counts_among_several() -> None:
    def several(made: Workbook) -> None:
        sheets(made, Notes="visible")
        made.active.title = " Travel"

    content = book([HEADER, TRIP], several)
    assert form(content).is_accepted
    [(sheet, row, _, message)] = faults(content, "fuel")
    assert (sheet, row) == ("", 0)
    assert message == "2 sheets are visible, and not exactly one of them is named fuel"


def test_hidden_sheets_and_charts_never_count() -> None:
    def hidden(made: Workbook) -> None:
        sheets(made, travel="hidden", other="veryHidden")
        made.create_chartsheet("Chart").add_chart(BarChart())

    assert form(book([HEADER, TRIP], hidden)).is_accepted

    def all_hidden(made: Workbook) -> None:
        made.create_chartsheet("Chart").add_chart(BarChart())
        made.active.sheet_state = "hidden"

    assert faults(book([HEADER, TRIP], all_hidden)) == [("", 0, "", "the workbook has no visible worksheet")]


def test_rows_without_a_value_are_passed_over_and_rows_keep_their_number() -> None:
    content = book([(*HEADER, None, " "), (None, "  "), TRIP, (), ("boat", 1, "km", date(2026, 3, 4))])
    assert faults(content) == [("Rows", 5, "mode", "'boat' is not known")]
    assert form(content).row_count == 2


def test_rows_that_are_formatted_alone_do_not_count_to_the_last_row_of_the_grid() -> None:
    formatted = "".join(f'<row r="{n}" s="1"><c r="A{n}" s="0"/></row>' for n in [*range(3, 20_000), 1_048_576])
    sheet = texts(1, *HEADER) + texts(2, "air", "1", "km", "2026-03-04") + formatted
    found = form(packed(parts(sheet)))
    assert (found.faults, found.row_count) == ((), 1)


@pytest.mark.parametrize(
    ("rows", "row", "message"),
    [
        ([], 0, "the sheet is empty"),
        ([(), HEADER, TRIP], 1, "row 1 is empty"),
        ([HEADER], 0, "there is no row below the header"),
        ([("mode", None, "quantity", "unit", "date"), TRIP], 1, "column 2 has no name"),
        ([[f"c{n}" for n in range(51)], TRIP], 1, "there are more than 50 columns"),
    ],
)
def test_a_sheet_that_is_no_table_is_refused(rows: list[list[object]], row: int, message: str) -> None:
    assert faults(book(rows)) == [("Rows", row, "", message)]


def test_faults_and_rows_are_bounded_as_in_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_files, "MAXIMUM_ROWS", 300)
    found = form(book([HEADER, *[("boat", 1, "km", date(2026, 3, 4))] * 300]))
    assert (found.row_count, len(found.faults), found.more_faults) == (300, MAXIMUM_FAULTS, 200)
    assert faults(book([HEADER, *[TRIP] * 301])) == [("Rows", 302, "", "there are more than 300 rows")]


def test_what_a_cell_that_is_wrong_holds_is_told_short_and_printable() -> None:
    assert stored("#" * 1000 + "\u202e", kind="e") == Misread(
        f"the cell holds the error '{'#' * 37}...'", "write the value itself, or clear the cell"
    )
