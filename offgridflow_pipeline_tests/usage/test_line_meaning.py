"""What a billed row means: disposition with reason, region, instance, commitment; the cost always stays."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import OneBill, cur_row, focus_row, one_line

RESERVATION = "arn:aws:ec2:eu-central-1:1:reserved-instances/7"


#: What a row says, and what it must mean.
AWS_ROWS = [
    ({}, "Usage", None),
    ({"lineItem__LineItemType": "DiscountedUsage"}, "Usage", None),
    ({"lineItem__LineItemType": "SavingsPlanCoveredUsage"}, "Usage", None),
    ({"lineItem__LineItemType": "FlatRateSubscription"}, "Usage", None),
    ({"lineItem__LineItemType": "Tax", "lineItem__UsageAmount": "1.0"}, "Tax", "tax"),
    ({"lineItem__LineItemType": "Credit"}, "Credit", "credit"),
    ({"lineItem__LineItemType": "Refund"}, "Credit", "refund_money"),
    ({"lineItem__LineItemType": "RIFee"}, "Purchase", "commitment_fee"),
    ({"lineItem__LineItemType": "SavingsPlanRecurringFee"}, "Purchase", "commitment_fee"),
    ({"lineItem__LineItemType": "SavingsPlanUpfrontFee"}, "Purchase", "commitment_fee"),
    ({"lineItem__LineItemType": "SavingsPlanNegation"}, "Adjustment", "commitment_negation"),
    ({"lineItem__LineItemType": "Fee"}, "Purchase", "fee"),
    ({"lineItem__LineItemType": "Fee", "reservation/ReservationARN": RESERVATION}, "Purchase", "commitment_fee"),
    ({"lineItem__LineItemType": "EdpDiscount"}, "Credit", "discount"),
    ({"lineItem__LineItemType": "SomeNewDiscount"}, "Credit", "discount"),
    ({"lineItem__LineItemType": "NeverSeenBefore"}, "Adjustment", "fee"),
    ({"bill__BillingEntity": "AWS Marketplace", "lineItem__UsageType": "SoftwareUsage:t2.nano"}, "Usage", "marketplace_software"),
    ({"lineItem__UsageType": "EUC1-EarlyDelete-ByteHrs", "pricing__unit": "GB-Mo"}, "Usage", "early_delete"),
    ({"splitLineItem/ParentResourceId": "i-parent"}, "Usage", "split_child"),
    ({"lineItem__UsageAmount": "0.0"}, "Usage", "zero_quantity"),
    ({"lineItem__UsageAmount": "-3"}, "Usage", None),
]  # fmt: skip
AWS_REGIONS = [
    ({}, "eu-central-1"),
    ({"product__regionCode": "", "product/region": "us-gov-west-1"}, "us-gov-west-1"),
    (
        {
            "product__regionCode": "",
            "lineItem__UsageType": "BoxUsage:m5.large",
            "lineItem/AvailabilityZone": "ap-south-1b",
        },
        "ap-south-1",
    ),
    ({"product__regionCode": "", "lineItem__UsageType": "CAN1-BoxUsage:m5.large"}, "ca-central-1"),
    ({"product__regionCode": "", "lineItem__UsageType": "BoxUsage:m5.large", "product/region": "global"}, None),
]
AWS_COSTS = [
    ({}, "5.52"),
    ({"lineItem__LineItemType": "DiscountedUsage", "reservation/EffectiveCost": "3.1"}, "3.1"),
    ({"lineItem__LineItemType": "SavingsPlanCoveredUsage", "savingsPlan/SavingsPlanEffectiveCost": "2.5"}, "2.5"),
    ({"lineItem__LineItemType": "SavingsPlanNegation"}, "0"),
    (
        {"lineItem__LineItemType": "RIFee", "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "1.25",
         "reservation/UnusedRecurringFee": "0.5"},
        "1.75",
    ),
]  # fmt: skip
FOCUS_ROWS = [
    ({}, "Usage", None),
    ({"ChargeCategory": "usage"}, "Usage", None),
    ({"ChargeClass": "Correction", "ConsumedQuantity": "-24"}, "Usage", None),
    ({"CommitmentDiscountStatus": "Used"}, "Usage", None),
    ({"CommitmentDiscountStatus": "Unused"}, "Usage", "commitment_unused"),
    ({"CapacityReservationStatus": "Unused"}, "Usage", None),
    ({"ConsumedQuantity": "0"}, "Usage", "zero_quantity"),
    ({"PublisherName": "Some Vendor"}, "Usage", "marketplace_software"),
    ({"ChargeCategory": "Purchase"}, "Purchase", "fee"),
    ({"ChargeCategory": "Purchase", "CommitmentDiscountId": "r-1"}, "Purchase", "commitment_fee"),
    ({"ChargeCategory": "Tax"}, "Tax", "tax"),
    ({"ChargeCategory": "Credit"}, "Credit", "credit"),
    ({"ChargeCategory": "Credit", "ChargeClass": "Correction"}, "Credit", "refund_money"),
    ({"ChargeCategory": "Adjustment"}, "Adjustment", "adjustment_money"),
]
FOCUS_REGIONS = [
    ({}, "westeurope"),
    ({"RegionId": "West Europe"}, "westeurope"),
    ({"RegionId": "", "RegionName": "North Europe"}, "northeurope"),
]
AWS_MACHINES = [
    ("EUC1-BoxUsage:m5.xlarge", "m5.xlarge"),
    ("SpotUsage:c6g.4xlarge", "c6g.4xlarge"),
    ("EUC1-InstanceUsage:db.r5.large", "db.r5.large"),
    ("EUC1-NodeUsage:cache.t3.micro", "cache.t3.micro"),
    ("EUC1-DataTransfer-Out-Bytes", None),
]


def _machine(usage_type: str) -> dict[str, str]:
    return cur_row(lineItem__UsageType=usage_type, product__instanceType="")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> OneBill:
    rows = [cur_row(**changed) for changed, *_ in (*AWS_ROWS, *AWS_REGIONS, *AWS_COSTS)]
    machines = [_machine(usage_type) for usage_type, _ in AWS_MACHINES]
    return OneBill(tmp_path_factory.mktemp("aws"), "cur", [*rows, *machines])


@pytest.fixture(scope="module")
def focus(tmp_path_factory: pytest.TempPathFactory) -> OneBill:
    rows = [focus_row(**changed) for changed, *_ in (*FOCUS_ROWS, *FOCUS_REGIONS)]
    return OneBill(tmp_path_factory.mktemp("focus"), "focus", rows)


@pytest.mark.parametrize(("changed", "category", "reason"), AWS_ROWS)
def test_an_aws_row_counts_or_says_why_not_and_keeps_its_cost(
    aws: OneBill, changed: dict[str, str], category: str, reason: str | None
) -> None:
    line = aws.line(cur_row(**changed))
    assert (line["ChargeCategory"], line["x_DispositionReason"]) == (category, reason)
    assert line["x_Disposition"] == ("countable" if reason is None else "no_emission")
    assert line["BilledCost"] == Decimal("5.52")


@pytest.mark.parametrize(("changed", "category", "reason"), FOCUS_ROWS)
def test_a_focus_row_counts_or_says_why_not_and_keeps_its_cost(
    focus: OneBill, changed: dict[str, str], category: str, reason: str | None
) -> None:
    line = focus.line(focus_row(**changed))
    assert (line["ChargeCategory"], line["x_DispositionReason"]) == (category, reason)
    assert line["x_Disposition"] == ("countable" if reason is None else "no_emission")
    assert line["BilledCost"] == Decimal("4.6")


@pytest.mark.parametrize(("changed", "region"), AWS_REGIONS)
def test_the_region_of_an_aws_row(aws: OneBill, changed: dict[str, str], region: str | None) -> None:
    assert aws.line(cur_row(**changed))["RegionId"] == region


@pytest.mark.parametrize(("changed", "region"), FOCUS_REGIONS)
def test_the_region_of_a_focus_row(focus: OneBill, changed: dict[str, str], region: str) -> None:
    assert focus.line(focus_row(**changed))["RegionId"] == region


@pytest.mark.parametrize(("usage_type", "instance"), AWS_MACHINES)
def test_the_instance_type_is_read_from_the_usage_type_when_no_column_states_it(
    aws: OneBill, usage_type: str, instance: str | None
) -> None:
    assert aws.line(_machine(usage_type))["x_InstanceType"] == instance


def test_the_charge_period_is_the_time_interval_and_not_the_usage_dates(engine: Engine, tmp_path: Path) -> None:
    row = cur_row(lineItem__UsageStartDate="2026-10-05T00:00:00Z", lineItem__UsageEndDate="2026-10-05T01:00:00Z")
    line = one_line(engine, tmp_path, "cur", row)
    assert line["ChargePeriodEnd"].isoformat() == "2026-10-06T00:00:00+00:00"


def test_an_unused_capacity_reservation_counts_and_is_marked(engine: Engine, tmp_path: Path) -> None:
    line = one_line(engine, tmp_path, "cur", cur_row(lineItem__UsageType="EUC1-UnusedBox:m5.xlarge"))
    assert (line["CapacityReservationStatus"], line["x_Disposition"]) == ("Unused", "countable")


@pytest.mark.parametrize(("changed", "effective"), AWS_COSTS)
def test_the_amortised_cost_of_an_aws_row(aws: OneBill, changed: dict[str, str], effective: str) -> None:
    line = aws.line(cur_row(**changed))
    assert line["EffectiveCost"] == Decimal(effective)
    assert line["BilledCost"] == Decimal("5.52")


def test_the_machine_of_an_aws_row_has_its_size(engine: Engine, tmp_path: Path) -> None:
    line = one_line(engine, tmp_path, "cur", cur_row(product__memory="1,952 GiB"))
    assert (line["x_VCpus"], line["x_MemoryGiB"]) == (4, 1952)


def test_an_azure_subscription_and_resource_are_folded_to_one_spelling(engine: Engine, tmp_path: Path) -> None:
    line = one_line(engine, tmp_path, "focus", focus_row(ResourceId="/SUBSCRIPTIONS/0A1B/vm1"))
    assert (line["SubAccountId"], line["ResourceId"]) == ("0a1b", "/subscriptions/0a1b/vm1")
    assert line["x_Provider"] == "azure"


def test_the_provider_column_of_focus_1_4_means_the_same_as_the_older_one(engine: Engine, tmp_path: Path) -> None:
    renamed = {("ServiceProviderName" if k == "ProviderName" else k): v for k, v in focus_row().items()}
    assert one_line(engine, tmp_path, "focus", renamed)["ServiceProviderName"] == "Microsoft"
