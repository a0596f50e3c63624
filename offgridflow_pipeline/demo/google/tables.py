"""The exports of a Google Cloud bill as Arrow tables: detailed, standard and FOCUS 1.2, nested as in BigQuery.

Schemas follow Google Cloud's pages on the standard, detailed and FOCUS export; the standard export lacks resources
and subscriptions (billing-feeds.md 6.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa

from offgridflow_pipeline.demo.google.charges import charged
from offgridflow_pipeline.demo.google.metering import PACIFIC, month_after
from offgridflow_pipeline.demo.google.usage import Row

_TEXT, _FLOAT, _NUMERIC = pa.string(), pa.float64(), pa.decimal128(38, 9)
_TIME = pa.timestamp("us", tz="UTC")


def _record(**members: pa.DataType) -> pa.DataType:
    return pa.struct(list(members.items()))


def _texts(*names: str) -> pa.DataType:
    return _record(**dict.fromkeys(names, _TEXT))


_LABELS = pa.list_(_texts("key", "value"))
DETAILED = pa.schema(
    {
        "billing_account_id": _TEXT,
        "service": _texts("id", "description"),
        "sku": _texts("id", "description"),
        "usage_start_time": _TIME,
        "usage_end_time": _TIME,
        "project": _record(
            id=_TEXT, number=_TEXT, name=_TEXT, labels=_LABELS, ancestry_numbers=_TEXT,
            ancestors=pa.list_(_texts("resource_name", "display_name")),
        ),
        "labels": _LABELS,
        "system_labels": _LABELS,
        "location": _texts("location", "country", "region", "zone"),
        "resource": _texts("name", "global_name"),
        "tags": pa.list_(_record(key=_TEXT, value=_TEXT, inherited=pa.bool_(), namespace=_TEXT)),
        "price": _record(
            list_price=_NUMERIC, effective_price_default=_NUMERIC, list_price_consumption_model=_NUMERIC,
            effective_price=_NUMERIC, tier_start_amount=_NUMERIC, unit=_TEXT, pricing_unit_quantity=_NUMERIC,
        ),
        "subscription": _texts("instance_id"),
        "transaction_type": _TEXT,
        "seller_name": _TEXT,
        "export_time": _TIME,
        "cost": _FLOAT,
        "currency": _TEXT,
        "currency_conversion_rate": _FLOAT,
        "usage": _record(amount=_FLOAT, unit=_TEXT, amount_in_pricing_units=_FLOAT, pricing_unit=_TEXT),
        "credits": pa.list_(_record(name=_TEXT, amount=_FLOAT, full_name=_TEXT, id=_TEXT, type=_TEXT)),
        "invoice": _texts("month", "publisher_type"),
        "cost_type": _TEXT,
        "adjustment_info": _texts("id", "description", "mode", "type"),
        "cost_at_list": _FLOAT,
        "cost_at_effective_price_default": _NUMERIC,
        "cost_at_list_consumption_model": _NUMERIC,
        "consumption_model": _texts("id", "description"),
    }
)  # fmt: skip
STANDARD = pa.schema([field for field in DETAILED if field.name not in ("resource", "subscription")])
_PAIRS = pa.list_(_texts("Key", "Value"))
FOCUS = pa.schema(
    dict.fromkeys(
        (
            "AvailabilityZone", "BillingAccountId", "BillingAccountType", "BillingCurrency", "ChargeCategory",
            "ChargeClass", "ChargeDescription", "ConsumedUnit", "PricingCategory", "PricingCurrency", "PricingUnit",
            "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ServiceName",
            "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "x_CostType", "x_Location", "x_ServiceId",
            "x_SubscriptionInstanceId", "x_ConsumptionModelId", "x_ConsumptionModelDescription",
        ),
        _TEXT,
    )
    | dict.fromkeys(
        ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "x_ExportTime"), _TIME
    )
    | dict.fromkeys(
        (
            "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice", "ContractedUnitPrice",
            "ConsumedQuantity", "PricingQuantity", "PricingCurrencyContractedUnitPrice",
            "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "x_PriceEffectivePriceDefault",
            "x_PriceListPriceConsumptionModel", "x_CostAtEffectivePriceDefault", "x_CostAtListConsumptionModel",
        ),
        _NUMERIC,
    )
    | {
        "x_Credits": pa.list_(_record(Name=_TEXT, Amount=_NUMERIC, FullName=_TEXT, Id=_TEXT, Type=_TEXT)),
        "x_CurrencyConversionRate": _FLOAT,
        "x_Project": _record(
            Id=_TEXT, Number=_TEXT, Name=_TEXT, AncestryNumbers=_TEXT,
            Ancestors=pa.list_(_texts("ResourceName", "DisplayName")),
        ),
        "x_SystemLabels": _PAIRS,
        "x_Labels": _PAIRS,
        "x_ProjectLabels": _PAIRS,
        "x_Tags": pa.list_(_record(Key=_TEXT, Value=_TEXT, x_Inherited=pa.bool_(), x_Namespace=_TEXT)),
    }
)  # fmt: skip
_CHARGES = {"regular": "Usage", "tax": "Tax", "adjustment": "Adjustment", "rounding_error": "Adjustment"}


def table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """The rows as the detailed or the standard export."""
    return pa.Table.from_pylist(list(rows), schema=schema)


def focus_table(rows: Sequence[Row]) -> pa.Table:
    """The rows as the FOCUS export: every charge is Usage, Tax or Adjustment, and there are no tags of its own."""
    return pa.Table.from_pylist(list(_focus_rows(rows)), schema=FOCUS)


def _focus_rows(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        service, sku, location = _part(row, "service"), _part(row, "sku"), _part(row, "location")
        project, resource, price = _part(row, "project"), _part(row, "resource"), _part(row, "price")
        used, invoice, model = _part(row, "usage"), _part(row, "invoice"), _part(row, "consumption_model")
        start, end = _period(str(invoice["month"]))
        cost = charged(row)
        yield {
            "BillingAccountId": row["billing_account_id"],
            "BillingAccountType": "Billing Account",
            "BillingCurrency": row["currency"],
            "BillingPeriodStart": start,
            "BillingPeriodEnd": end,
            "ChargePeriodStart": row["usage_start_time"],
            "ChargePeriodEnd": row["usage_end_time"],
            "ChargeCategory": _CHARGES[str(row["cost_type"])],
            "ChargeClass": "Correction" if row.get("adjustment_info") else None,
            "ChargeDescription": sku["description"],
            "ServiceName": service["description"],
            "x_ServiceId": service["id"],
            "SkuId": sku["id"],
            "SkuPriceId": f"{sku['id']}/0",
            "ConsumedQuantity": Decimal(str(used["amount"])).quantize(Decimal("1e-9")),
            "ConsumedUnit": used["unit"],
            "PricingQuantity": Decimal(str(used["amount_in_pricing_units"])).quantize(Decimal("1e-9")),
            "PricingUnit": used["pricing_unit"],
            "PricingCategory": "Standard",
            "PricingCurrency": "USD",
            "BilledCost": cost,
            "EffectiveCost": cost,
            "ListCost": Decimal(str(row["cost_at_list"])),
            "ContractedCost": Decimal(str(row["cost"])),
            "ListUnitPrice": price.get("list_price"),
            "ContractedUnitPrice": price.get("effective_price"),
            "AvailabilityZone": location.get("zone"),
            "RegionId": location.get("region"),
            "RegionName": location.get("region"),
            "x_Location": location.get("location"),
            "ResourceId": resource.get("global_name"),
            "ResourceName": resource.get("name"),
            "SubAccountId": project.get("id"),
            "SubAccountName": project.get("name"),
            "PublisherName": row.get("seller_name"),
            "x_CostType": row["cost_type"],
            "x_ExportTime": row["export_time"],
            "x_CurrencyConversionRate": row["currency_conversion_rate"],
            "x_SubscriptionInstanceId": _part(row, "subscription").get("instance_id"),
            "x_ConsumptionModelId": model.get("id"),
            "x_ConsumptionModelDescription": model.get("description"),
            "x_CostAtListConsumptionModel": row.get("cost_at_list_consumption_model"),
            "x_Credits": [
                {"Name": c["name"], "Amount": Decimal(str(c["amount"])), "Id": c["id"], "Type": c["type"]}
                for c in _members(row, "credits")
            ],
            "x_Project": _focus_project(project),
            "x_SystemLabels": _pairs(_members(row, "system_labels")),
            "x_Labels": _pairs(_members(row, "labels")),
            "x_ProjectLabels": _pairs(_members(project, "labels")),
            "x_Tags": [
                {
                    "Key": tag["key"], "Value": tag["value"], "x_Inherited": tag["inherited"],
                    "x_Namespace": tag["namespace"],
                }
                for tag in _members(row, "tags")
            ],
        }  # fmt: skip


def _focus_project(project: Row) -> Row | None:
    if not project:
        return None
    return {
        "Id": project["id"],
        "Number": project["number"],
        "Name": project["name"],
        "AncestryNumbers": project["ancestry_numbers"],
        "Ancestors": [
            {"ResourceName": a["resource_name"], "DisplayName": a["display_name"]}
            for a in _members(project, "ancestors")
        ],
    }


def _pairs(labels: Sequence[Row]) -> list[Row]:
    return [{"Key": label["key"], "Value": label["value"]} for label in labels]


def _part(row: Row, name: str) -> Row:
    found = row.get(name)
    return found if isinstance(found, dict) else {}


def _members(row: Row, name: str) -> list[Row]:
    found = row.get(name)
    return found if isinstance(found, list) else []


def _period(month: str) -> tuple[datetime, datetime]:
    """The invoice month, which is one of the Pacific."""
    start, end = (
        datetime(int(m[:4]), int(m[4:]), 1, tzinfo=PACIFIC).astimezone(UTC) for m in (month, month_after(month))
    )
    return start, end
