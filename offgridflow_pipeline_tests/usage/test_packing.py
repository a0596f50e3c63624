"""Packed lines are the usage lines: the same values, with what a kind has in common computed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.keys import KEY_TEXT, key_columns
from offgridflow_pipeline.usage.normalise import usage_lines
from offgridflow_pipeline.usage.packing import (
    KIND,
    TELLING,
    kinds,
    packed_lines,
    packing,
    typical_lines,
    unpacked_lines,
)
from offgridflow_pipeline_tests.connectors.azure_bills import ea_row
from offgridflow_pipeline_tests.connectors.bills import cur_row, extracted, focus_row, write_bill
from offgridflow_pipeline_tests.connectors.gcp_bills import as_text, credit, gcp_row

COLUMNS = ("usage_date", "SubAccountId", "ServiceName", "RegionId", "BilledCost", "x_NormQuantity", "x_SourceRow")
ROWS = {
    "cur": [
        cur_row(),
        cur_row(lineItem__UsageAmount="0"),
        cur_row(lineItem__LineItemType="Tax", pricing__unit=""),
        cur_row(pricing__unit="GB-Mo", lineItem__UsageAmount="-7.25"),
        cur_row(pricing__unit="Lambda-GB-Second", lineItem__UsageAmount="12345.6789"),
        cur_row(pricing__unit="parsecs"),
    ],
    "azure_actual": [
        ea_row(),
        ea_row(Quantity="0"),
        ea_row(Quantity="0.1", UnitOfMeasure="10K", MeterCategory="Storage", AdditionalInfo=""),
        ea_row(Quantity="-2", ResourceId=ea_row()["ResourceId"].lower().replace("virtualmachines", "disks")),
        ea_row(ChargeType="UnusedReservation", ReservationId="9A3B"),
        ea_row(PublisherType="Marketplace", PublisherName="A Vendor"),
        ea_row(UnitOfMeasure="parsecs", ResourceLocation="", MeterRegion="EU North"),
    ],
    "gcp_detailed": [
        as_text(gcp_row()),
        as_text(gcp_row(usage__amount=0.0)),
        as_text(gcp_row(cost_type="tax", system_labels=[])),
        as_text(gcp_row(credits=[credit(-0.05)], sku__description="Commitment v1: Cpu")),
        as_text(gcp_row(usage__unit="byte-seconds", usage__amount=1.2e19, sku__description="Standard Storage")),
        as_text(gcp_row(usage__unit="byte-seconds", usage__amount=1.2e12, sku__description="Standard Storage")),
        as_text(gcp_row(resource__global_name="", location__region="")),
    ],
    "focus": [
        focus_row(),
        focus_row(ChargeCategory="Tax"),
        focus_row(ConsumedUnit="GB-Seconds"),
        focus_row(ConsumedQuantity="0"),
        focus_row(ConsumedQuantity="", PricingQuantity="3", PricingUnit="10K", ListUnitPrice="0.4"),
        focus_row(
            ProviderName="AWS", PublisherName="AWS", InvoiceIssuerName="AWS", ChargeDescription="m5.xlarge Linux"
        ),
        focus_row(SkuPriceDetails='{"CoreCount":"8","MemorySize":"32 GiB","InstanceType":"Standard_D8s_v5"}'),
        focus_row(
            ProviderName="Google", PublisherName="", InvoiceIssuerName="", ChargeDescription="Commitment v1: Cpu"
        ),
    ],
}


@pytest.mark.parametrize("feed", ROWS)
def test_unpacked_lines_have_the_values_of_usage_lines(engine: Engine, tmp_path: Path, feed: str) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS[feed])], feed)
    plan = packing(feed, COLUMNS)
    packed = engine.spool(packed_lines(plan, rows))
    lines = unpacked_lines(plan, packed, engine.spool(kinds(plan, packed)))
    key = {name: column for name, column in key_columns(lines[KEY_TEXT]).items() if name not in COLUMNS}
    lines = lines.select(*COLUMNS, "x_UsageKey", **key)
    names = list(dict.fromkeys((*COLUMNS, "x_UsageKey", *schemas.USAGE_KEY_COLUMNS)))
    expected = engine.to_arrow(usage_lines(rows, feed, names)).sort_by("x_SourceRow")
    found = engine.to_arrow(lines.select(names)).sort_by("x_SourceRow")
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(
    ("feed", "costly"),
    [
        ("azure_actual", {"x_InstanceType", "x_NormUnit", "RegionId", "_divisor"}),
        ("gcp_detailed", {"x_InstanceType", "x_VCpus", "x_MemoryGiB", "CapacityReservationStatus", "RegionId"}),
        ("focus", {"x_InstanceType", "x_VCpus", "x_MemoryGiB", "x_GpuCount", "x_Provider", "RegionId"}),
    ],
)
def test_what_is_read_from_packed_texts_is_read_once_per_kind(feed: str, costly: set[str]) -> None:
    assert costly <= set(packing(feed, COLUMNS).by_kind)


@pytest.mark.parametrize("feed", ROWS)
def test_every_telling_column_tells_something(feed: str) -> None:
    plan = packing(feed, [name for name in schemas.USAGE_LINES.column_names if name != "x_LineId"])
    assert set(plan.telling) == TELLING[FEEDS[feed].dialect]


def test_rules_of_a_cur_row_run_once_per_kind(engine: Engine, tmp_path: Path) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS["cur"] * 3)], "cur")
    plan = packing("cur", COLUMNS)
    assert {"RegionId", "ServiceName", "x_NormUnit"} <= set(plan.by_kind)
    assert plan.key_by_row == ("x_Disposition", "x_DispositionReason")
    packed = engine.spool(packed_lines(plan, rows))
    found = engine.to_arrow(kinds(plan, packed))
    assert found.num_rows == len(set(found[KIND].to_pylist())) == len(ROWS["cur"])


def test_typical_lines_have_the_largest_quantity_of_a_kind_and_day(engine: Engine, tmp_path: Path) -> None:
    amounts = ["3", "-1e4", "0.5"]
    bill = [cur_row(lineItem__UsageAmount=a, pricing__unit="Hrs") for a in amounts]
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", bill)], "cur")
    plan = packing("cur", COLUMNS)
    packed = engine.spool(packed_lines(plan, rows))
    typical = unpacked_lines(plan, typical_lines(plan, packed), kinds(plan, packed))
    assert [row["x_NormQuantity"] for row in engine.to_arrow(typical).to_pylist()] == [10_000]
