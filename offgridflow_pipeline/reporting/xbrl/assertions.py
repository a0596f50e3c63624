"""Value assertions of the own taxonomy: parts add up exactly, gross totals are not negative.

The rules are rows of ogf_ghg/rules.csv. Facts are sums of rounded leaves, so sums are compared without a
tolerance (xbrl.md sections 5 and 6). Severity is error: a failed assertion makes a report invalid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lxml import etree

from offgridflow_pipeline.reporting.xbrl.markup import NS, clark, element, linkbase, serialised
from offgridflow_pipeline.reporting.xbrl.profile import own_profile

#: Where a processor finds the schema of each namespace: formula elements are found by location only.
_SCHEMAS = {
    "gen": "http://www.xbrl.org/2008/generic-link.xsd",
    "va": "http://www.xbrl.org/2008/value-assertion.xsd",
    "variable": "http://www.xbrl.org/2008/variable.xsd",
    "cf": "http://www.xbrl.org/2008/concept-filter.xsd",
    "df": "http://www.xbrl.org/2008/dimension-filter.xsd",
    "msg": "http://www.xbrl.org/2010/generic-message.xsd",
}
_LINK_ROLE = "http://www.xbrl.org/2008/role/link"
_MESSAGE_ROLE = "http://www.xbrl.org/2010/role/message"
_ARCROLES = {
    "http://xbrl.org/arcrole/2008/variable-filter": "http://www.xbrl.org/2008/variable.xsd#variable-filter",
    "http://xbrl.org/arcrole/2008/variable-set": "http://www.xbrl.org/2008/variable.xsd#variable-set",
    "http://xbrl.org/arcrole/2010/assertion-unsatisfied-message": (
        "http://www.xbrl.org/2010/validation-message.xsd#assertion-unsatisfied-message"
    ),
}
_FILTER_ARC, _SET_ARC, _MESSAGE_ARC = _ARCROLES


def formula_linkbase(rules: Sequence[Mapping[str, str]], defaults: Mapping[str, str]) -> bytes:
    """The formula linkbase of the rules; `defaults` is the default member of each axis."""
    profile = own_profile()
    root = linkbase({p: NS[p] for p in (*_SCHEMAS, "xbrli")} | {profile.prefix: profile.namespace})
    locations = " ".join(f"{NS[prefix]} {location}" for prefix, location in _SCHEMAS.items())
    root.set(clark("xsi:schemaLocation"), locations)
    for uri, href in {
        _LINK_ROLE: "http://www.xbrl.org/2008/generic-link.xsd#standard-link-role",
        _MESSAGE_ROLE: "http://www.xbrl.org/2010/generic-message.xsd#standard-message",
    }.items():
        element(root, "link:roleRef", {"roleURI": uri, "xlink:type": "simple", "xlink:href": href})
    for uri, href in _ARCROLES.items():
        element(root, "link:arcroleRef", {"arcroleURI": uri, "xlink:type": "simple", "xlink:href": href})
    link = element(root, "gen:link", {"xlink:type": "extended", "xlink:role": _LINK_ROLE})
    for rule in rules:
        _RULES[rule["kind"]](link, rule, defaults)
    return serialised(root)


def _total(link: etree._Element, rule: Mapping[str, str], defaults: Mapping[str, str]) -> None:
    """The total equals the sum of its parts, those not stated counting zero.

    Calculation 1.1 allows for the rounding of each figure; ours are sums of rounded leaves, so a
    difference of one unit of the last place is an error too.
    """
    concepts = rule["parts"].split("|")
    names = [f"part{number}" for number in range(1, len(concepts) + 1)]
    assertion = _assertion(link, rule, f"$total eq {' + '.join('$' + name for name in names)}")
    variables = [_variable(link, assertion, "total", rule["concept"])]
    variables += [
        _variable(link, assertion, name, concept, {"fallbackValue": "0"})
        for name, concept in zip(names, concepts, strict=True)
    ]
    for variable in variables:
        for axis, default in defaults.items():
            _axis_filter(link, variable, axis, default, absent=True)


def _parts(link: etree._Element, rule: Mapping[str, str], defaults: Mapping[str, str]) -> None:
    """The fact without the axis equals the sum of the facts with a member of it; other axes match."""
    axis = rule["parts"]
    assertion = _assertion(link, rule, "$whole eq sum($parts)")
    whole = _variable(link, assertion, "whole", rule["concept"])
    _axis_filter(link, whole, axis, defaults[axis], absent=True)
    parts = _variable(link, assertion, "parts", rule["concept"], {"bindAsSequence": "true"})
    _axis_filter(link, parts, axis, defaults[axis], absent=False)


def _not_negative(link: etree._Element, rule: Mapping[str, str], defaults: Mapping[str, str]) -> None:
    """The fact without any axis is zero or more; a single part may be a correction."""
    assertion = _assertion(link, rule, "$value ge 0")
    value = _variable(link, assertion, "value", rule["concept"])
    for axis, default in defaults.items():
        _axis_filter(link, value, axis, default, absent=True)


_RULES = {"calculation": _total, "parts": _parts, "not_negative": _not_negative}


def _assertion(link: etree._Element, rule: Mapping[str, str], test: str) -> str:
    label = f"assertion_{rule['rule']}"
    element(
        link,
        "va:valueAssertion",
        {
            "xlink:type": "resource",
            "xlink:label": label,
            "id": rule["rule"],
            "aspectModel": "dimensional",
            "implicitFiltering": "true",
            "test": test,
        },
    )
    message = {
        "xlink:type": "resource",
        "xlink:label": f"message_{rule['rule']}",
        "xlink:role": _MESSAGE_ROLE,
        "xml:lang": "en",
    }
    element(link, "msg:message", message, rule["message"])
    _arc(link, "gen:arc", _MESSAGE_ARC, label, f"message_{rule['rule']}")
    return label


def _variable(
    link: etree._Element,
    assertion: str,
    variable: str,
    concept: str,
    attributes: Mapping[str, str] | None = None,
) -> str:
    label = f"{assertion}_{variable}"
    fixed = {"xlink:type": "resource", "xlink:label": label, "bindAsSequence": "false"}
    element(link, "variable:factVariable", fixed | dict(attributes or {}))
    _arc(link, "variable:variableArc", _SET_ARC, assertion, label, {"name": variable})
    by_concept = element(link, "cf:conceptName", {"xlink:type": "resource", "xlink:label": f"{label}_concept"})
    element(element(by_concept, "cf:concept"), "cf:qname", text=f"{own_profile().prefix}:{concept}")
    _filter_arc(link, label, f"{label}_concept", complement=False)
    return label


def _axis_filter(link: etree._Element, variable: str, axis: str, default: str, *, absent: bool) -> None:
    """Facts at the default member of the axis (`absent`), or at any other member."""
    label, prefix = f"{variable}_{axis}", own_profile().prefix
    by_axis = element(link, "df:explicitDimension", {"xlink:type": "resource", "xlink:label": label})
    element(element(by_axis, "df:dimension"), "df:qname", text=f"{prefix}:{axis}")
    element(element(by_axis, "df:member"), "df:qname", text=f"{prefix}:{default}")
    _filter_arc(link, variable, label, complement=not absent)


def _filter_arc(link: etree._Element, variable: str, target: str, *, complement: bool) -> None:
    attributes = {"complement": "true" if complement else "false", "cover": "true"}
    _arc(link, "variable:variableFilterArc", _FILTER_ARC, variable, target, attributes)


def _arc(
    link: etree._Element,
    tag: str,
    arcrole: str,
    source: str,
    target: str,
    attributes: Mapping[str, str] | None = None,
) -> None:
    fixed = {"xlink:type": "arc", "xlink:arcrole": arcrole, "xlink:from": source, "xlink:to": target}
    element(link, tag, fixed | dict(attributes or {}))
