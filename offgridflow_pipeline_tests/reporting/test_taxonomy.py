"""The own taxonomy: generated from one table, the same bytes every time, every profile name in it."""

from __future__ import annotations

import io
import zipfile

import pytest
from lxml import etree

from offgridflow_pipeline.reporting.fact import metrics
from offgridflow_pipeline.reporting.xbrl.concepts import axes, concepts, rows
from offgridflow_pipeline.reporting.xbrl.profile import TaxonomyProfileError, own_profile, taxonomy_profile
from offgridflow_pipeline.reporting.xbrl.taxonomy import taxonomy_files, taxonomy_package


def test_the_package_is_byte_identical_and_has_one_top_folder():
    package = taxonomy_package()
    assert package == taxonomy_package()
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"ogf-ghg-2026-11-30"}
    assert {"catalog.xml", "taxonomyPackage.xml"} <= {name.rsplit("/", 1)[1] for name in names}


def test_every_name_of_the_profile_is_in_the_taxonomy():
    profile = own_profile()
    assert set(profile.concepts.values()) <= {concept.name for concept in concepts()}
    assert set(profile.concepts) <= set(metrics())
    members = {axis.name: set(axis.members) for axis in axes()}
    for mapping in profile.axes.values():
        assert set(mapping.members.values()) <= members[mapping.axis]


def test_no_profile_tags_the_default_member_of_an_axis():
    defaults = {axis.name: next(iter(axis.members)) for axis in axes()}
    for mapping in own_profile().axes.values():
        assert defaults[mapping.axis] not in mapping.members.values()


def test_every_rule_names_declared_concepts_and_axes():
    names = {concept.name for concept in concepts()} | {axis.name for axis in axes()}
    for rule in rows("rules"):
        assert {rule["concept"], *filter(None, rule["parts"].split("|"))} <= names
        assert rule["message"]


def test_every_hypercube_is_closed_and_in_the_scenario():
    root = etree.fromstring(taxonomy_files()["ogf-ghg-def.xml"])
    closed = "{http://xbrl.org/2005/xbrldt}closed"
    arcs = [a for a in root.iter() if str(a.get("{http://www.w3.org/1999/xlink}arcrole")).endswith("/all")]
    assert len(arcs) == 6
    assert all(
        a.get(closed) == "true" and a.get(closed.replace("closed", "contextElement")) == "scenario" for a in arcs
    )


def test_an_unknown_profile_is_refused():
    with pytest.raises(TaxonomyProfileError, match="profiles/esef"):
        taxonomy_profile("esef")


@pytest.mark.parametrize(
    ("unit", "measures"),
    [
        ("tCO2e", ("utr:tCO2e",)),
        ("EUR", ("iso4217:EUR",)),
        ("tCO2e_per_USD", ("utr:tCO2e", "iso4217:USD")),
        ("furlong", ()),
    ],
)
def test_a_neutral_unit_has_its_registry_measures(unit, measures):
    assert own_profile().measures(unit) == measures
