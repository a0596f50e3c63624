"""Cost details of an Azure billing account: the actual and the amortized export, under EA or MCA headers.

Habits are Microsoft's (billing-feeds.md 5.2 to 5.5): dates as MM/DD/YYYY, count blocks whose quantity counts
blocks and time blocks whose quantity doesn't, EA tags without braces, capitals of a resource id that change from
day to day. The actual export bills commitments when bought, the amortized one when used or left unused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, FleetItem, billed
from offgridflow_pipeline.demo.microsoft.places import regions, subscriptions
from offgridflow_pipeline.months import month_days

Row = dict[str, str]
Dataset = Literal["ActualCost", "AmortizedCost"]
Agreement = Literal["EA", "MCA"]

FLEET = "azure_small_fleet.csv"
CURRENCY = "EUR"
EUR_PER_USD = Decimal("0.92")
TAX_SHARE = Decimal("0.21")
_SHARES = {"reservation": Decimal("0.62"), "savingsplan": Decimal("0.80")}
_MODELS = {"reservation": "Reservation", "savingsplan": "SavingsPlan", "spot": "Spot"}
_UNUSED = {"reservation": "UnusedReservation", "savingsplan": "UnusedSavingsPlan"}
_COLUMNS = {"EA": "azure_ea_columns.csv", "MCA": "azure_mca_columns.csv"}


@dataclass(frozen=True, slots=True)
class CostAccount:
    """A billing account whose cost details are exported; `bill` selects its rows of ``azure_subscriptions.csv``."""

    bill: str
    id: str
    name: str
    agreement: Agreement
    dataset: Dataset

    @property
    def scope(self) -> str:
        """Resource id that its exports are of."""
        return f"/providers/Microsoft.Billing/billingAccounts/{self.id}"


@dataclass(frozen=True, slots=True)
class CostDelivery:
    """What one export run of a month holds; `special` adds correction, refund, credit and one-time purchase."""

    account: CostAccount
    month: str
    through: date
    special: bool = False


def columns(account: CostAccount) -> list[str]:
    """Every header of the account's export, in its order."""
    return list(_headers(account.agreement))


def header_of(account: CostAccount, value: str) -> str:
    """The header under which the account's export carries a value, named as EA names it."""
    return next(header for header, carried in _headers(account.agreement).items() if carried == value)


def bill(delivery: CostDelivery, seed: int) -> list[Row]:
    """All rows of one export run, under the headers of the account's agreement."""
    rows = list(_charges(delivery, seed))
    if delivery.account.agreement == "MCA":
        rows.extend(_invoice_rows(delivery, rows))
    headers = _headers(delivery.account.agreement)
    return [{header: row.get(value, "") for header, value in headers.items()} for row in rows]


@cache
def _headers(agreement: Agreement) -> dict[str, str]:
    """Header -> the value it carries, named as EA names it."""
    return {row["header"]: row["value"] for row in fleet.rows(_COLUMNS[agreement])}


def _charges(delivery: CostDelivery, seed: int) -> Iterator[Row]:
    days = [day for day in month_days(delivery.month) if day <= delivery.through]
    items = fleet.fleet(FLEET)
    for used in fleet.consumption(items, "unit_description", days, seed):
        yield usage_row(delivery.account, used, seed)
    for item in items:
        if item["purchase"] not in _SHARES:
            continue
        if delivery.account.dataset == "AmortizedCost":
            yield from (_unused_row(delivery.account, item, day, seed) for day in days)
        else:
            yield _commitment_row(delivery, item)
    if delivery.special:
        yield from _one_offs(delivery, items, days, seed)


def usage_row(account: CostAccount, used: Consumption, seed: int) -> Row:
    """The row of one resource and day, its values named as EA names them."""
    item, purchase = used.item, used.item["purchase"]
    rate = billed(item.rate * EUR_PER_USD)
    price = billed(rate * _SHARES.get(purchase, Decimal(1)))
    if purchase in _SHARES and account.dataset == "ActualCost":
        price = Decimal(0)
    subscription = subscriptions(account.bill)[item["subscription"]][0]
    path, name, group = _resource(used, subscription, seed)
    marketplace = purchase == "marketplace"
    return _common(account, item, used.day) | {
        "Quantity": _text(used.quantity),
        "EffectivePrice": _text(price),
        "Cost": _text(billed(used.quantity * price)),
        "UnitPrice": _text(rate),
        "PayGPrice": _text(rate),
        "ResourceId": path,
        "ResourceName": name,
        "ResourceGroup": group,
        "AdditionalInfo": _additional(item, used.quantity, name),
        "Tags": _tags(account, {"team": item["team"], "cost-center": f"CC-{100 + item.number % 7}"}),
        "PricingModel": _MODELS.get(purchase, "" if marketplace else "OnDemand"),
        "ChargeType": "Usage",
        "Frequency": "UsageBased",
        "PublisherType": "Marketplace" if marketplace else "Azure",
        "PublisherName": "Cloud Monitoring GmbH" if marketplace else "Microsoft",
        "PlanName": "pro-monthly" if marketplace else "",
        **_benefit(account, item),
    }


def _unused_row(account: CostAccount, item: FleetItem, day: date, seed: int) -> Row:
    """The commitment covers one machine more than runs."""
    row = usage_row(account, Consumption(item, item.copies, day, fleet.HOURS_OF_DAY), seed)
    nowhere = dict.fromkeys(("ResourceId", "ResourceName", "ResourceGroup", "Tags", "AdditionalInfo"), "")
    return row | nowhere | {"ChargeType": _UNUSED[item["purchase"]]}


def _commitment_row(delivery: CostDelivery, item: FleetItem) -> Row:
    """The monthly instalment; its quantity is a number of commitments, not of hours."""
    days = month_days(delivery.month)
    rate = item.rate * EUR_PER_USD * _SHARES[item["purchase"]]
    cost = billed(rate * fleet.HOURS_OF_DAY * len(days) * (item.copies + 1))
    name = "Reserved VM Instance" if item["purchase"] == "reservation" else "Savings plan"
    return _money(delivery, "Purchase", cost, f"{name}, {item['instance_type']}, 1 Year", days[0]) | {
        "Quantity": str(item.copies + 1),
        "UnitOfMeasure": "1",
        "Frequency": "Recurring",
        "PricingModel": _MODELS[item["purchase"]],
        **_benefit(delivery.account, item),
    }


def _one_offs(delivery: CostDelivery, items: Sequence[FleetItem], days: Sequence[date], seed: int) -> Iterator[Row]:
    spot = next(item for item in items if item["purchase"] == "spot")
    yield usage_row(delivery.account, Consumption(spot, 0, days[5], Decimal("-1.75")), seed)
    yield _money(delivery, "Purchase", Decimal("29.00"), "Developer support plan", days[0]) | {"Frequency": "OneTime"}
    yield _money(delivery, "Refund", Decimal("-46.20"), "Refund of a returned reservation", days[12])
    yield _money(delivery, "Credit", Decimal("-35.00"), "Service credit", days[10])


def _invoice_rows(delivery: CostDelivery, rows: Sequence[Row]) -> Iterator[Row]:
    """MCA bills carry taxes and what makes the invoice whole cents."""
    first = month_days(delivery.month)[0]
    total = sum((Decimal(row["Cost"]) for row in rows), Decimal(0))
    tax = (total * TAX_SHARE).quantize(Decimal("0.01"))
    yield _money(delivery, "Tax", tax, "Value-added tax", first)
    rounding = (total + tax).quantize(Decimal("0.01")) - (total + tax)
    yield _money(delivery, "RoundingAdjustment", rounding, "Rounding adjustment", first)


def _money(delivery: CostDelivery, charge: str, cost: Decimal, product: str, day: date) -> Row:
    return _of_account(delivery.account, day) | {
        "Product": product,
        "Quantity": "1",
        "EffectivePrice": _text(cost),
        "UnitPrice": _text(cost),
        "Cost": _text(cost),
        "ChargeType": charge,
        "Frequency": "OneTime",
        "PublisherType": "Azure",
        "PublisherName": "Microsoft",
    }


def _common(account: CostAccount, item: FleetItem, day: date) -> Row:
    region = regions()[item["region"]]
    return _of_account(account, day) | {
        "SubscriptionName": subscriptions(account.bill)[item["subscription"]][1],
        "SubscriptionId": subscriptions(account.bill)[item["subscription"]][0],
        "Product": f"{item['meter_category']} {item['meter_subcategory']} - {item['meter']} - {region['sku_region']}",
        "ProductId": f"DZH318Z0{9400 + item.number}",
        "PartNumber": f"AAD-{24000 + item.number}",
        "MeterId": str(uuid5(NAMESPACE_URL, f"{item['meter_category']}/{item['meter']}/{item['region']}")),
        "ServiceFamily": item["service_category"],
        "MeterCategory": item["meter_category"],
        "MeterSubCategory": item["meter_subcategory"],
        "MeterName": item["meter"],
        "MeterRegion": region["sku_region"],
        "UnitOfMeasure": item["unit_description"],
        "ResourceLocation": item["region"] if account.agreement == "MCA" else region["name"].replace(" ", ""),
        "ConsumedService": _provider_of(item, account.agreement),
    }


def _of_account(account: CostAccount, day: date) -> Row:
    first = day.replace(day=1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    subscription, name = subscriptions(account.bill)["apps"]
    return {
        "BillingAccountId": account.id,
        "BillingAccountName": account.name,
        "BillingProfileId": account.id if account.agreement == "EA" else "PE2Q-NOIT-BG7-TGB",
        "BillingProfileName": account.name,
        "BillingPeriodStartDate": f"{first:%m/%d/%Y}",
        "BillingPeriodEndDate": f"{last:%m/%d/%Y}",
        "ServicePeriodStartDate": f"{first:%m/%d/%Y}",
        "ServicePeriodEndDate": f"{last:%m/%d/%Y}",
        "Date": f"{day:%m/%d/%Y}",
        "InvoiceId": f"G{first:%y%m}0{account.id[:4]}",
        "SubscriptionId": subscription,
        "SubscriptionName": name,
        "BillingCurrency": CURRENCY,
        "PricingCurrency": "USD",
        "ExchangeRatePricingToBilling": str(EUR_PER_USD),
        "ExchangeRateDate": f"{first:%m/%d/%Y}",
        "IsAzureCreditEligible": "True",
        "Provider": "Azure",
    }


def _benefit(account: CostAccount, item: FleetItem) -> Row:
    if item["purchase"] not in _SHARES:
        return {}
    order, inner = (str(uuid5(NAMESPACE_URL, f"{account.id}/{item.number}/{part}")) for part in ("order", "benefit"))
    if item["purchase"] == "savingsplan":
        path = f"/providers/Microsoft.BillingBenefits/savingsPlanOrders/{order}/savingsPlans/{inner}"
        return {"BenefitId": path, "BenefitName": "Compute_SavingsPlan", "Term": "1 Year"}
    path = f"/providers/Microsoft.Capacity/reservationOrders/{order}/reservations/{inner}"
    name = f"RI_{item['meter'].replace(' ', '_')}"
    return {
        "BenefitId": path,
        "BenefitName": name,
        "ReservationId": inner,
        "ReservationName": name,
        "ProductOrderId": order,
        "ProductOrderName": f"Reserved VM Instance, {item['instance_type']}, 1 Year",
        "Term": "1 Year",
    }


def _additional(item: FleetItem, quantity: Decimal, name: str) -> str:
    if not item["instance_type"]:
        return ""
    details: dict[str, object] = {
        "UsageType": "ComputeHR",
        "ImageType": "Canonical",
        "ServiceType": item["instance_type"],
        "VMName": name,
        "VCPUs": int(item["vcpu"]),
    }
    if item["purchase"] == "reservation":
        details |= {"ConsumedQuantity": float(quantity), "RINormalizationRatio": 1.0}
    return json.dumps(details, separators=(",", ":"))


def _tags(account: CostAccount, tags: dict[str, str]) -> str:
    text = json.dumps(tags)
    return text if account.agreement == "MCA" else text[1:-1]


def _provider_of(item: FleetItem, agreement: Agreement) -> str:
    provider = item["arm_type"].split("/")[0]
    head, _, tail = provider.partition(".")
    return f"{head.title()}.{tail.title()}" if agreement == "EA" else provider


def _resource(used: Consumption, subscription: str, seed: int) -> tuple[str, str, str]:
    """Resource id, name and resource group; capitals differ from day to day."""
    item = used.item
    digest = hashlib.sha256(f"{seed}/costs/{item.number}/{used.copy}".encode()).hexdigest()[:5]
    name, group = f"{item['resource_kind']}-{item['team']}-{digest}", f"rg-{item['team']}"
    provider, parent, *children = item["arm_type"].split("/")
    path = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/{parent}/"
    path += f"{item['team']}-server/{children[0]}/{name}" if children else name
    if used.day.day % 4 == 0:
        return path.replace(group, group.upper()).replace(provider, provider.title()), name, group.upper()
    return path, name, group


def _text(number: Decimal) -> str:
    return f"{number:f}"
