"""The sections of the report after the cover, each a list of flowables made from facts.

Order and contents: requirements.md section 12. Figures come as `ReportTable`s or charts of the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator

from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, PageBreak, Spacer, Table

from offgridflow_pipeline.reporting.charts import Column, Mark, Trend
from offgridflow_pipeline.reporting.display import (
    long_date,
    member_label,
    short_month,
    text_of,
    unit_text,
    with_unit,
)
from offgridflow_pipeline.reporting.fact import Fact, FactSet, metric
from offgridflow_pipeline.reporting.pdf import theme
from offgridflow_pipeline.reporting.pdf.calendar import Calendar
from offgridflow_pipeline.reporting.pdf.charts import SplitBar, TrendChart, length, mark
from offgridflow_pipeline.reporting.pdf.marks import FactMark, Pages, SectionMark
from offgridflow_pipeline.reporting.pdf.tables import fact_cell, side_by_side, table_flow
from offgridflow_pipeline.reporting.pdf.theme import text
from offgridflow_pipeline.reporting.quality import DISPOSITIONS
from offgridflow_pipeline.reporting.tables import (
    breakdown_tables,
    disposition_tables,
    factor_table,
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
from offgridflow_pipeline.reporting.trail import TRAIL_TEXT

#: Figures at the head of the statement, and those beside it.
_HEADLINE = ("total_location", "total_market", "change_location")
_BESIDE = ("electricity", "intensity_cost_location", "data_quality_mean", "market_fallback_share")
#: The PDF says itself what it is not (xbrl.md section 9.1).
_UNTAGGED = "This PDF is an archive edition (built to PDF/A-3b, not tagged). "
_ACCESSIBLE = "The attached Inline XBRL file is the accessible edition of the same facts; "
_EVERY_LINE = "the data pack has every ledger line."


def sections(facts: FactSet, pages: Pages, index_pages: Pages, *, has_ixbrl: bool = True) -> Iterator[Flowable]:
    """Every section in order of reading; `index_pages` are the pages the index prints."""
    yield from _statement(facts, pages, has_ixbrl=has_ixbrl)
    yield PageBreak()
    yield from _trend(facts, pages)
    yield PageBreak()
    yield from _where(facts, pages)
    yield PageBreak()
    yield from _quality(facts, pages)
    yield PageBreak()
    yield from _bill(facts, pages)
    yield PageBreak()
    yield from _method(facts, pages)
    yield PageBreak()
    yield from _factors(facts, pages)
    yield PageBreak()
    yield from _check(facts, pages)
    yield from _index(facts, index_pages, has_ixbrl=has_ixbrl)


def _heading(title: str, lead: str = "") -> list[Flowable]:
    flow: list[Flowable] = [SectionMark(title), text(title, theme.HEADING)]
    return [*flow, text(lead, theme.LEAD)] if lead else flow


def _statement(facts: FactSet, pages: Pages, *, has_ixbrl: bool) -> Iterator[Flowable]:
    start, end = facts.period
    yield from _heading(
        "Statement",
        f"Greenhouse-gas emissions of purchased cloud services from {long_date(start)} to {long_date(end)}. "
        "Gross figures: nothing is netted or offset.",
    )
    yield _cards([*(facts.one(name) for name in _HEADLINE), _coverage(facts)], theme.FIGURE, pages)
    yield from table_flow(statement_table(facts), pages)
    yield from table_flow(provider_table(facts), pages)
    yield Spacer(1, 8 * mm)
    yield _cards([facts.one(name) for name in _BESIDE], theme.FIGURE_SMALL, pages)
    yield Spacer(1, 6 * mm)
    beside = _ACCESSIBLE + _EVERY_LINE if has_ixbrl else "Its facts are attached as CSV; " + _EVERY_LINE
    yield text(_UNTAGGED + beside, theme.NOTE)


def _coverage(facts: FactSet) -> Fact:
    by_cost = facts.along("currency", "coverage_cost")
    return next(iter(by_cost.values())) if len(by_cost) == 1 else facts.one("coverage_lines")


def _cards(cards: list[Fact], figure: ParagraphStyle, pages: Pages) -> Table:
    """Figures side by side in three lines: label, figure, unit or the reason it is missing."""
    count, gap = len(cards), 5 * mm
    width = (theme.WIDTH - gap * (count - 1)) / count
    lines: list[list[object]] = [[], [], []]
    for number, fact in enumerate(cards):
        under = unit_text(fact) if fact.value is not None else f"not available \N{EN DASH} {fact.reason}"
        cell = (
            text(metric(fact.metric).label, theme.FIGURE_LABEL),
            fact_cell(fact, text_of(fact), figure, pages),
            text(under, theme.FIGURE_LABEL),
        )
        for line, content in zip(lines, cell, strict=True):
            line.extend(["", content] if number else [content])
    style: list[tuple[object, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, 0), 2 * mm),
        ("TOPPADDING", (0, 1), (-1, -1), 0.5 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
    ]
    style += [("LINEABOVE", (2 * n, 0), (2 * n, 0), 1.6, theme.ACCENT) for n in range(count)]
    widths = [gap if n % 2 else width for n in range(2 * count - 1)]
    return Table(lines, colWidths=widths, style=theme.table_style(style), hAlign="LEFT")


def _trend(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading(
        "Trend and composition",
        "Columns are location-based emissions by provider, the line is the market-based total.",
    )
    columns = _columns(facts)
    members = {name: member_label("cloud_provider", name) for column in columns for name in column.parts}
    yield TrendChart(Trend(columns, members, "Total, market-based"), theme.WIDTH, 74 * mm)
    yield from table_flow(trend_table(facts), pages)
    yield Spacer(1, 7 * mm)
    for name in ("scope3_location", "scope3_market"):
        parts = facts.along("component", name, s3_category="1")
        labelled = [(member, member_label("component", member), fact) for member, fact in parts.items()]
        title = f"{metric(name).label.split(', ')[1].capitalize()}: use phase, hardware and energy upstream"
        yield SplitBar(title, labelled, theme.WIDTH, "tCO2e", pages)
        yield Spacer(1, 3 * mm)


def _columns(facts: FactSet) -> list[Column]:
    starts = sorted({fact.period_start for fact in facts if fact.metric == "total_location"})
    open_month = facts.one("status").value == "provisional"
    return [
        Column(
            short_month(start),
            {
                member: Mark(length(fact), text_of(fact))
                for member, fact in facts.along(
                    "cloud_provider", "scope3_location", start=start, s3_category="1"
                ).items()
            },
            Mark(length(total := facts.one("total_location", start=start)), text_of(total)),
            mark(facts.get("total_market", start=start)),
            provisional=open_month and start == facts.period[0],
        )
        for start in starts
    ]


def _where(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading("Where the emissions arise", "Heaviest first; bars show location-based emissions.")
    for table in breakdown_tables(facts):
        yield from table_flow(table, pages, bars=2)
    yield KeepTogether([text("Days, location-based, tCO2e", theme.CAPTION), Calendar(facts, pages)])


def _quality(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading("Quality and coverage")
    block = next(fact for fact in text_facts(facts) if fact.metric == "text_data_quality")
    yield FactMark(block.fact_id, pages)
    yield text(block.value or "", theme.LEAD)
    yield from table_flow(quality_table(facts), pages)
    half = (theme.WIDTH - 8 * mm) / 2
    tables = [table_flow(table, pages, width=half, kept=False) for table in share_tables(facts)]
    for number in range(0, len(tables), 2):
        yield side_by_side(tables[number], tables[number + 1] if number + 1 < len(tables) else [])


def _bill(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading(
        "The bill, accounted for",
        "Every billed row has one of four dispositions, and together they make up the bill to the cent. "
        "Rows without a defensible model carry no emissions and are not guessed.",
    )
    for currency in _currencies(facts):
        parts = [
            (name, name.replace("_", " "), fact)
            for name in DISPOSITIONS
            if (fact := facts.get("billed_cost", currency=currency, disposition=name))
        ]
        yield SplitBar(f"Billed cost in {currency}", parts, theme.WIDTH, currency, pages)
        yield Spacer(1, 2 * mm)
    dispositions, *reasons = disposition_tables(facts)
    for table in (dispositions, reconciliation_table(facts), *reasons):
        yield from table_flow(table, pages)


def _currencies(facts: FactSet) -> list[str]:
    return [f.dims["currency"] for f in facts if f.metric == "billed_cost" and set(f.dims) == {"currency"}]


def _method(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading("Method and boundary")
    elsewhere = ("text_data_quality", "text_attributions", TRAIL_TEXT)
    blocks = [fact for fact in text_facts(facts) if fact.metric not in elsewhere]
    rows = [
        [
            text(metric(fact.metric).label, theme.CELL_BOLD),
            [FactMark(fact.fact_id, pages), *(text(part) for part in (fact.value or "").split("\n\n"))],
        ]
        for fact in blocks
    ]
    style: list[tuple[object, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (0, -1), 4 * mm),
        ("RIGHTPADDING", (1, 0), (1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 3 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5 * mm),
        ("LINEABOVE", (0, 0), (-1, -1), 0.5, theme.RULE),
    ]
    yield Table(
        rows, colWidths=[42 * mm, theme.WIDTH - 42 * mm], style=theme.table_style(style), hAlign="LEFT", splitInRow=1
    )


def _factors(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    yield from _heading(
        "Factors and run",
        "The factors and coefficients behind most of the total. Shares overlap, because a line uses several. "
        "A value whose publisher does not allow reprinting is cited without it.",
    )
    yield from table_flow(factor_table(facts), pages)
    if sources := facts.get("text_attributions"):
        yield FactMark(sources.fact_id, pages)
        yield text(metric(sources.metric).label, theme.CAPTION)
        for part in (sources.value or "").split("\n\n"):
            yield text(part, theme.NOTE)
    yield from table_flow(identity_table(facts), pages)


def _check(facts: FactSet, pages: Pages) -> Iterator[Flowable]:
    """How an auditor checks the report against the audit log; facts of an earlier release don't say it."""
    if not (how := facts.get(TRAIL_TEXT)):
        return
    yield from _heading("How to check this report")
    yield FactMark(how.fact_id, pages)
    for part in (how.value or "").split("\n\n"):
        yield text(part)
    yield from table_flow(trail_table(facts), pages)
    yield PageBreak()


def _index(facts: FactSet, pages: Pages, *, has_ixbrl: bool) -> Iterator[Flowable]:
    """Every printed number with its id and first page, two to a row."""
    others = (
        "here, in the Inline XBRL, in the xBRL-XML file and in the data pack"
        if has_ixbrl
        else "here and in the data pack"
    )
    yield from _heading(
        "Fact index",
        f"Each figure has the same id {others}. Figures "
        "without a month are of the reported month. The attached CSV has all facts, printed or not.",
    )
    entries = [
        [
            text(fact.fact_id, theme.INDEX),
            text(_title(fact, facts), theme.INDEX),
            text(with_unit(fact), theme.INDEX_RIGHT),
            text(str(page), theme.INDEX_RIGHT),
        ]
        for fact in facts
        if fact.value_type == "number" and fact.value is not None and (page := pages.get(fact.fact_id))
    ]
    half = -(-len(entries) // 2)
    blank = [text("", theme.INDEX)] * 4
    heads = [text(name, theme.INDEX) for name in ("Id", "Figure")] + [
        text(name, theme.INDEX_RIGHT) for name in ("Value", "Page")
    ]
    rows = [[*heads, "", *heads]]
    for number in range(half):
        right = entries[number + half] if number + half < len(entries) else blank
        rows.append([*entries[number], "", *right])
    widths = [22 * mm, 34 * mm, 18 * mm, 6.5 * mm]
    style: list[tuple[object, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (1, 0), (1, -1), 1 * mm),
        ("RIGHTPADDING", (6, 0), (6, -1), 1 * mm),
        ("TOPPADDING", (0, 0), (-1, -1), 0.45 * mm),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 0.6 * mm),
        ("LINEBELOW", (0, 0), (3, -1), 0.3, theme.RULE),
        ("LINEBELOW", (5, 0), (-1, -1), 0.3, theme.RULE),
    ]
    gap = theme.WIDTH - 2 * sum(widths)
    yield Table(rows, colWidths=[*widths, gap, *widths], repeatRows=1, style=theme.table_style(style), hAlign="LEFT")


def _title(fact: Fact, facts: FactSet) -> str:
    members = [
        member_label("provider_short" if axis == "cloud_provider" else axis, member)
        for axis, member in fact.dims.items()
        if not (axis in ("s3_category", "factor_kind") and len(fact.dims) > 1)
    ]
    month = [] if fact.period_start == facts.period[0] else [short_month(fact.period_start)]
    return ", ".join([metric(fact.metric).label, *members, *month])
