"""What Dagster loads: complete descriptions, policies, and a light import."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml

from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.assets.reports import DRAFTS, REPORT_CHECKS
from offgridflow_pipeline.defs.checks import LAKE_CHECKS
from offgridflow_pipeline.defs.jobs import DAILY_ASSETS, MONTHLY_ASSETS
from offgridflow_pipeline.defs.run_coordinator import tenants_of

ROOT = Path(__file__).resolve().parents[2]
SPECS = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_definitions_load_and_hold_the_whole_chain():
    dg.Definitions.validate_loadable(defs)
    assert set(SPECS) == {*DAILY_ASSETS, "provider_statements", *MONTHLY_ASSETS, "billing_snapshots"}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_asset_tells_a_reader_what_it_is_and_who_owns_it(name):
    spec = SPECS[name]
    assert "Grain:" in (spec.description or "")
    assert "On failure:" in (spec.description or "")
    assert spec.owners
    assert spec.kinds
    assert spec.group_name
    assert {"tier", "cost_class", "pii"} <= set(spec.tags)


@pytest.mark.parametrize("name", sorted(SPECS.keys() - {"billing_snapshots"}))
def test_every_partitioned_asset_has_a_backfill_policy(name):
    asset = defs.resolve_asset_graph().get(dg.AssetKey(name))
    assert asset.partitions_def is not None
    expected = 31 if name in DAILY_ASSETS else 1
    assert asset.backfill_policy == dg.BackfillPolicy.multi_run(expected)


INFORMING = {
    "complete", "answered", "provider_estimate", "known_values", "coverage", "adds_up",
}  # fmt: skip


@pytest.mark.req("U6")
def test_every_lake_check_blocks_but_those_that_say_they_inform():
    for check in LAKE_CHECKS:
        for spec in check.check_specs:
            assert spec.blocking == (spec.name not in INFORMING), spec.name


def test_every_check_of_a_report_file_blocks_its_publication():
    specs = [spec for check in REPORT_CHECKS for spec in check.check_specs]
    assert {spec.asset_key.to_user_string() for spec in specs} == {"report_ixbrl", "report_xbrl", "report_workbook"}
    assert all(spec.blocking for spec in specs)


def test_what_a_provider_states_is_read_before_the_bill_is_held_against_it():
    checks = {spec.name: spec for check in LAKE_CHECKS for spec in check.check_specs}
    for name in ("provider_total", "provider_estimate"):
        assert "control_totals" in {dep.asset_key.to_user_string() for dep in checks[name].additional_deps}


def test_upstreams_follow_the_data():
    parents = {name: {d.asset_key.to_user_string() for d in spec.deps} for name, spec in SPECS.items()}
    extracts = {"aws_billing_extract", "azure_billing_extract", "gcp_billing_extract", "focus_billing_extract"}
    assert parents["usage_lines"] == parents["control_totals"] == extracts
    assert parents["scope_totals"] == {"emission_lines"}
    assert parents["ghg_inventory"] == {"scope_totals", "emission_lines"}
    assert parents["report_publication"] == set(DRAFTS)


def test_a_month_reads_all_its_days_of_the_same_tenant():
    graph = defs.resolve_asset_graph()
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("offgridflow_tenants", ["acme", "other"])
        mapping = graph.get_partition_mapping(dg.AssetKey("ghg_inventory"), dg.AssetKey("scope_totals"))
        month = graph.get(dg.AssetKey("ghg_inventory")).partitions_def
        day = graph.get(dg.AssetKey("scope_totals")).partitions_def
        subset = month.empty_subset().with_partition_keys(["2026-02-01|acme"])
        result = mapping.get_upstream_mapped_partitions_result_for_partitions(
            subset, month, day, dynamic_partitions_store=instance
        )
        keys = sorted(result.partitions_subset.get_partition_keys())
    assert len(keys) == 28
    assert (keys[0], keys[-1]) == ("2026-02-01|acme", "2026-02-28|acme")


def test_the_import_that_every_run_worker_pays_pulls_no_cloud_sdk():
    code = (
        "import sys, offgridflow_pipeline.definitions;"
        "heavy = ('boto3', 'pandas', 'ibis', 'duckdb', 'deltalake', 'dagster_aws', 'dagster_gcp', 'google.cloud',"
        " 'azure', 'reportlab', 'arelle', 'stripe', 'xlsxwriter', 'openpyxl');"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert _fresh_process(code) == "[]"


def test_a_run_worker_seldom_searches_for_garbage():
    assert _fresh_process("import gc, offgridflow_pipeline.definitions; print(gc.get_threshold()[0])") == "50000"


def _fresh_process(code: str) -> str:
    """What the code prints."""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return out.stdout.strip()


def test_workspace_yaml_alone_says_what_is_loaded():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert not {"dagster", "dg"} & set(tools)


def test_the_two_instance_files_differ_in_storage_only():
    storage = {"storage", "local_artifact_storage", "compute_logs"}
    bare = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    deployed = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    assert {k: v for k, v in bare.items() if k not in storage} == {
        k: v for k, v in deployed.items() if k not in storage
    }


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"dagster/partition": "2026-01-01|acme"}, {"acme"}),
        (
            {
                "dagster/asset_partition_range_start": "2026-01-01|acme",
                "dagster/asset_partition_range_end": "2026-01-31|beta",
            },
            {"acme", "beta"},
        ),
        ({}, set()),
    ],
)
def test_the_tenant_of_a_run_is_read_from_its_partition_tags(tags, expected):
    assert tenants_of(tags) == expected
