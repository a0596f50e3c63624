"""IT energy and embodied carbon of one unit of a model (carbon-method.md sections 6 and 8).

Independent of place and date. Every number comes from the factor set and is recorded by its factor_uid.
PUE and grid factors are added in `intensity`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from offgridflow_pipeline.emissions.models import (
    Accelerators,
    BurstCredits,
    Machine,
    MachinePart,
    Model,
    MovedData,
    Processing,
    StoredData,
    WholeHost,
)
from offgridflow_pipeline.factors import hardware
from offgridflow_pipeline.factors.register import FactorSet, FactorSetError

#: Definitions of units, not coefficients: 1 TB in a coefficient is 10^12 bytes, a billed GB 2^30 bytes.
_TB_PER_GIB = Decimal(2**30) / Decimal(10**12)
_MIB_PER_GIB = Decimal(1024)
_WATTS_PER_KW = Decimal(1000)
_ZERO = Decimal(0)
_ONE = Decimal(1)

#: Processors of AWS Graviton, and the Arm proxy everywhere else (section 6.2).
_ARM_FAMILIES = ("amd-neoverse-n1",)

COMPONENTS = ("compute", "memory", "accelerator", "storage", "network")


class Load(NamedTuple):
    """kWh of IT energy per unit by component, and kg embodied; `dq_score` of the model alone."""

    kwh: tuple[tuple[str, Decimal], ...]
    embodied_kg: Decimal | None
    embodied_status: str
    dq_score: int
    flags: tuple[str, ...]
    coefficient_ids: tuple[str, ...]


class Unresolved(NamedTuple):
    """The model cannot be given a power: the reason of the unmapped verdict."""

    reason: str


@lru_cache(maxsize=65536)
def load_of(fs: FactorSet, provider: str, model: Model) -> Load | Unresolved:
    """Load of one unit of `model`; call it in a decimal context of 34 digits.

    Raises:
        FactorSetError: a factor that a rule names is not in the set (a size read from the bill is unmapped).
    """
    used = _Used(fs)
    load: Load | Unresolved
    match model:
        case Machine():
            load = _machine(used, provider, model)
        case MachinePart():
            load = _machine_part(used, provider, model)
        case Accelerators():
            load = _accelerators(used, model)
        case WholeHost():
            load = _whole_host(used, provider, model)
        case BurstCredits():
            load = _burst_credits(used, provider, model)
        case Processing():
            load = _processing(used, provider, model)
        case StoredData():
            load = _stored_data(used, model)
        case MovedData():
            load = _moved_data(used, model)
    return load


@dataclass(slots=True)
class _Used:
    """Reads coefficients and remembers which."""

    fs: FactorSet
    ids: list[str]

    def __init__(self, fs: FactorSet) -> None:
        self.fs = fs
        self.ids = []

    def number(self, key: str) -> Decimal:
        row = self.fs.coefficient(key)
        self.ids.append(row.factor_uid)
        if row.value is None:
            raise FactorSetError(f"Factor {key!r} has no value but a rule or formula needs it.")
        return row.value

    def numbers(self, key: str, *names: str) -> tuple[Decimal, ...]:
        row = self.fs.coefficient(key)
        self.ids.append(row.factor_uid)
        return tuple(row.number(name) for name in names)

    def product(self, keys: tuple[str, ...]) -> Decimal:
        result = _ONE
        for key in keys:
            result *= self.number(key)
        return result

    def utilisation(self, *, held: bool) -> Decimal:
        return self.number("coefficient/utilisation.held" if held else "coefficient/utilisation.default")

    def lifetime_hours(self) -> Decimal:
        return self.number("coefficient/server.lifetime_hours")

    def unique_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.ids))


def _machine(used: _Used, provider: str, machine: Machine) -> Load | Unresolved:
    kind = hardware.instance(used.fs, provider, machine.type_name)
    if kind is None:
        return _unknown_machine(used, provider, machine)
    if kind.accelerator_unknown:
        return Unresolved("accelerator_power_unknown")
    gpus = kind.gpus if kind.gpus is not None else machine.gpus
    if gpus is None:
        return Unresolved("gpu_count_unknown")
    used.ids.extend(kind.factor_uids)
    kind = replace(
        kind,
        gpus=gpus,
        vcpus=kind.vcpus if kind.vcpus is not None else machine.vcpus,
        memory_gib=kind.memory_gib if kind.memory_gib is not None else machine.memory_gib,
    )
    if kind.vcpus is None or kind.memory_gib is None:
        return Unresolved("no_instance_type")
    utilisation = used.utilisation(held=machine.held)
    power = _host_watts(kind, utilisation) if kind.host else _benchmark_watts(used, kind, utilisation)
    if isinstance(power, Unresolved):
        return power
    watts, dq_score, flags = power
    embodied_kg, embodied_generic = _embodied_per_hour(used, kind)
    flags = (*flags, *kind.flags, *kind.embodied.flags, *(("held",) if machine.held else ()))
    if embodied_generic:
        dq_score = 5
    elif kind.flags or kind.embodied.flags:
        dq_score = max(dq_score, 4)
    count = used.product(machine.count)
    kwh = tuple((part, value * count / _WATTS_PER_KW) for part, value in watts if value)
    return Load(kwh, embodied_kg * count, "computed", dq_score, flags, used.unique_ids())


class _Power(NamedTuple):
    watts: tuple[tuple[str, Decimal], ...]
    dq_score: int
    flags: tuple[str, ...]


def _host_watts(kind: hardware.InstanceType, utilisation: Decimal) -> _Power:
    """Section 6.1: shares of a measured host; burstable types share everything by memory."""
    host, vcpus, memory = kind.host, kind.vcpus, kind.memory_gib
    assert host is not None and vcpus is not None and memory is not None  # noqa: S101  checked by the caller
    n = host.sizes_per_host
    cpu_share = memory / host.platform_memory_gib if kind.burstable else vcpus / host.vcpus
    memory_share = memory / host.platform_memory_gib if kind.burstable else memory / host.memory_gib
    gpus = kind.gpus or _ZERO
    gpu_watts = host.gpu_watts(utilisation) * gpus / host.largest_gpus if gpus and host.largest_gpus else _ZERO
    watts = (
        ("compute", n * (host.cpu_watts(utilisation) + host.delta_w) * cpu_share),
        ("memory", n * host.ram_watts(utilisation) * memory_share),
        ("accelerator", gpu_watts),
    )
    return _Power(watts, 3, ("host_path",))


def _benchmark_watts(used: _Used, kind: hardware.InstanceType, utilisation: Decimal) -> _Power | Unresolved:
    """Section 6.2: benchmark medians per thread, memory taken out of them, aligned to host measurements."""
    vcpus, memory = kind.vcpus, kind.memory_gib
    assert vcpus is not None and memory is not None  # noqa: S101  checked by the caller
    if kind.burstable:
        vcpus = memory / used.number("coefficient/burst.memory_gib_per_vcpu")
    cpu = hardware.cpu_power(used.fs, kind.cpu_families, kind.provider)
    used.ids.extend(cpu.factor_uids)
    alignment = used.number("coefficient/cpu.alignment")
    per_thread = _thread_watts(used, cpu, utilisation)
    watts = [
        ("compute", alignment * vcpus * kind.threads_per_vcpu * per_thread),
        ("memory", alignment * used.number("coefficient/memory.watts_per_gib") * memory),
    ]
    flags = ["benchmark_path"]
    dq_score = 3 if cpu.exact else 4
    if cpu.average:
        flags.append("provider_average")
    if kind.gpus:
        gpu = hardware.gpu_power(used.fs, kind.gpu_model) if kind.gpu_model else None
        if gpu is None:
            return Unresolved("accelerator_power_unknown")
        used.ids.extend(gpu.factor_uids)
        watts.append(("accelerator", kind.gpus * (gpu.idle_w + utilisation * (gpu.full_w - gpu.idle_w))))
        if gpu.derived:
            flags.append("gpu_from_tdp")
            dq_score = 4
    return _Power(tuple(watts), dq_score, tuple(flags))


def _thread_watts(used: _Used, cpu: hardware.CpuPower, utilisation: Decimal) -> Decimal:
    """c(u): watts of a hardware thread without the memory that the benchmark server held."""
    memory = used.number("coefficient/memory.watts_per_gib") * cpu.memory_gb_per_thread
    return max(_ZERO, cpu.idle_w + utilisation * (cpu.full_w - cpu.idle_w) - memory)


def _embodied_per_hour(used: _Used, kind: hardware.InstanceType) -> tuple[Decimal, bool]:
    """Section 8: the host's mass shared by vCPU, for burstable types by memory; the share is applied once."""
    host = kind.embodied
    used.ids.extend(host.factor_uids)
    assert kind.vcpus is not None and kind.memory_gib is not None  # noqa: S101  checked by the caller
    share = (
        kind.memory_gib / host.memory_gib if kind.burstable and host.memory_gib is not None else kind.vcpus / host.vcpus
    )
    return host.kg * share / used.lifetime_hours(), host.generic


def _unknown_machine(used: _Used, provider: str, machine: Machine) -> Load | Unresolved:
    """A type that no table lists: the bill's vCPUs and memory on the provider's average processor."""
    if machine.vcpus is None or machine.memory_gib is None:
        return Unresolved("no_instance_type")
    if machine.gpus:
        return Unresolved("accelerator_power_unknown")
    stand_in = Processing(
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        utilisation="held" if machine.held else "default",
        count=machine.count,
    )
    found = _processing(used, provider, stand_in)
    return found if isinstance(found, Unresolved) else found._replace(flags=(*found.flags, "type_unknown"))


def _machine_part(used: _Used, provider: str, model: MachinePart) -> Load:
    """Section 6.2 is linear in vCPUs and in memory, so a core row and its RAM row make the instance."""
    if model.part == "memory":
        watts = used.number("coefficient/cpu.alignment") * used.number("coefficient/memory.watts_per_gib")
        return Load(
            (("memory", watts / _WATTS_PER_KW),),
            _ZERO,
            "embodied_on_vcpu_row",
            3,
            ("benchmark_path",),
            used.unique_ids(),
        )
    kind = next((k for n in (model.type_name, model.family) if (k := _known(used.fs, provider, n))), None)
    families, threads = (kind.cpu_families, kind.threads_per_vcpu) if kind else ((), _ONE)
    host = kind.embodied if kind else hardware.generic_embodied(used.fs)
    cpu = hardware.cpu_power(used.fs, families, provider)
    used.ids.extend((*(kind.factor_uids if kind else ()), *cpu.factor_uids, *host.factor_uids))
    vcpus = used.numbers(model.resources, "vcpus")[0] if model.resources else _ONE
    per_thread = _thread_watts(used, cpu, used.utilisation(held=model.held))
    watts = used.number("coefficient/cpu.alignment") * vcpus * threads * per_thread
    embodied_kg = host.kg * vcpus / host.vcpus / used.lifetime_hours()
    doubts = (*(kind.flags if kind else ()), *host.flags, *(("provider_average",) if cpu.average else ()))
    dq_score = 5 if host.generic else 3 if cpu.exact and not doubts else 4
    flags = ("benchmark_path", *doubts, *(("held",) if model.held else ()))
    return Load((("compute", watts / _WATTS_PER_KW),), embodied_kg, "computed", dq_score, flags, used.unique_ids())


def _known(fs: FactorSet, provider: str, name: str) -> hardware.InstanceType | None:
    return hardware.instance(fs, provider, name) if name else None


def _accelerators(used: _Used, model: Accelerators) -> Load | Unresolved:
    """Section 6.3: boards billed beside the machine that holds them; one card of section 8's sum of parts."""
    gpu = hardware.gpu_power(used.fs, model.board)
    if gpu is None:
        return Unresolved("accelerator_power_unknown")
    used.ids.extend(gpu.factor_uids)
    watts = gpu.idle_w + used.utilisation(held=model.held) * (gpu.full_w - gpu.idle_w)
    embodied_kg = used.number("coefficient/embodied.gpu") / used.lifetime_hours()
    flags = ("benchmark_path", *(("gpu_from_tdp",) if gpu.derived else ()), *(("held",) if model.held else ()))
    return Load((("accelerator", watts / _WATTS_PER_KW),), embodied_kg, "computed", 4, flags, used.unique_ids())


def _whole_host(used: _Used, provider: str, model: WholeHost) -> Load | Unresolved:
    host = hardware.family_host(used.fs, provider, model.family)
    embodied = hardware.family_embodied(used.fs, provider, model.family)
    if host is None or embodied is None:
        return Unresolved("no_instance_type")
    used.ids.extend((host.factor_uid, *embodied.factor_uids))
    utilisation = used.utilisation(held=False)
    n = host.sizes_per_host
    kwh = (
        ("compute", n * (host.cpu_watts(utilisation) + host.delta_w) / _WATTS_PER_KW),
        ("memory", n * host.ram_watts(utilisation) / _WATTS_PER_KW),
        ("accelerator", n * host.gpu_watts(utilisation) / _WATTS_PER_KW),
    )
    used_kwh = tuple((part, value) for part, value in kwh if value)
    kg = embodied.kg / used.lifetime_hours()
    return Load(used_kwh, kg, "computed", 3, ("host_path", "dedicated_host"), used.unique_ids())


def _burst_credits(used: _Used, provider: str, model: BurstCredits) -> Load | Unresolved:
    """Section 6.3: processors from idle to full load; the machine itself is on its own row."""
    host = hardware.family_host(used.fs, provider, model.family)
    if host is None:
        return Unresolved("no_instance_type")
    used.ids.append(host.factor_uid)
    watts = (host.cpu_watts(_ONE) - host.cpu_watts(_ZERO)) / host.largest_vcpus
    kwh = (("compute", watts / _WATTS_PER_KW),)
    return Load(kwh, _ZERO, "embodied_on_vcpu_row", 3, ("host_path", "surplus_credits"), used.unique_ids())


def _processing(used: _Used, provider: str, model: Processing) -> Load | Unresolved:
    """Section 6.5: billed vCPUs and memory on the benchmark path; a size that no factor row has is unmapped."""
    if model.resources is not None and not used.fs.get(model.resources):
        return Unresolved("no_model")
    vcpus, memory_gib = _resources(used, model)
    families = _ARM_FAMILIES if model.architecture == "arm" else ()
    alignment = used.number("coefficient/cpu.alignment")
    utilisation = used.utilisation(held=model.utilisation == "held")
    watts: list[tuple[str, Decimal]] = []
    flags = ["benchmark_path"]
    if vcpus:
        cpu = hardware.cpu_power(used.fs, families, provider)
        used.ids.extend(cpu.factor_uids)
        per_thread = _thread_watts(used, cpu, utilisation)
        if model.utilisation == "increment":
            per_thread -= _thread_watts(used, cpu, used.utilisation(held=True))
        watts.append(("compute", alignment * vcpus * per_thread))
        flags.append("provider_average" if cpu.average else "arm_proxy")
    if memory_gib and model.utilisation != "increment":
        watts.append(("memory", alignment * used.number("coefficient/memory.watts_per_gib") * memory_gib))
    if model.utilisation != "default":
        flags.append("held" if model.utilisation == "held" else "increment_above_held")
    embodied_kg, status, generic = _processing_embodied(used, model, vcpus, memory_gib)
    if generic:
        flags.append("generic_server")
    kwh = tuple((part, value / _WATTS_PER_KW) for part, value in watts if value)
    return Load(kwh, embodied_kg, status, 5 if generic else 4, tuple(flags), used.unique_ids())


def _resources(used: _Used, model: Processing) -> tuple[Decimal, Decimal]:
    """vCPU-hours and GiB-hours per unit."""
    vcpus, memory_gib = model.vcpus, model.memory_gib
    if model.resources is not None:
        of_vcpus, of_memory = used.numbers(model.resources, "vcpus", "memory_gib")
        vcpus, memory_gib = vcpus * of_vcpus, memory_gib * of_memory
    if model.mib_per_vcpu is not None:
        vcpus = memory_gib * _MIB_PER_GIB / used.number(model.mib_per_vcpu)
    if model.units_per_vcpu is not None:
        vcpus /= used.number(model.units_per_vcpu)
    if model.memory_gib_per_vcpu is not None:
        memory_gib = vcpus * used.number(model.memory_gib_per_vcpu)
    count = used.product(model.count)
    return vcpus * count, memory_gib * count


def _processing_embodied(
    used: _Used, model: Processing, vcpus: Decimal, memory_gib: Decimal
) -> tuple[Decimal, str, bool]:
    """kg per unit, its status, and whether the generic server was used."""
    if model.embodied in {"on_vcpu_row", "held_elsewhere"}:
        return _ZERO, "embodied_on_vcpu_row", False
    if model.embodied == "memory":
        kg = used.number("coefficient/embodied.memory_per_gib") * memory_gib / used.lifetime_hours()
        return kg, "computed", True
    server = hardware.generic_embodied(used.fs)
    used.ids.extend(server.factor_uids)
    return server.kg * vcpus / server.vcpus / used.lifetime_hours(), "computed", True


def _stored_data(used: _Used, model: StoredData) -> Load | Unresolved:
    """Section 6.4 and 8: watt-hours and kilograms per TB-hour, times the copies the provider keeps."""
    if model.size is not None and not used.fs.get(model.size):
        return Unresolved("no_model")
    copies = used.product(model.copies)
    size_gib = used.number(model.size) if model.size else _ONE
    tb = _TB_PER_GIB * size_gib * copies
    kwh = tb * used.number(f"coefficient/storage.{model.media}") / _WATTS_PER_KW
    embodied_kg = tb * used.number(f"coefficient/embodied.{model.media}_per_tb") / used.lifetime_hours()
    return Load((("storage", kwh),), embodied_kg, "computed", 5, ("assumed_copies",), used.unique_ids())


def _moved_data(used: _Used, model: MovedData) -> Load:
    kwh = used.number("coefficient/network.provider") * used.product(model.share)
    return Load((("network", kwh),), None, "embodied_missing", 4, (), used.unique_ids())
