"""Real Azure exports, counted independently with `csv` and `Decimal` (billing-feeds.md section 9)."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from offgridflow_pipeline.cli import app
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.azure_rules import units_of_measure
from offgridflow_pipeline.usage.reconcile import unexplained
from offgridflow_pipeline_tests.connectors.bills import SHARED, extracted, lines, mapped_lines

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")

AZURE = SHARED / "azure"
#: File -> feed, cost column, rows.
SAMPLES = {
    "ftk_EA_ActualCost_Small.csv": ("azure_actual", "Cost", 11),
    "ftk_EA_AmortizedCost_Small.csv": ("azure_amortized", "Cost", 28),
    "ftk_EA_NoRows.csv": ("azure_actual", "Cost", 0),
    "focus_converters_sample-anonymous-ea-export.csv": ("azure_actual", "CostInBillingCurrency", 27),
}
#: Units of the samples by hand: what one billed unit is in canonical units; all rows are of September (720 hours).
FACTORS = {
    "1 Hour": ("Hours", 1), "1/Day": ("Hours", 24), "1/Month": ("Hours", 720), "1 GB": ("GiB", 1),
    "1 GB/Month": ("GiB-Hours", 720), "10K": ("Requests", 10_000), "1K": ("Requests", 1_000),
}  # fmt: skip


def rows_of(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((AZURE / name).read_text("utf-8-sig"))))


def money(text: str) -> Decimal:
    """A cost as decimal(38,18): real amortised costs state up to 22 decimals."""
    return Decimal(text).quantize(Decimal(1).scaleb(-18), ROUND_HALF_UP)


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> tuple[str, list[dict[str, Any]]]:
    with Engine(512, 1) as engine:
        return request.param, lines(engine, AZURE / request.param, SAMPLES[request.param][0]).to_pylist()


def test_every_row_is_a_line_and_its_cost_ties_to_the_eighteenth_decimal(
    sample: tuple[str, list[dict[str, Any]]],
) -> None:
    name, found = sample
    _, cost, count = SAMPLES[name]
    source = rows_of(name)
    assert len(found) == len(source) == count
    assert [line["BilledCost"] for line in found] == [money(row[cost]) for row in source]
    assert len({line["x_LineId"] for line in found}) == count


def test_every_row_has_a_disposition_and_a_reason_when_it_does_not_count(
    sample: tuple[str, list[dict[str, Any]]],
) -> None:
    name, found = sample
    expected = [
        "commitment_fee"
        if row["ChargeType"] == "Purchase"
        else "zero_quantity"
        if Decimal(row["Quantity"]) == 0
        else None
        for row in rows_of(name)
    ]
    assert [line["x_DispositionReason"] for line in found] == expected
    assert [line["x_Disposition"] for line in found] == [
        "no_emission" if reason else "countable" for reason in expected
    ]


def test_physical_quantities_are_those_of_a_count_by_hand(sample: tuple[str, list[dict[str, Any]]]) -> None:
    name, found = sample
    expected: Counter[tuple[str, str]] = Counter()
    for row in rows_of(name):
        unit, factor = FACTORS[row["UnitOfMeasure"]]
        expected[row["MeterCategory"], unit] += Decimal(row["Quantity"]) * factor
    counted: Counter[tuple[str, str]] = Counter()
    for line in found:
        counted[line["x_SkuMeterCategory"], line["x_NormUnit"]] += line["x_NormQuantity"]
    assert counted == expected


def test_places_and_machines_of_the_samples_are_known(sample: tuple[str, list[dict[str, Any]]]) -> None:
    name, found = sample
    for row, line in zip(rows_of(name), found, strict=True):
        assert line["RegionId"] == (row["ResourceLocation"].lower() or None)
        machine = row["MeterCategory"] == "Virtual Machines"
        assert (line["x_InstanceType"] is not None) == machine, line
        assert str(line["usage_date"]).replace("-", "") == _yyyymmdd(row["Date"])


def test_nothing_of_the_samples_is_unexplained() -> None:
    with Engine(512, 1) as engine:
        paths = [AZURE / name for name in SAMPLES]
        assert (
            engine.to_arrow(
                unexplained(mapped_lines(engine, extracted(engine, paths, "azure_actual"), "azure_actual"))
            ).num_rows
            == 0
        )


def test_idle_reserved_capacity_of_the_samples_is_told_by_its_resource() -> None:
    with Engine(512, 1) as engine:
        found = lines(engine, AZURE / "ftk_EA_ActualCost_Small.csv", "azure_actual").to_pylist()
    [idle] = [line for line in found if line["CapacityReservationStatus"] == "Unused"]
    assert (idle["x_InstanceType"], idle["x_NormQuantity"]) == ("Standard_D2s_v3", 24)


def test_every_published_unit_of_measure_is_known_with_its_block_size() -> None:
    with (AZURE / "open-data" / "PricingUnits.csv").open(newline="", encoding="utf-8-sig") as stream:
        published = {
            row["UnitOfMeasure"].strip().lower(): int(row["PricingBlockSize"]) for row in csv.DictReader(stream)
        }
    ours = {unit.name: unit.block_size for unit in units_of_measure()}
    differing = {name: (block, ours.get(name)) for name, block in published.items() if ours.get(name) != block}
    # The published table calls these blocks of one, though their names state the size.
    assert differing == {"10000s": (1, 10_000), "1 million": (1, 1_000_000)}


@pytest.mark.parametrize("name", ["ftk_EA_ActualCost_Small.csv", "ftk_EA_AmortizedCost_Small.csv", "ftk_EA_NoRows.csv"])
def test_an_estimate_of_a_real_export_keeps_its_rows_and_cost(tmp_path: Path, name: str) -> None:
    feed, cost, count = SAMPLES[name]
    arguments = ["estimate", str(AZURE / name), "--format", feed, "--out", str(tmp_path / "out.csv"), "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["rows"] == count
    assert sum((Decimal(row["billed_cost"]) for row in summary["coverage"]), Decimal()) == sum(
        (money(row[cost]) for row in rows_of(name)), Decimal()
    )
    if count:
        assert Decimal(summary["totals"]["kwh"]) > 0


def _yyyymmdd(text: str) -> str:
    month, day, year = text.split("/")
    return f"{year}{int(month):02d}{int(day):02d}"
