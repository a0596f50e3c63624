"""Probes: what is seen of a working connection, and the right that is named when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors import probe as probing
from offgridflow_pipeline.connectors.access import AwsAccess, AzureAccess, LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.probe import Finding, probe
from offgridflow_pipeline.connectors.providers.calls import Budget
from offgridflow_pipeline_tests.connectors.bills import cur_row, write_cur_delivery
from offgridflow_pipeline_tests.counterparts.cost_management import CostManagementApi
from offgridflow_pipeline_tests.counterparts.provider_api import Answer, ScriptedApi, serving
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server
from offgridflow_pipeline_tests.counterparts.scripted_server import Response, ScriptedServer, always, scripted_server

ROLE = "arn:aws:iam::123456789012:role/billing-reader"
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
TODAY = date(2026, 11, 20)


def _denied(message: str = "Access Denied") -> Response:
    body = f"<Error><Code>AccessDenied</Code><Message>{message}</Message><RequestId>1</RequestId></Error>"
    return Response(403, {"Content-Type": "application/xml"}, body.encode())


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "BUDGET", Budget(attempts=2, deadline_seconds=5, first_pause_seconds=0.01))


@pytest.fixture
def front(s3: S3Server) -> Iterator[ScriptedServer]:
    with scripted_server(s3.endpoint) as server:
        yield server


@pytest.fixture
def uri(s3: S3Server, tmp_path: Path) -> str:
    """Two delivered months in a bucket."""
    bucket = s3.new_bucket()
    write_cur_delivery(tmp_path, [[cur_row()], [cur_row()]])
    write_cur_delivery(tmp_path, [[cur_row()]], period="20260901-20261001")
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        s3.client().upload_file(str(path), bucket, f"bills/{path.relative_to(tmp_path)}")
    return f"s3://{bucket}/bills"


def _access(front: ScriptedServer) -> AwsAccess:
    return AwsAccess(
        access_key_id=CREDENTIAL, secret_access_key=SecretStr(CREDENTIAL), region=REGION, endpoint_url=front.endpoint
    )


def _steps(findings: list[Finding]) -> list[tuple[str, bool]]:
    return [(finding.step, finding.ok) for finding in findings]


def test_a_working_connection_tells_its_periods_and_newest_delivery(front: ScriptedServer, uri: str) -> None:
    findings = probe(Connection(id="c", kind="cur", uri=uri), _access(front), TODAY)
    assert _steps(findings) == [("listing", True), ("reading", True), ("reading", True), ("deliveries", True)]
    assert "5 objects" in findings[0].text
    assert findings[-1].text.startswith("2 billing periods from 2026-09 to 2026-10; the newest has 2 files, written 2")


def test_a_denied_listing_names_right_bucket_and_who(front: ScriptedServer, uri: str) -> None:
    bucket = uri.split("/")[2]
    front.rules.append(lambda request, _: _denied() if "list-type=2" in request.target else None)
    (finding,) = probe(Connection(id="c", kind="cur", uri=uri), _access(front), TODAY)
    assert not finding.ok
    assert f"s3:ListBucket on the bucket {bucket} is not allowed" in finding.text
    assert f"Allow s3:ListBucket on arn:aws:s3:::{bucket}" in finding.text


def test_a_denied_object_names_right_and_object(front: ScriptedServer, uri: str) -> None:
    front.rules.append(always("GET", "Manifest.json", _denied()))
    findings = probe(Connection(id="c", kind="cur", uri=uri), _access(front), TODAY)
    assert _steps(findings) == [("listing", True), ("reading", False)]
    assert "s3:GetObject on bills/20261001-20261101/" in findings[1].text
    assert "also kms:Decrypt on that key" in findings[1].text


def test_data_under_another_right_than_its_manifest_is_noticed(front: ScriptedServer, uri: str) -> None:
    stated = "User: x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/2 because"
    front.rules.append(always("GET", ".csv.gz", _denied(stated)))
    findings = probe(Connection(id="c", kind="cur", uri=uri), _access(front), TODAY)
    assert _steps(findings) == [("listing", True), ("reading", True), ("reading", False)]
    assert "kms:Decrypt on the key arn:aws:kms:eu-west-1:1:key/2" in findings[2].text


def test_a_role_that_may_not_be_assumed_names_trust_and_external_id(front: ScriptedServer, uri: str) -> None:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        "<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"
    )
    front.rules.append(always("POST", "/", Response(403, {"Content-Type": "text/xml"}, body.encode())))
    access = replace(_access(front), role_arn=ROLE, external_id="ogf-1")
    (finding,) = probe(Connection(id="c", kind="cur", uri=uri), access, TODAY)
    assert (finding.step, finding.ok) == ("role", False)
    assert f"AWS STS denies {ROLE}" in finding.text
    assert "needs sts:AssumeRole: Let the trust policy of the role name our identity" in finding.text


def test_an_assumed_role_tells_whom_it_acts_as(front: ScriptedServer, uri: str) -> None:
    access = replace(_access(front), role_arn=ROLE, external_id="ogf-1")
    findings = probe(Connection(id="c", kind="cur", uri=uri), access, TODAY)
    assert all(finding.ok for finding in findings)
    assert findings[0].text.startswith("acts as arn:aws:sts::123456789012:assumed-role/billing-reader/")


def test_cost_explorer_is_asked_when_it_reconciles(front: ScriptedServer, uri: str) -> None:
    connection = Connection(id="c", kind="cur", uri=uri, reconcile="cost_explorer")
    body = b'{"__type":"AccessDeniedException","Message":"not authorized to perform: ce:GetCostAndUsage"}'

    def denied(request: object, _forward: object) -> Response | None:
        asked = getattr(request, "headers", {}).get("x-amz-target", "")
        return Response(400, {"Content-Type": "application/x-amz-json-1.1"}, body) if "GetCost" in asked else None

    front.rules.append(denied)
    findings = probe(connection, _access(front), TODAY)
    assert _steps(findings)[-1] == ("Cost Explorer", False)
    assert "It needs ce:GetCostAndUsage" in findings[-1].text
    front.rules.clear()
    assert _steps(probe(connection, _access(front), TODAY))[-1] == ("Cost Explorer", True)


@pytest.fixture
def azure(front: ScriptedServer) -> AzureAccess:
    """Blobs that a scripted server answers for."""
    blob = b"Date,Cost\n11/01/2026,1\n"
    name = "<Name>run/part.csv</Name>"
    listing = (
        f'<?xml version="1.0"?><EnumerationResults><Blobs><Blob>{name}<Properties><Etag>0x1</Etag>'
        f"<Last-Modified>Tue, 03 Nov 2026 06:00:00 GMT</Last-Modified><Content-Length>{len(blob)}</Content-Length>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"
    )
    headers = {"x-ms-blob-type": "BlockBlob", "ETag": '"0x1"', "Last-Modified": "Tue, 03 Nov 2026 06:00:00 GMT"}
    ranges = headers | {"Content-Range": f"bytes 0-{len(blob) - 1}/{len(blob)}"}
    front.rules += [
        always("GET", "part.csv", Response(206, ranges, blob)),
        always("GET", "/account/exports", Response(200, {"Content-Type": "application/xml"}, listing.encode())),
    ]
    return AzureAccess(account_key=SecretStr("Y2FuYXJ5"), account_url=f"{front.endpoint}/account")


def test_cost_management_is_asked_when_it_reconciles(azure: AzureAccess) -> None:
    scope = f"/subscriptions/{GUID}"
    connection = Connection(
        id="c", kind="azure_actual", uri="az://account/exports", reconcile="cost_management", azure={"scope": scope}
    )
    for api, ok, text in (
        (CostManagementApi(scope), True, "control totals of 0 subscriptions on 2026-11-18"),
        (CostManagementApi("/subscriptions/other"), False, "the role Cost Management Reader: Assign it on the scope"),
    ):
        with serving(api):
            findings = probe(connection, replace(azure, management_url=api.endpoint), TODAY)
        assert _steps(findings)[:2] == [("listing", True), ("reading", True)]
        assert (findings[-1].step, findings[-1].ok) == ("Cost Management", ok)
        assert text in findings[-1].text


def test_the_carbon_api_of_aws_names_its_right() -> None:
    denied = {"__type": "AccessDeniedException", "message": "not authorized"}
    api = ScriptedApi(Answer(403, denied, {"x-amzn-errortype": "AccessDeniedException"}))
    with serving(api):
        access = AwsAccess(access_key_id="a", secret_access_key=SecretStr("canary-9"), endpoint_url=api.endpoint)
        (finding,) = probe(Connection(id="c", kind="aws_sustainability"), access, TODAY)
    assert not finding.ok
    assert "sustainability:GetEstimatedCarbonEmissions" in finding.text


def test_a_local_folder_and_an_empty_one(tmp_path: Path) -> None:
    connection = Connection(id="c", kind="cur", uri=str(tmp_path))
    findings = probe(connection, LocalAccess(), TODAY)
    assert _steps(findings) == [("listing", True), ("deliveries", False)]
    assert "holds no csv, csv.gz or parquet file and no manifest" in findings[-1].text
    (tmp_path / "bill.csv").write_text("lineItem/UsageAmount\n1\n")
    findings = probe(connection, LocalAccess(), TODAY)
    assert findings[-1] == Finding("deliveries", True, "1 files without a manifest: they are read as one bill")


def test_a_refused_period_is_a_finding_with_its_reason(front: ScriptedServer, s3: S3Server, uri: str) -> None:
    bucket = uri.split("/")[2]
    keys = [o["Key"] for o in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]
    s3.client().delete_object(Bucket=bucket, Key=next(k for k in keys if k.endswith("00002.csv.gz")))
    findings = probe(Connection(id="c", kind="cur", uri=uri), _access(front), TODAY)
    assert _steps(findings)[-1] == ("deliveries", False)
    assert "1 billing periods from 2026-09 to 2026-09" in findings[-1].text
    assert "incomplete, wait or deliver again" in findings[-1].text


def test_a_secret_that_a_service_repeats_is_blacked_out(front: ScriptedServer, uri: str) -> None:
    front.rules.append(lambda request, _: _denied("the key canary-9 is bad") if "list-type" in request.target else None)
    access = replace(_access(front), secret_access_key=SecretStr("canary-9"))
    (finding,) = probe(Connection(id="c", kind="cur", uri=uri), access, TODAY)
    assert "canary-9" not in finding.text
