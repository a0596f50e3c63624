"""What may stand in a cell: texts that no program runs, numbers with all their digits, and how they are shown.

Formula injection: service.md, section "injection". A spreadsheet holds binary doubles, which carry 15 decimal digits
(IEEE 754); a figure with more is shown with all of them beside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from offgridflow_pipeline.reporting.fact import Fact, clean_text, metric

#: Characters that make a program read a text as a formula; the wide ones in East Asian settings.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
                  "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip
#: Characters a cell holds, counted as UTF-16 code units.
CELL_LIMIT = 32_767
#: A text between these is taken for finished markup by the library that writes the file, and written unescaped.
_MARKUP = ("<r>", "</r>")
CUT = " [cut here: a cell holds no more; the data pack has the whole text]"
#: Decimal digits that a double gives back unchanged.
DOUBLE_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Stated:
    """The fact itself, not a reference to it: the cell that bears the fact's name."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits of a number as text, where a spreadsheet's own number would lose some."""

    text: str

    def __post_init__(self) -> None:
        Decimal(self.text)  # a text that is no number takes the way of all texts


#: A `Fact` is shown as a reference to the cell that states it.
Cell = str | Fact | Stated | Digits | Decimal | int | date | None


def safe_text(text: str) -> str:
    """The text as a cell holds it: printable, within the limit, never the beginning of a formula, never markup."""
    clean = clean_text(text)
    if clean.startswith(FORMULA_STARTS) or is_markup(clean):
        clean = f"'{clean}"
    if _units(clean) <= CELL_LIMIT:
        return clean
    kept = clean.encode("utf-16-le")[: 2 * (CELL_LIMIT - _units(CUT))]
    return kept.decode("utf-16-le", "ignore") + CUT


def is_markup(text: str) -> bool:
    """Whether the file would hold the text as markup of its own."""
    opened, closed = _MARKUP
    return text.startswith(opened) and text.endswith(closed)


def fits(number: Decimal) -> bool:
    """Whether a spreadsheet's number gives back all digits."""
    return len(number.normalize().as_tuple().digits) <= DOUBLE_DIGITS


def all_digits(fact: Fact) -> Digits | None:
    """The value as digits where the number in the cell cannot hold them."""
    if fact.value is None or fact.value_type != "number" or fits(fact.number):
        return None
    return Digits(f"{fact.number:f}")


def number_format(fact: Fact) -> str:
    """Format that shows the stated decimals; shares as percentages."""
    decimals = fact.decimals or 0
    if metric(fact.metric).scale == -2:
        return "0" + _places(max(0, decimals - 2)) + "%"
    return "#,##0" + _places(decimals)


def cell_unit(fact: Fact) -> str:
    """Unit of the number in the cell, which is the value itself: no scale but the percentage's."""
    if fact.unit in ("", "pure"):
        return "%" if metric(fact.metric).scale == -2 else ""
    return fact.unit.replace("_per_", " per ")


def dimensions(fact: Fact) -> str:
    """Axes and members as JSON, keys sorted, as in `report_facts`."""
    return json.dumps(dict(sorted(fact.dims.items())), ensure_ascii=False)


def defined_name(fact_id: str) -> str:
    """Name of the fact's cell; names cannot have the hyphen of the id."""
    return fact_id.replace("-", "_")


def _places(decimals: int) -> str:
    return "." + "0" * decimals if decimals else ""


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
