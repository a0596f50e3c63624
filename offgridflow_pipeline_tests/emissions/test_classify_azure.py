"""Azure meters: sizes as bills spell them, tiers, vCores and DTUs (Z01 to Z08), from cost details and FOCUS rows."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.loads import Unresolved, load_of
from offgridflow_pipeline.emissions.models import Processing, UsageKey
from offgridflow_pipeline_tests.emissions.builders import FACTORS, ledger, line

NEAR = Decimal("1e-9")


def row(
    category: str, meter: str, quantity: object = 1, unit: str = "Hours", subcategory: str = "", **columns: Any
) -> dict[str, Any]:
    meters = {"x_SkuMeterCategory": category, "x_SkuMeterSubcategory": subcategory, "SkuMeter": meter}
    return line("", quantity, unit, x_Provider="azure", RegionId="westeurope", **meters, **columns)


def vm(meter: str, **columns: Any) -> dict[str, Any]:
    return row("Virtual Machines", meter, **columns)


#: The same machine, as bills spell it.
SPELLINGS = [
    vm("D2 v3/D2s v3", x_InstanceType="Standard_D2s_v3"),
    vm("D2 v3/D2s v3"),
    vm("D2s v3 Spot"),
    vm("D2s v3 Low Priority"),
    vm("D2 v3", x_InstanceType="D2 v3"),
    row("", "Compute", ServiceName="Virtual Machines", x_InstanceType="Standard_D2s_v3"),
]


@cache
def spelled() -> list[dict[str, Any]]:
    return ledger([vm("D2s v3"), *SPELLINGS])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_size_is_the_same_machine_however_it_is_spelled(spelling: dict[str, Any]) -> None:
    plain, found = spelled()[0], spelled()[1 + SPELLINGS.index(spelling)]
    assert found["it_kwh"] == plain["it_kwh"]
    assert found["disposition"] == "mapped"


def test_a_constrained_size_is_provisioned_with_all_its_vcpus() -> None:
    constrained, plain = ledger(
        [
            vm("E4-2s v5", x_InstanceType="Standard_E4-2s_v5", x_VCpus=Decimal(2)),
            vm("E4s v5", x_InstanceType="Standard_E4s_v5"),
        ]
    )
    for measure in ("it_kwh", "embodied_kg"):
        assert constrained[measure] == plain[measure]


def test_a_size_without_accelerators_in_the_table_has_those_of_its_series() -> None:
    one_board, four = ledger([vm("NC24ads A100 v4"), vm("NC96ads A100 v4")])
    assert abs(one_board["it_kwh_accelerator"] - Decimal("0.2265")) < NEAR  # (46 + 407) / 2 W
    assert abs(four["it_kwh"] - 4 * one_board["it_kwh"]) < NEAR


@pytest.mark.parametrize(
    ("meter", "subcategory", "dtu"),
    [
        ("S0 DTUs", "Single Standard", 10),
        ("S3 DTUs", "Single Standard", 100),
        ("10 DTUs", "Elastic Pool - Standard", 10),
    ],
)
def test_standard_databases_are_a_vcore_per_hundred_dtu(meter: str, subcategory: str, dtu: int) -> None:
    sized, vcore = ledger(
        [
            row("SQL Database", meter, 24, subcategory=subcategory),
            row("SQL Database", "vCore", 24, subcategory="Single General Purpose - Compute Gen5"),
        ]
    )
    assert abs(sized["it_kwh"] - vcore["it_kwh"] * dtu / 100) < NEAR


def test_a_premium_database_is_a_vcore_per_125_dtu_and_basic_a_twentieth() -> None:
    premium, basic, vcore = ledger(
        [
            row("SQL Database", "P2 DTUs", 24, subcategory="Single Premium"),
            row("SQL Database", "B DTU", 24, subcategory="Single Basic"),
            row("SQL Database", "vCore", 24, subcategory="Single General Purpose - Compute Gen5"),
        ]
    )
    assert abs(premium["it_kwh"] - 2 * vcore["it_kwh"]) < NEAR
    assert abs(basic["it_kwh"] - vcore["it_kwh"] / 20) < NEAR


def test_a_managed_instance_of_four_vcores_is_four_times_one() -> None:
    four, each = ledger(
        [
            row("SQL Managed Instance", meter, subcategory="Managed Instance General Purpose - Compute Gen5")
            for meter in ("4 vCore", "vCore")
        ]
    )
    assert abs(four["it_kwh"] - 4 * each["it_kwh"]) < NEAR


def test_copies_of_stored_data_follow_the_redundancy_in_the_meter() -> None:
    local, zone, geo, deleted = ledger(
        [
            row("Storage", f"Hot {kind}", 1000, "GiB-Hours", subcategory="Tiered Block Blob")
            for kind in ("LRS Data Stored", "ZRS Data Stored", "RA-GRS Data Stored", "GRS Early Delete")
        ]
    )
    assert local["it_kwh"] == zone["it_kwh"]
    assert abs(geo["it_kwh"] - 2 * local["it_kwh"]) < NEAR
    assert (deleted["reason"], deleted["kwh"]) == ("early_delete", Decimal(0))


def test_an_idle_container_holds_memory_and_processor() -> None:
    idle, active = ledger(
        [row("Azure Container Apps", f"Standard vCPU {kind} Usage", 1) for kind in ("Idle", "Active")]
    )
    assert idle["it_kwh"] < active["it_kwh"]
    assert idle["embodied_kg"] == active["embodied_kg"]


def test_a_registry_tier_is_the_storage_it_includes() -> None:
    basic, premium = ledger([row("Container Registry", f"{tier} Registry Unit", 24) for tier in ("Basic", "Premium")])
    assert abs(premium["it_kwh"] - 50 * basic["it_kwh"]) < NEAR
    assert premium["dq_score"] == 5


@pytest.mark.parametrize(
    ("category", "subcategory", "meter"),
    [
        ("SQL Database", "Single Standard", "S5 DTUs"),
        ("Redis Cache", "Standard", "C9 Cache"),
        ("Storage", "Premium SSD Managed Disks", "P99 LRS Disk"),
        ("Redis Cache", "Standard", "Balanced B5"),
    ],
)
def test_a_size_that_no_factor_has_is_unmapped(category: str, subcategory: str, meter: str) -> None:
    verdict = classify(
        UsageKey(provider="azure", meter_category=category, meter_subcategory=subcategory, meter=meter, unit="Hours")
    )
    reason = verdict.reason
    if verdict.model is not None:
        load = load_of(FACTORS, "azure", verdict.model)
        assert isinstance(load, Unresolved)
        reason = load.reason
    assert reason == "no_model"


def test_redis_has_two_nodes_except_in_the_basic_tier() -> None:
    def cache(tier: str) -> Processing:
        key = UsageKey(
            provider="azure", meter_category="Redis Cache", meter_subcategory=tier, meter="C1 Cache", unit="Hours"
        )
        model = classify(key).model
        assert isinstance(model, Processing)
        return model

    assert cache("Azure Redis Cache Basic").count == ()
    assert cache("Azure Redis Cache Standard").count == ("coefficient/high_availability.instances",)
    assert cache("Azure Redis Cache Standard").embodied == "memory"
