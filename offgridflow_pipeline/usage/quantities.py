"""Billed quantity and unit -> canonical quantity and unit, in exact decimals (billing-feeds.md section 3).

Divisors (seconds, minutes, bytes) go through integer long division, rounded half-even to 18 decimals; no
float is in the path.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL, any_of, builtin, chosen, floor, whole_quotient
from offgridflow_pipeline.usage.rules import unit_rules, units

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: The quantity as billed, DECIMAL(38,18), and what of its unit rule makes it canonical.
BILLED = "_billed"
FACTORS = ("_multiplier", "_per_month", "_divisor")
_LIMB = 10**6
_DAY_SECONDS = 86_400
#: Units at the top of units.csv that are looked for one by one.
_FREQUENT_UNITS = 12


@builtin(name="multiply", signature=(("decimal(18, 18)", "decimal(19, 0)"), "decimal(37, 18)"))
def _shifted(fraction: Decimal, power: Decimal) -> Decimal:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="multiply", signature=(("decimal(19, 0)", "decimal(18, 18)"), "decimal(38, 18)"))
def _scaled(count: Decimal, atto: Decimal) -> Decimal:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="last_day")
def _last_day(value: date) -> date:
    raise NotImplementedError  # body of a builtin: the engine computes it


def unit_rule(unit: ir.Value) -> ir.Value:
    """Number of the rule (`rule_number`) for a billed unit; null when no rule fits."""
    name = unit.lower()
    numbers = rule_numbers()
    known = [(billed, numbers[rule]) for billed, rule in units().items()]
    rare = dict(known[_FREQUENT_UNITS:])
    # Rows leave the chain at their unit; what is left is too little to pay for a step per rare unit.
    return ibis.cases(
        (unit.isnull(), ibis.null("int16")),
        *((name == billed, ibis.literal(number, type="int16")) for billed, number in known[:_FREQUENT_UNITS]),
        else_=ibis.map(list(rare), list(rare.values())).get(name).cast("int16"),
    )


def rule_number(name: str) -> ir.Value:
    """The rule of that name as `unit_rule` gives it: a number, since the engine compares those faster than names."""
    return ibis.literal(rule_numbers()[name], type="int16")


@cache
def rule_numbers() -> dict[str, int]:
    """Unit rule -> its number."""
    return {rule.name: number for number, rule in enumerate(unit_rules())}


def with_canonical_quantity(lines: ir.Table, quantity: str, rule_name: str) -> ir.Table:
    """Add `x_NormQuantity`, `x_NormUnit` and `x_UnitRule`, all null without a rule, and `BILLED` and `FACTORS`.

    `quantity` names a DECIMAL(38,18) column of `lines`, `rule_name` a column made by `unit_rule`. Usage longer than a
    day stays on its first day and is marked in `x_UnitRule`.
    """
    rule, numbers = lines[rule_name], rule_numbers()
    days = (lines.ChargePeriodEnd.epoch_seconds() - lines.ChargePeriodStart.epoch_seconds()) / _DAY_SECONDS
    name = chosen(rule, {number: name for name, number in numbers.items()})
    return with_norm_quantity(
        lines.mutate(
            **{BILLED: lines[quantity]},
            **_factors(rule),
            x_NormUnit=chosen(rule, {numbers[r.name]: r.norm_unit for r in unit_rules()}),
            x_UnitRule=ibis.ifelse(
                any_of((days > 1) & (lines.ChargeCategory == "Usage")), name + ibis.literal("+multi_day"), name
            ),
        )
    )


def _factors(rule: ir.Value) -> dict[str, ir.Value]:
    """`FACTORS` of a rule: multiplier (null without a rule), whether per month, divisor (null when there is none)."""
    numbers = rule_numbers()
    multipliers = [
        (rule == numbers[r.name], ibis.literal(r.multiplier, "int32")) for r in unit_rules() if r.multiplier != 1
    ]
    return {
        "_multiplier": ibis.cases(
            (rule.isnull(), ibis.null("int32")), *multipliers, else_=ibis.literal(1, type="int32")
        ),
        "_per_month": any_of(*(rule == numbers[r.name] for r in unit_rules() if r.per_month)),
        "_divisor": chosen(rule, {numbers[r.name]: r.divisor for r in unit_rules() if r.divisor != 1}, kind="int64"),
    }


def with_norm_quantity(lines: ir.Table) -> ir.Table:
    """Add `x_NormQuantity` from `BILLED`, `FACTORS` and `usage_date` of the lines.

    The table is staged once, so that rows without a divisor carry null into the long division: the engine computes
    shared parts of a case chain for every row, but skips nulls quickly.
    """
    hours = ibis.ifelse(lines._per_month, hours_in_month(lines.usage_date), ibis.literal(1, type="int32"))
    staged = lines.mutate(
        _factor=(lines._multiplier * hours).cast("int32"),
        _divided=ibis.ifelse(lines._divisor.notnull(), lines[BILLED], ibis.null(DECIMAL)),
    )
    norm = ibis.cases(
        (staged._factor.isnull(), ibis.null(DECIMAL)),
        (staged._divisor.notnull(), quotient(staged._divided, staged._divisor)),
        (staged._factor == 1, staged[BILLED]),
        else_=(staged[BILLED] * staged._factor).cast(DECIMAL),
    )
    return staged.mutate(x_NormQuantity=norm)


def hours_in_month(day: ir.Value) -> ir.Value:
    """Hours of the calendar month (UTC) of a date."""
    return (_last_day(day).day() * 24).cast("int32")


def quotient(quantity: ir.Value, divisor: ir.Value) -> ir.Value:
    """DECIMAL(38,18) / int64 below 4 x 10^12, exact and rounded half-even to 18 decimals.

    Long division in base 10^6 on 64-bit integers: a remainder is below the divisor, so remainder x 10^6 +
    digits stays below 4 x 10^18.
    """
    size = quantity.abs()
    whole = floor(size)
    fraction = _shifted((size - whole).cast("decimal(18, 18)"), ibis.literal(Decimal(10**18), type="decimal(19, 0)"))
    digits = fraction.cast("int64")
    units_ = whole.cast("int64")
    high = whole_quotient(digits, _LIMB * _LIMB)
    middle = whole_quotient(digits, _LIMB) % _LIMB
    step1 = (units_ % divisor) * _LIMB + high
    step2 = (step1 % divisor) * _LIMB + middle
    step3 = (step2 % divisor) * _LIMB + digits % _LIMB
    last = whole_quotient(step3, divisor)
    twice = (step3 % divisor) * 2
    up = ibis.ifelse((twice > divisor) | ((twice == divisor) & (last % 2 == 1)), 1, 0)
    atto = whole_quotient(step1, divisor) * (_LIMB * _LIMB) + whole_quotient(step2, divisor) * _LIMB + last + up
    exact = whole_quotient(units_, divisor).cast(DECIMAL) + _scaled(
        atto.cast("decimal(19, 0)"), ibis.literal(Decimal("1e-18"), type="decimal(18, 18)")
    )
    return ibis.ifelse(quantity < 0, -exact, exact).cast(DECIMAL)
