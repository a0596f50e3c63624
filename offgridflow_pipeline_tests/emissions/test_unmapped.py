"""What has no figure is listed by the name the bill gives it, with its cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from offgridflow_pipeline.emissions.calculate import calculate
from offgridflow_pipeline.emissions.unmapped import unmapped_usage
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.emissions.builders import AS_OF, FACTORS, arrow_lines, ec2, line


def listed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines(rows))
        ledger = engine.register("ledger", engine.to_arrow(calculate(engine, lines, FACTORS, as_of=AS_OF)))
        return engine.to_arrow(unmapped_usage(ledger, lines)).to_pylist()


def azure(meter: str, cost: int, unit: str | None = "Hours", **columns: Any) -> dict[str, Any]:
    meters = {"x_SkuMeterCategory": "Quantum", "SkuMeter": meter, "ServiceName": "Azure Quantum"}
    return line("", 1, unit, x_Provider="azure", BilledCost=Decimal(cost), **{**meters, **columns})


def test_unmapped_usage_is_summed_by_what_the_bill_calls_it_and_its_currency() -> None:
    found = listed(
        [
            ec2("BoxUsage:m5.large"),
            azure("Qubit", 3),
            azure("Qubit", 4, usage_date=date(2024, 6, 16)),
            azure("Qubit", 5, BillingCurrency="EUR"),
            line("Mystery", 2, "Count", x_ServiceCode="AmazonX", ServiceName="Amazon X", BilledCost=Decimal(1)),
        ]
    )
    assert [(r["provider"], r["usage"], r["currency"], r["rows"], r["cost"]) for r in found] == [
        ("azure", "Quantum / Qubit", "USD", 2, Decimal(7)),
        ("azure", "Quantum / Qubit", "EUR", 1, Decimal(5)),
        ("aws", "Mystery", "USD", 1, Decimal(1)),
    ]
    assert {r["reason"] for r in found} == {"unknown_usage_key"}
    assert {r["rule_id"] for r in found} == {"Z99", "A99"}


def test_a_sku_text_names_usage_that_has_no_meter() -> None:
    texts = {"ServiceName": "BigQuery", "x_KeyDescription": "Analysis (EU)"}
    [found] = listed([line("", 5, "GiB", x_Provider="gcp", RegionId="eu", x_SourceUnit="bytes", **texts)])
    assert (found["service"], found["usage"], found["reason"]) == ("BigQuery", "Analysis (EU)", "request_priced")
    assert (found["unit"], found["source_unit"]) == ("GiB", "bytes")


def test_usage_in_a_unit_that_no_rule_knows_stays_on_the_list() -> None:
    [found] = listed([azure("Qubit", 3, unit=None, x_SourceUnit="Parsecs")])
    assert (found["unit"], found["source_unit"], found["reason"]) == (None, "Parsecs", "unit")


def test_the_list_costs_what_the_ledger_leaves_out_and_is_empty_when_all_is_mapped() -> None:
    rows = [azure("Qubit", 3), azure("Anyon", 8), line("Mystery", 1, "Count", x_ServiceCode="AmazonX")]
    assert sum(row["cost"] for row in listed([*rows, ec2("BoxUsage:m5.large")])) == sum(r["BilledCost"] for r in rows)
    assert listed([ec2("BoxUsage:m5.large")]) == []
