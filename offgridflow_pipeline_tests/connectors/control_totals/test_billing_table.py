"""Daily totals that BigQuery adds up over billing exports, against its emulator."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from offgridflow_pipeline.connectors.connections import Connection, connection
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline_tests.connectors.bills import SHARED
from offgridflow_pipeline_tests.connectors.provider_reading import DAYS, costs, totals
from offgridflow_pipeline_tests.counterparts.bigquery import PROJECT, BigQueryServer


@pytest.fixture
def export(bigquery: BigQueryServer) -> str:
    """A standard export partitioned by ingestion time, as Google makes it; named as a connection's uri."""
    from google.cloud.bigquery import Table, TimePartitioning

    client = bigquery.client()
    name = f"{PROJECT}.{bigquery.new_dataset()}.gcp_billing_export_v1_01AAAA_BBBBBB_CCCCCC"
    table = Table(name, schema=client.schema_from_json(SHARED / "gcp" / "billing_export_v1.schema.json"))
    table.time_partitioning = TimePartitioning()
    client.create_table(table)
    assert client.insert_rows_json(name, [_gcp_row(**row) for row in GCP_ROWS]) == []
    return f"bigquery://{name}"


#: cost, credits, usage hour, project, export time: two credits on a row, a project that is null, a late row.
GCP_ROWS: list[dict[str, Any]] = [
    {"cost": 0.1, "credits": [-0.03, -1e-9], "hour": "2026-09-01T00", "project": "web"},
    {"cost": 9.984e-07, "credits": [], "hour": "2026-09-01T23", "project": "web"},
    {"cost": 3.25, "credits": [], "hour": "2026-09-02T00", "project": None},
    {"cost": 5, "credits": [-5], "hour": "2026-09-02T05", "project": "web", "exported": "2026-09-05T08:00:00Z"},
    {"cost": 1000, "credits": [], "hour": "2026-09-03T00", "project": "web"},
]


def _gcp_row(
    cost: float, credits: list[float], hour: str, project: str | None, exported: str = "2026-09-03T08:00:00Z"
) -> dict[str, Any]:
    return {
        "billing_account_id": "01AAAA-BBBBBB-CCCCCC",
        "project": {"id": project} if project else None,
        "usage_start_time": f"{hour}:00:00Z",
        "usage_end_time": f"{hour}:59:59Z",
        "export_time": exported,
        "cost": cost,
        "currency": "USD",
        "credits": [{"name": "credit", "amount": amount} for amount in credits],
    }


def _warehouse_connection(uri: str, kind: str = "gcp_standard") -> Connection:
    return connection({"id": "gcp", "kind": kind, "uri": uri, "reconcile": "bigquery", "gcp": {"project": PROJECT}})


needs_schemas = pytest.mark.skipif(not SHARED.is_dir(), reason=f"table schemas are not at {SHARED}")


@needs_schemas
def test_bigquery_adds_cost_and_credits_per_usage_day_and_project(bigquery: BigQueryServer, export: str) -> None:
    found = totals(_warehouse_connection(export), bigquery.access, DAYS)

    expected: dict[tuple[str, str | None, str], Decimal] = {}
    for row in GCP_ROWS[:4]:
        key = (row["hour"][:10], row["project"], "USD")
        amounts = [row["cost"], *row["credits"]]
        expected[key] = expected.get(key, Decimal(0)) + sum(Decimal(repr(amount)) for amount in amounts)
    assert costs(found) == expected
    assert sum(found.column("line_count").to_pylist()) == 4
    assert set(found.column("is_final").to_pylist()) == {False}
    assert set(found.column("BillingAccountId").to_pylist()) == {"01AAAA-BBBBBB-CCCCCC"}


@needs_schemas
def test_rows_exported_after_the_watermark_do_not_count(bigquery: BigQueryServer, export: str) -> None:
    watermark = "2026-09-03T08:00:00.000000Z|4"

    found = totals(_warehouse_connection(export), bigquery.access, DAYS, watermark=watermark)

    assert sum(found.column("line_count").to_pylist()) == 3
    assert set(found.column("watermark").to_pylist()) == {"2026-09-03T08:00:00.000000Z"}
    assert set(found.column("is_final").to_pylist()) == {True}


def test_a_watermark_that_is_none_is_refused(bigquery: BigQueryServer) -> None:
    table = _warehouse_connection(f"bigquery://{PROJECT}.nowhere.gcp_billing_export_v1_X")

    with pytest.raises(DeliveryError, match="'0xab' is no export time"):
        totals(table, bigquery.access, DAYS, watermark="0xab")


@needs_schemas
def test_bigquery_totals_tie_to_the_rows_that_are_read(bigquery: BigQueryServer, export: str) -> None:
    from offgridflow_pipeline.connectors.bigquery.source import BigQuerySource

    of = _warehouse_connection(export)
    [delivery], _ = BigQuerySource(of, bigquery.access).survey(DAYS)

    found = totals(of, bigquery.access, DAYS, watermark=delivery.version)

    assert sum(found.column("line_count").to_pylist()) == int(delivery.version.partition("|")[2])


@needs_schemas
def test_the_focus_export_is_added_up_by_its_own_columns(bigquery: BigQueryServer) -> None:
    from google.cloud.bigquery import Table

    client = bigquery.client()
    name = f"{PROJECT}.{bigquery.new_dataset()}.gcp_billing_export_focus_01AAAA"
    schema = client.schema_from_json(SHARED / "gcp" / "billing_export_focus_1_2.schema.json")
    client.create_table(Table(name, schema=schema))
    rows = [
        {
            "BillingAccountId": "01AAAA",
            "SubAccountId": project,
            "BillingCurrency": "USD",
            "BilledCost": cost,
            "ChargePeriodStart": f"{day}T03:00:00Z",
            "x_ExportTime": "2026-09-04T00:00:00Z",
        }
        for day, project, cost in (
            ("2026-09-01", "web", "1.25"),
            ("2026-09-01", "web", "-0.25"),
            ("2026-09-03", "x", "9"),
        )
    ]
    assert client.insert_rows_json(name, rows) == []

    found = totals(_warehouse_connection(f"bigquery://{name}", "gcp_focus"), bigquery.access, DAYS)

    assert costs(found) == {("2026-09-01", "web", "USD"): Decimal(1)}


def test_a_table_that_is_not_there_is_named(bigquery: BigQueryServer) -> None:
    missing = f"bigquery://{PROJECT}.nowhere.gcp_billing_export_v1_X"

    with pytest.raises(DeliveryError, match="nowhere"):
        totals(_warehouse_connection(missing), bigquery.access, DAYS)
