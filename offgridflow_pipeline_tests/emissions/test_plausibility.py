"""Property P12: figures beyond the caps are found, figures of real machines are not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from offgridflow_pipeline.emissions.calculate import calculate
from offgridflow_pipeline.emissions.plausibility import implausible
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.emissions.builders import AS_OF, FACTORS, arrow_lines, ec2, line

GP3 = ec2("EBS:VolumeUsage.gp3", 744000, "GiB-Hours")
MACHINES = [
    ec2(f"BoxUsage:{name}", x_VCpus=Decimal(vcpus), x_InstanceType=name)
    for name, vcpus in {
        "t3.nano": 2,
        "m5.large": 2,
        "m7g.large": 2,
        "x1e.xlarge": 4,
        "p3.2xlarge": 8,
        "i3.large": 2,
    }.items()
]


def findings(rows: Iterable[Mapping[str, Any]], **replaced: Any) -> list[dict[str, Any]]:
    """Findings on the ledger of the rows; `replaced` overwrites columns of it with one value."""
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines(rows))
        data = engine.to_arrow(calculate(engine, lines, FACTORS, as_of=AS_OF))
        for name, value in replaced.items():
            position, kind = data.schema.get_field_index(name), data.schema.field(name).type
            data = data.set_column(position, data.schema.field(name), pa.array([value] * data.num_rows, kind))
        ledger = engine.register("ledger", data)
        return engine.to_arrow(implausible(ledger, lines, FACTORS)).to_pylist()


def test_machines_storage_and_transfer_of_a_bill_are_plausible() -> None:
    core = {"x_Provider": "gcp", "RegionId": "us-central1", "ServiceName": "Compute Engine"}
    rows = [
        *MACHINES,
        GP3,
        ec2("DataTransfer-Out-Bytes", 10, "GiB"),
        ec2("UnusedBox:m5.large", x_VCpus=Decimal(2), x_InstanceType="m5.large"),
        line("", 4, "vCPU-Hours", x_KeyDescription="N2 Instance Core running", x_VCpus=Decimal(4), **core),
        line("", 4, "vCPU-Hours", x_KeyDescription="Commitment v1: N2 Cpu", x_VCpus=Decimal(4), **core),
        line("", 4, "Hours", x_KeyDescription="Nvidia L4 GPU running", x_VCpus=Decimal(4), **core),
    ]
    assert findings([row | {"BilledCost": Decimal(100)} for row in rows]) == []


@pytest.mark.parametrize(("kwh", "value"), [("0.5", 250.0), ("0.0001", 0.05)])
def test_watts_per_vcpu_beyond_the_caps_are_found(kwh: str, value: float) -> None:
    row = ec2("BoxUsage:m5.large", x_VCpus=Decimal(2), x_InstanceType="m5.large")
    zero = {"intensity_it_kwh_memory": Decimal(0)}
    [found] = findings([row], intensity_it_kwh_compute=Decimal(kwh), **zero)
    assert (found["check"], found["rule_id"], found["rows"]) == ("watts_per_vcpu", "A01", 1)
    assert found["value"] == pytest.approx(value)
    assert (found["low"], found["high"]) == (0.2, 30.0)


def test_a_machine_whose_vcpus_are_not_told_is_not_judged() -> None:
    assert findings([ec2("BoxUsage:m5.large")], intensity_it_kwh_compute=Decimal("0.5")) == []


def test_watts_per_stored_terabyte_beyond_the_cap_are_found() -> None:
    # 0.0001 kWh per GiB-hour are 93 W per TB of 10^12 bytes.
    [found] = findings([GP3 | {"BilledCost": Decimal(1000)}], intensity_it_kwh_storage=Decimal("0.0001"))
    assert (found["check"], found["high"]) == ("watts_per_tb", 10.0)
    assert found["value"] == pytest.approx(93.13, abs=0.01)


def test_kilograms_per_money_are_judged_per_service_over_rows_that_cost_something() -> None:
    cheap = ec2("BoxUsage:m5.large", 1000, BilledCost=Decimal("0.5"), ServiceName="EC2", BillingCurrency="EUR")
    free = ec2("BoxUsage:m5.large", 1000, BilledCost=Decimal(0), ServiceName="EC2", BillingCurrency="EUR")
    fair = ec2("BoxUsage:m5.large", 1000, BilledCost=Decimal(96), ServiceName="EC2", BillingCurrency="EUR")
    [found] = findings([cheap, free])
    assert (found["check"], found["service"], found["subject"], found["rows"]) == ("kg_per_money", "EC2", "EUR", 1)
    assert found["value"] > found["high"] == 5.0
    assert findings([cheap, free, fair]) == []


def test_a_currency_without_a_cap_is_not_judged() -> None:
    assert findings([ec2("BoxUsage:m5.large", 1000, BilledCost=Decimal("0.5"), BillingCurrency="JPY")]) == []
