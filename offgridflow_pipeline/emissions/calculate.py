"""Usage lines to ledger lines: classify distinct usage keys, join their intensities, multiply exactly.

The only per-row work is one join and integer arithmetic (`exact`); Python sees distinct usage keys, a
thousandth of the rows. Nothing that is not asked for is computed. Method: carbon-method.md, `ofg-1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline import __version__
from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.exact import QUANTITY_BOUND, products, quantity_limbs
from offgridflow_pipeline.emissions.intensity import Intensity, intensity
from offgridflow_pipeline.emissions.intensity_table import (
    COMPONENT_MEASURES,
    EPOCH,
    HAS_QUANTITY,
    JOIN_COLUMNS,
    KEY,
    MASK,
    REGION,
    VERDICTS,
    intensity_table,
)
from offgridflow_pipeline.emissions.models import Classification, UsageKey
from offgridflow_pipeline.lake.schemas import (
    EMISSION_LINES,
    INTENSITY_MEASURES,
    MEASURES,
    USAGE_KEY_COLUMNS,
)
from offgridflow_pipeline.usage.keys import KEY_TEXT, key_columns

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine

METHODS = ("ofg-1",)

#: Columns of a ledger line that a usage line has under another name.
_RENAMED = {
    "line_id": "x_LineId",
    "source_object_sha256": "x_SourceObjectSha256",
    "row_no": "x_SourceRow",
    "billed_cost": "BilledCost",
    "norm_quantity": "x_NormQuantity",
    "norm_unit": "x_NormUnit",
}
_NO_QUANTITY = ibis.literal(Decimal(0), type="decimal(38, 18)")


class CalculationError(ValueError):
    """The calculation was asked for something it cannot do; the message says what and the cure."""


def calculate(
    engine: Engine,
    lines: ir.Table,
    factor_set: FactorSet,
    *,
    as_of: date,
    method: str = "ofg-1",
    run_id: str = "",
    columns: Sequence[str] | None = None,
    typical: ir.Table | None = None,
) -> ir.Table:
    """Ledger lines of `lines`, one for each, lazily evaluated.

    The distinct usage keys are read at once, so `lines` must be readable twice (a lake slice or the result
    of `Engine.spool`) and must not change before the result is read.

    Args:
        engine: engine that `lines` belongs to.
        lines: columns of `schemas.USAGE_LINES`; only those needed for `columns` have to exist. The text of the
            usage key (`usage.keys.KEY_TEXT`) may stand for the columns it is made of.
        factor_set: pinned factor set.
        as_of: knowledge date: factors published later are not used.
        method: calculation method, ``ofg-1``.
        run_id: run that writes the rows.
        columns: columns of `schemas.EMISSION_LINES` wanted, in this order; default all. What is not asked
            for is not computed.
        typical: fewer lines with every usage key, region, day and presence of a quantity that `lines` has, and the
            largest quantity of each; read in place of `lines` to find the keys.

    Returns:
        the columns asked for, with the declared types. Measures in kWh and kgCO2e: null when unmapped or
        not available (its status column says why), 0 when the row has no emission.

    Raises:
        CalculationError: unknown method or column, or a quantity of 10^12 or more.
    """
    wanted = tuple(columns) if columns is not None else EMISSION_LINES.column_names
    if method not in METHODS:
        raise CalculationError(f"Method {method!r} is unknown; known: {', '.join(METHODS)}.")
    if unknown := [name for name in wanted if name not in EMISSION_LINES.column_names]:
        raise CalculationError(f"Columns {unknown} are not columns of emission_lines.")
    measures = _needed_measures(wanted)
    seen = lines if typical is None else typical
    starts = _epoch_starts(engine, seen, factor_set, check_quantity=bool(measures))
    rows = list(_intensity_rows(_distinct_keys(engine, _keyed(seen, starts)), starts, factor_set, as_of))
    keyed = _keyed(lines, starts)
    active = [name for name in measures if any(found.measures[name] for _, found in rows)]
    table = intensity_table(engine, rows, wanted, measures, active, factor_set)
    given = _needed_columns(keyed, wanted)
    if active:
        # Before the join, which keeps the engine from repeating the costly step once per use of a limb. A
        # missing quantity counts as 0: the masks make the result null where it has to be.
        given = quantity_limbs(given.mutate(_quantity=given.x_NormQuantity.fill_null(_NO_QUANTITY)), "_quantity")
    joined = given.left_join(table, list(JOIN_COLUMNS))
    if active:
        joined = products(joined, active)
    constants = {
        "factor_set_sha": factor_set.sha,
        "method_id": method,
        "as_of": as_of,
        "code_version": __version__,
        "run_id": run_id,
    }
    return joined.select(**{name: _column(joined, name, active, constants) for name in wanted})


def _needed_columns(keyed: ir.Table, wanted: Sequence[str]) -> ir.Table:
    """The join columns, the quantity and the columns that the result takes over unchanged."""
    given = [_RENAMED.get(name, name) for name in wanted]
    names = dict.fromkeys([*JOIN_COLUMNS, "x_NormQuantity", *given])
    return keyed.select(*(name for name in names if name in keyed.columns))


def _needed_measures(wanted: Sequence[str]) -> list[str]:
    names = [name for name in INTENSITY_MEASURES if name in wanted]
    if "it_kwh" in wanted:
        names.extend(name for name in COMPONENT_MEASURES if name not in names)
    return names


def _epoch_starts(engine: Engine, lines: ir.Table, factor_set: FactorSet, *, check_quantity: bool) -> tuple[date, ...]:
    """First days of the factor epochs the lines fall in; the first one is the earliest usage date.

    Raises:
        CalculationError: a quantity is beyond the range of exact products.
    """
    bounds: dict[str, ir.Value] = {"first": lines.usage_date.min(), "last": lines.usage_date.max()}
    if check_quantity:
        bounds["largest"] = lines.x_NormQuantity.max()
        bounds["smallest"] = lines.x_NormQuantity.min()
    found = engine.reader(lines.aggregate(**bounds)).read_all().to_pylist()[0]
    for extreme in (found.get("largest"), found.get("smallest")):
        if extreme is not None and abs(extreme) >= QUANTITY_BOUND:
            raise CalculationError(
                f"A line has the quantity {extreme:f}; exact results need less than {QUANTITY_BOUND:f}. "
                "Correct the unit of that row in the bill or in usage/data/units.csv."
            )
    first, last = found["first"], found["last"]
    if first is None:
        return ()
    return (first, *(day for day in factor_set.boundaries() if first < day <= last))


def _keyed(lines: ir.Table, starts: Sequence[date]) -> ir.Table:
    """`lines` with the columns by which an intensity is found."""
    epoch: ir.IntegerValue = ibis.literal(0, type="int16")
    if len(starts) > 1:
        days = [ibis.literal(day) for day in starts]
        branches = [(lines.usage_date >= days[i], ibis.literal(i, type="int16")) for i in range(len(days) - 1, 0, -1)]
        epoch = ibis.cases(*branches, else_=epoch)
    return lines.mutate(
        **{
            KEY: lines.x_UsageKey.fill_null(""),
            REGION: lines.RegionId.fill_null(""),
            EPOCH: epoch,
            HAS_QUANTITY: lines.x_NormQuantity.notnull(),
        }
    )


def _distinct_keys(engine: Engine, keyed: ir.Table) -> Iterator[dict[str, Any]]:
    """One row per usage key, region, epoch and presence of a quantity, with the columns of the usage key."""
    packed = KEY_TEXT in keyed.columns
    first = {name: keyed[name].arbitrary() for name in ((KEY_TEXT,) if packed else USAGE_KEY_COLUMNS)}
    grouped = keyed.group_by(list(JOIN_COLUMNS)).aggregate(**first)
    if packed:
        grouped = grouped.select(*JOIN_COLUMNS, **key_columns(grouped[KEY_TEXT]))
    for batch in engine.reader(grouped):
        yield from batch.to_pylist()


def _intensity_rows(
    keys: Iterable[Mapping[str, Any]], starts: Sequence[date], factor_set: FactorSet, as_of: date
) -> Iterator[tuple[Mapping[str, Any], Intensity]]:
    verdicts: dict[str, Classification] = {}
    for row in keys:
        key = UsageKey.from_row(row)
        if row[KEY] not in verdicts:
            verdicts[row[KEY]] = classify(key)
        verdict = verdicts[row[KEY]]
        if verdict.model is not None and not row[HAS_QUANTITY]:
            verdict = Classification("unmapped", verdict.rule_id, reason="unit")
        yield (
            row,
            intensity(verdict, key.provider, row[REGION] or None, starts[row[EPOCH]], factor_set, as_of),
        )


def _column(joined: ir.Table, name: str, active: Sequence[str], constants: Mapping[str, Any]) -> ir.Value:
    if name in MEASURES:
        return _measure(joined, name, active)
    if name in constants:
        return ibis.literal(constants[name])
    if name in VERDICTS or name.startswith("intensity_"):
        return joined[name]
    return joined[_RENAMED.get(name, name)]


def _measure(joined: ir.Table, name: str, active: Sequence[str]) -> ir.Value:
    """Exact product, or for it_kwh the sum of its parts; null where the mask is."""
    parts = [part for part in active if part == name or (name == "it_kwh" and part in COMPONENT_MEASURES)]
    value = joined[f"{name}{MASK}"]
    for part in parts:
        value = value + joined[part]
    return value
