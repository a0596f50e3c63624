"""Bills of any feed by name: which layout writes it, and the file with what it must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import numpy as np

from offgridflow_pipeline.connectors.feeds import FeedName
from offgridflow_pipeline.demo.volume import azure, cur, focus, gcp
from offgridflow_pipeline.demo.volume.draws import Chunk
from offgridflow_pipeline.demo.volume.files import write_csv, write_parquet

#: Chunks of a bill, made from (rows, generator, accounts, days).
_Layout: TypeAlias = Callable[[int, np.random.Generator, int, int], Iterator[Chunk]]
_LAYOUTS: dict[FeedName, tuple[_Layout, int]] = {
    "cur": (cur.legacy_chunks, cur.COST_UNITS),
    "cur2": (cur.cur2_chunks, cur.COST_UNITS),
    "focus": (focus.chunks, cur.COST_UNITS),
    "azure_actual": (azure.actual_chunks, azure.COST_UNITS),
    "azure_amortized": (azure.amortized_chunks, azure.COST_UNITS),
    "gcp_detailed": (gcp.detailed_chunks, gcp.COST_UNITS),
    "gcp_standard": (gcp.standard_chunks, gcp.COST_UNITS),
    "gcp_focus": (gcp.focus_chunks, gcp.COST_UNITS),
}


@dataclass(frozen=True, slots=True)
class VolumeBill:
    """A generated file: its rows and their exact billed cost in the bill's currency."""

    path: Path
    rows: int
    billed_cost: Decimal


def generate_bill(
    path: Path, rows: int, seed: int = 7, *, feed: FeedName, accounts: int = 12, days: int = 31
) -> VolumeBill:
    """Write one bill of October 2026; Parquet or csv.gz by the name, and the file appears when it is complete.

    Args:
        path: a name ending in ``.csv.gz`` or ``.parquet``; nested layouts (CUR 2.0, GCP) are Parquet only.
        rows: how many rows, whatever the number of accounts and days.
        seed: equal seeds give equal rows.
        feed: whose columns and values.
        accounts: accounts, subscriptions or projects that rows are spread over.
        days: days of the month that rows are spread over.
    """
    chunks, units = _LAYOUTS[feed]
    made = chunks(rows, np.random.Generator(np.random.PCG64(seed)), accounts, days)
    write = write_csv if path.name.endswith(".csv.gz") else write_parquet
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    cost = write(partial, made)
    partial.replace(path)
    return VolumeBill(path, rows, Decimal(cost) / units)
