"""Rows of an AWS bill that no meter made: commitment fees, taxes, discounts, support, credits, corrections.

Traps follow billing-feeds.md 4.4 and 4.5: tax rows carry quantity 1, reservation fees repeat the reserved hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

from offgridflow_pipeline.demo.amazon.usage import (
    RESERVATION_SHARE,
    Month,
    Row,
    common,
    days_of,
    identity,
    regions,
    reservation,
    usage_row,
)
from offgridflow_pipeline.demo.fleet import Consumption, billed
from offgridflow_pipeline.months import month_days

TAX_SHARE = Decimal("0.08")
DISCOUNT_SHARE = Decimal("0.03")
SUPPORT_SHARE = Decimal("0.07")
_CENT = Decimal("0.01")


def charges(month: Month) -> Iterator[Row]:
    """All charges of the bill; the usage of the month must have been made before."""
    yield from _savings_plan_fees(month)
    yield from _reservation_fees(month)
    total = sum(month.costs.values(), Decimal(0))
    yield from _taxes_and_discounts(month)
    if month.payer.one_offs:
        yield from _one_offs(month, total)
    if month.payer.one_offs and month.delivery.special:
        yield from _corrections(month)
        yield from _upfront_fees(month)


def _savings_plan_fees(month: Month) -> Iterator[Row]:
    account, name = month.payer.accounts["payer"]
    daily = month.payer.savings_plan_hourly * 24
    for day in month.delivery.days:
        month.costs[account, "ComputeSavingsPlans", "Savings Plans for AWS Compute usage"] += daily
        yield common(month.delivery) | {
            **days_of(day),
            "identity_line_item_id": identity("sp-fee", day),
            "line_item_line_item_type": "SavingsPlanRecurringFee",
            "line_item_usage_account_id": account,
            "line_item_usage_account_name": name,
            "line_item_product_code": "ComputeSavingsPlans",
            "line_item_usage_type": "ComputeSP:1yrNoUpfront",
            "line_item_resource_id": month.payer.savings_plan,
            "line_item_usage_amount": Decimal(24),
            "line_item_unblended_cost": daily,
            "line_item_line_item_description": "1 year No Upfront Compute Savings Plan",
            "product": {"product_name": "Savings Plans for AWS Compute usage"},
            "savings_plan_savings_plan_a_r_n": month.payer.savings_plan,
            "savings_plan_total_commitment_to_date": daily,
            "savings_plan_used_commitment": min(daily, billed(month.covered[day])),
        }


def _reservation_fees(month: Month) -> Iterator[Row]:
    """One fee row per reservation and month; it repeats the reserved hours of one instance more than ran."""
    days = month_days(month.delivery.month)
    for item in month.payer.items:
        if item["purchase"] != "reserved":
            continue
        account, name = month.payer.accounts[item["account"]]
        hours = Decimal(24 * len(days) * (item.copies + 1))
        rate = item.rate * RESERVATION_SHARE
        month.costs[account, item["product_code"], item["product_name"]] += billed(hours * rate)
        prefix = regions()[item["region"]]["prefix"]
        yield common(month.delivery) | {
            **days_of(days[0], days[-1]),
            "identity_line_item_id": identity("ri-fee", item.number, month.delivery.month),
            "line_item_line_item_type": "RIFee",
            "line_item_usage_account_id": account,
            "line_item_usage_account_name": name,
            "line_item_product_code": item["product_code"],
            "line_item_usage_type": f"{prefix}HeavyUsage:{item['instance_type']}",
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
            "reservation_reservation_a_r_n": reservation(item, account),
            "reservation_unused_amortized_upfront_fee_for_billing_period": Decimal(0),
            "reservation_unused_quantity": hours - month.reserved[item.number],
            "reservation_unused_recurring_fee": billed((hours - month.reserved[item.number]) * rate),
        }


def _taxes_and_discounts(month: Month) -> Iterator[Row]:
    """Tax of each account and service, and the private-pricing discount where there is much to discount."""
    names = dict(month.payer.accounts.values())
    for (account, product, title), cost in sorted(month.costs.items()):
        yield _money(month, "Tax", (account, names[account]), product, (cost * TAX_SHARE).quantize(_CENT)) | {
            "line_item_usage_amount": Decimal(1),
            "line_item_tax_type": "VAT",
            "line_item_line_item_description": f"Tax for product code {product}",
            "product": {"product_name": title},
        }
        if cost > 100:
            discount = -billed(cost * DISCOUNT_SHARE)
            yield _money(month, "EdpDiscount", (account, names[account]), product, discount) | {
                "line_item_line_item_description": "Private pricing discount",
                "product": {"product_name": title},
            }


def _one_offs(month: Month, total: Decimal) -> Iterator[Row]:
    """Support, a credit, discounts of two more kinds, a flat-rate plan."""
    payer, web = month.payer.accounts["payer"], month.payer.accounts["web"]
    yield _money(month, "Fee", payer, "AWSSupportBusiness", (total * SUPPORT_SHARE).quantize(_CENT)) | {
        "line_item_usage_type": "Dollar",
        "line_item_usage_amount": total.quantize(_CENT),
        "pricing_unit": "Dollar",
        "line_item_line_item_description": "7% of monthly AWS usage from $10K-$80K",
        "product": {"product_name": "AWS Support (Business)"},
    }
    yield _money(month, "Credit", payer, "AmazonEC2", Decimal("-150.00")) | {
        "line_item_usage_type": "BoxUsage:m5.xlarge",
        "line_item_usage_amount": Decimal(1),
        "line_item_line_item_description": "AWS promotional credit",
    }
    yield _money(month, "BundledDiscount", web, "AmazonCloudFront", Decimal("-4.20")) | {
        "line_item_line_item_description": "Bundled discount of CloudFront usage",
    }
    yield _money(month, "PrivateRateDiscount", web, "AmazonS3", Decimal("-12.75")) | {
        "line_item_line_item_description": "Private rate card of storage",
    }
    hours = Decimal(24 * len(month_days(month.delivery.month)))
    yield _money(month, "FlatRateSubscription", web, "AmazonCloudFront", Decimal("15.00")) | {
        "line_item_usage_type": "FlatRatePlan-Pro",
        "line_item_operation": "Subscription",
        "line_item_usage_amount": hours,
        "pricing_unit": "Hrs",
        "line_item_line_item_description": "CloudFront flat-rate plan, Pro",
        "product": {"product_name": "Amazon CloudFront"},
    }


def _corrections(month: Month) -> Iterator[Row]:
    """A refund of money and a negative correction of metered hours."""
    days = month_days(month.delivery.month)
    yield _money(month, "Refund", month.payer.accounts["data"], "AmazonRedshift", Decimal("-86.88"), days[8]) | {
        "line_item_usage_type": "USW2-Node:ra3.xlplus",
        "line_item_line_item_description": "Refund for service interruption",
    }
    spot = next(item for item in month.payer.items if item["purchase"] == "spot")
    correction = usage_row(month, Consumption(spot, 0, days[16], Decimal("-3.25")), Decimal("-3.25"))
    yield correction | {"identity_line_item_id": identity("correction", spot.number, days[16])}


def _upfront_fees(month: Month) -> Iterator[Row]:
    """What is paid once when a commitment is bought."""
    payer, days = month.payer.accounts["payer"], month_days(month.delivery.month)
    yield _money(month, "SavingsPlanUpfrontFee", payer, "ComputeSavingsPlans", Decimal("240.00"), days[11]) | {
        "line_item_usage_type": "ComputeSP:1yrPartialUpfront",
        "line_item_usage_amount": Decimal(1),
        "savings_plan_savings_plan_a_r_n": month.payer.savings_plan,
    }
    item = next(item for item in month.payer.items if item["purchase"] == "reserved")
    account = month.payer.accounts[item["account"]]
    yield _money(month, "Fee", account, item["product_code"], Decimal("310.00"), days[11]) | {
        "line_item_usage_type": f"HeavyUsage:{item['instance_type']}",
        "line_item_usage_amount": Decimal(1),
        "line_item_line_item_description": "Sign up charge for a reservation, partial upfront",
        "reservation_reservation_a_r_n": reservation(item, account[0]),
    }


def _money(
    month: Month, kind: str, account: tuple[str, str], product: str, cost: Decimal, day: date | None = None
) -> Row:
    """A row of money: of one day, else of the whole month."""
    days = month_days(month.delivery.month)
    first, last = (day, day) if day else (days[0], days[-1])
    return common(month.delivery) | {
        **days_of(first, last),
        "identity_line_item_id": identity(kind, account[0], product, first),
        "line_item_line_item_type": kind,
        "line_item_usage_account_id": account[0],
        "line_item_usage_account_name": account[1],
        "line_item_product_code": product,
        "line_item_usage_amount": Decimal(0),
        "line_item_unblended_cost": cost,
        "line_item_blended_cost": cost,
    }
