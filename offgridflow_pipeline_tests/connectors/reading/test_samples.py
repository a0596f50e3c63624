"""Real and conforming sample bills, counted independently with `csv` and `Decimal` (billing-feeds.md, section 10)."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import SHARED, lines

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")

AWS = SHARED / "aws" / "focus_converters_sample-anonymous-aws-export.csv"
GENERATED = sorted((SHARED / "focus" / "generated").glob("*cost_and_usage*.csv.gz"))
KOKU = ["koku_2023-06-01.csv", "koku_2023-06-01-not-final.csv"]


def _rows(path: Path) -> list[dict[str, str]]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def _total(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal())


@pytest.fixture
def aws(engine: Engine) -> pa.Table:
    return lines(engine, AWS, "cur")


def test_every_row_of_the_real_aws_bill_is_a_line_and_its_cost_ties(aws: pa.Table) -> None:
    source = _rows(AWS)
    assert aws.num_rows == len(source) == 1281
    assert sum(aws["BilledCost"].to_pylist()) == _total(source, "lineItem/UnblendedCost")
    per_day = Counter(row["identity/TimeInterval"][:10] for row in source)
    assert Counter(str(day) for day in aws["usage_date"].to_pylist()) == per_day


def test_every_row_of_the_real_aws_bill_has_a_disposition(aws: pa.Table) -> None:
    reasons = Counter(zip(aws["x_Disposition"].to_pylist(), aws["x_DispositionReason"].to_pylist(), strict=True))
    assert reasons["no_emission", "tax"] == 12
    assert {disposition for disposition, _ in reasons} == {"countable", "no_emission"}
    assert all((reason is None) == (disposition == "countable") for disposition, reason in reasons)


def test_line_ids_of_the_real_aws_bill_are_unique(aws: pa.Table) -> None:
    assert len(set(aws["x_LineId"].to_pylist())) == 1281


def test_the_glue_catalogs_of_the_real_aws_bill_hold_thirteen_and_two_objects(aws: pa.Table) -> None:
    # November has 30 days: a catalog held all day shows its objects / 30 as Obj-Month, whatever the usage type says.
    billed = Counter(
        round(Decimal(row["lineItem/UsageAmount"]) * 30) for row in _rows(AWS) if row["pricing/unit"] == "Obj-Month"
    )
    held = Counter(
        round(quantity / 24)
        for unit, quantity in zip(aws["x_SourceUnit"].to_pylist(), aws["x_NormQuantity"].to_pylist(), strict=True)
        if unit == "Obj-Month"
    )
    assert held == billed
    assert {13, 2} <= set(held)


def test_the_quantities_of_the_real_aws_bill_tie_per_unit(aws: pa.Table) -> None:
    # November has 720 hours; what is held is billed as a fraction of the month, all else in units of one.
    canonical = {"GB": ("GiB", 1), "GB-Mo": ("GiB-Hours", 720), "Obj-Month": ("Hours", 720)}
    counted = {"Keys": ("Count", 1), "Dashboards": ("Count", 1)}
    expected: Counter[str] = Counter()
    for row in _rows(AWS):
        if unit := row["pricing/unit"]:
            name, factor = (canonical | counted).get(unit, ("Requests", 1))
            expected[name] += Decimal(row["lineItem/UsageAmount"]) * factor
    found: Counter[str] = Counter()
    for unit, quantity in zip(aws["x_NormUnit"].to_pylist(), aws["x_NormQuantity"].to_pylist(), strict=True):
        if unit:
            found[unit] += quantity
    assert found == expected
    assert len(found) == 5


@pytest.mark.parametrize("name", KOKU)
def test_the_open_and_the_final_month_of_koku_are_read_whole(engine: Engine, name: str) -> None:
    source = _rows(SHARED / "aws" / name)
    found = lines(engine, SHARED / "aws" / name, "cur")
    assert found.num_rows == len(source) == 3
    assert sum(found["BilledCost"].to_pylist()) == _total(source, "lineItem/UnblendedCost")
    assert sum(found["x_NormQuantity"].to_pylist()) == _total(source, "lineItem/UsageAmount") == 3  # hours
    assert found["BillingAccountId"].to_pylist() == [row["bill/PayerAccountId"] for row in source]


def test_the_athena_spelling_of_koku_is_marketplace_and_has_no_emission(engine: Engine) -> None:
    path = SHARED / "aws" / "koku_2022-07-01-alt-columns.csv"
    source = _rows(path)
    found = lines(engine, path, "cur")
    assert found.num_rows == len(source) == 2
    assert sum(found["BilledCost"].to_pylist()) == _total(source, "line_item_unblended_cost")
    assert {
        d
        for d, e in zip(found["x_Disposition"].to_pylist(), found["x_BillingEntity"].to_pylist(), strict=True)
        if e == "AWS Marketplace"
    } <= {"no_emission"}


@pytest.mark.parametrize("path", GENERATED, ids=lambda p: p.name.removesuffix(".csv.gz"))
def test_generated_focus_bills_keep_every_row_and_every_cost(engine: Engine, path: Path) -> None:
    source = _rows(path)
    found = lines(engine, path, "focus")
    assert found.num_rows == len(source) == 2000
    expected: Counter[str] = Counter()
    for row in source:
        expected[row["BillingCurrency"]] += Decimal(row["BilledCost"])
    billed: Counter[str] = Counter()
    for currency, cost in zip(found["BillingCurrency"].to_pylist(), found["BilledCost"].to_pylist(), strict=True):
        billed[currency] += cost
    assert billed == expected


@pytest.mark.parametrize("path", GENERATED, ids=lambda p: p.name.removesuffix(".csv.gz"))
def test_generated_focus_bills_keep_every_quantity(engine: Engine, path: Path) -> None:
    expected: Counter[str] = Counter()
    for row in _rows(path):
        if row["ConsumedQuantity"] not in ("", "NULL"):
            expected[row["ConsumedUnit"]] += Decimal(row["ConsumedQuantity"])
    consumed: Counter[str] = Counter()
    found = lines(engine, path, "focus")
    for unit, quantity in zip(found["ConsumedUnit"].to_pylist(), found["ConsumedQuantity"].to_pylist(), strict=True):
        if quantity is not None:
            consumed[unit] += quantity
    assert consumed == expected


@pytest.mark.parametrize("path", GENERATED, ids=lambda p: p.name.removesuffix(".csv.gz"))
def test_generated_focus_bills_never_count_what_was_not_used(engine: Engine, path: Path) -> None:
    found = lines(engine, path, "focus").select(["x_Disposition", "ChargeCategory", "CommitmentDiscountStatus"])
    counted = [row for row in found.to_pylist() if row["x_Disposition"] == "countable"]
    assert counted
    assert {row["ChargeCategory"] for row in counted} == {"Usage"}
    assert "Unused" not in {row["CommitmentDiscountStatus"] for row in counted}
