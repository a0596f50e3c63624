"""A whole Google Cloud bill of some months: usage, then what every invoice adds to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from offgridflow_pipeline.demo.google.charges import corrections, invoice_rows, support
from offgridflow_pipeline.demo.google.usage import GoogleAccount, Row, usage
from offgridflow_pipeline.months import month_days


def bill(account: GoogleAccount, months: Sequence[str], special: str | None, seed: int) -> list[Row]:
    """All rows that were exported for the usage of some months (YYYY-MM); `special` is the one that gets corrected."""
    rows: list[Row] = []
    for month in months:
        rows.extend(usage(account, month_days(month), seed))
        if special:
            rows.append(support(account, month))
    if special:
        rows.extend(corrections(account, special, seed))
    invoices: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        invoices[_invoice(row)].append(row)
    for month in months:
        rows.extend(invoice_rows(account, month, invoices[month.replace("-", "")]))
    return rows


def by_partition(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by the month (YYYYMM) of the partition that they were loaded into."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        exported = row["export_time"]
        if isinstance(exported, datetime):
            found[f"{exported:%Y%m}"].append(row)
    return dict(sorted(found.items()))


def _invoice(row: Row) -> str:
    invoice = row["invoice"]
    return str(invoice["month"]) if isinstance(invoice, dict) else ""
