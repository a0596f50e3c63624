"""Rows of a Google Cloud bill that no meter made: support, taxes, rounding, and corrections of the month before.

A correction of usage is a pair of rows, one that takes everything back and one that charges it anew, and arrives
with the next invoice (billing-feeds.md 6.3 and 6.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption
from offgridflow_pipeline.demo.google.metering import month_after, pacific_day
from offgridflow_pipeline.demo.google.usage import GoogleAccount, Row, common, place_of, projects, skus_of, usage_row
from offgridflow_pipeline.months import month_days

TAX_SHARE = Decimal("0.20")
_CENT = Decimal("0.01")
_SUPPORT = ("2062-016F-44A2", "Support")
_INVOICE = ("4D9C-77A0-E1B5", "Invoice")


def support(account: GoogleAccount, month: str) -> Row:
    """The support plan of a month."""
    first = month_days(month)[0]
    return _money(account, first, "Enhanced Support Fixed Fee", Decimal("395.00"), _SUPPORT)


def invoice_rows(account: GoogleAccount, month: str, rows: Sequence[Row]) -> Iterator[Row]:
    """Tax and rounding of the invoice of a month, whose other rows are given; both are null-project rows."""
    last = month_days(month)[-1]
    total = sum((charged(row) for row in rows), Decimal(0))
    tax = (total * TAX_SHARE).quantize(_CENT)
    yield _money(account, last, "Tax - VAT", tax, _INVOICE) | {"cost_type": "tax"}
    rounding = (total + tax).quantize(_CENT) - (total + tax)
    if rounding:
        yield _money(account, last, "Rounding error", rounding, _INVOICE) | {"cost_type": "rounding_error"}


def corrections(account: GoogleAccount, month: str, seed: int) -> Iterator[Row]:
    """What the next invoice says about a month: usage metered anew, a price, two gestures."""
    days = month_days(month)
    item = next(item for item in account.items if item["purchase"] == "sud")
    used = Consumption(item, 0, days[8], fleet.HOURS_OF_DAY)
    window = pacific_day(days[8])
    pair: Row = {"id": f"RC-{month}-0041", "description": "Usage of a stopped machine", "type": "USAGE_CORRECTION"}
    mode = "COMPLETE_NEGATION_WITH_REMONETIZATION"
    for hours in (-fleet.HOURS_OF_DAY, Decimal(20)):
        row = usage_row(account, used, skus_of(item["kind"])[0], window, hours, seed)
        yield _adjusted(row, pair | {"mode": mode}, month)
    for number, (kind, mode, cost) in enumerate(
        (
            ("PRICE_CORRECTION", "PARTIAL_CORRECTION", Decimal("-7.420000")),
            ("GOODWILL", "MANUAL_ADJUSTMENT", Decimal("-25.000000")),
            ("SLA_VIOLATION", "MANUAL_ADJUSTMENT", Decimal("-12.500000")),
        )
    ):
        row = _money(account, days[9 + number], "Adjustment", cost, ("6F81-5844-456A", "Compute Engine"))
        row["project"] = projects(account.bill)["fleet"]
        info: Row = {"id": f"RC-{month}-005{number}", "description": "Adjustment", "type": kind, "mode": mode}
        yield _adjusted(row, info, month)


def charged(row: Row) -> Decimal:
    """What a row comes to: its cost and all its credits."""
    credits = row["credits"]
    given = [Decimal(str(credit["amount"])) for credit in credits] if isinstance(credits, list) else []
    return Decimal(str(row["cost"])) + sum(given, Decimal(0))


def _adjusted(row: Row, info: Row, month: str) -> Row:
    following = month_after(month.replace("-", ""))
    exported = datetime.fromisoformat(f"{following[:4]}-{following[4:]}-04T03:20:00+00:00")
    return row | {
        "cost_type": "adjustment",
        "adjustment_info": info,
        "invoice": {"month": following, "publisher_type": "GOOGLE"},
        "export_time": exported,
    }


def _money(account: GoogleAccount, day: date, text: str, cost: Decimal, service: tuple[str, str]) -> Row:
    window = pacific_day(day)
    return common(account, window.start, window.end - timedelta(seconds=1)) | {
        "service": {"id": service[0], "description": service[1]},
        "sku": {"id": "0000-0000-0000", "description": text},
        "location": place_of("global"),
        "cost": float(cost),
        "usage": {"amount": 0.0, "unit": "count", "amount_in_pricing_units": 0.0, "pricing_unit": "count"},
        "cost_at_list": float(cost),
        "transaction_type": "GOOGLE",
    }
