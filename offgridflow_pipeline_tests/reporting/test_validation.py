"""Arelle as the gate: what is right passes, every planted fault is found, and no judgement is no approval."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.xbrl.profile import own_profile
from offgridflow_pipeline.reporting.xbrl.tagging import tagging
from offgridflow_pipeline.reporting.xbrl.validation import validate
from offgridflow_pipeline.settings import Settings


@pytest.mark.parametrize("kind", ["xbrl", "ixbrl"])
def test_the_report_is_valid_without_error_warning_or_inconsistency(kind, facts, request):
    result = validate(request.getfixturevalue(kind))
    assert result.verdict == "valid", result.messages
    assert result.counts == {"error": 0, "inconsistency": 0, "warning": 0}
    assert result.fact_count == len(tagging(fact_set(facts), own_profile()).tags)


def _replace(pattern: str, replacement: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        changed, count = re.subn(pattern, replacement, text, count=1)
        assert count == 1, pattern
        return changed

    return change


def _off_by_one_unit(concept: str) -> Callable[[str], str]:
    """Raise the last digit of the reporting month's first fact of that concept."""

    def change(text: str) -> str:
        pattern = rf'(<ogf:{concept} contextRef="c-20261001-20261031" [^>]*>)(\d+\.\d+)<'
        found = re.search(pattern, text)
        assert found is not None
        digits = found[2]
        last = str((int(digits[-1]) + 1) % 10)
        return text.replace(found[0], f"{found[1]}{digits[:-1]}{last}<")

    return change


def _duplicate(text: str) -> str:
    found = re.search(r'<ogf:TotalEmissionsMarketBased contextRef="c-20261001-20261031"[^>]*>[^<]*</[^>]*>', text)
    assert found is not None
    second = re.sub(r'id="[^"]*"', 'id="second"', found[0]).replace(">2", ">3")
    return text.replace(found[0], found[0] + second)


FAULTS = {
    "a total off by one unit of the last place": (_off_by_one_unit("TotalEmissionsLocationBased"), "message:total_location"),
    "Scope 3 off by one unit": (_off_by_one_unit("Scope3EmissionsMarketBased"), "message:categories_market"),
    "electricity off by one unit": (_off_by_one_unit("CloudElectricityEstimated"), "message:providers_electricity"),
    "a unit that is not of the type": (
        _replace("<xbrli:measure>utr:tCO2e</xbrli:measure>", "<xbrli:measure>utr:t</xbrli:measure>"),
        "utre:error-NumericFactUtrInvalid",
    ),
    "a member of another axis": (
        _replace(r'dimension="ogf:CloudProviderAxis">ogf:\w+', 'dimension="ogf:CloudProviderAxis">ogf:EmbodiedMember'),
        "xbrldie:PrimaryItemDimensionallyInvalidError",
    ),
    "the default member written": (
        _replace(r'dimension="ogf:CloudProviderAxis">ogf:\w+', 'dimension="ogf:CloudProviderAxis">ogf:CloudProviderDomain'),
        "xbrldie:DefaultValueUsedInInstanceError",
    ),
    "a number without decimals": (_replace(' decimals="3"', ""), "xbrl.4.6.3:missingPrecisionDecimals"),
    "a fact stated twice with different values": (_duplicate, "arelle:duplicateFacts"),
    "a status that is not in the list": (_replace(">provisional<", ">perfect<"), "xmlSchema:valueError"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_the_report_invalid(fault, xbrl, tmp_path):
    change, code = FAULTS[fault]
    broken = tmp_path / "broken.xbrl"
    broken.write_text(change(xbrl.read_text(encoding="utf-8")), encoding="utf-8")
    result = validate(broken)
    assert result.verdict == "invalid"
    assert code in result.codes, result.codes


@pytest.mark.parametrize(
    ("pattern", "replacement", "code"),
    [
        (r'format="ixt:num-dot-decimal"', 'format="ixt:num-dots"', "ix11.10.1.2:invalidTransformation"),
        (
            r'format="ixt:num-dot-decimal"([^>]*>\d+,\d+\.\d\d<)',
            r'format="ixt:num-comma-decimal"\1',
            "ix11.10.1.1:transformValueError",
        ),
        (r'<div class="cards">', '<div class="cards" role="main">', "lxml.SCHEMAV_CVC_COMPLEX_TYPE_3_2_1"),
        (r"<h2>Trend</h2>", "<section>Trend</section>", "lxml.SCHEMAV_ELEMENT_CONTENT"),
    ],
)
def test_a_fault_of_the_page_makes_the_inline_report_invalid(pattern, replacement, code, ixbrl, tmp_path):
    broken = tmp_path / "broken.xhtml"
    text = _replace(pattern, replacement)(ixbrl.read_text(encoding="utf-8"))
    broken.write_text(text, encoding="utf-8")
    result = validate(broken)
    assert result.verdict == "invalid"
    assert code in result.codes, result.codes


def test_a_report_of_a_taxonomy_that_is_missing_is_not_validated(xbrl, tmp_path):
    other = tmp_path / "other.xbrl"
    other.write_text(xbrl.read_text(encoding="utf-8").replace("/2026-11-30/ogf-ghg.xsd", "/1999-01-01/ogf-ghg.xsd"))
    assert validate(other).verdict == "not_validated"


def test_a_file_that_is_no_xml_is_never_valid(tmp_path):
    path = tmp_path / "no.xbrl"
    path.write_text("<<<")
    assert validate(path).verdict != "valid"


def test_a_timeout_is_not_validated(xbrl):
    result = validate(xbrl, Settings(validation_timeout_seconds=0))
    assert result.verdict == "not_validated"
    assert "longer than 0 s" in result.messages[0]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; sys.exit('No module named arelle')", "not installed"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("pass", "no log"),
    ],
)
def test_an_absent_or_crashing_validator_is_not_validated(script, message, xbrl, tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\n{script}\n")
    stand_in.chmod(0o755)
    result = validate(xbrl, python=str(stand_in))
    assert result.verdict == "not_validated"
    assert message in result.messages[0]


def test_a_missing_interpreter_is_not_validated(xbrl, tmp_path):
    assert validate(xbrl, python=str(tmp_path / "none")).verdict == "not_validated"


def test_the_record_of_a_validation_is_json(xbrl):
    record = json.loads(json.dumps(validate(xbrl).record()))
    assert record["verdict"] == "valid"
    assert "--calc c11r" in record["options"]


def test_both_forms_hold_the_same_facts_for_the_validator(xbrl, ixbrl, tmp_path):
    documents = []
    for report in (xbrl, ixbrl):
        target = Path(tmp_path / f"{report.suffix[1:]}.json")
        assert validate(report, export=target).valid
        documents.append(json.loads(target.read_text(encoding="utf-8"))["facts"])
    plain, inline = documents
    assert plain.keys() == inline.keys()
    for key, fact in plain.items():
        assert fact["dimensions"] == inline[key]["dimensions"]
        same = re.sub(r' xmlns(:\w+)?="[^"]*"', "", fact["value"]) == re.sub(
            r' xmlns(:\w+)?="[^"]*"', "", inline[key]["value"]
        )
        assert same, key
