"""From neutral facts to XBRL: which facts a taxonomy can carry, with their contexts and units.

Ids are derived from content, so that the same facts give the same bytes. A fact is left out when the
taxonomy has no concept, axis, member or unit for it, or when it is not available; both writers use this
one selection, so that the Inline and the XML report carry the same facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from offgridflow_pipeline.reporting.fact import Fact, FactSet
from offgridflow_pipeline.reporting.xbrl.profile import TaxonomyProfile

#: An axis without a member of its own: the unit carries the currency, or the report has only one.
CURRENCY = "currency"


@dataclass(frozen=True, slots=True)
class Context:
    """Period and explicit dimensions: axis local name to member local name, sorted."""

    context_id: str
    start: date
    end: date
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """One measure, or numerator and denominator."""

    unit_id: str
    measures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tag:
    """How one fact is tagged."""

    fact: Fact
    concept: str
    context: Context
    unit: Unit | None


@dataclass(frozen=True)
class Tagging:
    """The tagged facts of a report by fact id, in order of presentation."""

    tags: Mapping[str, Tag]

    @property
    def contexts(self) -> list[Context]:
        """Distinct contexts, sorted by id."""
        return sorted({tag.context for tag in self.tags.values()}, key=lambda c: c.context_id)

    @property
    def units(self) -> list[Unit]:
        """Distinct units, sorted by id."""
        return sorted({tag.unit for tag in self.tags.values() if tag.unit}, key=lambda u: u.unit_id)


def tagging(facts: FactSet, profile: TaxonomyProfile) -> Tagging:
    """Tags of all facts the taxonomy can carry."""
    currencies = {fact.dims[CURRENCY] for fact in facts if CURRENCY in fact.dims}
    tags = {}
    for fact in facts:
        tag = _tag(fact, profile, one_currency=len(currencies) == 1)
        if tag is not None:
            tags[fact.fact_id] = tag
    return Tagging(MappingProxyType(tags))


def _tag(fact: Fact, profile: TaxonomyProfile, *, one_currency: bool) -> Tag | None:
    concept = profile.concepts.get(fact.metric)
    if concept is None or fact.value is None:
        return None
    members = []
    for axis, member in fact.dims.items():
        if axis == CURRENCY and (one_currency or fact.unit == member):
            continue
        mapping = profile.axes.get(axis)
        if mapping is None or member not in mapping.members:
            return None
        members.append((mapping.axis, mapping.members[member]))
    unit = None
    if fact.value_type == "number":
        measures = profile.measures(fact.unit)
        if not measures:
            return None
        unit = Unit("u-" + "-per-".join(measure.partition(":")[2] for measure in measures), measures)
    return Tag(fact, concept, _context(fact, tuple(sorted(members))), unit)


def _context(fact: Fact, members: tuple[tuple[str, str], ...]) -> Context:
    context_id = f"c-{fact.period_start:%Y%m%d}-{fact.period_end:%Y%m%d}"
    if members:
        context_id += "-" + hashlib.sha256(repr(members).encode()).hexdigest()[:8]
    return Context(context_id, fact.period_start, fact.period_end, members)
