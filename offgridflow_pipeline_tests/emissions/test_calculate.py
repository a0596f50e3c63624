"""From lines to ledger: what is computed, what is null, what is zero, and what is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from offgridflow_pipeline.emissions.calculate import CalculationError, calculate
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import EMISSION_LINES, MEASURES, VERDICT_COLUMNS
from offgridflow_pipeline_tests.emissions.builders import AS_OF, FACTORS, arrow_lines, ec2, ledger, line, one

COMPONENTS = [name for name in MEASURES if name.startswith("it_kwh_")]


def test_the_ledger_has_the_declared_columns_and_types() -> None:
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines([ec2("BoxUsage:m5.large")]))
        found = engine.reader(calculate(engine, lines, FACTORS, as_of=AS_OF), EMISSION_LINES).read_all()
        plain = engine.reader(calculate(engine, lines, FACTORS, as_of=AS_OF)).read_all()
    assert found.schema.equals(EMISSION_LINES.arrow_schema)
    differing = [f.name for f in plain.schema if f.type != EMISSION_LINES.arrow_schema.field(f.name).type]
    assert differing == []


def test_no_lines_give_an_empty_ledger() -> None:
    assert ledger([]) == []


def test_only_the_columns_asked_for_are_needed_and_computed() -> None:
    columns = ["usage_date", "disposition", "kwh"]
    with Engine(256, 1) as engine:
        needed = ["usage_date", "RegionId", "x_UsageKey", "x_NormQuantity"]
        from offgridflow_pipeline.lake.schemas import USAGE_KEY_COLUMNS

        data = arrow_lines([ec2("BoxUsage:m5.xlarge", 24)]).select(list(dict.fromkeys([*needed, *USAGE_KEY_COLUMNS])))
        lines = engine.register("usage_lines", data)
        result = calculate(engine, lines, FACTORS, as_of=AS_OF, columns=columns)
        assert list(result.columns) == columns
        assert "co2e" not in engine.connection.compile(result)
        assert engine.reader(result).read_all().to_pylist() == [
            {"usage_date": date(2024, 6, 15), "disposition": "mapped", "kwh": one(ec2("BoxUsage:m5.xlarge", 24))["kwh"]}
        ]


def test_identity_cost_and_lineage_are_carried_over() -> None:
    found = one(ec2("BoxUsage:m5.large", ResourceId="i-1", BilledCost=Decimal("-12.34"), BillingCurrency="EUR"))
    assert found["line_id"] == "000001"
    assert (found["ResourceId"], found["billed_cost"], found["BillingCurrency"]) == ("i-1", Decimal("-12.34"), "EUR")
    assert (found["method_id"], found["as_of"], found["run_id"]) == ("ofg-1", AS_OF, "test")
    assert found["factor_set_sha"] == FACTORS.sha


def test_a_line_without_emission_is_zero_with_a_reason_whatever_its_quantity() -> None:
    tax = {"x_Disposition": "no_emission", "x_DispositionReason": "tax", "x_LineItemType": "Tax"}
    for quantity in (1, None, "-3.5"):
        found = one(ec2("BoxUsage:m5.large", quantity, **tax))
        assert (found["disposition"], found["reason"], found["rule_id"]) == ("no_emission", "tax", "STAGING")
        assert {found[name] for name in MEASURES} == {Decimal(0)}
        assert found["scope"] is None


def test_an_unmapped_line_is_null_with_a_reason() -> None:
    found = one(line("USE1-Requests-Tier1", 1000, "Requests", x_ServiceCode="AmazonS3"))
    assert (found["disposition"], found["reason"]) == ("unmapped", "request_priced")
    assert {found[name] for name in MEASURES} == {None}
    assert found["factor_ids"] == [] and found["flags"] == []


@pytest.mark.parametrize(("quantity", "unit"), [(None, "Hours"), (1, None)])
def test_a_mapped_key_without_quantity_or_unit_is_unmapped(quantity, unit) -> None:
    found = one(ec2("BoxUsage:m5.large", quantity, unit))
    assert (found["disposition"], found["reason"], found["kwh"]) == ("unmapped", "unit", None)


def test_a_missing_quantity_does_not_unmap_the_other_lines_of_the_key() -> None:
    found = ledger([ec2("BoxUsage:m5.large", 1), ec2("BoxUsage:m5.large", None)])
    assert [row["disposition"] for row in found] == ["mapped", "unmapped"]


def test_measures_that_are_not_available_are_null_and_say_why() -> None:
    network = one(ec2("DataTransfer-Out-Bytes", 10, "GiB", RegionId="eu-west-1"))
    assert (network["embodied_kg"], network["embodied_status"]) == (None, "embodied_missing")
    assert (network["upstream_energy_kg"], network["upstream_status"]) == (None, "missing")
    assert [network[name] for name in COMPONENTS] == [None, None, None, None, Decimal("0.01")]
    assert network["it_kwh"] == Decimal("0.01")
    memory = one(line("Fargate-GB-Hours", 10, "GiB-Hours", x_ServiceCode="AmazonECS"))
    assert (memory["embodied_kg"], memory["embodied_status"]) == (Decimal(0), "embodied_on_vcpu_row")


def test_an_unknown_region_gets_the_providers_mean_with_a_flag() -> None:
    found = one(ec2("BoxUsage:m5.large", 1, RegionId=None))
    assert "region_unknown" in found["flags"]
    assert (found["grid_level"], found["dq_score"]) == ("region_unknown", 5)
    assert one(ec2("BoxUsage:m5.large", 1, RegionId="mars-north-1"))["co2e_lbm_kg"] == found["co2e_lbm_kg"]


def test_lines_of_two_years_take_the_factors_of_their_year() -> None:
    days = [date(2024, 12, 31), date(2025, 1, 1)]
    region = {"RegionId": "eu-west-2"}
    together = ledger([ec2("BoxUsage:m5.large", 1, usage_date=day, **region) for day in days])
    alone = [one(ec2("BoxUsage:m5.large", 1, usage_date=day, **region)) for day in days]
    assert [row["co2e_lbm_kg"] for row in together] == [row["co2e_lbm_kg"] for row in alone]
    # DESNZ 2024: 0.20705, 2025: 0.177 kg per kWh.
    assert together[0]["co2e_lbm_kg"] > together[1]["co2e_lbm_kg"]
    assert together[0]["factor_ids"] != together[1]["factor_ids"]


def test_every_verdict_column_of_a_counted_line_is_filled() -> None:
    found = one(ec2("BoxUsage:m5.xlarge", 24))
    empty = {column.name for column in VERDICT_COLUMNS if found[column.name] in (None, [])}
    assert empty == {"reason", "proxy_rule"}
    assert (found["scope"], found["s3_category"], found["ghg_source"]) == ("3", 1, "cloud_service")
    assert found["uncertainty_groups"] == sorted(found["uncertainty_groups"])
    assert "host.power/aws/m5.24xlarge" in found["uncertainty_groups"]
    known = {FACTORS.by_uid(uid).factor_key for uid in (*found["factor_ids"], *found["coefficient_ids"])}
    assert {"grid.location/US/SRVC", "grid.residual/US/SRVC", "pue/aws/us-east-1"} <= known


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "ofg-2"}, "Method 'ofg-2'"), ({"columns": ["kwh", "tons"]}, r"\['tons'\]")],
)
def test_an_unknown_method_or_column_is_refused(options, message) -> None:
    with pytest.raises(CalculationError, match=message):
        ledger([ec2("BoxUsage:m5.large")], **options)


@pytest.mark.parametrize("quantity", ["1000000000000", "-1000000000000"])
def test_a_quantity_beyond_exact_arithmetic_is_refused_with_its_value(quantity) -> None:
    with pytest.raises(CalculationError, match=f"quantity {quantity}"):
        ledger([ec2("BoxUsage:m5.large"), ec2("BoxUsage:m5.large", quantity)])


def test_region_text_from_a_bill_cannot_break_the_join() -> None:
    strange = ['a,b"c', "line\nbreak", "\\N", "NULL", " ", "é'|", "\r"]
    found = ledger([ec2("BoxUsage:m5.large", 1, RegionId=region) for region in strange])
    assert {row["disposition"] for row in found} == {"mapped"}
    assert [row["RegionId"] for row in found] == strange


def test_sums_are_a_fixed_point_type() -> None:
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines([ec2("BoxUsage:m5.large")] * 3))
        result = calculate(engine, lines, FACTORS, as_of=AS_OF, columns=["kwh"])
        total = engine.reader(result.aggregate(kwh=result.kwh.sum())).read_all()
    assert total.schema.field("kwh").type == pa.decimal128(38, 12)
