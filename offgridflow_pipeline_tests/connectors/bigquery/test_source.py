"""Google's exports read from BigQuery, on the emulator; refusals on a fake of its REST API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import GcpAccess
from offgridflow_pipeline.connectors.bigquery import client as bigquery_client
from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, TableName
from offgridflow_pipeline.connectors.bigquery.source import BigQuerySource
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.ingest import Ingested, ingest_days
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.providers.google_credentials import (
    BIGQUERY,
    google_credentials,
    trusted_credentials,
)
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.objects import RawObjects
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.connectors.bills import lines
from offgridflow_pipeline_tests.connectors.gcp_bills import (
    DETAILED,
    FOCUS,
    credit,
    gcp_focus_row,
    gcp_row,
    nested,
    schema,
    without,
)
from offgridflow_pipeline_tests.counterparts.bigquery import PROJECT, BigQueryServer

FIRST, SECOND, THIRD = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)


class Export:
    """One export table in the emulator."""

    def __init__(
        self, server: BigQueryServer, kind: str, fields: dict[str, Any], *, ingestion_time: bool = True
    ) -> None:
        from google.cloud import bigquery

        self._client = server.client()
        self.name = f"{PROJECT}.{server.new_dataset()}.gcp_billing_export"
        columns = [bigquery.SchemaField.from_api_repr(field) for field in schema(fields)]
        table = bigquery.Table(self.name, schema=columns)
        if ingestion_time:
            table.time_partitioning = bigquery.TimePartitioning(type_="DAY")
        self._table = self._client.create_table(table)
        self.connection = Connection(id="gcp", kind=kind, uri=f"bigquery://{self.name}")
        self.source = BigQuerySource(self.connection, server.access)

    def insert(self, *rows: dict[str, Any]) -> None:
        """Append rows of flat names, as the export does."""
        assert self._client.insert_rows_json(self._table, [nested(row) for row in rows]) == []

    def fetched(self, target: Path, days: Sequence[date]) -> list[dict[str, Any]]:
        """Rows of the days as they lie in the file."""
        [delivery], _ = self.source.survey(days)
        [item] = delivery.objects
        self.source.fetch(item, target)
        return pq.read_table(target).to_pylist()


@pytest.fixture
def detailed(bigquery: BigQueryServer) -> Export:
    return Export(bigquery, "gcp_detailed", DETAILED)


@pytest.fixture
def focus(bigquery: BigQueryServer) -> Export:
    return Export(bigquery, "gcp_focus", FOCUS, ingestion_time=False)


def _on(day: date, **changed: Any) -> dict[str, Any]:
    return gcp_row(usage_start_time=f"{day}T01:00:00Z", usage_end_time=f"{day}T02:00:00Z", **changed)


def test_a_delivery_is_named_by_newest_export_and_count(detailed: Export) -> None:
    detailed.insert(_on(FIRST), _on(SECOND, export_time="2026-10-07T01:02:03.123456Z"), _on(THIRD))
    [delivery], refused = detailed.source.survey([FIRST, SECOND])
    assert refused == []
    assert (delivery.feed, delivery.period_start, delivery.period_end) == ("gcp_detailed", FIRST, THIRD)
    [item] = delivery.objects
    assert item.uri == f"bigquery://{detailed.name.replace('.', '/')}?days=2026-10-05..2026-10-06"
    assert item.etag == delivery.version == "2026-10-07T01:02:03.123456Z|2"


def test_only_the_days_that_were_asked_for_are_read(detailed: Export, tmp_path: Path) -> None:
    detailed.insert(*(_on(day, project__id=str(day)) for day in (FIRST, SECOND, THIRD)))
    found = detailed.fetched(tmp_path / "rows", [THIRD, FIRST])
    assert {row["project_id"] for row in found} == {str(FIRST), str(THIRD)}


def test_a_day_without_rows_is_an_empty_file_of_the_same_columns(detailed: Export, tmp_path: Path) -> None:
    detailed.insert(_on(FIRST))
    assert detailed.fetched(tmp_path / "none", [THIRD]) == []
    detailed.fetched(tmp_path / "one", [FIRST])
    assert pq.read_schema(tmp_path / "none") == pq.read_schema(tmp_path / "one")


def test_a_row_that_arrives_after_the_survey_belongs_to_the_next_version(detailed: Export, tmp_path: Path) -> None:
    detailed.insert(_on(FIRST))
    [delivery], _ = detailed.source.survey([FIRST])
    detailed.insert(_on(FIRST, export_time="2026-10-06T00:00:00Z", project__id="late"))
    detailed.source.fetch(delivery.objects[0], tmp_path / "rows")
    assert [row["project_id"] for row in pq.read_table(tmp_path / "rows").to_pylist()] == ["larch-web"]
    assert len(detailed.fetched(tmp_path / "again", [FIRST])) == 2


def test_rows_that_slip_in_below_the_watermark_are_noticed(detailed: Export, tmp_path: Path) -> None:
    detailed.insert(_on(FIRST))
    [delivery], _ = detailed.source.survey([FIRST])
    detailed.insert(_on(FIRST, export_time="2026-10-05T05:00:00Z"))
    with pytest.raises(DeliveryError, match="changed while it was read: 1 rows were surveyed and 2 found"):
        detailed.source.fetch(delivery.objects[0], tmp_path / "rows")


def test_numbers_are_the_exact_texts_of_the_export(detailed: Export, tmp_path: Path) -> None:
    row = _on(FIRST, cost=0.1 + 0.2, usage__amount=2.3198314011096954e-05, credits=[credit(-5e-06)])
    detailed.insert(row | {"price.tier_start_amount": "12345678901234567890.123456789"})
    [found] = detailed.fetched(tmp_path / "rows", [FIRST])
    assert (found["cost"], found["usage_amount"]) == ("0.30000000000000004", "2.3198314011096954e-05")
    assert found["price_tier_start_amount"] == "12345678901234567890.123456789"
    assert json.loads(found["credits"], parse_float=str)[0]["amount"] == "-5e-06"
    assert found["export_time"] == "2026-10-05T06:00:00.250000Z"


def test_more_rows_than_a_page_are_all_read(detailed: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud.bigquery.table import RowIterator

    pages: list[int] = []
    read = RowIterator._get_next_page_response

    def counted(self: RowIterator) -> Any:
        self._page_size = 100
        response = read(self)
        pages.append(len(response.get("rows", [])))
        return response

    detailed.insert(*(_on(FIRST, project__id=f"p-{number}") for number in range(750)))
    monkeypatch.setattr(RowIterator, "_get_next_page_response", counted)
    found = detailed.fetched(tmp_path / "rows", [FIRST])
    assert {row["project_id"] for row in found} == {f"p-{number}" for number in range(750)}
    assert len(pages) > 2


def test_the_storage_read_api_gives_the_same_rows_as_pages(
    bigquery: BigQueryServer, detailed: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detailed.insert(*(_on(FIRST, project__id=f"p-{number}", credits=[credit(-0.02)]) for number in range(750)))
    pages = detailed.fetched(tmp_path / "pages", [FIRST])
    [delivery], _ = detailed.source.survey([FIRST])
    sessions = _count_sessions(monkeypatch)
    _keep_results(monkeypatch, f"{detailed.name}_result")
    monkeypatch.setattr(BigQueryTable, "_storage_reader", lambda _: _storage_reader(bigquery.grpc_address))
    detailed.source.fetch(delivery.objects[0], tmp_path / "streamed")
    streamed = pq.read_table(tmp_path / "streamed").to_pylist()
    assert sessions == [True]
    assert sorted(streamed, key=json.dumps) == sorted(pages, key=json.dumps)


def test_without_the_right_to_read_sessions_pages_are_read(
    detailed: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detailed.insert(*(_on(FIRST, project__id=f"p-{number}") for number in range(750)))
    sessions = _count_sessions(monkeypatch)
    with _refusing_sessions() as address:
        monkeypatch.setattr(BigQueryTable, "_storage_reader", lambda _: _storage_reader(address))
        found = detailed.fetched(tmp_path / "rows", [FIRST])
    assert sessions == [True]
    assert {row["project_id"] for row in found} == {f"p-{number}" for number in range(750)}


def test_missing_columns_are_left_out_and_new_ones_are_told_once(
    bigquery: BigQueryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = without(DETAILED, "tags", "subscription", "resource") | {"something_new": "STRING"}
    export = Export(bigquery, "gcp_standard", fields)
    row = {name: value for name, value in _on(FIRST).items() if not name.startswith("resource.")}
    export.insert(row | {"something_new": "x"})
    for name in ("one", "two"):
        [found] = export.fetched(tmp_path / name, [FIRST])
    assert not {"tags", "resource_name", "something_new", "project_ancestors"} & found.keys()
    told = [record.getMessage() for record in caplog.records if "not read" in record.getMessage()]
    assert told == [f"{export.name} has columns that are not read: something_new."]


def test_the_rows_become_usage_lines_that_tie_to_cost_and_credits(
    detailed: Export, engine: Engine, tmp_path: Path
) -> None:
    rows = [
        _on(FIRST, credits=[credit(-0.03), credit(-0.01)]),
        _on(FIRST, consumption_model__description="Compute Flexible CUDs", usage__amount=7200.0),
        _on(FIRST, sku__description="Commitment v1: Cpu in Frankfurt for 1 Year", cost=9.5),
        _on(FIRST, project__id=None, project__name=None, cost_type="tax", cost=1.9),
        _on(FIRST, location__region=None, location__location="us", usage__unit="byte-seconds", usage__amount=2.0**60),
        _on(FIRST, usage__amount=-3600.0, cost_type="adjustment", adjustment_info__id="a",
            adjustment_info__type="USAGE_CORRECTION", invoice__month="202611"),
    ]  # fmt: skip
    detailed.insert(*rows)
    detailed.fetched(tmp_path / "rows", [FIRST])
    found = lines(engine, tmp_path / "rows", "gcp_detailed").to_pylist()
    expected: dict[str, Decimal] = {}
    for row in rows:
        billed = Decimal(repr(row["cost"])) + sum(Decimal(repr(c["amount"])) for c in row["credits"])
        expected[row["invoice.month"]] = expected.get(row["invoice.month"], Decimal()) + billed
    assert {
        month: sum(line["BilledCost"] for line in found if line["InvoiceId"] == month) for month in expected
    } == expected
    counted = [line for line in found if line["x_Disposition"] == "countable"]
    assert sum(line["x_NormQuantity"] for line in counted if line["x_NormUnit"] == "vCPU-Hours") == 4 + 2 - 1
    assert [line["RegionId"] for line in found if line["x_NormUnit"] == "GiB-Hours"] == ["us"]
    assert {line["SubAccountId"] for line in found} == {"larch-web", None}


def test_the_focus_export_gives_the_same_usage_as_the_billing_export(
    focus: Export, detailed: Export, engine: Engine, tmp_path: Path
) -> None:
    focus.insert(gcp_focus_row())
    detailed.insert(gcp_row())
    focus.fetched(tmp_path / "focus", [FIRST])
    detailed.fetched(tmp_path / "detailed", [FIRST])
    [one] = lines(engine, tmp_path / "focus", "gcp_focus").to_pylist()
    [other] = lines(engine, tmp_path / "detailed", "gcp_detailed").to_pylist()
    same = (
        "usage_date", "BillingAccountId", "SubAccountId", "ServiceProviderName", "HostProviderName",
        "InvoiceIssuerName", "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ServiceName",
        "ChargeCategory", "ChargeDescription", "ConsumedQuantity", "ConsumedUnit", "BilledCost", "EffectiveCost",
        "RegionId", "Tags", "x_Provider", "x_ServiceCode", "x_InstanceType", "x_VCpus", "x_MemoryGiB",
        "x_NormQuantity", "x_NormUnit", "x_UnitRule", "x_KeyDescription", "x_Disposition", "x_SourceVersion",
    )  # fmt: skip
    assert {name: one[name] for name in same} == {name: other[name] for name in same}


def test_a_late_row_commits_its_usage_day_and_no_other(
    detailed: Export, engine: Engine, lake: Lake, tmp_path: Path
) -> None:
    def ingest() -> Ingested:
        return ingest_days(
            engine, lake, RawObjects(str(tmp_path / "lake")), table=schemas.GCP_BILLING_EXTRACT, tenant="acme",
            connections=[detailed.connection], open_source=lambda _: detailed.source, days=[FIRST, SECOND, THIRD],
            run_id="run",
        )  # fmt: skip

    detailed.insert(_on(FIRST), _on(SECOND))
    assert ingest().refused == {}
    assert ingest().committed == []
    detailed.insert(_on(FIRST, invoice__month="202611", export_time="2026-11-01T09:00:00Z", cost=0.25))
    assert ingest().committed == [FIRST]
    rows = engine.table(lake.slice("acme", "gcp_billing_extract"))
    costs = engine.to_arrow(rows.select("usage_date", "cost")).to_pylist()
    assert sorted((str(row["usage_date"]), row["cost"]) for row in costs) == [
        ("2026-10-05", "0.1"), ("2026-10-05", "0.25"), ("2026-10-06", "0.1"),
    ]  # fmt: skip


def test_marks_move_with_new_rows_and_lead_to_the_usage_days(detailed: Export) -> None:
    detailed.insert(_on(FIRST), _on(SECOND))
    before = detailed.source.partition_marks(10)
    detailed.insert(_on(FIRST, export_time="2026-10-09T00:00:00Z"))
    after = detailed.source.partition_marks(10)
    today = datetime.now(UTC).date()
    assert before[max(before)] == ("2026-10-05T06:00:00.250000Z", 2)
    assert after[max(after)] == ("2026-10-09T00:00:00.000000Z", 3)
    assert detailed.source.usage_days_of(after) == {FIRST, SECOND}
    assert detailed.source.usage_days_of([today - timedelta(days=5)]) == detailed.source.usage_days_of([]) == set()


def test_marks_of_a_copy_without_ingestion_time_go_by_export_day(bigquery: BigQueryServer) -> None:
    copy = Export(bigquery, "gcp_standard", DETAILED, ingestion_time=False)
    copy.insert(_on(FIRST), _on(SECOND, export_time="2026-10-08T00:00:00Z"))
    marks = copy.source.partition_marks(10, today=date(2026, 10, 10))
    assert marks == {FIRST: ("2026-10-05T06:00:00.250000Z", 1), date(2026, 10, 8): ("2026-10-08T00:00:00.000000Z", 1)}
    assert copy.source.usage_days_of([date(2026, 10, 8)]) == {SECOND}


def test_marks_of_the_focus_export_are_billing_periods(focus: Export) -> None:
    focus.insert(gcp_focus_row(), gcp_focus_row(BillingPeriodStart="2026-11-01T07:00:00Z"))
    october = date(2026, 10, 1)
    marks = focus.source.partition_marks(30, today=date(2026, 11, 20))
    assert marks == dict.fromkeys((october, date(2026, 11, 1)), ("2026-10-05T06:00:00.250000Z", 1))
    assert focus.source.usage_days_of([october]) == {FIRST}


def test_a_table_that_does_not_exist_is_named(bigquery: BigQueryServer) -> None:
    uri = f"bigquery://{PROJECT}.{bigquery.new_dataset()}.nothing"
    source = BigQuerySource(Connection(id="gcp", kind="gcp_standard", uri=uri), bigquery.access)
    with pytest.raises(DeliveryError, match=r"finds no table .*nothing .*check the connection's uri"):
        source.survey([FIRST])


@pytest.mark.parametrize(
    "uri", ["bigquery://p", "bigquery://p.d", "bigquery://p.d.t`; DROP", "s3://p/d/t", "bigquery://p.d.t?x=1"]
)
def test_a_uri_that_names_no_table_is_refused(uri: str) -> None:
    with pytest.raises(DeliveryError, match="names no BigQuery table"):
        TableName.of_uri(uri)


def test_a_domain_scoped_project_is_part_of_the_name() -> None:
    name = TableName.of_uri("bigquery://example.com:billing.exports.gcp_billing_export_v1_01AAAA")
    assert (name.project, name.dataset) == ("example.com:billing", "exports")


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind", "told"),
    [
        (403, "accessDenied", "User does not have bigquery.jobs.create permission in project p.", AccessDeniedError,
         "needs bigquery.jobs.create: Grant BigQuery Job User"),
        (403, "accessDenied", "Access Denied: Table p:d.t: User does not have permission to query table",
         AccessDeniedError, "needs bigquery.tables.get: Grant BigQuery Data Viewer"),
        (401, "authError", "Invalid credentials", ExpiredCredentialsError, "does not accept the credentials"),
        (400, "bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1.", DeliveryError,
         "would read more than 1,000 bytes"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_right_and_the_cure(
    status: int, reason: str, message: str, kind: type[DeliveryError], told: str
) -> None:
    with _refusing(status, reason, message) as endpoint:
        table = BigQueryTable(
            TableName("p", "d", "t"), GcpAccess(api_endpoint=endpoint, anonymous=True), maximum_bytes_billed=1000
        )
        with pytest.raises(kind, match=told):
            _ = table.description


def test_a_refused_query_needs_the_right_to_the_data() -> None:
    with _refusing(403, "accessDenied", "Access Denied: Table p:d.t") as endpoint:
        table = BigQueryTable(TableName("p", "d", "t"), GcpAccess(api_endpoint=endpoint, anonymous=True))
        with pytest.raises(AccessDeniedError, match=r"p\.d\.t .*needs bigquery\.tables\.getData"):
            table.rows("SELECT 1 FROM {table}")


def test_a_service_that_stays_down_is_given_up_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery_client, "REQUEST_SECONDS", 1.5)
    with _refusing(503, "backendError", "Try again") as endpoint:
        table = BigQueryTable(TableName("p", "d", "t"), GcpAccess(api_endpoint=endpoint, anonymous=True))
        started = time.monotonic()
        with pytest.raises(ProviderUnavailableError, match="did not answer for p.d.t"):
            _ = table.description
    assert time.monotonic() - started < 20


SERVICE_ACCOUNT = {
    "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": "not a key of anyone",
    "token_uri": "https://oauth2.googleapis.com/token",
}  # fmt: skip


def test_unusable_credentials_are_told_without_their_content() -> None:
    access = GcpAccess(credentials_json=SecretStr(json.dumps(SERVICE_ACCOUNT)))
    with pytest.raises(ExpiredCredentialsError) as refused:
        google_credentials(access, BIGQUERY)
    assert "unusable" in str(refused.value)
    assert "not a key of anyone" not in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"type": "authorized_user"}, "type"),
        ({"token_uri": "https://attacker.example/token"}, "token_uri"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri"),
        ({"token_uri": "https://googleapis.com.attacker.example"}, "token_uri"),
        ({"universe_domain": "attacker.example"}, "universe_domain"),
        ({"credential_source": {"file": "/etc/passwd"}}, "credential_source"),
        ({"credential_source": {"executable": {"command": "id"}}}, "credential_source"),
        ({"credential_source": {"url": "https://attacker.example"}}, "credential_source.url"),
    ],
)
def test_credentials_that_would_send_something_elsewhere_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        trusted_credentials(json.dumps(SERVICE_ACCOUNT | changed))


def test_workload_identity_of_other_clouds_is_accepted() -> None:
    federation = {
        "type": "external_account", "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {
            "environment_id": "aws1", "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        },
    }  # fmt: skip
    assert trusted_credentials(json.dumps(federation)) == federation


def _storage_reader(address: str) -> Any:
    """A client of the Storage Read API at an address without TLS."""
    import grpc
    from google.cloud.bigquery_storage import BigQueryReadClient
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(address)))


def _count_sessions(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Read sessions asked for from now on; small results must not shortcut them."""
    from google.cloud.bigquery.table import RowIterator
    from google.cloud.bigquery_storage import BigQueryReadClient

    asked: list[bool] = []
    create = BigQueryReadClient.create_read_session

    def counted(self: BigQueryReadClient, *arguments: Any, **options: Any) -> Any:
        asked.append(True)
        return create(self, *arguments, **options)

    monkeypatch.setattr(BigQueryReadClient, "create_read_session", counted)
    monkeypatch.setattr(RowIterator, "_is_almost_completely_cached", lambda _: False)
    return asked


def _keep_results(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """Keep each result in a table as well and stream it from there: the emulator cannot stream anonymous results."""
    from google.cloud.bigquery import TableReference

    run, result = BigQueryTable._job, BigQueryTable._result

    def kept(self: BigQueryTable, sql: str, parameters: Any) -> Any:
        run(self, f"CREATE OR REPLACE TABLE `{table}` AS {sql}", parameters).result()
        return run(self, sql, parameters)

    def streamed_from_there(self: BigQueryTable, job: Any) -> Any:
        rows = result(self, job)
        rows._table = TableReference.from_string(table)
        return rows

    monkeypatch.setattr(BigQueryTable, "_job", kept)
    monkeypatch.setattr(BigQueryTable, "_result", streamed_from_there)


@contextmanager
def _refusing_sessions() -> Iterator[str]:
    """A gRPC server that denies every call, as an identity without bigquery.readsessions.create is denied."""
    import grpc

    class Refusal(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            def refuse(_: Any, context: Any) -> Any:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission bigquery.readsessions.create denied")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Refusal()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def _refusing(status: int, reason: str, message: str) -> Iterator[str]:
    """A server that refuses every request as BigQuery's REST API does."""
    body = json.dumps(
        {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
