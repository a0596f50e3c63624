"""One value everywhere: facts, Inline XBRL, xBRL-XML, PDF and their attachments, and the same bytes twice."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
from decimal import Decimal
from pathlib import Path

import pikepdf
import pypdfium2
import pytest
from lxml import etree
from openpyxl import load_workbook

from offgridflow_pipeline.reporting.display import text_of, with_unit
from offgridflow_pipeline.reporting.fact import Fact, fact_set
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.pdf.document import build_pdf
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.workbook.document import build_workbook
from offgridflow_pipeline.reporting.xbrl.instance import build_xbrl
from offgridflow_pipeline.reporting.xbrl.ixbrl import build_ixbrl
from offgridflow_pipeline.reporting.xbrl.markup import NS
from offgridflow_pipeline.reporting.xbrl.profile import own_profile
from offgridflow_pipeline.reporting.xbrl.tagging import tagging
from offgridflow_pipeline.reporting.xbrl.validation import validate
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, line, money_line
from offgridflow_pipeline_tests.reporting.conftest import inventory_of


@pytest.fixture(scope="module")
def pdf(facts, profile, ixbrl, tmp_path_factory) -> Path:
    return build_pdf(facts, profile, [ixbrl], tmp_path_factory.mktemp("pdf") / "report.pdf")


def pdf_text(path: Path) -> str:
    document = pypdfium2.PdfDocument(path)
    pages = [document[n].get_textpage().get_text_bounded() for n in range(len(document))]
    return "\n".join(pages).replace("\r\n", "\n")


def numbers(facts) -> dict[str, Fact]:
    return {f.fact_id: f for f in fact_set(facts) if f.value_type == "number" and f.value is not None}


def test_inline_figures_are_the_facts(facts, ixbrl):
    expected = {key: fact.number for key, fact in numbers(facts).items()}
    root = etree.parse(str(ixbrl)).getroot()
    found = {}
    for node in root.iter(f"{{{NS['ix']}}}nonFraction"):
        value = Decimal(node.text.replace(",", "")).scaleb(int(node.get("scale", "0")))
        found[node.get("id")] = -value if node.get("sign") == "-" else value
    assert len(found) > 50
    assert all(expected[key] == value for key, value in found.items())


def test_xml_figures_are_the_facts(facts, xbrl):
    expected = numbers(facts)
    found = {node.get("id"): node for node in etree.parse(str(xbrl)).getroot() if node.get("unitRef")}
    tagged = {key for key, tag in tagging(fact_set(facts), own_profile()).tags.items() if tag.unit}
    assert found.keys() == tagged
    assert all(node.text == expected[key].value for key, node in found.items())
    assert all(int(node.get("decimals")) == expected[key].decimals for key, node in found.items())


def test_the_index_of_the_pdf_gives_each_figure_its_id_and_value(facts, pdf):
    text = pdf_text(pdf)
    index = text[text.index("Fact index") :]
    expected = numbers(facts)
    ids = re.findall(r"f-[0-9a-f]{16}", index)
    assert len(ids) > 150
    assert set(ids) <= expected.keys()
    body = text[: text.index("Fact index")]
    for key in ids:
        assert text_of(expected[key]) in body, expected[key]
        assert with_unit(expected[key]).replace("\N{NO-BREAK SPACE}", " ") in index.replace("\N{NO-BREAK SPACE}", " ")


def test_every_headline_figure_is_in_the_pdf_index(facts, pdf):
    stated, text = fact_set(facts), pdf_text(pdf)
    for name in (
        "total_location",
        "total_market",
        "scope3_location",
        "electricity",
        "coverage_lines",
        "data_quality_mean",
    ):
        assert stated.one(name).fact_id in text, name


def test_the_csv_inside_the_pdf_has_every_fact(facts, pdf):
    with pikepdf.Pdf.open(pdf) as document:
        content = document.attachments["report-facts.csv"].get_file().read_bytes()
    rows = {row["fact_id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}
    for row in facts.to_pylist():
        assert rows[row["fact_id"]]["value"] == (row["value"] or "").replace("\r\n", "\n")


def test_the_workbook_names_the_digest_of_the_csv_inside_the_pdf(facts, pdf, tmp_path):
    workbook = build_workbook(facts, [], tmp_path / "report.xlsx")
    about = {row[0].value: row[1].value for row in load_workbook(workbook)["About"].iter_rows()}
    with pikepdf.Pdf.open(pdf) as document:
        content = document.attachments["report-facts.csv"].get_file().read_bytes()
    assert about["SHA-256 of the facts"].startswith(hashlib.sha256(content).hexdigest())


def test_the_pdf_holds_the_inline_report_unchanged(pdf, ixbrl):
    with pikepdf.Pdf.open(pdf) as document:
        assert document.attachments["report.xhtml"].get_file().read_bytes() == ixbrl.read_bytes()


def test_the_pdf_has_the_structure_of_an_archive_document(pdf):
    with pikepdf.Pdf.open(pdf) as document:
        root = document.Root
        (intent,) = root.OutputIntents
        assert (str(intent.S), int(intent.DestOutputProfile.N)) == ("/GTS_PDFA1", 3)
        metadata = document.open_metadata()
        assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("3", "B")
        assert metadata["dc:title"] == str(document.docinfo["/Title"])
        assert [str(item.AFRelationship) for item in root.AF] == ["/Data", "/Data"]
        assert str(root.Lang) == "en-GB"
        assert not document.is_encrypted
        for page in document.pages:
            for font in page.Resources.get("/Font", {}).values():
                descriptor = font.get("/FontDescriptor") or font.DescendantFonts[0].FontDescriptor
                assert "/FontFile2" in descriptor, font
            for annotation in page.get("/Annots", []):
                assert "/URI" not in annotation.get("/A", {})


def test_the_sections_are_bookmarks(pdf):
    titles = [item.get_title() for item in pypdfium2.PdfDocument(pdf).get_toc()]
    assert titles[0] == "Statement"
    assert titles[-1] == "Fact index"


@pytest.mark.parametrize(("status", "shown"), [("provisional", True), ("superseded", True), ("final", False)])
def test_the_status_stands_behind_every_page_unless_final(status, shown, inventories, tmp_path):
    profile = ReportProfile("acme", "Acme", status=status)
    path = build_pdf(report_facts(inventories[0], profile), profile, [], tmp_path / "r.pdf")
    document = pypdfium2.PdfDocument(path)
    for number in range(1, len(document)):
        marked = status.upper() in document[number].get_textpage().get_text_bounded()
        assert marked == shown, number


def test_two_builds_at_different_times_are_byte_identical(facts, profile, ixbrl, xbrl, pdf, tmp_path):
    time.sleep(1.1)  # a stamped second would differ
    folder = tmp_path / "again"
    assert build_ixbrl(facts, profile, folder / "report.xhtml").read_bytes() == ixbrl.read_bytes()
    assert build_xbrl(facts, profile, folder / "report.xbrl").read_bytes() == xbrl.read_bytes()
    assert build_pdf(facts, profile, [ixbrl], folder / "report.pdf").read_bytes() == pdf.read_bytes()


def test_a_failed_build_leaves_the_old_file_and_nothing_else(facts, profile, tmp_path):
    out = tmp_path / "report.pdf"
    out.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        build_pdf(facts, profile, [tmp_path / "missing.xhtml"], out)
    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]
    assert out.read_bytes() == b"old"


PAYLOADS = [
    '<img src="/etc/passwd"/>',
    '<a href="javascript:alert(1)">x</a>',
    "]]> <!-- & &amp; %s {0} $method",
    "<para><b>unclosed",
    "bell\x07 null\x00 escape\x1b[31m",
    "right\u202eto-left \u200fmark",
    "日本 emoji 🚀 Ωж",
    "=HYPERLINK(1)",
    "a" * 300,
]


def hostile_ledger() -> Ledger:
    rows = [
        line(n, ServiceName=text, SubAccountId=text, RegionId=text, co2e_lbm_kg=Decimal(5000 + n))
        for n, text in enumerate(PAYLOADS)
    ]
    return Ledger([*rows, money_line(99, "3", reason=PAYLOADS[0])])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_builds_and_stays_text(payload, tmp_path):
    profile = ReportProfile("acme", payload, run_id=payload, factor_set_name=payload)
    facts = report_facts(inventory_of(hostile_ledger()), profile)
    page = build_ixbrl(facts, profile, tmp_path / "r.xhtml")
    instance = build_xbrl(facts, profile, tmp_path / "r.xbrl")
    document = build_pdf(facts, profile, [page], tmp_path / "r.pdf")
    for path in (page, instance):
        root = etree.parse(str(path)).getroot()
        assert not [node for node in root.iter() if str(node.tag).endswith(("}img", "}a", "}script"))]
    text = pdf_text(document)
    assert "root:x:0:0" not in text
    readable = re.sub(r"[^ -~]", "", payload)[:20]
    assert readable in re.sub(r"[^ -~]", "", text)
    with pikepdf.Pdf.open(document) as opened:
        assert not [a for p in opened.pages for a in p.get("/Annots", [])]


def test_a_hostile_report_is_still_valid(tmp_path):
    profile = ReportProfile("acme", " ".join(PAYLOADS))
    facts = report_facts(inventory_of(hostile_ledger()), profile)
    for path in (
        build_ixbrl(facts, profile, tmp_path / "r.xhtml"),
        build_xbrl(facts, profile, tmp_path / "r.xbrl"),
    ):
        result = validate(path)
        assert result.valid, result.messages


def test_an_empty_month_renders_everywhere_with_reasons(tmp_path):
    profile = ReportProfile("acme", "Acme")
    facts = report_facts(inventory_of(Ledger()), profile)
    page = build_ixbrl(facts, profile, tmp_path / "r.xhtml")
    assert validate(page).valid
    assert validate(build_xbrl(facts, profile, tmp_path / "r.xbrl")).valid
    text = pdf_text(build_pdf(facts, profile, [page], tmp_path / "r.pdf"))
    assert "not available – No billed usage with a model in this month" in text
