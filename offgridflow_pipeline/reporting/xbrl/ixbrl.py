"""The Inline XBRL writer: the report as a web page whose figures are tagged facts.

Plain XHTML 1.1 with a style sheet, no script and no outside reference; the accessible edition of the
report (table heads, captions, xml:lang). Every tagged fact is shown once; later mentions are plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib import resources
from pathlib import Path

import pyarrow as pa
from lxml import etree

from offgridflow_pipeline.reporting.artefact import written
from offgridflow_pipeline.reporting.display import long_date, member_label, month_name, shown, text_of, unit_text
from offgridflow_pipeline.reporting.fact import Fact, FactSet, fact_set, metric
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.tables import (
    ReportTable,
    breakdown_tables,
    disposition_tables,
    factor_table,
    identity_table,
    provider_table,
    quality_table,
    reason_mark,
    reconciliation_table,
    share_tables,
    statement_table,
    text_facts,
    trail_table,
    trend_table,
)
from offgridflow_pipeline.reporting.trail import TRAIL_TEXT
from offgridflow_pipeline.reporting.xbrl.instance import (
    context_node,
    instance_namespaces,
    paragraphs,
    schema_reference,
    unit_node,
)
from offgridflow_pipeline.reporting.xbrl.markup import NS, clark, element, root_element
from offgridflow_pipeline.reporting.xbrl.profile import TaxonomyProfile, own_profile
from offgridflow_pipeline.reporting.xbrl.tagging import Tag, tagging


def build_ixbrl(facts: pa.Table, profile: ReportProfile, out: Path, taxonomy: TaxonomyProfile | None = None) -> Path:
    """Write the report as Inline XBRL.

    Args:
        facts: rows of `schemas.REPORT_FACTS`.
        profile: entity of the report.
        out: .xhtml file to write; replaced atomically.
        taxonomy: profile to tag with; our own by default.

    Returns:
        `out`.
    """
    taxonomy = taxonomy or own_profile()
    stated = fact_set(facts)
    page = _Page(stated, profile, taxonomy)
    page.write()
    text = etree.tostring(page.root, xml_declaration=True, encoding="UTF-8", pretty_print=False)
    return written(out, bytes(text) + b"\n")


class _Page:
    """The page under construction; `tags` is what the taxonomy can carry."""

    def __init__(self, facts: FactSet, profile: ReportProfile, taxonomy: TaxonomyProfile) -> None:
        self.facts = facts
        self.profile = profile
        self.taxonomy = taxonomy
        self.selection = tagging(facts, taxonomy)
        self.tags: Mapping[str, Tag] = self.selection.tags
        self._shown: set[str] = set()
        prefixes = {None: NS["html"], "ix": NS["ix"], "ixt": NS["ixt"]} | instance_namespaces(taxonomy)
        self.root = root_element(clark("html:html"), prefixes)
        self.root.set(clark("xml:lang"), "en")

    def write(self) -> None:
        """Head, hidden header and the visible report."""
        entity = self.facts.one("entity_name").value or ""
        period = month_name(self.facts.period[0])
        head = element(self.root, "html:head")
        element(head, "html:meta", {"http-equiv": "Content-Type", "content": "text/html; charset=UTF-8"})
        element(head, "html:title", text=f"{entity}: cloud footprint, {period}")
        style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
        element(head, "html:style", {"type": "text/css"}, style)
        body = element(self.root, "html:body")
        self._header(body)
        page = element(body, "html:div", {"class": "page"})
        self._cover(page, period)
        self._headline(page)
        self._tables(page)
        self._rest(page)

    def _header(self, body: etree._Element) -> None:
        header = element(element(body, "html:div", {"style": "display:none"}), "ix:header")
        references = element(header, "ix:references")
        schema_reference(references, self.taxonomy)
        held = element(header, "ix:resources")
        for context in self.selection.contexts:
            context_node(held, context, self.profile, self.taxonomy)
        for unit in self.selection.units:
            unit_node(held, unit)

    def _cover(self, page: etree._Element, period: str) -> None:
        cover = element(page, "html:div", {"class": "cover"})
        element(cover, "html:p", {"class": "brand"}, "OffGridFlow")
        status = element(cover, "html:p", {"class": "status"})
        self._fact(status, self.facts.one("status"))
        element(cover, "html:h1", text=f"Cloud footprint, {period}")
        entity = element(cover, "html:p", {"class": "entity"})
        self._fact(entity, self.facts.one("entity_name"))

    def _headline(self, page: etree._Element) -> None:
        cards = element(page, "html:div", {"class": "cards"})
        for metric_name in ("total_location", "total_market", "electricity", "coverage_lines"):
            fact = self.facts.one(metric_name)
            card = element(cards, "html:div", {"class": "card"})
            element(card, "html:p", {"class": "label"}, metric(metric_name).label)
            figure = element(card, "html:p", {"class": "figure"})
            self._fact(figure, fact)
            unit = unit_text(fact) if fact.value is not None else (fact.reason or "")
            element(card, "html:p", {"class": "unit"}, unit)

    def _tables(self, page: etree._Element) -> None:
        facts = self.facts
        texts = {fact.metric: fact for fact in text_facts(facts)}
        self._section(page, "Statement", [statement_table(facts), provider_table(facts)])
        self._section(page, "Trend", [trend_table(facts)])
        self._section(page, "Where the emissions arise", breakdown_tables(facts))
        self._section(page, "Quality and coverage", [quality_table(facts), *share_tables(facts)])
        self._text(page, texts["text_data_quality"])
        self._section(page, "The bill", [*disposition_tables(facts), reconciliation_table(facts)])
        self._section(page, "Method", [])
        for metric_name, fact in texts.items():
            if metric_name not in ("text_data_quality", TRAIL_TEXT):
                self._text(page, fact)
        self._section(page, "Factors", [factor_table(facts)])
        self._section(page, "Report and run", [identity_table(facts)])
        if how := texts.get(TRAIL_TEXT):
            self._section(page, "How to check this report", [trail_table(facts)])
            self._text(page, how)

    def _rest(self, page: etree._Element) -> None:
        """Facts that no table above has shown: none may be hidden."""
        left = [tag for key, tag in self.tags.items() if key not in self._shown]
        if not left:
            return
        element(page, "html:h2", text="Further tagged facts")
        table = element(page, "html:table")
        body = element(table, "html:tbody")
        for tag in left:
            row = element(body, "html:tr")
            labels = [metric(tag.fact.metric).label, *(member_label(a, m) for a, m in tag.fact.dims.items())]
            title = f"{', '.join(labels)}, {month_name(tag.fact.period_start)}"
            element(row, "html:th", {"scope": "row"}, title)
            self._fact(element(row, "html:td", {"class": "number"}), tag.fact)
            element(row, "html:td", text=unit_text(tag.fact) if tag.unit else "")

    def _section(self, page: etree._Element, title: str, tables: list[ReportTable]) -> None:
        element(page, "html:h2", text=title)
        for table in tables:
            self._table(page, table)

    def _text(self, page: etree._Element, fact: Fact) -> None:
        element(page, "html:h3", text=metric(fact.metric).label)
        block = element(page, "html:div", {"class": "text"})
        self._fact(block, fact)

    def _table(self, page: etree._Element, table: ReportTable) -> None:
        if not table.rows:  # a table without a row is no XHTML
            return
        node = element(page, "html:table", {"class": table.name})
        element(node, "html:caption", text=table.caption)
        if any(table.columns):
            heads = element(element(node, "html:thead"), "html:tr")
            for number, head in enumerate(table.columns):
                kind = "text" if number < table.text_columns else "number"
                element(heads, "html:th", {"scope": "col", "class": kind}, head or "\N{NO-BREAK SPACE}")
        body = element(node, "html:tbody")
        for row in table.rows:
            line = element(body, "html:tr", {"class": row.kind})
            for number, cell in enumerate(row.cells):
                if number == 0:
                    element(line, "html:th", {"scope": "row"}, cell if isinstance(cell, str) else "")
                    continue
                data = element(line, "html:td", {"class": "text" if number < table.text_columns else "number"})
                if isinstance(cell, Fact):
                    self._fact(data, cell, reason_mark(table, cell) if cell.value is None else None)
                else:
                    data.text = cell or ""
        if table.reasons:
            notes = element(page, "html:div", {"class": "notes"})
            for number, reason in enumerate(table.reasons, 1):
                element(notes, "html:p", text=f"[{number}] not available \N{EN DASH} {reason}.")

    def _fact(self, parent: etree._Element, fact: Fact, missing: str | None = None) -> None:
        """The fact's text inside `parent`, tagged if the taxonomy has it and it was not shown before."""
        tag = self.tags.get(fact.fact_id)
        if tag is None or fact.fact_id in self._shown:
            if fact.is_text_block:
                paragraphs(parent, fact.value or "")
            else:
                parent.text = missing or text_of(fact)
            return
        self._shown.add(fact.fact_id)
        attributes = {
            "name": f"{self.taxonomy.prefix}:{tag.concept}",
            "contextRef": tag.context.context_id,
            "id": fact.fact_id,
        }
        if tag.unit is not None:
            self._number(parent, fact, attributes | {"unitRef": tag.unit.unit_id, "decimals": str(fact.decimals)})
        elif fact.is_text_block:
            paragraphs(element(parent, "ix:nonNumeric", attributes | {"escape": "true"}), fact.value or "")
        elif fact.value_type == "date":
            attributes["format"] = "ixt:date-day-monthname-year-en"
            element(parent, "ix:nonNumeric", attributes, long_date(date.fromisoformat(fact.value or "")))
        else:
            element(parent, "ix:nonNumeric", attributes, fact.value)

    @staticmethod
    def _number(parent: etree._Element, fact: Fact, attributes: Mapping[str, str]) -> None:
        figure = shown(fact)
        extra = {"format": "ixt:num-dot-decimal"}
        if figure.scale:
            extra["scale"] = str(figure.scale)
        if figure.negative:
            extra["sign"] = "-"
            parent.text = "\N{MINUS SIGN}"
        element(parent, "ix:nonFraction", {**attributes, **extra}, figure.digits)
