"""Microsoft's price blocks (billing-feeds.md section 5.5) and FOCUS of other providers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import OneBill, focus_row, lines, one_line, write_bill


def _line(engine: Engine, folder: Path, **changed: str) -> dict[str, object]:
    return one_line(engine, folder, "focus", focus_row(**changed))


BLOCK = {"ConsumedUnit": "Units", "x_PricingBlockSize": "10000", "x_PricingUnitDescription": "10K"}


#: What a row of Microsoft says of blocks, its quantity in units and the rule that found it.
BLOCKS = [
    # ListCost = price x ConsumedQuantity: 3 blocks of 10,000
    (
        BLOCK | {"ConsumedQuantity": "3", "PricingQuantity": "0.0003", "ListUnitPrice": "0.05", "ListCost": "0.15"},
        "30000",
        "requests+blocks",
    ),
    # ListCost = price x PricingQuantity: ConsumedQuantity is in real units
    (
        BLOCK | {"ConsumedQuantity": "30000", "PricingQuantity": "3", "ListUnitPrice": "0.05", "ListCost": "0.15"},
        "30000",
        "requests",
    ),
    # no price: counts are blocks, time is not
    (
        BLOCK | {"ConsumedQuantity": "3", "PricingQuantity": "0.0003", "ListUnitPrice": "0", "ListCost": "0"},
        "30000",
        "requests+blocks",
    ),
    (
        {"ConsumedUnit": "Hours", "x_PricingBlockSize": "100", "ConsumedQuantity": "3", "ListCost": "0"},
        "3",
        "hours",
    ),
    # time and data are billed as they are, whatever the price of a block says
    (
        {
            "ConsumedUnit": "Hours", "x_PricingUnitDescription": "100 Hours", "x_PricingBlockSize": "100",
            "ConsumedQuantity": "3", "PricingQuantity": "0.03", "ListUnitPrice": "0.2", "ListCost": "0.6",
        },
        "3",
        "hours",
    ),
    (
        {
            "ConsumedUnit": "GB", "x_PricingUnitDescription": "10 GB", "x_PricingBlockSize": "10",
            "ConsumedQuantity": "0.5", "PricingQuantity": "0.05", "ListUnitPrice": "0", "ListCost": "0",
        },
        "0.5",
        "gib",
    ),
    # a correction of the current month
    (
        BLOCK
        | {"ConsumedQuantity": "-3", "PricingQuantity": "-0.0003", "ListUnitPrice": "0.05", "ListCost": "-0.15"},
        "-30000",
        "requests+blocks",
    ),
    # no consumed quantity: the priced one is in blocks
    (
        BLOCK
        | {"ConsumedQuantity": "", "PricingQuantity": "3", "PricingUnit": "Units", "ListUnitPrice": "0.05", "ListCost": "0.15"},
        "30000",
        "requests+blocks",
    ),
    # the block is not stated: the ratio of the quantities is a power of ten
    (
        {
            "ConsumedUnit": "Units", "ConsumedQuantity": "3", "PricingQuantity": "0.0003",
            "ListUnitPrice": "0.05", "ListCost": "0.15",
        },
        "30000",
        "count+blocks",
    ),
    # another provider's blocks are never multiplied
    (
        BLOCK
        | {
            "ProviderName": "AWS", "PublisherName": "AWS", "ConsumedQuantity": "3", "PricingQuantity": "0.0003",
            "ListUnitPrice": "0.05", "ListCost": "0.15",
        },
        "3",
        "count",
    ),
]  # fmt: skip


#: What the preview of FOCUS 1.0 says; category, status of the commitment and reason not to count.
PREVIEW = [
    ({"ChargeSubcategory": "On-Demand"}, "Usage", None, None),
    ({"ChargeSubcategory": "Used Commitment"}, "Usage", "Used", None),
    ({"ChargeSubcategory": "Unused Commitment"}, "Usage", "Unused", "commitment_unused"),
    ({"ChargeCategory": "Adjustment", "ChargeSubcategory": "Refund"}, "Adjustment", None, "refund_money"),
    ({"ChargeCategory": "Adjustment", "ChargeSubcategory": "Credit"}, "Adjustment", None, "credit"),
    ({"ChargeCategory": "Adjustment", "ChargeSubcategory": "Rounding Error"}, "Adjustment", None, "rounding"),
    (
        {"ChargeCategory": "Adjustment", "ChargeSubcategory": "General Adjustment"},
        "Adjustment",
        None,
        "adjustment_money",
    ),
]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> OneBill:
    rows = [focus_row(**changed) for changed, *_ in BLOCKS]
    return OneBill(tmp_path_factory.mktemp("blocks"), "focus", rows)


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> OneBill:
    rows = [focus_row(**changed) for changed, *_ in PREVIEW]
    return OneBill(tmp_path_factory.mktemp("preview"), "focus", rows)


@pytest.mark.parametrize(("changed", "quantity", "rule"), BLOCKS)
def test_the_price_tells_blocks_from_units(blocks: OneBill, changed: dict[str, str], quantity: str, rule: str) -> None:
    line = blocks.line(focus_row(**changed))
    assert line["x_NormQuantity"] == Decimal(quantity)
    assert line["x_UnitRule"] == rule
    assert line["ConsumedQuantity"] == (Decimal(changed["ConsumedQuantity"]) if changed["ConsumedQuantity"] else None)


def test_without_consumed_quantity_the_priced_one_and_its_unit_count(engine: Engine, tmp_path: Path) -> None:
    line = _line(engine, tmp_path, ConsumedQuantity="", ConsumedUnit="Units", PricingQuantity="7", PricingUnit="Hours")
    assert (line["x_NormQuantity"], line["x_NormUnit"]) == (Decimal(7), "Hours")


def test_aws_focus_1_2_names_the_usage_type_as_meter(engine: Engine, tmp_path: Path) -> None:
    line = _line(
        engine, tmp_path, ProviderName="AWS", PublisherName="AWS", SkuMeter="EUC1-BoxUsage:m5.xlarge",
        x_ServiceCode="AmazonEC2", x_Operation="RunInstances", RegionId="eu-central-1",
    )  # fmt: skip
    found = [line[n] for n in ("x_Provider", "x_ServiceCode", "x_UsageType", "x_Operation", "x_InstanceType")]
    assert found == ["aws", "AmazonEC2", "EUC1-BoxUsage:m5.xlarge", "RunInstances", "m5.xlarge"]


def test_another_publisher_is_a_marketplace_but_not_the_providers_own_short_name(
    engine: Engine, tmp_path: Path
) -> None:
    own = _line(engine, tmp_path, ProviderName="Microsoft Azure", PublisherName="Microsoft")
    other = _line(engine, tmp_path, PublisherName="Cloud Monitoring GmbH")
    assert own["x_Disposition"] == "countable"
    assert other["x_DispositionReason"] == "marketplace_software"


def test_google_commitment_fees_repeat_usage_and_are_not_counted(engine: Engine, tmp_path: Path) -> None:
    google = {"ProviderName": "Google Cloud", "PublisherName": "Google"}
    fee = _line(engine, tmp_path, **google, ChargeDescription="Commitment v1: Cpu in Frankfurt for 1 Year")
    assert fee["x_DispositionReason"] == "commitment_fee"
    assert _line(engine, tmp_path, ChargeDescription="Commitment ceremony hall")["x_Disposition"] == "countable"


@pytest.mark.parametrize(("changed", "category", "status", "reason"), PREVIEW)
def test_the_preview_of_focus_1_0_tells_commitments_and_adjustments_by_subcategory(
    preview: OneBill, changed: dict[str, str], category: str, status: str | None, reason: str | None
) -> None:
    line = preview.line(focus_row(**changed))
    found = (line["ChargeCategory"], line["CommitmentDiscountStatus"], line["x_DispositionReason"])
    assert found == (category, status, reason)


def test_details_of_microsoft_tell_the_machine_under_old_and_new_names(engine: Engine, tmp_path: Path) -> None:
    told = [
        {"x_SkuDetails": '{"ServiceType":"Standard_D4s_v5","VCPUs":4}'},
        {"x_SkuDetails": '"ServiceType":"Standard_D4s_v5","VCPUs":4'},
        {"SkuPriceDetails": '{"InstanceType":"Standard_D4s_v5","CoreCount":4}'},
        {"SkuPriceDetails": '{"x_ServiceType":"Standard_D4s_v5","x_VCPUs":4}'},
        {"SkuPriceDetails": '{"x_ServiceType":"SQLThreatDetection"}'},
    ]
    path = write_bill(tmp_path / "bill.csv", [focus_row(**row) for row in told])
    found = lines(engine, path, "focus")
    assert found["x_InstanceType"].to_pylist() == ["Standard_D4s_v5"] * 4 + [None]
    assert found["x_VCpus"].to_pylist() == [4] * 4 + [None]


def test_idle_reserved_capacity_is_told_by_the_resource_where_no_column_does(engine: Engine, tmp_path: Path) -> None:
    details = {"x_SkuDetails": '{"VMCapacityReservationId":"f8b4"}'}
    idle = {"x_ResourceType": "Microsoft.Compute/capacityReservationGroups/capacityReservations"}
    rows = [focus_row(**details, **idle), focus_row(**details), focus_row(CapacityReservationStatus="Unused")]
    path = write_bill(tmp_path / "bill.csv", rows)
    found = lines(engine, path, "focus")
    assert found["CapacityReservationStatus"].to_pylist() == ["Unused", "Used", "Unused"]
    assert found["x_Disposition"].to_pylist() == ["countable"] * 3
