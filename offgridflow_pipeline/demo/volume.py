"""Large AWS bills for benchmarks: a million rows in seconds, with the key count and shape of real ones.

Hourly rows over about 1,100 usage keys (peers.md, "Measured performance"), drawn by a seeded PCG64 generator;
equal arguments give equal rows. Cost per row is an exact number of 1e-8 USD, so the total is known exactly.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from offgridflow_pipeline.demo import fleet

KEYS = 1_128
CHUNK_ROWS = 100_000
COST_UNITS = 100_000_000
_POOL = 32_768
_PERIOD = ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
_FIRST_DAY = np.datetime64("2026-10-01T00", "h")

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


@dataclass(frozen=True, slots=True)
class VolumeBill:
    """A generated file: rows, exact billed cost in USD and number of distinct usage types with operation."""

    path: Path
    rows: int
    billed_cost: Decimal
    keys: int


def generate_cur(
    path: Path,
    rows: int,
    seed: int = 7,
    *,
    kind: Literal["cur", "cur2"] = "cur",
    accounts: int = 12,
    days: int = 31,
) -> VolumeBill:
    """Write one bill of `rows` rows: ``cur`` = legacy csv.gz, ``cur2`` = Parquet; the file appears when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    generator = np.random.Generator(np.random.PCG64(seed))
    chunks = _chunks(rows, generator, accounts, days)
    cost = _write_csv(partial, chunks) if kind == "cur" else _write_parquet(partial, chunks)
    partial.replace(path)
    return VolumeBill(path, rows, Decimal(cost) / COST_UNITS, KEYS)


def _write_csv(path: Path, chunks: Iterator[tuple[pa.Table, int]]) -> int:
    total = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as stream:
        for number, (chunk, cost) in enumerate(chunks):
            total += cost
            arrays = [chunk[name] for name in _HEADERS]
            legacy = pa.Table.from_arrays(arrays, names=list(_HEADERS.values()))
            options = pacsv.WriteOptions(include_header=number == 0, quoting_style="none")
            text = pa.BufferOutputStream()
            pacsv.write_csv(legacy, text, options)
            stream.write(text.getvalue())
    return total


def _write_parquet(path: Path, chunks: Iterator[tuple[pa.Table, int]]) -> int:
    total, writer = 0, None
    try:
        for chunk, cost in chunks:
            total += cost
            table = _cur2(chunk)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="snappy")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return total


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


def _chunks(rows: int, generator: np.random.Generator, accounts: int, days: int) -> Iterator[tuple[pa.Table, int]]:
    template = _template()
    rates = np.array([float(rate) for rate in template["pricing_public_on_demand_rate"].to_pylist()])
    sizes = np.array(template["size"].to_pylist())
    weights = np.array(template["weight"].to_pylist())
    pools = _Pools(generator, accounts, days)
    for start in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - start)
        keys = generator.choice(len(weights), count, p=weights / weights.sum())
        yield _chunk(template.take(pa.array(keys)), count, generator, pools, rates[keys], sizes[keys])


def _chunk(
    drawn: pa.Table, count: int, generator: np.random.Generator, pools: _Pools, rates: Any, sizes: Any
) -> tuple[pa.Table, int]:
    hours = generator.integers(0, len(pools.starts), count)
    amounts = np.round(np.exp(generator.normal(0.0, 0.8, count)) * sizes, 8)
    charged = np.asarray(pc.not_equal(drawn["line_item_line_item_type"], "DiscountedUsage"))
    costs = np.rint(amounts * rates * charged * COST_UNITS).astype(np.int64)
    cost_text = pc.cast(pa.array(costs / COST_UNITS), pa.string())
    resources = pools.resources.take(pa.array(generator.integers(0, _POOL, count)))
    drawn_hours = pa.array(hours)
    made = {
        "identity_line_item_id": pc.binary_join_element_wise(
            pools.letters.take(pa.array(generator.integers(0, _POOL, count))),
            pools.letters.take(pa.array(generator.integers(0, _POOL, count))),
            "",
        ),
        "identity_time_interval": pools.intervals.take(drawn_hours),
        "line_item_usage_account_id": pools.accounts.take(pa.array(generator.integers(0, len(pools.accounts), count))),
        "line_item_usage_start_date": pools.starts.take(drawn_hours),
        "line_item_usage_end_date": pools.ends.take(drawn_hours),
        "line_item_resource_id": pc.binary_join_element_wise(drawn["resource_prefix"], resources, ""),
        "line_item_usage_amount": pc.cast(pa.array(amounts), pa.string()),
        "line_item_unblended_cost": cost_text,
        "line_item_blended_cost": cost_text,
        "pricing_public_on_demand_cost": pc.cast(pa.array(np.round(amounts * rates, 8)), pa.string()),
        "user_team": pools.teams.take(pa.array(generator.integers(0, len(pools.teams), count))),
    }
    constant = pa.nulls(count, pa.string())
    columns = {name: made.get(name, drawn[name] if name in drawn.column_names else constant) for name in _HEADERS}
    return pa.table(columns), int(costs.sum())


class _Pools:
    """Values that rows draw from: accounts, hours, resource ids, letters of line item ids, teams."""

    def __init__(self, generator: np.random.Generator, accounts: int, days: int) -> None:
        hours = _FIRST_DAY + np.arange(days * 24)
        text = np.datetime_as_string(hours, unit="s")
        following = np.datetime_as_string(hours + 1, unit="s")
        self.starts = pa.array([f"{hour}Z" for hour in text])
        self.ends = pa.array([f"{hour}Z" for hour in following])
        self.intervals = pa.array([f"{a}Z/{b}Z" for a, b in zip(text, following, strict=True)])
        self.accounts = pa.array([f"{61_734_982_215 + 83_911_407_221 * n:012d}" for n in range(accounts)])
        self.resources = pa.array([f"{n:017x}" for n in generator.integers(0, 2**63, _POOL)])
        alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
        self.letters = pa.array(["".join(row) for row in alphabet[generator.integers(0, 32, (_POOL, 26))]])
        self.teams = pa.array(["checkout", "search", "platform", "analytics", "web", None])


def _template() -> pa.Table:
    """One row per usage key: the columns that do not vary inside a key, its typical amount and its weight."""
    regions = [row for row in fleet.rows("aws_regions.csv") if row["region"] != "global"]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (*_instance_keys(regions), *_fleet_keys(regions)):
        key = (row["line_item_usage_type"], row["line_item_operation"] or "", row["line_item_line_item_type"])
        found.setdefault(key, row)
    return pa.Table.from_pylist(list(found.values())[:KEYS])


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
