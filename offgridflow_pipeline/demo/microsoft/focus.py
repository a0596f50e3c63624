"""The Azure bill of the fictional company: rows of Microsoft's FOCUS 1.2 export, daily.

Columns and habits are Microsoft's (billing-feeds.md 5.3 to 5.5): ARM paths in mixed case, meters in
x_Sku* columns, count blocks whose ConsumedQuantity counts blocks, disks as fractions of a month, reserved
rows with cost 0 and a full quantity, unused commitment rows, costs in the billing currency.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, FleetItem, billed
from offgridflow_pipeline.demo.microsoft.places import regions, subscriptions
from offgridflow_pipeline.months import month_days

Row = dict[str, str]

BILLING_ACCOUNT = "/providers/Microsoft.Billing/billingAccounts/88419027"
CURRENCY = "EUR"
EUR_PER_USD = Decimal("0.92")
RESERVATION_SHARE = Decimal("0.62")
SAVINGS_PLAN_SHARE = Decimal("0.80")
TAX_SHARE = Decimal("0.19")
_BENEFITS = {
    "reservation": (
        "/providers/Microsoft.Capacity/reservationOrders/5f7e6f5c-7cb4-44b8-9a2e-41fd3e0b7a10/reservations/"
        "0d9f8a77-2b6d-4b69-8f51-6e8fd7f5e611",
        "RI_E8s_v5_westeurope", "Reservation", "Usage", RESERVATION_SHARE,
    ),
    "savingsplan": (
        "/providers/Microsoft.BillingBenefits/savingsPlanOrders/7a1c54a6-4a61-4c94-8b6a-52a4e6d2d3f2/savingsPlans/"
        "c1d4f5b0-93f2-49a8-9bb8-3b1f2a9f0e44",
        "Compute_SavingsPlan_2026", "Savings Plan", "Spend", SAVINGS_PLAN_SHARE,
    ),
}  # fmt: skip
_UNITS = {
    "1 Hour": "Hours", "1/Hour": "Units/Hour", "1/Day": "Units/Day", "1/Month": "Units/Month", "1 GB": "GB",
    "1 GB/Month": "GB/Month", "1 GB Second": "GB Seconds", "10K": "Units", "1K": "Units", "10": "Units",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MicrosoftDelivery:
    """What one export run of a month holds; `special` adds the corrections and the credit."""

    month: str
    through: date
    special: bool = False


def columns() -> list[str]:
    """Every column of the export, in its order."""
    return [row["name"] for row in fleet.rows("focus_1_2_microsoft_columns.csv")]


def bill(delivery: MicrosoftDelivery, seed: int) -> list[Row]:
    """All rows of one export run."""
    days = [day for day in month_days(delivery.month) if day <= delivery.through]
    used = list(fleet.consumption(fleet.fleet("azure_fleet.csv"), "unit_description", days, seed))
    rows = [_usage_row(consumption, seed) for consumption in used]
    rows.extend(_unused_reservation(days))
    rows.extend(_purchases(delivery.month, days))
    if delivery.special:
        rows.append(_money(days[10], "Credit", "One-Time", Decimal("-120.00"), "Service credit, incident VKL2-7Q8"))
        vm = next(item for item in fleet.fleet("azure_fleet.csv") if item["purchase"] == "spot")
        corrected = _usage_row(Consumption(vm, 0, days[5], Decimal("-2.5")), seed)
        rows.append(corrected | {"ChargeClass": "Correction"})
    total = sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))
    first = month_days(delivery.month)[0]
    tax = (total * TAX_SHARE).quantize(Decimal("0.01"))
    rows.append(_money(first, "Tax", "One-Time", tax, "Value-added tax"))
    rounding = (total + tax).quantize(Decimal("0.01")) - (total + tax)
    rows.append(_money(first, "Adjustment", "One-Time", rounding, "Rounding adjustment"))
    return rows


def _usage_row(used: Consumption, seed: int) -> Row:
    item, purchase = used.item, used.item["purchase"]
    block = Decimal(item["block"])
    rate = billed(item.rate * EUR_PER_USD)
    benefit = _BENEFITS.get(purchase)
    list_cost = billed(used.quantity * rate)
    effective = billed(list_cost * benefit[4]) if benefit else list_cost
    subscription, name = subscriptions("main")[item["subscription"]]
    region = regions()[item["region"]]
    resource, resource_name, group = _resource(used, subscription, seed)
    marketplace = purchase == "marketplace"
    row = _common(used.day) | {
        "BilledCost": _text(Decimal(0) if benefit else effective),
        "EffectiveCost": _text(effective),
        "ListCost": _text(list_cost),
        "ContractedCost": _text(list_cost),
        "ListUnitPrice": _text(rate),
        "ContractedUnitPrice": _text(rate),
        "x_EffectiveUnitPrice": _text(billed(rate * benefit[4]) if benefit else rate),
        "x_BilledUnitPrice": "0" if benefit else _text(rate),
        "ConsumedQuantity": _text(used.quantity),
        "ConsumedUnit": _UNITS[item["unit_description"]],
        "PricingQuantity": _text(billed(used.quantity / block)),
        "PricingUnit": _UNITS[item["unit_description"]],
        "x_PricingBlockSize": item["block"],
        "x_PricingUnitDescription": item["unit_description"],
        "PricingCategory": "Committed" if benefit else "Dynamic" if purchase == "spot" else "Standard",
        "x_PricingSubcategory": "Spot" if purchase == "spot" else "",
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{item['meter_category']} - {item['meter_subcategory']} - {item['meter']}",
        "PublisherName": "Cloud Monitoring GmbH" if marketplace else "Microsoft",
        "x_PublisherCategory": "Vendor" if marketplace else "Cloud Provider",
        "RegionId": "" if item["region"] == "none" else item["region"],
        "RegionName": region["name"],
        "x_SkuRegion": region["sku_region"],
        "ResourceId": resource,
        "ResourceName": resource_name,
        "x_ResourceGroupName": group,
        "ResourceType": item["arm_type"].rsplit("/", 1)[-1],
        "x_ResourceType": item["arm_type"],
        "ServiceCategory": item["service_category"],
        "ServiceName": item["service_name"],
        "x_SkuServiceFamily": item["service_category"],
        "SubAccountId": f"/subscriptions/{subscription}",
        "SubAccountName": name,
        "SubAccountType": "Subscription",
        "SkuId": f"DZH318Z0{9000 + item.number}/00{item.number:02d}",
        "SkuPriceId": f"DZH318Z0{9000 + item.number}_00{item.number:02d}_{item['meter'].replace(' ', '')[:12]}",
        "SkuMeter": item["meter"],
        "x_SkuMeterId": str(uuid5(NAMESPACE_URL, f"{item['meter_category']}/{item['meter']}/{item['region']}")),
        "x_SkuMeterCategory": item["meter_category"],
        "x_SkuMeterSubcategory": item["meter_subcategory"],
        "x_SkuDescription": f"{item['meter_category']} {item['meter']} - {region['sku_region']}",
        "x_SkuIsCreditEligible": "False" if marketplace else "True",
        "SkuPriceDetails": _details(item),
        "Tags": json.dumps({"team": item["team"], "cost-center": f"CC-{100 + item.number % 7}"}),
    }
    return row | (_commitment(purchase, used.quantity, "Used") if benefit else {})


def _unused_reservation(days: list[date]) -> Iterator[Row]:
    """One reserved VM more than runs: its hours come as Usage rows with status Unused."""
    item = next(item for item in fleet.fleet("azure_fleet.csv") if item["purchase"] == "reservation")
    for day in days:
        row = _usage_row(Consumption(item, item.copies, day, Decimal(24)), 0)
        cost = billed(24 * item.rate * EUR_PER_USD * RESERVATION_SHARE)
        yield row | {
            "BilledCost": "0",
            "EffectiveCost": _text(cost),
            "ResourceId": "",
            "ResourceName": "",
            "x_ResourceGroupName": "",
            "Tags": "",
            "ChargeDescription": "Unused reservation",
            "CommitmentDiscountStatus": "Unused",
        }


def _purchases(month: str, days: list[date]) -> Iterator[Row]:
    """The monthly instalment of each commitment."""
    first = month_days(month)[0]
    hours = Decimal(24 * len(month_days(month)))
    for purchase, (_, name, kind, _, share) in _BENEFITS.items():
        items = [item for item in fleet.fleet("azure_fleet.csv") if item["purchase"] == purchase]
        rate = sum((item.rate * (item.copies + 1) for item in items), Decimal(0)) * share * EUR_PER_USD
        if first in days:
            yield _money(first, "Purchase", "Recurring", billed(hours * rate), f"{kind} {name}") | {
                "PricingQuantity": "1",
                "PricingUnit": "Units",
                "EffectiveCost": "0",
                **_commitment(purchase, hours, ""),
            }


def _commitment(purchase: str, quantity: Decimal, status: str) -> Row:
    identifier, name, kind, category, _ = _BENEFITS[purchase]
    return {
        "CommitmentDiscountId": identifier,
        "CommitmentDiscountName": name,
        "CommitmentDiscountType": kind,
        "CommitmentDiscountCategory": category,
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountQuantity": _text(quantity) if status else "",
        "CommitmentDiscountUnit": "Hours" if status else "",
    }


def _money(day: date, category: str, frequency: str, cost: Decimal, description: str) -> Row:
    subscription, name = subscriptions("main")["shared"]
    return _common(day) | {
        "BilledCost": _text(cost),
        "EffectiveCost": _text(cost),
        "ListCost": _text(cost),
        "ContractedCost": _text(cost),
        "ChargeCategory": category,
        "ChargeFrequency": frequency,
        "ChargeDescription": description,
        "PublisherName": "Microsoft",
        "ServiceCategory": "Other",
        "ServiceName": "Azure",
        "SubAccountId": f"/subscriptions/{subscription}",
        "SubAccountName": name,
        "SubAccountType": "Subscription",
    }


def _common(day: date) -> Row:
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return {
        "ProviderName": "Microsoft",
        "InvoiceIssuerName": "Microsoft Ireland Operations Limited",
        "InvoiceId": f"G{first:%y%m}048812",
        "BillingAccountId": BILLING_ACCOUNT,
        "BillingAccountName": "Brightwater Health B.V.",
        "BillingAccountType": "Billing Profile",
        "x_BillingAccountId": "88419027",
        "BillingPeriodStart": f"{first}T00:00:00Z",
        "BillingPeriodEnd": f"{following}T00:00:00Z",
        "ChargePeriodStart": f"{day}T00:00:00Z",
        "ChargePeriodEnd": f"{day + timedelta(days=1)}T00:00:00Z",
        "BillingCurrency": CURRENCY,
        "PricingCurrency": "USD",
        "x_BillingExchangeRate": str(EUR_PER_USD),
        "x_BillingExchangeRateDate": f"{first}T00:00:00Z",
    }


def _details(item: FleetItem) -> str:
    if not item["instance_type"]:
        return ""
    return json.dumps(
        {
            "InstanceType": item["instance_type"],
            "InstanceSeries": item["meter_subcategory"].removesuffix(" Series"),
            "CoreCount": int(item["vcpu"]),
            "MemorySize": int(item["memory"]),
            "OperatingSystem": "Linux",
            "x_UsageType": "ComputeHR",
            "x_ImageType": "Canonical",
        }
    )


def _resource(used: Consumption, subscription: str, seed: int) -> tuple[str, str, str]:
    """ARM id, name and resource group; the group's case differs from day to day, as in real exports."""
    item = used.item
    digest = hashlib.sha256(f"{seed}/{item.number}/{used.copy}".encode()).hexdigest()[:5]
    name = f"{item['resource_kind']}-{item['team']}-{digest}"
    group = f"rg-{item['team']}"
    shown = group.upper() if used.day.day % 5 == 0 else group
    parent, *children = item["arm_type"].split("/")[1:]
    path = f"/subscriptions/{subscription}/resourceGroups/{shown}/providers/{item['arm_type'].split('/')[0]}/{parent}/"
    path += f"{item['team']}-server/{children[0]}/{name}" if children else name
    return path, name, group


def _text(number: Decimal) -> str:
    return f"{number:f}"
