"""Google Cloud bills a machine by its parts: cores, memory and accelerators on rows of their own (K01 to K03)."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.loads import Load, load_of
from offgridflow_pipeline.emissions.models import Accelerators, Machine, MachinePart, MovedData, Processing, UsageKey
from offgridflow_pipeline.factors import hardware
from offgridflow_pipeline.factors.register import Factor
from offgridflow_pipeline_tests.emissions.builders import FACTORS, ledger, ledgers, line, one

NEAR = Decimal("1e-9")
ALIGNMENT = FACTORS.number("coefficient/cpu.alignment")


def sku(description: str, unit: str, machine: str = "", service: str = "Compute Engine", **more: str) -> UsageKey:
    return UsageKey(
        provider="gcp", service_name=service, description=description, unit=unit, instance_type=machine, **more
    )


def row(
    description: str, quantity: object, unit: str, machine: str = "", region: str = "us-central1", **columns: Any
) -> dict[str, Any]:
    texts = {"ServiceName": "Compute Engine", "x_KeyDescription": description, "x_InstanceType": machine}
    return line("", quantity, unit, x_Provider="gcp", RegionId=region, **{**texts, **columns})


def core(machine: str, hours: object = 1, **columns: Any) -> dict[str, Any]:
    return row("N2 Instance Core running in Americas", hours, "vCPU-Hours", machine, **columns)


def ram(machine: str, hours: object = 1) -> dict[str, Any]:
    return row("N2 Instance Ram running in Americas", hours, "GiB-Hours", machine)


def whole(machine: str) -> dict[str, Any]:
    return row("", 1, "Hours", machine, SkuMeter="Compute")


#: A machine, its vCPUs and its memory.
MACHINES = [
    ("n2-standard-4", 4, 16),
    ("n2d-highmem-8", 8, 64),
    ("e2-micro", "0.25", 1),
    ("c3-standard-8", 8, 32),
    ("t2d-standard-4", 4, 16),
    ("m1-megamem-96", 96, "1433.6"),
]


@cache
def parts_and_whole() -> dict[str, list[dict[str, Any]]]:
    """Ledger lines of each machine's cores, of its memory and of the whole instance."""
    bills = [[core(machine, vcpus), ram(machine, gib), whole(machine)] for machine, vcpus, gib in MACHINES]
    return dict(zip((machine for machine, *_ in MACHINES), ledgers(bills), strict=True))


@pytest.mark.parametrize(("machine", "vcpus", "gib"), MACHINES)
def test_the_core_row_and_the_memory_row_make_the_instance(machine: str, vcpus: object, gib: object) -> None:
    cores, memory, instance = parts_and_whole()[machine]
    for measure in ("it_kwh", "kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg"):
        assert abs(cores[measure] + memory[measure] - instance[measure]) < NEAR, measure
    assert (cores["component"], memory["component"]) == ("compute", "memory")


def test_parts_make_the_whole_for_every_machine_without_accelerators() -> None:
    names = [row.factor_key.rsplit("/", 1)[1] for row in FACTORS.of_kind("instance.type") if _is_plain(row)]
    for name in names:
        kind = hardware.instance(FACTORS, "gcp", name)
        assert kind is not None and kind.vcpus is not None and kind.memory_gib is not None
        cores, memory, instance = (
            load_of(FACTORS, "gcp", model)
            for model in (MachinePart("vcpu", name), MachinePart("memory", name), Machine(name))
        )
        assert isinstance(cores, Load) and isinstance(memory, Load) and isinstance(instance, Load)
        parts = cores.kwh[0][1] * kind.vcpus + memory.kwh[0][1] * kind.memory_gib
        assert abs(parts - sum(kwh for _, kwh in instance.kwh)) < NEAR, name
        assert abs((cores.embodied_kg or 0) * kind.vcpus - (instance.embodied_kg or 0)) < NEAR, name
    assert len(names) > 300


def _is_plain(row: Factor) -> bool:
    of_google = row.factor_key.startswith("instance.type/gcp/") and "/family/" not in row.factor_key
    return of_google and not row.attributes.get("gpus")


def test_n2_standard_4_has_the_watts_of_the_method() -> None:
    # 1.57 x (4 x 1.6498 + 0.392 x 16) W, cascade lake at half load: (0.6027 + 4.0407) / 2 - 0.392 x 1.714.
    found = ledger([core("n2-standard-4", 4000), ram("n2-standard-4", 16000)])
    expected = ALIGNMENT * (4 * Decimal("1.649812") + Decimal("0.392") * 16)
    assert abs(found[0]["it_kwh"] + found[1]["it_kwh"] - expected) < NEAR


def test_memory_carries_no_embodied_carbon_of_its_own() -> None:
    found = one(ram("n2-standard-4", 16))
    assert (found["embodied_kg"], found["embodied_status"]) == (Decimal(0), "embodied_on_vcpu_row")


def test_unused_reserved_cores_idle_at_full_embodied_carbon() -> None:
    used, unused = ledger([core("n2-standard-4"), core("n2-standard-4", CapacityReservationStatus="Unused")])
    assert unused["it_kwh"] < used["it_kwh"]
    assert unused["embodied_kg"] == used["embodied_kg"]
    assert "held" in unused["flags"]


@pytest.mark.parametrize(
    ("description", "family"),
    [
        ("N2D AMD Instance Core running in Iowa", "n2d"),
        ("Spot Preemptible E2 Instance Core running in Americas", "e2"),
        ("N1 Predefined Instance Core running in us-east4", "n1"),
        ("Custom Instance Core running in Frankfurt", "n1"),
        ("N2D AMD Custom Instance Core running in Frankfurt", "n2d"),
        ("Compute optimized Core running in Americas", "c2"),
        ("Memory-optimized Instance Core running in Frankfurt", "m1"),
        ("M3 Memory-optimized Instance Core running in Frankfurt", "m3"),
        ("Sole Tenancy Instance Core running in Jakarta", ""),
    ],
)
def test_without_a_machine_type_the_sku_text_names_the_family(description: str, family: str) -> None:
    assert classify(sku(description, "vCPU-Hours")).model == MachinePart("vcpu", "", family)


def test_a_family_without_a_machine_type_shares_the_generic_server() -> None:
    typed, custom, family, unknown = ledger(
        [
            core("n2-standard-4"),
            core("n2-custom-6-20480"),
            core(""),
            row("Sole Tenancy Instance Core running in Jakarta", 1, "vCPU-Hours"),
        ]
    )
    assert typed["it_kwh"] == custom["it_kwh"] == family["it_kwh"]
    assert "generic_server" in family["flags"] and "generic_server" not in typed["flags"]
    assert family["dq_score"] == 5
    assert "provider_average" in unknown["flags"]


def test_an_accelerator_is_its_board_beside_the_machine() -> None:
    verdict = classify(sku("Nvidia Tesla T4 GPU running in Americas", "Hours", "n1-standard-8"))
    assert verdict.model == Accelerators("t4")
    found = one(row("Nvidia Tesla T4 GPU running in Americas", 1000, "Hours", "n1-standard-8"))
    assert found["it_kwh_accelerator"] == found["it_kwh"] == Decimal("39.5")  # (8 + 71) / 2 W
    assert abs(found["embodied_kg"] - Decimal(150000) / 35040) < Decimal("1e-6")


def test_a_regional_database_is_two_and_its_size_may_stand_in_the_text() -> None:
    name = "Cloud SQL for MySQL: {} - 4 vCPU + 15GB RAM in Americas"
    zonal, regional = (classify(sku(name.format(k), "vCPU-Hours", service="Cloud SQL")) for k in ("Zonal", "Regional"))
    assert isinstance(zonal.model, Processing) and isinstance(regional.model, Processing)
    assert (zonal.model.vcpus, zonal.model.memory_gib, zonal.model.count) == (4, 15, ())
    assert regional.model.count == ("coefficient/high_availability.instances",)


def test_gigahertz_seconds_of_functions_are_divided_by_the_clock() -> None:
    old, new = ledger(
        [
            row("CPU Time", Decimal("2.4"), "vCPU-Hours", ServiceName="Cloud Functions"),
            row("CPU Time (2nd Gen)", 1, "vCPU-Hours", ServiceName="Cloud Functions"),
        ]
    )
    assert abs(old["it_kwh"] - new["it_kwh"]) < NEAR


def test_the_standard_tier_of_a_cache_is_two_nodes() -> None:
    basic, standard = ledger(
        [
            row(f"Redis Capacity {tier} M2 Iowa", 10, "GiB-Hours", ServiceName="Cloud Memorystore for Redis")
            for tier in ("Basic", "Standard")
        ]
    )
    assert abs(standard["it_kwh"] - 2 * basic["it_kwh"]) < NEAR


@pytest.mark.parametrize(("place", "area"), [("North America", "US"), ("Europe", "EU27"), ("Asia Pacific", "world")])
def test_a_cdn_serves_the_area_its_text_names(place: str, area: str) -> None:
    text = f"Networking Cloud CDN Traffic Cache Data Transfer to {place}"
    assert classify(sku(text, "GiB", service="Networking")).model == MovedData((), area)
    found = one(row(text, 1, "GiB", region="", ServiceName="Networking"))
    assert "cdn_area" in found["flags"]


def test_commitments_and_licences_repeat_cores_without_emission() -> None:
    rows = [
        row("Commitment v1: N2 Cpu in Americas for 1 Year", 100, "vCPU-Hours"),
        row("Licensing Fee for Windows Server 2022 Datacenter Edition (CPU cost)", 100, "vCPU-Hours", "n2-standard-4"),
    ]
    assert [(r["reason"], r["kwh"]) for r in ledger(rows)] == [
        ("commitment_fee", Decimal(0)),
        ("uplift_on_instance", Decimal(0)),
    ]


def test_a_core_row_in_another_unit_is_unmapped_and_says_so() -> None:
    verdict = classify(sku("N2 Instance Core running in Americas", "GiB", "n2-standard-4"))
    assert (verdict.disposition, verdict.rule_id, verdict.reason) == ("unmapped", "K01", "unit")
