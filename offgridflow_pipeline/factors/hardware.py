"""Instance types, hosts, processors and accelerators of the pinned set: what a usage runs on.

Looks up and combines rows only; watts to kilowatt hours is the emissions package. Two paths, as in
carbon-method.md sections 6.1 and 6.2: `InstanceType.host` for measured AWS hosts, `cpu_power` for the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import pairwise

from offgridflow_pipeline.factors.register import PRECISION, Factor, FactorSet, FactorSetError

#: Loads at which the host rows give watts (shares of full load).
LOADS = (Decimal(0), Decimal("0.1"), Decimal("0.5"), Decimal(1))
_POINTS = ("idle", "10", "50", "100")


@dataclass(frozen=True, slots=True)
class HostPower:
    """One measured host group; watts are those of its largest size L, of which `sizes_per_host` fit.

    `vcpus` is V_H and `memory_gib` M_H of section 6.1; platform figures are the whole machine.
    """

    largest: str
    family: str
    sizes_per_host: Decimal
    largest_vcpus: Decimal
    largest_memory_gib: Decimal
    largest_gpus: Decimal
    vcpus: Decimal
    memory_gib: Decimal
    platform_vcpus: Decimal
    platform_memory_gib: Decimal
    cpu_w: tuple[Decimal, ...]
    ram_w: tuple[Decimal, ...]
    gpu_w: tuple[Decimal, ...]
    delta_w: Decimal
    factor_uid: str

    def cpu_watts(self, utilisation: Decimal) -> Decimal:
        """Watts of L's processors at a utilisation 0..1, piecewise linear."""
        return interpolate(self.cpu_w, utilisation)

    def ram_watts(self, utilisation: Decimal) -> Decimal:
        """Watts of L's memory at a utilisation 0..1, piecewise linear."""
        return interpolate(self.ram_w, utilisation)

    def gpu_watts(self, utilisation: Decimal) -> Decimal:
        """Watts of all of L's accelerators at a utilisation 0..1, piecewise linear."""
        return interpolate(self.gpu_w, utilisation)


@dataclass(frozen=True, slots=True)
class HostEmbodied:
    """kgCO2e of manufacturing one host, and the vCPUs and memory over which it is shared."""

    kg: Decimal
    vcpus: Decimal
    memory_gib: Decimal | None
    generic: bool
    flags: tuple[str, ...]
    factor_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One instance type, machine type or VM size.

    `gpus` is None when it has accelerators whose number is not known; `accelerator_unknown` marks chips
    without a power figure (Inferentia, Trainium, Gaudi, FPGA). Empty `cpu_families` = provider average.
    """

    provider: str
    name: str
    family: str
    vcpus: Decimal | None
    memory_gib: Decimal | None
    cpu_families: tuple[str, ...]
    threads_per_vcpu: Decimal
    gpus: Decimal | None
    gpu_model: str | None
    accelerator_unknown: bool
    burstable: bool
    host: HostPower | None
    embodied: HostEmbodied
    flags: tuple[str, ...]
    factor_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CpuPower:
    """Watts per hardware thread of whole benchmark servers, and the memory inside that figure.

    `exact` is True for a single processor family, False for a mean of several or the provider average.
    """

    idle_w: Decimal
    full_w: Decimal
    memory_gb_per_thread: Decimal
    average: bool
    exact: bool
    factor_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GpuPower:
    """Watts per board; `derived` when it comes from the thermal design power."""

    model: str
    idle_w: Decimal
    full_w: Decimal
    derived: bool
    factor_uids: tuple[str, ...]


def interpolate(watts: tuple[Decimal, ...], utilisation: Decimal) -> Decimal:
    """Piecewise linear value through `LOADS`.

    Raises:
        ValueError: utilisation outside 0..1.
    """
    if not 0 <= utilisation <= 1:
        raise ValueError(f"Utilisation {utilisation} is outside 0..1.")
    with localcontext(PRECISION):
        for (low, at_low), (high, at_high) in pairwise(zip(LOADS, watts, strict=True)):
            if utilisation <= high:
                return at_low + (at_high - at_low) * (utilisation - low) / (high - low)
    return watts[-1]


@lru_cache(maxsize=8192)
def instance(fs: FactorSet, provider: str, type_name: str) -> InstanceType | None:
    """The instance type as the provider names it (`m5.xlarge`, `Standard_D2s_v3`, `n2d-standard-4`, `n2d`).

    Azure names may be meter names (`D2 v3/D2s v3`, `D4s v5 Spot`); a size that no table lists is read
    from its name where the set has a series row for it. Returns None when nothing is known.
    """
    name = canonical_name(provider, type_name)
    if rows := fs.get(f"instance.type/{provider}/{name}"):
        return _instance(fs, provider, name, rows[0])
    family = re.split(r"[.-]", name, maxsplit=1)[0]
    if provider == "azure":
        return _azure_series(fs, name)
    if rows := fs.get(f"instance.type/{provider}/family/{family}"):
        return _instance(fs, provider, name, rows[0])
    return None


def canonical_name(provider: str, type_name: str) -> str:
    """The name under which the register lists a type: lower case, Azure decorations removed.

    A constrained Azure size (`E4-2s v5`) is provisioned with all its vCPUs (`e4s v5`).
    """
    name = type_name.strip().lower()
    if provider != "azure":
        return re.sub(r"(?<=\d)xl$", "xlarge", name)
    name = re.sub(r"\s+", " ", name.replace("_", " ").removeprefix("standard ").removeprefix("basic "))
    name = re.sub(r"( spot| low priority| - free)$", "", name.split("/")[0].strip())
    return re.sub(r"^([a-z]+\d+)-\d+", r"\1", name)


@lru_cache(maxsize=256)
def family_host(fs: FactorSet, provider: str, family: str) -> HostPower | None:
    """The largest measured host of a family (`t3`, `m5`): for dedicated hosts and surplus CPU credits."""
    found = [h for f in fs.of_kind("host.power") if (h := _host(f)).family == family.lower() and _is(f, provider)]
    return max(found, key=lambda h: (h.largest_vcpus, h.vcpus, h.largest), default=None)


@lru_cache(maxsize=256)
def family_embodied(fs: FactorSet, provider: str, family: str) -> HostEmbodied | None:
    """The embodied figure of the host that `family_host` gives."""
    host = family_host(fs, provider, family)
    return None if host is None else _measured_embodied(fs, provider, host)


@lru_cache(maxsize=1024)
def cpu_family(fs: FactorSet, cpu_name: str) -> str | None:
    """Processor family of a processor's name (`AMD EPYC 7R13` -> `amd-epyc-gen3`), None when unknown."""
    for row in fs.of_kind("cpu.family"):
        if re.search(str(row.attributes["pattern"]), cpu_name, re.IGNORECASE):
            return str(row.attributes["family"])
    return None


@lru_cache(maxsize=1024)
def cpu_power(fs: FactorSet, families: tuple[str, ...], provider: str) -> CpuPower:
    """Benchmark watts of processor families: the mean of their medians, the provider's average if none.

    A provider without an average of its own is given the AWS one.
    """
    rows = [fs.coefficient(f"cpu.power/{name}") for name in families]
    if not rows:
        known = fs.get(f"cpu.power/average/{provider}") or fs.get("cpu.power/average/aws")
        rows = [known[0]]
    return CpuPower(
        idle_w=_mean(rows, "idle_w"),
        full_w=_mean(rows, "full_w"),
        memory_gb_per_thread=_mean(rows, "memory_gb_per_thread"),
        average=not families,
        exact=len(families) == 1,
        factor_uids=tuple(row.factor_uid for row in rows),
    )


@lru_cache(maxsize=256)
def gpu_power(fs: FactorSet, model: str) -> GpuPower | None:
    """Watts per board of an accelerator model as bills and tables name it; None when no figure exists."""
    wanted = re.sub(r"[^a-z0-9]+", " ", model.lower()).strip()
    for row in fs.of_kind("gpu.power"):
        if wanted in row.attributes["names"]:
            return _gpu(fs, row)
    return None


@lru_cache(maxsize=8)
def generic_embodied(fs: FactorSet) -> HostEmbodied:
    """The generic server, for serverless, containers and processors without a type."""
    rows = [fs.coefficient(f"coefficient/generic_server.{part}") for part in ("embodied_kg", "vcpus", "memory_gib")]
    kg, vcpus, memory = (_value(row) for row in rows)
    return HostEmbodied(kg, vcpus, memory, True, ("generic_server",), tuple(row.factor_uid for row in rows))


def _instance(fs: FactorSet, provider: str, name: str, row: Factor) -> InstanceType:
    values = row.attributes
    uids = [row.factor_uid]
    host = None
    if largest := values.get("host"):
        host_row = fs.coefficient(f"host.power/{provider}/{largest}")
        host = _host(host_row)
        uids.append(host_row.factor_uid)
    return InstanceType(
        provider=provider,
        name=name,
        family=str(values["family"]),
        vcpus=values.get("vcpus"),
        memory_gib=values.get("memory_gib"),
        cpu_families=tuple(values.get("cpu_families", ())),
        threads_per_vcpu=values.get("threads_per_vcpu", Decimal(1)),
        gpus=None if values.get("gpus_unknown") else values.get("gpus", Decimal(0)),
        gpu_model=values.get("gpu_model"),
        accelerator_unknown=bool(values.get("accelerator_unknown")),
        burstable=bool(values.get("burstable")),
        host=host,
        embodied=_embodied(fs, provider, row, host),
        flags=tuple(values.get("flags", ())),
        factor_uids=tuple(uids),
    )


def _embodied(fs: FactorSet, provider: str, row: Factor, host: HostPower | None) -> HostEmbodied:
    """Measured host, published host total, or the sum of parts (section 8); burstable shares by memory."""
    if host is not None:
        return _measured_embodied(fs, provider, host)
    if row.attributes.get("burstable") or "host_vcpus" not in row.attributes:
        return generic_embodied(fs)
    vcpus, memory = row.number("host_vcpus"), row.attributes.get("host_memory_gib")
    if name := row.attributes.get("host_embodied"):
        published = fs.coefficient(f"host.embodied/{provider}/{name}")
        return HostEmbodied(_value(published), vcpus, memory, False, (), (published.factor_uid,))
    if memory is None:
        return generic_embodied(fs)
    return _component_sum(fs, row, vcpus, memory)


def _component_sum(fs: FactorSet, row: Factor, vcpus: Decimal, memory: Decimal) -> HostEmbodied:
    used: list[str] = []

    def part(name: str) -> Decimal:
        coefficient = fs.coefficient(f"coefficient/embodied.{name}")
        used.append(coefficient.factor_uid)
        return _value(coefficient)

    arm = bool(row.attributes.get("arm"))
    sockets = 1 if arm and vcpus <= part("arm_single_socket_vcpus") else 2
    with localcontext(PRECISION):
        kg = part("base") + part("memory_per_gib") * max(Decimal(0), memory - part("base_memory_gib"))
        kg += part("socket") * (sockets - 1)
        if gpus := row.attributes.get("host_gpus"):
            kg += part("gpu") * gpus
    return HostEmbodied(kg, vcpus, memory, False, ("local_disk_missing",), tuple(used))


def _measured_embodied(fs: FactorSet, provider: str, host: HostPower) -> HostEmbodied:
    row = fs.coefficient(f"host.embodied/{provider}/{host.largest}")
    return HostEmbodied(_value(row), host.vcpus, host.platform_memory_gib, False, (), (row.factor_uid,))


def _azure_series(fs: FactorSet, name: str) -> InstanceType | None:
    """A size that no table lists, read from its name: number after the letters = vCPUs."""
    for row in fs.of_kind("instance.type"):
        pattern = row.attributes.get("pattern")
        if pattern is None or not (match := re.fullmatch(str(pattern), name)):
            continue
        found = _instance(fs, "azure", name, row)
        vcpus = Decimal(match["vcpus"])
        ratio = row.attributes.get("memory_gib_per_vcpu")
        memory = None if ratio is None else vcpus * ratio
        return replace(found, vcpus=vcpus, memory_gib=memory, flags=(*found.flags, "size_from_name"))
    return None


def _host(row: Factor) -> HostPower:
    return HostPower(
        largest=row.factor_key.rsplit("/", 1)[1],
        family=str(row.attributes["family"]),
        sizes_per_host=row.number("sizes_per_host"),
        largest_vcpus=row.number("vcpus"),
        largest_memory_gib=row.number("memory_gib"),
        largest_gpus=row.attributes.get("gpus", Decimal(0)),
        vcpus=row.number("sizes_per_host") * row.number("vcpus"),
        memory_gib=row.number("sizes_per_host") * row.number("memory_gib"),
        platform_vcpus=row.number("platform_vcpus"),
        platform_memory_gib=row.number("platform_memory_gib"),
        cpu_w=tuple(row.number(f"cpu_w_{point}") for point in _POINTS),
        ram_w=tuple(row.number(f"ram_w_{point}") for point in _POINTS),
        gpu_w=tuple(row.number(f"gpu_w_{point}") for point in _POINTS),
        delta_w=row.number("delta_w"),
        factor_uid=row.factor_uid,
    )


def _gpu(fs: FactorSet, row: Factor) -> GpuPower:
    model = row.factor_key.rsplit("/", 1)[1]
    if "idle_w" in row.attributes:
        return GpuPower(model, row.number("idle_w"), row.number("full_w"), False, (row.factor_uid,))
    ratios = [fs.coefficient(f"coefficient/gpu.{part}_ratio") for part in ("idle", "full")]
    with localcontext(PRECISION):
        idle, full = (_value(ratio) * row.number("tdp_w") for ratio in ratios)
    return GpuPower(model, idle, full, True, (row.factor_uid, *(ratio.factor_uid for ratio in ratios)))


def _is(row: Factor, provider: str) -> bool:
    return row.factor_key.startswith(f"{row.kind}/{provider}/")


def _mean(rows: list[Factor], name: str) -> Decimal:
    with localcontext(PRECISION):
        return sum((row.number(name) for row in rows), Decimal(0)) / len(rows)


def _value(row: Factor) -> Decimal:
    if row.value is None:
        raise FactorSetError(f"Factor {row.factor_key} has no value ({row.null_reason}); it needs one.")
    return row.value
