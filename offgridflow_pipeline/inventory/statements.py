"""Providers' carbon statements over time: what is kept, what is current, and how it compares with the estimate.

Statements are append-only by model version: a provider that changes its model restates history, and both histories
stay readable (requirements.md P2). Comparing never changes either side: nothing is calibrated here, and a statement
never enters the ledger (carbon-method.md, decision 9). Reading statements is `connectors.statements`.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from offgridflow_pipeline.lake.schemas import MASS

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.inventory.inventory import Executor

#: Which figure a row is, without its version.
_PLACE = (
    "connection_id", "provider", "source", "month", "BillingAccountId", "SubAccountId", "RegionId", "x_ServiceCode",
    "scope", "basis",
)  # fmt: skip
_KEY = (*_PLACE, "model_version")
#: What a figure says: a later complete reading of the same mass is news.
_FIGURE = ("co2e_kg", "is_complete")
#: Sources of the same statement, the better first: the export keeps all versions, the API only the newest.
_SOURCE_RANK = {"carbon_export": 0, "sustainability": 1}
_SCOPES = frozenset({"1", "2", "3"})
#: Bases whose figures belong to a location-based and a market-based sum; scope 1 has no basis and is in both.
_BASES = {
    "location": frozenset({"location", "none"}),
    "market": frozenset({"market", "none"}),
    "unspecified": frozenset({"provider_unspecified"}),
}
_DIGITS = 76

COMPARISON = pa.schema(
    [
        pa.field("month", pa.string(), nullable=False),
        pa.field("provider", pa.string(), nullable=False),
        pa.field("SubAccountId", pa.string()),
        pa.field("x_ServiceCode", pa.string()),
        *(pa.field(f"statement_{basis}_kg", MASS) for basis in _BASES),
        *(pa.field(f"estimate_{basis}_kg", MASS) for basis in ("location", "market")),
        *(pa.field(f"difference_{basis}_kg", MASS) for basis in ("location", "market")),
        pa.field("found_in", pa.string(), nullable=False),
        pa.field("is_complete", pa.bool_()),
    ]
)
CONTROL = pa.schema(
    [
        pa.field("month", pa.string(), nullable=False),
        pa.field("provider", pa.string(), nullable=False),
        pa.field("connection_id", pa.string(), nullable=False),
        pa.field("basis", pa.string(), nullable=False),
        pa.field("stated_total_kg", MASS, nullable=False),
        pa.field("sum_of_scopes_kg", MASS, nullable=False),
        pa.field("difference_kg", MASS, nullable=False),
    ]
)


def appended(old: pa.Table, new: pa.Table) -> pa.Table:
    """The old rows, and those new ones that say something new; both `schemas.PROVIDER_STATEMENTS`.

    A figure is new unless the last one known at its `retrieved_at`, of the same key and model version, says the
    same. So reading a statement again adds nothing, a changed figure is added with the time it was read, a figure
    that changes back is added too, and no old row is ever removed or altered.
    """
    known: dict[tuple[Any, ...], list[tuple[datetime, tuple[Any, ...]]]] = {}
    for key, retrieved_at, figure in _entries(old):
        insort(known.setdefault(key, []), (retrieved_at, figure))
    kept: list[int] = []
    entries = list(_entries(new))
    for place in sorted(range(len(entries)), key=lambda i: (entries[i][1], entries[i][2])):
        key, retrieved_at, figure = entries[place]
        before = known.setdefault(key, [])
        last = bisect_right(before, retrieved_at, key=lambda entry: entry[0])
        at_once = {said for when, said in before[:last] if when == retrieved_at}
        if figure not in at_once and (last == 0 or before[last - 1][1] != figure):
            insort(before, (retrieved_at, figure))
            kept.append(place)
    added = new.take(pa.array(sorted(kept), pa.int64()))
    return pa.concat_tables([old, added.cast(old.schema)]).combine_chunks()


def current(statements: pa.Table) -> pa.Table:
    """One row per figure: of the newest model version, as it was read last.

    Where two connections state the same account and month (the export and the API of one payer), the better source
    counts, then the connection whose id comes first: figures are never counted twice.
    """
    rows = statements.to_pylist()
    newest: dict[tuple[Any, ...], int] = {}
    for i, row in enumerate(rows):
        place = tuple(row[name] for name in _PLACE)
        if place not in newest or _age(row) >= _age(rows[newest[place]]):
            newest[place] = i
    best: dict[tuple[Any, ...], tuple[int, str]] = {}
    for i in newest.values():
        whose, rank = _account(rows[i]), _rank(rows[i])
        best[whose] = min(best.get(whose, rank), rank)
    chosen = sorted(i for i in newest.values() if _rank(rows[i]) == best[_account(rows[i])])
    return statements.take(pa.array(chosen, pa.int64()))


def compare_with_estimate(engine: Executor, statements: pa.Table, scope_totals: ir.Table) -> pa.Table:
    """Statement and estimate side by side per month, provider, account and service, in kg; schema `COMPARISON`.

    The statement is the sum of its scopes 1, 2 and 3 in the current version, the estimate that of use phase,
    embodied and upstream emissions. `found_in` is both, statement or estimate; differences (statement minus
    estimate) are null where one side is missing or the provider names no basis. Rows without usage (taxes,
    credits) are not compared. Azure states resource types, the ledger their namespace: compared by namespace.
    """
    stated = _stated(current(statements))
    estimated = _estimated(engine, scope_totals)
    rows = []
    for key in sorted(stated.keys() | estimated.keys(), key=lambda k: tuple(part or "" for part in k)):
        statement, estimate = stated.get(key), estimated.get(key)
        row: dict[str, Any] = dict(zip(("month", "provider", "SubAccountId", "x_ServiceCode"), key, strict=True))
        row |= statement or {}
        row |= estimate or {}
        for basis in ("location", "market"):
            ours, theirs = row.get(f"estimate_{basis}_kg"), row.get(f"statement_{basis}_kg")
            row[f"difference_{basis}_kg"] = None if ours is None or theirs is None else theirs - ours
        row["found_in"] = "both" if statement and estimate else "statement" if statement else "estimate"
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=COMPARISON)


def control_differences(statements: pa.Table) -> pa.Table:
    """Where the totals that a provider states are not the sum of its scopes; schema `CONTROL`, empty when they are.

    Totals are control values and never added (billing-feeds.md 4.8). Providers round: the caller judges the size.
    """
    sums: dict[tuple[str, str, str, str], dict[str, Decimal]] = {}
    with localcontext() as context:
        context.prec = _DIGITS
        for row in current(statements).to_pylist():
            for basis, members in _BASES.items():
                if row["basis"] in members:
                    key = (row["month"], row["provider"], row["connection_id"], basis)
                    side = "stated" if row["scope"] == "total" else "scopes"
                    found = sums.setdefault(key, {})
                    found[side] = found.get(side, Decimal(0)) + row["co2e_kg"]
        rows = [
            {
                **dict(zip(("month", "provider", "connection_id", "basis"), key, strict=True)),
                "stated_total_kg": found["stated"],
                "sum_of_scopes_kg": found.get("scopes", Decimal(0)),
                "difference_kg": found["stated"] - found.get("scopes", Decimal(0)),
            }
            for key, found in sorted(sums.items())
            if "stated" in found and found["stated"] != found.get("scopes", Decimal(0))
        ]
    return pa.Table.from_pylist(rows, schema=CONTROL)


def _entries(statements: pa.Table) -> Iterator[tuple[tuple[Any, ...], datetime, tuple[Any, ...]]]:
    columns = [statements.column(name).to_pylist() for name in (*_KEY, "retrieved_at", *_FIGURE)]
    for values in zip(*columns, strict=True):
        yield values[: len(_KEY)], values[len(_KEY)], values[len(_KEY) + 1 :]


def _age(row: Mapping[str, Any]) -> tuple[Any, ...]:
    # The id breaks ties, so that the answer never depends on the order of rows.
    return (_version(row["model_version"]), row["retrieved_at"], row["statement_id"])


def _version(text: str) -> tuple[Any, ...]:
    """Versions in their order: numbers as numbers, and a pre-release before its release (semver.org 11)."""
    core, dash, tail = text.lower().lstrip("v").partition("+")[0].partition("-")
    return (_natural(core), not dash, _natural(tail))


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"\d+|[^\d.]+", text))


def _account(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two connections may both state; what nobody is named in is a connection's own."""
    own = () if row["SubAccountId"] else (row["BillingAccountId"], row["connection_id"])
    return (row["provider"], row["month"], row["SubAccountId"], *own)


def _rank(row: Mapping[str, Any]) -> tuple[int, str]:
    return (_SOURCE_RANK.get(row["source"], 0), row["connection_id"])


def _stated(rows: pa.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    with localcontext() as context:
        context.prec = _DIGITS
        for row in rows.filter(pc.is_in(rows.column("scope"), pa.array(sorted(_SCOPES)))).to_pylist():
            key = (row["month"], row["provider"], row["SubAccountId"], _service(row))
            sums = found.setdefault(key, {"is_complete": True})
            sums["is_complete"] = sums["is_complete"] and row["is_complete"]
            for basis, members in _BASES.items():
                if row["basis"] in members:
                    name = f"statement_{basis}_kg"
                    sums[name] = sums.get(name, Decimal(0)) + row["co2e_kg"]
    return found


def _service(row: Mapping[str, Any]) -> str | None:
    code: str | None = row["x_ServiceCode"]
    return code.partition("/")[0] if code and row["provider"] == "azure" else code


def _estimated(engine: Executor, scope_totals: ir.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    used = scope_totals.filter(scope_totals.disposition != "no_emission")
    grain = ["month", "x_Provider", "SubAccountId", "x_ServiceCode"]
    mass = {
        "estimate_location_kg": _mass(used, ("co2e_lbm_kg", "embodied_kg", "upstream_energy_kg")),
        "estimate_market_kg": _mass(used, ("co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")),
    }
    dated = used.mutate(month=used.usage_date.strftime("%Y-%m"), **mass)
    sums = dated.group_by(grain).aggregate(**{name: dated[name].sum() for name in mass})
    return {
        tuple(row[name] for name in grain): {name: row[name] for name in mass}
        for row in engine.to_arrow(sums).to_pylist()
    }


def _mass(rows: ir.Table, columns: Iterable[str]) -> ir.DecimalValue:
    zero = ibis.literal(Decimal(0), type=f"decimal({MASS.precision}, {MASS.scale})")
    total: Any = zero
    for name in columns:
        total = total + rows[name].fill_null(zero)
    return total.cast(f"decimal({MASS.precision}, {MASS.scale})")
