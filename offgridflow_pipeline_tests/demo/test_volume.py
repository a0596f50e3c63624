from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.demo.volume import KEYS, generate_cur

ROWS = 20_000


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_cur(tmp_path_factory.mktemp("volume") / "cur.csv.gz", ROWS).path


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_stated_cost_is_the_exact_sum_of_the_rows(legacy: Path) -> None:
    bill = generate_cur(legacy.with_name("again.csv.gz"), ROWS)
    assert bill.billed_cost == sum(Decimal(r["lineItem/UnblendedCost"]) for r in rows(legacy))
    assert bill.path.read_bytes() == legacy.read_bytes()


def test_both_layouts_hold_the_same_bill(legacy: Path) -> None:
    parquet = generate_cur(legacy.with_name("cur2.parquet"), ROWS, kind="cur2")
    table = pq.read_table(parquet.path).to_pylist()
    for mine, other in zip(rows(legacy)[:500], table, strict=False):
        assert mine["lineItem/UsageType"] == other["line_item_usage_type"]
        assert Decimal(mine["lineItem/UsageAmount"]) == Decimal(repr(other["line_item_usage_amount"]))
        assert mine["product/vcpu"] == dict(other["product"]).get("vcpu", "")


def test_usage_keys_and_grouping_keys_have_the_size_of_real_bills(legacy: Path) -> None:
    found = rows(legacy)
    keys = {(r["lineItem/UsageType"], r["lineItem/Operation"], r["lineItem/LineItemType"]) for r in found}
    assert 0.9 * KEYS < len(keys) <= KEYS
    assert len({r["lineItem/UsageAccountId"] for r in found}) == 12
    assert len({r["identity/TimeInterval"][:10] for r in found}) == 31


def test_accounts_and_days_set_the_number_of_groups(tmp_path: Path) -> None:
    small = rows(generate_cur(tmp_path / "few.csv.gz", 2_000, accounts=1, days=2).path)
    assert {r["identity/TimeInterval"][:10] for r in small} == {"2026-10-01", "2026-10-02"}
    assert len({r["lineItem/UsageAccountId"] for r in small}) == 1
