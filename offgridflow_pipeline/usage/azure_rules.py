"""Rule data of Azure cost details: charge types, values in FOCUS words, units of measure, services, and their lookups.

The rows lie in `data`, each with a source. How a bill's columns are mapped is `azure_costs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL, builtin
from offgridflow_pipeline.usage.quantities import rule_numbers
from offgridflow_pipeline.usage.rules import LineType, RuleDataError, line_types_of, rows_of

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: Words of a unit of time or data: its blocks are not counted (billing-feeds.md section 5.5).
_NOT_COUNTED = r"hour|hr|day|minute|second|month|year|\b[kmgtp]i?b\b"


@dataclass(frozen=True, slots=True)
class UnitOfMeasure:
    """What an Azure unit of measure counts: `block_size` units a price block, `kind` of unit, name of its unit rule.

    Blocks of kind ``count`` are what a billed quantity counts; time and data are billed as they are whatever the
    block says (billing-feeds.md section 5.5). An empty rule: the unit is known and has no canonical one.
    """

    name: str
    block_size: int
    kind: Literal["count", "time", "data"]
    rule: str


@cache
def charge_types() -> tuple[LineType, ...]:
    """Charge types of cost details (billing-feeds.md section 5.4)."""
    return line_types_of("azure_charge_types.csv", "charge_type")


@cache
def focus_values(column: str, usage_column: str) -> dict[str, str]:
    """Values of a cost details column, lower case without blanks -> value of the usage line's column."""
    return {
        r["delivered"]: r["value"]
        for r in rows_of("azure_values.csv")
        if (r["column"], r["usage_column"]) == (column, usage_column)
    }


@cache
def units_of_measure() -> tuple[UnitOfMeasure, ...]:
    """Units of measure, names in lower case, the most frequent first.

    Raises:
        RuleDataError: a unit occurs twice, or is of an unknown kind.
    """
    found: dict[str, UnitOfMeasure] = {}
    for row in rows_of("azure_units.csv"):
        kind: Any = row["kind"]
        if row["unit"] in found or kind not in ("count", "time", "data"):
            raise RuleDataError(f"azure_units.csv: unit {row['unit']!r} occurs twice or has no known kind.")
        found[row["unit"]] = UnitOfMeasure(row["unit"], int(row["block_size"]), kind, row["rule"])
    return tuple(found.values())


@cache
def services() -> dict[str, str]:
    """``<consumed service>|<resource type>``, lower case -> service name, as Microsoft's FOCUS exports name it."""
    return {f"{r['consumed_service']}|{r['resource_type']}": r["service_name"] for r in rows_of("azure_services.csv")}


def unit_number(unit: ir.Value) -> ir.Value:
    """Number of a unit of measure for the functions below, from 1; null when it is unknown.

    A number, so that a unit's text is looked up once and its facts are then picked by position.
    """
    numbers = {u.name: number for number, u in enumerate(units_of_measure(), start=1)}
    known = ibis.literal(numbers, type="map<string, int16>")
    return _number_of(known, unit.strip().lower())


def block_size(number: ir.Value) -> ir.Value:
    """Units per price block of a unit of measure."""
    return _block_at(ibis.literal([u.block_size for u in units_of_measure()], type="array<int64>"), number)


def counts_blocks(number: ir.Value, name: ir.Value) -> ir.Value:
    """Whether quantities in a unit count its blocks; for an unknown unit its name decides."""
    known = _is_count_at(ibis.literal([u.kind == "count" for u in units_of_measure()], type="array<boolean>"), number)
    return ibis.coalesce(known, ~name.lower().re_search(_NOT_COUNTED), ibis.literal(True))


def unit_rule_of(number: ir.Value) -> ir.Value:
    """The unit rule as `quantities.unit_rule` numbers it; null when the unit has no canonical one."""
    rules = [rule_numbers()[u.rule] if u.rule else None for u in units_of_measure()]
    return _rule_at(ibis.literal(rules, type="array<int16>"), number)


def in_units(quantity: ir.Value, in_blocks: ir.Value, block: ir.Value) -> ir.Value:
    """A quantity of blocks as a quantity of units, exact."""
    return ibis.ifelse(in_blocks, (quantity * block).cast(DECIMAL), quantity)


@builtin(name="map_extract_value", signature=(("map<string, int16>", "string"), "int16"))
def _number_of(numbers: Any, unit: str) -> int:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="list_extract", signature=(("array<int64>", "int16"), "int64"))
def _block_at(facts: Any, number: int) -> int:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="list_extract", signature=(("array<boolean>", "int16"), "boolean"))
def _is_count_at(facts: Any, number: int) -> bool:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="list_extract", signature=(("array<int16>", "int16"), "int16"))
def _rule_at(facts: Any, number: int) -> int:
    raise NotImplementedError  # body of a builtin: the engine computes it
