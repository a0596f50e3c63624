"""The layouts of an AWS bill: CUR 2.0 as a Parquet table, legacy CUR and FOCUS 1.2 as rows of text.

Legacy headers are those of real reports; FOCUS follows AWS's export (billing-feeds.md 4.3): the usage type is
its SkuMeter, negations disappear, covered usage is billed at 0 and unused commitments are rows of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache

import pyarrow as pa

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.amazon.usage import Row

TextRow = dict[str, str]

_ARROW = {
    "string": pa.string(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("ms"),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}
_SERVICE_CATEGORIES = {
    "AmazonEC2": "Compute", "AmazonRDS": "Databases", "AmazonS3": "Storage", "AWSLambda": "Compute",
    "ComputeSavingsPlans": "Compute",
}  # fmt: skip
_CHARGE_CATEGORIES = {
    "Usage": "Usage", "DiscountedUsage": "Usage", "SavingsPlanCoveredUsage": "Usage", "RIFee": "Purchase",
    "SavingsPlanRecurringFee": "Purchase", "Fee": "Purchase", "Tax": "Tax", "Credit": "Credit", "Refund": "Credit",
    "EdpDiscount": "Credit",
}  # fmt: skip
_COMMITTED = {
    "DiscountedUsage": ("reservation_reservation_a_r_n", "Reserved Instance", "Usage"),
    "RIFee": ("reservation_reservation_a_r_n", "Reserved Instance", "Usage"),
    "SavingsPlanCoveredUsage": ("savings_plan_savings_plan_a_r_n", "Compute Savings Plan", "Spend"),
    "SavingsPlanRecurringFee": ("savings_plan_savings_plan_a_r_n", "Compute Savings Plan", "Spend"),
}
_PRICING = {"Reserved": "Committed", "Spot": "Dynamic"}


def cur2_columns() -> list[tuple[str, str]]:
    """(name, type) of every column of a CUR 2.0 export, in its order."""
    return [(row["name"], row["type"]) for row in fleet.rows("cur2_columns.csv")]


def cur2_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as the Parquet table of a data export (DOUBLE costs, MAP products and tags)."""
    arrays, fields = [], []
    for name, kind in cur2_columns():
        values = [row.get(name) for row in rows]
        if kind == "double":
            values = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
        elif kind.startswith("map"):
            values = [list(value.items()) if isinstance(value, dict) else [] for value in values]
        arrays.append(pa.array(values, _ARROW[kind]))
        fields.append(pa.field(name, _ARROW[kind]))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


@cache
def legacy_headers() -> dict[str, str]:
    """Column of each legacy header; ``product.vcpu`` is a member of a map column."""
    return {row["header"]: row["column"] for row in fleet.rows("cur_columns.csv")}


def legacy_rows(rows: Sequence[Row]) -> Iterator[TextRow]:
    """The rows of a legacy report; it has no account names."""
    for row in rows:
        yield {header: _text(_member(row, column)) for header, column in legacy_headers().items()}


def focus_columns() -> list[str]:
    """Every column of the FOCUS 1.2 export, in its order."""
    return [row["name"] for row in fleet.rows("focus_1_2_amazon_columns.csv")]


def focus_rows(rows: Sequence[Row]) -> Iterator[TextRow]:
    """The same bill as a FOCUS 1.2 export."""
    for row in rows:
        kind = str(row["line_item_line_item_type"])
        if kind == "SavingsPlanNegation":
            continue
        focus = _focus(row, kind)
        yield {column: _text(value) for column, value in focus.items()}
        unused = _unused_cost(row, kind)
        if unused > 0:
            yield {column: _text(value) for column, value in (focus | _unused(unused)).items()}


def _focus(row: Row, kind: str) -> Row:
    category = _CHARGE_CATEGORIES[kind]
    cost = Decimal(str(row["line_item_unblended_cost"]))
    product = row.get("product")
    attributes = product if isinstance(product, dict) else {}
    start, end = str(row["identity_time_interval"]).split("/")
    seller = row["line_item_legal_entity"] if row["bill_billing_entity"] == "AWS Marketplace" else "AWS"
    focus: Row = {
        "ProviderName": "AWS",
        "PublisherName": seller,
        "InvoiceIssuerName": row["bill_invoicing_entity"],
        "InvoiceId": row["bill_invoice_id"],
        "BillingAccountId": row["bill_payer_account_id"],
        "BillingAccountName": row["bill_payer_account_name"],
        "BillingAccountType": "Payer Account",
        "SubAccountId": row["line_item_usage_account_id"],
        "SubAccountName": row["line_item_usage_account_name"],
        "SubAccountType": "Linked Account",
        "BillingPeriodStart": row["bill_billing_period_start_date"],
        "BillingPeriodEnd": row["bill_billing_period_end_date"],
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end if category == "Usage" else row["line_item_usage_end_date"],
        "ChargeCategory": category,
        "ChargeFrequency": "Usage-Based" if category == "Usage" else "Recurring" if "Fee" in kind else "One-Time",
        "ChargeDescription": row.get("line_item_line_item_description"),
        "BilledCost": Decimal(0) if kind in ("SavingsPlanCoveredUsage", "DiscountedUsage") else cost,
        "EffectiveCost": _effective(row, kind, cost),
        "ListCost": row.get("pricing_public_on_demand_cost", cost),
        "ContractedCost": row.get("pricing_public_on_demand_cost", cost),
        "ListUnitPrice": row.get("pricing_public_on_demand_rate"),
        "ContractedUnitPrice": row.get("pricing_public_on_demand_rate"),
        "BillingCurrency": row["line_item_currency_code"],
        "PricingCurrency": row["line_item_currency_code"],
        "ServiceName": attributes.get("product_name", row["line_item_product_code"]),
        "ServiceCategory": _SERVICE_CATEGORIES.get(str(row["line_item_product_code"]), "Other"),
        "x_ServiceCode": row["line_item_product_code"],
    }
    if category == "Usage":
        focus |= _metered(row, attributes)
    if kind in _COMMITTED:
        column, name, unit = _COMMITTED[kind]
        focus |= {
            "CommitmentDiscountId": row[column],
            "CommitmentDiscountType": name,
            "CommitmentDiscountCategory": unit,
            "CommitmentDiscountStatus": "Used" if category == "Usage" else None,
            "PricingCategory": "Committed",
        }
    return focus


def _metered(row: Row, attributes: dict[str, str]) -> Row:
    details = {
        key: value
        for key, value in {
            "InstanceType": row.get("product_instance_type"),
            "CoreCount": int(attributes["vcpu"]) if "vcpu" in attributes else None,
            "MemorySize": attributes.get("memory", "").removesuffix(" GiB") or None,
            "OperatingSystem": attributes.get("operating_system"),
        }.items()
        if value
    }
    zone = row.get("line_item_availability_zone")
    return {
        "ConsumedQuantity": row["line_item_usage_amount"],
        "ConsumedUnit": row.get("pricing_unit"),
        "PricingQuantity": row["line_item_usage_amount"],
        "PricingUnit": row.get("pricing_unit"),
        "PricingCategory": _PRICING.get(str(row.get("pricing_term")), "Standard"),
        "RegionId": row.get("product_region_code"),
        "RegionName": row.get("product_location"),
        "AvailabilityZone": zone,
        "ResourceId": row.get("line_item_resource_id"),
        "ResourceType": row.get("product_product_family"),
        "SkuId": row.get("product_sku"),
        "SkuPriceId": row.get("pricing_rate_code"),
        "SkuMeter": row["line_item_usage_type"],
        "SkuPriceDetails": json.dumps(details) if details else None,
        "Tags": json.dumps(row.get("resource_tags") or {}),
        "x_Operation": row.get("line_item_operation"),
    }


def _effective(row: Row, kind: str, cost: Decimal) -> Decimal:
    if kind == "SavingsPlanCoveredUsage":
        return Decimal(str(row["savings_plan_savings_plan_effective_cost"]))
    if kind == "DiscountedUsage":
        return Decimal(str(row["reservation_effective_cost"]))
    return Decimal(0) if kind in _COMMITTED else cost


def _unused_cost(row: Row, kind: str) -> Decimal:
    """What of a commitment's fee no usage took."""
    if kind == "RIFee":
        return Decimal(str(row["reservation_unused_recurring_fee"]))
    if kind == "SavingsPlanRecurringFee":
        spent = Decimal(str(row["savings_plan_used_commitment"]))
        return Decimal(str(row["savings_plan_total_commitment_to_date"])) - spent
    return Decimal(0)


def _unused(cost: Decimal) -> Row:
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "BilledCost": Decimal(0),
        "EffectiveCost": cost,
        "ListCost": Decimal(0),
        "ContractedCost": Decimal(0),
        "CommitmentDiscountStatus": "Unused",
    }


def _member(row: Row, column: str) -> object:
    name, _, key = column.partition(".")
    value = row.get(name)
    return value.get(key) if key and isinstance(value, dict) else value


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
