"""Tests of the generated carbon statements: units, scopes that add up, and a month restated by a newer model."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline_tests.demo.delivered import feed, rows_of


def test_aws_states_tonnes_in_partitions_of_model_version_and_period(bills: DemoBills) -> None:
    export = feed(bills, "aws_carbon_export")
    files = sorted(export.uri.rglob("*.parquet"))
    assert [tuple(path.parts[-3:-1]) for path in files] == [
        ("model_version=v3.0.0", "usage_period=2026-08"), ("model_version=v3.0.0", "usage_period=2026-09"),
        ("model_version=v3.0.0", "usage_period=2026-10"), ("model_version=v3.1.0", "usage_period=2026-08"),
    ]  # fmt: skip
    rows = rows_of(files)
    assert {row["total_lbm_emissions_unit"] for row in rows} == {"MTCO2e"}
    assert any(row["region_code"] is None and row["location"] == "Global" for row in rows)
    for row in rows:
        parts = sum(row[f"total_{part}_emissions_value"] for part in ("scope_1", "scope_2_lbm", "scope_3_lbm"))
        assert parts == pytest.approx(row["total_lbm_emissions_value"], abs=2e-6)


def test_every_file_of_the_aws_statement_has_its_manifest(bills: DemoBills) -> None:
    export = feed(bills, "aws_carbon_export")
    named = [name for path in export.uri.rglob("*Manifest.json") for name in json.loads(path.read_text())["dataFiles"]]
    assert {export.uri.parent / name.split("/", 3)[3] for name in named} == set(export.uri.rglob("*.parquet"))


def test_google_states_kilograms_and_keeps_what_belongs_to_no_project(bills: DemoBills) -> None:
    rows = rows_of(sorted(feed(bills, "gcp_carbon").uri.rglob("*.parquet")))
    nobody = [row for row in rows if row["project"]["id"] is None]
    assert {row["project"]["number"] for row in nobody} == {""}
    assert {row["carbon_footprint_total_kgCO2e"]["after_offsets"] for row in rows} == {None}
    for row in rows:
        stated = row["carbon_footprint_kgCO2e"]
        parts = stated["scope1"] + stated["scope2"]["location_based"] + stated["scope3"]
        assert parts == pytest.approx(row["carbon_footprint_total_kgCO2e"]["location_based"], abs=2e-6)


def test_the_first_month_is_restated_by_a_newer_model_and_no_other(bills: DemoBills) -> None:
    versions: dict[str, dict[object, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows_of(sorted(feed(bills, "gcp_carbon").uri.rglob("*.parquet"))):
        total = row["carbon_footprint_total_kgCO2e"]["location_based"]
        versions[f"{row['usage_month']:%Y-%m}"][row["carbon_model_version"]] += total
    assert {month: sorted(found) for month, found in versions.items()} == {
        "2026-08": [13, 14], "2026-09": [13], "2026-10": [13],
    }  # fmt: skip
    assert versions["2026-08"][14] < versions["2026-08"][13]
