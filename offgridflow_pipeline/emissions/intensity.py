"""kWh and kg per unit of a classified usage at a place and day, with everything the verdict rests on.

Computed once per usage key, region and factor epoch in decimals of 34 digits, stored with 18 decimals
(carbon-method.md section 13). A pure function of its arguments: no other row, tenant or order matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from offgridflow_pipeline.emissions.loads import COMPONENTS, Load, Unresolved, load_of
from offgridflow_pipeline.emissions.models import Classification, Disposition, MovedData
from offgridflow_pipeline.factors import selection
from offgridflow_pipeline.factors.register import Factor, FactorSet
from offgridflow_pipeline.lake.schemas import INTENSITY_MEASURES

_CONTEXT = Context(prec=34, rounding=ROUND_HALF_EVEN)
_STORED = Decimal("1e-18")

SCOPE = "3"
S3_CATEGORY = 1
GHG_SOURCE = "cloud_service"


@dataclass(frozen=True, slots=True)
class Intensity:
    """Per unit: `measures` maps every name of `INTENSITY_MEASURES` to a number or null; then the verdict."""

    measures: Mapping[str, Decimal | None]
    disposition: Disposition
    rule_id: str
    reason: str | None = None
    proxy_rule: str | None = None
    component: str | None = None
    pue: Decimal | None = None
    mbm_method: str | None = None
    upstream_status: str | None = None
    embodied_status: str | None = None
    scope: str | None = None
    s3_category: int | None = None
    ghg_source: str | None = None
    lbm_boundary: str | None = None
    gwp_basis: str | None = None
    grid_level: str | None = None
    vintage_lag_years: int | None = None
    flags: tuple[str, ...] = ()
    dq_score: int | None = None
    factor_ids: tuple[str, ...] = ()
    coefficient_ids: tuple[str, ...] = ()

    def uncertainty_groups(self, fs: FactorSet) -> tuple[str, ...]:
        """Factor keys with a spread, sorted: the correlation groups of section 12."""
        rows = (fs.by_uid(uid) for uid in (*self.factor_ids, *self.coefficient_ids))
        return tuple(sorted({row.factor_key for row in rows if row.gsd > 1}))


def intensity(
    verdict: Classification,
    provider: str,
    region_id: str | None,
    usage_date: date,
    fs: FactorSet,
    as_of: date,
) -> Intensity:
    """Intensities and verdict columns of a classified usage in a region on a day.

    Args:
        verdict: result of `classify`.
        provider: provider code.
        region_id: region code or None when unknown.
        usage_date: UTC day of use, or the first day of its factor epoch.
        fs: pinned factor set.
        as_of: knowledge date.
    """
    if verdict.disposition == "no_emission":
        return Intensity(_NOTHING, "no_emission", verdict.rule_id, verdict.reason)
    if verdict.model is None:
        return _unmapped(verdict, verdict.reason or "unknown_usage_key")
    with localcontext(_CONTEXT):
        load = load_of(fs, provider, verdict.model)
        if isinstance(load, Unresolved):
            return _unmapped(verdict, load.reason)
        area = verdict.model.area if isinstance(verdict.model, MovedData) else None
        place = _area_site(fs, provider, area, usage_date, as_of) if area else None
        site = place or _site(fs, provider, region_id, usage_date, as_of)
        if site.grid.value is None:
            return _unmapped(verdict, "no_factor_for_date")
        return _mapped(verdict, load, site)


class _Site(NamedTuple):
    """Factors of a place on a day."""

    pue: selection.PueChoice
    grid: selection.GridChoice
    market: selection.MarketChoice
    upstream: selection.UpstreamChoice


@lru_cache(maxsize=16384)
def _site(fs: FactorSet, provider: str, region_id: str | None, usage_date: date, as_of: date) -> _Site:
    grid = selection.grid_location(fs, provider, region_id, usage_date, as_of)
    return _Site(
        selection.pue(fs, provider, region_id, usage_date, as_of),
        grid,
        selection.grid_market(fs, provider, region_id, usage_date, as_of, grid),
        selection.upstream(fs, provider, region_id, usage_date, as_of, grid),
    )


@lru_cache(maxsize=1024)
def _area_site(fs: FactorSet, provider: str, area: str, usage_date: date, as_of: date) -> _Site:
    """A content delivery network serves a country or the world from many places (rule A14)."""
    own = [(f"grid.location/{area}", "cdn_area"), (f"grid.location/ember/{area}", "cdn_area_ember")]
    grid = selection.GridChoice(None, None, None, 0, (), None, None, (), None)
    for key, level in own:
        row = fs.one(key, usage_date, as_of)
        if row is not None and row.value is not None:
            grid = _area_grid(row, level, usage_date)
            break
    return _Site(
        selection.pue(fs, provider, None, usage_date, as_of),
        grid,
        selection.MarketChoice(grid.value, "lbm_fallback" if grid.value is not None else None, (), ()),
        selection.UpstreamChoice(None, "included_in_lifecycle" if grid.boundary == "lifecycle" else "missing", ()),
    )


def _area_grid(row: Factor, level: str, usage_date: date) -> selection.GridChoice:
    lag = row.lag_years(usage_date)
    flags = ("cdn_area", *(("carried_forward",) if lag else ()))
    flags += ("lifecycle",) if row.boundary == "lifecycle" else ()
    return selection.GridChoice(
        row, row.value, level, lag, flags, row.boundary, row.gwp_basis, (row.factor_uid,), row.gsd
    )


def _mapped(verdict: Classification, load: Load, site: _Site) -> Intensity:
    parts = dict(load.kwh)
    kwh = sum(parts.values(), Decimal(0)) * site.pue.value
    measures: dict[str, Decimal | None] = {f"it_kwh_{name}": parts.get(name) for name in COMPONENTS}
    measures["kwh"] = kwh
    measures["co2e_lbm_kg"] = _times(kwh, site.grid.value)
    measures["co2e_mbm_kg"] = _times(kwh, site.market.value)
    measures["embodied_kg"] = load.embodied_kg
    measures["upstream_energy_kg"] = _times(kwh, site.upstream.kg_per_kwh)
    flags = {*load.flags, *site.pue.flags, *site.grid.flags, *site.market.flags}
    if load.embodied_status != "computed":
        flags.add(load.embodied_status)
    return Intensity(
        measures=MappingProxyType({name: _stored(measures[name]) for name in INTENSITY_MEASURES}),
        disposition=verdict.disposition,
        rule_id=verdict.rule_id,
        proxy_rule=verdict.proxy_rule,
        component=next(iter(parts)) if len(parts) == 1 else "mixed",
        pue=site.pue.value,
        mbm_method=site.market.mbm_method,
        upstream_status=site.upstream.status,
        embodied_status=load.embodied_status,
        scope=SCOPE,
        s3_category=S3_CATEGORY,
        ghg_source=GHG_SOURCE,
        lbm_boundary=site.grid.boundary,
        gwp_basis=site.grid.gwp_basis,
        grid_level=site.grid.level,
        vintage_lag_years=site.grid.lag_years,
        flags=tuple(sorted(flags)),
        dq_score=_dq_score(verdict, load, site),
        factor_ids=_unique(site.grid.factor_ids, site.market.factor_ids, site.upstream.factor_ids),
        coefficient_ids=_unique(load.coefficient_ids, (site.pue.factor.factor_uid,)),
    )


def _dq_score(verdict: Classification, load: Load, site: _Site) -> int:
    """Worst of activity (a billed quantity: 3), model, PUE and grid (section 12)."""
    if verdict.disposition == "proxied" or site.grid.level in {"region_unknown", "world"}:
        return 5
    fallback = (
        site.pue.level in {"fleet", "industry"}
        or site.grid.lag_years > 0
        or site.grid.boundary == "lifecycle"
        or site.grid.factor is None
        or site.market.mbm_method in {"residual_mix", "provider_claim"}
    )
    return max(load.dq_score, 4 if fallback else 3)


def _unmapped(verdict: Classification, reason: str) -> Intensity:
    return Intensity(_UNKNOWN, "unmapped", verdict.rule_id, reason)


_NOTHING: Mapping[str, Decimal | None] = MappingProxyType(dict.fromkeys(INTENSITY_MEASURES, Decimal(0)))
_UNKNOWN: Mapping[str, Decimal | None] = MappingProxyType(dict.fromkeys(INTENSITY_MEASURES))


def _times(kwh: Decimal, factor: Decimal | None) -> Decimal | None:
    return None if factor is None else kwh * factor


def _stored(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(_STORED)


def _unique(*groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uid for group in groups for uid in group))
