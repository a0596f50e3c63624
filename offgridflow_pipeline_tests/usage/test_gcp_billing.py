"""Google Cloud's billing export as usage lines: what counts, how much, where, and that the bill ties."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.gcp_rules import cost_types, no_emission
from offgridflow_pipeline.usage.reconcile import differences, unexplained
from offgridflow_pipeline_tests.connectors.bills import (
    SHARED,
    extracted,
    lines,
    mapped_lines,
    one_line,
    write_bill,
)
from offgridflow_pipeline_tests.connectors.gcp_bills import as_text, credit, gcp_row, system_labels, without

ATTO = Decimal(1).scaleb(-18)
#: Many rows an example, few examples: each one reads a bill.
BULK = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
KOKU = SHARED / "gcp" / "koku_202011.csv"
#: Every reason a row of this feed can have, with the row that has it.
REASONS: list[tuple[dict[str, Any], str, str | None]] = [
    ({}, "Usage", None),
    ({"cost": 0.0}, "Usage", None),
    ({"usage__amount": -14400.0}, "Usage", None),
    ({"consumption_model__description": "Compute Flexible CUDs"}, "Usage", None),
    ({"consumption_model__description": "Default"}, "Usage", None),
    ({"cost_type": "tax", "usage__amount": 1.0}, "Tax", "tax"),
    ({"cost_type": "rounding_error", "usage__amount": 0.0}, "Adjustment", "rounding"),
    ({"cost_type": "adjustment"}, "Adjustment", "adjustment_money"),
    ({"cost_type": "something_new"}, "Adjustment", "fee"),
    ({"usage__amount": 0.0}, "Usage", "zero_quantity"),
    ({"sku__description": "Commitment v1: Cpu in Frankfurt for 1 Year"}, "Purchase", "commitment_fee"),
    ({"credits": [credit(-0.1, "FEE_UTILIZATION_OFFSET")]}, "Purchase", "commitment_fee"),
    ({"transaction_type": "THIRD_PARTY_RESELLER", "seller_name": "A Vendor"}, "Usage", "marketplace_software"),
    ({"service__description": "Support", "sku__description": "Enhanced Support"}, "Usage", "support"),
    (
        {"cost_type": "adjustment", "adjustment_info__type": "USAGE_CORRECTION", "adjustment_info__id": "a"},
        "Usage",
        None,
    ),
    ({"adjustment_info__type": "USAGE_CORRECTION", "usage__unit": "count"}, "Adjustment", "adjustment_money"),
    ({"cost_type": "adjustment", "adjustment_info__type": "GOODWILL"}, "Adjustment", "adjustment_money"),
    ({"adjustment_info__type": "SLA_VIOLATION"}, "Adjustment", "adjustment_money"),
    ({"adjustment_info__type": "PRICE_CORRECTION"}, "Adjustment", "adjustment_money"),
]

#: SKU text, base unit, amount, canonical unit and what the amount is divided by.
UNITS = [
    ("N2 Instance Core running in Frankfurt", "seconds", "14400", "vCPU-Hours", 3600),
    ("Spot Preemptible N1 Predefined Instance Core", "seconds", "7", "vCPU-Hours", 3600),
    ("Cloud SQL for PostgreSQL: Zonal - vCPU in Frankfurt", "seconds", "1", "vCPU-Hours", 3600),
    ("Autopilot Pod mCPU Requests (europe-west3)", "seconds", "250000", "vCPU-Hours", 3_600_000),
    ("Cloud SQL for MySQL: Zonal - 4 vCPU + 15GB RAM in Frankfurt", "seconds", "3600", "Hours", 3600),
    ("Micro Instance with burstable CPU running in Frankfurt", "seconds", "3600", "Hours", 3600),
    ("Nvidia Tesla T4 GPU running in Frankfurt", "seconds", "10", "Hours", 3600),
    ("Regional Kubernetes Clusters", "seconds", "3600", "Hours", 3600),
    ("N2 Instance Ram running in Frankfurt", "byte-seconds", "61847529062400", "GiB-Hours", 2**30 * 3600),
    ("Storage PD Capacity", "byte-seconds", "123456789.25", "GiB-Hours", 2**30 * 3600),
    ("Network Data Transfer Out", "bytes", "24909", "GiB", 2**30),
    ("Class A Operations", "requests", "17", "Requests", 1),
    ("Monitored projects", "count", "3", "Count", 1),
]


def _lines(
    engine: Engine, folder: Path, rows: Sequence[dict[str, Any]], *, python: bool = False
) -> list[dict[str, Any]]:
    path = write_bill(folder / "bill.csv", [as_text(row, python=python) for row in rows])
    return list(lines(engine, path, "gcp_detailed").to_pylist())


def _line(engine: Engine, folder: Path, **changed: Any) -> dict[str, Any]:
    return one_line(engine, folder, "gcp_detailed", as_text(gcp_row(**changed)))


def test_a_row_counts_or_says_why_not_and_keeps_its_cost(engine: Engine, tmp_path: Path) -> None:
    found = _lines(engine, tmp_path, [gcp_row(**changed) for changed, _, _ in REASONS])
    for line, (changed, category, reason) in zip(found, REASONS, strict=True):
        verdict = (line["ChargeCategory"], line["x_DispositionReason"], line["x_Disposition"])
        assert verdict == (category, reason, "no_emission" if reason else "countable"), changed
        credited = sum(Decimal(str(c["amount"])) for c in changed.get("credits", []))
        assert line["BilledCost"] == line["EffectiveCost"] == Decimal(str(changed.get("cost", 0.1))) + credited


def test_every_reason_of_the_rule_data_has_a_row_above() -> None:
    stated = {rule.reason for rule in no_emission()} | {kind.reason for kind in cost_types() if kind.reason}
    assert stated <= {reason for _, _, reason in REASONS}


def test_base_units_become_canonical_by_exact_division(engine: Engine, tmp_path: Path) -> None:
    rows = [gcp_row(sku__description=sku, usage__unit=unit, usage__amount=amount) for sku, unit, amount, _, _ in UNITS]
    for line, (sku, _, amount, canonical, divisor) in zip(_lines(engine, tmp_path, rows), UNITS, strict=True):
        assert line["ConsumedQuantity"] == Decimal(amount)
        assert (line["x_NormUnit"], line["x_NormQuantity"]) == (canonical, _divided(Decimal(amount), divisor)), sku


@BULK
@given(amounts=st.lists(st.floats(-9.9e19, 9.9e19).filter(lambda f: f == 0 or abs(f) > 1e-6), min_size=40, max_size=80))
def test_byte_seconds_of_any_size_are_divided_exactly(engine: Engine, tmp_path: Path, amounts: list[float]) -> None:
    rows = [gcp_row(usage__unit="byte-seconds", usage__amount=repr(amount)) for amount in amounts]
    found = _lines(engine, tmp_path, rows)
    for line, amount in zip(found, amounts, strict=True):
        billed = Decimal(repr(amount)).quantize(ATTO, context=_wide())
        assert line["x_NormQuantity"] == _divided(billed, 2**30 * 3600)


def test_an_unknown_unit_counts_without_a_canonical_quantity_and_is_named(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [as_text(gcp_row(usage__unit="furlongs"))])
    found = mapped_lines(engine, extracted(engine, path, "gcp_detailed"), "gcp_detailed")
    [line] = engine.to_arrow(found).to_pylist()
    assert (line["x_Disposition"], line["x_NormUnit"], line["x_NormQuantity"]) == ("countable", None, None)
    assert [row["value"] for row in engine.to_arrow(unexplained(found)).to_pylist()] == ["furlongs"]


def test_an_unknown_cost_type_is_named_for_the_check(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [as_text(gcp_row()), as_text(gcp_row(cost_type="something_new"))])
    found = mapped_lines(engine, extracted(engine, path, "gcp_detailed"), "gcp_detailed")
    named = engine.to_arrow(unexplained(found)).to_pylist()
    assert [(row["finding"], row["value"]) for row in named] == [("line_item_type", "something_new")]


@BULK
@given(
    bills=st.lists(
        st.tuples(
            st.decimals(min_value=-(10**9), max_value=10**9, places=9),
            st.lists(st.decimals(min_value=-(10**6), max_value=10**6, places=9), max_size=4),
        ),
        min_size=20,
        max_size=40,
    ),
    python=st.booleans(),
)
def test_the_bill_is_cost_and_all_credits_to_the_last_digit(
    engine: Engine, tmp_path: Path, bills: list[tuple[Decimal, list[Decimal]]], python: bool
) -> None:
    rows = [gcp_row(cost=f"{cost:f}", credits=[credit(f"{a:f}") for a in amounts]) for cost, amounts in bills]
    found = _lines(engine, tmp_path, rows, python=python)
    assert [line["BilledCost"] for line in found] == [cost + sum(amounts) for cost, amounts in bills]
    assert [line["ContractedCost"] for line in found] == [cost for cost, _ in bills]


@pytest.mark.parametrize("python", [False, True])
def test_lists_are_read_as_json_and_as_python_spells_them(engine: Engine, tmp_path: Path, python: bool) -> None:
    row = gcp_row(
        credits=[credit(-0.02, name='It\'s "amount": 5'), credit(-5e-06)],
        labels=[{"key": "team", "value": "web"}, {"key": "empty", "value": ""}],
        project__labels=[{"key": "env", "value": "prod"}],
        tags=[{"key": "cost", "value": "c-7", "inherited": True, "namespace": "901"}],
    )
    line = one_line(engine, tmp_path, "gcp_detailed", as_text(row, python=python))
    assert line["BilledCost"] == Decimal("0.1") - Decimal("0.02") - Decimal("0.000005")
    assert json.loads(line["Tags"]) == {"team": "web", "empty": "", "project:env": "prod", "tag:901:cost": "c-7"}


def test_the_same_row_has_one_identity_in_both_spellings(engine: Engine, tmp_path: Path) -> None:
    row = gcp_row(credits=[credit(-0.02)])
    ids = {
        one_line(engine, tmp_path, "gcp_detailed", as_text(row, python=python))["x_LineId"] for python in (False, True)
    }
    assert len(ids) == 1


@pytest.mark.parametrize("text", ["[{'name': 'x'}]", "[{'amount': 'much'}]", '[{"amount": 1}', "free"])
def test_a_row_whose_credits_cannot_be_summed_is_refused(engine: Engine, tmp_path: Path, text: str) -> None:
    path = write_bill(tmp_path / "bill.csv", [as_text(gcp_row()), as_text(gcp_row()) | {"credits": text}])
    with pytest.raises(BillingObjectError, match="credits: .*is not a list of credits with an amount each") as refused:
        extracted(engine, path, "gcp_detailed")
    assert (refused.value.row, refused.value.column) == (2, "credits")


def test_a_file_without_credits_is_refused_since_the_bill_would_be_wrong(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [as_text(without(gcp_row(), "credits"))])
    with pytest.raises(BillingObjectError, match="required column credits is missing"):
        extracted(engine, path, "gcp_detailed")


@pytest.mark.parametrize(
    ("changed", "region", "source"),
    [
        ({}, "europe-west3", "europe-west3"),
        ({"location__region": None, "location__location": "US"}, "us", "US"),
        ({"location__region": None, "location__location": "nam4"}, "nam4", "nam4"),
        ({"location__region": None, "location__location": "global"}, None, "global"),
        ({"location__region": None, "location__location": "europe-west3-a"}, "europe-west3", "europe-west3-a"),
        ({"location__region": None, "location__location": None}, None, None),
    ],
)
def test_the_region_of_a_row(
    engine: Engine, tmp_path: Path, changed: dict[str, Any], region: str | None, source: str | None
) -> None:
    line = _line(engine, tmp_path, **changed)
    assert (line["RegionId"], line["x_SourceRegion"]) == (region, source)


@pytest.mark.parametrize(
    ("month", "start", "end"),
    [
        ("202610", "2026-10-01T07:00:00+00:00", "2026-11-01T07:00:00+00:00"),
        ("202611", "2026-11-01T07:00:00+00:00", "2026-12-01T08:00:00+00:00"),
        ("202612", "2026-12-01T08:00:00+00:00", "2027-01-01T08:00:00+00:00"),
    ],
)
def test_the_billing_period_is_the_invoice_month_of_the_pacific(
    engine: Engine, tmp_path: Path, month: str, start: str, end: str
) -> None:
    line = _line(engine, tmp_path, invoice__month=month)
    assert (line["BillingPeriodStart"].isoformat(), line["BillingPeriodEnd"].isoformat()) == (start, end)
    assert line["InvoiceId"] == month


@pytest.mark.parametrize(
    "start", ["2026-10-05T23:30:00Z", "2026-10-05 23:30:00 UTC", "2026-10-05 23:30:00+00:00", "2026-10-05 23:30:00",
              "2026-10-05 16:30:00-07:00"],
)  # fmt: skip
def test_the_usage_day_is_the_utc_date_of_the_start(engine: Engine, tmp_path: Path, start: str) -> None:
    line = _line(engine, tmp_path, usage_start_time=start)
    assert str(line["usage_date"]) == "2026-10-05"
    assert line["ChargePeriodStart"].isoformat() == "2026-10-05T23:30:00+00:00"


def test_a_start_that_is_no_time_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [as_text(gcp_row(usage_start_time="yesterday"))])
    with pytest.raises(BillingObjectError, match="usage_start_time: yesterday is not a date"):
        extracted(engine, path, "gcp_detailed")


def test_the_machine_is_told_by_the_system_labels(engine: Engine, tmp_path: Path) -> None:
    line = _line(engine, tmp_path)
    assert (line["x_InstanceType"], line["x_VCpus"], line["x_MemoryGiB"]) == ("n2-standard-4", 4, 16)
    assert (line["ResourceType"], line["ResourceName"], line["SubAccountType"]) == ("instances", "web-1", "Project")
    assert line["x_KeyDescription"] == line["ChargeDescription"] == "N2 Instance Core running in Frankfurt"


@pytest.mark.parametrize(
    ("labels", "reservation", "status"),
    [
        ({}, None, None),
        ({"reservation_name": "r1", "reservation_project_id": "p1"}, "p1/r1", "Used"),
        (
            {"reservation_name": "r1", "reservation_project_id": "p1", "is_unused_reservation": "true"},
            "p1/r1",
            "Unused",
        ),
        ({"is_unused_reservation": "true"}, None, "Unused"),
    ],
)
def test_an_unused_reservation_is_hardware_held_and_counts(
    engine: Engine, tmp_path: Path, labels: dict[str, str], reservation: str | None, status: str | None
) -> None:
    line = _line(engine, tmp_path, system_labels=system_labels(**labels))
    assert (line["CapacityReservationId"], line["CapacityReservationStatus"]) == (reservation, status)
    assert line["x_Disposition"] == "countable"


def test_a_charge_without_a_project_stays_without_a_sub_account(engine: Engine, tmp_path: Path) -> None:
    line = _line(engine, tmp_path, project__id=None, project__name=None)
    assert (line["SubAccountId"], line["SubAccountType"], line["BilledCost"]) == (None, None, Decimal("0.1"))


def test_both_consumption_models_together_are_the_usage(engine: Engine, tmp_path: Path) -> None:
    rows = [
        gcp_row(consumption_model__description="Default", usage__amount=3600.0),
        gcp_row(consumption_model__description="Compute Flexible CUDs", usage__amount=10800.0),
    ]
    found = _lines(engine, tmp_path, rows)
    assert sum(line["x_NormQuantity"] for line in found if line["x_Disposition"] == "countable") == 4
    assert [line["PricingCategory"] for line in found] == ["Standard", "Committed"]


def test_a_correction_pair_nets_to_the_corrected_usage(engine: Engine, tmp_path: Path) -> None:
    corrected = {
        "cost_type": "adjustment", "adjustment_info.id": "a-1", "adjustment_info.type": "USAGE_CORRECTION",
        "adjustment_info.mode": "COMPLETE_NEGATION_WITH_REMONETIZATION", "invoice.month": "202611",
    }  # fmt: skip
    rows = [
        gcp_row(),
        gcp_row(usage__amount=-14400.0, cost=-0.1) | corrected,
        gcp_row(usage__amount=7200.0) | corrected,
    ]
    found = _lines(engine, tmp_path, rows)
    assert sum(line["x_NormQuantity"] for line in found if line["x_Disposition"] == "countable") == 2
    assert [line["ChargeClass"] for line in found] == [None, "Correction", "Correction"]
    assert {str(line["usage_date"]) for line in found} == {"2026-10-05"}


def test_a_later_export_of_the_same_row_is_the_same_line(engine: Engine, tmp_path: Path) -> None:
    first, again = (_line(engine, tmp_path, export_time=f"2026-10-{day}T06:00:00Z") for day in ("05", "09"))
    assert first["x_LineId"] == again["x_LineId"]
    assert (first["x_SourceVersion"], again["x_SourceVersion"]) == ("2026-10-05T06:00:00Z", "2026-10-09T06:00:00Z")


def test_the_lines_carry_the_cost_and_rows_of_the_extract(engine: Engine, tmp_path: Path) -> None:
    rows = [as_text(gcp_row(**changed)) for changed, _, _ in REASONS]
    rows_read = extracted(engine, write_bill(tmp_path / "bill.csv", rows), "gcp_detailed")
    found = mapped_lines(engine, rows_read, "gcp_detailed")
    assert engine.to_arrow(differences(rows_read, found, "gcp_detailed")).num_rows == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")
def test_the_real_rows_of_koku_tie_to_an_independent_count(engine: Engine) -> None:
    with KOKU.open(newline="", encoding="utf-8") as stream:
        source = list(csv.DictReader(stream))
    found = lines(engine, KOKU, "gcp_standard").to_pylist()
    assert len(found) == len(source) == 25
    billed: dict[str, Decimal] = defaultdict(Decimal)
    for row in source:
        # The amounts are the only numbers in the literals; the names hold none after the word amount.
        amounts = [part.split(",")[0] for part in row["credits"].split("'amount': ")[1:]]
        billed[row["invoice.month"]] += Decimal(row["cost"]) + sum(map(Decimal, amounts))
    carried: dict[str, Decimal] = defaultdict(Decimal)
    for line in found:
        carried[line["InvoiceId"]] += line["BilledCost"]
    assert carried == billed
    assert Counter(str(line["usage_date"]) for line in found) == Counter(r["usage_start_time"][:10] for r in source)
    divisors = {"bytes": 2**30, "byte-seconds": 2**30 * 3600, "seconds": 3600, "requests": 1, "count": 1}
    for line, row in zip(found, source, strict=True):
        expected = _divided(Decimal(row["usage.amount"]), divisors[row["usage.unit"]])
        assert line["x_NormQuantity"] == expected
        assert line["x_Disposition"] == ("countable" if Decimal(row["usage.amount"]) else "no_emission")
    assert {line["RegionId"] for line in found} == {"us", None}


def _divided(amount: Decimal, divisor: int) -> Decimal:
    context = _wide()
    return context.divide(amount, Decimal(divisor)).quantize(ATTO, context=context)


def _wide() -> Any:
    with localcontext() as context:
        context.prec, context.rounding = 80, ROUND_HALF_EVEN
        return context.copy()
