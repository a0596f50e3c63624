"""Which grid, market, upstream and PUE figure serves a region on a day, with what was known at a date.

Chains and rules of carbon-method.md sections 7, 9, 10 and 11; the choice among vintages of one key is
`FactorSet.one`. Pure look-ups on the pinned set: no state, no network, no dependence on call order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

from offgridflow_pipeline.factors.register import PRECISION, Factor, FactorSet, FactorSetError

#: Ember's world average: what an unknown provider is given.
_WORLD = "grid.location/ember/world"
#: Upstream status of location factors that hold the losses, or everything, already.
_ALREADY_INCLUDED = {"lifecycle": "included_in_lifecycle", "consumption": "td_included"}


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """Where a provider's region is: ISO 3166-1 alpha-2 country, ISO 3166-2 subdivision, eGRID subregion.

    `members` lists the regions of a multi-region (`us`, `eu`, `nam4`); `grid_key` overrides its mean.
    """

    provider: str
    region: str
    name: str
    country: str | None
    subdivision: str | None
    egrid: str | None
    in_service: bool
    members: tuple[str, ...]
    grid_key: str | None
    factor_uid: str


@dataclass(frozen=True, slots=True)
class GridChoice:
    """The location-based factor in kgCO2e per kWh, or None (then no factor for the date exists).

    `factor` is None where the value is a mean over regions. `level`: egrid_subregion, subdivision,
    country, ember, multi_region, region_unknown or world. `boundary`: direct, consumption or lifecycle.
    """

    factor: Factor | None
    value: Decimal | None
    level: str | None
    lag_years: int
    flags: tuple[str, ...]
    boundary: str | None
    gwp_basis: str | None
    factor_ids: tuple[str, ...]
    gsd: Decimal | None


class MarketChoice(NamedTuple):
    """Market-based factor in kgCO2e per kWh; `mbm_method` as in the ledger.

    The value is None only where there is no location factor.
    """

    value: Decimal | None
    mbm_method: str | None
    flags: tuple[str, ...]
    factor_ids: tuple[str, ...]


class PueChoice(NamedTuple):
    """Power usage effectiveness; `level`: region, area, fleet or industry."""

    value: Decimal
    flags: tuple[str, ...]
    factor: Factor
    level: str


class UpstreamChoice(NamedTuple):
    """Fuel supply and grid losses in kgCO2e per kWh at the meter, with the ledger's upstream_status."""

    kg_per_kwh: Decimal | None
    status: str
    factor_ids: tuple[str, ...]


@lru_cache(maxsize=4096)
def region(fs: FactorSet, provider: str, region_id: str | None) -> RegionInfo | None:
    """What the set knows about a region code; None when the code is missing or unknown."""
    rows = fs.get(f"region/{provider}/{region_id.lower()}") if region_id else ()
    return _region(rows[0]) if rows else None


@lru_cache(maxsize=65536)
def grid_location(fs: FactorSet, provider: str, region_id: str | None, usage_date: date, as_of: date) -> GridChoice:
    """Location-based factor of a region and day (section 9).

    A multi-region is the unweighted mean of its members, an unknown region that of the provider's
    regions in service, an unknown provider the world's; never a sum.
    """
    place = region(fs, provider, region_id)
    if place is None:
        return _unknown(fs, provider, usage_date, as_of)
    if place.grid_key:
        return _flagged(_first(fs, [(place.grid_key, "multi_region")], usage_date, as_of), "multi_region")
    if place.members:
        found = [grid_location(fs, provider, member, usage_date, as_of) for member in place.members]
        return _mean(found, "multi_region")
    return _first(fs, _chain(place), usage_date, as_of)


@lru_cache(maxsize=65536)
def grid_market(
    fs: FactorSet,
    provider: str,
    region_id: str | None,
    usage_date: date,
    as_of: date,
    location: GridChoice,
    provider_claims: bool = True,
) -> MarketChoice:
    """Market-based factor of cloud use (section 10): provider claim, residual mix, else the location factor.

    Args:
        fs: factor set.
        provider: provider code.
        region_id: region code or None.
        usage_date: UTC day of use.
        as_of: knowledge date.
        location: result of `grid_location` for the same arguments.
        provider_claims: False when the tenant refuses claims that the provider makes.
    """
    if location.value is None:
        return MarketChoice(None, None, (), ())
    place = region(fs, provider, region_id)
    if place is None or place.members or place.grid_key:
        return _fallback(location)
    claim = fs.one(f"grid.provider_claim/{provider}/{place.region}", usage_date, as_of)
    if provider_claims and claim is not None and claim.value is not None:
        with localcontext(PRECISION):
            value = location.value * (1 - claim.value)
        flags = ("provider_claim", *_carried(claim, usage_date))
        return MarketChoice(value, "provider_claim", flags, (claim.factor_uid, *location.factor_ids))
    for key in _residual_keys(place):
        residual = fs.one(key, usage_date, as_of)
        if residual is None:
            continue
        if residual.value is None:
            return _fallback(location, str(residual.null_reason), residual.factor_uid)
        return MarketChoice(residual.value, "residual_mix", _carried(residual, usage_date), (residual.factor_uid,))
    return _fallback(location)


@lru_cache(maxsize=65536)
def pue(fs: FactorSet, provider: str, region_id: str | None, usage_date: date, as_of: date) -> PueChoice:
    """PUE of a region and day (section 7): region, area, the provider's fleet, then the industry's average.

    Flags: ``backcast`` when the use is before the figure's validity, ``pue_fleet`` and ``pue_industry`` when
    nothing finer is known.

    Raises:
        FactorSetError: the set has no PUE at all.
    """
    name = (region_id or "").lower()
    levels = [(f"pue/{provider}/{name}", "region"), *_areas(fs, provider, name), (f"pue/{provider}", "fleet")]
    levels.append(("pue/industry", "industry"))
    for key, level in levels:
        best = fs.one(key, usage_date, as_of, technical=True)
        if best is None or best.value is None:
            continue
        backcast = ("backcast",) if best.valid_from > usage_date else ()
        fleet = (f"pue_{level}",) if level in {"fleet", "industry"} else ()
        return PueChoice(best.value, backcast + fleet, best, level)
    raise FactorSetError(f"Factor set {fs.name} has no PUE, not even pue/industry: restore data/pue.csv.")


@lru_cache(maxsize=65536)
def upstream(
    fs: FactorSet, provider: str, region_id: str | None, usage_date: date, as_of: date, location: GridChoice
) -> UpstreamChoice:
    """Upstream factor (section 11), in kgCO2e per kWh of electricity used.

    UK: well-to-tank + losses + well-to-tank of losses. US: losses only. Australia: one published figure.
    Canada: in the location factor. Lifecycle location factors already hold it. Elsewhere missing (None).
    """
    if location.value is None:
        return UpstreamChoice(None, "missing", ())
    if location.boundary in _ALREADY_INCLUDED:
        return UpstreamChoice(None, _ALREADY_INCLUDED[location.boundary], ())
    place = region(fs, provider, region_id)
    if place is None or place.members or place.grid_key:
        return UpstreamChoice(None, "missing", ())
    if place.country == "US":
        return _losses(fs, location, usage_date, as_of)
    return _published_upstream(fs, _upstream_keys(place), usage_date, as_of)


def _published_upstream(fs: FactorSet, keys: Sequence[str], usage_date: date, as_of: date) -> UpstreamChoice:
    """Sum of published upstream factors; missing unless every one of them is known."""
    rows = [fs.one(key, usage_date, as_of) for key in keys]
    known = [row for row in rows if row is not None and row.value is not None]
    if not keys or len(known) != len(keys):
        return UpstreamChoice(None, "missing", ())
    total = sum((row.value for row in known if row.value is not None), Decimal(0))
    return UpstreamChoice(total, "computed", tuple(row.factor_uid for row in known))


def _chain(place: RegionInfo) -> list[tuple[str, str]]:
    """Keys of the chain, finest first; keys of which the set has no row simply never match."""
    keys: list[tuple[str, str]] = []
    if place.egrid:
        keys.append((f"grid.location/{place.country}/{place.egrid}", "egrid_subregion"))
    if place.subdivision:
        keys.append((f"grid.location/{place.country}/{place.subdivision}", "subdivision"))
    if place.country:
        keys.append((f"grid.location/{place.country}", "country"))
        keys.append((f"grid.location/ember/{place.country}", "ember"))
    return keys


def _first(fs: FactorSet, keys: Iterable[tuple[str, str]], usage_date: date, as_of: date) -> GridChoice:
    for key, level in keys:
        best = fs.one(key, usage_date, as_of)
        if best is None or best.value is None:
            continue
        lag = best.lag_years(usage_date)
        flags = (("carried_forward",) if lag else ()) + (("lifecycle",) if best.boundary == "lifecycle" else ())
        gsd = fs.number("coefficient/gsd.grid_carried_forward") if lag else best.gsd
        return GridChoice(
            best,
            best.value,
            level,
            lag,
            flags,
            best.boundary,
            best.gwp_basis,
            (best.factor_uid,),
            max(gsd, best.gsd),
        )
    return GridChoice(None, None, None, 0, (), None, None, (), None)


def _unknown(fs: FactorSet, provider: str, usage_date: date, as_of: date) -> GridChoice:
    members = _in_service(fs, provider)
    if members:
        found = [grid_location(fs, provider, member, usage_date, as_of) for member in members]
        return _mean(found, "region_unknown")
    return _flagged(_first(fs, [(_WORLD, "world")], usage_date, as_of), "region_unknown")


def _mean(found: Iterable[GridChoice], level: str) -> GridChoice:
    """Unweighted mean of members' factors; the worst of their lags, boundaries and flags."""
    known = [choice for choice in found if choice.value is not None]
    if not known:
        return GridChoice(None, None, None, 0, (), None, None, (), None)
    with localcontext(PRECISION):
        value = sum((c.value for c in known if c.value is not None), Decimal(0)) / len(known)
    boundaries = {choice.boundary for choice in known}
    bases = {choice.gwp_basis or "unstated" for choice in known}
    return GridChoice(
        factor=None,
        value=value,
        level=level,
        lag_years=max(choice.lag_years for choice in known),
        flags=tuple(sorted({flag for choice in known for flag in choice.flags} | {level})),
        boundary="lifecycle" if "lifecycle" in boundaries else boundaries.pop() if len(boundaries) == 1 else "direct",
        gwp_basis=bases.pop() if len(bases) == 1 else "mixed",
        factor_ids=tuple(sorted({uid for choice in known for uid in choice.factor_ids})),
        gsd=max(choice.gsd for choice in known if choice.gsd is not None),
    )


def _flagged(choice: GridChoice, flag: str) -> GridChoice:
    if choice.value is None:
        return choice
    return GridChoice(
        choice.factor,
        choice.value,
        choice.level,
        choice.lag_years,
        tuple(sorted({*choice.flags, flag})),
        choice.boundary,
        choice.gwp_basis,
        choice.factor_ids,
        choice.gsd,
    )


@lru_cache(maxsize=16)
def _in_service(fs: FactorSet, provider: str) -> tuple[str, ...]:
    places = [_region(row) for row in fs.of_kind("region")]
    return tuple(sorted(p.region for p in places if p.provider == provider and p.in_service and p.country))


def _residual_keys(place: RegionInfo) -> list[str]:
    keys = [f"grid.residual/{place.country}/{place.egrid}"] if place.egrid else []
    return [*keys, f"grid.residual/{place.country}"] if place.country else keys


def _upstream_keys(place: RegionInfo) -> list[str]:
    if place.country == "GB":
        return ["grid.wtt/GB", "grid.td/GB", "grid.wtt_td/GB"]
    if place.country == "AU":
        return [f"grid.wtt_td/AU/{place.subdivision}"]
    return []


def _losses(fs: FactorSet, location: GridChoice, usage_date: date, as_of: date) -> UpstreamChoice:
    """Losses only: f x L / (1 - L), L the gross loss fraction of the same subregion."""
    if location.factor is None or location.value is None:
        return UpstreamChoice(None, "missing", ())
    area = location.factor.factor_key.partition("/")[2]
    loss = fs.one(f"grid.loss_fraction/{area}", usage_date, as_of, technical=True)
    if loss is None or loss.value is None:
        return UpstreamChoice(None, "missing", ())
    with localcontext(PRECISION):
        value = location.value * loss.value / (1 - loss.value)
    return UpstreamChoice(value, "td_only", (*location.factor_ids, loss.factor_uid))


def _fallback(location: GridChoice, reason: str = "", uid: str = "") -> MarketChoice:
    flags = ("lbm_fallback", reason) if reason else ("lbm_fallback",)
    return MarketChoice(
        location.value, "lbm_fallback", flags, (uid, *location.factor_ids) if uid else location.factor_ids
    )


def _carried(factor: Factor, usage_date: date) -> tuple[str, ...]:
    return ("market_carried_forward",) if factor.lag_years(usage_date) else ()


def _areas(fs: FactorSet, provider: str, name: str) -> list[tuple[str, str]]:
    return [
        (row.factor_key, "area")
        for row in fs.of_kind("pue")
        if (pattern := row.attributes.get("pattern"))
        and row.factor_key.startswith(f"pue/{provider}/area/")
        and re.fullmatch(str(pattern), name)
    ]


@lru_cache(maxsize=1024)
def _region(row: Factor) -> RegionInfo:
    _, provider, name = row.factor_key.split("/", 2)
    values = row.attributes
    if values.get("country") is None and not values.get("members") and not values.get("grid_key"):
        raise FactorSetError(f"Region row {row.factor_key} names neither country nor members: correct data/region.csv.")
    return RegionInfo(
        provider=provider,
        region=name,
        name=str(values["name"]),
        country=values.get("country"),
        subdivision=values.get("subdivision"),
        egrid=values.get("egrid"),
        in_service=bool(values.get("in_service")),
        members=tuple(values.get("members", ())),
        grid_key=values.get("grid_key"),
        factor_uid=row.factor_uid,
    )
