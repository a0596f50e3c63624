"""Ledger lines, explanations and factors over HTTP, from a ledger that the method itself computed."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from offgridflow_pipeline.factors.listing import listed
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.schemas import INTENSITY_MEASURES
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.answering.lake_reads import AT_ONCE, LakeReads
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline_tests.emissions.builders import FACTORS, arrow_lines, ec2, ledger
from offgridflow_pipeline_tests.inventory.ledgers import line
from offgridflow_pipeline_tests.sidecar.serving import Api, day, pages, statements

OCTOBER = {"from": "2026-10-01", "to": "2026-10-31"}
SHA = "cd" * 32


@pytest.fixture(scope="module")
def computed(api: Api) -> tuple[str, dict[str, str], dict[str, Any]]:
    """A tenant with one computed EC2 line, its usage line and source object: slug, key and the ledger line."""
    tenant = api.pipeline.tenants.add("computed", "Computed", currency="USD").slug
    usage = ec2(
        "BoxUsage:m5.xlarge", "123.456", x_InstanceType="m5.xlarge", x_Operation="RunInstances", tenant_id=tenant,
        BilledCost=Decimal("23.70"), x_LineId="e" * 64, x_SourceObjectSha256=SHA, x_SourceRow=42, x_ConnectionId="aws-payer",
    )  # fmt: skip
    row = ledger([usage])[0]
    usage_day = row["usage_date"]
    for name, table in (
        ("usage_lines", arrow_lines([usage])),
        ("emission_lines", pa.Table.from_pylist([row], schema=schemas.EMISSION_LINES.arrow_schema)),
    ):
        api.lake.replace(tenant, name, [usage_day], table, run_id="run-1")
    snapshot = {
        "connection_id": "aws-payer", "feed": "cur2", "uri": "s3://bills/part-0.parquet", "etag": "abc", "sha256": SHA,
        "size_bytes": 1000, "row_count": 50, "source_version": "v1", "billing_period": date(2024, 6, 1),
    }  # fmt: skip
    api.pipeline.source_snapshots.record(tenant=tenant, run_id="run-1", snapshot=snapshot)
    return tenant, api.key(tenant), row


def test_an_explanation_leads_from_the_figure_to_the_billed_row(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]
) -> None:
    _, key, row = computed
    found = api.get(f"/v1/explain/{row['line_id']}", key).json()
    assert Decimal(found["ledger"]["co2e_lbm_kg"]) == row["co2e_lbm_kg"]
    assert found["usage"]["x_InstanceType"] == "m5.xlarge"
    assert found["rule"]["rule_id"] == row["rule_id"]
    assert found["rule"]["source"]
    assert (found["method"]["method_id"], found["method"]["is_installed_set"]) == ("ofg-1", True)
    source = found["source"]
    assert (source["uri"], source["etag"], source["sha256"], source["row"]) == (
        "s3://bills/part-0.parquet", "abc", SHA, 42,
    )  # fmt: skip


def test_the_arithmetic_of_an_explanation_is_that_of_the_ledger(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]
) -> None:
    _, key, row = computed
    steps = api.get(f"/v1/explain/{row['line_id']}", key).json()["arithmetic"]
    assert {step["measure"] for step in steps} == {
        name for name in INTENSITY_MEASURES if row[f"intensity_{name}"] is not None
    }
    for step in steps:
        exact = Decimal(step["quantity"]) * Decimal(step["intensity"])
        assert abs(exact - Decimal(step["product"])) <= Decimal("5e-13")
        assert step["agrees"]
        assert row[step["measure"]] is None or Decimal(step["ledger"]) == row[step["measure"]]


def test_every_factor_of_an_explanation_has_its_source_and_licence_and_masked_ones_no_value(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]
) -> None:
    _, key, row = computed
    found = api.get(f"/v1/explain/{row['line_id']}", key).json()
    used = found["factors"] + found["coefficients"]
    assert [one["factor_uid"] for one in used] == row["factor_ids"] + row["coefficient_ids"]
    for one in used:
        factor = FACTORS.by_uid(one["factor_uid"])
        shown = one["factor"]
        assert (shown["factor_key"], shown["licence"]) == (factor.factor_key, FACTORS.source(factor).licence)
        if FACTORS.source(factor).masks_values:
            assert (shown["value"], shown["attributes"]) == (None, None)
        elif factor.value is not None:
            assert Decimal(shown["value"]) == factor.value


def test_the_day_only_narrows_the_search(api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]) -> None:
    _, key, row = computed
    path = f"/v1/explain/{row['line_id']}"
    assert api.get(path, key, day=row["usage_date"]).json() == api.get(path, key).json()
    assert api.get(path, key, day="2024-06-16").status_code == 404


def test_a_line_of_another_tenant_is_as_unknown_as_none(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]], new_tenant: Callable[[], str]
) -> None:
    stranger = api.key(new_tenant())
    answers = [api.get(f"/v1/explain/{identity}", stranger) for identity in (computed[2]["line_id"], "0" * 64)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert [answer.json()["detail"] for answer in answers] == [answers[0].json()["detail"]] * 2


@pytest.mark.parametrize("identity", ["a b", "x" * 129, "%00", "'--"])
def test_an_id_of_another_form_is_refused(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]], identity: str
) -> None:
    assert api.get(f"/v1/explain/{identity}", computed[1]).status_code == 422


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_pages_of_lines_put_together_are_the_ledger_without_repetition(
    api: Api, new_tenant: Callable[[], str], limit: int
) -> None:
    tenant = new_tenant()
    # Ids repeat over days and sort otherwise than they were written.
    lines = [line(n, line_id=f"{(n * 7) % 5}", usage_date=day(1 + n % 3), row_no=n) for n in range(10)]
    unique = {(row["usage_date"], row["line_id"]): row for row in lines}
    api.publish(tenant, unique.values())
    key = api.key(tenant)
    seen = [
        row
        for page in pages(lambda cursor: api.get("/v1/emissions/lines", key, **OCTOBER, limit=limit, cursor=cursor))
        for row in page
    ]
    assert [(row["usage_date"], row["line_id"]) for row in seen] == [(str(d), i) for d, i in sorted(unique)]
    assert [row["source_row"] for row in seen] == [unique[place]["row_no"] for place in sorted(unique)]


def test_a_filter_of_lines_takes_exactly_its_rows(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1, RegionId=None), line(2, RegionId=""), line(3), line(4, ServiceName="Other")])
    key = api.key(tenant)

    def ids(**filters: str) -> list[str]:
        return [row["line_id"] for row in api.get("/v1/emissions/lines", key, **OCTOBER, **filters).json()["items"]]

    assert ids(region="") == ["line-1", "line-2"]
    assert ids(region="eu-west-1", service="Other") == ["line-4"]
    assert ids(service="' or 1=1 --") == []


def test_lines_of_a_tenant_without_a_ledger_are_an_empty_page(api: Api, new_tenant: Callable[[], str]) -> None:
    assert api.get("/v1/emissions/lines", api.key(new_tenant()), **OCTOBER).json() == {"items": [], "next_cursor": None}


def test_lines_are_unchanged_until_the_ledger_itself_changes(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    api.publish(tenant, [line(1)])
    key = api.key(tenant)
    tag = api.get("/v1/emissions/lines", key, **OCTOBER).headers["etag"]
    assert api.get("/v1/emissions/lines", key | {"If-None-Match": tag}, **OCTOBER).status_code == 304
    schema = schemas.EMISSION_LINES.arrow_schema
    api.lake.replace(tenant, "emission_lines", [day(1)], schema.empty_table(), run_id="run-2")
    changed = api.get("/v1/emissions/lines", key | {"If-None-Match": tag}, **OCTOBER)
    assert (changed.status_code, changed.json()["items"]) == (200, [])


def test_more_than_a_month_of_lines_is_refused(api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]) -> None:
    answer = api.get("/v1/emissions/lines", computed[1], **{"from": "2026-10-01", "to": "2026-11-01"})
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (
        422,
        "The period has 32 days: ask for at most 31.",
    )


def test_a_page_of_a_large_ledger_takes_bounded_memory_and_time(api: Api, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    rows = 300_000
    first = line(0, tenant_id=tenant)
    schema = schemas.EMISSION_LINES.arrow_schema
    one = pa.Table.from_pylist([{name: first.get(name) for name in schema.names}], schema=schema)
    many = one.take(pa.array([0] * rows)).set_column(
        schema.get_field_index("line_id"), schema.field("line_id"), pa.array([f"{n:064d}" for n in range(rows)])
    )
    api.lake.replace(tenant, "emission_lines", [day(1)], many, run_id="run-1")
    del many
    tracemalloc.start()
    started = time.process_time()
    answer = api.get("/v1/emissions/lines", api.key(tenant), **OCTOBER, limit=200)
    spent = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(answer.json()["items"]) == 200
    assert peak < 32 * 2**20
    assert spent < 5


def test_a_read_that_takes_too_long_is_stopped_and_its_place_is_free_again(tmp_path: Any) -> None:
    reads = LakeReads(Settings(_env_file=None, environment="test", data_dir=tmp_path))
    for _ in range(AT_ONCE + 1):
        started = time.monotonic()
        with pytest.raises(Problem) as refusal, reads.engine("alder", seconds=0.2) as engine:
            engine.connection.raw_sql("select count(*) from range(100000000) a, range(100000) b").fetchall()
        assert (refusal.value.status, refusal.value.code) == (503, "too_heavy")
        assert time.monotonic() - started < 5


def test_when_all_places_are_taken_a_read_is_told_to_come_back(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offgridflow_pipeline.sidecar.answering.lake_reads.WAIT_SECONDS", 0.01)
    reads = LakeReads(Settings(_env_file=None, environment="test", data_dir=tmp_path))
    with reads.engine("alder"), reads.engine("birch"), pytest.raises(Problem) as refusal, reads.engine("cedar"):
        pass
    assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (503, "5")


def test_pages_of_factors_put_together_are_the_register(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]
) -> None:
    question = {"key": "grid.location/F", "limit": 7}
    seen = [
        row
        for page in pages(lambda cursor: api.client.get(
            "/v1/factors", params={**question, **({"cursor": cursor} if cursor else {})}, headers=computed[1]
        ))
        for row in page
    ]  # fmt: skip
    uids = [row["factor_uid"] for row in seen]
    every = [row for row in FACTORS.of_kind("grid.location") if row.factor_key.startswith("grid.location/F")]
    assert len(uids) == len(set(uids))
    assert set(uids) == {row.factor_uid for row in every}
    assert [row["factor_key"] for row in seen] == sorted(row["factor_key"] for row in seen)


def test_the_register_is_filtered_by_region_and_year_of_validity() -> None:
    found = listed(FACTORS, region="fr", year=2024, limit=1000)
    assert found
    assert {row.geography for row in found} == {"FR"}
    assert all(row.valid_from.year <= 2024 and (row.valid_to is None or row.valid_to.year >= 2024) for row in found)


def test_no_masked_value_leaves_the_register(api: Api, computed: tuple[str, dict[str, str], dict[str, Any]]) -> None:
    masked = [f for kind in FACTORS.kinds for f in FACTORS.of_kind(kind) if FACTORS.source(f).masks_values]
    for factor in masked[:20]:
        answer = api.client.get("/v1/factors", params={"key": factor.factor_key}, headers=computed[1]).json()
        shown = next(row for row in answer["items"] if row["factor_uid"] == factor.factor_uid)
        assert (shown["value"], shown["attributes"], shown["is_masked"]) == (None, None, True)


@pytest.mark.parametrize(
    "path", ["/v1/emissions/lines?from=2026-10-01&to=2026-10-31", "/v1/factors", f"/v1/explain/{'e' * 64}"]
)
def test_evidence_needs_its_permission_and_at_most_three_statements(
    api: Api, computed: tuple[str, dict[str, str], dict[str, Any]], path: str
) -> None:
    tenant, key, _ = computed
    with statements(api.served) as seen:
        assert api.client.get(path, headers=key).status_code == 200
    assert len(seen) <= 3, seen
    assert api.client.get(path, headers=api.key(tenant, [Permission.EMISSIONS_READ])).status_code == 403
    assert re.match("Bearer", api.client.get(path).headers["www-authenticate"])
