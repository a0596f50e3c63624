"""The worked examples of carbon-method.md section 15, through the whole calculation, to 1e-9."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from offgridflow_pipeline_tests.emissions.builders import ec2, ledger, line, one

IN_A_31_DAY_MONTH = {"usage_date": date(2024, 7, 15)}


def near(expected: str, places: int = 9) -> object:
    """Equal to a unit of the last printed place (the specification cuts or rounds its figures)."""
    return pytest.approx(Decimal(expected), abs=Decimal(10) ** -places)


def test_a_day_of_m5_xlarge_in_northern_virginia() -> None:
    found = one(ec2("BoxUsage:m5.xlarge", 24))
    # Derivation: W = (343.7 + 96) x 4/96 + 238.1 x 16/384 = 28.241667 W; x 24 h; PUE 1.15; SRVC 0.270488923633.
    assert found["it_kwh"] == near("0.6778")
    assert found["kwh"] == near("0.77947")
    assert found["co2e_lbm_kg"] == near("0.210838001")
    assert found["co2e_mbm_kg"] == near("0.212805218")
    assert found["embodied_kg"] == near("0.045970034")
    assert found["upstream_energy_kg"] == near("0.009243420")
    assert (found["mbm_method"], found["upstream_status"], found["pue"]) == (
        "residual_mix",
        "td_only",
        Decimal("1.1500"),
    )


#: Usage, and its energy without and with the overhead of the data centre.
STORED = [
    # 798.863917056 TB-h x R 6 x 0.65 Wh
    (
        line("TimedStorage-ByteHrs", 1000 * 744, "GiB-Hours", x_ServiceCode="AmazonS3", **IN_A_31_DAY_MONTH),
        "3.115569276",
        "3.582904668",
    ),
    (ec2("EBS:VolumeUsage.gp3", 500 * 744, "GiB-Hours", **IN_A_31_DAY_MONTH), "0.958636700", "1.102432206"),
    # 277.777778 GiB-h, 160.793920 vCPU-h
    (
        line("Lambda-GB-Second", Decimal(10**6) / 3600, "GiB-Hours", x_ServiceCode="AWSLambda"),
        "0.607183029",
        "0.698260483",
    ),
    (
        line("USE1-Lambda-GB-Second-ARM", Decimal(10**6) / 3600, "GiB-Hours", x_ServiceCode="AWSLambda"),
        "0.392489942",
        None,
    ),
    (line("USE1-Fargate-GB-Hours", 1000, "GiB-Hours", x_ServiceCode="AmazonECS"), "0.61544", "0.707756"),
    (line("USE1-Fargate-vCPU-Hours:perCPU", 1000, "vCPU-Hours", x_ServiceCode="AmazonECS"), "2.71296", None),
]
#: An instance for 1,000 hours, and its watts to so many places.
MACHINES = [
    (
        line(
            "",
            1000,
            x_Provider="azure",
            RegionId="eastus",
            x_SkuMeterCategory="Virtual Machines",
            x_InstanceType="Standard_D4s_v5",
        ),
        "21.250264",
        6,
    ),
    (ec2("BoxUsage:m7g.large", 1000), "7.679", 3),
    (ec2("BoxUsage:m7i.large", 1000), "11.134", 3),
    (ec2("BoxUsage:m7a.large", 1000), "9.451", 3),
    (ec2("BoxUsage:p3.2xlarge", 1000), "279.346", 3),
    (ec2("BoxUsage:t3.micro", 1000), "1.765", 3),
    (ec2("BoxUsage:t3.2xlarge", 1000), "56.48", 3),
]


@cache
def calculated() -> list[dict[str, Any]]:
    return ledger([row for row, *_ in (*STORED, *MACHINES)])


def found_for(row: dict[str, Any]) -> dict[str, Any]:
    """The ledger line of a row of the tables above."""
    return calculated()[[known for known, *_ in (*STORED, *MACHINES)].index(row)]


@pytest.mark.parametrize(("row", "it_kwh", "kwh"), STORED)
def test_storage_and_serverless_fixtures(row, it_kwh: str, kwh: str | None) -> None:
    found = found_for(row)
    assert found["it_kwh"] == near(it_kwh)
    if kwh is not None:
        assert found["kwh"] == near(kwh)


@pytest.mark.parametrize(("row", "watts", "places"), MACHINES)
def test_watts_of_instance_types_at_half_load(row, watts: str, places: int) -> None:
    # 1,000 hours at W watts are W kWh.
    assert found_for(row)["it_kwh"] == near(watts, places)


def test_a_day_of_n2_standard_4_in_iowa_is_billed_as_cores_and_memory() -> None:
    google = {"x_Provider": "gcp", "RegionId": "us-central1", "ServiceName": "Compute Engine"}
    parts = ledger(
        [
            line("", hours, unit, x_KeyDescription=text, x_InstanceType="n2-standard-4", **google)
            for hours, unit, text in (
                (96, "vCPU-Hours", "N2 Instance Core running in Americas"),
                (384, "GiB-Hours", "N2 Instance Ram running in Americas"),
            )
        ]
    )
    # 1.57 x (4 x 1.649812 + 0.392 x 16) = 20.20785936 W for 24 h; PUE 1.09; 1,888.46 kg x 4/128 x 24/35,040.
    assert sum(part["it_kwh"] for part in parts) == near("0.484988625")
    assert sum(part["kwh"] for part in parts) == near("0.528637601")
    assert sum(part["embodied_kg"] for part in parts) == near("0.040420805")


def test_embodied_carbon_of_a_gpu_instance_hour() -> None:
    assert one(ec2("BoxUsage:p3.2xlarge", 1))["embodied_kg"] == near("0.012641945")


def test_every_fixture_line_recomputes_from_its_stored_inputs() -> None:
    from offgridflow_pipeline.emissions.exact import rounded_product
    from offgridflow_pipeline.lake.schemas import INTENSITY_MEASURES

    rows = [ec2("BoxUsage:m5.xlarge", "23.9999999997"), ec2("EBS:VolumeUsage.gp3", "12.3456789", "GiB-Hours")]
    for found in ledger(rows):
        for measure in INTENSITY_MEASURES:
            intensity = found[f"intensity_{measure}"]
            expected = None if intensity is None else rounded_product(found["norm_quantity"], intensity)
            assert found[measure] == expected, measure
