"""The facts of a report: rounding, footing, honesty about what is missing."""

from __future__ import annotations

import re
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake.schemas import REPORT_FACTS
from offgridflow_pipeline.reporting.breakdowns import BREAKDOWNS
from offgridflow_pipeline.reporting.fact import ROUNDING, FactError, UnknownMetricError, fact_set, metric, metrics
from offgridflow_pipeline.reporting.facts import ReportFactsError, report_facts, tie_out
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.quality import SHARES
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, line, money_line, unmapped_line
from offgridflow_pipeline_tests.reporting.conftest import inventory_of

PROFILE = ReportProfile("acme", "Acme")


def facts_of(ledger: Ledger):
    return fact_set(report_facts(inventory_of(ledger), PROFILE))


def test_the_table_has_the_declared_schema_and_unique_ids(facts):
    assert facts.schema == REPORT_FACTS.arrow_schema
    ids = facts.column("fact_id").to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"f-[0-9a-f]{16}", value) for value in ids)


def test_every_metric_in_the_table_is_declared(facts):
    assert set(facts.column("metric").to_pylist()) <= set(metrics())


def test_a_missing_value_always_has_a_reason_and_a_value_never(facts):
    for row in facts.to_pylist():
        assert (row["value"] is None) == bool(row["not_available_reason"]), row["metric"]


@pytest.mark.parametrize("basis", ["location", "market"])
def test_leaves_add_up_by_provider_by_component_and_to_the_total(facts, basis):
    stated = fact_set(facts)
    name = f"scope3_{basis}"
    total = stated.one(f"total_{basis}").number
    leaves = [f for f in stated if f.metric == name and len(f.dims) == 3]
    providers = stated.along("cloud_provider", name, s3_category="1").values()
    components = stated.along("component", name, s3_category="1").values()
    for parts in (leaves, providers, components):
        assert sum((f.number for f in parts if f.value), Decimal(0)) == total
    assert stated.one(name).number == stated.one(name, s3_category="1").number == total


def test_every_number_is_within_half_a_unit_of_its_exact_value_when_it_is_a_leaf(facts):
    for fact in fact_set(facts):
        if fact.metric.startswith("scope3") and "component" in fact.dims and "cloud_provider" in fact.dims:
            assert abs(fact.number - Decimal(fact.exact)) <= Decimal("0.0005")


@pytest.mark.parametrize("axis", BREAKDOWNS)
@pytest.mark.parametrize("name", ["scope3_location", "scope3_market", "electricity"])
def test_a_printed_breakdown_foots_with_its_rounding_row(facts, axis, name):
    stated = fact_set(facts)
    total = {"scope3_location": "total_location", "scope3_market": "total_market"}.get(name, name)
    parts = [f for f in stated if f.metric == name and axis in f.dims and f.value]
    assert sum((f.number for f in parts), Decimal(0)) == stated.one(total).number
    rounding = [f for f in parts if f.dims[axis] == ROUNDING]
    # n parts, each off by at most half a unit of the third decimal, and the leaves of the total likewise
    assert all(abs(f.number) <= Decimal("0.0005") * (len(parts) + 6) for f in rounding)


@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_dispositions_and_reasons_add_up_to_the_bill_to_the_cent(facts, currency):
    stated = fact_set(facts)
    bill = stated.one("billed_cost", currency=currency).number
    parts = stated.along("disposition", "billed_cost", currency=currency)
    assert sum(f.number for f in parts.values()) == bill
    for disposition in ("no_emission", "unmapped"):
        reasons = stated.along("reason", "billed_cost", currency=currency, disposition=disposition)
        assert sum(f.number for f in reasons.values()) == parts[disposition].number


@pytest.mark.parametrize("name", sorted(SHARES))
def test_shares_add_up_to_one(facts, name):
    shares = fact_set(facts).along(SHARES[name][0], name)
    assert sum(f.number for f in shares.values()) == 1


def test_coverage_is_the_mapped_and_proxied_part_of_what_could_emit():
    ledger = Ledger(
        [
            line(1, billed_cost=Decimal("60")),
            line(2, billed_cost=Decimal("20"), disposition="proxied"),
            unmapped_line(3, "20"),
            money_line(4, "500"),
        ]
    )
    stated = facts_of(ledger)
    assert stated.one("coverage_cost", currency="USD").number == Decimal("0.8000")
    assert stated.one("coverage_lines").number == Decimal("0.6667")


def test_change_compares_rounded_totals_of_adjoining_months(facts):
    stated = fact_set(facts)
    now = stated.one("total_location").number
    then = next(f for f in stated if f.metric == "total_location" and f.period_start.month == 9).number
    assert stated.one("change_location").number == (now / then - 1).quantize(Decimal("0.0001"))


def test_a_gap_before_the_month_gives_no_change(inventories, profile):
    stated = fact_set(report_facts(inventories[0], profile, previous=[inventories[2]]))
    assert stated.one("change_location").reason == "No earlier month to compare with"


def test_a_comparative_is_what_that_month_itself_reported(inventories, profile, facts):
    september = fact_set(report_facts(inventories[1], profile))
    stated = fact_set(facts)
    for name in ("total_location", "total_market", "scope3_location", "electricity"):
        own = september.one(name)
        assert stated.one(name, start=own.period_start).value == own.value
        assert stated.one(name, start=own.period_start).fact_id == own.fact_id


def test_emissions_per_cost_need_one_currency(facts):
    assert fact_set(facts).one("intensity_cost_location").reason == "Billed in 2 currencies"
    stated = facts_of(Ledger([line(1, billed_cost=Decimal("10"), co2e_lbm_kg=Decimal("100"))]))
    intensity = stated.one("intensity_cost_location")
    # 100 kg + 0.123 kg embodied + 0.05 kg upstream, rounded by component: 0.100 + 0.000 + 0.000 t over 10 USD
    assert (intensity.unit, intensity.number) == ("tCO2e_per_USD", Decimal("0.01000000"))


def test_scopes_outside_the_edition_are_not_available_and_not_zero(facts):
    stated = fact_set(facts)
    for name in ("scope1", "scope2_location", "scope2_market"):
        assert stated.one(name).value is None
        assert "Not in this edition" in stated.one(name).reason


def test_a_missing_component_is_not_available_and_the_rest_still_counts():
    stated = facts_of(
        Ledger([line(1, upstream_energy_kg=None, co2e_lbm_kg=Decimal("2000"), embodied_kg=Decimal("500"))])
    )
    assert "No published upstream" in stated.one("scope3_location", s3_category="1", component="upstream").reason
    assert stated.one("total_location").number == Decimal("2.500")


def test_an_empty_month_states_that_it_has_no_data():
    stated = facts_of(Ledger())
    assert stated.one("total_location").reason == "No billed usage with a model in this month"
    assert stated.one("billed_lines").number == 0


def test_a_month_of_money_rows_only_is_no_zero_footprint():
    assert facts_of(Ledger([money_line(1, "10")])).one("total_location").value is None


def test_an_unknown_provider_is_reported_as_other():
    stated = facts_of(Ledger([line(1, x_Provider="hetzner", kwh=Decimal("4000"))]))
    assert stated.one("electricity", cloud_provider="other").number == Decimal("4.000")


def test_facts_of_another_tenant_are_refused(inventories):
    with pytest.raises(ReportFactsError, match="'acme'"):
        report_facts(inventories[0], ReportProfile("other", "Other"))


def test_a_later_or_repeated_month_is_no_comparative(inventories, profile):
    for previous in ([inventories[0]], [inventories[1], inventories[1]]):
        with pytest.raises(ReportFactsError, match="do not lie before"):
            report_facts(inventories[1], profile, previous=previous)


def test_ids_do_not_depend_on_values():
    one, two = facts_of(Ledger([line(1)])), facts_of(Ledger([line(1, co2e_lbm_kg=Decimal(9))]))
    assert one.one("total_location").fact_id == two.one("total_location").fact_id


def test_a_changed_row_is_noticed_by_its_id(facts):
    rows = facts.to_pylist()
    rows[20]["metric"] = "scope1"
    with pytest.raises(FactError, match="is not that of"):
        fact_set(pa.Table.from_pylist(rows, schema=facts.schema))


def test_an_undeclared_metric_is_refused():
    with pytest.raises(UnknownMetricError, match="metrics.csv"):
        metric("scope4")


def test_the_facts_tie_to_the_inventory_and_a_planted_total_does_not(facts, inventories):
    assert tie_out(facts, inventories[0]) == []
    rows = facts.to_pylist()
    for row in rows:
        if row["metric"] == "total_location" and row["month"] == f"{row['period_start']:%Y-%m}":
            row["value"] = "4.594"
    planted = pa.Table.from_pylist(rows, schema=facts.schema)
    (difference,) = tie_out(planted, inventories[0])
    assert "total_location states 4.594" in difference


MASSES = st.decimals(0, 10**6, places=12, allow_nan=False)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["aws", "azure", "x"]), MASSES, st.none() | MASSES), min_size=1, max_size=6))
def test_random_ledgers_foot_and_tie(entries):
    ledger = Ledger(
        [
            line(n, x_Provider=provider, co2e_lbm_kg=use, embodied_kg=embodied)
            for n, (provider, use, embodied) in enumerate(entries)
        ]
    )
    inventory = inventory_of(ledger)
    table = report_facts(inventory, PROFILE)
    assert tie_out(table, inventory) == []
    stated = fact_set(table)
    leaves = [f.number for f in stated if f.metric == "scope3_location" and len(f.dims) == 3 and f.value]
    assert sum(leaves, Decimal(0)) == stated.one("total_location").number
