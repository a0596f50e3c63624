"""FOCUS as its providers and versions write it: Google's own export, Oracle, spellings, forms of tags, datasets."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.focus_datasets import focus_version
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import FOCUS_ROW, SHARED, extracted, focus_row, lines, write_bill
from offgridflow_pipeline_tests.connectors.gcp_bills import as_text, gcp_focus_row

ORACLE = {
    "ProviderName": "Oracle", "PublisherName": "Oracle", "InvoiceIssuerName": "Oracle", "RegionId": "",
    "RegionName": "eu-frankfurt-1", "EffectiveCost": "0", "BilledCost": "4.6",
    "ChargeDescription": "Standard - E3 - Memory", "ConsumedUnit": "GB Hours",
}  # fmt: skip


def _lines(engine: Engine, folder: Path, feed: str, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    return list(lines(engine, write_bill(folder / "bill.csv", rows), feed).to_pylist())


def _google(engine: Engine, folder: Path, *changes: dict[str, Any]) -> list[dict[str, Any]]:
    return _lines(engine, folder, "gcp_focus", [as_text(gcp_focus_row(**changed)) for changed in changes])


def test_googles_rows_count_or_say_why_not_and_keep_their_cost(engine: Engine, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str, str | None]] = [
        ({}, "Usage", None),
        ({"ChargeClass": "correction", "ConsumedQuantity": "-14400"}, "Usage", None),
        ({"ChargeDescription": "Commitment v1: Cpu in Frankfurt for 1 Year"}, "Purchase", "commitment_fee"),
        (
            {"x_Credits": [{"Name": "a", "Amount": "-1", "Type": "FEE_UTILIZATION_OFFSET"}]},
            "Purchase",
            "commitment_fee",
        ),
        ({"ServiceName": "Support"}, "Usage", "support"),
        ({"ConsumedQuantity": "0"}, "Usage", "zero_quantity"),
        ({"ChargeCategory": "Tax", "x_CostType": "tax"}, "Tax", "tax"),
        ({"ChargeCategory": "Adjustment", "x_CostType": "rounding_error"}, "Adjustment", "rounding"),
        ({"ChargeCategory": "Adjustment", "x_CostType": "adjustment"}, "Adjustment", "adjustment_money"),
        ({"PublisherName": "A Vendor", "ProviderName": "Google Cloud"}, "Usage", "marketplace_software"),
    ]
    found = _google(engine, tmp_path, *(changed for changed, _, _ in cases))
    for line, (changed, category, reason) in zip(found, cases, strict=True):
        assert (line["ChargeCategory"], line["x_DispositionReason"]) == (category, reason), changed
        assert line["BilledCost"] == Decimal("0.1")


def test_googles_seconds_are_told_by_the_sku(engine: Engine, tmp_path: Path) -> None:
    found = _google(
        engine, tmp_path, {}, {"ChargeDescription": "Nvidia Tesla T4 GPU running"},
        {"ChargeDescription": "Storage PD Capacity", "ConsumedUnit": "byte-seconds",
         "ConsumedQuantity": str(2**50 * 36_000)},
    )  # fmt: skip
    measured = [(line["x_NormUnit"], line["x_NormQuantity"]) for line in found]
    assert measured == [("vCPU-Hours", 4), ("Hours", 4), ("GiB-Hours", 2**20 * 10)]


def test_googles_empty_names_are_google(engine: Engine, tmp_path: Path) -> None:
    [line] = _google(engine, tmp_path, {})
    parties = {line[name] for name in ("ServiceProviderName", "HostProviderName", "InvoiceIssuerName")}
    assert (parties, line["x_Provider"], line["InvoiceId"]) == ({"Google Cloud"}, "gcp", None)


def test_googles_location_stands_in_for_a_missing_region(engine: Engine, tmp_path: Path) -> None:
    found = _google(
        engine, tmp_path, *({"RegionId": None, "x_Location": place} for place in ("us", "global", "europe-west3"))
    )
    assert [line["RegionId"] for line in found] == ["us", None, "europe-west3"]


def test_googles_labels_and_tags_become_the_tags(engine: Engine, tmp_path: Path) -> None:
    [line] = _google(
        engine, tmp_path,
        {"x_ProjectLabels": [{"Key": "env", "Value": "prod"}],
         "x_Tags": [{"Key": "cost", "Value": "c-7", "x_Inherited": False, "x_Namespace": "901"}]},
    )  # fmt: skip
    assert json.loads(line["Tags"]) == {"team": "web", "project:env": "prod", "tag:901:cost": "c-7"}


@pytest.mark.parametrize(
    ("changed", "region"),
    [
        ({}, "eu-frankfurt-1"),
        ({"RegionName": "", "AvailabilityZone": "Uocm:EU-FRANKFURT-1-AD-1"}, "eu-frankfurt-1-ad-1"),
    ],
)
def test_oracles_rows_have_their_place_and_their_billed_cost(
    engine: Engine, tmp_path: Path, changed: dict[str, str], region: str
) -> None:
    [line] = _lines(engine, tmp_path, "focus", [focus_row(**(ORACLE | changed))])
    assert (line["x_Provider"], line["RegionId"], line["x_NormUnit"]) == ("oci", region, "GiB-Hours")
    assert (line["BilledCost"], line["EffectiveCost"], line["ContractedCost"]) == (Decimal("4.6"), 0, None)


@pytest.mark.parametrize(
    "tags",
    [
        '{"team":"web","env":"prod"}',
        '[{"key":"team","value":"web"},{"key":"env","value":"prod"}]',
        '[{"Key": "team", "Value": "web"}, {"Key": "env", "Value": "prod"}]',
    ],
)
def test_tags_are_a_json_object_whatever_their_form(engine: Engine, tmp_path: Path, tags: str) -> None:
    [line] = _lines(engine, tmp_path, "focus", [focus_row(Tags=tags)])
    assert json.loads(line["Tags"]) == {"team": "web", "env": "prod"}


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.string(), pa.string()),
        pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])),
    ],
)
def test_tags_of_parquet_are_a_json_object(engine: Engine, tmp_path: Path, kind: pa.DataType) -> None:
    value: Any = [("team", "web")] if pa.types.is_map(kind) else [{"key": "team", "value": "web"}]
    row = {name: pa.array([text]) for name, text in FOCUS_ROW.items()} | {"Tags": pa.array([value], kind)}
    pq.write_table(pa.table(row), tmp_path / "bill.parquet")
    [line] = lines(engine, tmp_path / "bill.parquet", "focus").to_pylist()
    assert json.loads(line["Tags"]) == {"team": "web"}


def test_closed_lists_are_compared_without_capitals(engine: Engine, tmp_path: Path) -> None:
    spelled = {"ChargeFrequency": "Usage-based", "PricingCategory": "STANDARD", "ChargeClass": "correction",
               "CommitmentDiscountStatus": "UNUSED", "CommitmentDiscountCategory": "spend"}  # fmt: skip
    [line] = _lines(engine, tmp_path, "focus", [focus_row(**spelled)])
    assert {name: line[name] for name in spelled} == {
        "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard", "ChargeClass": "Correction",
        "CommitmentDiscountStatus": "Unused", "CommitmentDiscountCategory": "Spend",
    }  # fmt: skip


def test_the_text_null_is_no_value(engine: Engine, tmp_path: Path) -> None:
    [line] = _lines(engine, tmp_path, "focus", [focus_row(RegionId="NULL", ResourceId="NULL", Tags="NULL")])
    assert (line["RegionId"], line["ResourceId"], line["Tags"]) == (None, None, None)


@pytest.mark.parametrize(
    ("unit", "quantity"), [("GB Hours", 24), ("GB-Hours", 24), ("GB-Months", 24 * 744), ("GB/Month", 24 * 744)]
)
def test_units_are_known_in_their_spellings(engine: Engine, tmp_path: Path, unit: str, quantity: int) -> None:
    [line] = _lines(engine, tmp_path, "focus", [focus_row(**(ORACLE | {"ConsumedUnit": unit}))])
    assert (line["x_NormUnit"], line["x_NormQuantity"]) == ("GiB-Hours", quantity)


def test_times_may_be_separated_by_a_blank(engine: Engine, tmp_path: Path) -> None:
    for start in ("2026-10-05 00:00:00", "2026-10-05 00:00:00 UTC", "2026-10-05T00:00:00.000Z"):
        [line] = _lines(engine, tmp_path, "focus", [focus_row(ChargePeriodStart=start)])
        assert line["ChargePeriodStart"].isoformat() == "2026-10-05T00:00:00+00:00"


def test_the_same_content_in_each_version_gives_the_same_lines(engine: Engine, tmp_path: Path) -> None:
    older = focus_row()
    renamed = {("ServiceProviderName" if name == "ProviderName" else name): text for name, text in older.items()}
    versions = {
        "1.0": older,
        "1.2": older | {"InvoiceId": ""},
        "1.3": older | {"ServiceProviderName": "Microsoft"},
        "1.4": renamed,
    }
    assert {focus_version(row): version for version, row in versions.items()} == {v: v for v in versions}
    ids = ("x_LineId", "x_SourceRowHash", "x_SourceObjectSha256", "x_SourceVersion")
    found = [_lines(engine, tmp_path, "focus", [row])[0] for row in versions.values()]
    assert all(
        {n: line[n] for n in line if n not in ids} == {n: found[0][n] for n in line if n not in ids} for line in found
    )


@pytest.mark.parametrize(
    ("header", "dataset"),
    [
        (["ContractCommitmentId", "BillingCurrency"], "Contract Commitment"),
        (["BillingPeriodStatus", "BillingPeriodStart"], "Billing Period"),
        (["InvoiceDetailId", "InvoiceDetailGrain", "BilledCost", "BillingAccountId"], "Invoice Detail"),
    ],
)
def test_other_datasets_of_focus_are_refused_by_name(
    engine: Engine, tmp_path: Path, header: list[str], dataset: str
) -> None:
    path = write_bill(tmp_path / "bill.csv", [], header=header)
    with pytest.raises(
        BillingObjectError, match=f"it is the FOCUS dataset {dataset}, not a bill. Export .* Cost and Usage"
    ):
        extracted(engine, path, "focus")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")
@pytest.mark.parametrize("provider", ["aws", "azure", "gcp"])
def test_generated_contract_commitments_are_no_bill(engine: Engine, provider: str) -> None:
    path = SHARED / "focus" / "generated" / f"focus_1_3_contract_commitment_{provider}.csv.gz"
    with pytest.raises(BillingObjectError, match="FOCUS dataset Contract Commitment, not a bill"):
        extracted(engine, path, "focus")


def test_a_missing_column_is_told_with_the_version_that_was_understood(engine: Engine, tmp_path: Path) -> None:
    row = {name: text for name, text in focus_row(SkuMeter="x").items() if name != "BilledCost"}
    with pytest.raises(BillingObjectError, match=r"BilledCost is missing from this FOCUS 1\.1 file"):
        extracted(engine, write_bill(tmp_path / "bill.csv", [row]), "focus")
