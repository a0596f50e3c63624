"""The anchor of the audit log in a report: part of its facts, the same in every artefact, and honest without one."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import pikepdf
import pyarrow as pa
import pyarrow.compute as pc
import pypdfium2
import pytest
from lxml import etree

from offgridflow_pipeline.factors.register import load_factor_set
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.reporting.datapack import build_datapack
from offgridflow_pipeline.reporting.fact import FactSet, fact_set
from offgridflow_pipeline.reporting.facts import report_facts, unchanged_since
from offgridflow_pipeline.reporting.pdf.document import build_pdf
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.trail import NO_ANCHOR, TRAIL_METRICS, TRAIL_TEXT
from offgridflow_pipeline.reporting.xbrl.ixbrl import build_ixbrl
from offgridflow_pipeline.reporting.xbrl.markup import NS
from offgridflow_pipeline_tests.inventory.ledgers import Ledger
from offgridflow_pipeline_tests.reporting.conftest import ANCHOR

STATED = {
    "Anchor made on": "2 November 2026",
    "Merkle root": ANCHOR.root,
    "Anchor id": ANCHOR.anchor_id,
    "Signing key": ANCHOR.key_id,
    "Covers audit events up to": "1,517",
    "Hash of that event": ANCHOR.event_hash,
}


@pytest.fixture(scope="module")
def unanchored(inventories: list[pa.Table], profile: ReportProfile) -> pa.Table:
    return report_facts(inventories[0], profile)


def _pdf_section(facts: pa.Table, profile: ReportProfile, folder: Path) -> str:
    """Text of the page on how to check the report; empty where there is none."""
    document = pypdfium2.PdfDocument(build_pdf(facts, profile, [], folder / "r.pdf"))
    pages = {item.get_title(): item.get_dest().get_index() for item in document.get_toc()}
    number = pages.get("How to check this report")
    return "" if number is None else document[number].get_textpage().get_text_bounded()


def _inline_rows(page: Path) -> dict[str, str]:
    """Row heads to cells of the anchor's table in the Inline XBRL."""
    names = {"x": NS["html"]}
    rows = etree.parse(str(page)).getroot().iterfind(".//x:table[@class='trail']//x:tr", names)
    return {row.findtext("x:th", namespaces=names): row.findtext("x:td", namespaces=names) for row in rows}


def _readme(facts: pa.Table, profile: ReportProfile, folder: Path) -> str:
    empty = Ledger()
    with Engine(256, 1) as engine:
        tables = {
            "emission_lines": engine.register("lines", empty.emission_lines()),
            "scope_totals": engine.register("totals", empty.scope_totals()),
        }
        pack = build_datapack(engine, facts, tables, load_factor_set(), profile, folder / "pack.zip")
    with zipfile.ZipFile(pack) as archive:
        return archive.read("README.txt").decode()


def test_pdf_inline_xbrl_and_data_pack_state_the_anchor_of_the_facts(facts, profile, ixbrl, tmp_path):
    printed = _pdf_section(facts, profile, tmp_path)
    for label, value in STATED.items():
        assert label in printed
        assert value in printed, label
    for option in ("offgridflow audit verify", "--root ROOT", "--event-hash HASH", "shared by all tenants"):
        assert option in printed.replace("\r\n", " "), option
    assert _inline_rows(ixbrl) == STATED
    (line,) = [text for text in _readme(facts, profile, tmp_path).splitlines() if text.startswith("audit anchor: ")]
    assert line == (
        f"audit anchor: 2026-11-02, root {ANCHOR.root}, id {ANCHOR.anchor_id}, signed by key s1, up to event 1517 "
        f"with hash {ANCHOR.event_hash}"
    )


def test_the_facts_in_the_pdf_hold_the_root_as_the_verifier_takes_it(facts, profile, tmp_path):
    with pikepdf.Pdf.open(build_pdf(facts, profile, [], tmp_path / "r.pdf")) as document:
        content = document.attachments["r-facts.csv"].get_file().read_bytes()
    values = {row["metric"]: row["value"] for row in csv.DictReader(io.StringIO(content.decode()))}
    assert [values[name] for name in TRAIL_METRICS[:2]] == [ANCHOR.anchor_date.isoformat(), ANCHOR.root]


def test_without_an_anchor_every_artefact_says_that_there_is_none(unanchored, profile, tmp_path):
    printed = _pdf_section(unanchored, profile, tmp_path).replace("\r\n", " ")
    assert f"not available – {NO_ANCHOR}." in printed
    assert ANCHOR.root not in printed
    assert "Signing key" not in printed
    assert _inline_rows(build_ixbrl(unanchored, profile, tmp_path / "r.xhtml")) == {"Anchor made on": "n/a [1]"}
    assert f"audit anchor: none: {NO_ANCHOR}\n" in _readme(unanchored, profile, tmp_path)


def test_a_newer_anchor_alone_makes_no_other_report_but_the_first_one_does(inventories, profile, unanchored):
    def built(anchor):
        return report_facts(inventories[0], replace(profile, run_id="run-2"), anchor=anchor)

    first = report_facts(inventories[0], profile, anchor=ANCHOR)
    newer = replace(ANCHOR, anchor_date=date(2026, 11, 3), root="d4" * 32, anchor_id="e5" * 32, event=1600)
    assert unchanged_since(first, built(newer))
    assert unchanged_since(unanchored, built(None))
    assert not unchanged_since(unanchored, built(ANCHOR))


def _of_a_release_that_knew_no_anchor(facts: pa.Table) -> pa.Table:
    older = FactSet([fact for fact in fact_set(facts) if fact.metric not in (*TRAIL_METRICS, TRAIL_TEXT)])
    table = older.table("acme")
    assert table.num_rows == facts.num_rows - len(TRAIL_METRICS) - 1
    return table


def test_facts_of_a_release_that_knew_no_anchor_stand_unless_something_else_changed(facts):
    stated = list(fact_set(facts))
    (place,) = (place for place, fact in enumerate(stated, 1) if fact.metric == TRAIL_TEXT)
    after = replace(stated[place - 1], metric="text_attributions", value="Contains public data.")
    now = FactSet([*stated[:place], after, *stated[place:]]).table("acme")
    older = _of_a_release_that_knew_no_anchor(now)
    assert unchanged_since(older, now)
    assert not unchanged_since(now, older)
    assert not unchanged_since(older, now.filter(pc.not_equal(now["metric"], "text_methodology")))


def test_facts_of_a_release_that_knew_no_anchor_still_print(facts, profile, tmp_path):
    older = _of_a_release_that_knew_no_anchor(facts)
    assert _pdf_section(older, profile, tmp_path) == ""
    assert _inline_rows(build_ixbrl(older, profile, tmp_path / "r.xhtml")) == {}
    assert "audit anchor: not stated" in _readme(older, profile, tmp_path)
