"""Generates the demonstration: bills of two fictional companies in the layouts their providers deliver.

`generate` writes the bills, a connections file and the control totals that the pipeline must arrive at.
The newest delivery of a month is the bill; earlier ones (month to date, before a restated day) stay beside it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from offgridflow_pipeline.demo import amazon, exports, fleet, microsoft

SEED = 7
LAST_MONTH = date(2026, 10, 1)
ALDER = "alder-outdoor"
BRIGHTWATER = "brightwater-health"
BUCKET = "alder-billing-exports"
_CONTROLS_FILE = "control-totals.json"
MAXIMUM_MONTHS = 36


class DemoBillsError(ValueError):
    """The bills cannot be generated with these arguments or into this folder."""


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """What one month of one tenant must come to after ingestion: rows and billed cost of the newest delivery."""

    month: str
    rows: int
    billed_cost: Decimal
    currency: str
    rows_by_charge: dict[str, int]


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A fictional company; `uri` is the folder its bills were delivered to."""

    slug: str
    display_name: str
    lei: str
    currency: str
    kind: Literal["cur2", "focus"]
    uri: Path
    controls: tuple[ControlTotal, ...]


@dataclass(frozen=True, slots=True)
class DemoBills:
    """Everything that was generated; months are YYYY-MM, oldest first."""

    root: Path
    connections_file: Path
    controls_file: Path
    months: tuple[str, ...]
    tenants: tuple[DemoTenant, ...]


def generate(out_dir: Path, *, months: int = 3, seed: int = SEED) -> DemoBills:
    """Write `months` months of bills ending with October 2026; equal arguments give equal bytes.

    Raises:
        DemoBillsError: `months` is out of range, or the folder holds something that is not a demonstration.
    """
    if not 1 <= months <= MAXIMUM_MONTHS:
        raise DemoBillsError(f"months is {months}; use 1 to {MAXIMUM_MONTHS}.")
    _clear(out_dir)
    names = _months(months)
    tenants = (_alder(out_dir, names, seed), _brightwater(out_dir, names, seed))
    connections = out_dir / "connections.json"
    connections.write_text(
        json.dumps(
            {
                t.slug: [{"id": f"{t.slug}-{t.kind}", "kind": t.kind, "uri": str(t.uri.relative_to(out_dir))}]
                for t in tenants
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    controls = out_dir / _CONTROLS_FILE
    controls.write_text(
        json.dumps({t.slug: [asdict(c) for c in t.controls] for t in tenants}, indent=2, default=str) + "\n",
        encoding="utf-8",
    )
    return DemoBills(out_dir, connections, controls, names, tenants)


def _alder(out_dir: Path, months: tuple[str, ...], seed: int) -> DemoTenant:
    """AWS: the month before last was also delivered half-way, the last month once before a restated day."""
    slug, export = ALDER, "alder-cur2"
    root, controls = out_dir / slug, []
    for number, month in enumerate(months):
        days = fleet.month_days(month)
        last, special = month == months[-1], number == len(months) // 2
        if last:
            late = amazon.AmazonDelivery(month, days[-1], invoiced=False, special=special, late_day=days[13])
            _deliver_amazon(root, export, late, seed, _after(month, 3))
        elif number == len(months) - 2:
            half = amazon.AmazonDelivery(month, days[20], invoiced=False)
            _deliver_amazon(root, export, half, seed, datetime(days[0].year, days[0].month, 22, 6, 12, 44))  # noqa: DTZ001
        final = amazon.AmazonDelivery(month, days[-1], special=special)
        rows = _deliver_amazon(root, export, final, seed, _after(month, 9))
        costs = (Decimal(str(row["line_item_unblended_cost"])) for row in rows)
        kinds = (str(row["line_item_line_item_type"]) for row in rows)
        controls.append(_control(month, costs, kinds, "USD"))
    return DemoTenant(
        slug, "Alder Outdoor Group SE", "9845ALDEROUTDOOR0138", "USD", "cur2", root / export, tuple(controls)
    )


def _deliver_amazon(
    root: Path, export: str, delivery: amazon.AmazonDelivery, seed: int, written: datetime
) -> list[amazon.Row]:
    rows = amazon.bill(delivery, seed)
    at = exports.DeliveredAt(delivery.month, written)
    exports.write_data_export(root, export, BUCKET, amazon.columns(), amazon.table(rows), at)
    return rows


def _brightwater(out_dir: Path, months: tuple[str, ...], seed: int) -> DemoTenant:
    """Azure: the last month was also delivered half-way."""
    slug, export = BRIGHTWATER, "brightwater-focus"
    root, controls = out_dir / slug, []
    for number, month in enumerate(months):
        days, special = fleet.month_days(month), number == len(months) // 2
        if month == months[-1]:
            half = microsoft.MicrosoftDelivery(month, days[24])
            at = exports.DeliveredAt(month, datetime(days[0].year, days[0].month, 26, 4, 30))  # noqa: DTZ001
            exports.write_cost_management_export(root, export, microsoft.columns(), microsoft.bill(half, seed), at)
        rows = microsoft.bill(microsoft.MicrosoftDelivery(month, days[-1], special=special), seed)
        at = exports.DeliveredAt(month, _after(month, 6))
        exports.write_cost_management_export(root, export, microsoft.columns(), rows, at)
        controls.append(
            _control(month, (Decimal(r["BilledCost"]) for r in rows), (r["ChargeCategory"] for r in rows), "EUR")
        )
    return DemoTenant(
        slug, "Brightwater Health B.V.", "7245BRIGHTWATERH0145", "EUR", "focus", root / export, tuple(controls)
    )


def _control(month: str, costs: Iterable[Decimal], charges: Iterable[str], currency: str) -> ControlTotal:
    kinds = Counter(charges)
    return ControlTotal(month, kinds.total(), sum(costs, Decimal(0)), currency, dict(sorted(kinds.items())))


def _months(count: int) -> tuple[str, ...]:
    last = LAST_MONTH.year * 12 + LAST_MONTH.month - 1
    return tuple(f"{n // 12:04d}-{n % 12 + 1:02d}" for n in range(last - count + 1, last + 1))


def _after(month: str, day: int) -> datetime:
    """A moment of the following month, when the provider wrote the export."""
    _, following = exports.DeliveredAt(month, datetime.min).period  # noqa: DTZ901
    return datetime(following.year, following.month, day, 6, 12, 44)  # noqa: DTZ001


def _clear(out_dir: Path) -> None:
    """Remove the demonstration of an earlier call, and nothing else."""
    out_dir.mkdir(parents=True, exist_ok=True)
    controls = out_dir / _CONTROLS_FILE
    if not controls.is_file():
        if any(out_dir.iterdir()):
            raise DemoBillsError(f"{out_dir} is not empty and was not written by the demo; name a new folder.")
        return
    for slug in json.loads(controls.read_text(encoding="utf-8")):
        if slug in (ALDER, BRIGHTWATER):
            shutil.rmtree(out_dir / slug, ignore_errors=True)
