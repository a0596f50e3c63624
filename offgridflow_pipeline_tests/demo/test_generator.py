from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.demo.generator import DemoBills, DemoBillsError, generate

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> DemoBills:
    return generate(tmp_path_factory.mktemp("demo") / "bills")


def newest_manifests(bills: DemoBills, tenant: int, pattern: str) -> list[Path]:
    """The last manifest of each billing period, by name of its folder."""
    found: dict[str, Path] = {}
    for path in sorted(bills.tenants[tenant].uri.rglob(pattern)):
        found[re.search(r"BILLING_PERIOD=[\d-]+|\d{8}-\d{8}", str(path))[0]] = path
    return [found[key] for key in sorted(found)]


def amazon_rows(bills: DemoBills, manifest: Path) -> list[dict[str, object]]:
    root = bills.tenants[0].uri
    names = json.loads(manifest.read_text())["dataFiles"]
    paths = [root / name.split("/", 4)[4] for name in names]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def microsoft_rows(manifest: Path) -> list[dict[str, str]]:
    with gzip.open(manifest.with_name("part_0_0001.csv.gz"), "rt", encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_generations_are_equal_byte_for_byte_and_a_third_seed_differs(tmp_path: Path) -> None:
    def digests(name: str, seed: int) -> dict[str, str]:
        root = tmp_path / name
        generate(root, months=1, seed=seed)
        return {
            str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
        }

    first = digests("a", 7)
    assert first == digests("b", 7)
    assert first != digests("c", 8)


def test_control_totals_are_those_of_the_newest_delivery_of_each_month(bills: DemoBills) -> None:
    for control, manifest in zip(bills.tenants[0].controls, newest_manifests(bills, 0, "*Manifest.json"), strict=True):
        rows = amazon_rows(bills, manifest)
        assert len(rows) == control.rows
        assert sum(Decimal(repr(r["line_item_unblended_cost"])) for r in rows) == control.billed_cost
    for control, manifest in zip(bills.tenants[1].controls, newest_manifests(bills, 1, "manifest.json"), strict=True):
        azure = microsoft_rows(manifest)
        assert len(azure) == control.rows
        assert sum(Decimal(r["BilledCost"]) for r in azure) == control.billed_cost


def test_every_line_item_type_of_amazon_occurs(bills: DemoBills) -> None:
    kinds = Counter[str]()
    for control in bills.tenants[0].controls:
        kinds.update(control.rows_by_charge)
    assert set(kinds) == {
        "Usage", "DiscountedUsage", "SavingsPlanCoveredUsage", "SavingsPlanNegation", "SavingsPlanRecurringFee",
        "RIFee", "Fee", "Tax", "Credit", "Refund", "EdpDiscount", "FlatRateSubscription",
    }  # fmt: skip


def test_amazon_rows_hold_the_traps_of_real_bills(bills: DemoBills) -> None:
    rows = [r for m in newest_manifests(bills, 0, "*Manifest.json") for r in amazon_rows(bills, m)]
    by_type = defaultdict(list)
    for row in rows:
        by_type[row["line_item_line_item_type"]].append(row)
    assert all(row["line_item_usage_amount"] == 1 for row in by_type["Tax"])
    assert all(row["line_item_usage_amount"] > 1000 for row in by_type["RIFee"])
    assert any(row["line_item_usage_amount"] < 0 for row in by_type["Usage"])
    assert any(row["bill_billing_entity"] == "AWS Marketplace" for row in by_type["Usage"])
    assert any(str(row["line_item_usage_account_id"]).startswith("0") for row in rows)
    assert {row["line_item_product_code"] for row in by_type["Usage"]} >= {
        "AmazonTimestream",
        "AWSIoTFleetWise",
        "AmazonWorkSpaces",
    }


def test_savings_plan_negations_cancel_the_covered_usage_of_their_day(bills: DemoBills) -> None:
    rows = amazon_rows(bills, newest_manifests(bills, 0, "*Manifest.json")[0])
    balance: dict[object, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["line_item_line_item_type"] in ("SavingsPlanCoveredUsage", "SavingsPlanNegation"):
            balance[row["identity_time_interval"]] += Decimal(repr(row["line_item_unblended_cost"]))
    assert len(balance) == 31
    assert set(balance.values()) == {Decimal(0)}


def test_a_restated_day_is_the_only_metered_difference_of_the_last_two_deliveries(bills: DemoBills) -> None:
    early, late = sorted(bills.tenants[0].uri.rglob("BILLING_PERIOD=2026-10/**/*Manifest.json"))

    def metered(manifest: Path) -> dict[object, object]:
        return {
            r["identity_line_item_id"]: (r["line_item_usage_amount"], str(r["identity_time_interval"])[:10])
            for r in amazon_rows(bills, manifest)
            if r["line_item_line_item_type"] == "Usage"
        }

    before, after = metered(early), metered(late)
    changed = {after[key][1] for key in after if after[key] != before[key]}  # type: ignore[index]
    assert before.keys() == after.keys()
    assert changed == {"2026-10-14"}
    assert all(r["bill_invoice_id"] is None for r in amazon_rows(bills, early))
    assert all(r["bill_invoice_id"] for r in amazon_rows(bills, late))


def test_the_manifests_name_exactly_the_delivered_files(bills: DemoBills) -> None:
    root = bills.tenants[0].uri
    named = {
        root / name.split("/", 4)[4]
        for m in root.rglob("*Manifest.json")
        for name in json.loads(m.read_text())["dataFiles"]
    }
    assert named == set(root.rglob("*.parquet"))
    for manifest in bills.tenants[1].uri.rglob("manifest.json"):
        for blob in json.loads(manifest.read_text())["blobs"]:
            assert (bills.tenants[1].uri.parent / blob["blobName"]).stat().st_size == blob["byteCount"]


def test_microsoft_columns_are_those_of_the_focus_1_2_export(bills: DemoBills) -> None:
    path = SHARED / "billing" / "azure" / "schemas" / "focuscost_1.2.json"
    if not path.exists():
        pytest.skip("the shared folder with Microsoft's export schemas is not beside the checkout")
    expected = [m["source"]["name"] for m in json.loads(path.read_text())["translator"]["mappings"]]
    manifest = newest_manifests(bills, 1, "manifest.json")[0]
    assert list(microsoft_rows(manifest)[0]) == expected


def test_microsoft_rows_hold_every_charge_and_reserved_rows_cost_nothing(bills: DemoBills) -> None:
    rows = [r for m in newest_manifests(bills, 1, "manifest.json") for r in microsoft_rows(m)]
    assert {r["ChargeCategory"] for r in rows} == {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
    assert {r["CommitmentDiscountStatus"] for r in rows} == {"", "Used", "Unused"}
    assert any(r["ChargeClass"] == "Correction" and Decimal(r["ConsumedQuantity"]) < 0 for r in rows)
    reserved = [r for r in rows if r["CommitmentDiscountStatus"] == "Used"]
    assert reserved
    assert all(Decimal(r["BilledCost"]) == 0 < Decimal(r["EffectiveCost"]) for r in reserved)
    assert any(r["PublisherName"] != "Microsoft" for r in rows)


def test_count_blocks_of_microsoft_state_their_blocks_as_quantity(bills: DemoBills) -> None:
    rows = microsoft_rows(newest_manifests(bills, 1, "manifest.json")[0])
    blocks = [r for r in rows if r["x_PricingBlockSize"] == "10000"]
    assert blocks
    for row in blocks:
        priced = Decimal(row["ListUnitPrice"]) * Decimal(row["ConsumedQuantity"])
        assert abs(priced - Decimal(row["ListCost"])) < Decimal("1e-9")
        assert abs(Decimal(row["PricingQuantity"]) * 10000 - Decimal(row["ConsumedQuantity"])) < Decimal("1e-5")


def test_month_is_invoiced_to_the_cent_in_euros(bills: DemoBills) -> None:
    assert all(c.billed_cost == c.billed_cost.quantize(Decimal("0.01")) for c in bills.tenants[1].controls)
    assert {c.currency for c in bills.tenants[1].controls} == {"EUR"}


def test_lei_of_each_tenant_has_right_check_digits(bills: DemoBills) -> None:
    for tenant in bills.tenants:
        assert int("".join(str(int(c, 36)) for c in tenant.lei)) % 97 == 1


def test_the_connections_file_is_read_by_the_connectors(bills: DemoBills) -> None:
    from offgridflow_pipeline.connectors.connections import load_connections

    found = load_connections(bills.connections_file)
    assert {slug: [c.kind for c in connections] for slug, connections in found.items()} == {
        "alder-outdoor": ["cur2"],
        "brightwater-health": ["focus"],
    }
    assert all(Path(c.uri).is_dir() for connections in found.values() for c in connections)


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    with pytest.raises(DemoBillsError, match="not empty"):
        generate(tmp_path)
    assert precious.read_text() == "mine"


def test_generating_again_replaces_the_old_demonstration_only(tmp_path: Path) -> None:
    generate(tmp_path, months=2)
    (tmp_path / "notes.txt").write_text("mine")
    generate(tmp_path, months=1)
    assert (tmp_path / "notes.txt").exists()
    assert not list(tmp_path.rglob("BILLING_PERIOD=2026-09"))


@pytest.mark.parametrize("months", [0, 37])
def test_a_month_count_out_of_range_is_refused(tmp_path: Path, months: int) -> None:
    with pytest.raises(DemoBillsError, match="use 1 to 36"):
        generate(tmp_path / "new", months=months)
