"""Known defects of Cloud Carbon Footprint 2024 that ofg-1 must not have (carbon-method.md section 16)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from offgridflow_pipeline.lake.schemas import MEASURES
from offgridflow_pipeline_tests.emissions.builders import FACTORS, ec2, ledger, ledgers, line, one

NEAR = Decimal("1e-9")


def azure(meter: str, quantity: object = 1, unit: str = "Hours", category: str = "", sub: str = "", **columns):
    named = {"SkuMeter": meter, "x_SkuMeterCategory": category, "x_SkuMeterSubcategory": sub}
    return line("", quantity, unit, x_Provider="azure", RegionId="westeurope", **named, **columns)


def gcp(machine: str, region: str = "us-central1", **columns):
    named = {"ServiceName": "Compute Engine", "SkuMeter": "Compute", "x_InstanceType": machine}
    return line("", 1, "Hours", x_Provider="gcp", RegionId=region, **named, **columns)


STORES = ["AmazonS3", "AmazonEFS", "AmazonECR", "AmazonDynamoDB"]
NEWER_MACHINES = ["m6i.large", "c6i.large", "r6i.large", "m6a.large", "c6a.large"]


@cache
def stored_and_newer() -> list[list[dict[str, Any]]]:
    stored = [line("USE1-TimedStorage-ByteHrs", 744000, "GiB-Hours", x_ServiceCode=service) for service in STORES]
    return ledgers([stored, [ec2(f"BoxUsage:{name}") for name in NEWER_MACHINES]])


@pytest.mark.parametrize("service", STORES)
def test_d1_byte_hours_in_gb_months_do_not_vanish(service) -> None:
    found = stored_and_newer()[0][STORES.index(service)]
    assert found["it_kwh"] > 1


def test_d2_the_embodied_share_is_applied_once() -> None:
    small, whole = ledger([ec2("BoxUsage:m5.large"), ec2("BoxUsage:m5.24xlarge")])
    assert abs(small["embodied_kg"] * 48 - whole["embodied_kg"]) < NEAR


def test_d3_burstable_types_share_the_whole_host_by_memory() -> None:
    micro, host = ledger([ec2("BoxUsage:t3.micro"), ec2("HostUsage:t3")])
    assert abs(micro["embodied_kg"] * 384 - host["embodied_kg"]) < NEAR


def test_d4_energy_is_physical_and_embodied_is_apart() -> None:
    clean, dirty = ledger([ec2("BoxUsage:m5.large", RegionId=r) for r in ("eu-north-1", "ap-south-1")])
    assert clean["it_kwh"] == dirty["it_kwh"]
    assert clean["embodied_kg"] == dirty["embodied_kg"]
    for row in (clean, dirty):
        assert abs(row["kwh"] - row["it_kwh"] * row["pue"]) < NEAR


def test_d5_unknown_usage_is_not_guessed_from_other_rows() -> None:
    unknown = line("Mystery", 5, "Count", x_ServiceCode="AmazonX", BilledCost=Decimal(1000))
    alone, among = one(unknown), ledger([ec2("BoxUsage:m5.large", 99), unknown])[1]
    assert [alone[name] for name in MEASURES] == [among[name] for name in MEASURES] == [None] * len(MEASURES)


def test_d6_no_row_disappears() -> None:
    rows = [
        line("Unheard-Storage-ByteHrs", 1, "GiB-Hours", x_ServiceCode="AmazonX"),
        ec2("DataTransfer-In-Bytes", 1, "GiB"),
        line("", 1, None, x_ServiceCode=None),
    ]
    assert [row["disposition"] for row in ledger(rows)] == ["unmapped", "mapped", "unmapped"]
    assert len(ledger([rows[0]])) == 1


def test_d7_fargate_memory_is_memory() -> None:
    found = one(line("Fargate-GB-Hours", 1, "GiB-Hours", x_ServiceCode="AmazonECS"))
    assert (found["component"], found["it_kwh_storage"]) == ("memory", None)


def test_d8_lambda_gb_seconds_become_vcpus_by_the_published_ratio_and_carry_memory() -> None:
    found = one(line("Lambda-GB-Second", 1769, "GiB-Hours", x_ServiceCode="AWSLambda"))
    fargate = one(line("Fargate-vCPU-Hours:perCPU", 1024, "vCPU-Hours", x_ServiceCode="AmazonECS"))
    assert abs(found["it_kwh_compute"] - fargate["it_kwh_compute"]) < NEAR
    assert found["it_kwh_memory"] > 0


def test_d9_a_redshift_node_is_a_machine_for_an_hour() -> None:
    found = one(line("Node:ra3.4xlarge", 1, x_ServiceCode="AmazonRedshift"))
    assert Decimal("0.02") < found["it_kwh"] < Decimal("0.4")


def test_d10_azure_disks_count_months_sizes_and_numbers() -> None:
    disks = {"category": "Storage", "sub": "Premium SSD Managed Disks"}
    one_day, ten_days, double = ledger(
        [
            azure("P30 LRS Disk", 24, **disks),
            azure("P30 LRS Disk", 240, **disks),
            azure("P40 LRS Disk", 24, **disks),
        ]
    )
    assert abs(ten_days["it_kwh"] - 10 * one_day["it_kwh"]) < NEAR
    assert abs(double["it_kwh"] - 2 * one_day["it_kwh"]) < NEAR
    # 24 h x 1,024 GiB x 2^30/10^12 x 1.2 Wh x R 3
    assert abs(one_day["it_kwh"] - Decimal(24 * 1024) * 2**30 / 10**12 * Decimal("0.0036")) < NEAR


def test_d10_an_hourly_azure_meter_is_not_a_vcpu() -> None:
    assert one(azure("Qubit Hour", category="Quantum"))["reason"] == "unknown_usage_key"


def test_d11_a_multi_region_is_a_mean() -> None:
    multi = one(gcp("n2-standard-4", "us"))
    members = FACTORS.get("region/gcp/us")[0].attributes["members"]
    parts = [
        row["intensity_co2e_lbm_kg"] / row["intensity_kwh"]
        for row in ledger([gcp("n2-standard-4", m) for m in members])
    ]
    factor = multi["intensity_co2e_lbm_kg"] / multi["intensity_kwh"]
    assert min(parts) < factor < max(parts)
    assert abs(factor - sum(parts) / len(parts)) < NEAR
    assert "multi_region" in multi["flags"]


def sku(description: str, machine: str = "", region: str | None = "us-central1", unit: str = "vCPU-Hours"):
    named = {"ServiceName": "Compute Engine", "x_KeyDescription": description, "x_InstanceType": machine}
    return line("", 1, unit, x_Provider="gcp", RegionId=region, **named)


def test_d11_a_usage_without_a_region_is_the_mean_of_the_providers_regions() -> None:
    text, machine = "N2 Instance Core running in Americas", "n2-standard-4"
    unknown, iowa = ledger([sku(text, machine, region) for region in (None, "us-central1")])
    places = [row for row in FACTORS.of_kind("region") if row.factor_key.startswith("region/gcp/")]
    codes = [row.factor_key.rsplit("/", 1)[1] for row in places if row.attributes.get("in_service")]
    parts = ledger([sku(text, machine, code) for code in codes])
    factors = [row["intensity_co2e_lbm_kg"] / row["intensity_kwh"] for row in parts]
    mean = sum(factors) / len(factors)
    assert abs(unknown["intensity_co2e_lbm_kg"] / unknown["intensity_kwh"] - mean) < NEAR
    assert (unknown["dq_score"], "region_unknown" in unknown["flags"]) == (5, True)
    assert iowa["dq_score"] < 5


def test_d11_storage_in_a_dual_region_is_the_mean_of_both() -> None:
    dual, iowa, carolina = ledger(
        [
            line("", 1000, "GiB-Hours", x_Provider="gcp", RegionId=region, **named)
            for region in ("nam4", "us-central1", "us-east1")
            for named in [{"ServiceName": "Cloud Storage", "x_KeyDescription": "Standard Storage Dual-region"}]
        ]
    )
    dual_factor, *parts = (row["intensity_co2e_lbm_kg"] / row["intensity_kwh"] for row in (dual, iowa, carolina))
    # Intensities per GiB-hour have few digits left of 18 decimals.
    assert abs(dual_factor - sum(parts) / 2) < Decimal("1e-8")


def test_d13_the_machine_type_of_a_core_row_is_read_up_to_its_first_dash() -> None:
    n2d, n2 = ledger(
        [sku("Spot Preemptible Core running in Americas", machine) for machine in ("n2d-custom-6", "n2-custom-6")]
    )
    assert n2d["it_kwh_compute"] < n2["it_kwh_compute"]


def test_d12_the_carbon_free_share_is_googles_own() -> None:
    found = one(gcp("n2-standard-4", usage_date=date(2023, 6, 15)))
    claim = next(
        FACTORS.by_uid(uid) for uid in found["factor_ids"] if FACTORS.by_uid(uid).kind == "grid.provider_claim"
    )
    assert claim.factor_key == "grid.provider_claim/gcp/us-central1"
    assert found["mbm_method"] == "provider_claim"
    assert abs(found["co2e_mbm_kg"] - found["co2e_lbm_kg"] * (1 - claim.value)) < NEAR


def test_d13_n2d_is_not_n2() -> None:
    n2d, n2 = ledger([gcp("n2d-standard-4"), gcp("n2-standard-4")])
    assert n2d["it_kwh_compute"] < n2["it_kwh_compute"]
    assert n2d["it_kwh_memory"] == n2["it_kwh_memory"]


@pytest.mark.parametrize("name", NEWER_MACHINES)
def test_d14_newer_processors_have_figures_of_their_own(name) -> None:
    found = stored_and_newer()[1][NEWER_MACHINES.index(name)]
    assert found["disposition"] == "mapped"
    assert "provider_average" not in found["flags"]


def test_d15_early_deletes_and_minimum_sizes_are_not_storage() -> None:
    rows = [
        line(name, 744, "GiB-Hours", x_ServiceCode="AmazonS3")
        for name in ("EarlyDelete-ByteHrs", "TimedStorage-SIA-SmObjects")
    ]
    assert [(row["reason"], row["kwh"]) for row in ledger(rows)] == [
        ("early_delete", Decimal(0)),
        ("billing_minimum", Decimal(0)),
    ]


def test_d16_a_terabyte_has_one_definition() -> None:
    tb = Decimal(10**12) / 2**30
    ssd, hdd = ledger([ec2("EBS:VolumeUsage.gp3", tb, "GiB-Hours"), ec2("EBS:VolumeUsage.st1", tb, "GiB-Hours")])
    assert abs(ssd["it_kwh"] - Decimal("0.0024")) < NEAR
    assert abs(hdd["it_kwh"] - Decimal("0.0013")) < NEAR


def test_d17_a_us_region_has_its_egrid_subregion_with_date_and_source() -> None:
    found = one(ec2("BoxUsage:m5.large"))
    grid = FACTORS.by_uid(found["factor_ids"][0])
    assert (found["grid_level"], grid.geography) == ("egrid_subregion", "SRVC")
    assert grid.valid_from <= date(2024, 6, 15) and grid.source_locator


def test_d18_every_counted_line_names_its_coefficients() -> None:
    rows = [
        ec2("BoxUsage:m5.large"),
        ec2("EBS:VolumeUsage.gp3", 1, "GiB-Hours"),
        ec2("NatGateway-Bytes", 1, "GiB"),
        line("Lambda-GB-Second", 1, "GiB-Hours", x_ServiceCode="AWSLambda"),
    ]
    keys = [{FACTORS.by_uid(uid).factor_key for uid in row["coefficient_ids"]} for row in ledger(rows)]
    assert {"coefficient/utilisation.default", "coefficient/server.lifetime_hours"} <= keys[0]
    assert {"coefficient/storage.ssd", "replication/aws/ebs"} <= keys[1]
    assert "coefficient/network.provider" in keys[2]
    assert {"coefficient/lambda.mib_per_vcpu", "coefficient/cpu.alignment"} <= keys[3]
    assert all("pue/aws/us-east-1" in found for found in keys)


def test_held_lambda_concurrency_and_the_run_on_it_make_one_busy_function() -> None:
    def usage(name: str) -> dict[str, object]:
        return line(name, 100, "GiB-Hours", x_ServiceCode="AWSLambda")

    held, run, plain = ledger(
        [usage("Lambda-Provisioned-Concurrency"), usage("Lambda-Provisioned-GB-Second"), usage("Lambda-GB-Second")]
    )
    for measure in ("it_kwh", "embodied_kg"):
        assert abs(held[measure] + run[measure] - plain[measure]) < NEAR
