"""Tests of the generated AWS bills: every line item type, the traps of real bills, three layouts of one bill."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal

from offgridflow_pipeline.demo.amazon.bill import bill
from offgridflow_pipeline.demo.amazon.layouts import focus_columns, focus_rows, legacy_headers, legacy_rows
from offgridflow_pipeline.demo.amazon.usage import AmazonDelivery, Payer
from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline_tests.demo.delivered import bill_rows, by, feed, files_of, newest_manifests, number, rows_of


def test_every_line_item_type_occurs(bills: DemoBills) -> None:
    kinds = {kind for control in feed(bills, "cur2").controls for kind in control.rows_by_charge}
    assert kinds == {
        "Usage", "DiscountedUsage", "SavingsPlanCoveredUsage", "SavingsPlanNegation", "SavingsPlanRecurringFee",
        "SavingsPlanUpfrontFee", "RIFee", "Fee", "Tax", "Credit", "Refund", "EdpDiscount", "BundledDiscount",
        "PrivateRateDiscount", "FlatRateSubscription",
    }  # fmt: skip


def test_rows_hold_the_traps_of_real_bills(bills: DemoBills) -> None:
    rows = bill_rows(feed(bills, "cur2"))
    by_type = by(rows, "line_item_line_item_type")
    assert all(row["line_item_usage_amount"] == 1 for row in by_type["Tax"])
    assert all(row["line_item_usage_amount"] > 1000 for row in by_type["RIFee"])
    assert any(row["line_item_usage_amount"] < 0 for row in by_type["Usage"])
    assert any(row["bill_billing_entity"] == "AWS Marketplace" for row in by_type["Usage"])
    assert any(str(row["line_item_usage_account_id"]).startswith("0") for row in rows)
    assert any(row["reservation_reservation_a_r_n"] for row in by_type["Fee"])
    assert any(not row["reservation_reservation_a_r_n"] for row in by_type["Fee"])
    assert {row["line_item_product_code"] for row in by_type["Usage"]} >= {
        "AmazonTimestream",
        "AWSIoTFleetWise",
        "AmazonWorkSpaces",
    }


def test_savings_plan_negations_cancel_the_covered_usage_of_their_day(bills: DemoBills) -> None:
    main = feed(bills, "cur2")
    balance: dict[object, Decimal] = defaultdict(Decimal)
    for row in rows_of(files_of(main, newest_manifests(main)[0])):
        if row["line_item_line_item_type"] in ("SavingsPlanCoveredUsage", "SavingsPlanNegation"):
            balance[row["identity_time_interval"]] += number(row["line_item_unblended_cost"])
    assert len(balance) == 31
    assert set(balance.values()) == {Decimal(0)}


def test_a_restated_day_is_the_only_metered_difference_of_the_last_two_deliveries(bills: DemoBills) -> None:
    main = feed(bills, "cur2")
    early, late = sorted(main.uri.rglob("BILLING_PERIOD=2026-10/**/*Manifest.json"))
    before, after = (
        {
            row["identity_line_item_id"]: (row["line_item_usage_amount"], row["identity_time_interval"][:10])
            for row in by(rows_of(files_of(main, manifest)), "line_item_line_item_type")["Usage"]
        }
        for manifest in (early, late)
    )
    assert before.keys() == after.keys()
    assert {after[key][1] for key in after if after[key] != before[key]} == {"2026-10-14"}
    assert all(row["bill_invoice_id"] is None for row in rows_of(files_of(main, early)))
    assert all(row["bill_invoice_id"] for row in rows_of(files_of(main, late)))


def test_the_legacy_report_is_in_the_create_new_layout(bills: DemoBills) -> None:
    report = feed(bills, "cur")
    for manifest in newest_manifests(report):
        content = json.loads(manifest.read_text())
        assembly = manifest.parent / content["assemblyId"]
        assert json.loads((assembly / manifest.name).read_text()) == content
        assert {path.parent for path in files_of(report, manifest)} == {assembly}
        start, end = (content["billingPeriod"][name][:8] for name in ("start", "end"))
        assert manifest.parent.name == f"{start}-{end}"
    october = report.uri / "20261001-20261101"
    assert len([path for path in october.iterdir() if path.is_dir()]) == 2  # an earlier assembly stays


def test_the_manifest_of_the_legacy_report_declares_the_columns_of_its_files(bills: DemoBills) -> None:
    report = feed(bills, "cur")
    manifest = newest_manifests(report)[0]
    declared = [f"{c['category']}/{c['name']}" for c in json.loads(manifest.read_text())["columns"]]
    row, *_ = rows_of(files_of(report, manifest))
    assert list(row) == declared == list(legacy_headers())
    assert not any("AccountName" in name for name in declared)


def test_three_layouts_of_one_bill_carry_the_same_usage_and_money() -> None:
    payer = Payer("labs", "aws_small_fleet.csv", Decimal("0.11"))
    days = month_days("2026-09")
    rows = bill(AmazonDelivery(payer, "2026-09", days[-1]), 3)
    legacy, focus = list(legacy_rows(rows)), list(focus_rows(rows))
    assert [number(r["lineItem/UnblendedCost"]) for r in legacy] == [r["line_item_unblended_cost"] for r in rows]
    assert sum(number(r["BilledCost"]) for r in focus) == sum(r["line_item_unblended_cost"] for r in rows)

    def hours(found: list[tuple[str, Decimal]]) -> Decimal:
        return sum((amount for name, amount in found if "BoxUsage:" in name), Decimal(0))

    metered = [
        (r["lineItem/UsageType"], number(r["lineItem/UsageAmount"]))
        for r in legacy
        if r["lineItem/LineItemType"] in ("Usage", "DiscountedUsage", "SavingsPlanCoveredUsage")
    ]
    consumed = [(r["SkuMeter"], number(r["ConsumedQuantity"])) for r in focus if r.get("ConsumedQuantity")]
    assert hours(metered) == hours(consumed) > 0


def test_focus_of_aws_tells_used_from_unused_commitments(bills: DemoBills) -> None:
    rows = bill_rows(feed(bills, "focus", "alder"))
    assert list(rows[0]) == focus_columns()
    unused = [row for row in rows if row["CommitmentDiscountStatus"] == "Unused"]
    used = [row for row in rows if row["CommitmentDiscountStatus"] == "Used"]
    assert used and unused
    assert all(number(row["BilledCost"]) == 0 < number(row["EffectiveCost"]) for row in (*used, *unused))
    assert all(row["ConsumedQuantity"] for row in used)
    assert not any(row["ConsumedQuantity"] for row in unused)
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Purchase", "Tax", "Credit"}


def test_what_commitments_cost_when_used_and_unused_is_what_was_paid_for_them(bills: DemoBills) -> None:
    rows = bill_rows(feed(bills, "focus", "alder"))
    paid = sum(number(r["BilledCost"]) for r in rows if r["ChargeCategory"] == "Purchase")
    amortised = sum(number(r["EffectiveCost"]) for r in rows if r["CommitmentDiscountStatus"])
    assert abs(paid - amortised) < Decimal("0.0001")
