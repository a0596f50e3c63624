"""Large FOCUS 1.2 bills as AWS exports them: the rows of the large CUR under FOCUS names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offgridflow_pipeline.demo.amazon.layouts import focus_columns
from offgridflow_pipeline.demo.volume import cur
from offgridflow_pipeline.demo.volume.draws import Chunk

#: FOCUS column <- column of CUR 2.0.
_RENAMED = {
    "InvoiceIssuerName": "bill_invoicing_entity",
    "InvoiceId": "bill_invoice_id",
    "BillingAccountId": "bill_payer_account_id",
    "SubAccountId": "line_item_usage_account_id",
    "BillingPeriodStart": "bill_billing_period_start_date",
    "BillingPeriodEnd": "bill_billing_period_end_date",
    "ChargePeriodStart": "line_item_usage_start_date",
    "ChargePeriodEnd": "line_item_usage_end_date",
    "ChargeDescription": "line_item_line_item_description",
    "BilledCost": "line_item_unblended_cost",
    "EffectiveCost": "line_item_unblended_cost",
    "ListCost": "pricing_public_on_demand_cost",
    "ContractedCost": "pricing_public_on_demand_cost",
    "ListUnitPrice": "pricing_public_on_demand_rate",
    "ContractedUnitPrice": "pricing_public_on_demand_rate",
    "BillingCurrency": "line_item_currency_code",
    "PricingCurrency": "line_item_currency_code",
    "ServiceName": "product_product_name",
    "x_ServiceCode": "line_item_product_code",
    "ConsumedQuantity": "line_item_usage_amount",
    "ConsumedUnit": "pricing_unit",
    "PricingQuantity": "line_item_usage_amount",
    "PricingUnit": "pricing_unit",
    "RegionId": "product_region_code",
    "RegionName": "product_location",
    "AvailabilityZone": "line_item_availability_zone",
    "ResourceId": "line_item_resource_id",
    "ResourceType": "product_product_family",
    "SkuMeter": "line_item_usage_type",
    "x_Operation": "line_item_operation",
}
_CONSTANT = {
    "ProviderName": "AWS",
    "PublisherName": "AWS",
    "ChargeCategory": "Usage",
    "ChargeFrequency": "Usage-Based",
    "PricingCategory": "Standard",
}
_RESERVATION = "arn:aws:ec2:us-east-1:503918462277:reserved-instances/0d9f8a77-2b6d-4b69-8f51-6e8fd7f5e611"


def chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of the export."""
    for chunk in cur.text_chunks(rows, generator, accounts, days):
        yield Chunk(_focus(chunk.table), chunk.cost, has_json=True)


def _focus(rows: pa.Table) -> pa.Table:
    reserved = pc.equal(rows["line_item_line_item_type"], "DiscountedUsage")
    machine = rows["product_instance_type"]
    details = _json({"InstanceType": machine, "CoreCount": rows["product_vcpu"]}, '"OperatingSystem": "Linux"')
    values = {name: rows[column] for name, column in _RENAMED.items()}
    values |= {name: pa.repeat(value, rows.num_rows) for name, value in _CONSTANT.items()}
    values |= {
        "CommitmentDiscountId": _where(reserved, _RESERVATION),
        "CommitmentDiscountType": _where(reserved, "Reserved Instance"),
        "CommitmentDiscountCategory": _where(reserved, "Usage"),
        "CommitmentDiscountStatus": _where(reserved, "Used"),
        "SkuPriceDetails": pc.if_else(pc.is_valid(machine), details, pa.scalar(None, pa.string())),
        "Tags": _json({"user:team": rows["user_team"]}, '"user:environment": "production"'),
    }
    nothing = pa.nulls(rows.num_rows, pa.string())
    return pa.table({name: values.get(name, nothing) for name in focus_columns()})


def _where(condition: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    return pc.if_else(condition, text, pa.scalar(None, pa.string()))


def _json(members: dict[str, pa.ChunkedArray], last: str) -> pa.ChunkedArray:
    """A JSON object of the members that are there, and a last one that always is."""
    parts = [
        pc.coalesce(pc.binary_join_element_wise(f'"{key}": "', value, '", ', ""), "") for key, value in members.items()
    ]
    return pc.binary_join_element_wise("{", *parts, last + "}", "")
