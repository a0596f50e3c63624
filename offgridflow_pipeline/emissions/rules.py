"""The classification rules of `data/rules.csv`: which usage is what, first match wins.

Patterns are alternatives separated by `|`, with `*` for any text, case does not matter. A usage type may
carry a region prefix and a suffix: `NAME` means `(^|-)NAME(:|.|$)`, and `NAME$` nothing after it. The other
patterns match the whole text; service patterns match the code or the name. An empty pattern matches all.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from offgridflow_pipeline.emissions.models import Disposition, UsageKey

RULES = Path(__file__).parent / "data" / "rules.csv"

NO_EMISSION_REASONS = frozenset(
    (
        "tax", "credit", "refund_money", "discount", "support", "fee", "commitment_fee",
        "commitment_negation", "commitment_unused", "rounding", "adjustment_money", "marketplace_software",
        "early_delete",
        "transfer_mirror", "split_child", "zero_quantity", "licence", "network_attribute",
        "performance_attribute", "billing_minimum", "counted_on_host", "uplift_on_instance",
        "counted_in_appliance",
    )
)  # fmt: skip
UNMAPPED_REASONS = frozenset(
    (
        "unit", "unknown_usage_key", "request_priced", "no_model", "tokens", "flat_rate", "no_instance_type",
        "gpu_count_unknown", "accelerator_power_unknown", "no_factor_for_date",
    )
)  # fmt: skip
MODELS = frozenset(
    (
        "instance", "machine_part", "accelerators", "host", "credits", "processing", "sized", "storage", "network",
    )
)  # fmt: skip
UNITS = frozenset(["Hours", "vCPU-Hours", "GiB-Hours", "GiB", "Requests", "Count"])


class RuleError(ValueError):
    """A rule row cannot be used; the message names rule, column and cure."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `units` empty = any unit; otherwise another unit is refused as unmapped(unit)."""

    rule_id: str
    provider: str
    service: re.Pattern[str] | None
    usage_type: re.Pattern[str] | None
    operation: re.Pattern[str] | None
    category: re.Pattern[str] | None
    subcategory: re.Pattern[str] | None
    meter: re.Pattern[str] | None
    description: re.Pattern[str] | None
    line_type: str
    needs_instance_type: bool
    units: frozenset[str]
    outcome: Disposition
    reason: str | None
    proxy_rule: str | None
    model: str | None
    params: Mapping[str, Any]
    source: str

    @property
    def names_usage(self) -> bool:
        """Whether a text has to fit; a rule by unit alone says nothing about usage in another unit."""
        texts = (
            self.service, self.usage_type, self.operation, self.category, self.subcategory, self.meter,
            self.description,
        )  # fmt: skip
        return any(pattern is not None for pattern in texts)

    def matches(self, key: UsageKey) -> bool:
        """Whether everything but the unit fits."""
        return (
            (self.usage_type is None or self.usage_type.search(key.usage_type) is not None)
            and (not self.line_type or self.line_type == key.line_item_type)
            and (not self.needs_instance_type or bool(key.instance_type))
            and (
                self.service is None
                or self.service.fullmatch(key.service_code) is not None
                or self.service.fullmatch(key.service_name) is not None
            )
            and (self.operation is None or self.operation.fullmatch(key.operation) is not None)
            and (self.category is None or self.category.fullmatch(key.meter_category) is not None)
            and (self.subcategory is None or self.subcategory.fullmatch(key.meter_subcategory) is not None)
            and (self.meter is None or self.meter.fullmatch(key.meter) is not None)
            and (self.description is None or self.description.fullmatch(key.description) is not None)
        )


@lru_cache(maxsize=8)
def rules_of(provider: str) -> tuple[Rule, ...]:
    """Rules of a provider in order of precedence; those of provider `*` come last.

    Only these are made: the patterns of all providers take a tenth of a second.
    """
    return tuple(_rule(row) for owner in (provider, "*") for row in _rows(RULES) if row["provider"] == owner)


@lru_cache(maxsize=1)
def load_rules(path: Path = RULES) -> tuple[Rule, ...]:
    """All rules in file order.

    Raises:
        RuleError: a row names an unknown reason, model or unit, lacks a source, or repeats an id.
    """
    return tuple(_rule(row) for row in _rows(path))


@lru_cache(maxsize=1)
def _rows(path: Path) -> tuple[Mapping[str, str], ...]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = tuple(csv.DictReader(file))
    ids = [row["rule_id"] for row in rows]
    if repeated := {rule_id for rule_id in ids if ids.count(rule_id) > 1}:
        raise RuleError(f"{path.name}: rule ids {sorted(repeated)} occur more than once; ids must be unique.")
    return rows


def _rule(row: Mapping[str, str]) -> Rule:
    rule_id = row["rule_id"]
    outcome = row["outcome"]
    has_model = outcome in {"mapped", "proxied"}
    known_reasons = {"no_emission": NO_EMISSION_REASONS, "unmapped": UNMAPPED_REASONS}.get(outcome, {""})
    units = frozenset(part for part in row["unit"].split("|") if part)
    problems = [
        problem
        for wrong, problem in (
            (
                outcome not in {"mapped", "proxied", "no_emission", "unmapped"},
                f"outcome {outcome!r} is unknown",
            ),
            (
                row["reason"] not in known_reasons,
                f"reason {row['reason']!r} does not fit outcome {outcome!r}",
            ),
            (
                (row["proxy_rule"] != "") != (outcome == "proxied"),
                "proxy_rule belongs to proxied, and only there",
            ),
            (
                (row["model"] in MODELS) != has_model,
                f"model {row['model']!r} does not fit outcome {outcome!r}",
            ),
            (has_model and not units, "unit is empty: name the units the model can take"),
            (not units <= UNITS, f"unit {row['unit']!r} is unknown"),
            (not row["source"], "source is empty"),
        )
        if wrong
    ]
    if problems:
        raise RuleError(f"rules.csv, rule {rule_id}: {'; '.join(problems)}.")
    return Rule(
        rule_id=rule_id,
        provider=row["provider"],
        service=_whole(row["service"]),
        usage_type=_usage_type(row["usage_type"]),
        operation=_whole(row["operation"]),
        category=_whole(row["category"]),
        subcategory=_whole(row["subcategory"]),
        meter=_whole(row["meter"]),
        description=_whole(row["description"]),
        line_type=row["line_type"],
        needs_instance_type=row["requires"] == "instance_type",
        units=units,
        outcome=outcome,  # type: ignore[arg-type]  # checked above
        reason=row["reason"] or None,
        proxy_rule=row["proxy_rule"] or None,
        model=row["model"] or None,
        params=json.loads(row["params"]) if row["params"] else {},
        source=row["source"],
    )


def _whole(pattern: str) -> re.Pattern[str] | None:
    """Pattern for `fullmatch`."""
    if not pattern:
        return None
    return re.compile("|".join(_escaped(part) for part in pattern.split("|")), re.IGNORECASE)


def _usage_type(pattern: str) -> re.Pattern[str] | None:
    """Pattern for `search`: optional region prefix before the name, then the end, a colon or a full stop."""
    if not pattern:
        return None
    parts = [
        f"{_escaped(part[:-1])}$" if part.endswith("$") else f"{_escaped(part)}(?::|\\.|$)"
        for part in pattern.split("|")
    ]
    return re.compile(f"(?:^|-)(?:{'|'.join(parts)})", re.IGNORECASE)


def _escaped(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*")
