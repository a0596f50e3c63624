"""The workbook: each cell is its fact to the digit, no text is a formula, the same facts are the same bytes."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import zipfile
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.workbook.cells import CELL_LIMIT, FORMULA_STARTS, is_markup, safe_text
from offgridflow_pipeline.reporting.workbook.document import HEAD_ROW, build_workbook
from offgridflow_pipeline.reporting.workbook.reading import differences
from offgridflow_pipeline.reporting.workbook.sheets import FACTORS_LISTED, disclosures
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, line
from offgridflow_pipeline_tests.reporting.conftest import factor, inventory_of
from offgridflow_pipeline_tests.reporting.test_agreement import PAYLOADS

PROFILE = ReportProfile("acme", "Acme", run_id="run-1", factor_set_name="ofg-2026.11")


def cells(path: Path, sheet: str) -> list[list[Any]]:
    """Values of the rows below the head and the head itself, as a reader sees them."""
    with closing(load_workbook(path, data_only=True)) as book:
        return [list(row) for row in book[sheet].iter_rows(min_row=HEAD_ROW + 1, values_only=True)]


def records(path: Path, sheet: str = "Facts") -> list[dict[str, Any]]:
    head, *rows = cells(path, sheet)
    filled = takewhile(lambda row: row[0] is not None, rows)  # reasons stand below an empty row
    return [dict(zip(head, row, strict=True)) for row in filled]


def texts(path: Path) -> list[str]:
    """Every text in every sheet."""
    with closing(load_workbook(path)) as book:
        return [c.value for s in book for row in s.iter_rows() for c in row if c.data_type == "s"]


def changed(facts: pa.Table, metric: str, **values: Any) -> pa.Table:
    """The facts with other values in the rows of a metric."""
    rows = [row | (values if row["metric"] == metric else {}) for row in facts.to_pylist()]
    return pa.Table.from_pylist(rows, schema=facts.schema)


def test_every_fact_stands_once_with_its_value_as_a_number_unit_and_id(facts, workbook):
    stated = fact_set(facts)
    rows = {row["Fact"]: row for row in records(workbook)}
    assert list(rows) == [fact.fact_id for fact in stated]
    for fact in stated:
        row = rows[fact.fact_id]
        if fact.value is None:
            assert (row["Value"], row["Not available because"]) == (None, fact.reason)
        elif fact.value_type == "number":
            assert Decimal(repr(row["Value"])) == fact.number, fact
            assert (row["Decimals"], row["Exact"]) == (fact.decimals, fact.exact)
        elif fact.value_type == "date":
            assert row["Value"] == datetime.fromisoformat(fact.value)
        else:
            assert row["Value"] == fact.value


def test_figures_on_other_sheets_are_references_to_facts_by_name_with_their_values(facts, workbook):
    named = {fact.fact_id.replace("-", "_"): fact for fact in fact_set(facts)}
    seen: dict[str, set[str]] = {}
    with closing(load_workbook(workbook)) as book, closing(load_workbook(workbook, data_only=True)) as shown:
        for name, fact in named.items():
            sheet, place = book.defined_names[name].attr_text.split("!")
            row = shown[sheet][place.replace("$", "")].row
            assert shown[sheet].cell(row, 1).value == fact.fact_id
        for sheet in book.worksheets:
            for cell in (cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"):
                fact = named[cell.value.removeprefix("=")]
                assert Decimal(repr(shown[sheet.title][cell.coordinate].value)) == fact.number
                seen.setdefault(sheet.title, set()).add(fact.metric)
    assert {"total_location", "total_market", "scope3_location", "scope3_market"} <= seen["Statement"]
    assert seen["Days"] == {"scope3_location"}
    for sheet in ("Providers", "Months", "Services", "Accounts", "Regions"):
        assert {"scope3_location", "electricity"} <= seen[sheet], sheet
    assert {"billed_cost", "billed_lines"} == seen["Bill"]
    assert "ledger_cost" in seen["Reconciliation"]


def test_the_days_of_a_month_are_dates_and_add_up_to_the_total(facts, workbook):
    _, *rows = cells(workbook, "Days")
    days = [row for row in rows if isinstance(row[0], datetime)]
    assert [row[0].date() for row in days] == [date(2026, 10, day) for day in range(1, 32)]
    rest = [row for row in rows if row[0] == "Rounding difference"]
    total = sum(Decimal(repr(row[1])) for row in [*days, *rest])
    assert total == fact_set(facts).one("scope3_location").number


def test_shares_are_percentages_and_decimals_are_those_of_the_fact(workbook):
    with closing(load_workbook(workbook)) as book:
        formats = {row[0].value: row[1].number_format for row in book["Quality"].iter_rows(min_row=HEAD_ROW + 2)}
        assert formats["Coverage by lines"] == "0.00%"
        assert formats["Data-quality mean"] == "#,##0.00"
        total = next(r for r in book["Statement"].iter_rows() if r[0].value == "Total of this statement")
        assert total[1].number_format == "#,##0.000"


def test_a_reader_keeps_the_head_in_sight_on_screen_and_paper(workbook):
    with closing(load_workbook(workbook)) as book:
        assert book.sheetnames[0] == "About"
        for sheet in book:
            assert sheet.freeze_panes == f"B{HEAD_ROW + 2}"
            assert sheet.print_title_rows == f"${HEAD_ROW + 1}:${HEAD_ROW + 1}"
            assert sheet.page_setup.orientation == "landscape"
            assert "provisional" in sheet.oddFooter.center.text
            assert sheet["A2"].value == "Acme Robotics GmbH, October 2026, provisional"


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("P&G Cloud GmbH", "P＆G Cloud GmbH"),
        ("A&[Picture]&8B", "A＆[Picture]＆8B"),
        ("A\tB\r\nC\x01", "A B C"),
        ("🚀" * 90, "🚀" * 80),
    ],
)
def test_every_sheet_prints_the_name_of_the_entity_whatever_is_in_it(name, printed, facts, tmp_path):
    path = build_workbook(changed(facts, "entity_name", value=name), [], tmp_path / "r.xlsx")
    with closing(load_workbook(path)) as book:
        assert {sheet.oddFooter.left.text for sheet in book} == {printed}
        assert {sheet.oddFooter.right.text for sheet in book} == {"Page &P of &N"}


def test_what_the_library_would_leave_out_with_a_warning_stops_the_build(facts, tmp_path):
    long = changed(facts, "status", value="s" * 300)
    with pytest.raises(UserWarning, match="255"):
        build_workbook(long, [], tmp_path / "r.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_total_that_is_not_its_exact_rounded_is_explained_where_it_stands(facts, workbook):
    totals = [fact for fact in fact_set(facts) if fact.metric == "total_market"]
    assert any(round(Decimal(fact.exact), fact.decimals) != fact.number for fact in totals)
    meanings = {row["Term"]: row["Meaning"] for row in records(workbook, "Dictionary")}
    about = {row[0]: row[1] for row in cells(workbook, "About")}
    for text in (meanings["Exact"], meanings["exact_value"], about["Rounding"]):
        assert "otals add" in text


def test_the_anchor_is_left_out_of_the_first_sheet_where_facts_of_an_earlier_release_do_not_state_it(facts, tmp_path):
    rows = [row for row in facts.to_pylist() if not row["metric"].startswith("audit_anchor")]
    older = pa.Table.from_pylist(rows, schema=facts.schema)
    path = build_workbook(older, [], tmp_path / "r.xlsx")
    assert "Anchor of the audit log" not in [row[0] for row in cells(path, "About")]
    assert differences(path, older, []) == []


def test_the_first_sheet_says_whose_report_it_is_and_what_it_was_made_with(facts, workbook):
    stated = fact_set(facts)
    about = {row[0]: row[1] for row in cells(workbook, "About")}
    assert about["Reporting entity"] == "Acme Robotics GmbH"
    assert about["Tenant"] == "acme"
    assert about["Factor set hash"] == stated.one("factor_set_sha").value
    assert re.match("[0-9a-f]{64} ", about["SHA-256 of the facts"])
    with closing(load_workbook(workbook)) as book:
        assert {"Facts", "Factors", "Dictionary", "Reconciliation"} <= about.keys() & set(book.sheetnames)


def test_words_are_set_left_and_marks_in_place_of_figures_right(workbook):
    with closing(load_workbook(workbook)) as book:
        words = [row[1] for row in book["About"].iter_rows(min_row=HEAD_ROW + 1) if isinstance(row[1].value, str)]
        marks = [cell for row in book["Statement"].iter_rows() for cell in row if str(cell.value).startswith("n/a [")]
        assert {cell.alignment.horizontal for cell in words} <= {None, "left"}
        assert {cell.alignment.horizontal for cell in marks} == {"right"}


def test_a_factor_stands_with_value_source_licence_and_share(facts, cited, workbook):
    first, second = records(workbook, "Factors")
    assert (first["Value"], first["Publisher"], first["Licence"]) == (0.385, "EPA", "public domain")
    share = next(
        f for f in fact_set(facts) if f.metric == "factor_share" and f.dims["factor"] == cited[0]["factor_uid"]
    )
    assert Decimal(repr(first["Share"])) == share.number
    assert (second["Value"], second["Share"]) == ("not reprinted (terms), or none published", None)


def test_a_long_list_of_factors_ends_with_a_pointer_to_the_data_pack(facts, profile, tmp_path):
    cited = [factor(number) for number in range(FACTORS_LISTED + 7)]
    path = build_workbook(facts, cited, tmp_path / "r.xlsx")
    rows = records(path, "Factors")
    assert len(rows) == FACTORS_LISTED + 1
    assert rows[-1]["Factor"] == f"7 more: factors.csv in the data pack lists all {FACTORS_LISTED + 7}."


def test_disclosures_name_item_and_fact_and_say_which_numbers_are_not_checked(facts, workbook):
    rows = records(workbook, "Disclosures")
    assert len(rows) == len(disclosures())
    ours = next(row for row in rows if (row["Framework"], row["Item"]) == ("IFRS S2", "29(a)(i)(3)"))
    assert Decimal(repr(ours["Fact"])) == fact_set(facts).one("scope3_location").number
    assert {row["Framework"] for row in rows if row["Item by"].startswith("recalled")} == {"CDP"}
    gross = [Decimal(repr(row["Fact"])) for row in rows if row["Asked for"].startswith("Gross Scope 3, for the ")]
    assert gross == [fact_set(facts).one(name).number for name in ("scope3_location", "scope3_market")]
    with closing(load_workbook(workbook)) as book:
        assert "a disclosure asks for the reporting year: add its months" in book["Disclosures"]["A3"].value


def test_every_disclosure_asks_for_a_fact_that_reports_have(facts):
    stated = fact_set(facts)
    for row in disclosures():
        assert stated.get(row["metric"], dict(part.split("=") for part in row["dims"].split())), row


def test_a_value_with_more_digits_than_a_double_stands_beside_as_text(facts, profile, tmp_path):
    long = changed(facts, "total_location", value="12345678901234.567")
    path = build_workbook(long, [], tmp_path / "r.xlsx")
    rows = [row for row in records(path) if row["Metric"] == "total_location"]
    assert {row["All digits"] for row in rows} == {"12345678901234.567"}
    assert {row["All digits"] for row in records(path) if row["Metric"] != "total_location"} == {None}
    assert differences(path, long, []) == []


def test_negative_figures_are_numbers_and_carry_no_apostrophe(facts, profile, tmp_path):
    refund = changed(facts, "billed_cost", value="-12.50", exact_value="-12.499")
    path = build_workbook(refund, [], tmp_path / "r.xlsx")
    rows = [row for row in records(path) if row["Metric"] == "billed_cost"]
    assert {(row["Value"], row["Exact"]) for row in rows} == {(-12.5, "-12.499")}
    assert differences(path, refund, []) == []


@given(st.text() | st.builds(lambda start, rest: start + rest, st.sampled_from(FORMULA_STARTS), st.text()))
def test_no_text_begins_a_formula(text):
    assert not safe_text(text).startswith(FORMULA_STARTS)


@given(st.text())
def test_no_text_is_markup_of_the_file(text):
    assert not is_markup(safe_text(f"<r>{text}</r>"))


MARKUP = (
    "<r><t>Amazon EC2</t></r>",  # another label
    "<r><b></r>",  # no well-formed part
    "<r><t>x</t></r></si><si><r><t>y</t></r>",  # moves all texts after it
    f"<r>{'x' * CELL_LIMIT}</r>",
)


@pytest.mark.parametrize("payload", MARKUP, ids=["label", "broken", "shift", "long"])
def test_a_text_in_the_markup_of_the_file_stays_a_text(payload, tmp_path):
    facts = report_facts(inventory_of(Ledger([line(1, ServiceName=payload)])), PROFILE)
    cited = [factor(1, title=payload)]
    path = build_workbook(facts, cited, tmp_path / "r.xlsx")
    assert differences(path, facts, cited) == []
    written = texts(path)
    assert safe_text(payload) in written
    assert [text for text in written if text.startswith("<r>")] == []


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "＝1", "_x005F_", '&L&"x"', "a\n=b")


def test_hostile_texts_stay_texts(tmp_path):
    pairs = zip(PAYLOADS, FORMULAS, strict=True)  # ten members of each list are shown
    ledger = Ledger([line(n, ServiceName=one, SubAccountId=other) for n, (one, other) in enumerate(pairs)])
    name = FORMULAS[0] + " ".join([*FORMULAS, *PAYLOADS])
    profile = ReportProfile("acme", name, run_id=FORMULAS[1], factor_set_name=FORMULAS[2])
    facts = report_facts(inventory_of(ledger), profile)
    cited = [factor(n, title=text, attribution=text) for n, text in enumerate(FORMULAS)]
    path = build_workbook(facts, cited, tmp_path / "r.xlsx")
    assert differences(path, facts, cited) == []
    written = texts(path)
    assert {"'=HYPERLINK(1)", "'=cmd|' /C calc'!A0", "'+1+1", "'-2+3", "'@SUM(1)", "'\t=1", "'＝1"} <= set(written)
    assert [t for t in written if t.startswith(FORMULA_STARTS) and not re.fullmatch(r"-?\d+(\.\d+)?", t)] == []
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if "external" in name.lower() or "vba" in name.lower()]
        assert not [name for name in archive.namelist() if b'Target="http' in archive.read(name)]


def test_a_text_longer_than_a_cell_is_cut_and_says_where_the_whole_is(facts, profile, tmp_path):
    long = changed(facts, "text_methodology", value="🚀" * CELL_LIMIT)
    path = build_workbook(long, [], tmp_path / "r.xlsx")
    (row,) = [row for row in records(path) if row["Metric"] == "text_methodology"]
    assert len(row["Value"].encode("utf-16-le")) // 2 <= CELL_LIMIT
    assert row["Value"].endswith("the data pack has the whole text]")
    assert differences(path, long, []) == []


def test_an_empty_month_has_every_sheet_and_says_why_nothing_is_there(tmp_path):
    facts = report_facts(inventory_of(Ledger()), PROFILE)
    path = build_workbook(facts, [], tmp_path / "r.xlsx")
    assert differences(path, facts, []) == []
    rows = cells(path, "Statement")
    assert ["Total of this statement", "n/a [2]", "n/a [2]"] in rows
    assert any(row[0] == "[2] No billed usage with a model in this month" for row in rows)


def test_two_builds_are_byte_identical_and_no_time_of_building_is_in_the_file(
    facts, cited, profile, workbook, tmp_path
):
    again = build_workbook(facts, cited, tmp_path / "again.xlsx")
    assert again.read_bytes() == workbook.read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert set(re.findall(r"\d{4}-\d\d-\d\dT", archive.read("docProps/core.xml").decode())) == {"1980-01-01T"}


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_a_spreadsheet_program_opens_it_and_shows_the_total(facts, workbook, tmp_path):
    second_sheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,2"
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    command = ["soffice", "--headless", profile, "--convert-to", second_sheet, "--outdir", str(tmp_path)]
    subprocess.run([*command, str(workbook)], check=True, capture_output=True, timeout=120)
    (sheet,) = tmp_path.glob("*.csv")
    stated = fact_set(facts)
    both = [f"{stated.one(name).number:,.3f}" for name in ("total_location", "total_market")]
    assert ["Total of this statement", *both] in list(csv.reader(sheet.read_text("utf-8").splitlines()))
