"""What a usage key stands for: the first matching rule, and the physical model it names.

Pure function of the key. Rules are rows of `data/rules.csv` (see `rules`); how a model becomes energy is in
`loads`. Staging's own verdict on money rows is taken over with its reason (carbon-method.md section 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from offgridflow_pipeline.emissions.models import (
    Accelerators,
    BurstCredits,
    Classification,
    EmbodiedRule,
    Machine,
    MachinePart,
    Model,
    MovedData,
    Processing,
    StoredData,
    UsageKey,
    WholeHost,
)
from offgridflow_pipeline.emissions.rules import Rule, rules_of

#: Rule id of rows that staging already ruled out.
STAGING = "STAGING"

_MANAGED_PREFIX = re.compile(r"^(?:db|cache|ml|dax|mq|kafka)\.", re.IGNORECASE)
_MANAGED_SUFFIX = re.compile(r"\.(?:search|elasticsearch)$", re.IGNORECASE)
_MANAGED_TYPE = re.compile(r"(?:^|[-:])((?:db|cache|ml|dax|mq|kafka)\.[a-z0-9.-]+)$", re.IGNORECASE)
#: Machine family in a SKU text (`N2D AMD Instance Core`, `Standard - E3 - OCPU`); `us-east4` has no such word.
_FAMILY = re.compile(r"(?<![\w-])([a-z]\d{1,2}[a-z]?)(?![\w-])", re.IGNORECASE)
#: Size in a SKU text (`4 vCPU + 15GB RAM`).
_STATED_SIZE = re.compile(r"(\d+) ?vCPU \+ ([\d.]+) ?GB", re.IGNORECASE)
_ZERO = Decimal(0)
_ONE = Decimal(1)


def classify(key: UsageKey) -> Classification:
    """The verdict on a usage key; every key has one."""
    if key.disposition == "no_emission":
        return Classification("no_emission", STAGING, reason=key.disposition_reason or "adjustment_money")
    wrong_unit: Rule | None = None
    for rule in rules_of(key.provider):
        if not rule.matches(key):
            continue
        if rule.units and key.unit not in rule.units:
            wrong_unit = wrong_unit or (rule if rule.model and rule.names_usage else None)
            continue
        return _verdict(rule, key, wrong_unit)
    raise AssertionError(f"No rule is left for {key}: rules.csv must end with a rule of provider '*'.")


def _verdict(rule: Rule, key: UsageKey, wrong_unit: Rule | None) -> Classification:
    if rule.model is None:
        is_last_resort = rule.reason == "unknown_usage_key"
        if is_last_resort and (wrong_unit or not key.unit):
            return Classification("unmapped", (wrong_unit or rule).rule_id, reason="unit")
        return Classification(rule.outcome, rule.rule_id, reason=rule.reason)
    model = _MODELS[rule.model](key, rule.params)
    if isinstance(model, str):
        return Classification("unmapped", rule.rule_id, reason=model)
    return Classification(rule.outcome, rule.rule_id, proxy_rule=rule.proxy_rule, model=model)


def _machine(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    type_name = _instance_type(key) or params.get("default_type", "")
    if not type_name:
        return "no_instance_type"
    held = params.get("utilisation") == "held" or key.capacity_status == "Unused"
    return Machine(type_name, key.vcpus, key.memory_gib, key.gpu_count, held, tuple(params.get("count", ())))


def _machine_part(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    """Cores or memory of a machine; the family from the SKU text serves where the machine type is not told."""
    told = _FAMILY.search(key.description)
    return MachinePart(
        part=params["part"],
        type_name=key.instance_type,
        family=told[1].lower() if told else params.get("family", ""),
        held=key.capacity_status == "Unused",
        resources=params.get("resources"),
    )


def _accelerators(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    return Accelerators(params["board"], held=key.capacity_status == "Unused")


def _host(key: UsageKey, _params: Mapping[str, Any]) -> Model | str:
    family = _tail(key.usage_type) or key.instance_type
    return WholeHost(family.lower()) if family else "no_instance_type"


def _credits(key: UsageKey, _params: Mapping[str, Any]) -> Model | str:
    family = _tail(key.usage_type) or key.instance_type.partition(".")[0]
    return BurstCredits(family.lower()) if family else "no_instance_type"


def _processing(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    vcpus, memory_gib = _AMOUNTS[params["per"]](key)
    if vcpus is None:
        return "no_instance_type"
    embodied: EmbodiedRule = params.get("embodied", "on_vcpu_row" if params["per"] == "gib" else "generic_server")
    return Processing(
        vcpus=vcpus,
        memory_gib=memory_gib,
        resources=params.get("resources"),
        mib_per_vcpu=params.get("mib_per_vcpu"),
        memory_gib_per_vcpu=params.get("memory_gib_per_vcpu"),
        units_per_vcpu=params.get("units_per_vcpu"),
        architecture=params.get("architecture", "average"),
        utilisation=params.get("utilisation", "default"),
        embodied="held_elsewhere" if params.get("utilisation") == "increment" else embodied,
        count=tuple(params.get("count", ())),
    )


def _storage(_key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    return StoredData(params["media"], tuple(params["copies"]))


def _sized(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    """A disk, cache, database or plan billed by size (`P30 LRS Disk`, `C1 Cache`): what the size holds is a factor."""
    size = re.match(params["size"], key.meter, re.IGNORECASE)
    if size is None:
        return "no_model"
    factor = f"proxy.resources/{params['factors']}.{size[1].lower().replace(' ', '')}"
    if "media" in params:
        return StoredData(params["media"], tuple(params["copies"]), size=factor)
    return Processing(
        vcpus=_ONE,
        memory_gib=_ONE,
        resources=factor,
        embodied=params.get("embodied", "generic_server"),
        count=tuple(params.get("count", ())),
    )


def _network(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    area = params.get("area")
    if area == "usage_type_prefix":
        prefix = key.usage_type.partition("-")[0].upper()
        area = params["areas"].get(prefix, params["areas"]["*"])
    return MovedData(tuple(params.get("share", ())), area)


_MODELS: Mapping[str, Callable[[UsageKey, Mapping[str, Any]], Model | str]] = {
    "instance": _machine,
    "machine_part": _machine_part,
    "accelerators": _accelerators,
    "host": _host,
    "credits": _credits,
    "processing": _processing,
    "sized": _sized,
    "storage": _storage,
    "network": _network,
}


def _instance_type(key: UsageKey) -> str:
    """Instance type of a row: as billed, else from the usage type; the machine behind a managed type."""
    name = key.instance_type
    if not name and (managed := _MANAGED_TYPE.search(key.usage_type)):
        name = managed[1]
    if not name:
        name = _tail(key.usage_type)
    if not name and key.provider == "azure":
        name = key.meter
    if key.provider == "aws":
        name = _MANAGED_SUFFIX.sub("", _MANAGED_PREFIX.sub("", name))
    return name


def _tail(usage_type: str) -> str:
    """Text after the last colon."""
    return usage_type.rpartition(":")[2] if ":" in usage_type else ""


def _vcores(key: UsageKey) -> Decimal | None:
    """vCores per billed hour: of the meter (`2 vCore`), one for a meter per vCore, else the bill's vCPUs."""
    if number := re.match(r"(\d+)\s*vcore", key.meter, re.IGNORECASE):
        return Decimal(number[1])
    if "vcore" in key.meter.lower():
        return _ONE
    return key.vcpus


def _stated_size(key: UsageKey) -> tuple[Decimal | None, Decimal]:
    """vCPUs and GiB that the SKU text names."""
    size = _STATED_SIZE.search(key.description)
    return (Decimal(size[1]), Decimal(size[2])) if size else (None, _ZERO)


def _leading_number(key: UsageKey) -> Decimal:
    """Units a meter bundles (`10 DTUs`), else one."""
    number = re.match(r"\d+", key.meter)
    return Decimal(number[0]) if number else _ONE


#: vCPUs and GiB per billed unit, before the factors that a rule names.
_AMOUNTS: Mapping[str, Callable[[UsageKey], tuple[Decimal | None, Decimal]]] = {
    "vcpu": lambda _: (_ONE, _ZERO),
    "gib": lambda _: (_ZERO, _ONE),
    "gib_with_vcpu": lambda _: (_ZERO, _ONE),
    "resources": lambda _: (_ONE, _ONE),
    "numbered": lambda key: (_leading_number(key), _leading_number(key)),
    "stated": _stated_size,
    "vcore": lambda key: (_vcores(key), _ZERO),
}
