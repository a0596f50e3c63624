"""Large Azure cost exports under EA headers: daily rows over machine sizes, regions and the demonstration's meters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, FleetItem
from offgridflow_pipeline.demo.microsoft.costs import CostAccount, columns, usage_row
from offgridflow_pipeline.demo.volume.draws import TEAMS, Chunk, Drawn, Keys, chosen, draw, hexadecimal, made, texts

COST_UNITS = 100_000_000
_ACCOUNT = CostAccount("clinics", "70615843", "Brightwater Clinics B.V.", "EA", "AmortizedCost")
_FIRST = date(2026, 10, 1)
_SERIES = (
    ("Dsv5 Series", "D{n}s v5", "Standard_D{n}s_v5"), ("Esv5 Series", "E{n}s v5", "Standard_E{n}s_v5"),
    ("Dasv5 Series", "D{n}as v5", "Standard_D{n}as_v5"), ("Easv5 Series", "E{n}as v5", "Standard_E{n}as_v5"),
    ("Fsv2 Series", "F{n}s v2", "Standard_F{n}s_v2"),
)  # fmt: skip
_PURCHASES = ("ondemand", "reservation")
_VCPUS = (2, 4, 8, 16, 32, 48, 64)
#: EA spells two headers in lower camel case.
_VALUES = {"benefitId": "BenefitId", "benefitName": "BenefitName"}
_PRICE_PER_VCPU = Decimal("0.048")


def amortized_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of an amortized export."""
    return _chunks(keys(), rows, generator, accounts, days)


def actual_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of an actual export: covered usage costs nothing."""
    amortized = keys()
    covered = np.asarray(pc.equal(amortized.table["PricingModel"], "Reservation"))
    actual = replace(amortized, rates=amortized.rates * ~covered)
    return _chunks(actual, rows, generator, accounts, days)


@cache
def keys() -> Keys:
    """Machine sizes by region and purchase, and the meters of the demonstration by region."""
    regions = [row["region"] for row in fleet.rows("azure_regions.csv") if row["region"] != "none"]
    items = (*_machines(), *fleet.fleet("azure_fleet.csv"))
    found, sizes, weights, limits = [], [], [], []
    for region in regions:
        for item in items:
            placed = replace(item, fields={**item.fields, "region": region, "subscription": "apps"})
            found.append(usage_row(_ACCOUNT, Consumption(placed, 0, _FIRST, Decimal(1)), 0))
            sizes.append(float(item.daily) / (30 if item["unit_description"].endswith(fleet.MONTHLY_UNITS) else 1))
            weights.append(6.0 if item["instance_type"] else 3.0)
            limits.append(24.0 if item["instance_type"] else np.inf)
    rates = np.array([float(row["EffectivePrice"]) for row in found])
    return Keys(pa.Table.from_pylist(found), rates, np.array(sizes), np.array(weights), np.array(limits))


def _machines() -> Iterator[FleetItem]:
    pattern = fleet.fleet("azure_fleet.csv")[0]
    for number, ((series, meter, size), vcpus, purchase) in enumerate(product(_SERIES, _VCPUS, _PURCHASES)):
        fields = pattern.fields | {
            "meter_subcategory": series, "meter": meter.format(n=vcpus), "instance_type": size.format(n=vcpus),
            "vcpu": str(vcpus), "purchase": purchase,
        }  # fmt: skip
        yield FleetItem(100 + number, fields, 1, Decimal(12), _PRICE_PER_VCPU * vcpus)


def _chunks(drawn_from: Keys, rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    pools = _Pools(generator, accounts, days)
    headers = columns(_ACCOUNT)
    for drawn in draw(drawn_from, rows, generator, COST_UNITS):
        yield Chunk(_rows(drawn, generator, pools, headers), int(drawn.costs.sum()), has_json=True)


def _rows(drawn: Drawn, generator: np.random.Generator, pools: _Pools, headers: list[str]) -> pa.Table:
    accounts = pa.array(generator.integers(0, len(pools.accounts), drawn.count))
    names = chosen(pools.names, generator, drawn.count)
    made_values: dict[str, Any] = {
        "Date": chosen(pools.days, generator, drawn.count),
        "Quantity": texts(drawn.amounts),
        "Cost": texts(drawn.costs / COST_UNITS),
        "SubscriptionId": pools.accounts.take(accounts),
        "SubscriptionName": pools.account_names.take(accounts),
        "ResourceName": names,
        "ResourceId": pc.binary_join_element_wise(
            "/subscriptions/", pools.accounts.take(accounts), "/resourceGroups/", drawn.table["ResourceGroup"],
            "/providers/", drawn.table["ConsumedService"], "/resources/", names, "",
        ),
        "Tags": chosen(pools.tags, generator, drawn.count),
    }  # fmt: skip
    table = made([_VALUES.get(header, header) for header in headers], drawn, made_values)
    return table.rename_columns(headers)


class _Pools:
    """Values that rows draw from: subscriptions, days, resource names, tags."""

    def __init__(self, generator: np.random.Generator, accounts: int, days: int) -> None:
        self.accounts = pa.array([f"{n:08x}-5d20-4f93-8e6a-71b2f09d3c55" for n in range(accounts)])
        self.account_names = pa.array([f"brightwater-{n:02d}" for n in range(accounts)])
        self.days = pa.array([f"{_FIRST + timedelta(days=n):%m/%d/%Y}" for n in range(days)])
        self.names = hexadecimal(generator, 12)
        self.tags = pa.array([f'"team": "{team}","environment": "production"' if team else None for team in TEAMS])
