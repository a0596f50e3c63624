"""The xBRL-XML writer, and the context and unit nodes it shares with the Inline XBRL writer."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from lxml import etree

from offgridflow_pipeline.reporting.artefact import written
from offgridflow_pipeline.reporting.fact import Fact, fact_set
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.xbrl.markup import NS, clark, element, root_element, serialised
from offgridflow_pipeline.reporting.xbrl.profile import TaxonomyProfile, own_profile
from offgridflow_pipeline.reporting.xbrl.tagging import Context, Unit, tagging


def build_xbrl(facts: pa.Table, profile: ReportProfile, out: Path, taxonomy: TaxonomyProfile | None = None) -> Path:
    """Write the facts as xBRL-XML.

    Args:
        facts: rows of `schemas.REPORT_FACTS`.
        profile: entity of the report.
        out: file to write; replaced atomically.
        taxonomy: profile to tag with; our own by default.

    Returns:
        `out`.
    """
    taxonomy = taxonomy or own_profile()
    tags = tagging(fact_set(facts), taxonomy)
    root = root_element(clark("xbrli:xbrl"), instance_namespaces(taxonomy))
    schema_reference(root, taxonomy)
    for context in tags.contexts:
        context_node(root, context, profile, taxonomy)
    for unit in tags.units:
        unit_node(root, unit)
    for tag in tags.tags.values():
        node = etree.SubElement(root, f"{{{taxonomy.namespace}}}{tag.concept}")
        node.set("contextRef", tag.context.context_id)
        if tag.unit is not None:
            node.set("unitRef", tag.unit.unit_id)
            node.set("decimals", str(tag.fact.decimals))
        node.set("id", tag.fact.fact_id)
        node.text = _text(tag.fact)
    return written(out, serialised(root))


def instance_namespaces(taxonomy: TaxonomyProfile) -> dict[str | None, str]:
    """Prefixes every report declares."""
    prefixes = ("xbrli", "xbrldi", "link", "xlink", "iso4217", "utr")
    return {**{p: NS[p] for p in prefixes}, taxonomy.prefix: taxonomy.namespace}


def schema_reference(parent: etree._Element, taxonomy: TaxonomyProfile) -> None:
    """The link to the taxonomy's entry point."""
    element(parent, "link:schemaRef", {"xlink:type": "simple", "xlink:href": taxonomy.schema_ref})


def context_node(parent: etree._Element, context: Context, profile: ReportProfile, taxonomy: TaxonomyProfile) -> None:
    """One context: entity, period (end inclusive) and explicit members."""
    node = element(parent, "xbrli:context", {"id": context.context_id})
    entity = element(node, "xbrli:entity")
    element(entity, "xbrli:identifier", {"scheme": profile.entity_scheme}, profile.entity_identifier)
    period = element(node, "xbrli:period")
    element(period, "xbrli:startDate", text=context.start.isoformat())
    element(period, "xbrli:endDate", text=context.end.isoformat())
    if context.members:
        container = element(node, f"xbrli:{taxonomy.context_element}")
        for axis, member in context.members:
            attributes = {"dimension": f"{taxonomy.prefix}:{axis}"}
            element(container, "xbrldi:explicitMember", attributes, f"{taxonomy.prefix}:{member}")


def unit_node(parent: etree._Element, unit: Unit) -> None:
    """One unit: a measure, or a division of two."""
    node = element(parent, "xbrli:unit", {"id": unit.unit_id})
    if len(unit.measures) == 1:
        element(node, "xbrli:measure", text=unit.measures[0])
        return
    divide = element(node, "xbrli:divide")
    for part, measure in zip(("unitNumerator", "unitDenominator"), unit.measures, strict=True):
        element(element(divide, f"xbrli:{part}"), "xbrli:measure", text=measure)


def paragraphs(parent: etree._Element, text: str) -> None:
    """The paragraphs of a text block as XHTML children."""
    for paragraph in text.split("\n\n"):
        element(parent, "html:p", text=paragraph)


def _text(fact: Fact) -> str:
    if not fact.is_text_block:
        return fact.value or ""
    holder = root_element("holder", {None: NS["html"]})
    paragraphs(holder, fact.value or "")
    return "".join(etree.tostring(child, encoding="unicode") for child in holder)
