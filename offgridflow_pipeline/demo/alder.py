"""Alder Outdoor, an AWS customer: CUR 2.0 of the group, a legacy report of its outlets, FOCUS of its labs, carbon.

Of each bill the month before last was also delivered half-way, and the last month once before a restated day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline.demo import carbon, fleet
from offgridflow_pipeline.demo.amazon import layouts
from offgridflow_pipeline.demo.amazon.bill import bill
from offgridflow_pipeline.demo.amazon.usage import AmazonDelivery, Payer, Row
from offgridflow_pipeline.demo.exports import (
    DataExport,
    DeliveredAt,
    write_carbon_export,
    write_data_export,
    write_legacy_report,
    write_text_data_export,
)
from offgridflow_pipeline.demo.tenants import ControlTotal, DemoFeed, DemoTenant, delivered
from offgridflow_pipeline.months import month_days

SLUG = "alder-outdoor"
CURRENCY = "USD"
BUCKET = "alder-billing-exports"
GROUP = Payer("main", "aws_fleet.csv", Decimal("2.00"), one_offs=True)
OUTLET = Payer("outlet", "aws_small_fleet.csv", Decimal("0.11"))
LABS = Payer("labs", "aws_small_fleet.csv", Decimal("0.11"))
CUR2 = DataExport("alder-cur2", "COST_AND_USAGE_REPORT", BUCKET)
LEGACY = "alder-outlet-cur"
FOCUS = DataExport("alder-labs-focus", "FOCUS_1_2_AWS", BUCKET)
CARBON = DataExport("alder-carbon", "CARBON_EMISSIONS", BUCKET)


@dataclass(frozen=True, slots=True)
class _Delivered:
    """Rows of one delivery; `newest` says whether it is the last one of its month."""

    at: DeliveredAt
    rows: list[Row]
    newest: bool


def alder(out_dir: Path, months: Sequence[str], seed: int) -> DemoTenant:
    """Write all deliveries of the company."""
    root = out_dir / SLUG
    group, carbon_statement = _group(root, months, seed)
    return DemoTenant(
        SLUG,
        "Alder Outdoor Group SE",
        "9845ALDEROUTDOOR0138",
        CURRENCY,
        (group, _outlet(root, months, seed), _labs(root, months, seed)),
        (carbon_statement,),
    )


def _group(root: Path, months: Sequence[str], seed: int) -> tuple[DemoFeed, DemoFeed]:
    """The main bill, and what AWS states of it: the first month again by a newer model."""
    controls = []
    for delivery in _deliveries(GROUP, months, seed):
        month = delivery.at.month
        write_data_export(root, CUR2, layouts.cur2_table(delivery.rows), delivery.at)
        if delivery.newest:
            controls.append(ControlTotal.of(month, _costs(delivery.rows), CURRENCY))
            for model in carbon.AMAZON_MODELS if month == months[0] else carbon.AMAZON_MODELS[:1]:
                statement = carbon.amazon_statement(delivery.rows, month, model)
                write_carbon_export(root, CARBON, model, month, statement)
    feed = DemoFeed(f"{SLUG}-cur2", "cur2", root / CUR2.name, tuple(controls))
    return feed, DemoFeed(f"{SLUG}-carbon", "aws_carbon_export", root / CARBON.name)


def _outlet(root: Path, months: Sequence[str], seed: int) -> DemoFeed:
    controls, headers = [], list(layouts.legacy_headers())
    for delivery in _deliveries(OUTLET, months, seed):
        lines = list(layouts.legacy_rows(delivery.rows))
        write_legacy_report(root, LEGACY, BUCKET, OUTLET.id, headers, lines, delivery.at)
        if delivery.newest:
            controls.append(ControlTotal.of(delivery.at.month, _costs(delivery.rows), CURRENCY))
    return DemoFeed(f"{SLUG}-outlet-cur", "cur", root / LEGACY, tuple(controls))


def _labs(root: Path, months: Sequence[str], seed: int) -> DemoFeed:
    controls = []
    for delivery in _deliveries(LABS, months, seed):
        lines = list(layouts.focus_rows(delivery.rows))
        write_text_data_export(root, FOCUS, layouts.focus_columns(), lines, delivery.at)
        if delivery.newest:
            costs = ((line["ChargeCategory"], Decimal(line["BilledCost"])) for line in lines)
            controls.append(ControlTotal.of(delivery.at.month, costs, CURRENCY))
    return DemoFeed(f"{SLUG}-labs-focus", "focus", root / FOCUS.name, tuple(controls))


def _deliveries(payer: Payer, months: Sequence[str], seed: int) -> Iterator[_Delivered]:
    seed = fleet.own_seed(seed, payer.bill)
    for number, month in enumerate(months):
        days = month_days(month)
        special = number == len(months) // 2
        if month == months[-1]:
            late = AmazonDelivery(payer, month, days[-1], invoiced=False, special=special, late_day=days[13])
            yield _Delivered(delivered(month, 3, following=True), bill(late, seed), newest=False)
        elif number == len(months) - 2:
            half = AmazonDelivery(payer, month, days[20], invoiced=False)
            yield _Delivered(delivered(month, 22), bill(half, seed), newest=False)
        final = AmazonDelivery(payer, month, days[-1], special=special)
        yield _Delivered(delivered(month, 9, following=True), bill(final, seed), newest=True)


def _costs(rows: Sequence[Row]) -> Iterator[tuple[str, Decimal]]:
    for row in rows:
        yield str(row["line_item_line_item_type"]), Decimal(str(row["line_item_unblended_cost"]))
