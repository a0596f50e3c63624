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
    BurstCredits,
    Classification,
    EmbodiedRule,
    Machine,
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
            wrong_unit = wrong_unit or (rule if rule.model else None)
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


def _host(key: UsageKey, _params: Mapping[str, Any]) -> Model | str:
    family = _tail(key.usage_type) or key.instance_type
    return WholeHost(family.lower()) if family else "no_instance_type"


def _credits(key: UsageKey, _params: Mapping[str, Any]) -> Model | str:
    family = _tail(key.usage_type) or key.instance_type.partition(".")[0]
    return BurstCredits(family.lower()) if family else "no_instance_type"


def _processing(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    vcpus, memory_gib = {
        "vcpu": (_ONE, Decimal(0)),
        "gib": (Decimal(0), _ONE),
        "gib_with_vcpu": (Decimal(0), _ONE),
        "resources": (_ONE, _ONE),
        "vcore": (_vcores(key), Decimal(0)),
    }[params["per"]]
    if vcpus is None:
        return "no_instance_type"
    embodied: EmbodiedRule = "on_vcpu_row" if params["per"] == "gib" else "generic_server"
    return Processing(
        vcpus=vcpus,
        memory_gib=memory_gib,
        resources=params.get("resources"),
        mib_per_vcpu=params.get("mib_per_vcpu"),
        memory_gib_per_vcpu=params.get("memory_gib_per_vcpu"),
        architecture=params.get("architecture", "average"),
        utilisation=params.get("utilisation", "default"),
        embodied="held_elsewhere" if params.get("utilisation") == "increment" else embodied,
        count=tuple(params.get("count", ())),
    )


def _storage(_key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    return StoredData(params["media"], tuple(params["copies"]))


def _disk_tier(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    """A managed disk billed by tier (`P30 LRS Disk`): the tier's size is a factor."""
    tier = re.match(r"[PES](\d+)\b", key.meter)
    if tier is None:
        return "no_model"
    return StoredData(params["media"], tuple(params["copies"]), size=f"proxy.resources/azure.disk.{tier[1]}")


def _cache_size(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    """A cache billed by size (`C1 Cache`): the size's memory is a factor."""
    size = re.match(r"([CPE]\d+)\b", key.meter)
    if size is None:
        return "no_model"
    return Processing(
        vcpus=_ONE,
        memory_gib=_ONE,
        resources=f"proxy.resources/azure.redis.{size[1].lower()}",
        embodied="memory",
        count=tuple(params.get("count", ())),
    )


def _network(key: UsageKey, params: Mapping[str, Any]) -> Model | str:
    area = None
    if params.get("area") == "usage_type_prefix":
        prefix = key.usage_type.partition("-")[0].upper()
        area = params["areas"].get(prefix, params["areas"]["*"])
    return MovedData(tuple(params.get("share", ())), area)


_MODELS: Mapping[str, Callable[[UsageKey, Mapping[str, Any]], Model | str]] = {
    "instance": _machine,
    "host": _host,
    "credits": _credits,
    "processing": _processing,
    "storage": _storage,
    "disk_tier": _disk_tier,
    "cache_size": _cache_size,
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
