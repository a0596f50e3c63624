"""Metered rows of an AWS bill: usage of each resource and day, and the negations of covered usage.

Columns are those of CUR 2.0; the other layouts are made from these rows (`connectors.deliveries.layouts`). Traps follow
billing-feeds.md 4.3 to 4.6: storage rows name one hour of the day, reserved usage costs nothing.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from uuid import NAMESPACE_URL, uuid5

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, billed
from offgridflow_pipeline.months import month_days

Row = dict[str, object]

LEGAL_ENTITY = "Amazon Web Services EMEA SARL"
SAVINGS_PLAN_SHARE = Decimal("0.72")
RESERVATION_SHARE = Decimal("0.63")
_LINE_ITEM_TYPES = {"savingsplan": "SavingsPlanCoveredUsage", "reserved": "DiscountedUsage"}
_TERMS = {"reserved": "Reserved", "spot": "Spot"}


@dataclass(frozen=True, slots=True)
class Payer:
    """A payer account and what its accounts run: one bill.

    `bill` selects its rows of ``aws_accounts.csv``; `one_offs` says whether the bill carries credits, support
    and plans beside usage, commitments and taxes.
    """

    bill: str
    fleet_file: str
    savings_plan_hourly: Decimal
    one_offs: bool = False

    @property
    def accounts(self) -> dict[str, tuple[str, str]]:
        """(id, name) of each account by its role; the role ``payer`` is the payer itself."""
        return _accounts(self.bill)

    @property
    def id(self) -> str:
        """Account id of the payer."""
        return self.accounts["payer"][0]

    @property
    def savings_plan(self) -> str:
        """ARN of its savings plan."""
        return f"arn:aws:savingsplans::{self.id}:savingsplan/{uuid5(NAMESPACE_URL, self.id)}"

    @property
    def items(self) -> tuple[fleet.FleetItem, ...]:
        """What its accounts run."""
        return fleet.fleet(self.fleet_file)


@dataclass(frozen=True, slots=True)
class AmazonDelivery:
    """What one delivery of a month holds: days up to `through`, invoiced or open, late metering or not."""

    payer: Payer
    month: str
    through: date
    invoiced: bool = True
    special: bool = False
    late_day: date | None = None

    @property
    def days(self) -> list[date]:
        """Days of the month that were metered when the delivery was made."""
        return [day for day in month_days(self.month) if day <= self.through]


@dataclass(slots=True)
class Month:
    """A delivery in the making: what was used decides its fees and taxes."""

    delivery: AmazonDelivery
    seed: int
    costs: dict[tuple[str, str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    covered: dict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    reserved: dict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    standing: dict[tuple[int, int], Row] = field(default_factory=dict)

    @property
    def payer(self) -> Payer:
        """Whose bill it is."""
        return self.delivery.payer


def usage(month: Month) -> Iterator[Row]:
    """Rows of everything that ran, day by day."""
    delivery = month.delivery
    for used in fleet.consumption(month.payer.items, "unit", delivery.days, month.seed):
        late = used.day == delivery.late_day and used.item["purchase"] == "spot"
        quantity = billed(used.quantity * Decimal("0.55")) if late else used.quantity
        row = usage_row(month, used, quantity)
        cost = Decimal(str(row["line_item_unblended_cost"]))
        account, product = str(row["line_item_usage_account_id"]), used.item["product_code"]
        month.costs[account, product, used.item["product_name"]] += cost
        yield row
        if used.item["purchase"] == "savingsplan":
            month.covered[used.day] += Decimal(str(row["savings_plan_savings_plan_effective_cost"]))
            month.costs[account, product, used.item["product_name"]] -= cost
            yield {
                **row,
                "identity_line_item_id": identity("negation", used.item.number, used.copy, used.day),
                "line_item_line_item_type": "SavingsPlanNegation",
                "line_item_unblended_cost": -cost,
                "line_item_blended_cost": -cost,
                "line_item_line_item_description": "SavingsPlanNegation used by AccountId : " + account,
                "line_item_resource_id": None,
                "savings_plan_savings_plan_effective_cost": Decimal(0),
            }


def usage_row(month: Month, used: Consumption, quantity: Decimal) -> Row:
    """The row of one resource and day."""
    item, purchase = used.item, used.item["purchase"]
    cost = Decimal(0) if purchase in ("free", "reserved") else billed(quantity * item.rate)
    row = _standing(month, used) | {
        **days_of(used.day),
        "identity_line_item_id": identity("usage", item.number, used.copy, used.day),
        "line_item_usage_amount": quantity,
        "line_item_unblended_cost": cost,
        "line_item_blended_cost": cost,
        "pricing_public_on_demand_cost": billed(quantity * item.rate),
    }
    if item["unit"] in ("GB-Mo", "Obj-Month"):
        row["line_item_usage_end_date"] = moment(used.day) + timedelta(hours=1)
    if purchase == "savingsplan":
        row["savings_plan_savings_plan_effective_cost"] = billed(cost * SAVINGS_PLAN_SHARE)
    if purchase == "reserved":
        effective = billed(quantity * item.rate * RESERVATION_SHARE)
        month.reserved[item.number] += quantity
        row |= {"reservation_effective_cost": effective, "reservation_recurring_fee_for_usage": effective}
    return row


def _standing(month: Month, used: Consumption) -> Row:
    """What the rows of one resource share on all days."""
    key = (used.item.number, used.copy)
    if key not in month.standing:
        month.standing[key] = _standing_row(month, used)
    return month.standing[key]


def _standing_row(month: Month, used: Consumption) -> Row:
    item, purchase = used.item, used.item["purchase"]
    account, name = month.payer.accounts[item["account"]]
    region = regions()[item["region"]]
    rate = str(Decimal(0) if purchase in ("free", "reserved") else item.rate)
    usage_type, sku = item["usage_type"].replace("{p}", region["prefix"]), identity("sku", item.number)[:16].upper()
    row = common(month.delivery) | {
        "line_item_line_item_type": _LINE_ITEM_TYPES.get(purchase, "Usage"),
        "line_item_usage_account_id": account,
        "line_item_usage_account_name": name,
        "line_item_product_code": item["product_code"],
        "line_item_usage_type": usage_type,
        "line_item_operation": item["operation"] or None,
        "line_item_resource_id": _resource(used, account, month.seed),
        "line_item_unblended_rate": rate,
        "line_item_blended_rate": rate,
        "line_item_line_item_description": f"${item.rate} per {item['unit']} - {item['product_name']}",
        "line_item_availability_zone": region["region"] + "a" if item["resource"] in ("i-", "vol-") else None,
        "pricing_unit": item["unit"],
        "pricing_term": _TERMS.get(purchase, "OnDemand"),
        "pricing_currency": "USD",
        "pricing_public_on_demand_rate": str(item.rate),
        "pricing_rate_id": str(70_000_000 + item.number),
        "pricing_rate_code": f"{sku}.JRTCKXETXF.6YS6EN2CT7",
        "product": _product(item),
        "product_product_family": item["product_family"] or None,
        "product_instance_type": item["instance_type"] or None,
        "product_region_code": None if item["region"] == "global" else item["region"],
        "product_location": region["location"],
        "product_location_type": "AWS Region",
        "product_operation": item["operation"] or None,
        "product_servicecode": item["product_code"],
        "product_sku": sku,
        "product_usagetype": usage_type,
        "resource_tags": {"user_team": item["team"], "user_environment": item["account"]} if used.copy % 3 < 2 else {},
    }
    if purchase == "marketplace":
        row |= {"bill_billing_entity": "AWS Marketplace", "line_item_legal_entity": "Harbour Security GmbH"}
    if purchase == "savingsplan":
        row |= {
            "savings_plan_savings_plan_a_r_n": month.payer.savings_plan,
            "savings_plan_offering_type": "ComputeSavingsPlans",
            "savings_plan_savings_plan_rate": billed(item.rate * SAVINGS_PLAN_SHARE),
        }
    if purchase == "reserved":
        row["reservation_reservation_a_r_n"] = reservation(item, account)
    return row


def common(delivery: AmazonDelivery) -> Row:
    """What every row of the bill says, whatever it charges for."""
    payer, days = delivery.payer, month_days(delivery.month)
    return {
        "bill_bill_type": "Anniversary",
        "bill_billing_entity": "AWS",
        "bill_billing_period_start_date": moment(days[0]),
        "bill_billing_period_end_date": moment(days[-1] + timedelta(days=1)),
        "bill_invoice_id": f"EUINGB26-{int(delivery.month[-2:]) * 10007}" if delivery.invoiced else None,
        "bill_invoicing_entity": LEGAL_ENTITY,
        "bill_payer_account_id": payer.id,
        "bill_payer_account_name": payer.accounts["payer"][1],
        "line_item_legal_entity": LEGAL_ENTITY,
        "line_item_currency_code": "USD",
    }


def days_of(day: date, last: date | None = None) -> Row:
    """The time columns of a row: its first day is the interval it was metered in."""
    return {
        "identity_time_interval": f"{day}T00:00:00Z/{day + timedelta(days=1)}T00:00:00Z",
        "line_item_usage_start_date": moment(day),
        "line_item_usage_end_date": moment((last or day) + timedelta(days=1)),
    }


def reservation(item: fleet.FleetItem, account: str) -> str:
    """ARN of the reservation that covers an item."""
    return f"arn:aws:ec2:{item['region']}:{account}:reserved-instances/{identity('ri', item.number)[:36]}"


def moment(day: date) -> datetime:
    """Midnight UTC of a day, without a zone, as the exports state it."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).replace(tzinfo=None)


def identity(*parts: object) -> str:
    """A line item id (52 characters, as AWS's are)."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:52]


@cache
def regions() -> dict[str, dict[str, str]]:
    """Usage type prefix and location of each region."""
    return {row["region"]: row for row in fleet.rows("aws_regions.csv")}


@cache
def _accounts(bill: str) -> dict[str, tuple[str, str]]:
    return {r["role"]: (r["account_id"], r["name"]) for r in fleet.rows("aws_accounts.csv") if r["bill"] == bill}


@cache
def _instances() -> dict[str, dict[str, str]]:
    return {row["instance_type"]: row for row in fleet.rows("aws_instances.csv")}


def _product(item: fleet.FleetItem) -> dict[str, str]:
    attributes = {"product_name": item["product_name"], "servicename": item["product_name"]}
    if size := _instances().get(item["instance_type"]):
        attributes |= {"vcpu": size["vcpu"], "memory": size["memory"], "operating_system": "Linux"}
        if size["gpu"]:
            attributes["gpu"] = size["gpu"]
    if item["region"] != "global":
        attributes["region"] = item["region"]
    return attributes


def _resource(used: Consumption, account: str, seed: int) -> str | None:
    kind = used.item["resource"]
    if not kind:
        return None
    digest = hashlib.sha256(f"{seed}/{used.item.number}/{used.copy}".encode()).hexdigest()[:17]
    if kind.endswith("-"):
        return kind + digest
    region = used.item["region"] if used.item["region"] != "global" else ""
    return f"arn:aws:{used.item['product_code'].lower()}:{region}:{account}:{kind}/{used.item['team']}-{digest[:6]}"
