"""The sheets of the workbook as rows of cells, from facts alone.

One table or a few of the same columns to a sheet, so that heads stay in sight. How cells look is `document`'s matter.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any, Literal

from offgridflow_pipeline.lake.schemas import REPORT_FACTS
from offgridflow_pipeline.reporting.display import member_label, month_name
from offgridflow_pipeline.reporting.fact import Fact, FactSet, metric, metrics
from offgridflow_pipeline.reporting.tables import (
    ReportTable,
    breakdown_tables,
    disposition_tables,
    identity_table,
    provider_table,
    quality_table,
    reconciliation_table,
    share_tables,
    statement_table,
    text_facts,
    trail_table,
    trend_table,
)
from offgridflow_pipeline.reporting.workbook.cells import Cell, Digits, Stated, all_digits, cell_unit, dimensions

#: Factors listed before the list ends with a pointer to the data pack.
FACTORS_LISTED = 1000
FACTS = "Facts"
Kind = Literal["body", "part", "total", "rounding", "head", "note"]
#: Columns of `cited_factors` that stand as they are, in order.
_CITED = ("boundary", "gwp_basis", "valid_from", "valid_to", "publisher", "title", "edition", "locator", "licence",
          "attribution", "factor_uid")  # fmt: skip
_NO_FACTOR_VALUE = "not reprinted (terms), or none published"


@dataclass(frozen=True, slots=True)
class Column:
    """Head, width in characters, and whether long texts wrap."""

    head: str
    width: float = 16
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in column order and what the row is; `head` begins a further table of the same columns."""

    cells: tuple[Cell, ...]
    kind: Kind = "body"


@dataclass(frozen=True, slots=True)
class Bars:
    """A column chart: the columns with its values by number, and how many of the first rows it shows."""

    values: tuple[int, ...]
    rows: int
    title: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet: `lead` says how to read it, `is_list` lets readers filter its rows.

    `lines` is how many lines of a wrapped text a row shows; programs draw no row higher than 409 points.
    """

    name: str
    title: str
    lead: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    is_list: bool = False
    bars: Bars | None = None
    lines: int = 26

    @property
    def figures(self) -> frozenset[int]:
        """Columns of figures, by number; one whose texts wrap is read as text, a figure among them or not."""
        places = {place for row in self.rows for place, cell in enumerate(row.cells) if _is_figure(cell)}
        return frozenset(place for place in places if not self.columns[place].wraps)

    @property
    def reasons(self) -> list[str]:
        """Why figures are not available, in order of appearance, each once."""
        facts = (cell for row in self.rows for cell in row.cells if isinstance(cell, Fact))
        return list(dict.fromkeys(fact.reason or "" for fact in facts if fact.value is None))


def _is_figure(cell: Cell) -> bool:
    return isinstance(cell, Decimal | int) or (isinstance(cell, Fact) and cell.value_type == "number")


#: Columns of the sheet `Facts`: head, width, wraps, and what stands there.
FACT_COLUMNS: tuple[tuple[Column, str], ...] = (
    (Column("Fact", 20), "Id of the fact, the same in every file of the report; the value's cell is named after it."),
    (Column("Measure", 38), "Label of the measure."),
    (Column("Of", 38, wraps=True), "Members of the dimensions, in words."),
    (Column("Value", 20, wraps=True), "The value as the report states it. Shares are fractions shown as percentages."),
    (Column("Unit", 16), "Unit of the value."),
    (Column("Decimals", 10), "Decimal places that the value, or the parts it adds up, were rounded to."),
    (Column("All digits", 24), "The value as text, where it has more digits than a spreadsheet's number holds."),
    (
        Column("Exact", 34),
        "The unrounded sum, as text. Totals add the rounded parts, so they can differ from this rounded (see Method).",
    ),
    (Column("Not available because", 44, wraps=True), "Why there is no value."),
    (Column("From", 12), "First day of the period."),
    (Column("To", 12), "Last day of the period, inclusive."),
    (Column("Metric", 28), "Name of the measure in report_facts."),
    (Column("Dimensions", 44, wraps=True), "Axes and members as JSON, as in report_facts."),
    (Column("Computed from", 44, wraps=True), "Ids of the facts that the value was computed from."),
)


def sheets(facts: FactSet, factors: Sequence[Mapping[str, Any]], about: Sequence[tuple[str, Cell]]) -> list[Sheet]:
    """Every sheet in order of reading.

    Args:
        facts: the report.
        factors: rows of `cited_factors`.
        about: what the first sheet says beside the report's own identity: label and value.
    """
    body = [*_figures(facts), _factors(facts, factors), _disclosures(facts), _method(facts), _facts(facts), _terms()]
    return [_about(facts, about, body), *body]


def headline(facts: FactSet) -> str:
    """What stands below each title: entity, month and status."""
    entity, status = (facts.one(name).value or "" for name in ("entity_name", "status"))
    return f"{entity}, {month_name(facts.period[0])}, {status}"


def _figures(facts: FactSet) -> Iterator[Sheet]:
    yield _of_table("Statement", "Gross figures: nothing is netted or offset.", statement_table(facts))
    yield _of_table("Providers", "Category 1 by provider and component.", provider_table(facts))
    yield _months(facts)
    yield _days(facts)
    for name, table in zip(("Services", "Accounts", "Regions"), breakdown_tables(facts), strict=True):
        yield _of_table(name, "Heaviest first; the rest is added up.", table)
    yield _quality(facts)
    lead = "Every billed row has one of four dispositions; together they make up the bill to the cent."
    yield _of_table("Bill", lead, *disposition_tables(facts))
    lead = "The ledger's own count and cost, beside the totals that the report is made from."
    yield _of_table("Reconciliation", lead, reconciliation_table(facts))


def _of_table(name: str, lead: str, first: ReportTable, *more: ReportTable) -> Sheet:
    """Tables of the same columns, below each other."""
    columns = tuple(
        Column(head, 36 if number == 0 else 20, wraps=number == 0) for number, head in enumerate(first.columns)
    )
    rows = [Row(row.cells, row.kind) for row in first.rows]
    for table in more:
        rows.append(Row((table.caption, *table.columns[1:]), "head"))
        rows += [Row(row.cells, row.kind) for row in table.rows]
    return Sheet(name, first.caption, lead, columns, tuple(rows))


def _months(facts: FactSet) -> Sheet:
    sheet = _of_table("Months", "Oldest first; earlier months as their inventories state them.", trend_table(facts))
    totals = tuple(n for n, column in enumerate(sheet.columns) if column.head.startswith("Total, "))
    return replace(sheet, bars=Bars(totals, len(sheet.rows), "Months, tCO2e"))


def _days(facts: FactSet) -> Sheet:
    days = facts.along("day", "scope3_location")
    dated = [(date.fromisoformat(day), fact) for day, fact in days.items() if not day.startswith("#")]
    rows = [Row((day, fact)) for day, fact in dated]
    rows += [Row((member_label("day", day), fact), "rounding") for day, fact in days.items() if day.startswith("#")]
    rows.append(Row(("Total", facts.get("scope3_location")), "total"))
    columns = (Column("Day", 20), Column("Location, tCO2e", 18))
    lead = "Days of use, UTC. Each is rounded by itself; the rounding difference makes them add up."
    bars = Bars((1,), len(dated), "Days, location-based, tCO2e") if dated else None
    return Sheet("Days", "Days, location-based, tCO2e", lead, columns, tuple(rows), bars=bars)


def _quality(facts: FactSet) -> Sheet:
    table = quality_table(facts)
    rows = [Row((row.cells[0], row.cells[1], _unit(row.cells[1])), row.kind) for row in table.rows]
    for shares in share_tables(facts):
        rows.append(Row((shares.caption, "Share", "Unit"), "head"))
        rows += [Row((*row.cells, _unit(row.cells[1])), row.kind) for row in shares.rows]
    columns = (Column("Measure", 46), Column("Value", 18), Column("Unit", 18))
    return Sheet("Quality", table.caption, "How far the figures can be relied on.", columns, tuple(rows))


def _unit(cell: Cell) -> str:
    return cell_unit(cell) if isinstance(cell, Fact) and cell.value is not None else ""


def _factors(facts: FactSet, factors: Sequence[Mapping[str, Any]]) -> Sheet:
    shares = {fact.dims["factor"]: fact for fact in facts if fact.metric == "factor_share"}
    heads = (("Factor", 40), ("Value", 20), ("Unit", 20), ("Share", 12), ("Boundary", 16), ("GWP", 12),
             ("Valid from", 12), ("Valid to", 12), ("Publisher", 30), ("Title", 44), ("Edition", 14), ("Locator", 30),
             ("Licence", 24), ("Attribution", 50), ("Id", 36))  # fmt: skip
    ranked = sorted(factors, key=lambda row: (-_weight(shares.get(row["factor_uid"])), row["factor_key"]))
    rows = [Row(tuple(_factor(row, shares.get(row["factor_uid"])))) for row in ranked[:FACTORS_LISTED]]
    if left := len(ranked) - len(rows):
        rows.append(Row((f"{left} more: factors.csv in the data pack lists all {len(ranked)}.",), "note"))
    lead = (
        "Every factor and coefficient that the ledger cites, heaviest first. Shares of the total overlap, because a "
        "line uses several; they are stated for those with most weight."
    )
    columns = tuple(Column(head, width, wraps=width >= 40) for head, width in heads)
    return Sheet("Factors", "Factors and coefficients used", lead, columns, tuple(rows), is_list=True)


def _factor(row: Mapping[str, Any], share: Fact | None) -> Iterator[Cell]:
    yield row["factor_key"]
    yield Decimal(row["value"]) if row["value"] else _NO_FACTOR_VALUE
    yield row["unit"]
    yield share
    yield from (row[name] or None for name in _CITED)


def _weight(share: Fact | None) -> Decimal:
    return share.number if share is not None and share.value is not None else Decimal(0)


def _disclosures(facts: FactSet) -> Sheet:
    rows = []
    for asked in disclosures():
        dims = dict(part.split("=", 1) for part in asked["dims"].split())
        fact = facts.get(asked["metric"], dims)
        unit = _unit(fact) if fact and fact.value_type == "number" else ""
        where = (asked["framework"], asked["version"], asked["item"], asked["asked"])
        rows.append(Row((*where, fact, unit, asked["concept"], asked["evidence"])))
    heads = (("Framework", 30), ("Version", 20), ("Item", 20), ("Asked for", 44), ("Fact", 40), ("Unit", 12),
             ("Taxonomy concept", 60), ("Item by", 32))  # fmt: skip
    lead = (
        "Where the facts belong in a disclosure. Figures are of this month; a disclosure asks for the reporting year: "
        "add its months. Other scopes and categories come from the entity's own inventory."
    )
    columns = tuple(Column(head, width, wraps=width >= 40) for head, width in heads)
    return Sheet("Disclosures", "Disclosures", lead, columns, tuple(rows), is_list=True, lines=2)


@cache
def disclosures() -> tuple[Mapping[str, str], ...]:
    """Rows of data/disclosures.csv: framework, version, item, concept, what is asked, and which fact answers."""
    text = resources.files("offgridflow_pipeline.reporting").joinpath("data/disclosures.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _method(facts: FactSet) -> Sheet:
    rows = tuple(Row((metric(fact.metric).label, fact)) for fact in text_facts(facts))
    columns = (Column("Subject", 28, wraps=True), Column("Text", 110, wraps=True))
    return Sheet("Method", "Method and boundary", "As the report states it.", columns, rows)


def _facts(facts: FactSet) -> Sheet:
    rows = tuple(
        Row(
            (
                fact.fact_id,
                metric(fact.metric).label,
                ", ".join(member_label(axis, member) for axis, member in fact.dims.items()),
                Stated(fact),
                cell_unit(fact) if fact.value_type == "number" else "",
                fact.decimals,
                all_digits(fact),
                Digits(fact.exact) if fact.exact is not None else None,
                fact.reason,
                fact.period_start,
                fact.period_end,
                fact.metric,
                dimensions(fact),
                " ".join(fact.basis),
            )
        )
        for fact in facts
    )
    lead = "Every fact of the report, in order of presentation. Other sheets refer to the column Value by name."
    columns = tuple(column for column, _ in FACT_COLUMNS)
    return Sheet(FACTS, "Facts", lead, columns, rows, is_list=True, lines=1)


def _terms() -> Sheet:
    rows = [Row((column.head, "column of Facts", "", meaning, "")) for column, meaning in FACT_COLUMNS]
    rows += [Row((m.name, "metric", m.unit, f"{m.label}: {m.meaning}", m.source)) for m in metrics().values()]
    rows += [Row((c.name, "column of report_facts", c.unit, c.meaning, str(c.type))) for c in REPORT_FACTS.columns]
    heads = (("Term", 30), ("Kind", 24), ("Unit", 20), ("Meaning", 80), ("Source or type", 40))
    columns = tuple(Column(head, width, wraps=width >= 40) for head, width in heads)
    lead = "What columns, metrics and the table report_facts in the data pack mean."
    return Sheet("Dictionary", "Data dictionary", lead, columns, tuple(rows), is_list=True)


def _about(facts: FactSet, about: Iterable[tuple[str, Cell]], body: Sequence[Sheet]) -> Sheet:
    rows = [Row(row.cells) for row in identity_table(facts).rows]
    rows += [Row(entry) for entry in about]
    trail = trail_table(facts)
    if trail.rows:
        rows += [Row((trail.caption, ""), "head"), *(Row(row.cells) for row in trail.rows)]
    rows.append(Row(("Sheets", "What stands there"), "head"))
    rows += [Row((sheet.name, f"{sheet.title}. {sheet.lead}")) for sheet in body]
    rows.append(Row(("How to read it", ""), "head"))
    rows += [Row(entry) for entry in _READING]
    columns = (Column("Report", 28, wraps=True), Column("", 110, wraps=True))
    title = f"Cloud footprint, {month_name(facts.period[0])}"
    return Sheet("About", title, "The report as a workbook, beside its other formats.", columns, tuple(rows))


_READING = (
    ("Figures", "Each is one fact: the same value under the same id in every file of the report."),
    ("Rounding", "Parts are rounded once and totals add them, so a total can differ from its Exact, rounded."),
    ("Names", "A figure's cell refers to its fact by name: f_ and 16 digits stand for the id f- and the same digits."),
    ("n/a", "Not available, for the reason whose number stands beside it; reasons are below the rows."),
    ("Texts", "A text like a formula (=, +, -, @, tab) or like markup (<r>) has an apostrophe before it."),
    ("Precision", "A spreadsheet's number holds 15 digits. Where a value has more, the column All digits has them."),
    ("Whole ledger", "The data pack of the same report has every ledger line, every factor and their dictionary."),
)
