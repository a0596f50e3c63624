"""Which figure serves a region on a day: the cases of carbon-method.md sections 7, 9, 10 and 11."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.factors import selection
from offgridflow_pipeline.factors.register import Factor, load_factor_set
from offgridflow_pipeline_tests.factors.samples import KNOWN_TODAY, MIDSUMMER_2024

FACTORS = load_factor_set()
REGIONS = [tuple(f.factor_key.split("/")[1:]) for f in FACTORS.of_kind("region")]


def grid(region: str | None, day: date = MIDSUMMER_2024, provider: str = "aws", as_of: date = KNOWN_TODAY):  # type: ignore[no-untyped-def]
    return selection.grid_location(FACTORS, provider, region, day, as_of)


def market(region: str | None, day: date = MIDSUMMER_2024, provider: str = "aws", **options: bool):  # type: ignore[no-untyped-def]
    location = grid(region, day, provider)
    return selection.grid_market(FACTORS, provider, region, day, KNOWN_TODAY, location, **options)


def upstream(region: str, day: date, provider: str = "aws"):  # type: ignore[no-untyped-def]
    return selection.upstream(FACTORS, provider, region, day, KNOWN_TODAY, grid(region, day, provider))


def test_northern_virginia_is_the_subregion_carried_forward_one_year() -> None:
    choice = grid("us-east-1")
    assert choice.value == Decimal("0.270488923633")
    assert (choice.level, choice.lag_years, choice.flags) == ("egrid_subregion", 1, ("carried_forward",))
    assert (choice.boundary, choice.gwp_basis) == ("direct", "AR5-100")


@pytest.mark.parametrize(("as_of", "value", "lag"), [(date(2025, 3, 1), "0.20705", 1), (date(2025, 7, 1), "0.177", 0)])
def test_british_use_gets_the_edition_known_at_the_time(as_of: date, value: str, lag: int) -> None:
    choice = grid("eu-west-2", date(2025, 3, 10), as_of=as_of)
    assert (choice.value, choice.lag_years) == (Decimal(value), lag)


@pytest.mark.parametrize(
    ("region", "day", "level", "boundary"),
    [
        ("eu-west-3", date(2024, 2, 1), "country", "direct"),
        ("ca-central-1", date(2024, 2, 1), "subdivision", "consumption"),
        ("ap-southeast-2", date(2024, 2, 1), "subdivision", "direct"),
        ("cn-north-1", date(2024, 2, 1), "subdivision", "direct"),
        ("ap-southeast-6", date(2024, 2, 1), "country", "direct"),
        ("ap-south-1", date(2024, 5, 1), "country", "direct"),
        ("ap-south-1", date(2024, 2, 1), "ember", "lifecycle"),
        ("eu-west-1", date(2022, 2, 1), "ember", "lifecycle"),
        ("eu-central-2", date(2024, 2, 1), "ember", "lifecycle"),
    ],
)
def test_chains_end_where_the_method_says(region: str, day: date, level: str, boundary: str) -> None:
    choice = grid(region, day)
    assert (choice.level, choice.boundary) == (level, boundary)
    assert ("lifecycle" in choice.flags) == (boundary == "lifecycle")


def test_the_australian_year_starts_in_july_and_canberra_is_new_south_wales() -> None:
    assert grid("ap-southeast-2", date(2024, 6, 30)).value == Decimal("0.68")
    assert grid("ap-southeast-2", date(2024, 7, 1)).value == Decimal("0.66")
    assert grid("australiacentral", date(2024, 7, 1), "azure").value == Decimal("0.66")


def test_an_ember_figure_is_the_release_known_at_the_time() -> None:
    before = FACTORS.one("grid.location/ember/LT", date(2024, 6, 1), date(2026, 1, 1))
    after = FACTORS.one("grid.location/ember/LT", date(2024, 6, 1), KNOWN_TODAY)
    assert before is not None
    assert after is not None
    assert (round(before.value or 0, 3), round(after.value or 0, 3)) == (Decimal("0.139"), Decimal("0.118"))
    assert after.factor_uid != before.factor_uid


def test_a_factor_more_than_three_years_old_gives_way_to_the_next_level_and_then_to_nothing() -> None:
    assert grid("us-east-1", date(2026, 12, 31)).lag_years == 3
    assert grid("us-east-1", date(2027, 1, 1)).level == "ember"
    assert grid("us-east-1", date(2040, 1, 1)).value is None
    assert market("us-east-1", date(2040, 1, 1)).value is None


def test_before_anything_was_known_there_is_no_factor() -> None:
    choice = grid("eu-central-2", as_of=date(2025, 1, 1))
    assert choice.value is None
    assert choice.factor_ids == ()


def test_an_unknown_region_is_the_mean_of_the_providers_regions_in_service() -> None:
    members = [
        r
        for p, r in REGIONS
        if p == "aws" and (info := selection.region(FACTORS, p, r)) is not None and info.in_service
    ]
    values = [grid(member).value for member in members]
    choice = grid(None)
    assert choice == grid("moon-base-1")
    assert choice.value is not None
    assert abs(choice.value - sum(values) / len(values)) < Decimal("1e-25")
    assert len(members) == 38
    assert {"region_unknown", "lifecycle"} <= set(choice.flags)
    assert market(None).mbm_method == "lbm_fallback"


def test_an_unknown_provider_is_the_world() -> None:
    choice = grid("fsn1", provider="other")
    assert choice.factor is not None
    assert choice.factor.factor_key == "grid.location/ember/world"
    assert "region_unknown" in choice.flags


def test_oracle_regions_have_the_factor_of_their_country() -> None:
    assert grid("eu-frankfurt-1", provider="oci").value == grid("germanynorth", provider="azure").value
    assert grid("us-ashburn-1", provider="oci").value == grid("us-east-1", provider="aws").value
    assert grid("unheard-of-1", provider="oci").level == "region_unknown"


@pytest.mark.parametrize("row", [row for row in FACTORS.of_kind("region") if row.attributes.get("members")])
def test_every_multi_region_is_the_mean_of_regions_in_service(row: Factor) -> None:
    _, provider, code = row.factor_key.split("/")
    members = [selection.region(FACTORS, provider, member) for member in row.attributes["members"]]
    assert all(member is not None and member.in_service for member in members)
    values = [grid(member.region, provider=provider).value for member in members if member is not None]
    choice = grid(code, provider=provider)
    assert abs(choice.value - sum(values) / len(values)) < Decimal("1e-20")
    assert "multi_region" in choice.flags


def test_a_multi_region_is_a_mean_and_never_a_sum() -> None:
    members = selection.region(FACTORS, "gcp", "us").members  # type: ignore[union-attr]
    values = [grid(member, provider="gcp").value for member in members]
    choice = grid("us", provider="gcp")
    assert min(values) < choice.value < max(values)
    assert "multi_region" in choice.flags
    europe = grid("eu", provider="gcp")
    assert europe.factor is not None
    assert europe.factor.factor_key == "grid.location/EU27"


def test_market_of_virginia_is_the_residual_mix() -> None:
    choice = market("us-east-1")
    assert (choice.value, choice.mbm_method) == (Decimal("0.273012711579"), "residual_mix")


def test_austria_has_no_residual_mix_and_falls_to_its_location_factor_with_a_flag() -> None:
    choice = market("austriaeast", provider="azure")
    assert (choice.value, choice.mbm_method) == (grid("austriaeast", provider="azure").value, "lbm_fallback")
    assert choice.flags == ("lbm_fallback", "no_residual_mix")


def test_the_netherlands_had_a_residual_mix_until_2023() -> None:
    assert market("westeurope", date(2023, 6, 1), "azure").mbm_method == "residual_mix"
    assert market("westeurope", date(2024, 6, 1), "azure").mbm_method == "lbm_fallback"


def test_a_provider_claim_scales_the_location_factor_unless_the_tenant_refuses_it() -> None:
    claim = market("us-central1", provider="gcp")
    share = FACTORS.one("grid.provider_claim/gcp/us-central1", MIDSUMMER_2024, KNOWN_TODAY)
    assert share is not None
    assert claim.mbm_method == "provider_claim"
    assert claim.value == grid("us-central1", provider="gcp").value * (1 - (share.value or 0))
    assert market("us-central1", provider="gcp", provider_claims=False).mbm_method == "residual_mix"


@given(st.sampled_from(REGIONS), st.dates(date(2019, 1, 1), date(2028, 1, 1)))
def test_market_is_null_only_where_location_is(region: tuple[str, str], day: date) -> None:
    provider, name = region
    location = grid(name, day, provider)
    choice = market(name, day, provider)
    assert (choice.value is None) == (location.value is None)
    assert (choice.mbm_method is None) == (location.value is None)
    if location.value is not None:
        assert location.factor_ids
        assert all(FACTORS.by_uid(uid) for uid in (*location.factor_ids, *choice.factor_ids))
        assert selection.pue(FACTORS, provider, name, day, KNOWN_TODAY).value >= 1


@pytest.mark.parametrize(
    ("provider", "region", "value", "level"),
    [
        ("aws", "us-east-1", "1.15", "region"),
        ("aws", "ap-southeast-2", "1.27", "area"),
        ("aws", "eu-west-2", "1.11", "area"),
        ("aws", None, "1.15", "fleet"),
        ("azure", "eastus", "1.14", "region"),
        ("azure", "uksouth", "1.16", "area"),
        ("gcp", "us-central1", "1.09", "region"),
        ("gcp", "us-east4", "1.085", "region"),
        ("gcp", "europe-west3", "1.10", "fleet"),
        ("oci", "eu-frankfurt-1", "1.58", "industry"),
    ],
)
def test_pue_goes_from_region_to_area_to_fleet(provider: str, region: str | None, value: str, level: str) -> None:
    choice = selection.pue(FACTORS, provider, region, MIDSUMMER_2024, KNOWN_TODAY)
    assert (choice.value, choice.level) == (Decimal(value), level)


def test_a_pue_of_a_later_year_is_marked_as_backcast() -> None:
    assert "backcast" in selection.pue(FACTORS, "aws", "us-east-1", date(2023, 5, 1), KNOWN_TODAY).flags
    assert "backcast" not in selection.pue(FACTORS, "aws", "us-east-1", date(2026, 5, 1), KNOWN_TODAY).flags


def test_british_upstream_adds_supply_losses_and_the_supply_of_losses() -> None:
    choice = upstream("eu-west-2", date(2025, 3, 1))
    assert (choice.kg_per_kwh, choice.status) == (Decimal("0.0684"), "computed")
    assert len(choice.factor_ids) == 3


def test_american_upstream_is_losses_only() -> None:
    choice = upstream("us-east-1", MIDSUMMER_2024)
    expected = Decimal("0.270488923633") * Decimal("0.042") / Decimal("0.958")
    assert choice.status == "td_only"
    assert abs(choice.kg_per_kwh - expected) < Decimal("1e-25")


@pytest.mark.parametrize(
    ("region", "day", "status"),
    [
        ("eu-central-2", MIDSUMMER_2024, "included_in_lifecycle"),
        ("ca-central-1", MIDSUMMER_2024, "td_included"),
        ("eu-west-1", MIDSUMMER_2024, "missing"),
        ("ap-southeast-2", MIDSUMMER_2024, "missing"),
        ("ap-southeast-2", date(2025, 8, 1), "computed"),
    ],
)
def test_upstream_is_null_with_a_status_and_never_zero(region: str, day: date, status: str) -> None:
    choice = upstream(region, day)
    assert choice.status == status
    assert (choice.kg_per_kwh is None) == (status != "computed")


def test_regions_carry_country_subdivision_and_subregion() -> None:
    info = selection.region(FACTORS, "aws", "US-EAST-1")
    assert info is not None
    assert (info.country, info.subdivision, info.egrid) == ("US", "US-VA", "SRVC")
    assert selection.region(FACTORS, "azure", "northeurope").country == "IE"  # type: ignore[union-attr]
    assert selection.region(FACTORS, "azure", "westus").egrid == "CAMX"  # type: ignore[union-attr]
    assert selection.region(FACTORS, "aws", None) is None
