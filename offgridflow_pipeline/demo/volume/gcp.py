"""Large Google Cloud exports, nested as in BigQuery: hourly rows over machine families, regions and services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, FleetItem
from offgridflow_pipeline.demo.google.metering import Window
from offgridflow_pipeline.demo.google.tables import DETAILED, FOCUS, STANDARD, table
from offgridflow_pipeline.demo.google.usage import CREDITS, GoogleAccount, Row, projects, skus_of, usage_row
from offgridflow_pipeline.demo.volume.draws import FIRST_HOUR, TEAMS, Chunk, Drawn, Keys, chosen, draw, hexadecimal

COST_UNITS = 1_000_000
_ACCOUNT = GoogleAccount("main", "0193CE-7DA2B4-55F10E", "gcp_fleet.csv")
_HOUR = Window(datetime(2026, 10, 5, 12, tzinfo=UTC), datetime(2026, 10, 5, 13, tzinfo=UTC))
_PLACES = ("belgium", "netherlands", "iowa", "singapore")
_FAMILIES = ("e2", "n2", "n2d", "c3", "n2-spot")
_CORES = (2, 4, 8, 16, 32, 48)
_TIME = pa.timestamp("us", tz="UTC")
_CREDIT = DETAILED.field("credits").type.value_type
#: FOCUS column <- column of the detailed export, members after a dot.
_FOCUS_OF = {
    "BillingAccountId": "billing_account_id", "BillingCurrency": "currency", "ChargePeriodStart": "usage_start_time",
    "ChargePeriodEnd": "usage_end_time", "ChargeDescription": "sku.description", "ConsumedUnit": "usage.unit",
    "PricingUnit": "usage.pricing_unit", "RegionId": "location.region", "x_Location": "location.location",
    "AvailabilityZone": "location.zone", "ResourceId": "resource.global_name", "ResourceName": "resource.name",
    "ServiceName": "service.description", "x_ServiceId": "service.id", "SkuId": "sku.id", "SubAccountId": "project.id",
    "SubAccountName": "project.name", "x_CostType": "cost_type", "x_ExportTime": "export_time",
    "x_ConsumptionModelId": "consumption_model.id", "x_ConsumptionModelDescription": "consumption_model.description",
    "x_SubscriptionInstanceId": "subscription.instance_id", "PublisherName": "seller_name",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Credit:
    """What a row of a key gives back of its cost, and for what."""

    share: float
    kind: str
    name: str


def detailed_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of the detailed usage cost export."""
    pools = _Pools(generator, accounts, days)
    for drawn in draw(keys(), rows, generator, COST_UNITS):
        yield _rows(drawn, generator, pools)


def standard_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of the standard usage cost export: the detailed one without resources."""
    for chunk in detailed_chunks(rows, generator, accounts, days):
        yield Chunk(chunk.table.select(STANDARD.names), chunk.cost)


def focus_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of the FOCUS export."""
    for chunk in detailed_chunks(rows, generator, accounts, days):
        yield Chunk(_focus(chunk.table), chunk.cost)


@cache
def keys() -> Keys:
    """One key for each SKU of the demonstration's resources and of further machine sizes, by region."""
    found = [
        (item, usage_row(_ACCOUNT, Consumption(item, 0, _HOUR.start.date(), Decimal(1)), sku, _HOUR, Decimal(1), 0))
        for item in _items()
        for sku in skus_of(item["kind"])
    ]
    rates = np.array([float(str(row["cost"])) for _, row in found])
    held = np.array([item["unit"] == "gibibyte month" for item, _ in found])
    sizes = np.array([float(item.daily) for item, _ in found]) / np.where(held, 1, 24)
    weights = np.array([6.0 if item["instance_type"] else 3.0 for item, _ in found])
    limits = np.array([1.0 if item["instance_type"] else np.inf for item, _ in found])
    return Keys(table([row for _, row in found], DETAILED), rates, sizes, weights, limits)


@cache
def _credits_of_keys() -> tuple[_Credit, ...]:
    found = []
    for item in _items():
        kind, name, share = CREDITS.get(item["purchase"], ("", "", Decimal(0)))
        found.extend([_Credit(float(share), kind, name)] * len(skus_of(item["kind"])))
    return tuple(found)


@cache
def _items() -> tuple[FleetItem, ...]:
    services = [item for item in fleet.fleet("gcp_fleet.csv") if item["place"] in _PLACES]
    global_ones = [item for item in fleet.fleet("gcp_fleet.csv") if item["place"] not in _PLACES]
    moved = (replace(i, fields={**i.fields, "place": place}) for place, i in product(_PLACES, services))
    pattern = next(item for item in services if item["kind"] == "e2")
    machines = (
        replace(
            pattern,
            fields={
                **pattern.fields, "place": place, "kind": family, "cores": str(cores), "memory_gib": str(cores * 4),
                "instance_type": f"{family.removesuffix('-spot')}-standard-{cores}",
            },
        )
        for place, family, cores in product(_PLACES, _FAMILIES, _CORES)
    )  # fmt: skip
    return (*moved, *global_ones, *machines)


def _rows(drawn: Drawn, generator: np.random.Generator, pools: _Pools) -> Chunk:
    hours = pa.array(generator.integers(0, len(pools.starts), drawn.count))
    given, credits = _credits(drawn)
    usage, cost = drawn.table["usage"].combine_chunks(), pa.array(drawn.costs / COST_UNITS)
    resources = chosen(pools.resources, generator, drawn.count)
    made: dict[str, Any] = {
        "usage_start_time": pools.starts.take(hours),
        "usage_end_time": pools.ends.take(hours),
        "export_time": pools.exports.take(hours),
        "project": chosen(pools.projects, generator, drawn.count),
        "labels": chosen(pools.labels, generator, drawn.count),
        "resource": resources,
        "cost": cost,
        "cost_at_list": cost,
        "cost_at_list_consumption_model": pc.cast(pc.round(cost, 6), pa.decimal128(38, 9), safe=False),
        "credits": credits,
        "usage": pa.StructArray.from_arrays(
            [
                pc.round(pc.multiply(usage.field("amount"), pa.array(drawn.amounts)), 6),
                usage.field("unit"),
                pc.multiply(usage.field("amount_in_pricing_units"), pa.array(drawn.amounts)),
                usage.field("pricing_unit"),
            ],
            fields=list(DETAILED.field("usage").type),
        ),
    }
    columns = [made.get(name, drawn.table[name]) for name in DETAILED.names]
    return Chunk(pa.Table.from_arrays(columns, schema=DETAILED), int(drawn.costs.sum() - given.sum()))


def _credits(drawn: Drawn) -> tuple[Any, pa.ListArray]:
    """What is given back of each row, in cost units, and the list of credits that says so."""
    kinds = _credits_of_keys()
    given = np.rint(drawn.costs * np.array([kind.share for kind in kinds])[drawn.key]).astype(np.int64)
    has = given > 0
    key = pa.array(drawn.key[has])
    names = pa.array([kind.name for kind in kinds]).take(key)
    values = pa.StructArray.from_arrays(
        [
            names, pa.array(-given[has] / COST_UNITS), pa.nulls(len(key), pa.string()), names,
            pa.array([kind.kind for kind in kinds]).take(key),
        ],
        fields=list(_CREDIT),
    )  # fmt: skip
    offsets = np.concatenate(([0], np.cumsum(has))).astype(np.int32)
    return given, pa.ListArray.from_arrays(pa.array(offsets), values, type=DETAILED.field("credits").type)


def _focus(rows: pa.Table) -> pa.Table:
    cost = pc.subtract(rows["cost"], _given(rows["credits"].combine_chunks()))
    numeric = pa.decimal128(38, 9)
    month = [datetime(2026, number, 1, 7, tzinfo=UTC) for number in (10, 11)]
    billed = pc.cast(pc.round(cost, 6), numeric, safe=False)
    values: dict[str, Any] = {name: _member(rows, path) for name, path in _FOCUS_OF.items()}
    values |= {
        "BillingPeriodStart": pa.repeat(pa.scalar(month[0], _TIME), rows.num_rows),
        "BillingPeriodEnd": pa.repeat(pa.scalar(month[1], _TIME), rows.num_rows),
        "ChargeCategory": pa.repeat("Usage", rows.num_rows),
        "ConsumedQuantity": pc.cast(pc.round(_member(rows, "usage.amount"), 6), numeric, safe=False),
        "PricingQuantity": pc.cast(pc.round(_member(rows, "usage.amount_in_pricing_units"), 9), numeric, safe=False),
        "BilledCost": billed,
        "EffectiveCost": billed,
        "ListCost": rows["cost_at_list_consumption_model"],
        "ContractedCost": rows["cost_at_list_consumption_model"],
    }
    return pa.Table.from_arrays(
        [values.get(field.name, pa.nulls(rows.num_rows, field.type)) for field in FOCUS], schema=FOCUS
    )


def _given(credits: pa.ListArray) -> pa.Array:
    """What the one credit of a row takes off, positive; 0 where there is none."""
    amounts = credits.values.field("amount")
    counted = np.diff(np.asarray(credits.offsets)).astype(bool)
    given = np.zeros(len(credits))
    given[counted] = -np.asarray(amounts)
    return pa.array(given)


def _member(rows: pa.Table, path: str) -> Any:
    name, _, member = path.partition(".")
    return pc.struct_field(rows[name], member) if member else rows[name]


class _Pools:
    """Values that rows draw from: hours, projects, labels, resources."""

    def __init__(self, generator: np.random.Generator, accounts: int, days: int) -> None:
        hours = (FIRST_HOUR + np.arange(days * 24)).astype("datetime64[us]")
        self.starts, self.ends, self.exports = (
            pa.array(hours + np.timedelta64(later, "h")).cast(_TIME) for later in (0, 1, 6)
        )
        pattern: Row = projects("main")["fleet"]
        self.projects = pa.array(
            [pattern | {"id": f"cedarvane-{n:02d}", "number": str(418_830_275_514 + n)} for n in range(accounts)],
            DETAILED.field("project").type,
        )
        self.labels = pa.array(
            [[{"key": "team", "value": team}] if team else [] for team in TEAMS], DETAILED.field("labels").type
        )
        names = hexadecimal(generator, 12)
        path = "//compute.googleapis.com/projects/cedarvane-00/zones/europe-west1-b/instances/"
        self.resources = pa.StructArray.from_arrays(
            [names, pc.binary_join_element_wise(path, names, "")], fields=list(DETAILED.field("resource").type)
        )
