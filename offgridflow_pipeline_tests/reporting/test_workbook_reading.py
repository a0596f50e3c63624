"""The workbook read back: whatever a cell says that facts and factors do not is found, with its place."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from openpyxl import load_workbook

from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.workbook.reading import differences

Tamper = Callable[[str], str]


def tampered(source: Path, part: str, change: Tamper, out: Path) -> Path:
    """The workbook with one part of it changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == part:
                text = change(content.decode())
                assert text != content.decode()
                content = text.encode()
            new.writestr(entry, content)
    return out


def sheet_file(path: Path, name: str) -> str:
    with closing(load_workbook(path)) as book:
        return f"xl/worksheets/sheet{book.sheetnames.index(name) + 1}.xml"


@pytest.mark.parametrize(
    ("sheet", "pattern", "replacement", "finding"),
    [
        ("Statement", r"(<f>f_\w+</f><v>)[\d.]+", r"\g<1>1.5", "Statement B.*: shows 1.5, f-"),
        ("Statement", r"<f>f_\w+</f>", "<f>1+1</f>", "'=1\\+1' is no reference to f-"),
        ("Statement", r"<f>f_\w+</f>", "", r"Statement B\d+: [\d.]+ is no reference to f-"),
        ("Quality", r'<c r="C6".*?</c>', "", "Quality C6: shows None, what belongs there is %"),
        ("Facts", r'<c r="C(?!5")\d+"[^/>]*>.*?</c>', "", r"Facts C\d+: shows None, what belongs there is \w"),
        ("Facts", r'<c r="M20".*?</c>', "", "Facts row 20: Dimensions of f-"),
        ("Facts", r'<c r="N(?!5")\d+"[^/>]*>.*?</c>', "", "Facts row .*: Computed from of f-"),
        ("Facts", "</sheetData>", '<row r="9999"><c r="D9999"><v>7</v></c></row></sheetData>', "Facts D9999: shows 7"),
        ("Factors", r"<v>0.385</v>", "<v>0.386</v>", "Factors B6: shows 0.386, what belongs there is 0.385"),
        ("Facts", r'(<c r="D\d+"[^>]*>)<v>(\d+\.\d+)</v>', r"\g<1><v>\g<2>1</v>", "Facts row .*: Value of f-"),
        ("Facts", r'<c r="A9".*?</c>', "", "is no fact of the report"),
    ],
)  # fmt: skip
def test_a_changed_cell_is_found_with_its_place(sheet, pattern, replacement, finding, facts, cited, workbook, tmp_path):
    def change(text: str) -> str:
        return re.sub(pattern, replacement, text, count=1)

    path = tampered(workbook, sheet_file(workbook, sheet), change, tmp_path / "t.xlsx")
    assert re.search(finding, "\n".join(differences(path, facts, cited)))


def test_a_name_that_points_beside_its_value_is_found(facts, cited, workbook, tmp_path):
    path = tampered(
        workbook, "xl/workbook.xml", lambda text: re.sub(r"Facts!\$D\$7<", "Facts!$D$8<", text), tmp_path / "t.xlsx"
    )
    (found,) = differences(path, facts, cited)
    assert "is Facts!$D$8, its value is in Facts!$D$7" in found


def test_a_reference_to_another_fact_is_found_though_it_shows_that_fact_truly(facts, cited, workbook, tmp_path):
    stated = fact_set(facts)
    location, market = (stated.one(name) for name in ("total_location", "total_market"))
    names = [fact.fact_id.replace("-", "_") for fact in (market, location)]

    def change(text: str) -> str:
        return re.sub(f"<f>{names[0]}</f><v>[^<]*", f"<f>{names[1]}</f><v>{location.number}", text)

    path = tampered(workbook, sheet_file(workbook, "Statement"), change, tmp_path / "t.xlsx")
    assert f"'={names[1]}' is no reference to {market.fact_id}." in "\n".join(differences(path, facts, cited))


@pytest.mark.parametrize(
    ("part", "pattern", "replacement", "finding"),
    [
        ("sharedStrings", "Total of this statement", "Scope 1 total", "Statement A.*: shows 'Scope 1 total'"),
        ("sharedStrings", ">[0-9a-f]{64} [(]the facts", f">{'0' * 64} (the facts", "About B.*: shows '0000"),
        ("styles", 'formatCode="[^"]*"', 'formatCode="0"', "Facts D.*: is shown as 0, not as #,##0.000"),
    ],
)
def test_a_changed_label_digest_or_number_format_is_found(
    part, pattern, replacement, finding, facts, cited, workbook, tmp_path
):
    path = tampered(workbook, f"xl/{part}.xml", lambda text: re.sub(pattern, replacement, text), tmp_path / "t.xlsx")
    assert re.search(finding, "\n".join(differences(path, facts, cited)))


@pytest.mark.parametrize(
    ("part", "pattern", "replacement"),
    [
        ("xl/sharedStrings.xml", "</t>", "</b>"),
        ("xl/worksheets/sheet2.xml", "</row>", "</b>"),
        ("xl/sharedStrings.xml", "<si>.*</si>", "<si/>"),
        ("xl/workbook.xml", "Statement", "Figures"),
    ],
    ids=["texts", "sheet", "no texts", "another sheet"],
)
def test_a_file_that_cannot_be_read_is_a_finding_and_no_crash(
    part, pattern, replacement, facts, cited, workbook, tmp_path
):
    path = tampered(workbook, part, lambda text: re.sub(pattern, replacement, text), tmp_path / "t.xlsx")
    (found,) = differences(path, facts, cited)
    assert re.search("cannot be read as a workbook: |The sheets are About, Figures,", found)


def test_a_text_that_became_a_formula_is_found(facts, cited, workbook, tmp_path):
    path = tampered(
        workbook, "xl/sharedStrings.xml", lambda text: text.replace(">Acme Robotics GmbH<", ">=1+1<"),
        tmp_path / "t.xlsx",
    )  # fmt: skip
    found = "\n".join(differences(path, facts, cited))
    assert "could be run as a formula" in found
    assert "Value of " in found


def test_facts_of_another_report_are_not_in_the_workbook(facts, inventories, profile, workbook):
    other = report_facts(inventories[1], profile)
    assert any("is no fact of the report" in found for found in differences(workbook, other, []))
    assert any("is missing" in found for found in differences(workbook, other, []))
