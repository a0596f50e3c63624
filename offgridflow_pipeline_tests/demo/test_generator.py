"""Tests of the demonstration as a whole: deterministic bytes, control totals counted anew, three tenants."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.demo.fleet import fleet, rows
from offgridflow_pipeline.demo.generator import DemoBills, DemoBillsError, generate
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline_tests.demo.delivered import Row, bill_rows, files_of, newest_manifests, number

FEED_IDS = (
    "alder-outdoor-cur2", "alder-outdoor-outlet-cur", "alder-outdoor-labs-focus", "brightwater-health-focus",
    "brightwater-health-clinics-amortized", "brightwater-health-research-actual", "cedarvane-mobility-detailed",
    "cedarvane-mobility-ferries-standard", "cedarvane-mobility-workshops-focus",
)  # fmt: skip


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


def test_each_tenant_has_every_feed_of_its_cloud(bills: DemoBills) -> None:
    kinds = {t.slug: {c.kind for c in t.connections} for t in bills.tenants}
    assert kinds == {
        "alder-outdoor": {"cur2", "cur", "focus", "aws_carbon_export"},
        "brightwater-health": {"focus", "azure_amortized", "azure_actual"},
        "cedarvane-mobility": {"gcp_detailed", "gcp_standard", "gcp_focus", "gcp_carbon"},
    }
    assert set(FEEDS) == set.union(*kinds.values()) & set(FEEDS)
    assert all(Path(c.uri).is_dir() for tenant in bills.tenants for c in tenant.connections)


def test_no_two_feeds_bill_the_same_account(bills: DemoBills) -> None:
    names = (
        "bill_payer_account_id",
        "bill/PayerAccountId",
        "BillingAccountId",
        "billingAccountId",
        "billing_account_id",
    )
    for tenant in bills.tenants:
        accounts = [{row[name] for row in bill_rows(found) for name in names if name in row} for found in tenant.feeds]
        assert [len(found) for found in accounts] == [1, 1, 1]
        assert len(set.union(*accounts)) == 3


@pytest.mark.parametrize("feed_id", FEED_IDS)
def test_control_totals_are_rows_and_cost_of_the_newest_deliveries(bills: DemoBills, feed_id: str) -> None:
    (found,) = [f for t in bills.tenants for f in t.feeds if f.id == feed_id]
    counted: dict[str, list[Decimal]] = defaultdict(list)
    for row in bill_rows(found):
        month, cost = _month_and_cost(row)
        counted[month].append(cost)
    assert {month: (len(costs), sum(costs)) for month, costs in counted.items()} == {
        control.month: (control.rows, control.billed_cost) for control in found.controls
    }
    assert all(sum(c.rows_by_charge.values()) == c.rows for c in found.controls)


def test_the_totals_of_a_tenant_are_the_sums_over_its_feeds(bills: DemoBills) -> None:
    for tenant in bills.tenants:
        for position, control in enumerate(tenant.controls):
            parts = [found.controls[position] for found in tenant.feeds]
            assert control.rows == sum(part.rows for part in parts)
            assert control.billed_cost == sum(part.billed_cost for part in parts)
            assert {control.currency} == {part.currency for part in parts} == {tenant.currency}


def test_the_control_file_says_what_the_tenants_say(bills: DemoBills) -> None:
    written = json.loads(bills.controls_file.read_text())
    for tenant in bills.tenants:
        for found in tenant.feeds:
            assert [(c["month"], c["rows"], c["billed_cost"]) for c in written[tenant.slug][found.id]] == [
                (c.month, c.rows, str(c.billed_cost)) for c in found.controls
            ]


def test_the_first_feed_of_a_tenant_is_its_largest(bills: DemoBills) -> None:
    for tenant in bills.tenants:
        main, *others = (sum(c.rows for c in found.controls) for found in tenant.feeds)
        assert all(main > 4 * other for other in others)


def test_the_manifests_name_exactly_the_delivered_files(bills: DemoBills) -> None:
    for found in (f for t in bills.tenants for f in t.feeds if not f.kind.startswith("gcp")):
        manifests = list(found.uri.rglob("*anifest.json"))
        named = {path for manifest in manifests for path in files_of(found, manifest)}
        assert named == {p for p in found.uri.rglob("*") if p.suffix in (".parquet", ".gz")}
        assert len(newest_manifests(found)) == len(bills.months)
        for manifest in manifests:
            for blob in json.loads(manifest.read_text()).get("blobs", ()):
                assert (found.uri.parent / blob["blobName"]).stat().st_size == blob["byteCount"]


def test_no_machine_runs_more_than_24_hours_a_day() -> None:
    """A fleet row names one machine a copy, or says by more hours a day how many it stands for."""
    from offgridflow_pipeline.demo.fleet import MACHINE_HOURS, consumption

    for name, unit in (("aws_fleet.csv", "unit"), ("azure_fleet.csv", "unit_description"), ("gcp_fleet.csv", "unit")):
        for used in consumption(fleet(name), unit, month_days("2026-10"), 7):
            if used.item["instance_type"] and used.item[unit] in MACHINE_HOURS:
                assert 0 < used.quantity <= max(Decimal(24), used.item.daily)


def test_lei_of_each_tenant_has_right_check_digits(bills: DemoBills) -> None:
    for tenant in bills.tenants:
        assert len(tenant.lei) == 20
        assert int("".join(str(int(c, 36)) for c in tenant.lei)) % 97 == 1


@pytest.mark.parametrize("name", ["aws_regions.csv", "azure_regions.csv", "gcp_regions.csv", "gcp_skus.csv"])
def test_data_files_have_no_ragged_rows(name: str) -> None:
    assert all(None not in row and None not in row.values() for row in rows(name))


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
    assert not list(tmp_path.rglob("202609"))


@pytest.mark.parametrize("months", [0, 37])
def test_a_month_count_out_of_range_is_refused(tmp_path: Path, months: int) -> None:
    with pytest.raises(DemoBillsError, match="use 1 to 36"):
        generate(tmp_path / "new", months=months)


def _month_and_cost(row: Row) -> tuple[str, Decimal]:
    """Month of use and billed cost of a row of any feed."""
    if "line_item_unblended_cost" in row:
        return row["identity_time_interval"][:7], number(row["line_item_unblended_cost"])
    if "lineItem/UnblendedCost" in row:
        return row["identity/TimeInterval"][:7], number(row["lineItem/UnblendedCost"])
    if "BilledCost" in row:
        return str(row["ChargePeriodStart"])[:7], number(row["BilledCost"])
    if "cost" in row:
        given = sum((number(credit["amount"]) for credit in row["credits"]), Decimal(0))
        return str(row["usage_start_time"])[:7], number(row["cost"]) + given
    used: Any = row.get("Date") or row["date"]
    return f"{used[6:]}-{used[:2]}", number(row.get("Cost") or row["costInBillingCurrency"])
