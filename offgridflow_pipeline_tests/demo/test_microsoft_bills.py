"""Tests of the generated Azure bills: Microsoft's columns, every charge type, blocks, tags and capitals."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline_tests.demo.delivered import bill_rows, by, feed, files_of, newest_manifests, number, rows_of

SHARED = Path(__file__).resolve().parents[3] / "shared" / "billing" / "azure"
NOT_SHARED = "the shared folder with Microsoft's export schemas is not beside the checkout"


def test_focus_columns_are_those_of_the_1_2_export(bills: DemoBills) -> None:
    path = SHARED / "schemas" / "focuscost_1.2.json"
    if not path.exists():
        pytest.skip(NOT_SHARED)
    expected = [m["source"]["name"] for m in json.loads(path.read_text())["translator"]["mappings"]]
    assert list(bill_rows(feed(bills, "focus", "brightwater"))[0]) == expected


def test_focus_rows_hold_every_charge_and_reserved_rows_cost_nothing(bills: DemoBills) -> None:
    rows = bill_rows(feed(bills, "focus", "brightwater"))
    assert {r["ChargeCategory"] for r in rows} == {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
    assert {r["CommitmentDiscountStatus"] for r in rows} == {"", "Used", "Unused"}
    assert any(r["ChargeClass"] == "Correction" and number(r["ConsumedQuantity"]) < 0 for r in rows)
    reserved = [r for r in rows if r["CommitmentDiscountStatus"] == "Used"]
    assert reserved
    assert all(number(r["BilledCost"]) == 0 < number(r["EffectiveCost"]) for r in reserved)
    assert any(r["PublisherName"] != "Microsoft" for r in rows)


def test_count_blocks_of_focus_state_their_blocks_as_quantity(bills: DemoBills) -> None:
    blocks = [r for r in bill_rows(feed(bills, "focus", "brightwater")) if r["x_PricingBlockSize"] == "10000"]
    assert blocks
    for row in blocks:
        priced = number(row["ListUnitPrice"]) * number(row["ConsumedQuantity"])
        assert abs(priced - number(row["ListCost"])) < Decimal("1e-9")
        assert abs(number(row["PricingQuantity"]) * 10000 - number(row["ConsumedQuantity"])) < Decimal("1e-5")


def test_a_month_is_invoiced_to_the_cent_in_euros(bills: DemoBills) -> None:
    for found in (feed(bills, "focus", "brightwater"), feed(bills, "azure_actual")):
        assert all(c.billed_cost == c.billed_cost.quantize(Decimal("0.01")) for c in found.controls)
        assert {c.currency for c in found.controls} == {"EUR"}


def test_headers_of_the_enterprise_agreement_are_those_of_a_real_export(bills: DemoBills) -> None:
    path = SHARED / "ftk_EA_AmortizedCost_Small.csv"
    if not path.exists():
        pytest.skip(NOT_SHARED)
    expected = path.read_text(encoding="utf-8-sig").splitlines()[0].split(",")
    assert list(bill_rows(feed(bills, "azure_amortized"))[0]) == expected


def test_the_two_agreements_spell_their_headers_differently(bills: DemoBills) -> None:
    ea, mca = (set(bill_rows(feed(bills, kind))[0]) for kind in ("azure_amortized", "azure_actual"))
    assert {"Cost", "Date", "ChargeType", "InvoiceSection"} <= ea
    assert {"costInBillingCurrency", "date", "chargeType", "invoiceId", "exchangeRatePricingToBilling"} <= mca
    assert "Cost" not in mca and "costInBillingCurrency" not in ea


def test_every_charge_type_of_cost_details_occurs(bills: DemoBills) -> None:
    amortized, actual = bill_rows(feed(bills, "azure_amortized")), bill_rows(feed(bills, "azure_actual"))
    assert {r["ChargeType"] for r in amortized} == {
        "Usage", "UnusedReservation", "UnusedSavingsPlan", "Purchase", "Refund", "Credit",
    }  # fmt: skip
    assert {r["chargeType"] for r in actual} == {
        "Usage", "Purchase", "Refund", "Credit", "Tax", "RoundingAdjustment",
    }  # fmt: skip
    for rows, model, publisher in (
        (amortized, "PricingModel", "PublisherType"),
        (actual, "pricingModel", "publisherType"),
    ):
        assert {r[model] for r in rows} >= {"OnDemand", "Spot", "Reservation", "SavingsPlan"}
        assert {r[publisher] for r in rows} == {"Azure", "Marketplace"}


def test_covered_usage_costs_nothing_in_the_actual_export_and_its_share_in_the_amortized(bills: DemoBills) -> None:
    def covered(kind: str, charge: str, model: str, cost: str) -> list[Decimal]:
        rows = bill_rows(feed(bills, kind))
        return [number(r[cost]) for r in rows if r[charge] == "Usage" and r[model] in ("Reservation", "SavingsPlan")]

    assert set(covered("azure_actual", "chargeType", "pricingModel", "costInBillingCurrency")) == {Decimal(0)}
    assert min(covered("azure_amortized", "ChargeType", "PricingModel", "Cost")) > 0


def test_cost_is_price_times_quantity_for_blocks_of_counts_and_of_hours(bills: DemoBills) -> None:
    by_unit = by([r for r in bill_rows(feed(bills, "azure_amortized")) if r["ChargeType"] == "Usage"], "UnitOfMeasure")
    assert {"10K", "100 Hours", "1 Hour", "1/Month", "1 GB/Month"} <= set(by_unit)
    for row in (*by_unit["10K"], *by_unit["100 Hours"]):
        assert abs(number(row["EffectivePrice"]) * number(row["Quantity"]) - number(row["Cost"])) < Decimal("1e-9")
    assert {number(row["Quantity"]) for row in by_unit["100 Hours"]} == {Decimal(24)}


def test_tags_of_ea_lack_braces_and_those_of_mca_have_them(bills: DemoBills) -> None:
    ea = {r["Tags"] for r in bill_rows(feed(bills, "azure_amortized")) if r["Tags"]}
    mca = {r["tags"] for r in bill_rows(feed(bills, "azure_actual")) if r["tags"]}
    assert ea and mca
    assert all("team" in json.loads("{" + text + "}") for text in ea)
    assert all("team" in json.loads(text) for text in mca)


def test_a_resource_id_differs_in_capitals_from_day_to_day(bills: DemoBills) -> None:
    ids = {r["ResourceId"] for r in bill_rows(feed(bills, "azure_amortized")) if r["ResourceId"]}
    assert len({text.lower() for text in ids}) < len(ids)


def test_additional_info_names_the_machine_and_reserved_rows_their_ratio(bills: DemoBills) -> None:
    rows = [r for r in bill_rows(feed(bills, "azure_amortized")) if r["AdditionalInfo"]]
    assert all(json.loads(r["AdditionalInfo"])["ServiceType"].startswith("Standard_") for r in rows)
    reserved = [json.loads(r["AdditionalInfo"]) for r in rows if r["PricingModel"] == "Reservation"]
    assert reserved
    assert all(info["RINormalizationRatio"] == 1.0 for info in reserved)


def test_the_last_month_was_also_delivered_half_way(bills: DemoBills) -> None:
    for kind in ("azure_amortized", "azure_actual"):
        found = feed(bills, kind)
        manifests = [json.loads(p.read_text()) for p in (found.uri / "20261001-20261031").rglob("manifest.json")]
        assert len({m["runInfo"]["runId"] for m in manifests}) == 2
        newest = json.loads(newest_manifests(found)[-1].read_text())
        assert newest["dataRowCount"] == max(m["dataRowCount"] for m in manifests)
        assert newest["dataRowCount"] == len(rows_of(files_of(found, newest_manifests(found)[-1])))
        assert (
            newest["exportConfig"]["type"] == {"azure_amortized": "AmortizedCost", "azure_actual": "ActualCost"}[kind]
        )
