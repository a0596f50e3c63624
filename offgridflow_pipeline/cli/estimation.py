"""One bill to energy and emissions without server or Dagster: connectors, usage, emissions, then sums.

The functions are the assets' own, so the figures are too. Costs and rows of the result are held against the
usage lines before anything is written; the output file appears complete or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.cli.spooling import TENANT, spooled_sources
from offgridflow_pipeline.emissions.calculate import calculate
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.pruning import pruned

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.cli.bills import Bill
    from offgridflow_pipeline.connectors.feeds import FeedName
    from offgridflow_pipeline.connectors.reading.extracts import ReadLimits
    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine

DISPOSITIONS = ("mapped", "proxied", "no_emission", "unmapped")
#: What a person may group by -> ledger column.
DIMENSIONS = {
    "day": "usage_date",
    "account": "SubAccountId",
    "region": "RegionId",
    "service": "ServiceName",
}
LINE = "line"
#: Measures of a grouped result; the ledger itself (``line``) also has the parts of the energy.
MEASURES = ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")
_MONEY = "decimal(38, 18)"
_MASS = "decimal(38, 12)"

Stage = Callable[[str], AbstractContextManager[None]]


class EstimateError(ValueError):
    """The estimate cannot be made or written; the message says why and the cure."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Rows and billed cost of one disposition in one currency."""

    disposition: str
    currency: str
    rows: int
    billed_cost: Decimal


@dataclass(frozen=True, slots=True)
class Estimate:
    """Totals over all rows: measures in the units of `schemas.MEASURES`, None when no row has one."""

    rows: int
    first_day: date | None
    last_day: date | None
    coverage: tuple[Coverage, ...]
    totals: dict[str, Decimal | None]
    written_rows: int


def estimate(
    engine: Engine,
    bill: Bill,
    factor_set: FactorSet,
    *,
    feed: FeedName,
    group: Sequence[str],
    out: Path,
    method: str,
    as_of: date,
    limits: ReadLimits,
    stage: Stage,
) -> Estimate:
    """Estimate a bill and write the result, CSV or Parquet by the suffix of `out`.

    Args:
        group: ``["line"]`` for the ledger itself, else names of `DIMENSIONS` (none = one row per currency).
        stage: context manager around each step, given its name.

    Raises:
        BillingObjectError: the bill is refused; names file, row, column and cure.
        CalculationError: the method is unknown or a quantity is beyond exact arithmetic.
        EstimateError: costs or rows of the result differ from those of the bill.
        UnseparableKeyError: a text of the bill holds U+001F.
    """
    columns = _ledger_columns(group)
    with stage("Reading the bill"):
        lines, typical = spooled_sources(engine, bill, feed, columns, limits)
    with stage("Classifying usage keys"):
        ledger = calculate(
            engine, lines, factor_set, as_of=as_of, method=method, run_id=TENANT, columns=columns, typical=typical
        )
    with stage("Calculating"):
        if list(group) == [LINE]:
            ledger = engine.spool(ledger)
            sums = engine.spool(_sums(ledger, ["usage_date"]))
            result = ledger.drop("tenant_id").order_by("source_object_sha256", "row_no")
        else:
            keys = [DIMENSIONS[name] for name in group]
            sums = engine.spool(_sums(ledger, keys))
            result = _grouped(sums, keys)
    coverage = _coverage(engine, sums)
    days = _proven_days(engine, lines, coverage)
    (totals,) = _rows(engine, sums.aggregate(**{name: sums[name].sum() for name in MEASURES}))
    with stage("Writing"):
        written = _write(engine, result, out)
    return Estimate(
        sum(c.rows for c in coverage), min(days, default=None), max(days, default=None), coverage, totals, written
    )


def _ledger_columns(group: Sequence[str]) -> tuple[str, ...]:
    if list(group) == [LINE]:
        return schemas.EMISSION_LINES.column_names
    return (*(DIMENSIONS[name] for name in group), "BillingCurrency", "disposition", "billed_cost", *MEASURES)


def _sums(ledger: ir.Table, keys: Sequence[str]) -> ir.Table:
    """Exact sums per key, currency and disposition."""
    return ledger.group_by([*keys, "BillingCurrency", "disposition"]).aggregate(
        line_count=ledger.count(),
        billed_cost=ledger.billed_cost.sum().cast(_MONEY),
        **{name: ledger[name].sum().cast(_MASS) for name in MEASURES},
    )


def _grouped(sums: ir.Table, keys: Sequence[str]) -> ir.Table:
    """The sums over dispositions, with the rows of each and the cost nothing is known about."""
    names = [*keys, "BillingCurrency"]
    counts = {f"{name}_lines": _lines_in(sums, sums.disposition == name) for name in DISPOSITIONS}
    unmapped = sums.billed_cost.sum(where=sums.disposition == "unmapped")
    return (
        sums.group_by(names)
        .aggregate(
            line_count=_lines_in(sums),
            **counts,
            billed_cost=sums.billed_cost.sum().cast(_MONEY),
            unmapped_cost=ibis.coalesce(unmapped, ibis.literal(Decimal(0), type=_MONEY)).cast(_MONEY),
            **{name: sums[name].sum().cast(_MASS) for name in MEASURES},
        )
        .order_by(names)
    )


def _lines_in(sums: ir.Table, where: ir.BooleanValue | None = None) -> ir.IntegerValue:
    """Sum of line counts as BIGINT; DuckDB's sum of integers is 128 bits wide, which files hold as a float."""
    return sums.line_count.cast("decimal(18, 0)").sum(where=where).fill_null(0).cast("int64")


def _coverage(engine: Engine, sums: ir.Table) -> tuple[Coverage, ...]:
    found = _rows(
        engine,
        sums.group_by(["disposition", "BillingCurrency"]).aggregate(
            rows=_lines_in(sums), cost=sums.billed_cost.sum().cast(_MONEY)
        ),
    )
    order = {name: number for number, name in enumerate(DISPOSITIONS)}
    return tuple(
        Coverage(row["disposition"], row["BillingCurrency"] or "", row["rows"], row["cost"])
        for row in sorted(found, key=lambda row: (order[row["disposition"]], row["BillingCurrency"] or ""))
    )


def _proven_days(engine: Engine, lines: ir.Table, coverage: Sequence[Coverage]) -> list[date]:
    """First and last day per currency of the usage lines, whose rows and cost are the ledger's to the last digit."""
    lines = pruned(lines.select("usage_date", "BillingCurrency", "BilledCost"))
    expected = _rows(
        engine,
        lines.group_by("BillingCurrency").aggregate(
            n=lines.count(),
            cost=lines.BilledCost.sum().cast(_MONEY),
            first=lines.usage_date.min(),
            last=lines.usage_date.max(),
        ),
    )
    for row in expected:
        currency, count, cost = row["BillingCurrency"] or "", row["n"], row["cost"]
        mine = [c for c in coverage if c.currency == currency]
        got = (sum(c.rows for c in mine), sum((c.billed_cost for c in mine), Decimal(0)))
        if got != (count, cost):
            raise EstimateError(
                f"The result has {got[0]} rows and {got[1]} {currency}, the bill {count} rows and {cost} {currency}: "
                "nothing was written. This is a defect; report it with the bill's header."
            )
    return [row[name] for row in expected for name in ("first", "last")]


def _rows(engine: Engine, expr: ir.Table) -> list[dict[str, Any]]:
    """A small result; streamed, because Ibis's own conversion to Arrow imports pandas."""
    found: list[dict[str, Any]] = engine.reader(expr).read_all().to_pylist()
    return found


def _write(engine: Engine, result: ir.Table, out: Path) -> int:
    """Write beside the target and rename, so that the file is whole or absent; returns the rows written."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    if out.suffix == ".csv":
        lists = [name for name, kind in result.schema().items() if kind.is_array()]
        result = result.mutate(**{name: result[name].join(";") for name in lists})
        options = "FORMAT csv, HEADER true"
    else:
        options = "FORMAT parquet, COMPRESSION zstd"
    target = str(partial).replace("'", "''")
    try:
        written: Any = engine.connection.con.execute(
            f"COPY ({engine.connection.compile(result)}) TO '{target}' ({options})"
        ).fetchone()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return int(written[0])
