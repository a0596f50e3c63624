"""Cedarvane Mobility, a Google Cloud customer: detailed export of the group, standard of its ferries, FOCUS, carbon.

Bills are extracts of the BigQuery tables, a file a month of partitions. Late rows and corrections lie in the
partition after, with the next invoice (billing-feeds.md 6.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline.demo import carbon, fleet
from offgridflow_pipeline.demo.exports import write_table_extract
from offgridflow_pipeline.demo.google import tables
from offgridflow_pipeline.demo.google.bill import bill, by_partition
from offgridflow_pipeline.demo.google.charges import charged
from offgridflow_pipeline.demo.google.usage import CURRENCY, GoogleAccount, Row
from offgridflow_pipeline.demo.tenants import ControlTotal, DemoFeed, DemoTenant

SLUG = "cedarvane-mobility"
GROUP = GoogleAccount("main", "0193CE-7DA2B4-55F10E", "gcp_fleet.csv")
FERRIES = GoogleAccount("ferries", "01A7F2-3B90D1-6C48E5", "gcp_small_fleet.csv")
WORKSHOPS = GoogleAccount("workshops", "01D4B8-92EE07-F3A61C", "gcp_small_fleet.csv")
CARBON = "carbon_footprint"


def cedarvane(out_dir: Path, months: Sequence[str], seed: int) -> DemoTenant:
    """Write all deliveries of the company."""
    root = out_dir / SLUG
    group, footprint = _group(root, months, seed)
    return DemoTenant(
        SLUG,
        "Cedarvane Mobility Ltd",
        "6391CEDARVANEMOB0191",
        CURRENCY,
        (group, _ferries(root, months, seed), _workshops(root, months, seed)),
        (footprint,),
    )


def _group(root: Path, months: Sequence[str], seed: int) -> tuple[DemoFeed, DemoFeed]:
    """The main bill, and what Google states of it: the first month again by a newer model."""
    rows = bill(GROUP, months, months[len(months) // 2], fleet.own_seed(seed, GROUP.bill))
    table = f"gcp_billing_export_resource_v1_{GROUP.table_suffix}"
    for partition, part in by_partition(rows).items():
        write_table_extract(root, table, partition, tables.table(part, tables.DETAILED))
    for month in months:
        for model in carbon.GOOGLE_MODELS if month == months[0] else carbon.GOOGLE_MODELS[:1]:
            statement = carbon.google_statement(rows, month, model)
            write_table_extract(root, CARBON, f"{month.replace('-', '')}-{model}", statement)
    feed = DemoFeed(f"{SLUG}-detailed", "gcp_detailed", root / table, _controls(rows, months))
    return feed, DemoFeed(f"{SLUG}-carbon", "gcp_carbon", root / CARBON)


def _ferries(root: Path, months: Sequence[str], seed: int) -> DemoFeed:
    rows = bill(FERRIES, months, None, fleet.own_seed(seed, FERRIES.bill))
    table = f"gcp_billing_export_v1_{FERRIES.table_suffix}"
    for partition, part in by_partition(rows).items():
        write_table_extract(root, table, partition, tables.table(part, tables.STANDARD))
    return DemoFeed(f"{SLUG}-ferries-standard", "gcp_standard", root / table, _controls(rows, months))


def _workshops(root: Path, months: Sequence[str], seed: int) -> DemoFeed:
    rows = bill(WORKSHOPS, months, None, fleet.own_seed(seed, WORKSHOPS.bill))
    table = f"gcp_billing_export_focus_{WORKSHOPS.table_suffix}"
    for partition, part in by_partition(rows).items():
        write_table_extract(root, table, partition, tables.focus_table(part))
    return DemoFeed(f"{SLUG}-workshops-focus", "gcp_focus", root / table, _controls(rows, months))


def _controls(rows: Sequence[Row], months: Sequence[str]) -> tuple[ControlTotal, ...]:
    """By month of usage (UTC): an invoice also holds late rows of the month before."""
    return tuple(ControlTotal.of(month, _charges(rows, month), CURRENCY) for month in months)


def _charges(rows: Sequence[Row], month: str) -> Iterator[tuple[str, Decimal]]:
    for row in rows:
        used = row["usage_start_time"]
        if isinstance(used, datetime) and f"{used:%Y-%m}" == month:
            yield str(row["cost_type"]), charged(row)
