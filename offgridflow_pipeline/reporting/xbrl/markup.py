"""XML nodes by prefixed name: namespaces, node construction and serialisation of every XBRL file.

Nodes only; no text is ever concatenated into markup, so text of tenants cannot become an element.
"""

from __future__ import annotations

from collections.abc import Mapping

from lxml import etree

NS = {
    "xs": "http://www.w3.org/2001/XMLSchema",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xml": "http://www.w3.org/XML/1998/namespace",
    "xlink": "http://www.w3.org/1999/xlink",
    "link": "http://www.xbrl.org/2003/linkbase",
    "xbrli": "http://www.xbrl.org/2003/instance",
    "xbrldi": "http://xbrl.org/2006/xbrldi",
    "xbrldt": "http://xbrl.org/2005/xbrldt",
    "iso4217": "http://www.xbrl.org/2003/iso4217",
    "utr": "http://www.xbrl.org/2009/utr",
    "ix": "http://www.xbrl.org/2013/inlineXBRL",
    "ixt": "http://www.xbrl.org/inlineXBRL/transformation/2022-02-16",
    "html": "http://www.w3.org/1999/xhtml",
    "gen": "http://xbrl.org/2008/generic",
    "va": "http://xbrl.org/2008/assertion/value",
    "variable": "http://xbrl.org/2008/variable",
    "cf": "http://xbrl.org/2008/filter/concept",
    "df": "http://xbrl.org/2008/filter/dimension",
    "msg": "http://xbrl.org/2010/message",
    "sev": "http://xbrl.org/2022/assertion-severity",
}


def clark(prefixed: str) -> str:
    """``prefix:local`` in Clark notation; without a prefix it stays as it is."""
    prefix, _, local = prefixed.rpartition(":")
    return f"{{{NS[prefix]}}}{local}" if prefix else local


def element(
    parent: etree._Element, tag: str, attributes: Mapping[str, str] | None = None, text: str | None = None
) -> etree._Element:
    """A new last child; tag and attribute names may be prefixed."""
    child = etree.SubElement(parent, clark(tag), {clark(key): value for key, value in (attributes or {}).items()})
    child.text = text
    return child


def root_element(
    tag: str, prefixes: Mapping[str | None, str], attributes: Mapping[str, str] | None = None
) -> etree._Element:
    """A new root; `prefixes` are the namespaces it declares, None for the default one."""
    # lxml takes None as the default prefix, which its stubs do not know.
    return etree.Element(tag, dict(attributes or {}), nsmap=prefixes)  # type: ignore[arg-type]


def linkbase(extra: Mapping[str, str] | None = None) -> etree._Element:
    """An empty linkbase node."""
    prefixes = ("link", "xlink", "xbrldt", "xsi")
    return etree.Element(clark("link:linkbase"), nsmap={p: NS[p] for p in prefixes} | dict(extra or {}))


def serialised(root: etree._Element) -> bytes:
    """UTF-8 bytes with declaration, indented; for files whose white space has no meaning."""
    etree.indent(root, space=" ")
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8")) + b"\n"
