"""The pinned factor set, loaded from `data/`: one CSV per kind, rows as in factors/README.md section 6.

A set is immutable: its name, version and hash stand in `data/set.json`; `verification` recomputes them.
Choosing among vintages by usage date and knowledge date is `one`; fallback chains live in `selection`.

Naming scheme of `factor_key` (first part = kind; countries are ISO 3166-1 alpha-2, regions provider codes):

* ``grid.location/US/SRVC`` eGRID subregion; ``grid.location/US`` eGRID US average; ``grid.location/GB``
  DESNZ; ``grid.location/FR`` EEA; ``grid.location/EU27`` EEA aggregate; ``grid.location/CA/CA-QC`` ECCC;
  ``grid.location/AU/AU-NSW`` NGA; ``grid.location/NZ`` MfE; ``grid.location/CN/CN-BJ`` MEE;
  ``grid.location/IN`` CEA; ``grid.location/ember/FR`` and ``grid.location/ember/world`` Ember (lifecycle)
* ``grid.residual/AT``, ``grid.residual/US/SRVC``, ``grid.residual/AU``; a null value means none exists
* ``grid.provider_claim/gcp/us-central1`` carbon-free share 0..1
* ``grid.wtt/GB``, ``grid.td/GB``, ``grid.wtt_td/GB``; ``grid.wtt_td/AU/AU-NSW`` (upstream and losses in one);
  ``grid.loss_fraction/US/SRVC`` and ``grid.loss_fraction/US``
* ``pue/aws/us-east-1``, ``pue/aws/area/eu`` (attributes.pattern), ``pue/aws`` fleet, ``pue/industry``
* ``host.power/aws/<largest type of the host group>``, ``host.embodied/aws/<same>``,
  ``host.embodied/azure/<series>``, ``host.embodied/gcp/<family>``
* ``cpu.power/<family>`` with attributes idle_w, full_w, memory_gb_per_thread;
  ``cpu.power/average/<aws|azure|gcp>``; ``cpu.family/<nn>`` maps processor names (attributes.pattern, family)
* ``gpu.power/<model>`` with attributes idle_w, full_w, names
* ``instance.type/<provider>/<type>`` (lower case), ``instance.type/<provider>/family/<family>``,
  ``instance.type/azure/series/<nn>`` (attributes.pattern, for sizes that no table lists)
* ``coefficient/<name>``: ``utilisation.default``, ``utilisation.held``, ``server.lifetime_hours``,
  ``cpu.alignment``, ``memory.watts_per_gib``, ``storage.ssd``, ``storage.hdd`` (Wh per TB-hour),
  ``network.provider`` (kWh per GB), ``transfer.undirected_share``, ``multi_az.instances``,
  ``multi_az_cluster.instances``, ``high_availability.instances``, ``burst.memory_gib_per_vcpu``,
  ``lambda.mib_per_vcpu``, ``functions.ghz_per_vcpu``, ``sql.memory_gib_per_vcore``,
  ``generic_server.embodied_kg|vcpus|memory_gib``, ``embodied.base|base_memory_gib|memory_per_gib|socket|
  ssd_drive|hdd_drive|gpu|ssd_per_tb|hdd_per_tb|arm_single_socket_vcpus``, ``gpu.idle_ratio``,
  ``gpu.full_ratio``, ``grid.max_lag_years``, ``gsd.<subject>`` and ``cap.<subject>`` (section 12, P12;
  ``cap.kg_per_<currency>`` in lower case)
* ``replication/<provider>/<store>`` copies, for example ``replication/aws/ebs``, ``replication/azure/lrs``;
  ``offgridflow factors show replication`` lists them
* ``proxy.resources/<name>`` with attributes vcpus, memory_gib per billed unit: ``glue.dpu``, ``aurora.acu``,
  ``redshift.rpu``, ``bigquery.slot``, ``oci.ocpu.<x86|arm|e2>``, ``appliance``, ``control_plane``,
  ``codebuild.<small|medium|large|2xlarge>``, ``cloud_build.default``, ``app_engine.f1``,
  ``app_service.<B1..P3v3>`` (``p1mv3``, ``i1v2`` and later plans in lower case, as read from a meter),
  ``azure.dtu.<standard|premium|basic>`` (per DTU, basic per database), ``azure.dtu.<s0..s12|p1..p15>`` (per
  database), ``azure.redis.<c0..c6|p1..p5|e10..e100>`` (memory_gib per node), ``azure.disk.<1..80>`` and
  ``azure.registry.<basic|standard|premium>`` (value in GiB)
* ``region/<provider>/<region>``; ``region/gcp/us`` and other multi-regions have attributes.members
* ``spend/US/518210``; ``gwp/AR6-100/CH4/<ch4_origin>``, ``gwp/AR5-100/N2O``
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

DATA = Path(__file__).parent / "data"
#: Arithmetic of every figure derived from rows, whatever the caller's context is.
PRECISION = Context(prec=34, rounding=ROUND_HALF_EVEN)
MASKED = frozenset({"facts_only", "no"})

#: Kinds whose choice depends on the usage date: they make the factor epochs.
DATED_KINDS = (
    "grid.location",
    "grid.residual",
    "grid.provider_claim",
    "grid.wtt",
    "grid.td",
    "grid.wtt_td",
    "grid.loss_fraction",
    "pue",
)


class FactorSetError(LookupError):
    """The factor set cannot be used as asked; the message names set, kind or key, and the cure."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from. `redistribution`: yes, attribution, facts_only or no."""

    source_id: str
    publisher: str
    title: str
    edition: str
    citation: str
    licence: str
    redistribution: str
    attribution: str
    evidence_grade: str
    file_sha256: str

    @property
    def masks_values(self) -> bool:
        """Whether an export to a customer shows id and citation but not the value (README section 4)."""
        return self.redistribution in MASKED


@dataclass(frozen=True, slots=True)
class Factor:
    """One row of the register; `value` in `unit`, or null with `null_reason`.

    `attributes` holds JSON with every number a Decimal. `gsd` is the geometric standard deviation.
    """

    factor_uid: str
    factor_key: str
    kind: str
    value: Decimal | None
    null_reason: str | None
    unit: str
    gwp_basis: str | None
    boundary: str
    method: str
    geography_kind: str
    geography: str
    data_year: int | None
    valid_from: date
    valid_to: date | None
    published_at: date
    known_from: date
    source_id: str
    source_locator: str
    gsd: Decimal
    quality: Mapping[str, int]
    attributes: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash(self.factor_uid)

    def number(self, name: str) -> Decimal:
        """Number of `attributes`.

        Raises:
            FactorSetError: the row has no such number.
        """
        found = self.attributes.get(name)
        if not isinstance(found, Decimal):
            raise FactorSetError(f"Factor {self.factor_key} has no number {name!r}: correct the row in data/.")
        return found

    def lag_years(self, usage_date: date) -> int:
        """Whole years between the factor's last valid year and the usage, at least 0."""
        return 0 if self.valid_to is None else max(0, usage_date.year - self.valid_to.year)


class FactorSet:
    """One immutable factor set. Kinds are read from disk when first asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the set in `folder` (``set.json`` and one CSV per kind).

        Raises:
            FactorSetError: no set there.
        """
        try:
            header = json.loads((folder / "set.json").read_text("utf-8"))
        except FileNotFoundError:
            raise FactorSetError(f"No factor set in {folder}: set.json is missing; reinstall the package.") from None
        self.folder = folder
        self.name: str = header["name"]
        self.semver: str = header["semver"]
        self.sha: str = header["set_sha"]
        self.kinds: tuple[str, ...] = tuple(header["kinds"])
        self._kinds: dict[str, tuple[Factor, ...]] = {}
        self._keys: dict[str, dict[str, tuple[Factor, ...]]] = {}

    def __repr__(self) -> str:
        return f"FactorSet({self.name} {self.semver} {self.sha[:12]})"

    def of_kind(self, kind: str) -> tuple[Factor, ...]:
        """Every row of the kind, in file order.

        Raises:
            FactorSetError: the set has no such kind.
        """
        if kind not in self._kinds:
            if kind not in self.kinds:
                raise FactorSetError(f"Factor set {self.name} has no kind {kind!r}; it has {', '.join(self.kinds)}.")
            self._kinds[kind] = tuple(_rows(self.folder / f"{kind}.csv"))
        return self._kinds[kind]

    def get(self, key: str) -> tuple[Factor, ...]:
        """Every vintage of a key, ordered by valid_from, then known_from; empty when there is none."""
        kind = key.partition("/")[0]
        if kind not in self.kinds:
            return ()
        if kind not in self._keys:
            index: dict[str, list[Factor]] = {}
            for factor in self.of_kind(kind):
                index.setdefault(factor.factor_key, []).append(factor)
            self._keys[kind] = {
                k: tuple(sorted(v, key=lambda f: (f.valid_from, f.known_from))) for k, v in index.items()
            }
        return self._keys[kind].get(key, ())

    def one(self, key: str, usage_date: date, as_of: date, technical: bool = False) -> Factor | None:
        """The vintage that serves a usage date with what was known at `as_of` (carbon-method section 9).

        Args:
            key: factor key.
            usage_date: UTC day of use; a later-validity factor is never taken for it.
            as_of: knowledge date; nothing published later is taken.
            technical: watts, PUE and other physical coefficients: an earlier use may take a later vintage
                (backcast) and the pinned set is used as it is known, without a limit on age.

        Returns:
            the factor with the greatest valid_from, then the greatest known_from, or None when there is
            none or its lag is above ``coefficient/grid.max_lag_years``.
        """
        rows = self.get(key)
        known = [row for row in rows if row.known_from <= as_of]
        if technical:
            known = known or list(rows)
            return next((row for row in reversed(known) if row.valid_from <= usage_date), None) or _earliest(known)
        best = next((row for row in reversed(known) if row.valid_from <= usage_date), None)
        return best if best is not None and best.lag_years(usage_date) <= self._max_lag_years else None

    def coefficient(self, key: str) -> Factor:
        """The one row of a key that does not change over time, such as ``coefficient/cpu.alignment``.

        Raises:
            FactorSetError: the key is unknown or has several vintages.
        """
        rows = self.get(key)
        if len(rows) != 1:
            raise FactorSetError(f"Factor set {self.name} has {len(rows)} rows for {key!r}, expected one.")
        return rows[0]

    def number(self, key: str) -> Decimal:
        """Value of `coefficient(key)`, in its unit.

        Raises:
            FactorSetError: unknown key or null value.
        """
        value = self.coefficient(key).value
        if value is None:
            raise FactorSetError(f"Factor {key!r} of set {self.name} has no value.")
        return value

    def by_uid(self, factor_uid: str) -> Factor:
        """The row with that hash.

        Raises:
            FactorSetError: no such row in this set.
        """
        try:
            return self._by_uid[factor_uid]
        except KeyError:
            raise FactorSetError(
                f"Factor {factor_uid!r} is not in set {self.name} {self.semver}: load the set the line was made with."
            ) from None

    def source(self, factor: Factor) -> Source:
        """The source of a row."""
        return self.sources[factor.source_id]

    def attributions(self, factors: Iterable[Factor]) -> tuple[str, ...]:
        """The sentences that an export of these factors must carry (README section 4), sorted."""
        return tuple(sorted({text for f in factors if (text := self.source(f).attribution)}))

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Sources by id."""
        with (self.folder / "factor_source.csv").open(encoding="utf-8", newline="") as file:
            return MappingProxyType({row["source_id"]: Source(**row) for row in csv.DictReader(file)})

    def boundaries(self) -> tuple[date, ...]:
        """Sorted first days of the factor epochs.

        Between two of them no selection by usage date changes: they are the starts of validity, and every
        1 January until the last factor is too old, because lag, its flag and its limit count in years.
        """
        return self._boundaries

    def epoch_start(self, usage_date: date) -> date:
        """First day of the factor epoch a usage date falls in (`date.min` before the first)."""
        position = bisect_right(self._boundaries, usage_date)
        return self._boundaries[position - 1] if position else date.min

    @cached_property
    def _boundaries(self) -> tuple[date, ...]:
        rows = [row for kind in DATED_KINDS for row in self.of_kind(kind)]
        starts = {row.valid_from for row in rows}
        last = max(row.valid_to.year for row in rows if row.valid_to) + self._max_lag_years + 1
        years = range(min(starts).year, last + 1)
        return tuple(sorted(starts | {date(year, 1, 1) for year in years}))

    @cached_property
    def _max_lag_years(self) -> int:
        return int(self.number("coefficient/grid.max_lag_years"))

    @cached_property
    def _by_uid(self) -> dict[str, Factor]:
        return {factor.factor_uid: factor for kind in self.kinds for factor in self.of_kind(kind)}


def load_factor_set(name: str | None = None) -> FactorSet:
    """The factor set shipped with the package, read once per process.

    Args:
        name: refuse any other set than this one, for example ``ofg-2026.11``.

    Raises:
        FactorSetError: the shipped set has another name.
    """
    shipped = _shipped()
    if name is not None and name != shipped.name:
        raise FactorSetError(f"Factor set {name!r} is not installed; this package ships {shipped.name!r}.")
    return shipped


@cache
def _shipped() -> FactorSet:
    return FactorSet(DATA)


def verify_factor_set(folder: Path = DATA) -> list[str]:
    """Problems of the set in `folder`; empty when it is sound (see `verification`)."""
    from offgridflow_pipeline.factors.verification import problems

    return problems(folder)


def _earliest(rows: list[Factor]) -> Factor | None:
    """Latest knowledge of the earliest validity: what a use before all vintages is given."""
    return next((row for row in reversed(rows) if row.valid_from == rows[0].valid_from), None)


def _rows(path: Path) -> Iterable[Factor]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Factor(
                factor_uid=row["factor_uid"],
                factor_key=row["factor_key"],
                kind=row["kind"],
                value=Decimal(row["value"]) if row["value"] else None,
                null_reason=row["null_reason"] or None,
                unit=row["unit"],
                gwp_basis=row["gwp_basis"] or None,
                boundary=row["boundary"],
                method=row["method"],
                geography_kind=row["geography_kind"],
                geography=row["geography"],
                data_year=int(row["data_year"]) if row["data_year"] else None,
                valid_from=date.fromisoformat(row["valid_from"]),
                valid_to=date.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
                published_at=date.fromisoformat(row["published_at"]),
                known_from=date.fromisoformat(row["known_from"]),
                source_id=row["source_id"],
                source_locator=row["source_locator"],
                gsd=Decimal(row["gsd"]),
                quality=json.loads(row["quality"]),
                attributes=_attributes(row["attributes"]),
            )


def _attributes(text: str) -> Mapping[str, Any]:
    return MappingProxyType(json.loads(text, parse_float=Decimal, parse_int=Decimal)) if text else _NONE


_NONE: Mapping[str, Any] = MappingProxyType({})
