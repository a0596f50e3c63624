"""The AWS bill of the fictional company: rows of a CUR 2.0 export, daily, with resources.

Line item types, their costs and their traps follow billing-feeds.md 4.3 to 4.6: tax rows carry quantity 1,
reservation fees repeat the reserved hours, storage rows name one hour of the day, discounts are rows.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache

import pyarrow as pa

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, billed

Row = dict[str, object]

PAYER = "418273650914"
LEGAL_ENTITY = "Amazon Web Services EMEA SARL"
SAVINGS_PLAN = f"arn:aws:savingsplans::{PAYER}:savingsplan/3f6f2f0e-4a53-4f0f-8a69-0c5f1f0d7a11"
SAVINGS_PLAN_SHARE = Decimal("0.72")
SAVINGS_PLAN_HOURLY = Decimal("2.00")
RESERVATION_SHARE = Decimal("0.63")
TAX_SHARE = Decimal("0.08")
DISCOUNT_SHARE = Decimal("0.03")
_ARROW = {
    "string": pa.string(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("ms"),
    "map<string,string>": pa.map_(pa.string(), pa.string()),
}


@dataclass(frozen=True, slots=True)
class AmazonDelivery:
    """What one delivery of a month holds: days up to `through`, invoiced or open, late metering or not."""

    month: str
    through: date
    invoiced: bool = True
    special: bool = False
    late_day: date | None = None

    @property
    def days(self) -> list[date]:
        """Days of the month that were metered when the delivery was made."""
        return [day for day in fleet.month_days(self.month) if day <= self.through]


@dataclass(slots=True)
class _Month:
    delivery: AmazonDelivery
    seed: int
    costs: dict[tuple[str, str, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    covered: dict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    reserved: dict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))


def columns() -> list[tuple[str, str]]:
    """(name, type) of every column of the export, in its order."""
    return [(row["name"], row["type"]) for row in fleet.rows("cur2_columns.csv")]


def bill(delivery: AmazonDelivery, seed: int) -> list[Row]:
    """All rows of one delivery."""
    month = _Month(delivery, seed)
    found = list(_usage(month))
    found.extend(_savings_plan_fees(month))
    found.extend(_reservation_fees(month))
    found.extend(_money_rows(month))
    if delivery.special:
        found.extend(_corrections(month))
    return found


def table(rows: list[Row]) -> pa.Table:
    """The rows as the Parquet table of a data export (DOUBLE costs, MAP products and tags)."""
    arrays, fields = [], []
    for name, kind in columns():
        values = [row.get(name) for row in rows]
        if kind == "double":
            values = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
        elif kind.startswith("map"):
            values = [list(value.items()) if isinstance(value, dict) else [] for value in values]
        arrays.append(pa.array(values, _ARROW[kind]))
        fields.append(pa.field(name, _ARROW[kind]))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


@cache
def _accounts() -> dict[str, tuple[str, str]]:
    return {row["role"]: (row["account_id"], row["name"]) for row in fleet.rows("aws_accounts.csv")}


@cache
def _regions() -> dict[str, dict[str, str]]:
    return {row["region"]: row for row in fleet.rows("aws_regions.csv")}


@cache
def _instances() -> dict[str, dict[str, str]]:
    return {row["instance_type"]: row for row in fleet.rows("aws_instances.csv")}


def _usage(month: _Month) -> Iterator[Row]:
    delivery = month.delivery
    for used in fleet.consumption(fleet.fleet("aws_fleet.csv"), "unit", delivery.days, month.seed):
        late = used.day == delivery.late_day and used.item["purchase"] == "spot"
        quantity = billed(used.quantity * Decimal("0.55")) if late else used.quantity
        row = _usage_row(month, used, quantity)
        account, product = str(row["line_item_usage_account_id"]), used.item["product_code"]
        month.costs[account, product, used.item["product_name"]] += Decimal(str(row["line_item_unblended_cost"]))
        yield row
        if used.item["purchase"] == "savingsplan":
            cost = Decimal(str(row["line_item_unblended_cost"]))
            month.covered[used.day] += Decimal(str(row["savings_plan_savings_plan_effective_cost"]))
            month.costs[account, product, used.item["product_name"]] -= cost
            yield {
                **row,
                "identity_line_item_id": _id("negation", used.item.number, used.copy, used.day),
                "line_item_line_item_type": "SavingsPlanNegation",
                "line_item_unblended_cost": -cost,
                "line_item_blended_cost": -cost,
                "line_item_line_item_description": "SavingsPlanNegation used by AccountId : " + account,
                "line_item_resource_id": None,
                "savings_plan_savings_plan_effective_cost": Decimal(0),
            }


def _usage_row(month: _Month, used: Consumption, quantity: Decimal) -> Row:
    item, purchase = used.item, used.item["purchase"]
    account, name = _accounts()[item["account"]]
    region = _regions()[item["region"]]
    free = purchase in ("free", "reserved")
    cost = Decimal(0) if free else billed(quantity * item.rate)
    row = _common(month.delivery, used.day) | {
        "identity_line_item_id": _id("usage", item.number, used.copy, used.day),
        "line_item_line_item_type": {
            "savingsplan": "SavingsPlanCoveredUsage",
            "reserved": "DiscountedUsage",
        }.get(purchase, "Usage"),
        "line_item_usage_account_id": account,
        "line_item_usage_account_name": name,
        "line_item_product_code": item["product_code"],
        "line_item_usage_type": item["usage_type"].replace("{p}", region["prefix"]),
        "line_item_operation": item["operation"] or None,
        "line_item_resource_id": _resource(used, account, month.seed),
        "line_item_usage_amount": quantity,
        "line_item_unblended_rate": str(Decimal(0) if free else item.rate),
        "line_item_unblended_cost": cost,
        "line_item_blended_rate": str(Decimal(0) if free else item.rate),
        "line_item_blended_cost": cost,
        "line_item_line_item_description": f"${item.rate} per {item['unit']} - {item['product_name']}",
        "line_item_availability_zone": region["region"] + "a" if item["resource"] in ("i-", "vol-") else None,
        "pricing_unit": item["unit"],
        "pricing_term": {"reserved": "Reserved", "spot": "Spot"}.get(purchase, "OnDemand"),
        "pricing_currency": "USD",
        "pricing_public_on_demand_rate": str(item.rate),
        "pricing_public_on_demand_cost": billed(quantity * item.rate),
        "pricing_rate_id": str(70_000_000 + item.number),
        "pricing_rate_code": f"{_id('sku', item.number)[:16].upper()}.JRTCKXETXF.6YS6EN2CT7",
        "product": _product(used),
        "product_product_family": item["product_family"] or None,
        "product_instance_type": item["instance_type"] or None,
        "product_region_code": None if item["region"] == "global" else item["region"],
        "product_location": region["location"],
        "product_location_type": "AWS Region",
        "product_operation": item["operation"] or None,
        "product_servicecode": item["product_code"],
        "product_sku": _id("sku", item.number)[:16].upper(),
        "product_usagetype": item["usage_type"].replace("{p}", region["prefix"]),
        "resource_tags": {"user_team": item["team"], "user_environment": item["account"]} if used.copy % 3 < 2 else {},
    }
    if item["unit"] in ("GB-Mo", "Obj-Month"):
        row["line_item_usage_end_date"] = _time(used.day) + timedelta(hours=1)
    if purchase == "marketplace":
        row |= {
            "bill_billing_entity": "AWS Marketplace",
            "bill_invoicing_entity": "Amazon Web Services EMEA SARL",
            "line_item_legal_entity": "Harbour Security GmbH",
        }
    if purchase == "savingsplan":
        row |= {
            "savings_plan_savings_plan_a_r_n": SAVINGS_PLAN,
            "savings_plan_offering_type": "ComputeSavingsPlans",
            "savings_plan_savings_plan_rate": billed(item.rate * SAVINGS_PLAN_SHARE),
            "savings_plan_savings_plan_effective_cost": billed(cost * SAVINGS_PLAN_SHARE),
        }
    if purchase == "reserved":
        effective = billed(quantity * item.rate * RESERVATION_SHARE)
        month.reserved[item.number] += quantity
        row |= {
            "reservation_reservation_a_r_n": _reservation(item.number, account, item["region"]),
            "reservation_effective_cost": effective,
            "reservation_recurring_fee_for_usage": effective,
        }
    return row


def _savings_plan_fees(month: _Month) -> Iterator[Row]:
    account, name = _accounts()["payer"]
    daily = SAVINGS_PLAN_HOURLY * 24
    for day in month.delivery.days:
        month.costs[account, "ComputeSavingsPlans", "Savings Plans for AWS Compute usage"] += daily
        yield _common(month.delivery, day) | {
            "identity_line_item_id": _id("sp-fee", day),
            "line_item_line_item_type": "SavingsPlanRecurringFee",
            "line_item_usage_account_id": account,
            "line_item_usage_account_name": name,
            "line_item_product_code": "ComputeSavingsPlans",
            "line_item_usage_type": "ComputeSP:1yrNoUpfront",
            "line_item_resource_id": SAVINGS_PLAN,
            "line_item_usage_amount": Decimal(24),
            "line_item_unblended_cost": daily,
            "line_item_line_item_description": "1 year No Upfront Compute Savings Plan",
            "product": {"product_name": "Savings Plans for AWS Compute usage"},
            "savings_plan_savings_plan_a_r_n": SAVINGS_PLAN,
            "savings_plan_total_commitment_to_date": daily,
            "savings_plan_used_commitment": min(daily, billed(month.covered[day])),
        }


def _reservation_fees(month: _Month) -> Iterator[Row]:
    """One fee row per reservation and month; it repeats the reserved hours of one instance more than ran."""
    days = fleet.month_days(month.delivery.month)
    for item in fleet.fleet("aws_fleet.csv"):
        if item["purchase"] != "reserved":
            continue
        account, name = _accounts()[item["account"]]
        hours = Decimal(24 * len(days) * (item.copies + 1))
        rate = item.rate * RESERVATION_SHARE
        month.costs[account, item["product_code"], item["product_name"]] += billed(hours * rate)
        region = _regions()[item["region"]]
        yield _common(month.delivery, days[0], days[-1]) | {
            "identity_line_item_id": _id("ri-fee", item.number, month.delivery.month),
            "line_item_line_item_type": "RIFee",
            "line_item_usage_account_id": account,
            "line_item_usage_account_name": name,
            "line_item_product_code": item["product_code"],
            "line_item_usage_type": item["usage_type"].replace("{p}", region["prefix"] + "HeavyUsage-"),
            "line_item_operation": item["operation"],
            "line_item_usage_amount": hours,
            "line_item_unblended_rate": str(rate),
            "line_item_unblended_cost": billed(hours * rate),
            "line_item_line_item_description": f"USD {rate} hourly fee per {item['instance_type']} instance",
            "pricing_unit": "Hrs",
            "pricing_term": "Reserved",
            "product": {"product_name": item["product_name"]},
            "product_instance_type": item["instance_type"],
            "product_region_code": item["region"],
            "reservation_reservation_a_r_n": _reservation(item.number, account, item["region"]),
            "reservation_unused_amortized_upfront_fee_for_billing_period": Decimal(0),
            "reservation_unused_quantity": hours - month.reserved[item.number],
            "reservation_unused_recurring_fee": billed((hours - month.reserved[item.number]) * rate),
        }


def _money_rows(month: _Month) -> Iterator[Row]:
    """Tax of each account and service, the private-pricing discount, support, a credit, a flat-rate plan."""
    first, last = fleet.month_days(month.delivery.month)[0], fleet.month_days(month.delivery.month)[-1]
    names = dict(_accounts().values())
    total = Decimal(0)
    for (account, product, title), cost in sorted(month.costs.items()):
        total += cost
        tax = (cost * TAX_SHARE).quantize(Decimal("0.01"))
        yield _money(month, "Tax", first, last, account, names[account], product, tax) | {
            "line_item_usage_amount": Decimal(1),
            "line_item_tax_type": "VAT",
            "line_item_line_item_description": f"Tax for product code {product}",
            "product": {"product_name": title},
        }
        if cost > 100:
            yield _money(
                month, "EdpDiscount", first, last, account, names[account], product, -billed(cost * DISCOUNT_SHARE)
            ) | {"line_item_line_item_description": "Private pricing discount", "product": {"product_name": title}}
    support = (total * Decimal("0.07")).quantize(Decimal("0.01"))
    yield _money(month, "Fee", first, last, PAYER, names[PAYER], "AWSSupportBusiness", support) | {
        "line_item_usage_type": "Dollar",
        "line_item_usage_amount": total.quantize(Decimal("0.01")),
        "pricing_unit": "Dollar",
        "line_item_line_item_description": "7% of monthly AWS usage from $10K-$80K",
        "product": {"product_name": "AWS Support (Business)"},
    }
    yield _money(month, "Credit", first, last, PAYER, names[PAYER], "AmazonEC2", Decimal("-150.00")) | {
        "line_item_usage_type": "BoxUsage:m5.xlarge",
        "line_item_usage_amount": Decimal(1),
        "line_item_line_item_description": "AWS promotional credit",
    }
    web = _accounts()["web"]
    yield _money(month, "FlatRateSubscription", first, last, *web, "AmazonCloudFront", Decimal("15.00")) | {
        "line_item_usage_type": "FlatRatePlan-Pro",
        "line_item_operation": "Subscription",
        "line_item_usage_amount": Decimal(24 * ((last - first).days + 1)),
        "pricing_unit": "Hrs",
        "line_item_line_item_description": "CloudFront flat-rate plan, Pro",
        "product": {"product_name": "Amazon CloudFront"},
    }


def _corrections(month: _Month) -> Iterator[Row]:
    """A refund of money and a negative correction of metered hours."""
    days = fleet.month_days(month.delivery.month)
    account, name = _accounts()["data"]
    yield _money(month, "Refund", days[8], days[8], account, name, "AmazonRedshift", Decimal("-86.88")) | {
        "line_item_usage_type": "USW2-Node:ra3.xlplus",
        "line_item_line_item_description": "Refund for service interruption",
    }
    spot = next(item for item in fleet.fleet("aws_fleet.csv") if item["purchase"] == "spot")
    correction = _usage_row(month, Consumption(spot, 0, days[16], Decimal("-3.25")), Decimal("-3.25"))
    yield correction | {"identity_line_item_id": _id("correction", spot.number, days[16])}


def _money(
    month: _Month, kind: str, first: date, last: date, account: str, name: str, product: str, cost: Decimal
) -> Row:
    return _common(month.delivery, first, last) | {
        "identity_line_item_id": _id(kind, account, product, first),
        "line_item_line_item_type": kind,
        "line_item_usage_account_id": account,
        "line_item_usage_account_name": name,
        "line_item_product_code": product,
        "line_item_usage_amount": Decimal(0),
        "line_item_unblended_cost": cost,
        "line_item_blended_cost": cost,
    }


def _common(delivery: AmazonDelivery, day: date, last: date | None = None) -> Row:
    month = fleet.month_days(delivery.month)
    following = day + timedelta(days=1)
    return {
        "identity_time_interval": f"{day}T00:00:00Z/{following}T00:00:00Z",
        "bill_bill_type": "Anniversary",
        "bill_billing_entity": "AWS",
        "bill_billing_period_start_date": _time(month[0]),
        "bill_billing_period_end_date": _time(month[-1] + timedelta(days=1)),
        "bill_invoice_id": f"EUINGB26-{int(delivery.month[-2:]) * 10007}" if delivery.invoiced else None,
        "bill_invoicing_entity": LEGAL_ENTITY,
        "bill_payer_account_id": PAYER,
        "bill_payer_account_name": _accounts()["payer"][1],
        "line_item_legal_entity": LEGAL_ENTITY,
        "line_item_currency_code": "USD",
        "line_item_usage_start_date": _time(day),
        "line_item_usage_end_date": _time((last or day) + timedelta(days=1)),
    }


def _product(used: Consumption) -> dict[str, str]:
    item = used.item
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


def _reservation(number: int, account: str, region: str) -> str:
    return f"arn:aws:ec2:{region}:{account}:reserved-instances/{_id('ri', number)[:36]}"


def _time(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).replace(tzinfo=None)


def _id(*parts: object) -> str:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return base64.b32encode(digest).decode().lower().rstrip("=")
