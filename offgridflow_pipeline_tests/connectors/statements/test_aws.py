"""AWS carbon statements: the Data Export CARBON_EMISSIONS in files, and the Sustainability API."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.access import LocalAccess
from offgridflow_pipeline.connectors.connections import Connection, connection
from offgridflow_pipeline.connectors.errors import (
    AccessDeniedError,
    BillingObjectError,
    ConnectionConfigError,
    DeliveryError,
    ExpiredCredentialsError,
)
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.statements import StatementRead, read_statements
from offgridflow_pipeline.lake.schemas import PROVIDER_STATEMENTS
from offgridflow_pipeline_tests.connectors.bills import SHARED
from offgridflow_pipeline_tests.connectors.provider_reading import NOW, SECRET, Time, aws
from offgridflow_pipeline_tests.counterparts import aws_sustainability as fake
from offgridflow_pipeline_tests.counterparts.aws_sustainability import TYPES, Emissions, SustainabilityApi
from offgridflow_pipeline_tests.counterparts.provider_api import serving
from offgridflow_pipeline_tests.counterparts.s3 import S3Server

SAMPLE = SHARED / "aws-carbon" / "SYNTHETIC_carbon_emissions_export.csv"
STEMS = [
    "total_lbm", "total_mbm", "total_scope_1", "total_scope_2_lbm", "total_scope_2_mbm", "total_scope_3_lbm",
    "total_scope_3_mbm",
]  # fmt: skip


def _read(of: Connection, access: Any, *months: str, time: Time | None = None) -> StatementRead:
    budget = (time or Time()).budget()
    return read_statements(of, access, months, tenant="acme", run_id="run-1", retrieved_at=NOW, budget=budget)


def _masses(read: StatementRead, **only: str) -> dict[tuple[Any, ...], Decimal]:
    """Mass per account, service, version, scope and basis."""
    names = ("SubAccountId", "x_ServiceCode", "model_version", "scope", "basis")
    rows = [r for r in read.rows.to_pylist() if all(r[k] == v for k, v in only.items())]
    return {tuple(row[name] for name in names): row["co2e_kg"] for row in rows}


# The export


def _export(uri: str | Path) -> Connection:
    return connection({"id": "carbon", "kind": "aws_carbon_export", "uri": str(uri)})


def _row(
    service: str = "AmazonEC2", version: str = "v3.0.0", month: str = "2026-08", tonnes: Any = "0.1", **changes: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "last_refresh_timestamp": "2026-10-15 07:00:00Z",
        "location": "US East (N. Virginia)",
        "model_version": version,
        "payer_account_id": "111111111111",
        "product_code": service,
        "region_code": "us-east-1",
        "usage_account_id": "000000000042",
        "usage_period_start": f"{month}-01 00:00:00Z",
        "usage_period_end": f"{month}-28 00:00:00Z",
    }
    for stem in STEMS:
        row |= {f"{stem}_emissions_unit": "MTCO2e", f"{stem}_emissions_value": tonnes}
    return row | changes


def _write_csv(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_row()))
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample statements are not at {SHARED}")
def test_the_sample_export_ties_to_an_independent_count() -> None:
    read = _read(_export(SAMPLE), LocalAccess(), "2026-08")

    with SAMPLE.open(newline="") as text:
        source = list(csv.DictReader(text))
    for stem, scope, basis in zip(
        STEMS,
        ["total", "total", "1", "2", "2", "3", "3"],
        ["location", "market", "none", "location", "market", "location", "market"],
        strict=True,
    ):
        expected = sum(Decimal(row[f"{stem}_emissions_value"]) * 1000 for row in source)
        assert sum(_masses(read, scope=scope, basis=basis).values()) == expected
    assert read.rows.num_rows == len(source) * len(STEMS)
    assert read.rows.schema == PROVIDER_STATEMENTS.arrow_schema
    assert set(read.rows.column("SubAccountId").to_pylist()) == {"000000000042"}
    assert _masses(read, x_ServiceCode="AmazonEC2", scope="total", basis="location") == {
        ("000000000042", "AmazonEC2", "v3.0.0", "total", "location"): Decimal(171),
        ("000000000042", "AmazonEC2", "v3.1.0", "total", "location"): Decimal(164),
    }


def test_a_region_that_is_none_and_an_unattributed_service_are_kept(tmp_path: Path) -> None:
    rows = [_row(region_code=code, product_code="", location="Global") for code in ("", "Global")]
    read = _read(_export(_write_csv(tmp_path / "export.csv", *rows)), LocalAccess(), "2026-08")

    assert set(read.rows.column("RegionId").to_pylist()) == {None}
    assert set(_masses(read).values()) == {Decimal(200)}, "rows of one key are added, none is lost"


def test_csv_gzip_and_parquet_of_the_same_rows_are_the_same_statement(tmp_path: Path) -> None:
    tonnes = [0.1, 1.25e-7, 0.3333333333333333]
    rows = [_row(service=f"Service{n}", tonnes=value) for n, value in enumerate(tonnes)]
    plain = _write_csv(tmp_path / "a" / "export.csv", *rows)
    packed = _write_csv(tmp_path / "b" / "export.csv.gz", *rows)
    typed = tmp_path / "c" / "export.snappy.parquet"
    typed.parent.mkdir()
    period = {"usage_period_start": datetime(2026, 8, 1, tzinfo=UTC)}
    pq.write_table(pa.Table.from_pylist([row | period for row in rows]), typed, compression="snappy")

    ids = [
        _read(_export(path.parent), LocalAccess(), "2026-08").rows.column("statement_id").to_pylist()
        for path in (plain, packed, typed)
    ]

    assert len(set(ids[0])) == 3 * len(STEMS)
    assert ids[0] == ids[1] == ids[2]


def test_a_header_in_other_case_with_a_byte_order_mark_is_understood(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "export.csv", _row())
    header, rest = path.read_text().split("\n", 1)
    path.write_text("\ufeff" + header.upper() + "\n" + rest)

    assert _read(_export(path), LocalAccess(), "2026-08").rows.num_rows == len(STEMS)


def test_only_the_newest_delivery_of_a_partition_counts_and_all_model_versions_do(tmp_path: Path) -> None:
    base = tmp_path / "carbon" / "data"
    old = base / "model_version=v3.0.0" / "usage_period=2026-08" / "20261001T000000Z-aa" / "carbon-00001.csv.gz"
    new = base / "model_version=v3.0.0" / "usage_period=2026-08" / "20261002T000000Z-bb" / "carbon-00001.csv.gz"
    other = base / "model_version=v3.1.0" / "usage_period=2026-08" / "carbon-00001.csv.gz"
    unread = base / "model_version=v3.1.0" / "usage_period=2026-07" / "carbon-00001.csv.gz"
    _write_csv(old, _row(tonnes="9"))
    _write_csv(new, _row(tonnes="0.2"))
    _write_csv(other, _row(version="v3.1.0", tonnes="0.3"))
    unread.parent.mkdir(parents=True)
    unread.write_bytes(b"not even gzip: a month that is not asked for is not opened")

    read = _read(_export(tmp_path / "carbon"), LocalAccess(), "2026-08")

    totals = _masses(read, scope="total", basis="market")
    assert {key[2]: mass for key, mass in totals.items()} == {"v3.0.0": Decimal(200), "v3.1.0": Decimal(300)}


def _manifest(folder: Path, *files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "carbon-Manifest.json").write_text(json.dumps({"executionId": "e", "dataFiles": list(files)}))


def test_files_that_no_manifest_names_are_a_delivery_in_progress(tmp_path: Path) -> None:
    partition = "model_version=v3.0.0/usage_period=2026-08"
    _write_csv(tmp_path / "data" / partition / "20261001T000000Z-aa" / "c-00001.csv", _row(tonnes="0.2"))
    _write_csv(tmp_path / "data" / partition / "20261002T000000Z-bb" / "c-00001.csv", _row(tonnes="9"))
    name = f"s3://bucket/prefix/carbon/data/{partition}/20261001T000000Z-aa/c-00001.csv"
    _manifest(tmp_path / "metadata" / partition / "20261001T000000Z-aa", name)

    read = _read(_export(tmp_path), LocalAccess(), "2026-08")

    assert set(_masses(read).values()) == {Decimal(200)}


def test_a_manifest_that_names_a_missing_file_is_refused(tmp_path: Path) -> None:
    partition = "model_version=v3.0.0/usage_period=2026-08"
    _write_csv(tmp_path / "data" / partition / "c-00001.csv", _row())
    _manifest(tmp_path / "metadata" / partition, *(f"s3://b/x/data/{partition}/c-0000{n}.csv" for n in (1, 2)))

    with pytest.raises(DeliveryError, match=r"c-00002\.csv, found 0 times"):
        _read(_export(tmp_path), LocalAccess(), "2026-08")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"total_mbm_emissions_unit": ""}, r"row 2, column total_mbm_emissions_value: the unit is ''"),
        ({"total_mbm_emissions_unit": "tCO2"}, r"row 2, column total_mbm_emissions_value: the unit is 'tCO2'"),
        ({"total_lbm_emissions_value": "1,5"}, r"row 2, column total_lbm_emissions_value: '1,5' is no mass"),
        ({"total_lbm_emissions_value": "NaN"}, r"row 2, column total_lbm_emissions_value: 'NaN' is no mass"),
        ({"total_lbm_emissions_value": "1e21"}, r"row 2, column total_lbm_emissions_value: '1e21' is no mass"),
        ({"usage_period_start": "August"}, r"row 2, column usage_period_start: 'August' is not valid"),
        ({"model_version": ""}, r"row 2, column model_version: '' is not valid"),
    ],
)
def test_a_bad_value_names_file_row_and_column(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    path = _write_csv(tmp_path / "export.csv", _row(), _row(**changes))

    with pytest.raises(BillingObjectError, match=rf"export\.csv, {said}"):
        _read(_export(path), LocalAccess(), "2026-08")


def test_a_value_that_is_not_stated_is_no_figure(tmp_path: Path) -> None:
    path = _write_csv(tmp_path / "export.csv", _row(total_scope_1_emissions_value="", total_scope_1_emissions_unit=""))

    assert _read(_export(path), LocalAccess(), "2026-08").rows.num_rows == len(STEMS) - 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("model_version,payer_account_id\nv1,1\n", "column usage_account_id: the column usage_account_id is missing"),
        (",".join(_row()) + "\nonly,three,cells\n", "row 1: the row has 3 cells"),
        ('"unclosed\n', "damaged"),
    ],
)
def test_a_file_that_is_no_export_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "export.csv").write_text(content)

    with pytest.raises(BillingObjectError, match=said):
        _read(_export(tmp_path), LocalAccess(), "2026-08")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("export.csv.gz", b"\x1f\x8b\x08 no blocks of gzip follow"),
        ("export.csv.gz", b"not gzip at all"),
        ("export.csv.gz", gzip.compress(b"a,b\n" * 1000, mtime=0)[:-20]),
        ("export.csv", b"a,\xff\xfe\n"),
        ("export.parquet", b"PAR1 but nothing else PAR1"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BillingObjectError, match=f"{name}: the file is damaged"):
        _read(_export(tmp_path), LocalAccess(), "2026-08")


def test_an_empty_folder_is_told_from_a_month_without_statement(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="holds no file of a statement"):
        _read(_export(tmp_path), LocalAccess(), "2026-08")

    _write_csv(tmp_path / "export.csv", _row())
    read = _read(_export(tmp_path), LocalAccess(), "2026-08", "2026-09")

    assert read.notices == ("Connection carbon has no statement for 2026-09 yet.",)


def test_the_export_is_read_from_s3(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    path = _write_csv(tmp_path / "c.csv.gz", _row(tonnes="0.5"))
    key = "carbon/data/model_version=v3.0.0/usage_period=2026-08/c-00001.csv.gz"
    s3.client().upload_file(str(path), bucket, key)

    read = _read(_export(f"s3://{bucket}/carbon"), aws(s3.endpoint), "2026-08")

    assert set(_masses(read).values()) == {Decimal(500)}


# The API


@pytest.fixture
def api() -> Iterator[SustainabilityApi]:
    served = SustainabilityApi()
    with serving(served):
        yield served


def _account(**config: Any) -> Connection:
    return connection({"id": "carbon", "kind": "aws_sustainability", "aws": config})


def _emissions(account: str = "000000000042", month: str = "2026-08", version: str = "v3.1.0") -> Emissions:
    tonnes = {name: Decimal(n + 1) / 1000 for n, name in enumerate(TYPES)}
    return Emissions(month, account, "eu-west-1", "AmazonEC2", version, tonnes)


def test_all_seven_kinds_are_read_from_every_page(api: SustainabilityApi) -> None:
    api.page_rows = 2
    api.emissions = [_emissions(account=f"{n:012d}") for n in range(5)]

    read = _read(_account(), aws(api.endpoint), "2026-08")

    assert _masses(read, SubAccountId="000000000003") == {
        ("000000000003", "AmazonEC2", "v3.1.0", scope, basis): Decimal(kg)
        for kg, (scope, basis) in enumerate(
            [
                ("total", "location"), ("total", "market"), ("1", "none"), ("2", "location"), ("2", "market"),
                ("3", "location"), ("3", "market"),
            ],
            start=1,
        )
    }  # fmt: skip
    assert read.rows.num_rows == 5 * 7
    assert len(api.requests) == 3
    assert set(read.rows.column("source").to_pylist()) == {"sustainability"}


def test_the_request_groups_by_three_dimensions_and_ends_exclusively(api: SustainabilityApi) -> None:
    _read(_account(account_ids=["000000000042"]), aws(api.endpoint), "2026-12", "2026-11")

    (request,) = api.requests
    assert (request.body["TimePeriod"]["Start"][:10], request.body["TimePeriod"]["End"][:10]) == (
        "2026-11-01",
        "2027-01-01",
    )
    assert set(request.body["GroupBy"]) == {"USAGE_ACCOUNT_ID", "REGION", "SERVICE"}
    assert set(request.body["EmissionsTypes"]) == set(TYPES)
    assert request.body["Granularity"] == "MONTHLY"
    assert request.body["FilterBy"] == {"Dimensions": {"USAGE_ACCOUNT_ID": ["000000000042"]}}


def test_months_between_those_asked_for_are_left_out(api: SustainabilityApi) -> None:
    api.emissions = [_emissions(month=month) for month in ("2026-06", "2026-07", "2026-08")]

    read = _read(_account(), aws(api.endpoint), "2026-06", "2026-08")

    assert set(read.rows.column("month").to_pylist()) == {"2026-06", "2026-08"}


def test_a_throttled_api_is_asked_again_and_no_page_is_lost(api: SustainabilityApi) -> None:
    time = Time()
    api.page_rows = 1
    api.emissions = [_emissions(account=f"{n:012d}") for n in range(3)]
    api.failures.extend([fake.THROTTLED, fake.THROTTLED])

    read = _read(_account(), aws(api.endpoint), "2026-08", time=time)

    assert read.rows.num_rows == 3 * 7
    assert len(api.requests) == 2 + 3
    assert len(time.slept) == 2


def test_an_api_that_keeps_throttling_is_a_clear_error(api: SustainabilityApi) -> None:
    api.failures.extend([fake.THROTTLED] * 20)

    with pytest.raises(ProviderUnavailableError, match="AWS Sustainability did not answer for connection carbon"):
        _read(_account(), aws(api.endpoint), "2026-08")


def test_expired_credentials_and_missing_rights_are_told_apart(api: SustainabilityApi) -> None:
    api.failures.extend([fake.EXPIRED, fake.DENIED])

    with pytest.raises(ExpiredCredentialsError, match="ExpiredTokenException") as expired:
        _read(_account(), aws(api.endpoint), "2026-08")
    with pytest.raises(AccessDeniedError, match="sustainability:GetEstimatedCarbonEmissions"):
        _read(_account(), aws(api.endpoint), "2026-08")

    assert SECRET not in str(expired.value)


def test_the_same_statement_read_twice_has_the_same_ids(api: SustainabilityApi) -> None:
    api.emissions = [_emissions()]

    first, second = (_read(_account(), aws(api.endpoint), "2026-08").rows for _ in range(2))

    assert first.column("statement_id").equals(second.column("statement_id"))
    api.emissions = [_emissions(version="v3.2.0")]
    third = _read(_account(), aws(api.endpoint), "2026-08").rows
    assert not set(third.column("statement_id").to_pylist()) & set(first.column("statement_id").to_pylist())


# Any


def test_a_connection_of_bills_has_no_statements() -> None:
    with pytest.raises(ConnectionConfigError, match="delivers bills"):
        _read(connection({"id": "bills", "kind": "cur2", "uri": "/bills"}), LocalAccess(), "2026-08")


def test_access_to_another_provider_is_refused() -> None:
    with pytest.raises(ConnectionConfigError, match="cannot be read with LocalAccess"):
        _read(_account(), LocalAccess(), "2026-08")


@pytest.mark.parametrize("month", ["2026-13", "2026-8", "202608", ""])
def test_a_month_is_written_in_one_way(month: str) -> None:
    with pytest.raises(ValueError, match="write it as 2026-08"):
        _read(_account(), LocalAccess(), month)
