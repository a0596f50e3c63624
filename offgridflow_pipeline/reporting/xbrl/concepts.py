"""The table of the own taxonomy: sections, concepts, axes and rules, read from ogf_ghg/*.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

from offgridflow_pipeline.reporting.xbrl.profile import own_profile

SECTIONS = {
    "information": "1. Inventory information",
    "emissions": "2. Emissions by scope",
    "scope3": "3. Scope 3 by category, provider and component",
    "electricity": "4. Electricity",
    "quality": "5. Intensity and quality",
    "narrative": "6. Explanations",
}


class Concept(NamedTuple):
    """A row of concepts.csv."""

    section: str
    name: str
    type: str
    label: str
    documentation: str


class Axis(NamedTuple):
    """An axis with its members; the first member is the domain and the default."""

    name: str
    sections: tuple[str, ...]
    members: Mapping[str, str]


@cache
def concepts() -> tuple[Concept, ...]:
    """Reportable concepts in order of presentation."""
    return tuple(
        Concept(r["section"], r["concept"], r["type"], r["label"], r["documentation"]) for r in rows("concepts")
    )


@cache
def axes() -> tuple[Axis, ...]:
    """Axes in file order."""
    found: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
    for row in rows("axes"):
        _, members = found.setdefault(row["axis"], (tuple(row["sections"].split("|")), {}))
        members[row["member"]] = row["label"]
    return tuple(Axis(name, sections, MappingProxyType(members)) for name, (sections, members) in found.items())


def rows(name: str) -> list[dict[str, str]]:
    """Rows of ogf_ghg/<name>.csv."""
    text = resources.files(__package__).joinpath(f"ogf_ghg/{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def role_uri(section: str) -> str:
    """Role URI of a section."""
    return f"{own_profile().namespace}/role/{section}"


def line_items(section: str) -> str:
    """Abstract parent of a section's concepts."""
    return f"{section.capitalize()}LineItems"


def hypercube(section: str) -> str:
    """Hypercube of a section."""
    return f"{section.capitalize()}Table"
