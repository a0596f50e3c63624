"""The own taxonomy `ogf-ghg`, generated from ogf_ghg/*.csv as one taxonomy package.

Schema, labels, presentation, definition (closed hypercubes in `scenario`) and Calculation 1.1 are written
here; the value assertions are in `assertions`. Method: xbrl.md section 5. Same table, same bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from lxml import etree

from offgridflow_pipeline.reporting.xbrl.assertions import formula_linkbase
from offgridflow_pipeline.reporting.xbrl.concepts import SECTIONS, axes, concepts, hypercube, line_items, role_uri, rows
from offgridflow_pipeline.reporting.xbrl.linkbases import calculation, definition, labels, presentation
from offgridflow_pipeline.reporting.xbrl.markup import NS, clark, element, root_element, serialised
from offgridflow_pipeline.reporting.xbrl.profile import own_profile

TITLE = "OffGridFlow greenhouse-gas statement"
#: Earliest time a zip entry can carry: packages have no build time.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_ITEM_TYPES = {
    "string": "xbrli:stringItemType",
    "date": "xbrli:dateItemType",
    "decimal": "xbrli:decimalItemType",
    "monetary": "xbrli:monetaryItemType",
    "ghg": "dtr-types:ghgEmissionsItemType",
    "energy": "dtr-types:energyItemType",
    "percent": "dtr-types:percentItemType",
    "intensity": "dtr-types:ghgEmissionsPerMonetaryItemType",
    "text_block": "dtr-types:textBlockItemType",
}
#: Token types with a closed list of values.
_TOKENS = {
    "status": ("provisional", "final", "restated", "superseded"),
    "assurance": ("none", "limited", "reasonable"),
    "consolidation": ("equity_share", "financial_control", "operational_control"),
}
_DTR = "http://www.xbrl.org/dtr/type/2024-01-31"
_IMPORTS = {
    NS["xbrli"]: "http://www.xbrl.org/2003/xbrl-instance-2003-12-31.xsd",
    NS["xbrldt"]: "http://www.xbrl.org/2005/xbrldt-2005.xsd",
    _DTR: "https://www.xbrl.org/dtr/type/2024-01-31/types.xsd",
}


def taxonomy_package() -> bytes:
    """The taxonomy package as a zip, byte-identical in every build."""
    profile = own_profile()
    top = f"{profile.name}-{profile.version}"
    files = {f"{top}/taxonomy/{name}": content for name, content in taxonomy_files().items()}
    files[f"{top}/META-INF/catalog.xml"] = _catalog()
    files[f"{top}/META-INF/taxonomyPackage.xml"] = _package_metadata()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def taxonomy_files() -> dict[str, bytes]:
    """File name to content of the schema and its linkbases."""
    return {
        "ogf-ghg.xsd": _schema(),
        "ogf-ghg-lab-en.xml": labels(),
        "ogf-ghg-pre.xml": presentation(),
        "ogf-ghg-def.xml": definition(),
        "ogf-ghg-cal.xml": calculation(),
        "ogf-ghg-for.xml": formula_linkbase(rows("rules"), {axis.name: next(iter(axis.members)) for axis in axes()}),
    }


def _schema() -> bytes:
    profile = own_profile()
    prefixes: dict[str | None, str] = {None: NS["xs"], "dtr-types": _DTR, profile.prefix: profile.namespace}
    prefixes |= {prefix: NS[prefix] for prefix in ("xbrli", "link", "xlink", "xbrldt")}
    attributes = {"targetNamespace": profile.namespace, "elementFormDefault": "qualified"}
    root = root_element(clark("xs:schema"), prefixes, attributes)
    appinfo = element(element(root, "xs:annotation"), "xs:appinfo")
    _linkbase_references(appinfo)
    _role_types(appinfo)
    for namespace, location in _IMPORTS.items():
        element(root, "xs:import", {"namespace": namespace, "schemaLocation": location})
    for token, values in _TOKENS.items():
        _token_type(root, token, values)
    for declared, item_type, group, abstract in _elements():
        _declare(root, declared, item_type, group, abstract=abstract)
    return serialised(root)


def _linkbase_references(appinfo: etree._Element) -> None:
    kinds = {"lab-en": "label", "pre": "presentation", "def": "definition", "cal": "calculation", "for": ""}
    for kind, linkbase in kinds.items():
        attributes = {
            "xlink:type": "simple",
            "xlink:href": f"ogf-ghg-{kind}.xml",
            "xlink:arcrole": "http://www.w3.org/1999/xlink/properties/linkbase",
        }
        if linkbase:
            attributes["xlink:role"] = f"http://www.xbrl.org/2003/role/{linkbase}LinkbaseRef"
        element(appinfo, "link:linkbaseRef", attributes)


def _role_types(appinfo: etree._Element) -> None:
    for section, title in {**SECTIONS, "defaults": "9. Axis defaults"}.items():
        role_type = element(appinfo, "link:roleType", {"roleURI": role_uri(section), "id": f"role-{section}"})
        element(role_type, "link:definition", text=title)
        for used_on in ("presentation", "definition", "calculation"):
            element(role_type, "link:usedOn", text=f"link:{used_on}Link")


def _token_type(root: etree._Element, name: str, values: tuple[str, ...]) -> None:
    content = element(element(root, "xs:complexType", {"name": f"{name}ItemType"}), "xs:simpleContent")
    restriction = element(content, "xs:restriction", {"base": "xbrli:tokenItemType"})
    for value in values:
        element(restriction, "xs:enumeration", {"value": value})


def _elements() -> Iterator[tuple[str, str, str, bool]]:
    """Every element: name, item type, substitution group, abstract."""
    prefix = own_profile().prefix
    for concept in concepts():
        item_type = _ITEM_TYPES.get(concept.type) or f"{prefix}:{concept.type}ItemType"
        yield concept.name, item_type, "xbrli:item", False
    for section in SECTIONS:
        yield line_items(section), "xbrli:stringItemType", "xbrli:item", True
        yield hypercube(section), "xbrli:stringItemType", "xbrldt:hypercubeItem", True
    for axis in axes():
        yield axis.name, "xbrli:stringItemType", "xbrldt:dimensionItem", True
        for member in axis.members:
            yield member, "xbrli:stringItemType", "xbrli:item", True


def _declare(root: etree._Element, name: str, item_type: str, group: str, *, abstract: bool) -> None:
    element(
        root,
        "xs:element",
        {
            "id": f"{own_profile().prefix}_{name}",
            "name": name,
            "type": item_type,
            "substitutionGroup": group,
            "abstract": "true" if abstract else "false",
            "nillable": "true",
            "xbrli:periodType": "duration",
        },
    )


def _catalog() -> bytes:
    namespace = "urn:oasis:names:tc:entity:xmlns:xml:catalog"
    root = root_element(f"{{{namespace}}}catalog", {None: namespace})
    base = own_profile().schema_ref.rsplit("/", 1)[0] + "/"
    etree.SubElement(root, f"{{{namespace}}}rewriteURI", {"uriStartString": base, "rewritePrefix": "../taxonomy/"})
    return serialised(root)


def _package_metadata() -> bytes:
    profile = own_profile()
    namespace = "http://xbrl.org/2016/taxonomy-package"
    tag, language = f"{{{namespace}}}taxonomyPackage", {clark("xml:lang"): "en"}
    root = root_element(tag, {"tp": namespace}, language)
    texts = {
        "identifier": profile.namespace,
        "name": TITLE,
        "description": "Greenhouse-gas statement of cloud services, with both bases of every scope.",
        "version": profile.version,
        "publisher": "OffGridFlow",
        "publisherURL": "http://xbrl.offgridflow.example",
        "publicationDate": profile.version,
    }
    for local, text in texts.items():
        etree.SubElement(root, f"{{{namespace}}}{local}").text = text
    entry = etree.SubElement(etree.SubElement(root, f"{{{namespace}}}entryPoints"), f"{{{namespace}}}entryPoint")
    etree.SubElement(entry, f"{{{namespace}}}name").text = TITLE
    etree.SubElement(entry, f"{{{namespace}}}entryPointDocument", {"href": profile.schema_ref})
    return serialised(root)
