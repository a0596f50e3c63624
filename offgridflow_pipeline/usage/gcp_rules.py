"""Rule data of Google Cloud as expressions: cost types, rows without emission, units told by the SKU's text.

Shared by the billing export and Google's FOCUS export, which know the same SKUs (billing-feeds.md section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL, any_of, builtin
from offgridflow_pipeline.usage.quantities import rule_number
from offgridflow_pipeline.usage.rules import LineType, RuleDataError, rows_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: Just below 2^63.
_WIDE = 9 * 10**18
_TESTS = ("starts_with", "contains", "equals")


@builtin(name="multiply", signature=(("decimal(24, 4)", "decimal(10, 10)"), "decimal(34, 14)"))
def _multiplied(value: Decimal, part: Decimal) -> Decimal:
    raise NotImplementedError  # body of a builtin: the engine computes it


@dataclass(frozen=True, slots=True)
class NoEmission:
    """A row whose `column` passes `test` with `text` (lower case) stands for no physical use."""

    reason: str
    column: str
    test: str
    text: str


@cache
def cost_types() -> tuple[LineType, ...]:
    """Cost types of the billing export."""
    return tuple(
        LineType(
            row["cost_type"], row["charge_category"], None, "no_emission" if row["reason"] else "countable",
            row["reason"] or None,
        )
        for row in rows_of("gcp_cost_types.csv")
    )  # fmt: skip


@cache
def usage_corrections() -> frozenset[str]:
    """Adjustment types that correct what was used; all others move money."""
    return frozenset(r["adjustment_type"] for r in rows_of("gcp_adjustments.csv") if r["corrects_usage"] == "true")


@cache
def no_emission() -> tuple[NoEmission, ...]:
    """Rows of ordinary cost that are money or software, the first that fits decides.

    Raises:
        RuleDataError: a row has a test that is not known.
    """
    found = tuple(NoEmission(r["reason"], r["column"], r["test"], r["text"]) for r in rows_of("gcp_no_emission.csv"))
    if wrong := [rule.test for rule in found if rule.test not in _TESTS]:
        raise RuleDataError(f"gcp_no_emission.csv: test {wrong[0]!r} is none of {', '.join(_TESTS)}.")
    return found


def money_reason(columns: Mapping[str, ir.Value]) -> ir.Value:
    """Why an ordinary row has no emission, else null; `columns` are by the names of the billing export."""
    branches = [
        (_passes(columns[rule.column].lower(), rule).fill_null(False), ibis.literal(rule.reason))
        for rule in no_emission()
        if rule.column in columns
    ]
    return ibis.cases(*branches, else_=ibis.null("string"))


def sku_unit_rule(unit: ir.Value, sku: ir.Value, otherwise: ir.Value) -> ir.Value:
    """Number of the unit rule of what is measured in seconds, told by the SKU; `otherwise` where it is silent."""
    told = [
        (any_of((unit.lower() == row["unit"]) & sku.lower().contains(row["sku_contains"])), rule_number(row["rule"]))
        for row in rows_of("gcp_units.csv")
    ]
    return ibis.cases(*told, else_=otherwise)


def in_kibi(value: ir.Value) -> ir.Value:
    """The 1,024th part of a value with at most four decimals, exact; the engine would divide as floats."""
    part = ibis.literal(Decimal(1) / 1024, type="decimal(10, 10)")
    return _multiplied(value.cast("decimal(24, 4)"), part).cast(DECIMAL)


def within_64_bits(quantity: ir.Value, rule: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quantity and rule that the unit conversion can take: byte-seconds of petabytes as exact kibibyte-seconds.

    Some petabytes held for an hour are beyond the 64-bit integers of `quantities.quotient`; bytes that many are
    whole numbers in a double, so the 1,024th part is exact in decimals.
    """
    wide = any_of((rule == rule_number("byte_seconds")) & (quantity.abs() >= _WIDE))
    kibibytes = in_kibi(ibis.ifelse(wide, quantity, ibis.null(DECIMAL)))
    return ibis.coalesce(kibibytes, quantity), ibis.ifelse(wide, rule_number("kibibyte_seconds"), rule)


def _passes(text: ir.Value, rule: NoEmission) -> ir.Value:
    if rule.test == "starts_with":
        return text.startswith(rule.text)
    return text.contains(rule.text) if rule.test == "contains" else text == rule.text
