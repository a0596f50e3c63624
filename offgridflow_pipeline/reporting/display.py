"""How a fact looks in print: digits, scale, unit and label. The value itself is never changed.

Every artefact for people uses these functions, so that a figure looks the same everywhere. Displayed digits
times ten to the power of the metric's scale are the fact's value (xbrl.md section 6.5).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from functools import cache
from importlib import resources
from types import MappingProxyType

from offgridflow_pipeline.reporting.fact import REST, ROUNDING, Fact, clean_text, metric
from offgridflow_pipeline.reporting.rounding import EXACT

MINUS = "\N{MINUS SIGN}"
NOT_AVAILABLE = "n/a"
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_REST_LABELS = {"service": "All other services", "account": "All other accounts", "region": "All other regions"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A displayed figure: sign, digits with separators, unit text, and the scale of the digits."""

    negative: bool
    digits: str
    unit: str
    scale: int

    @property
    def text(self) -> str:
        """Sign and digits."""
        return (MINUS if self.negative else "") + self.digits


def shown(fact: Fact) -> Shown:
    """The displayed form of a number.

    Raises:
        FactError: the fact is no number or not available.
    """
    scale = metric(fact.metric).scale
    with localcontext(EXACT):
        figure = fact.number.scaleb(-scale)
    places = max(0, (fact.decimals or 0) + scale)
    return Shown(figure < 0, f"{abs(figure):,.{places}f}", unit_text(fact), scale)


def text_of(fact: Fact) -> str:
    """The fact as a reader sees it, without unit; "n/a" where it is not available."""
    if fact.value is None:
        return NOT_AVAILABLE
    if fact.value_type == "number":
        return shown(fact).text
    return long_date(date.fromisoformat(fact.value)) if fact.value_type == "date" else fact.value


def unit_text(fact: Fact) -> str:
    """Unit of the displayed digits: tCO2e, MWh, %, a currency, or empty."""
    scale = metric(fact.metric).scale
    if fact.unit == "pure" or not fact.unit:
        return "%" if scale == -2 else ""
    numerator, per, denominator = fact.unit.partition("_per_")
    if per:
        return f"{numerator} per million {denominator}" if scale == -6 else f"{numerator} per {denominator}"
    return numerator


def with_unit(fact: Fact) -> str:
    """Digits and unit, for running text."""
    if fact.value is None:
        return f"not available \N{EN DASH} {fact.reason}"
    unit = unit_text(fact) if fact.value_type == "number" else ""
    space = "\N{NO-BREAK SPACE}" if unit else ""
    return f"{text_of(fact)}{space}{unit}"


def long_date(day: date) -> str:
    """For example 31 October 2026; no locale is read."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def month_name(day: date) -> str:
    """For example October 2026."""
    return f"{_MONTHS[day.month - 1]} {day.year}"


def short_month(day: date) -> str:
    """For example Oct 26."""
    return f"{_MONTHS[day.month - 1][:3]} {day:%y}"


def member_label(axis: str, member: str) -> str:
    """Label of a dimension member; a member of the tenant's own data is its own label."""
    if member == REST:
        return _REST_LABELS.get(axis, "All others")
    if member == ROUNDING:
        return "Rounding difference"
    return _labels().get((axis, member)) or clean_text(member)


@cache
def _labels() -> Mapping[tuple[str, str], str]:
    text = resources.files(__package__).joinpath("data/members.csv").read_text(encoding="utf-8")
    return MappingProxyType({(r["axis"], r["member"]): r["label"] for r in csv.DictReader(text.splitlines())})


def magnitude(fact: Fact | None) -> Decimal:
    """Length of the fact's bar: its value, zero where not available or negative."""
    if fact is None or fact.value is None:
        return Decimal(0)
    return max(Decimal(0), fact.number)
