"""Tests of the generated Google Cloud bills: physical base units, charges, late rows, corrections, three exports."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline.demo.google import tables
from offgridflow_pipeline.demo.google.bill import bill
from offgridflow_pipeline.demo.google.metering import measured, pacific_day
from offgridflow_pipeline.demo.google.usage import GoogleAccount
from offgridflow_pipeline_tests.demo.delivered import Row, bill_rows, feed, number

SHARED = Path(__file__).resolve().parents[3] / "shared" / "billing" / "gcp"
ON_TIME = timedelta(hours=25)
PACIFIC = ZoneInfo("America/Los_Angeles")


@pytest.fixture(scope="module")
def rows(bills: DemoBills) -> list[Row]:
    return bill_rows(feed(bills, "gcp_detailed"))


def invoiced(row: Row) -> Decimal:
    return number(row["cost"]) + sum((number(credit["amount"]) for credit in row["credits"]), Decimal(0))


def is_fee(row: Row) -> bool:
    return bool(row["sku"]["description"].startswith("Commitment"))


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("gcp_detailed", "billing_export_resource_v1"),
        ("gcp_standard", "billing_export_v1"),
        ("gcp_focus", "billing_export_focus_1_2"),
        ("gcp_carbon", "carbon_footprint"),
    ],
)
def test_columns_and_members_are_those_of_the_bigquery_table(bills: DemoBills, kind: str, schema: str) -> None:
    path = SHARED / f"{schema}.schema.json"
    if not path.exists():
        pytest.skip("the shared folder with the table schemas is not beside the checkout")

    def named(fields: list[dict[str, object]], prefix: str = "") -> set[str]:
        found = set()
        for field in fields:
            found.add(f"{prefix}{field['name']}")
            found |= named(field.get("fields", []), f"{prefix}{field['name']}.")  # type: ignore[arg-type]
        return found

    def delivered(kinds: object, prefix: str = "") -> set[str]:
        import pyarrow as pa

        found = set()
        for field in kinds:  # type: ignore[attr-defined]
            found.add(prefix + field.name)
            inner = field.type.value_type if pa.types.is_list(field.type) else field.type
            if pa.types.is_struct(inner):
                found |= delivered(list(inner), f"{prefix}{field.name}.")
        return found

    file = next(feed(bills, kind).uri.rglob("*.parquet"))
    assert delivered(list(pq.read_schema(file))) == named(json.loads(path.read_text()))


def test_cores_memory_and_gpus_of_a_machine_measure_the_same_hours(rows: list[Row]) -> None:
    hours: dict[tuple[object, ...], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        labels = {label["key"].split("/")[1]: label["value"] for label in row["system_labels"]}
        if "cores" not in labels or row["cost_type"] != "regular" or "Fee" in row["sku"]["description"]:
            continue
        key = (row["resource"]["global_name"], row["usage_start_time"])
        text, amount = row["sku"]["description"], number(row["usage"]["amount"])
        if "Core" in text:
            hours[key]["core"] += amount / 3600 / Decimal(labels["cores"])
        elif "Ram" in text:
            hours[key]["ram"] += amount / (2**30 * 3600) / (Decimal(labels["memory"]) / 1024)
        else:
            hours[key]["gpu"] += amount / 3600
    assert len(hours) > 500
    for parts in hours.values():
        assert {"core", "ram"} <= set(parts)
        assert max(parts.values()) - min(parts.values()) < Decimal("0.001")
        assert 0 < max(parts.values()) <= Decimal("24.001")


def test_usage_is_never_longer_than_its_window_allows(rows: list[Row]) -> None:
    for row in rows:
        seconds = (row["usage_end_time"] - row["usage_start_time"]).total_seconds()
        if row["usage"]["unit"] == "seconds" and row["resource"] and row["service"]["description"] == "Compute Engine":
            cores = {label["key"]: label["value"] for label in row["system_labels"]}
            limit = seconds * int(cores.get("compute.googleapis.com/cores", 64))
            assert abs(row["usage"]["amount"]) <= limit + 1


def test_held_gibibytes_are_byte_seconds_of_the_whole_window(rows: list[Row]) -> None:
    held = [row for row in rows if row["sku"]["description"] == "Storage PD Capacity in Americas"]
    assert held
    for row in held:
        seconds = (row["usage_end_time"] - row["usage_start_time"]).total_seconds()
        assert row["usage"]["amount"] / seconds / 2**30 == pytest.approx(2000)


def test_november_has_721_hours_in_pricing_units() -> None:
    window = pacific_day(date(2025, 11, 20))
    amount, priced = measured(Decimal(721), "gibibyte month", window)
    assert amount == 721 * 2**30 * 86_400
    assert priced == 24
    assert pacific_day(date(2025, 11, 2)).seconds == 25 * 3600


def test_every_kind_of_charge_and_credit_occurs(rows: list[Row]) -> None:
    assert {row["cost_type"] for row in rows} == {"regular", "tax", "adjustment", "rounding_error"}
    assert {credit["type"] for row in rows for credit in row["credits"]} == {
        "SUSTAINED_USAGE_DISCOUNT", "COMMITTED_USAGE_DISCOUNT", "FREE_TIER", "PROMOTION", "FEE_UTILIZATION_OFFSET",
    }  # fmt: skip
    assert {row["adjustment_info"]["type"] for row in rows if row["adjustment_info"]} == {
        "USAGE_CORRECTION", "PRICE_CORRECTION", "GOODWILL", "SLA_VIOLATION",
    }  # fmt: skip
    assert {row["transaction_type"] for row in rows} == {"GOOGLE", "THIRD_PARTY_RESELLER"}
    assert {row["usage"]["unit"] for row in rows} == {"seconds", "byte-seconds", "bytes", "requests", "count"}
    assert "Support" in {row["service"]["description"] for row in rows}


def test_commitment_fees_repeat_cores_and_one_of_them_counts_money(rows: list[Row]) -> None:
    fees = [row for row in rows if is_fee(row)]
    cores = [row for row in fees if "Cpu" in row["sku"]["description"]]
    money = [row for row in fees if "dollar based" in row["sku"]["description"]]
    assert {row["usage"]["amount"] for row in cores} == {16 * 24 * 3600.0}
    assert money
    for row in money:  # an hour of it is a dollar
        assert number(row["cost"]) == (number(row["usage"]["amount"]) / 3600 * Decimal("0.79")).quantize(
            Decimal("1e-6")
        )
    assert all(row["subscription"]["instance_id"] for row in fees)


def test_a_flexible_commitment_splits_usage_by_consumption_model(rows: list[Row]) -> None:
    split = [row for row in rows if row["consumption_model"] and row["consumption_model"]["description"] != "Default"]
    assert split
    for row in split[:50]:
        (rest,) = [
            other for other in rows
            if other["consumption_model"] and other["consumption_model"]["description"] == "Default"
            and other["resource"] == row["resource"] and other["sku"] == row["sku"]
            and other["usage_start_time"] == row["usage_start_time"]
        ]  # fmt: skip
        whole = row["usage"]["amount"] + rest["usage"]["amount"]
        assert row["usage"]["amount"] == pytest.approx(0.6 * whole)


def test_a_correction_is_a_pair_that_comes_with_the_next_invoice(rows: list[Row]) -> None:
    pair = [row for row in rows if row["adjustment_info"] and row["adjustment_info"]["type"] == "USAGE_CORRECTION"]
    negative, anew = pair
    assert negative["adjustment_info"]["mode"] == "COMPLETE_NEGATION_WITH_REMONETIZATION"
    assert negative["adjustment_info"]["id"] == anew["adjustment_info"]["id"]
    (first,) = [
        row for row in rows
        if row["cost_type"] == "regular" and row["sku"] == negative["sku"] and row["resource"] == negative["resource"]
        and row["usage_start_time"] == negative["usage_start_time"]
    ]  # fmt: skip
    assert negative["usage"]["amount"] == -first["usage"]["amount"] < 0 < anew["usage"]["amount"]
    assert (first["invoice"]["month"], negative["invoice"]["month"]) == ("202609", "202610")


def test_late_rows_lie_in_the_next_partition_and_invoice(bills: DemoBills, rows: list[Row]) -> None:
    late = [
        row for row in rows if row["export_time"] - row["usage_end_time"] > ON_TIME and row["cost_type"] == "regular"
    ]
    assert {(row["usage_start_time"].strftime("%Y%m"), row["invoice"]["month"]) for row in late} == {
        ("202608", "202609"), ("202609", "202610"), ("202610", "202611"),
    }  # fmt: skip
    after = feed(bills, "gcp_detailed").uri / "202611" / "000000000000.parquet"
    assert "202610" in {f"{row['usage_start_time']:%Y%m}" for row in pq.read_table(after).to_pylist()}


def test_usage_before_midnight_in_california_belongs_to_the_invoice_of_that_month(rows: list[Row]) -> None:
    in_time = [
        row for row in rows if row["cost_type"] == "regular" and row["export_time"] - row["usage_end_time"] < ON_TIME
    ]
    for row in in_time:
        assert row["invoice"]["month"] == f"{row['usage_start_time'].astimezone(PACIFIC):%Y%m}"
    assert any(row["invoice"]["month"] != f"{row['usage_start_time']:%Y%m}" for row in in_time)


def test_an_invoice_comes_to_whole_pennies(bills: DemoBills) -> None:
    for kind in ("gcp_detailed", "gcp_standard"):
        invoices: dict[str, Decimal] = defaultdict(Decimal)
        for row in bill_rows(feed(bills, kind)):
            invoices[row["invoice"]["month"]] += invoiced(row)
        for month in ("202608", "202609", "202610"):
            assert invoices[month] == invoices[month].quantize(Decimal("0.01")) > 0


def test_rows_without_project_region_or_labels_occur(rows: list[Row]) -> None:
    nobody = {row["service"]["description"] for row in rows if row["project"] is None or row["project"]["id"] is None}
    assert nobody == {"Compute Engine", "Support", "Invoice"}  # flexible commitment, support, taxes and rounding
    assert {row["location"]["location"] for row in rows if not row["location"]["region"]} == {"eu", "us", "global"}
    assert any(row["labels"] for row in rows) and any(not row["labels"] for row in rows)


def test_three_exports_of_one_bill_carry_the_same_usage_and_money() -> None:
    account = GoogleAccount("ferries", "01A7F2-3B90D1-6C48E5", "gcp_small_fleet.csv")
    rows = bill(account, ["2026-10"], None, 3)
    detailed, standard = (tables.table(rows, schema).to_pylist() for schema in (tables.DETAILED, tables.STANDARD))
    focus = tables.focus_table(rows).to_pylist()
    assert [invoiced(row) for row in detailed] == [invoiced(row) for row in standard]
    assert [invoiced(row) for row in detailed] == [number(row["BilledCost"]) for row in focus]
    for row, other in zip(detailed, focus, strict=True):
        assert row["usage"]["amount"] == pytest.approx(float(other["ConsumedQuantity"]), abs=1e-9)
        assert row["usage"]["unit"] == other["ConsumedUnit"]
    assert "resource" not in standard[0] and "subscription" not in standard[0]
    assert {row["ChargeCategory"] for row in focus} == {"Usage", "Tax", "Adjustment"}
