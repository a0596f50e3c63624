"""The monthly inventory: every breakdown as an exact sum, so that each adds up to the same total.

`ghg_inventory` reads one tenant's month of `scope_totals` and `emission_lines` and returns the rows of
`schemas.GHG_INVENTORY`. It never rounds, converts units or decides a scope. Which columns make a breakdown
is data (data/breakdowns.csv); the `total`, `disposition`, `cost`, `factor` and `control` rows are built here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from offgridflow_pipeline import months
from offgridflow_pipeline.lake.schemas import GHG_INVENTORY, MEASURES

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: Member name of rows whose breakdown column is null, so that every breakdown still adds up to the total.
NOT_STATED = "not stated"
#: Most factor rows kept, by weight; the ledger itself names every factor of every line.
FACTOR_LIMIT = 60

Status = Literal["provisional", "final"]
Row = dict[str, Any]


class InventoryError(ValueError):
    """The inputs cannot be added into one inventory; the message names the cause and the cure."""


class Executor(Protocol):
    """What runs an Ibis expression: `lake.engine.Engine`."""

    def to_arrow(self, expr: ir.Table) -> pa.Table:
        """The expression's rows."""
        ...


class FactorCitations(Protocol):
    """What explains a factor uid: the citation as JSON-ready attributes, or None when unknown."""

    def __call__(self, factor_uid: str, /) -> Mapping[str, object] | None:
        """Attributes of the factor, for example key, value, unit, source and locator."""
        ...


def ghg_inventory(
    engine: Executor,
    scope_totals: ir.Table,
    emission_lines: ir.Table,
    *,
    month: str,
    tenant: str,
    status: Status = "provisional",
    book_of_record: str = "estimate",
    citations: FactorCitations | None = None,
) -> pa.Table:
    """The inventory of one tenant and month, as rows of `schemas.GHG_INVENTORY`.

    Args:
        engine: runs the expressions.
        scope_totals: columns of `schemas.SCOPE_TOTALS`, this tenant and month only.
        emission_lines: columns of `schemas.EMISSION_LINES`, same rows' ledger; read for factors and controls.
        month: ``YYYY-MM``.
        tenant: tenant slug every row must carry.
        status: provisional while the month's bills can still change.
        book_of_record: estimate or provider.
        citations: explains the factor uids in `detail` of the factor rows.

    Returns:
        Rows sorted by breakdown, member and submember. An empty month has one total row with no measures.

    Raises:
        InventoryError: rows of another tenant or month, more than one factor set or method, or a scope
            other than 3 category 1 (which this inventory does not place yet).
    """
    pin = _pin(engine, scope_totals, month, tenant)
    rows = [_total(engine, scope_totals)]
    rows += _simple_breakdowns(engine, scope_totals)
    rows += _money(engine, scope_totals)
    rows += _factors(engine, emission_lines, citations)
    rows += _controls(engine, scope_totals, emission_lines)
    constants = {
        "tenant_id": tenant,
        "month": month,
        "book_of_record": book_of_record,
        "status": status,
        **pin,
    }
    return _table(rows, constants)


def control_differences(inventory: pa.Table) -> list[str]:
    """Differences between ledger and scope totals found while adding up; empty when they agree."""
    found = []
    for row in inventory.to_pylist():
        if row["breakdown"] != "control":
            continue
        detail = json.loads(row["detail"])
        found += [
            f"{row['month']} {row['tenant_id']} {row['submember']}: {name} of the ledger differs by {detail[name]}"
            for name in ("line_difference", "cost_difference")
            if Decimal(detail[name])
        ]
    return found


def month_days(month: str) -> list[date]:
    """Every day of a month ``YYYY-MM``.

    Raises:
        InventoryError: the text is not a month.
    """
    try:
        return months.month_days(month)
    except ValueError:
        raise InventoryError(f"{month!r} is not a month; write it as YYYY-MM, for example 2026-10.") from None


def _pin(engine: Executor, totals: ir.Table, month: str, tenant: str) -> Row:
    """Factor set and method of the month, after checking that all rows belong together."""
    columns = ["tenant_id", "factor_set_sha", "method_id", "scope", "s3_category"]
    days = month_days(month)
    found = engine.to_arrow(
        totals.group_by(columns).aggregate(first=totals.usage_date.min(), last=totals.usage_date.max())
    ).to_pylist()
    for row in found:
        if row["tenant_id"] != tenant:
            raise InventoryError(
                f"Rows of tenant {row['tenant_id']!r} in the inventory of {tenant!r}; read one tenant."
            )
        if row["first"] < days[0] or row["last"] > days[-1]:
            raise InventoryError(f"Days {row['first']} to {row['last']} are outside {month}; read that month's days.")
        if row["scope"] not in (None, "3") or row["s3_category"] not in (None, 1):
            raise InventoryError(
                f"Scope {row['scope']} category {row['s3_category']} has no place in the cloud footprint; "
                "expected scope 3 category 1."
            )
    pin: Row = {}
    for column in ("factor_set_sha", "method_id"):
        values = sorted({row[column] for row in found})
        if len(values) > 1:
            raise InventoryError(
                f"{month} of {tenant} mixes {column} {', '.join(values)}; re-materialise its days with one of them."
            )
        pin[column] = values[0] if values else ""
    return pin


def _sums(table: ir.Table, counted: ir.BooleanValue | None = None) -> dict[str, ir.Value]:
    """Line count and measures; `counted` keeps the zeros of money rows from turning "missing" into 0."""
    return {
        "line_count": table.line_count.sum(),
        **{name: table[name].sum(where=counted) for name in MEASURES},
    }


def _emitting(table: ir.Table) -> ir.BooleanValue:
    return table.disposition != "no_emission"


def _total(engine: Executor, totals: ir.Table) -> Row:
    row: Row = engine.to_arrow(totals.aggregate(**_sums(totals, _emitting(totals)))).to_pylist()[0]
    return {"breakdown": "total", "member": "", "submember": "", **row, "line_count": row["line_count"] or 0}


def _simple_breakdowns(engine: Executor, totals: ir.Table) -> Iterable[Row]:
    """Breakdowns of data/breakdowns.csv; `detail` holds the billed cost per currency."""
    for breakdown, members, submembers in _declared_breakdowns():
        keyed = totals.mutate(member=_label(totals, members), submember=_label(totals, submembers))
        sums = _sums(keyed, _emitting(keyed))
        measures = engine.to_arrow(keyed.group_by(["member", "submember"]).aggregate(**sums))
        costs = engine.to_arrow(
            keyed.group_by(["member", "submember", "BillingCurrency"]).aggregate(cost=keyed.billed_cost.sum())
        )
        by_member: dict[tuple[str, str], dict[str, str]] = {}
        for cost in costs.to_pylist():
            by_currency = by_member.setdefault((cost["member"], cost["submember"]), {})
            by_currency[cost["BillingCurrency"] or NOT_STATED] = plain(cost["cost"])
        for row in measures.to_pylist():
            detail = {"billed_cost": by_member[row["member"], row["submember"]]}
            yield {"breakdown": breakdown, **row, "detail": _json(detail)}


@cache
def _declared_breakdowns() -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    text = resources.files(__package__).joinpath("data/breakdowns.csv").read_text(encoding="utf-8")
    return tuple(
        (
            row["breakdown"],
            tuple(row["member_columns"].split("|")),
            tuple(c for c in row["submember_columns"].split("|") if c),
        )
        for row in csv.DictReader(text.splitlines())
    )


def _label(table: ir.Table, columns: Sequence[str]) -> ir.StringValue:
    """First non-empty of the columns as text; no columns give an empty text."""
    import ibis

    if not columns:
        return ibis.literal("")
    texts = [table[column].cast("string").nullif("") for column in columns]
    return ibis.coalesce(*texts, ibis.literal(NOT_STATED))


def _money(engine: Executor, totals: ir.Table) -> Iterable[Row]:
    """Disposition x currency, with measures and cost; and the cost per currency."""
    keyed = totals.mutate(member=_label(totals, ["disposition"]), submember=_label(totals, ["BillingCurrency"]))
    sums = {**_sums(keyed), "billed_cost": keyed.billed_cost.sum()}
    for row in engine.to_arrow(keyed.group_by(["member", "submember"]).aggregate(**sums)).to_pylist():
        yield {"breakdown": "disposition", **row}
    for row in engine.to_arrow(keyed.group_by(["submember"]).aggregate(**sums)).to_pylist():
        yield {"breakdown": "cost", "member": "billed", **row}


def _factors(engine: Executor, lines: ir.Table, citations: FactorCitations | None) -> Iterable[Row]:
    """The factors and coefficients with most weight (location, embodied and upstream kg), weights exact."""
    import ibis

    columns = {"factor": "factor_ids", "coefficient": "coefficient_ids"}
    for kind, column in columns.items():
        combinations = lines.group_by(column).aggregate(
            line_count=lines.count(), **{name: lines[name].sum() for name in MEASURES}
        )
        single = combinations.mutate(member=combinations[column].unique().unnest()).drop(column)
        weight = ibis.coalesce(*[single.co2e_lbm_kg.sum(), ibis.literal(Decimal(0), "decimal(38, 12)")])
        for name in ("embodied_kg", "upstream_energy_kg"):
            weight += ibis.coalesce(single[name].sum(), ibis.literal(Decimal(0), "decimal(38, 12)"))
        ranked = single.group_by("member").aggregate(**_sums(single), weight=weight)
        ranked = ranked.order_by([ibis.desc("weight"), "member"]).limit(FACTOR_LIMIT)
        for row in engine.to_arrow(ranked.drop("weight")).to_pylist():
            citation = citations(row["member"]) if citations else None
            yield {"breakdown": "factor", "submember": kind, **row, "detail": _json(citation or {})}


def _controls(engine: Executor, totals: ir.Table, lines: ir.Table) -> Iterable[Row]:
    """Per currency: rows and cost of the ledger beside those of the totals."""
    keyed = totals.mutate(currency=_label(totals, ["BillingCurrency"]))
    summed = {
        row["currency"]: row
        for row in engine.to_arrow(
            keyed.group_by("currency").aggregate(lines=keyed.line_count.sum(), cost=keyed.billed_cost.sum())
        ).to_pylist()
    }
    ledger = lines.mutate(currency=_label(lines, ["BillingCurrency"]))
    counted = {
        row["currency"]: row
        for row in engine.to_arrow(
            ledger.group_by("currency").aggregate(
                lines=ledger.count(),
                cost=ledger.billed_cost.sum(),
                objects=ledger.source_object_sha256.nunique(),
            )
        ).to_pylist()
    }
    nothing: Row = {"lines": 0, "cost": Decimal(0), "objects": 0}
    for currency in sorted(summed.keys() | counted.keys()):
        in_totals, in_ledger = summed.get(currency, nothing), counted.get(currency, nothing)
        yield {
            "breakdown": "control",
            "scope": None,
            "s3_category": None,
            "member": "ledger",
            "submember": currency,
            "line_count": in_ledger["lines"],
            "billed_cost": in_ledger["cost"],
            "detail": _json(
                {
                    "scope_totals_lines": in_totals["lines"],
                    "scope_totals_cost": plain(in_totals["cost"]),
                    "line_difference": in_ledger["lines"] - in_totals["lines"],
                    "cost_difference": plain(in_ledger["cost"] - in_totals["cost"]),
                    "source_objects": in_ledger["objects"],
                }
            ),
        }


def plain(value: Decimal) -> str:
    """A decimal as canonical text: no exponent, no trailing zeros, no negative zero."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def _table(rows: Iterable[Row], constants: Row) -> pa.Table:
    complete = [{"scope": "3", "s3_category": 1, **row, **constants} for row in rows]
    complete.sort(key=lambda row: (row["breakdown"], row["member"], row["submember"]))
    schema = GHG_INVENTORY.arrow_schema
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in complete], schema=schema)
