"""Rule data of normalisation: line item types, units, regions, providers; each row of `data` has a source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from offgridflow_pipeline.data_rows import data_rows


class RuleDataError(ValueError):
    """A row of rule data contradicts another one."""


@dataclass(frozen=True, slots=True)
class LineType:
    """What an AWS line item type means (billing-feeds.md section 4.4)."""

    name: str
    charge_category: str
    commitment_status: str | None
    disposition: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class FocusSubcategory:
    """What a charge subcategory of FOCUS 1.0-preview means, name in lower case."""

    name: str
    commitment_status: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class UnitRule:
    """How a billed quantity becomes a canonical one.

    Canonical quantity = billed quantity x multiplier, x hours of the calendar month if `per_month`; or billed
    quantity / divisor.
    """

    name: str
    norm_unit: str
    multiplier: int
    divisor: int
    per_month: bool


@dataclass(frozen=True, slots=True)
class NoEmission:
    """A usage row of AWS whose `column` contains `text` stands for no physical use."""

    reason: str
    column: str
    text: str


def rows_of(name: str) -> list[dict[str, str]]:
    """Rows of a file of `data`."""
    return data_rows(__file__, name)


def line_types_of(name: str, column: str) -> tuple[LineType, ...]:
    """Line types from a file of `data` that names them in a column."""
    return tuple(
        LineType(
            r[column],
            r["charge_category"],
            r["commitment_status"] or None,
            r["disposition"],
            r["reason"] or None,
        )
        for r in rows_of(name)
    )


@cache
def line_types() -> tuple[LineType, ...]:
    """AWS line item types."""
    return line_types_of("line_types.csv", "line_item_type")


@cache
def focus_subcategories() -> tuple[FocusSubcategory, ...]:
    """Charge subcategories of FOCUS 1.0-preview that say more than the later columns."""
    return tuple(
        FocusSubcategory(r["charge_subcategory"], r["commitment_status"] or None, r["reason"] or None)
        for r in rows_of("focus_charge_subcategories.csv")
    )


@cache
def units() -> dict[str, str]:
    """Billed unit, lower case -> name of its rule; the most frequent units first."""
    return {r["unit"]: r["rule"] for r in rows_of("units.csv")}


@cache
def unit_rules() -> tuple[UnitRule, ...]:
    """Distinct unit rules, in the order of their most frequent unit.

    Raises:
        RuleDataError: two rows give one rule different numbers.
    """
    found: dict[str, UnitRule] = {}
    for row in rows_of("units.csv"):
        rule = UnitRule(
            row["rule"],
            row["norm_unit"],
            int(row["multiplier"]),
            int(row["divisor"]),
            row["per_month"] == "true",
        )
        if found.setdefault(rule.name, rule) != rule:
            raise RuleDataError(f"units.csv: unit {row['unit']!r} gives rule {rule.name!r} other numbers.")
        if rule.divisor != 1 and (rule.multiplier != 1 or rule.per_month):
            raise RuleDataError(f"units.csv: rule {rule.name!r} both multiplies and divides; use one of them.")
    return tuple(found.values())


@cache
def aws_no_emission() -> tuple[NoEmission, ...]:
    """AWS usage rows that are money, mirrors or software."""
    return tuple(NoEmission(r["reason"], r["column"], r["contains"]) for r in rows_of("aws_no_emission.csv"))


@cache
def region_prefixes() -> dict[str, str]:
    """AWS usage-type prefix -> region code."""
    return {r["prefix"]: r["region"] for r in rows_of("aws_region_prefixes.csv")}


@cache
def azure_regions() -> dict[str, str]:
    """Azure display name, lower case without blanks -> region code."""
    return {r["name"]: r["region"] for r in rows_of("azure_regions.csv")}


@cache
def no_regions() -> tuple[str, ...]:
    """Region texts, lower case without blanks, that name no place."""
    return tuple(r["text"] for r in rows_of("no_region.csv"))


@cache
def providers() -> dict[str, str]:
    """Text a provider's name starts with, lower case -> provider code."""
    return {r["starts_with"]: r["provider"] for r in rows_of("providers.csv")}
