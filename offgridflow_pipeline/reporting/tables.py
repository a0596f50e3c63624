"""The tables of a report as rows of labels and facts, the same for every artefact that people read.

A cell is a text or a `Fact`; PDF and Inline XBRL render them, each in its own way. No figure is computed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from offgridflow_pipeline.reporting.breakdowns import BREAKDOWNS
from offgridflow_pipeline.reporting.display import NOT_AVAILABLE, member_label, month_name, unit_text
from offgridflow_pipeline.reporting.fact import REST, ROUNDING, Fact, FactSet, metric
from offgridflow_pipeline.reporting.quality import DISPOSITIONS, SHARES
from offgridflow_pipeline.reporting.trail import TRAIL_METRICS

Cell = str | Fact | None
RowKind = Literal["body", "part", "total", "rounding"]
#: Attributes of a factor that make its citation, in order.
_CITED = ("publisher", "title", "source", "edition", "locator")
_NOT_REPRINTED = "not reprinted (terms)"
_CAPTIONS = {
    "service": "Services, by location-based emissions",
    "account": "Accounts, by location-based emissions",
    "region": "Regions, by location-based emissions",
}


@dataclass(frozen=True, slots=True)
class TableRow:
    """Cells in column order and what the row is."""

    cells: tuple[Cell, ...]
    kind: RowKind = "body"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table: name, caption, column heads (the first is the row head), relative widths and rows."""

    name: str
    caption: str
    columns: tuple[str, ...]
    widths: tuple[float, ...]
    rows: tuple[TableRow, ...]
    text_columns: int = 1

    @property
    def reasons(self) -> list[str]:
        """Reasons of the cells that are not available, in order of appearance, each once."""
        found: dict[str, None] = {}
        for row in self.rows:
            for cell in row.cells:
                if isinstance(cell, Fact) and cell.value is None:
                    found.setdefault(cell.reason or "")
        return list(found)


def statement_table(facts: FactSet) -> ReportTable:
    """Scopes and totals, both bases."""
    both = [("scope3_location", "scope3_market")]
    rows = [
        TableRow(("Scope 1, direct emissions", facts.get("scope1"), facts.get("scope1"))),
        TableRow(("Scope 2, purchased energy", facts.get("scope2_location"), facts.get("scope2_market"))),
    ]
    for location, market in both:
        rows.append(TableRow(("Scope 3, value chain", facts.get(location), facts.get(market))))
        rows.append(
            TableRow(
                (
                    "Category 1: purchased cloud services",
                    facts.get(location, s3_category="1"),
                    facts.get(market, s3_category="1"),
                ),
                "part",
            )
        )
        rows.append(
            TableRow(
                (
                    "Categories 2 to 15",
                    facts.get(location, s3_category="other"),
                    facts.get(market, s3_category="other"),
                ),
                "part",
            )
        )
    rows.append(TableRow(("Total of this statement", facts.get("total_location"), facts.get("total_market")), "total"))
    return ReportTable(
        "statement",
        "Emissions by scope, tCO2e",
        ("Scope", "Location-based", "Market-based"),
        (3.2, 1.3, 1.3),
        tuple(rows),
    )


def provider_table(facts: FactSet) -> ReportTable:
    """Category 1 by provider and component, both bases, with electricity."""
    rows = []
    columns = ("use_phase", "embodied", "upstream")
    providers = facts.along("cloud_provider", "scope3_location", s3_category="1")
    for provider in providers:
        rows.append(_provider_row(facts, member_label("cloud_provider", provider), columns, provider))
    rows.append(_provider_row(facts, "All providers", columns, None))
    heads = ("Provider", "Use phase, location", "Use phase, market", "Embodied", "Upstream", "Total, location",
             "Total, market", "Electricity, MWh")  # fmt: skip
    return ReportTable(
        "providers",
        "Cloud services by provider and component, tCO2e",
        heads,
        (1.9, 1, 1, 1, 1, 1, 1, 1.05),
        tuple(rows),
    )


def trend_table(facts: FactSet) -> ReportTable:
    """Months, oldest first, with total, providers and electricity."""
    starts = sorted({fact.period_start for fact in facts if fact.metric == "total_location"})
    providers: dict[str, None] = {}
    for start in starts:
        for provider in facts.along("cloud_provider", "scope3_location", start=start, s3_category="1"):
            providers.setdefault(provider)
    rows = [
        TableRow(
            (
                month_name(start),
                *(
                    facts.get("scope3_location", start=start, s3_category="1", cloud_provider=provider)
                    for provider in providers
                ),
                facts.get("total_location", start=start),
                facts.get("total_market", start=start),
                facts.get("electricity", start=start),
            ),
            "total" if start == facts.period[0] else "body",
        )
        for start in starts
    ]
    names = [member_label("cloud_provider", provider) for provider in providers]
    heads = ("Month", *names, "Total, location", "Total, market", "Electricity, MWh")
    return ReportTable("trend", "Months, tCO2e", heads, (1.6, *(1.0 for _ in heads[1:])), tuple(rows))


def breakdown_tables(facts: FactSet) -> list[ReportTable]:
    """Services, accounts and regions."""
    return [_breakdown(facts, axis) for axis in BREAKDOWNS]


def disposition_tables(facts: FactSet) -> list[ReportTable]:
    """What became of the bill: cost and lines by disposition, then the reasons."""
    currencies = [dims["currency"] for dims in _dims(facts, "billed_cost", ("currency",))]
    heads = tuple(f"Billed cost, {currency}" for currency in currencies)
    rows = [
        TableRow(_cost_cells(facts, member_label("disposition", name), currencies, disposition=name))
        for name in DISPOSITIONS
        if facts.get("billed_lines", disposition=name)
    ]
    rows.append(TableRow(_cost_cells(facts, "Bill", currencies), "total"))
    widths = (2.6, 1.0, *(1.2 for _ in currencies))
    first = ReportTable(
        "dispositions", "What became of each billed row", ("Disposition", "Lines", *heads), widths, tuple(rows)
    )
    reasons = [
        TableRow(
            _cost_cells(
                facts,
                f"{member_label('reason', dims['reason'])} ({dims['disposition'].replace('_', ' ')})",
                currencies,
                **dims,
            )
        )
        for dims in _dims(facts, "billed_lines", ("disposition", "reason"))
    ]
    second = ReportTable("reasons", "Why rows carry no emissions", ("Reason", "Lines", *heads), widths, tuple(reasons))
    return [first, second] if reasons else [first]


def quality_table(facts: FactSet) -> ReportTable:
    """Coverage and quality figures, one to a row."""
    names = ("coverage_lines", "data_quality_mean", "market_fallback_share", "primary_data_share",
             "intensity_cost_location", "intensity_revenue_location", "uncertainty_95")  # fmt: skip
    rows = [
        TableRow((f"{metric('coverage_cost').label}, {dims['currency']}", fact, unit_text(fact)))
        for dims in _dims(facts, "coverage_cost", ("currency",))
        if (fact := facts.get("coverage_cost", dims))
    ]
    rows += [
        TableRow((metric(name).label, fact, unit_text(fact) if fact.value is not None else ""))
        for name in names
        if (fact := facts.get(name))
    ]
    return ReportTable("quality", "Quality and intensity", ("Measure", "Value", "Unit"), (3.6, 1, 1.4), tuple(rows))


def share_tables(facts: FactSet) -> list[ReportTable]:
    """Distributions: data quality, market-based method, grid boundary, upstream status."""
    tables = []
    for name, (axis, _) in SHARES.items():
        shares = facts.along(axis, name)
        if shares:
            rows = tuple(TableRow((member_label(axis, member), fact)) for member, fact in shares.items())
            tables.append(ReportTable(name, f"{metric(name).label}, %", ("", ""), (3, 1), rows))
    return tables


def factor_table(facts: FactSet) -> ReportTable:
    """Factors and coefficients with citation, heaviest first."""
    rows = []
    for dims in _dims(facts, "factor_share", ("factor_kind", "factor")):
        citation = json.loads(facts.one("factor_citation", dims).value or "{}")
        source = ", ".join(str(citation[key]) for key in _CITED if citation.get(key))
        value = f"{citation['value']} {citation.get('unit', '')}" if citation.get("value") else _NOT_REPRINTED
        rows.append(
            TableRow(
                (str(citation.get("factor_key") or dims["factor"]), value, source, facts.one("factor_share", dims))
            )
        )
    return ReportTable(
        "factors",
        "Factors and coefficients with most weight",
        ("Factor", "Value", "Source", "Share, %"),
        (2.3, 1.5, 4.0, 0.7),
        tuple(rows),
        text_columns=3,
    )


def reconciliation_table(facts: FactSet) -> ReportTable:
    """Ledger against totals, one column per currency."""
    currencies = [dims["currency"] for dims in _dims(facts, "ledger_cost", ("currency",))]
    lines: tuple[tuple[str, str, RowKind], ...] = (
        ("Billed cost in the totals", "billed_cost", "body"),
        ("Billed cost in the ledger", "ledger_cost", "body"),
        ("Difference", "cost_difference", "total"),
        ("Ledger lines", "ledger_lines", "body"),
        ("Lines missing from the totals", "line_difference", "total"),
        ("Billing files read", "source_objects", "body"),
    )
    rows = tuple(
        TableRow((label, *(facts.get(name, currency=currency) for currency in currencies)), kind)
        for label, name, kind in lines
    )
    widths = (2.6, *(1.2 for _ in currencies))
    heads = ("Control", *(f"Billed in {currency}" for currency in currencies))
    return ReportTable("reconciliation", "Ledger against totals", heads, widths, rows if currencies else ())


def identity_table(facts: FactSet) -> ReportTable:
    """Who, when, and what the figures were made with."""
    names = (
        "entity_name", "lei", "period_start_date", "period_end_date", "edition", "status", "assurance_level",
        "consolidation_approach", "base_year", "book_of_record", "gwp_source", "method_name", "factor_set",
        "factor_set_sha", "run_id",
    )  # fmt: skip
    rows = tuple(TableRow((metric(name).label, facts.get(name))) for name in names)
    return ReportTable("identity", "Report and run", ("", ""), (1.4, 3), rows, text_columns=2)


def trail_table(facts: FactSet) -> ReportTable:
    """The anchor of the audit log, or one row with the reason that there is none."""
    stated = [fact for name in TRAIL_METRICS if (fact := facts.get(name))]
    shown = [fact for fact in stated if fact.value is not None] or stated[:1]
    rows = tuple(TableRow((metric(fact.metric).label, fact)) for fact in shown)
    return ReportTable("trail", "Anchor of the audit log", ("", ""), (1, 3.4), rows, text_columns=2)


def text_facts(facts: FactSet) -> list[Fact]:
    """Text blocks in order."""
    return [fact for fact in facts if fact.is_text_block]


def reason_mark(table: ReportTable, fact: Fact) -> str:
    """What a cell without value shows: "n/a" and the number of its reason below the table."""
    return f"{NOT_AVAILABLE} [{table.reasons.index(fact.reason or '') + 1}]"


def _breakdown(facts: FactSet, axis: str) -> ReportTable:
    currencies = [dims["currency"] for dims in _dims(facts, "billed_cost", ("currency",))]
    metrics = ("scope3_location", "scope3_market", "electricity")
    members = _dims(facts, "scope3_location", (axis, "cloud_provider")) + [
        dims for dims in _any_dims(facts, metrics, (axis,)) if dims[axis] in (REST, ROUNDING)
    ]
    rows = []
    for dims in members:
        label = member_label(axis, dims[axis])
        provider = member_label("provider_short", dims["cloud_provider"]) if "cloud_provider" in dims else ""
        cells = [facts.get(name, dims) or "" for name in metrics]
        costs = [facts.get("billed_cost", dims, currency=currency) or "" for currency in currencies]
        rows.append(TableRow((label, provider, *cells, *costs), "rounding" if dims[axis] == ROUNDING else "body"))
    totals = [facts.get("total_location"), facts.get("total_market"), facts.get("electricity")]
    costs = [facts.get("billed_cost", currency=currency) or "" for currency in currencies]
    rows.append(TableRow(("Total", "", *totals, *costs), "total"))
    heads = (
        axis.capitalize(),
        "Provider",
        "Location, tCO2e",
        "Market, tCO2e",
        "MWh",
        *(f"Cost, {c}" for c in currencies),
    )
    widths = (2.5, 0.85, 1, 1, 0.95, *(1.2 for _ in currencies))
    return ReportTable(axis, _CAPTIONS[axis], heads, widths, tuple(rows), text_columns=2)


def _provider_row(facts: FactSet, label: str, components: Sequence[str], provider: str | None) -> TableRow:
    dims = {"s3_category": "1"} | ({"cloud_provider": provider} if provider else {})
    use, *others = components
    cells: list[Cell] = [
        facts.get("scope3_location", dims, component=use),
        facts.get("scope3_market", dims, component=use),
        *(facts.get("scope3_location", dims, component=component) for component in others),
        facts.get("scope3_location", dims),
        facts.get("scope3_market", dims),
        facts.get("electricity", {"cloud_provider": provider} if provider else {}),
    ]
    return TableRow((label, *cells), "body" if provider else "total")


def _cost_cells(facts: FactSet, label: str, currencies: Iterable[str], **dims: str) -> tuple[Cell, ...]:
    costs = [facts.get("billed_cost", dims, currency=currency) or "" for currency in currencies]
    return (label, facts.get("billed_lines", dims), *costs)


def _dims(facts: FactSet, name: str, axes: Sequence[str]) -> list[dict[str, str]]:
    """Dimensions of the facts of a metric that have exactly these axes, in order of presentation."""
    return [dict(f.dims) for f in facts if f.metric == name and set(f.dims) == set(axes)]


def _any_dims(facts: FactSet, names: Sequence[str], axes: Sequence[str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for name in names:
        found += [dims for dims in _dims(facts, name, axes) if dims not in found]
    return sorted(found, key=lambda dims: list(dims.values()) == [ROUNDING])
