"""Sources: a month of bills from each cloud's store, with one listing and one download per object."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from offgridflow_pipeline.connectors.access import (
    Access,
    AwsAccess,
    AzureAccess,
    GcpAccess,
    HttpsAccess,
    LocalAccess,
    ambient_access,
)
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.sources import open_source
from offgridflow_pipeline_tests.connectors.bills import csv_bytes, cur_row, write_cur_delivery
from offgridflow_pipeline_tests.counterparts.azurite import ACCOUNT, BlobServer
from offgridflow_pipeline_tests.counterparts.gcs import GcsServer
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server
from offgridflow_pipeline_tests.counterparts.scripted_server import ScriptedServer, scripted_server

OCTOBER = [date(2026, 10, 1) + timedelta(days=n) for n in range(31)]

#: Uploads files and gives the uri of their folder, the access through the front, and the front itself.
Upload = Callable[[dict[str, bytes]], tuple[str, Access, ScriptedServer]]


@contextmanager
def _s3(server: S3Server) -> Iterator[Upload]:
    from pydantic import SecretStr

    with scripted_server(server.endpoint) as front:

        def upload(files: dict[str, bytes]) -> tuple[str, Access, ScriptedServer]:
            bucket = server.new_bucket()
            for name, body in files.items():
                server.client().put_object(Bucket=bucket, Key=f"prefix/{name}", Body=body)
            access = AwsAccess("", "", CREDENTIAL, SecretStr(CREDENTIAL), REGION, front.endpoint)
            return f"s3://{bucket}/prefix", access, front

        yield upload


@contextmanager
def _azure(server: BlobServer) -> Iterator[Upload]:
    parts = urlsplit(server.endpoint)
    with scripted_server(f"{parts.scheme}://{parts.netloc}") as front:

        def upload(files: dict[str, bytes]) -> tuple[str, Access, ScriptedServer]:
            container = server.new_container()
            for name, body in files.items():
                server.client().get_blob_client(container, f"prefix/{name}").upload_blob(body)
            access = replace(server.access, account_url=f"{front.endpoint}/{ACCOUNT}")
            return f"az://{ACCOUNT}/{container}/prefix", access, front

        yield upload


@contextmanager
def _gcs(server: GcsServer) -> Iterator[Upload]:
    with scripted_server(server.endpoint) as front:

        def upload(files: dict[str, bytes]) -> tuple[str, Access, ScriptedServer]:
            bucket = server.new_bucket()
            for name, body in files.items():
                server.client().bucket(bucket).blob(f"prefix/{name}").upload_from_string(body)
            return f"gs://{bucket}/prefix", GcpAccess(api_endpoint=front.endpoint, anonymous=True), front

        yield upload


@pytest.fixture(params=[("s3", _s3), ("blobs", _azure), ("gcs", _gcs)], ids=["s3", "azure", "gcs"])
def upload(request: pytest.FixtureRequest) -> Iterator[Upload]:
    server, opened = request.param
    with opened(request.getfixturevalue(server)) as found:
        yield found


def test_a_month_costs_one_listing_and_one_download_of_every_object(upload: Upload, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[cur_row(lineItem__ResourceId=f"i-{n}")] for n in range(4)])
    write_cur_delivery(tmp_path / "bills", [[cur_row()]], period="20260801-20260901")
    files = {p.relative_to(tmp_path / "bills").as_posix(): p.read_bytes() for p in (tmp_path / "bills").rglob("*.*")}
    uri, access, front = upload(files)
    source = open_source(Connection(id="billing", kind="cur", uri=uri), access)
    (delivery,), refused = source.survey(OCTOBER)
    assert refused == []
    for item in delivery.objects:
        target = tmp_path / item.uri.rpartition("/")[2]
        source.fetch(item, target)
        assert target.read_bytes() == files[f"20261001-20261101/{target.name}"]
    bodies = [r for r in front.asked("GET") if "alt=media" in r.target or not r.target.startswith("/storage/v1")]
    read = Counter(unquote(r.path).rpartition("/")[2] for r in bodies if ".csv.gz" in r.path or ".json" in r.path)
    assert read == {"report-Manifest.json": 1} | {f"report-{n:05d}.csv.gz": 1 for n in range(1, 5)}
    listings = [r for r in front.asked("GET") if "prefix=" in r.target]
    assert len(listings) == 1


def test_an_azure_month_with_its_manifest_is_read_from_blob_storage(blobs: BlobServer, tmp_path: Path) -> None:
    body = csv_bytes([{"costInBillingCurrency": "1"}])
    folder = "20261001-20261031/202611021200/0a1b"
    manifest = {
        "exportConfig": {"exportName": "daily", "resourceId": "/subscriptions/0a1b", "type": "ActualCost"},
        "runInfo": {"runId": "r1", "submittedTime": "2026-11-02T12:00:00Z", "startDate": "2026-10-01T00:00:00"},
        "blobs": [{"blobName": f"prefix/{folder}/part_0_0001.csv", "byteCount": len(body)}],
    }
    with _azure(blobs) as upload_blobs:
        uri, access, _ = upload_blobs(
            {f"{folder}/part_0_0001.csv": body, f"{folder}/manifest.json": json.dumps(manifest).encode()}
        )
        source = open_source(Connection(id="billing", kind="azure_actual", uri=uri), access)
        (delivery,), refused = source.survey(OCTOBER)
        source.fetch(delivery.objects[0], tmp_path / "part.csv")
    assert refused == []
    assert (delivery.period_start, delivery.period_end) == (date(2026, 10, 1), date(2026, 11, 1))
    assert (tmp_path / "part.csv").read_bytes() == body


def test_a_table_of_bigquery_is_not_opened_with_another_clouds_access() -> None:
    connection = Connection(id="billing", kind="gcp_standard", uri="bigquery://project.dataset.table")
    with pytest.raises(DeliveryError, match="is a table of BigQuery: it needs access to Google Cloud"):
        open_source(connection, LocalAccess())


@pytest.mark.parametrize(
    ("uri", "access"),
    [
        ("/bills", LocalAccess()),
        ("s3://bucket/prefix", AwsAccess()),
        ("az://account/bills", AzureAccess()),
        ("https://account.blob.core.windows.net/bills/october", AzureAccess()),
        ("gs://bucket/prefix", GcpAccess()),
        ("https://Files.example.org/bill.csv", HttpsAccess(allowed_hosts=frozenset({"files.example.org"}))),
    ],
)
def test_a_person_at_a_terminal_reaches_every_store_as_the_process(uri: str, access: Access) -> None:
    connection = Connection(id="estimate", kind="focus", uri=uri)
    assert ambient_access(connection.provider, uri) == access
