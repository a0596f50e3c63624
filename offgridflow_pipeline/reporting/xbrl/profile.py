"""Taxonomy profiles: which concept, axis, member and unit a neutral fact is tagged with.

One JSON file per taxonomy version under profiles/; names are never in code (xbrl.md section 2.2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, ValidationError


class TaxonomyProfileError(ValueError):
    """A profile file does not exist or is malformed."""


class AxisMapping(BaseModel):
    """An axis and the local name of each neutral member."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    axis: str
    members: Mapping[str, str]


class TaxonomyProfile(BaseModel):
    """One taxonomy version; see the JSON files for the values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    status: str
    namespace: str
    prefix: str
    schema_ref: str
    context_element: str
    source: str
    concepts: Mapping[str, str]
    axes: Mapping[str, AxisMapping]
    units: Mapping[str, str]
    allowed_warnings: tuple[str, ...]

    def measures(self, unit: str) -> tuple[str, ...]:
        """Measure of a neutral unit, or numerator and denominator; empty when it has none here."""
        if unit in self.units:
            return (self.units[unit],)
        numerator, per, denominator = unit.partition("_per_")
        if per:
            return (*self.measures(numerator), *self.measures(denominator))
        return (f"iso4217:{unit}",) if len(unit) == 3 and unit.isupper() else ()


@cache
def taxonomy_profile(name: str) -> TaxonomyProfile:
    """The profile of that name.

    Raises:
        TaxonomyProfileError: no such file, or its content is not a profile.
    """
    path = resources.files(__package__).joinpath(f"profiles/{name}.json")
    if not path.is_file():
        raise TaxonomyProfileError(f"No taxonomy profile {name!r}; add reporting/xbrl/profiles/{name}.json.")
    try:
        return TaxonomyProfile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, json.JSONDecodeError) as error:
        raise TaxonomyProfileError(f"profiles/{name}.json is no taxonomy profile: {error}") from error


def own_profile() -> TaxonomyProfile:
    """Profile of our own taxonomy, the gate that works on every machine."""
    return taxonomy_profile("ogf-ghg")
