"""Column names: canonical spelling, aliases, required columns. Columns are bound by name, never by position.

The three spellings of AWS, the header families of Azure, the nested names of GCP and the renames of FOCUS meet
here (billing-feeds.md sections 4.2, 5.2, 6.2 and 7). What a column holds is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, Dialect
from offgridflow_pipeline.connectors.reading.focus_datasets import focus_version, other_dataset
from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.lake import schemas, source_columns

#: Columns of the extract table, by dialect.
SOURCE_COLUMNS: dict[Dialect, tuple[str, ...]] = {
    "cur": source_columns.CUR_COLUMNS,
    "azure": source_columns.AZURE_COLUMNS,
    "gcp": source_columns.GCP_COLUMNS,
    "focus": source_columns.FOCUS_COLUMNS,
}
TAG_PREFIX = "resource_tags_"
_TAG_HEADER = re.compile(r"^resource(?:Tags/|_tags_)")
#: A localised Azure header: the local text, then the English name in its last brackets, half or full width.
_LOCALISED = re.compile(r"[(\uff08]\s*([A-Za-z][A-Za-z0-9_ ]*)[)\uff09]$")


@dataclass(frozen=True, slots=True)
class BoundHeader:
    """Positions of an object's columns: by extract column, by tag key, and all others by canonical name."""

    names: tuple[str, ...]
    known: dict[str, int]
    tags: dict[str, int]
    other: dict[str, int]

    def delivered_name(self, column: str) -> str:
        """The header text of an extract column, for messages; the column itself when it was not delivered."""
        return self.names[self.known[column]] if column in self.known else column


def dialect(table: schemas.Table) -> Dialect:
    """Which spelling rules the extract table follows."""
    return next(dialect for dialect, name in EXTRACT_TABLES.items() if name == table.name)


def canonical_cur(name: str) -> str:
    """Snake form of a CUR header in any of its spellings.

    ``lineItem/UsageAmount`` and ``line_item_usage_amount`` give the same; capitals split one by one
    (``SavingsPlanARN`` -> ``savings_plan_a_r_n``).
    """
    text = name.strip().replace("/", "_").replace(":", "_")
    if "_" in text and text == text.lower():
        return text
    text = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"_+", "_", text).lower()


def english_azure(name: str) -> str:
    """English name of an Azure header: ``Menge (Quantity)`` -> ``Quantity``; others as they are."""
    text = name.strip()
    return found[1].strip() if (found := _LOCALISED.search(text)) else text


def joined_gcp(name: str) -> str:
    """Name of a nested column of GCP as flattening tools spell it: ``service.id`` -> ``service_id``."""
    return name.strip().replace(".", "_")


def bound_names(spoken: Dialect) -> dict[str, bool]:
    """Known column names of a dialect, lower case: whether the column is kept (by its own name or as an alias)."""
    kept = [column.lower() for column in SOURCE_COLUMNS[spoken]] + list(_aliases()[spoken])
    unread = [row["column"].lower() for row in data_rows(__file__, "unread_columns.csv") if row["dialect"] == spoken]
    return dict.fromkeys(unread, False) | dict.fromkeys(kept, True)


def bind(names: Sequence[str], table: schemas.Table, source: str) -> BoundHeader:
    """Bind the header of an object to the extract's columns.

    Two different headers that mean the same column: its own name is bound before an alias, of two aliases the
    earlier row of the data; the other one is kept among the others.

    Raises:
        BillingObjectError: the header is empty, a required column is missing, or a bound column occurs twice.
    """
    cleaned = tuple(n.replace("\ufeff", "").strip() for n in names)
    if not any(cleaned):
        raise BillingObjectError(source, "the header row is empty", "Deliver the object again", row=0)
    spoken = dialect(table)
    declared = {c.lower(): c for c in SOURCE_COLUMNS[spoken]}
    aliases = _aliases()[spoken]
    ranks = {alias: number for number, alias in enumerate(aliases)}

    def rank(key: str) -> int:
        return ranks.get(key, -1)

    known: dict[str, int] = {}
    tags: dict[str, int] = {}
    other: dict[str, int] = {}
    for position, name in enumerate(cleaned):
        key = _key(name, spoken)
        target = declared.get(key) or aliases.get(key)
        if target and (target not in known or rank(key) < rank(_key(cleaned[known[target]], spoken))):
            if target in known:  # ServiceProviderName wins over ProviderName (FOCUS 1.3 delivers both)
                other[cleaned[known[target]]] = known[target]
            known[target] = position
        elif target and cleaned[known[target]] == name:
            raise BillingObjectError(
                source, "the column occurs twice", "Remove one of the two from the export", row=0, column=name
            )
        elif spoken == "cur" and key.startswith(TAG_PREFIX):
            tags.setdefault(_TAG_HEADER.sub("", name), position)
        elif name:
            label = _SPELLINGS[spoken](name)
            other[label if label not in other else f"{label}#{position}"] = position
    _require(known, cleaned, spoken, source)
    return BoundHeader(cleaned, known, dict(sorted(tags.items())), dict(sorted(other.items())))


#: How a dialect spells the columns it has no name for; `_key` of that spelling finds declared names and aliases.
_SPELLINGS: dict[Dialect, Callable[[str], str]] = {
    "cur": canonical_cur,
    "azure": english_azure,
    "gcp": joined_gcp,
    "focus": str.strip,
}


def _key(name: str, spoken: Dialect) -> str:
    """Capitals never tell columns apart, and in Azure neither do blanks (Microsoft: "casing and spacing" differ)."""
    key = _SPELLINGS[spoken](name).lower()
    return key.replace(" ", "") if spoken == "azure" else key


def _require(known: dict[str, int], names: Sequence[str], spoken: Dialect, source: str) -> None:
    missing = [c for c in _required()[spoken] if c not in known]
    if not missing:
        return
    if spoken == "focus" and (dataset := other_dataset(names)):
        raise BillingObjectError(
            source,
            f"it is the FOCUS dataset {dataset}, not a bill",
            "Export the dataset Cost and Usage and give its files",
            row=0,
        )
    kind = f" from this FOCUS {focus_version(names)} file" if spoken == "focus" else ""
    raise BillingObjectError(
        source,
        f"the required column {missing[0]} is missing{kind} (all missing: {', '.join(missing)})",
        "Add it to the export's column selection, or choose the right format",
        row=0,
        column=missing[0],
    )


@cache
def _aliases() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {dialect: {} for dialect in EXTRACT_TABLES}
    for row in data_rows(__file__, "header_aliases.csv"):
        found[row["dialect"]][row["alias"]] = row["column"]
    return found


@cache
def _required() -> dict[str, tuple[str, ...]]:
    rows = data_rows(__file__, "required_columns.csv")
    return {d: tuple(r["column"] for r in rows if r["dialect"] == d) for d in EXTRACT_TABLES}
