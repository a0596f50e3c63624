"""Large AWS bills: legacy CUR as text, CUR 2.0 as a table with maps; hourly rows over about 1,100 usage keys."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.volume.draws import (
    FIRST_HOUR,
    POOL,
    TEAMS,
    Chunk,
    Drawn,
    Keys,
    chosen,
    draw,
    hexadecimal,
    made,
    texts,
)

COST_UNITS = 100_000_000
_PERIOD = ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")

#: Legacy header of each column; CUR 2.0 writes the same columns in snake case.
_HEADERS = {
    "identity_line_item_id": "identity/LineItemId",
    "identity_time_interval": "identity/TimeInterval",
    "bill_invoice_id": "bill/InvoiceId",
    "bill_invoicing_entity": "bill/InvoicingEntity",
    "bill_billing_entity": "bill/BillingEntity",
    "bill_bill_type": "bill/BillType",
    "bill_payer_account_id": "bill/PayerAccountId",
    "bill_billing_period_start_date": "bill/BillingPeriodStartDate",
    "bill_billing_period_end_date": "bill/BillingPeriodEndDate",
    "line_item_usage_account_id": "lineItem/UsageAccountId",
    "line_item_line_item_type": "lineItem/LineItemType",
    "line_item_usage_start_date": "lineItem/UsageStartDate",
    "line_item_usage_end_date": "lineItem/UsageEndDate",
    "line_item_product_code": "lineItem/ProductCode",
    "line_item_usage_type": "lineItem/UsageType",
    "line_item_operation": "lineItem/Operation",
    "line_item_availability_zone": "lineItem/AvailabilityZone",
    "line_item_resource_id": "lineItem/ResourceId",
    "line_item_usage_amount": "lineItem/UsageAmount",
    "line_item_currency_code": "lineItem/CurrencyCode",
    "line_item_unblended_rate": "lineItem/UnblendedRate",
    "line_item_unblended_cost": "lineItem/UnblendedCost",
    "line_item_blended_rate": "lineItem/BlendedRate",
    "line_item_blended_cost": "lineItem/BlendedCost",
    "line_item_line_item_description": "lineItem/LineItemDescription",
    "line_item_tax_type": "lineItem/TaxType",
    "line_item_legal_entity": "lineItem/LegalEntity",
    "product_product_name": "product/ProductName",
    "product_instance_type": "product/instanceType",
    "product_location": "product/location",
    "product_memory": "product/memory",
    "product_product_family": "product/productFamily",
    "product_region": "product/region",
    "product_region_code": "product/regionCode",
    "product_servicecode": "product/servicecode",
    "product_sku": "product/sku",
    "product_vcpu": "product/vcpu",
    "pricing_rate_id": "pricing/RateId",
    "pricing_public_on_demand_cost": "pricing/publicOnDemandCost",
    "pricing_public_on_demand_rate": "pricing/publicOnDemandRate",
    "pricing_term": "pricing/term",
    "pricing_unit": "pricing/unit",
    "reservation_effective_cost": "reservation/EffectiveCost",
    "reservation_reservation_a_r_n": "reservation/ReservationARN",
    "user_team": "resourceTags/user:team",
    "user_environment": "resourceTags/user:environment",
}
_NUMBERS = (
    "line_item_usage_amount", "line_item_unblended_cost", "line_item_blended_cost",
    "pricing_public_on_demand_cost", "reservation_effective_cost",
)  # fmt: skip
_TIMES = (
    "bill_billing_period_start_date", "bill_billing_period_end_date",
    "line_item_usage_start_date", "line_item_usage_end_date",
)  # fmt: skip
#: Attributes that CUR 2.0 carries in the product map only.
_IN_PRODUCT_MAP = ("product_product_name", "product_memory", "product_vcpu", "product_region")


def legacy_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of a legacy report."""
    for chunk in text_chunks(rows, generator, accounts, days):
        yield Chunk(chunk.table.rename_columns(list(_HEADERS.values())), chunk.cost)


def cur2_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows of a CUR 2.0 export."""
    for chunk in text_chunks(rows, generator, accounts, days):
        yield Chunk(_cur2(chunk.table), chunk.cost)


def text_chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[Chunk]:
    """Rows as texts, under the names of CUR 2.0."""
    pools = _Pools(generator, accounts, days)
    for drawn in draw(keys(), rows, generator, COST_UNITS):
        yield Chunk(_rows(drawn, generator, pools), int(drawn.costs.sum()))


@cache
def keys() -> Keys:
    """Instance types by region and purchase, and the services of the demonstration by region."""
    regions = [row for row in fleet.rows("aws_regions.csv") if row["region"] != "global"]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (*_instance_keys(regions), *_fleet_keys(regions)):
        key = (row["line_item_usage_type"], row["line_item_operation"] or "", row["line_item_line_item_type"])
        found.setdefault(key, row)
    rows = list(found.values())
    charged = np.array([row["line_item_line_item_type"] != "DiscountedUsage" for row in rows])
    rates = np.array([float(row["pricing_public_on_demand_rate"]) for row in rows])
    sizes, weights = (np.array([row.pop(name) for row in rows]) for name in ("size", "weight"))
    limits = np.array([1.0 if row["resource_prefix"] == "i-" else np.inf for row in rows])
    return Keys(pa.Table.from_pylist(rows), rates * charged, sizes, weights, limits)


def _rows(drawn: Drawn, generator: np.random.Generator, pools: _Pools) -> pa.Table:
    count = drawn.count
    hours = pa.array(generator.integers(0, len(pools.starts), count))
    costs = texts(drawn.costs / COST_UNITS)
    listed = np.asarray(pc.cast(drawn.table["pricing_public_on_demand_rate"], pa.float64()))
    letters = (chosen(pools.letters, generator, count) for _ in range(2))
    return made(
        list(_HEADERS),
        drawn,
        {
            "identity_line_item_id": pc.binary_join_element_wise(*letters, ""),
            "identity_time_interval": pools.intervals.take(hours),
            "line_item_usage_account_id": chosen(pools.accounts, generator, count),
            "line_item_usage_start_date": pools.starts.take(hours),
            "line_item_usage_end_date": pools.ends.take(hours),
            "line_item_resource_id": pc.binary_join_element_wise(
                drawn.table["resource_prefix"], chosen(pools.resources, generator, count), ""
            ),
            "line_item_usage_amount": texts(drawn.amounts),
            "line_item_unblended_cost": costs,
            "line_item_blended_cost": costs,
            "pricing_public_on_demand_cost": texts(np.round(drawn.amounts * listed, 8)),
            "user_team": chosen(pools.teams, generator, count),
        },
    )


def _cur2(chunk: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in _HEADERS:
        if name.startswith("user_") or name in _IN_PRODUCT_MAP:
            continue
        column = chunk[name]
        if name in _NUMBERS:
            column = pc.cast(column, pa.float64())
        elif name in _TIMES:
            column = pc.strptime(column, format="%Y-%m-%dT%H:%M:%SZ", unit="ms")
        columns[name] = column
    columns["product"] = _map({name.removeprefix("product_"): chunk[name] for name in _IN_PRODUCT_MAP})
    columns["resource_tags"] = _map({name: chunk[name] for name in ("user_team", "user_environment")})
    return pa.table(columns)


def _map(columns: dict[str, Any]) -> pa.MapArray:
    """A MAP column of the non-null members."""
    rows, width = len(next(iter(columns.values()))), len(columns)
    values = pa.concat_arrays([column.combine_chunks() for column in columns.values()])
    order = np.arange(rows * width).reshape(width, rows).T.ravel()
    items = values.take(pa.array(order))
    keys = pa.array(list(columns)).take(pa.array(np.tile(np.arange(width), rows)))
    valid = np.asarray(items.is_valid())
    offsets = np.concatenate(([0], np.cumsum(valid.reshape(rows, width).sum(axis=1)))).astype(np.int32)
    mask = pa.array(valid)
    return pa.MapArray.from_arrays(pa.array(offsets), keys.filter(mask), items.filter(mask))


class _Pools:
    """Values that rows draw from: accounts, hours, resource ids, letters of line item ids, teams."""

    def __init__(self, generator: np.random.Generator, accounts: int, days: int) -> None:
        hours = FIRST_HOUR + np.arange(days * 24)
        text = np.datetime_as_string(hours, unit="s")
        following = np.datetime_as_string(hours + 1, unit="s")
        self.starts = pa.array([f"{hour}Z" for hour in text])
        self.ends = pa.array([f"{hour}Z" for hour in following])
        self.intervals = pa.array([f"{a}Z/{b}Z" for a, b in zip(text, following, strict=True)])
        self.accounts = pa.array([f"{61_734_982_215 + 83_911_407_221 * n:012d}" for n in range(accounts)])
        self.resources = hexadecimal(generator, 17)
        alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
        self.letters = pa.array(["".join(row) for row in alphabet[generator.integers(0, 32, (POOL, 26))]])
        self.teams = pa.array(TEAMS)


def _instance_keys(regions: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    uses = (("BoxUsage", "RunInstances", "Usage", 6.0), ("BoxUsage", "RunInstances:0002", "DiscountedUsage", 2.0))
    for instance in fleet.rows("volume_instances.csv"):
        for region in regions:
            for usage, operation, kind, weight in uses:
                yield _key(region) | {
                    "line_item_product_code": "AmazonEC2",
                    "line_item_line_item_type": kind,
                    "line_item_usage_type": f"{region['prefix']}{usage}:{instance['instance_type']}",
                    "line_item_operation": operation,
                    "line_item_line_item_description": f"${instance['rate']} per On Demand Linux instance hour",
                    "product_product_name": "Amazon Elastic Compute Cloud",
                    "product_product_family": "Compute Instance",
                    "product_instance_type": instance["instance_type"],
                    "product_vcpu": instance["vcpu"],
                    "product_memory": instance["memory"],
                    "product_servicecode": "AmazonEC2",
                    "pricing_unit": "Hrs",
                    "pricing_public_on_demand_rate": instance["rate"],
                    "resource_prefix": "i-",
                    "size": 1.0,
                    "weight": weight,
                }


def _fleet_keys(regions: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    sizes = {row["instance_type"]: row for row in fleet.rows("aws_instances.csv")}
    for region in regions:
        for item in fleet.fleet("aws_fleet.csv"):
            if "{p}" not in item["usage_type"] and region["prefix"]:
                continue
            size = sizes.get(item["instance_type"], {})
            yield _key(region) | {
                "line_item_product_code": item["product_code"],
                "line_item_line_item_type": "Usage",
                "line_item_usage_type": item["usage_type"].replace("{p}", region["prefix"]),
                "line_item_operation": item["operation"] or None,
                "line_item_line_item_description": f"${item['rate']} per {item['unit']} - {item['product_name']}",
                "product_product_name": item["product_name"],
                "product_product_family": item["product_family"] or None,
                "product_instance_type": item["instance_type"] or None,
                "product_vcpu": size.get("vcpu"),
                "product_memory": size.get("memory"),
                "product_servicecode": item["product_code"],
                "pricing_unit": item["unit"],
                "pricing_public_on_demand_rate": item["rate"],
                "resource_prefix": f"arn:aws:{item['product_code'].lower()}:{region['region']}:"
                if item["resource"]
                else None,
                "size": float(item.daily) / (720 if item["unit"].endswith(fleet.MONTHLY_UNITS) else 24),
                "weight": 3.0,
            }


def _key(region: dict[str, str]) -> dict[str, Any]:
    return {
        "bill_invoice_id": "EUINGB26-100070",
        "bill_invoicing_entity": "Amazon Web Services EMEA SARL",
        "bill_billing_entity": "AWS",
        "bill_bill_type": "Anniversary",
        "bill_payer_account_id": "418273650914",
        "bill_billing_period_start_date": _PERIOD[0],
        "bill_billing_period_end_date": _PERIOD[1],
        "line_item_availability_zone": region["region"] + "a",
        "line_item_currency_code": "USD",
        "line_item_legal_entity": "Amazon Web Services EMEA SARL",
        "product_location": region["location"],
        "product_region": region["region"],
        "product_region_code": region["region"],
        "pricing_term": "OnDemand",
        "user_environment": "production",
    }
