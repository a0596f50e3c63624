"""Totals of any API as rows of `schemas.CONTROL_TOTALS`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal, localcontext

import pyarrow as pa

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.lake.schemas import CONTROL_TOTALS, MONEY

#: Enough digits that no sum of amounts is rounded before it is stored.
_DIGITS = 76


@dataclass(frozen=True, slots=True)
class Total:
    """What an API states for a day, an account and a currency; `line_count` where it counts rows."""

    day: date
    billing_account_id: str | None
    sub_account_id: str | None
    currency: str
    cost: Decimal
    is_final: bool = False
    line_count: int | None = None
    watermark: str | None = None


def as_table(
    totals: Iterable[Total], *, tenant: str, connection_id: str, source: str, retrieved_at: datetime
) -> pa.Table:
    """The totals, one row per day, account and currency, in the order of those; an empty account is none, as in bills.

    Raises:
        DeliveryError: an amount has more digits than money has.
    """
    sums: dict[tuple[date, str | None, str | None, str], Total] = {}
    for stated in totals:
        total = replace(
            stated,
            billing_account_id=stated.billing_account_id or None,
            sub_account_id=stated.sub_account_id or None,
        )
        key = (total.day, total.billing_account_id, total.sub_account_id, total.currency)
        sums[key] = _added(sums[key], total) if key in sums else total
    ordered = sorted(
        sums.values(), key=lambda t: (t.day, t.billing_account_id or "", t.sub_account_id or "", t.currency)
    )
    return pa.Table.from_pydict(
        {
            "tenant_id": [tenant] * len(ordered),
            "usage_date": [t.day for t in ordered],
            "connection_id": [connection_id] * len(ordered),
            "source": [source] * len(ordered),
            "BillingAccountId": [t.billing_account_id for t in ordered],
            "SubAccountId": [t.sub_account_id for t in ordered],
            "BillingCurrency": [t.currency for t in ordered],
            "BilledCost": [_money(t) for t in ordered],
            "line_count": [t.line_count for t in ordered],
            "is_final": [t.is_final for t in ordered],
            "watermark": [t.watermark for t in ordered],
            "retrieved_at": [retrieved_at] * len(ordered),
        },
        schema=CONTROL_TOTALS.arrow_schema,
    )


def _added(one: Total, other: Total) -> Total:
    with localcontext() as context:
        context.prec = _DIGITS
        cost = one.cost + other.cost
    counts = (one.line_count, other.line_count)
    return Total(
        one.day,
        one.billing_account_id,
        one.sub_account_id,
        one.currency,
        cost,
        one.is_final and other.is_final,
        None if None in counts else sum(c for c in counts if c is not None),
        one.watermark,
    )


def _money(total: Total) -> Decimal:
    with localcontext() as context:
        context.prec = _DIGITS
        rounded = total.cost.quantize(Decimal(1).scaleb(-MONEY.scale))
    if rounded.adjusted() >= MONEY.precision - MONEY.scale:
        raise DeliveryError(
            f"The total of {total.day} is {total.cost} {total.currency}: no amount of money is so large."
        )
    return rounded
