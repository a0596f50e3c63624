"""Daily cost per project, added up by BigQuery itself over a billing export (billing-feeds.md 6).

It holds the rows we copied out against the table they came from, up to the same export time. Credits are added in a
scalar subquery: joined with their rows they would multiply the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, Parameter
from offgridflow_pipeline.connectors.control_totals.totals import Total
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.feeds import Dialect

#: Wide enough for any bill, and with it every digit of a stated cost; costs are floats in the standard export, so
#: their text is added up, not their binary value.
_MONEY = "BIGNUMERIC(38, 18)"
_WATERMARK = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class _Layout:
    used: str
    exported: str
    account: str
    project: str
    currency: str
    cost: str


def _text_sum(column: str) -> str:
    return f"SUM(CAST(CAST({column} AS STRING) AS {_MONEY}))"


_CREDITS = f"(SELECT {_text_sum('credit.amount')} FROM UNNEST(credits) AS credit)"
_LAYOUTS: dict[Dialect, _Layout] = {
    "gcp": _Layout(
        "usage_start_time",
        "export_time",
        "billing_account_id",
        "project.id",
        "currency",
        f"{_text_sum('cost')} + SUM(IFNULL({_CREDITS}, 0))",
    ),
    "focus": _Layout(
        "ChargePeriodStart",
        "x_ExportTime",
        "BillingAccountId",
        "SubAccountId",
        "BillingCurrency",
        _text_sum("BilledCost"),
    ),
}


def billing_table(
    table: BigQueryTable, dialect: Dialect, days: Sequence[date], *, watermark: str | None = None
) -> Iterator[Total]:
    """Totals of the usage days (UTC) with the number of their rows.

    `watermark` is the newest export time to count, as the version of a `BigQuerySource` delivery begins with it.
    With one the totals are final: they are those of the rows that were read, whatever arrives later.

    Raises:
        DeliveryError: the watermark is no such version; else as `bigquery.client.BigQueryTable`.
    """
    layout = _LAYOUTS[dialect]
    bound = (watermark or "").partition("|")[0]
    parameters: dict[str, Parameter] = {
        "first": _midnight(min(days)),
        "end": _midnight(max(days) + timedelta(days=1)),
        "days": sorted(set(days)),
    }
    conditions = [f"{layout.used} >= @first", f"{layout.used} < @end", f"DATE({layout.used}) IN UNNEST(@days)"]
    if bound:
        conditions.append(f"({layout.exported} IS NULL OR {layout.exported} <= @newest)")
        parameters["newest"] = _export_time(bound)
    partitioning = table.description.time_partitioning
    if partitioning is not None and partitioning.field is None:
        # Usage is exported after it happened: nothing of the first day lies in a partition before it.
        conditions.append("_PARTITIONTIME >= @ingested")
        parameters["ingested"] = _midnight(min(days) - timedelta(days=1))
    rows = table.rows(
        f"SELECT DATE({layout.used}) AS day, {layout.account} AS account, {layout.project} AS project, "
        f"{layout.currency} AS currency, {layout.cost} AS cost, COUNT(*) AS n, MAX({layout.exported}) AS newest "
        f"FROM {{table}} WHERE {' AND '.join(conditions)} GROUP BY day, account, project, currency",
        parameters,
    )
    for row in rows:
        newest = row["newest"].astimezone(UTC).strftime(_WATERMARK) if row["newest"] else None
        yield Total(
            row["day"], row["account"], row["project"], row["currency"], Decimal(row["cost"] or 0),
            is_final=bool(bound), line_count=row["n"], watermark=bound or newest,
        )  # fmt: skip


def _export_time(bound: str) -> datetime:
    try:
        return datetime.strptime(bound, _WATERMARK).replace(tzinfo=UTC)
    except ValueError:
        raise DeliveryError(f"{bound!r} is no export time of a BigQuery delivery: read the days again.") from None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
