"""Google Cloud carbon footprints from BigQuery and from files of the table."""

from __future__ import annotations

import csv
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.connections import connection
from offgridflow_pipeline.connectors.errors import BillingObjectError, DeliveryError
from offgridflow_pipeline.connectors.statements import StatementRead, gcp_carbon, read_statements
from offgridflow_pipeline.connectors.statements.figures import Figure
from offgridflow_pipeline.connectors.statements.files import rows
from offgridflow_pipeline_tests.connectors.bills import SHARED
from offgridflow_pipeline_tests.connectors.provider_reading import NOW
from offgridflow_pipeline_tests.counterparts.bigquery import PROJECT, BigQueryServer


def _row(project: str | None = "web", version: int = 12, month: str = "2026-08", kg: float = 0.1) -> dict[str, Any]:
    return {
        "usage_month": f"{month}-01",
        "billing_account_id": "01AAAA-BBBBBB-CCCCCC",
        "project": {"number": "42" if project else "", "id": project},
        "service": {"id": "6F81-5844-456A", "description": "Compute Engine"},
        "location": {"location": "europe-west1", "region": "europe-west1"},
        "carbon_model_version": version,
        "carbon_footprint_kgCO2e": {
            "scope1": kg,
            "scope2": {"location_based": kg * 2, "market_based": 0.0},
            "scope3": kg * 4,
        },
        "carbon_footprint_total_kgCO2e": {"location_based": kg * 7, "market_based": kg * 5, "after_offsets": 0.0},
        "carbon_offsets_kgCO2e": 99.0,
    }


ROWS = [
    _row(),
    _row(project=None, kg=2.5),
    _row(version=11, kg=0.3),
    _row(month="2026-07", kg=8.0),
]


def _masses(figures: list[dict[str, Any]]) -> dict[tuple[Any, ...], Decimal]:
    names = ("month", "SubAccountId", "model_version", "scope", "basis")
    return {tuple(row[name] for name in names): row["co2e_kg"] for row in figures}


def _expected(*months: str) -> dict[tuple[Any, ...], Decimal]:
    found = {}
    for row in ROWS:
        if (month := row["usage_month"][:7]) in months:
            key = (month, row["project"]["id"], str(row["carbon_model_version"]))
            scopes, totals = row["carbon_footprint_kgCO2e"], row["carbon_footprint_total_kgCO2e"]
            for scope, basis, value in (
                ("1", "none", scopes["scope1"]),
                ("2", "location", scopes["scope2"]["location_based"]),
                ("2", "market", scopes["scope2"]["market_based"]),
                ("3", "none", scopes["scope3"]),
                ("total", "location", totals["location_based"]),
                ("total", "market", totals["market_based"]),
            ):
                found[(*key, scope, basis)] = Decimal(repr(value)).quantize(Decimal("1e-12"))
    return found


# BigQuery


@pytest.fixture
def table(bigquery: BigQueryServer) -> str:
    from google.cloud.bigquery import Table

    if not SHARED.is_dir():
        pytest.skip(f"table schemas are not at {SHARED}")
    client = bigquery.client()
    name = f"{PROJECT}.{bigquery.new_dataset()}.carbon_footprint"
    client.create_table(Table(name, schema=client.schema_from_json(SHARED / "gcp/carbon_footprint.schema.json")))
    assert client.insert_rows_json(name, ROWS) == []
    return name


def _read(bigquery: BigQueryServer, table: str, *months: str) -> StatementRead:
    of = connection({"id": "carbon", "kind": "gcp_carbon", "uri": f"bigquery://{table}", "gcp": {"project": PROJECT}})
    return read_statements(of, bigquery.access, months, tenant="acme", run_id="run-1", retrieved_at=NOW)


def test_every_model_version_and_the_rows_without_a_project_are_kept(bigquery: BigQueryServer, table: str) -> None:
    read = _read(bigquery, table, "2026-08")

    assert _masses(read.rows.to_pylist()) == _expected("2026-08")
    assert read.rows.num_rows == 3 * 6
    assert set(read.rows.column("x_ServiceCode").to_pylist()) == {"6F81-5844-456A"}
    assert set(read.rows.column("RegionId").to_pylist()) == {"europe-west1"}


def test_several_months_are_one_query_and_a_month_not_yet_published_is_noticed(
    bigquery: BigQueryServer, table: str
) -> None:
    read = _read(bigquery, table, "2026-07", "2026-08", "2026-09")

    assert _masses(read.rows.to_pylist()) == _expected("2026-07", "2026-08")
    assert read.notices == ("Connection carbon has no statement for 2026-09 yet.",)


def test_a_table_that_is_not_there_is_named(bigquery: BigQueryServer) -> None:
    with pytest.raises(DeliveryError, match="nowhere"):
        _read(bigquery, f"{PROJECT}.nowhere.carbon_footprint", "2026-08")


# Files


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _write(path: Path) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as text:
            writer = csv.DictWriter(text, list(_flat(ROWS[0])))
            writer.writeheader()
            writer.writerows(_flat(row) for row in ROWS)
    elif path.suffix == ".parquet":
        typed = [row | {"usage_month": date.fromisoformat(row["usage_month"])} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(typed), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def _figures(path: Path, *months: str) -> list[Figure]:
    return list(gcp_carbon.figures(rows(path, str(path)), months, source=str(path)))


@pytest.mark.parametrize("name", ["footprint.csv", "footprint.parquet", "footprint.jsonl"])
def test_files_of_the_table_state_the_same(tmp_path: Path, name: str) -> None:
    found = _figures(_write(tmp_path / name), "2026-08", "2026-07")

    masses = {(f.month, f.sub_account_id, f.model_version, f.scope, f.basis): f.co2e_kg for f in found}
    assert {key: mass.quantize(Decimal("1e-12")) for key, mass in masses.items()} == _expected("2026-07", "2026-08")


def test_a_file_without_a_mass_or_with_a_bad_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "footprint.jsonl"
    path.write_text('{"usage_month": "2026-08-01", "billing_account_id": "A", "carbon_model_version": 1}\n')
    with pytest.raises(BillingObjectError, match="carbon_footprint_kgco2e_scope1 is missing"):
        _figures(path, "2026-08")

    path.write_text(json.dumps(_row()) + "\n" + json.dumps(_row() | {"usage_month": "soon"}) + "\n")
    with pytest.raises(BillingObjectError, match="row 2, column usage_month: 'soon' is no date"):
        _figures(path, "2026-08")

    path.write_text("[1, 2]\n")
    with pytest.raises(BillingObjectError, match="row 1: the line is no JSON object"):
        _figures(path, "2026-08")
