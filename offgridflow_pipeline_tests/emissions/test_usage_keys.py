"""Every rule of Azure, GCP, OCI and other providers meets a usage as bills name it (`data/usage_keys.csv`).

Names are those of the providers' price lists, billing samples and FOCUS exports; `outcome` is ``mapped``, or the
stand-in or reason of the verdict.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.loads import Load, load_of
from offgridflow_pipeline.emissions.models import UsageKey
from offgridflow_pipeline.emissions.rules import load_rules
from offgridflow_pipeline_tests.emissions.builders import FACTORS

TABLE = Path(__file__).parent / "data" / "usage_keys.csv"
with TABLE.open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def key_of(row: dict[str, str]) -> UsageKey:
    return UsageKey(
        provider=row["provider"],
        service_name=row["service"],
        meter_category=row["category"],
        meter_subcategory=row["subcategory"],
        meter=row["meter"],
        description=row["description"],
        instance_type=row["instance_type"],
        vcpus=Decimal(row["vcpus"]) if row["vcpus"] else None,
        memory_gib=Decimal(row["memory_gib"]) if row["memory_gib"] else None,
        unit=row["unit"],
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['rule_id']}-{row['meter'] or row['description']}")
def test_a_usage_meets_its_rule_and_its_model_has_a_load(row: dict[str, str]) -> None:
    verdict = classify(key_of(row))
    assert (verdict.rule_id, verdict.reason or verdict.proxy_rule or "mapped") == (row["rule_id"], row["outcome"])
    if verdict.model is not None:
        load = load_of(FACTORS, row["provider"], verdict.model)
        assert isinstance(load, Load), load
        assert sum(kwh for _, kwh in load.kwh) > 0


def test_every_rule_outside_aws_is_met_by_a_usage_of_the_table() -> None:
    rules = {rule.rule_id for rule in load_rules() if rule.provider != "aws"}
    assert rules - {row["rule_id"] for row in ROWS} == set()


@pytest.mark.parametrize(
    ("provider", "letter", "numbers"),
    [("azure", "Z", [*range(1, 11), 99]), ("gcp", "K", [*range(1, 13), 99])],
)
def test_every_rule_of_the_method_is_present(provider: str, letter: str, numbers: list[int]) -> None:
    present = {rule.rule_id[:3] for rule in load_rules() if rule.provider == provider}
    assert {f"{letter}{number:02}" for number in numbers} <= present
