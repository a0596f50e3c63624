"""Synthetic ledgers: emission lines from a few words, and their scope totals added up in plain Python.

The totals are computed here with `Decimal` and dictionaries, independently of the code under test.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import ibis
import pyarrow as pa

from offgridflow_pipeline.lake.schemas import EMISSION_LINES, MEASURES, SCOPE_TOTALS

FACTOR_SET_SHA = "5f" * 32
CATALOG = {
    "aws": (
        ("AmazonEC2", "Amazon Elastic Compute Cloud", 1.0),
        ("AmazonRDS", "Amazon Relational Database Service", 0.4),
        ("AmazonS3", "Amazon Simple Storage Service", 0.15),
        ("AWSLambda", "AWS Lambda", 0.08),
        ("AmazonElastiCache", "Amazon ElastiCache", 0.12),
    ),
    "azure": (
        ("Virtual Machines", "Virtual Machines", 0.8),
        ("Storage", "Storage Accounts", 0.1),
        ("SQL Database", "Azure SQL Database", 0.3),
    ),
}
REGIONS = {"aws": ("eu-west-1", "us-east-1", "eu-central-1"), "azure": ("westeurope", "northeurope")}
CURRENCY = {"aws": "USD", "azure": "EUR"}


class InProcess:
    """Runs expressions on Ibis' own DuckDB, in place of the lake's engine."""

    def to_arrow(self, expr: Any) -> pa.Table:
        return expr.to_pyarrow()


@dataclass(frozen=True)
class Ledger:
    """Lines of one tenant and month, with both tables the inventory reads."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def emission_lines(self) -> pa.Table:
        return _arrow(self.lines, EMISSION_LINES.arrow_schema)

    def scope_totals(self) -> pa.Table:
        return _arrow(totals_of(self.lines), SCOPE_TOTALS.arrow_schema)

    def expressions(self) -> tuple[Any, Any]:
        return ibis.memtable(self.scope_totals()), ibis.memtable(self.emission_lines())


def line(number: int, **values: Any) -> dict[str, Any]:
    """One ledger line: a mapped EC2 row of one kilogram and a bit, changed by `values`."""
    row: dict[str, Any] = {
        "tenant_id": "acme",
        "usage_date": date(2026, 10, 1),
        "line_id": f"line-{number}",
        "source_object_sha256": "ab" * 32,
        "row_no": number,
        "BillingAccountId": "100000000001",
        "SubAccountId": "100000000002",
        "x_Provider": "aws",
        "x_ServiceCode": "AmazonEC2",
        "ServiceName": "Amazon Elastic Compute Cloud",
        "RegionId": "eu-west-1",
        "ChargeCategory": "Usage",
        "BillingCurrency": "USD",
        "billed_cost": Decimal("1.10"),
        "disposition": "mapped",
        "rule_id": "A01",
        "mbm_method": "residual_mix",
        "upstream_status": "computed",
        "embodied_status": "computed",
        "lbm_boundary": "direct",
        "gwp_basis": "AR5",
        "scope": "3",
        "s3_category": 1,
        "dq_score": 3,
        "flags": [],
        "factor_ids": ["grid.location.eu"],
        "coefficient_ids": ["host.power.m5"],
        "it_kwh_compute": Decimal("2.5"),
        "it_kwh": Decimal("2.5"),
        "kwh": Decimal("2.875"),
        "co2e_lbm_kg": Decimal("0.900000000001"),
        "co2e_mbm_kg": Decimal("0.4"),
        "embodied_kg": Decimal("0.123456789012"),
        "upstream_energy_kg": Decimal("0.05"),
        "factor_set_sha": FACTOR_SET_SHA,
        "method_id": "ofg-1",
        "as_of": date(2026, 11, 22),
        "code_version": "0.1.0",
        "run_id": "run-1",
    }
    return row | values


def money_line(number: int, cost: str, reason: str = "tax", **values: Any) -> dict[str, Any]:
    """A row that stands for money: no emission, zero measures."""
    zero = dict.fromkeys(MEASURES, Decimal(0))
    verdict = {"disposition": "no_emission", "reason": reason, "mbm_method": None, "lbm_boundary": None}
    silent = {"upstream_status": None, "embodied_status": None, "dq_score": None, "factor_ids": []}
    return line(number, billed_cost=Decimal(cost), **verdict, **silent, coefficient_ids=[], **zero) | values


def unmapped_line(number: int, cost: str, reason: str = "no_model", **values: Any) -> dict[str, Any]:
    """A row without a defensible model: measures are null."""
    nothing = dict.fromkeys(MEASURES)
    verdict = {"disposition": "unmapped", "reason": reason, "mbm_method": None, "lbm_boundary": None}
    silent = {"upstream_status": None, "embodied_status": None, "dq_score": None, "factor_ids": []}
    return line(number, billed_cost=Decimal(cost), **verdict, **silent, coefficient_ids=[], **nothing) | values


def realistic(
    month: str = "2026-10",
    *,
    tenant: str = "acme",
    providers: Iterable[str] = ("aws", "azure"),
    seed: int = 7,
) -> Ledger:
    """A month of a middle-sized customer: growing use, money rows, unmapped and proxied services."""
    random = Random(f"{seed}-{tenant}-{month}")
    first = date.fromisoformat(f"{month}-01")
    days = ((first + timedelta(days=31)).replace(day=1) - first).days
    scale = 1 + 0.06 * (first.month - 6)
    lines: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        lines.append(row | {"tenant_id": tenant, "line_id": f"{month}-{len(lines)}", "row_no": len(lines) + 1})

    for day in (first + timedelta(days=n) for n in range(days)):
        weekend = 0.72 if day.weekday() > 4 else 1.0
        for provider in providers:
            for code, name, weight in CATALOG[provider]:
                for place, region in enumerate(REGIONS[provider]):
                    kwh = Decimal(f"{weight * weekend * scale * random.uniform(40, 60) / (place + 1):.4f}")
                    grid = Decimal(("0.279", "0.385", "0.344")[place])
                    add(
                        line(
                            0,
                            usage_date=day,
                            x_Provider=provider,
                            x_ServiceCode=code,
                            ServiceName=name,
                            RegionId=region,
                            SubAccountId=f"{provider}-account-{(place + len(code)) % 4}",
                            BillingCurrency=CURRENCY[provider],
                            billed_cost=Decimal(f"{float(kwh) * random.uniform(0.9, 1.6):.6f}"),
                            disposition="mapped" if weight > 0.1 else "proxied",
                            proxy_rule=None if weight > 0.1 else "function_memory",
                            mbm_method="residual_mix" if place != 1 else "lbm_fallback",
                            upstream_status="computed" if place else "missing",
                            dq_score=3 if weight > 0.5 else 4,
                            factor_ids=[f"grid.location.{region}", f"grid.residual.{region}"],
                            coefficient_ids=[f"host.power.{code}", f"pue.{provider}"],
                            it_kwh_compute=kwh,
                            it_kwh=kwh,
                            kwh=kwh * Decimal("1.15"),
                            co2e_lbm_kg=kwh * Decimal("1.15") * grid,
                            co2e_mbm_kg=kwh * Decimal("1.15") * grid * (Decimal("0.6") if place != 1 else 1),
                            embodied_kg=kwh * Decimal("0.031"),
                            upstream_energy_kg=kwh * Decimal("0.021") if place else None,
                        )
                    )
            currency = {"x_Provider": provider, "BillingCurrency": CURRENCY[provider], "usage_date": day}
            add(unmapped_line(0, f"{random.uniform(20, 60):.4f}", ServiceName="Amazon Kendra", **currency))
        if day.day == 1:
            for provider in providers:
                currency = {"x_Provider": provider, "BillingCurrency": CURRENCY[provider], "usage_date": day}
                add(money_line(0, "1480.55", "tax", ChargeCategory="Tax", **currency))
                add(money_line(0, "-250.00", "credit", ChargeCategory="Credit", **currency))
                add(money_line(0, "612.3456", "commitment_fee", ChargeCategory="Purchase", **currency))
    return Ledger(lines)


def totals_of(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Scope totals: plain sums per declared key, null measures skipped."""
    names = (*SCOPE_TOTALS.key, "tenant_id", "factor_set_sha", "method_id")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in lines:
        groups[tuple(row.get(name) for name in names)].append(row)
    return [
        dict(zip(names, key, strict=True))
        | {name: _sum(rows, name) for name in MEASURES}
        | {"line_count": len(rows), "billed_cost": _sum(rows, "billed_cost")}
        for key, rows in groups.items()
    ]


def citation(factor_uid: str) -> dict[str, object]:
    """A made-up citation, as the factor register would give it."""
    return {
        "factor_key": factor_uid,
        "value": "0."
        + hashlib.sha256(factor_uid.encode()).hexdigest()[:4].translate(str.maketrans("abcdef", "123456")),
        "unit": "kgCO2e/kWh",
        "source": "Example grid statistics 2025",
        "publisher": "Example Agency",
        "locator": "table 3, row 12",
        "published_at": "2025-06-30",
        "data_year": 2024,
    }


def _sum(rows: Iterable[Mapping[str, Any]], name: str) -> Decimal | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return sum(values, Decimal(0)) if values else None


def _arrow(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
