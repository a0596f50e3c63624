"""Linkbases of the own taxonomy: labels, presentation, closed hypercubes and Calculation 1.1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lxml import etree

from offgridflow_pipeline.reporting.xbrl.concepts import SECTIONS, axes, concepts, hypercube, line_items, role_uri, rows
from offgridflow_pipeline.reporting.xbrl.markup import NS, element, linkbase, serialised
from offgridflow_pipeline.reporting.xbrl.profile import own_profile


def _titles() -> Iterator[tuple[str, str, str]]:
    """Every element with its label and documentation."""
    for concept in concepts():
        yield concept.name, concept.label, concept.documentation
    for section, title in SECTIONS.items():
        yield line_items(section), f"{title} [line items]", ""
        yield hypercube(section), f"{title} [table]", ""
    for axis in axes():
        yield axis.name, f"{next(iter(axis.members.values()))} [axis]", ""
        for member, label in axis.members.items():
            yield member, f"{label} [member]", ""


def labels() -> bytes:
    """English labels and documentation of every element."""
    root = linkbase()
    link = _extended(root, "label", "http://www.xbrl.org/2003/role/link")
    for name, label, documentation in _titles():
        _locator(link, name)
        texts = {"label": label} | ({"documentation": documentation} if documentation else {})
        for role, text in texts.items():
            resource = element(
                link,
                "link:label",
                {
                    "xlink:type": "resource",
                    "xlink:label": f"{role}_{name}",
                    "xlink:role": f"http://www.xbrl.org/2003/role/{role}",
                    "xml:lang": "en",
                },
            )
            resource.text = text
            _arc(link, "label", "http://www.xbrl.org/2003/arcrole/concept-label", name, f"{role}_{name}", 1)
    return serialised(root)


def presentation() -> bytes:
    """One tree per section."""
    root = linkbase()
    for section in SECTIONS:
        _role_reference(root, section)
    for section in SECTIONS:
        link = _extended(root, "presentation", role_uri(section))
        arcrole = "http://www.xbrl.org/2003/arcrole/parent-child"
        _tree(link, "presentation", arcrole, hypercube(section), [a.name for a in axes() if section in a.sections])
        for axis in (a for a in axes() if section in a.sections):
            domain, *members = axis.members
            _tree(link, "presentation", arcrole, axis.name, [domain])
            _tree(link, "presentation", arcrole, domain, members)
        names = [c.name for c in concepts() if c.section == section]
        _tree(link, "presentation", arcrole, line_items(section), [hypercube(section), *names])
    return serialised(root)


def definition() -> bytes:
    """A closed hypercube per section, its axes and members, and the axis defaults."""
    root = linkbase()
    for section in (*SECTIONS, "defaults"):
        _role_reference(root, section)
    for arcrole in ("all", "hypercube-dimension", "dimension-domain", "domain-member", "dimension-default"):
        element(
            root,
            "link:arcroleRef",
            {
                "arcroleURI": f"http://xbrl.org/int/dim/arcrole/{arcrole}",
                "xlink:type": "simple",
                "xlink:href": f"http://www.xbrl.org/2005/xbrldt-2005.xsd#{arcrole}",
            },
        )
    dimensional = "http://xbrl.org/int/dim/arcrole/"
    for section in SECTIONS:
        link = _extended(root, "definition", role_uri(section))
        closed = {"xbrldt:contextElement": own_profile().context_element, "xbrldt:closed": "true"}
        _tree(link, "definition", dimensional + "all", line_items(section), [hypercube(section)], closed)
        names = [c.name for c in concepts() if c.section == section]
        _tree(link, "definition", dimensional + "domain-member", line_items(section), names)
        of_section = [a for a in axes() if section in a.sections]
        _tree(link, "definition", dimensional + "hypercube-dimension", hypercube(section), [a.name for a in of_section])
        for axis in of_section:
            domain, *members = axis.members
            _tree(link, "definition", dimensional + "dimension-domain", axis.name, [domain])
            _tree(link, "definition", dimensional + "domain-member", domain, members)
    defaults = _extended(root, "definition", role_uri("defaults"))
    for axis in axes():
        _tree(defaults, "definition", dimensional + "dimension-default", axis.name, [next(iter(axis.members))])
    return serialised(root)


def calculation() -> bytes:
    """Sums of concepts by Calculation 1.1."""
    root = linkbase()
    _role_reference(root, "emissions")
    arcrole = "https://xbrl.org/2023/arcrole/summation-item"
    element(
        root,
        "link:arcroleRef",
        {
            "arcroleURI": arcrole,
            "xlink:type": "simple",
            "xlink:href": "https://www.xbrl.org/2023/calculation-1.1.xsd#summation-item",
        },
    )
    link = _extended(root, "calculation", role_uri("emissions"))
    for rule in rows("rules"):
        if rule["kind"] == "calculation":
            _tree(link, "calculation", arcrole, rule["concept"], rule["parts"].split("|"), {"weight": "1"})
    return serialised(root)


def _extended(root: etree._Element, kind: str, role: str) -> etree._Element:
    return element(root, f"link:{kind}Link", {"xlink:type": "extended", "xlink:role": role})


def _role_reference(root: etree._Element, section: str) -> None:
    element(
        root,
        "link:roleRef",
        {"roleURI": role_uri(section), "xlink:type": "simple", "xlink:href": f"ogf-ghg.xsd#role-{section}"},
    )


def _locator(link: etree._Element, name: str) -> None:
    label = f"loc_{name}"
    if any(child.get(f"{{{NS['xlink']}}}label") == label for child in link):
        return
    href = f"ogf-ghg.xsd#{own_profile().prefix}_{name}"
    element(link, "link:loc", {"xlink:type": "locator", "xlink:href": href, "xlink:label": label})


def _tree(
    link: etree._Element,
    kind: str,
    arcrole: str,
    parent: str,
    children: list[str],
    attributes: Mapping[str, str] | None = None,
) -> None:
    _locator(link, parent)
    for order, child in enumerate(children, 1):
        _locator(link, child)
        _arc(link, kind, arcrole, parent, f"loc_{child}", order, attributes)


def _arc(
    link: etree._Element,
    kind: str,
    arcrole: str,
    source: str,
    target: str,
    order: int,
    attributes: Mapping[str, str] | None = None,
) -> None:
    fixed = {
        "xlink:type": "arc",
        "xlink:arcrole": arcrole,
        "xlink:from": f"loc_{source}",
        "xlink:to": target,
        "order": str(order),
    }
    element(link, f"link:{kind}Arc", fixed | dict(attributes or {}))
