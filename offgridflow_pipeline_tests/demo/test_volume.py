"""Tests of the large bills: exact costs, equal bytes, as many groups as asked for, plausible hours."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.feeds import FeedName
from offgridflow_pipeline.demo.volume import VolumeBill, azure, cur, gcp, generate_bill
from offgridflow_pipeline.demo.volume.draws import Keys

ROWS = 6_000
FEEDS: tuple[FeedName, ...] = get_args(FeedName)
TEXT_FEEDS: tuple[FeedName, ...] = ("cur", "focus", "azure_actual", "azure_amortized")


def generated(folder: Path, feed: FeedName, rows: int = ROWS, **wanted: int) -> VolumeBill:
    suffix = "csv.gz" if feed in TEXT_FEEDS else "parquet"
    return generate_bill(folder / f"{feed}.{suffix}", rows, feed=feed, **wanted)


def rows_of(bill: VolumeBill) -> list[dict[str, Any]]:
    if bill.path.suffix == ".parquet":
        return pq.read_table(bill.path).to_pylist()
    with gzip.open(bill.path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def cost_of(row: dict[str, Any]) -> Decimal:
    if "credits" in row:
        return Decimal(repr(row["cost"])) + sum(Decimal(repr(credit["amount"])) for credit in row["credits"])
    names = ("lineItem/UnblendedCost", "line_item_unblended_cost", "BilledCost", "Cost")
    value = next(row[name] for name in names if name in row)
    return Decimal(str(value))


def usage_type(row: dict[str, Any]) -> object:
    if "sku" in row:
        return row["sku"]["description"]
    names = ("lineItem/UsageType", "line_item_usage_type", "SkuMeter", "SkuId", "PartNumber")
    return next(row[name] for name in names if row.get(name))


@pytest.mark.parametrize("feed", FEEDS)
def test_the_stated_cost_is_the_exact_sum_of_the_rows(tmp_path: Path, feed: FeedName) -> None:
    bill = generated(tmp_path, feed)
    rows = rows_of(bill)
    assert len(rows) == bill.rows == ROWS
    assert sum(cost_of(row) for row in rows) == bill.billed_cost > 0


@pytest.mark.parametrize("feed", FEEDS)
def test_equal_arguments_give_equal_bytes_and_other_seeds_other_rows(tmp_path: Path, feed: FeedName) -> None:
    def digest(folder: str, seed: int) -> str:
        bill = generated(tmp_path / folder, feed, 2_000, seed=seed)
        return hashlib.sha256(bill.path.read_bytes()).hexdigest()

    assert digest("a", 7) == digest("b", 7) != digest("c", 8)


@pytest.mark.parametrize(
    ("feed", "keys", "least"),
    [("cur", cur.keys, 1_000), ("azure_amortized", azure.keys, 500), ("gcp_detailed", gcp.keys, 400)],
)
def test_rows_are_drawn_from_as_many_keys_as_real_bills_have(
    tmp_path: Path, feed: FeedName, keys: Callable[[], Keys], least: int
) -> None:
    assert keys().count >= least
    assert len({usage_type(row) for row in rows_of(generated(tmp_path, feed))}) > 100


def test_legacy_and_cur2_hold_the_same_bill(tmp_path: Path) -> None:
    legacy, cur2 = (rows_of(generated(tmp_path, feed)) for feed in ("cur", "cur2"))
    for mine, other in zip(legacy[:500], cur2, strict=False):
        assert mine["lineItem/UsageType"] == other["line_item_usage_type"]
        assert Decimal(mine["lineItem/UsageAmount"]) == Decimal(repr(other["line_item_usage_amount"]))
        assert mine["product/vcpu"] == dict(other["product"]).get("vcpu", "")


def test_csv_and_parquet_of_a_feed_hold_the_same_rows(tmp_path: Path) -> None:
    for feed in ("focus", "azure_amortized"):
        text = rows_of(generate_bill(tmp_path / "bill.csv.gz", 2_000, feed=feed))
        table = rows_of(generate_bill(tmp_path / "bill.parquet", 2_000, feed=feed))
        assert text == [{name: value or "" for name, value in row.items()} for row in table]


@pytest.mark.parametrize(
    ("feed", "account", "day"),
    [
        ("cur", "lineItem/UsageAccountId", "identity/TimeInterval"),
        ("focus", "SubAccountId", "ChargePeriodStart"),
        ("azure_amortized", "SubscriptionId", "Date"),
        ("gcp_focus", "SubAccountId", "ChargePeriodStart"),
    ],
)
def test_accounts_and_days_set_the_number_of_groups(tmp_path: Path, feed: FeedName, account: str, day: str) -> None:
    for accounts, days in ((1, 2), (12, 31)):
        rows = rows_of(generated(tmp_path, feed, 4_000, accounts=accounts, days=days))
        assert len({row[account] for row in rows}) == accounts
        assert len({str(row[day])[:10] for row in rows}) == days


def test_no_machine_runs_longer_than_its_row_measures(tmp_path: Path) -> None:
    for row in rows_of(generated(tmp_path, "cur")):
        if row["lineItem/ResourceId"].startswith("i-"):
            assert Decimal(row["lineItem/UsageAmount"]) <= 1
    for row in rows_of(generated(tmp_path, "azure_amortized")):
        if row["AdditionalInfo"]:
            assert Decimal(row["Quantity"]) <= 24
    for row in rows_of(generated(tmp_path, "gcp_detailed")):
        cores = [label["value"] for label in row["system_labels"] if label["key"].endswith("/cores")]
        if cores and row["usage"]["unit"] == "seconds":
            assert row["usage"]["amount"] <= 3600 * int(cores[0]) + 1
