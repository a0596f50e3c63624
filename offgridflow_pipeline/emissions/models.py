"""What one unit of a usage physically is: machines, processing, stored data or moved data.

Values only; `classify` makes them from a usage key, `loads` gives them power. Numbers of the method are
never held here but named by factor key, so that each appears in a line's coefficient_ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from offgridflow_pipeline.lake.schemas import USAGE_KEY_COLUMNS

Disposition: TypeAlias = Literal["mapped", "proxied", "no_emission", "unmapped"]
Media: TypeAlias = Literal["ssd", "hdd"]

#: default = average load; held = reserved but idle; increment = the processor's load above idle only.
Utilisation: TypeAlias = Literal["default", "held", "increment"]
Architecture: TypeAlias = Literal["average", "arm"]
MachinePartKind: TypeAlias = Literal["vcpu", "memory"]
EmbodiedRule: TypeAlias = Literal["generic_server", "on_vcpu_row", "memory", "held_elsewhere"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Hours of an instance type; `count` names factors that multiply it (Multi-AZ)."""

    type_name: str
    vcpus: Decimal | None = None
    memory_gib: Decimal | None = None
    gpus: Decimal | None = None
    held: bool = False
    count: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachinePart:
    """vCPU-hours or GiB-hours of a machine whose processors and memory are billed on rows of their own.

    `type_name` and `family` as far as the bill tells, else empty: neither = the provider's average processor.
    `resources` names a factor with the vCPUs per billed unit (OCPU).
    """

    part: MachinePartKind
    type_name: str = ""
    family: str = ""
    held: bool = False
    resources: str | None = None


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Hours of one accelerator board that is billed on a row of its own."""

    board: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class WholeHost:
    """Hours of a dedicated host of a family."""

    family: str


@dataclass(frozen=True, slots=True)
class BurstCredits:
    """vCPU-hours above the baseline of a burstable family: processors only."""

    family: str


@dataclass(frozen=True, slots=True)
class Processing:
    """vCPUs and memory per unit of a serverless, managed or proxied service.

    The amounts are `vcpus` and `memory_gib`, times the vcpus and memory_gib of the `resources` factor if one
    is named. `mib_per_vcpu` and `memory_gib_per_vcpu` name coefficients that give one from the other,
    `units_per_vcpu` one that the billed vCPUs are divided by (GHz-seconds).
    """

    vcpus: Decimal
    memory_gib: Decimal
    resources: str | None = None
    mib_per_vcpu: str | None = None
    memory_gib_per_vcpu: str | None = None
    units_per_vcpu: str | None = None
    architecture: Architecture = "average"
    utilisation: Utilisation = "default"
    embodied: EmbodiedRule = "generic_server"
    count: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredData:
    """GiB-hours on a medium, each kept in the product of `copies`; with `size`, hours of a disk tier."""

    media: Media
    copies: tuple[str, ...]
    size: str | None = None


@dataclass(frozen=True, slots=True)
class MovedData:
    """GiB through the provider's network; `share` names factors; `area` is a country served by a CDN."""

    share: tuple[str, ...] = ()
    area: str | None = None


Model: TypeAlias = Machine | MachinePart | Accelerators | WholeHost | BurstCredits | Processing | StoredData | MovedData


@dataclass(frozen=True, slots=True)
class UsageKey:
    """All that classification may read, in the order of `USAGE_KEY_COLUMNS`; missing text is empty."""

    provider: str = ""
    service_code: str = ""
    service_name: str = ""
    usage_type: str = ""
    operation: str = ""
    line_item_type: str = ""
    instance_type: str = ""
    vcpus: Decimal | None = None
    memory_gib: Decimal | None = None
    gpu_count: Decimal | None = None
    resource_type: str = ""
    meter_category: str = ""
    meter_subcategory: str = ""
    meter: str = ""
    description: str = ""
    capacity_status: str = ""
    unit: str = ""
    source_unit: str = ""
    disposition: str = "countable"
    disposition_reason: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> UsageKey:
        """The key of a row with the columns `USAGE_KEY_COLUMNS`."""
        values = {name: row[column] for name, column in _FIELD_OF_COLUMN if row[column] is not None}
        return cls(**values)


_FIELD_OF_COLUMN = tuple(zip((field.name for field in fields(UsageKey)), USAGE_KEY_COLUMNS, strict=True))


@dataclass(frozen=True, slots=True)
class Classification:
    """Verdict on a usage key; `model` is set exactly when the disposition is mapped or proxied."""

    disposition: Disposition
    rule_id: str
    reason: str | None = None
    proxy_rule: str | None = None
    model: Model | None = None
