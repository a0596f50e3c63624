"""Expressions shared by the feeds: case chains from rule data, exact decimals, UTC timestamps, regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.usage.rules import no_regions

if TYPE_CHECKING:
    import ibis.expr.types as ir

DECIMAL = "decimal(38, 18)"
_SECONDS_LENGTH = 19
#: Declares a function of the engine, typed: the body is never run.
builtin: Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]] = ibis.udf.scalar.builtin


@builtin(name="divide")
def whole_quotient(dividend: int, divisor: int) -> int:
    """Integer division that truncates toward zero."""
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="floor", signature=(("decimal(38, 18)",), "decimal(38, 0)"))
def floor(value: Decimal) -> Decimal:
    """Largest whole number not above `value`, still a decimal (Ibis's own floor goes through BIGINT)."""
    raise NotImplementedError  # body of a builtin: the engine computes it


# Ibis's own look-up in a map repeats the map four times in the SQL.
@builtin(name="map_extract_value", signature=(("map<string, string>", "string"), "string"))
def _map_value(choices: Any, key: str) -> str:
    raise NotImplementedError  # body of a builtin: the engine computes it


def chosen(value: ir.Value, choices: Mapping[Any, Any], otherwise: Any = None, kind: str = "string") -> ir.Value:
    """A case chain: the choice for the value, else `otherwise` (null by default).

    A chain instead of a membership test, because the engine drops it when nobody asks for the column. For
    many choices and few rows that need one, `looked_up` is cheaper.
    """
    branches = [(value == key, ibis.literal(choice, type=kind)) for key, choice in choices.items()]
    default = ibis.null(kind) if otherwise is None else ibis.literal(otherwise, type=kind)
    return ibis.cases(*branches, else_=default)


def looked_up(value: ir.Value, choices: Mapping[str, str]) -> ir.Value:
    """The choice for the value, else null; `value` is computed only where the result is needed."""
    return _map_value(ibis.map(list(choices), list(choices.values())), value)


def any_of(*tests: ir.Value) -> ir.Value:
    """Whether one of the tests holds; null counts as false."""
    return ibis.or_(*(test.fill_null(False) for test in tests))


def decimal(value: ir.Value) -> ir.Value:
    """Text as DECIMAL(38,18); null when it is not a number (feeds refuse such quantities and costs before)."""
    return value.try_cast(DECIMAL)


def moment(value: ir.Value) -> ir.Value:
    """ISO text as a timestamp; without a zone it is UTC, whatever the time zone of the session."""
    zone = value.substr(_SECONDS_LENGTH)
    zoned = ibis.cases(
        (value.endswith("Z") | value.endswith(" UTC") | zone.contains("+") | zone.contains("-"), value),
        (value.length() <= len("2026-11-01"), value + " 00:00:00Z"),
        else_=value + "Z",
    )
    return zoned.try_cast("timestamp('UTC', 6)")


def region_code(text: ir.Value) -> ir.Value:
    """Provider's region code: lower case, blanks removed; null where the text names no place."""
    code = text.lower().replace(" ", "")
    return ibis.cases(*((code == nowhere, ibis.null("string")) for nowhere in ("", *no_regions())), else_=code)
