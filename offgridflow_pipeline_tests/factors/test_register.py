"""The register: loading, vintages by usage and knowledge date, epochs, attribution."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.factors.register import DATED_KINDS, FactorSetError, load_factor_set
from offgridflow_pipeline_tests.factors.samples import KNOWN_TODAY, MIDSUMMER_2024, shared_rows

FACTORS = load_factor_set()
KEYS = sorted({f.factor_key for kind in DATED_KINDS for f in FACTORS.of_kind(kind)})
DAYS = st.dates(date(2016, 1, 1), date(2033, 12, 31))


def test_the_set_is_read_in_a_quarter_of_a_cpu_second() -> None:
    code = (
        "import time; start = time.process_time();"
        "from offgridflow_pipeline.factors.register import load_factor_set; s = load_factor_set();"
        "[s.of_kind(kind) for kind in s.kinds]; print(time.process_time() - start)"
    )
    fastest = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert fastest < 0.25


def test_the_set_has_a_name_and_refuses_to_be_another() -> None:
    assert load_factor_set("ofg-2026.11") is FACTORS
    with pytest.raises(FactorSetError, match=r"ships 'ofg-2026\.11'"):
        load_factor_set("ofg-1999.01")


@given(st.sampled_from(KEYS), DAYS, st.dates(date(2016, 1, 1), date(2027, 1, 1)))
def test_no_usage_gets_a_later_or_a_not_yet_published_factor(key: str, usage: date, as_of: date) -> None:
    chosen = FACTORS.one(key, usage, as_of)
    if chosen is not None:
        assert chosen.valid_from <= usage
        assert chosen.known_from <= as_of
        assert chosen.lag_years(usage) <= 3


@given(st.sampled_from(KEYS), DAYS, st.dates(date(2016, 1, 1), date(2027, 1, 1)))
def test_the_choice_is_the_greatest_validity_then_the_greatest_knowledge(key: str, usage: date, as_of: date) -> None:
    candidates = [f for f in FACTORS.get(key) if f.valid_from <= usage and f.known_from <= as_of]
    best = max(candidates, key=lambda f: (f.valid_from, f.known_from), default=None)
    if best is not None and best.valid_to is not None and usage.year - best.valid_to.year > 3:
        best = None
    assert FACTORS.one(key, usage, as_of) == best


@settings(max_examples=300)
@given(st.sampled_from(KEYS), DAYS, st.integers(0, 400), st.booleans())
def test_within_a_factor_epoch_neither_choice_nor_lag_changes(key: str, day: date, later: int, technical: bool) -> None:
    other = day + timedelta(days=later)
    if FACTORS.epoch_start(day) != FACTORS.epoch_start(other):
        return
    first, second = (FACTORS.one(key, d, KNOWN_TODAY, technical) for d in (day, other))
    assert first == second
    if first is not None:
        assert technical or first.lag_years(day) == second.lag_years(other)  # type: ignore[union-attr]


def test_epochs_start_with_every_calendar_year_and_every_validity() -> None:
    starts = FACTORS.boundaries()
    assert list(starts) == sorted(set(starts))
    assert {date(2024, 1, 1), date(2024, 7, 1), date(2024, 4, 1), date(2026, 1, 1)} <= set(starts)
    assert FACTORS.epoch_start(date(2024, 7, 1)) == date(2024, 7, 1)
    assert FACTORS.epoch_start(date(2024, 6, 30)) == date(2024, 4, 1)
    assert FACTORS.epoch_start(date(2001, 1, 1)) == date.min


def test_a_technical_coefficient_serves_earlier_use_and_earlier_knowledge() -> None:
    assert FACTORS.one("pue/aws/us-east-1", date(2022, 1, 1), date(2023, 1, 1)) is None
    backcast = FACTORS.one("pue/aws/us-east-1", date(2022, 1, 1), date(2023, 1, 1), technical=True)
    assert backcast is not None
    assert backcast.value == Decimal("1.15")


def test_superseded_editions_are_found_by_an_older_knowledge_date() -> None:
    usage = date(2023, 6, 1)
    now = FACTORS.one("grid.location/EE", usage, KNOWN_TODAY)
    then = FACTORS.one("grid.location/EE", usage, date(2025, 1, 1))
    assert now is not None
    assert then is not None
    assert (then.value, now.value) == (Decimal("0.69"), Decimal("0.543"))
    assert now.source_id != then.source_id


def test_an_unknown_uid_kind_or_coefficient_is_refused_by_name() -> None:
    factor = FACTORS.get("grid.location/US/SRVC")[-1]
    assert FACTORS.by_uid(factor.factor_uid) is factor
    with pytest.raises(FactorSetError, match=r"not in set ofg-2026\.11"):
        FACTORS.by_uid("0" * 64)
    with pytest.raises(FactorSetError, match=r"no kind 'grid\.dreams'"):
        FACTORS.of_kind("grid.dreams")
    with pytest.raises(FactorSetError, match=r"0 rows for 'coefficient/luck'"):
        FACTORS.number("coefficient/luck")
    with pytest.raises(FactorSetError, match="no number 'horsepower'"):
        factor.number("horsepower")
    assert FACTORS.get("grid.dreams/US") == ()


def test_exports_carry_the_sentences_of_the_sources_used_and_mask_facts_only() -> None:
    british, swedish, french = (
        FACTORS.get(key)[-1] for key in ("grid.location/GB", "grid.location/ember/SE", "grid.location/FR")
    )
    skylake = FACTORS.get("cpu.power/intel-skylake-server")[0]
    sentences = FACTORS.attributions([british, british, swedish, french, skylake])
    assert len(sentences) == 4
    assert "Contains public sector information licensed under the Open Government Licence v3.0." in sentences
    assert any(text.startswith("Carbon intensity: Hannah Ritchie") for text in sentences)
    assert any(text.startswith("Source: European Environment Agency") for text in sentences)
    assert any("SPEC and SPECpower_ssj are its trademarks" in text for text in sentences)
    for key in (
        "grid.residual/DE",
        "grid.residual/US/SRVC",
        "grid.location/CA/CA-QC",
        "host.power/aws/m5.24xlarge",
    ):
        assert FACTORS.source(FACTORS.get(key)[0]).masks_values, key
    assert not FACTORS.source(british).masks_values


def test_what_must_not_be_carried_is_not_carried() -> None:
    cited = set(FACTORS.sources)
    forbidden = {
        "boavizta-2.5.0",
        "gsf-rtc-2026-03",
        "electricitymaps-co2js-0.19",
        "oefdb-2022-01",
        "ember-co2js-0.19",
    }
    assert not cited & forbidden
    for kind in FACTORS.kinds:
        assert not any("themisiq" in f.source_locator for f in FACTORS.of_kind(kind))


def test_methane_has_no_single_ar6_value() -> None:
    origins = {f.factor_key: f.value for f in FACTORS.of_kind("gwp") if f.factor_key.startswith("gwp/AR6-100/CH4")}
    assert origins == {
        "gwp/AR6-100/CH4/biogenic": Decimal(27),
        "gwp/AR6-100/CH4/combustion": Decimal(27),
        "gwp/AR6-100/CH4/fossil_fugitive": Decimal("29.8"),
    }


@pytest.mark.parametrize(
    ("file", "source_id", "prefix"),
    [
        ("grid_subnational.csv", "us-egrid-2023-rev2", "grid.location/US/"),
        ("grid_subnational.csv", "us-egrid-2022", "grid.location/US/"),
        ("grid_residual_mix.csv", "green-e-2025", "grid.residual/US/"),
    ],
)
def test_the_register_holds_exactly_the_published_subregion_figures(file: str, source_id: str, prefix: str) -> None:
    published = {
        prefix + r["geography"]: Decimal(r["kgco2e_per_unit"])
        for r in shared_rows(file)
        if r["source_id"] == source_id and "marginal" not in r["method"]
    }
    held = {
        f.factor_key: f.value
        for f in FACTORS.of_kind(prefix.partition("/")[0])
        if f.source_id == source_id and f.factor_key.startswith(prefix)
    }
    assert held == published
    assert len(held) == 27


def test_the_register_holds_every_country_figure_of_both_ember_releases() -> None:
    published = [
        r
        for r in shared_rows("grid_country.csv")
        if r["source_id"].startswith("owid") and (r["geography_kind"] == "country" or r["geography_name"] == "World")
    ]
    held = [f for f in FACTORS.of_kind("grid.location") if f.factor_key.startswith("grid.location/ember/")]
    assert len(held) == len(published)
    assert sorted(f.value for f in held if f.value is not None) == sorted(
        Decimal(r["kgco2e_per_unit"]) for r in published
    )
    assert all(f.boundary == "lifecycle" for f in held)


def test_magnitudes_of_the_readme() -> None:
    expected = {
        ("grid.location/FR", 2023): "0.047",
        ("grid.location/ember/FR", 2023): "0.05363",
        ("grid.location/PL", 2023): "0.595",
        ("grid.location/US/SRVC", 2023): "0.270488923633",
        ("grid.location/GB", 2025): "0.177",
        ("grid.location/GB", 2026): "0.13096",
    }
    for (key, year), value in expected.items():
        chosen = FACTORS.one(key, date(year, 12, 31), KNOWN_TODAY)
        assert chosen is not None
        assert chosen.value == Decimal(value), key
    average = FACTORS.one("grid.location/US", date(2023, 6, 1), KNOWN_TODAY)
    assert average is not None
    assert round(average.value or 0, 3) == Decimal("0.350")
    assert FACTORS.number("spend/US/518210") == Decimal("0.093")
    assert FACTORS.one("grid.location/US/SRVC", MIDSUMMER_2024, KNOWN_TODAY) is not None
