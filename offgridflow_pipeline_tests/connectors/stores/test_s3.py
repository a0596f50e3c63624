"""S3 as a store: against moto, and against a scripted server in front of it for what moto does not do on demand."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google_crc32c
import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import AwsAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.stores import Store, open_store
from offgridflow_pipeline.connectors.stores.transfer import TransferLimits
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server, s3_server
from offgridflow_pipeline_tests.counterparts.scripted_server import (
    Response,
    ScriptedServer,
    always,
    cut_bodies,
    first_do,
    scripted_server,
)

QUICK = TransferLimits(pause_seconds=0.01, attempts=2, continuations=3, connect_seconds=2, read_seconds=5)
BODY = random.Random(7).randbytes(3 * 2**20 + 17)
#: moto takes the region from it and checks nothing else.
SIGNED = f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}/20260101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
ROLE = "arn:aws:iam::123456789012:role/billing-reader"


def _access(endpoint: str) -> AwsAccess:
    return AwsAccess(
        access_key_id=CREDENTIAL, secret_access_key=SecretStr(CREDENTIAL), region=REGION, endpoint_url=endpoint
    )


def _store(endpoint: str, access: AwsAccess | None = None) -> Store:
    return open_store("s3://any", access or _access(endpoint), QUICK)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _put_plainly(s3: S3Server, bucket: str, keys: Sequence[str], body: bytes) -> None:
    """Put objects without the checksum that boto3 adds, and four times as fast."""
    connection = http.client.HTTPConnection(s3.endpoint.removeprefix("http://"))
    for key in keys:
        connection.request("PUT", f"/{bucket}/{key}", body, {"Authorization": SIGNED})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


@pytest.fixture
def front(s3: S3Server) -> Iterator[ScriptedServer]:
    with scripted_server(s3.endpoint) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def uri(s3: S3Server, bucket: str) -> str:
    s3.client().put_object(Bucket=bucket, Key="bills/part.csv.gz", Body=BODY)
    return f"s3://{bucket}/bills/part.csv.gz"


def test_all_pages_of_a_long_listing_are_read_in_order(s3: S3Server, bucket: str) -> None:
    _put_plainly(s3, bucket, [f"bills/{number:04d}.csv" for number in range(1005)], b"x")
    found = _store(s3.endpoint).list(f"s3://{bucket}/bills")
    assert [item.uri for item in found] == [f"s3://{bucket}/bills/{n:04d}.csv" for n in range(1005)]
    assert {(item.size_bytes, item.etag) for item in found} == {(1, f'"{hashlib.md5(b"x").hexdigest()}"')}
    assert all(datetime.now(UTC) - item.modified_at < timedelta(minutes=10) for item in found if item.modified_at)


def test_a_prefix_names_a_folder_and_never_part_of_a_name(s3: S3Server, bucket: str) -> None:
    for key in ("acme/a.csv", "acme-old/a.csv", "acme/", "acme/sub/b.csv"):
        s3.client().put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else b"x")
    store = _store(s3.endpoint)
    expected = [f"s3://{bucket}/acme/a.csv", f"s3://{bucket}/acme/sub/b.csv"]
    assert [item.uri for item in store.list(f"s3://{bucket}/acme")] == expected
    assert [item.uri for item in store.list(f"s3://{bucket}/acme/")] == expected
    assert [item.uri for item in store.list(f"s3://{bucket}/acme/a.csv")] == expected[:1]
    with pytest.raises(DeliveryError, match=f"s3://{bucket}/ac holds no object"):
        store.list(f"s3://{bucket}/ac")


def test_an_object_is_downloaded_with_one_get_and_nothing_is_left_beside_it(
    front: ScriptedServer, uri: str, tmp_path: Path
) -> None:
    store = _store(front.endpoint)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    assert _names(tmp_path) == ["bill"]
    assert len(front.asked("GET", "part.csv.gz")) == 1
    assert store.read_bytes(item) == BODY


def test_an_empty_object_is_a_file_without_bytes(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    s3.client().put_object(Bucket=bucket, Key="empty.csv", Body=b"")
    store = _store(s3.endpoint)
    (item,) = store.list(f"s3://{bucket}/empty.csv")
    store.download(item, tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == store.read_bytes(item) == b""


def test_a_body_that_breaks_off_is_continued_where_it_ended(front: ScriptedServer, uri: str, tmp_path: Path) -> None:
    front.rules.append(cut_bodies("part.csv.gz", after=1_000_000, times=2))
    store = _store(front.endpoint)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    asked = front.asked("GET", "part.csv.gz")
    assert [r.headers.get("range") for r in asked] == [None, "bytes=1000000-", "bytes=2000000-"]
    assert {r.headers["if-match"] for r in asked} == {item.etag}


def test_a_body_that_always_breaks_off_is_given_up_and_leaves_no_file(
    front: ScriptedServer, uri: str, tmp_path: Path
) -> None:
    front.rules.append(cut_bodies("part.csv.gz", after=1000, times=99))
    store = _store(front.endpoint)
    (item,) = store.list(uri)
    with pytest.raises(ProviderUnavailableError, match=r"broke off 4 times, last after 4,000 of .* run again later"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_an_object_overwritten_while_it_is_read_is_refused(
    front: ScriptedServer, s3: S3Server, bucket: str, uri: str, tmp_path: Path, moment: str
) -> None:
    def overwrite() -> None:
        s3.client().put_object(Bucket=bucket, Key="bills/part.csv.gz", Body=BODY[::-1])

    store = _store(front.endpoint)
    (item,) = store.list(uri)
    if moment == "before":
        overwrite()
    elif moment == "between":

        def rule(request, forward):  # type: ignore[no-untyped-def]
            if request.method != "GET" or "range" in request.headers:
                return None
            response = forward()
            response.cut_after = 500_000
            overwrite()
            return response

        front.rules.append(rule)
    else:
        front.rules.append(first_do("HEAD", "part.csv.gz", overwrite))
    with pytest.raises(DeliveryError, match=r"part\.csv\.gz changed while it was read: run again"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


def test_an_object_that_vanished_is_said_to_have_changed(s3: S3Server, bucket: str, uri: str, tmp_path: Path) -> None:
    store = _store(s3.endpoint)
    (item,) = store.list(uri)
    s3.client().delete_object(Bucket=bucket, Key="bills/part.csv.gz")
    with pytest.raises(DeliveryError, match="changed while it was read"):
        store.download(item, tmp_path / "bill")


def _damaged(response: Response) -> Response:
    response.body = bytes([response.body[0] ^ 1]) + response.body[1:]
    return response


DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "SHA256": lambda body: hashlib.sha256(body).digest(),
    "SHA1": lambda body: hashlib.sha1(body).digest(),
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "CRC32C": lambda body: google_crc32c.value(body).to_bytes(4, "big"),
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_bytes_that_do_not_fit_the_checksum_of_the_object_are_refused(
    front: ScriptedServer, s3: S3Server, bucket: str, tmp_path: Path, algorithm: str
) -> None:
    _put_plainly(s3, bucket, ["bills/part.csv.gz"], BODY)
    stated = base64.b64encode(DIGESTS[algorithm](BODY)).decode()

    def state(request, forward):  # type: ignore[no-untyped-def]
        """Moto leaves the checksum out of GET answers."""
        if request.method != "GET":
            return None
        response = forward()
        if request.headers.get("x-amz-checksum-mode") == "ENABLED":
            response.headers[f"x-amz-checksum-{algorithm.lower()}"] = stated
        return response

    front.rules.append(state)
    store = _store(front.endpoint)
    (item,) = store.list(f"s3://{bucket}/bills")
    store.download(item, tmp_path / "whole")
    front.rules.insert(0, lambda r, forward: _damaged(state(r, forward)) if r.method == "GET" else None)
    message = rf"arrived damaged: its {algorithm.lower()} is [0-9a-f]+, the store states"
    with pytest.raises(DeliveryError, match=message):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == ["whole"]


def test_without_a_checksum_the_etag_of_a_plain_object_is_its_md5(
    front: ScriptedServer, s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    _put_plainly(s3, bucket, ["bills/part.csv.gz"], BODY)
    store = _store(front.endpoint)
    (item,) = store.list(f"s3://{bucket}/bills")
    front.rules.append(lambda r, forward: _damaged(forward()) if r.method == "GET" else None)
    with pytest.raises(DeliveryError, match=rf"its md5 is \w+, the store states {hashlib.md5(BODY).hexdigest()}"):
        store.download(item, tmp_path / "bill")


def test_an_etag_of_parts_is_no_checksum(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts.csv")["UploadId"]
    pieces = [random.Random(8).randbytes(5 * 2**20), b"end"]
    parts = [
        {
            "PartNumber": n,
            "ETag": client.upload_part(Bucket=bucket, Key="parts.csv", UploadId=upload, PartNumber=n, Body=piece)[
                "ETag"
            ],
        }
        for n, piece in enumerate(pieces, start=1)
    ]
    client.complete_multipart_upload(Bucket=bucket, Key="parts.csv", UploadId=upload, MultipartUpload={"Parts": parts})
    store = _store(s3.endpoint)
    (item,) = store.list(f"s3://{bucket}/parts.csv")
    assert item.etag.endswith('-2"')
    store.download(item, tmp_path / "parts")
    assert (tmp_path / "parts").read_bytes() == b"".join(pieces)


def test_an_object_over_the_limits_is_refused_before_it_is_read(
    front: ScriptedServer, uri: str, tmp_path: Path
) -> None:
    small = replace(QUICK, maximum_bytes=1000, maximum_small_bytes=1000)
    store = open_store(uri, _access(front.endpoint), small)
    (item,) = store.list(uri)
    with pytest.raises(DeliveryError, match=r"has 3,145,745 bytes or more, at most 1,000 are read"):
        store.download(item, tmp_path / "bill")
    with pytest.raises(DeliveryError, match="at most 1,000 are read"):
        store.read_bytes(item)
    assert front.asked("GET", "part.csv.gz") == []


# Identity and rights.


def test_a_role_is_assumed_with_the_external_id_of_the_connection(front: ScriptedServer, uri: str) -> None:
    access = replace(_access(front.endpoint), role_arn=ROLE, external_id="offgridflow-7f3a")
    store = _store("", access)
    assert [item.uri for item in store.list(uri)] == [uri]
    store.list(uri)
    (assumed,) = front.asked("POST")
    assert assumed.form["Action"] == "AssumeRole"
    assert (assumed.form["RoleArn"], assumed.form["ExternalId"]) == (ROLE, "offgridflow-7f3a")
    key = front.asked("GET")[0].headers["authorization"]
    assert f"Credential={CREDENTIAL}/" not in key
    assert "x-amz-security-token" in front.asked("GET")[0].headers


def test_a_role_is_assumed_again_before_its_session_ends(front: ScriptedServer, uri: str) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()

    def shorten(request, forward):  # type: ignore[no-untyped-def]
        if request.method != "POST":
            return None
        response = forward()
        head, _, rest = response.body.partition(b"<Expiration>")
        response.body = head + b"<Expiration>" + soon + rest[rest.index(b"</Expiration>") :]
        return response

    front.rules.append(shorten)
    store = _store("", replace(_access(front.endpoint), role_arn=ROLE))
    store.list(uri)
    store.list(uri)
    assert len(front.asked("POST")) == 2


def test_credentials_of_a_connection_are_not_taken_from_the_environment(
    front: ScriptedServer, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "ambient")
    before = dict(os.environ)
    _store(front.endpoint).list(uri)
    _store("", AwsAccess(endpoint_url=front.endpoint, region=REGION)).list(uri)
    own, ambient = front.asked("GET")
    assert f"Credential={CREDENTIAL}/" in own.headers["authorization"]
    assert "x-amz-security-token" not in own.headers
    assert "Credential=AMBIENT/" in ambient.headers["authorization"]
    assert dict(os.environ) == before


@pytest.fixture(scope="module")
def reader() -> Iterator[AwsAccess]:
    """A user of a server that asks IAM: may list one bucket and get nothing."""
    with s3_server() as server:
        server.client().create_bucket(Bucket="open-bucket")
        server.client().create_bucket(Bucket="closed-bucket")
        server.client().put_object(Bucket="open-bucket", Key="bills/a.csv", Body=b"a")
        iam = server.client("iam")
        iam.create_user(UserName="reader")
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::open-bucket"}],
        }
        iam.put_user_policy(UserName="reader", PolicyName="list", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        ask_iam = urllib.request.Request(
            f"{server.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST"
        )
        with urllib.request.urlopen(ask_iam, timeout=10):
            pass
        yield replace(
            _access(server.endpoint),
            access_key_id=key["AccessKeyId"],
            secret_access_key=SecretStr(key["SecretAccessKey"]),
        )


def test_a_missing_right_to_list_is_named_with_its_bucket(reader: AwsAccess) -> None:
    with pytest.raises(
        AccessDeniedError,
        match=r"s3:ListBucket on the bucket closed-bucket is not allowed.*Allow s3:ListBucket on arn:aws:s3:::closed-",
    ):
        _store("", reader).list("s3://closed-bucket/bills")


def test_a_missing_right_to_read_is_named_with_its_object(reader: AwsAccess, tmp_path: Path) -> None:
    store = _store("", reader)
    (item,) = store.list("s3://open-bucket/bills")
    with pytest.raises(
        AccessDeniedError,
        match=r"s3:GetObject on bills/a\.csv .*Allow s3:GetObject on arn:aws:s3:::open-bucket/bills/a",
    ):
        store.download(item, tmp_path / "a")


def test_an_unknown_access_key_is_said_so_without_repeating_the_secret(reader: AwsAccess) -> None:
    access = replace(reader, access_key_id="AKIA0000000000000000", secret_access_key=SecretStr("not-the-secret"))
    with pytest.raises(AccessDeniedError, match="access key of the connection does not exist") as raised:
        _store("", access).list("s3://open-bucket/bills")
    assert "not-the-secret" not in str(raised.value)


def _error(status: int, code: str, message: str = "no") -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(status, {"Content-Type": "application/xml"}, body.encode())


KMS_TEXT = (
    "User: arn:aws:sts::123456789012:assumed-role/billing-reader/offgridflow is not authorized to perform: kms:Decrypt "
    "on resource: arn:aws:kms:eu-central-1:123456789012:key/5f2c because no identity-based policy allows it"
)


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (_error(400, "ExpiredToken"), ExpiredCredentialsError, "session token of .* has expired"),
        (
            _error(403, "AccessDenied", KMS_TEXT),
            AccessDeniedError,
            r"kms:Decrypt on the key arn:aws:kms:\S+key/5f2c of bills",
        ),
        (
            _error(403, "AccessDenied", KMS_TEXT.replace("kms:Decrypt", "s3:GetObjectVersion")),
            AccessDeniedError,
            r"s3:GetObjectVersion on arn:aws:kms:\S+ is not allowed",
        ),
        (_error(403, "SignatureDoesNotMatch"), AccessDeniedError, "the secret of the access key is wrong"),
        (_error(404, "NoSuchBucket"), DeliveryError, "does not exist.*Check the connection's uri"),
        (_error(403, "InvalidObjectState"), DeliveryError, "is archived and cannot be read"),
        (_error(503, "SlowDown"), ProviderUnavailableError, "Run again later"),
        (_error(418, "Teapot", "short and stout"), DeliveryError, r"the store answers Teapot \(short and stout\)"),
    ],
)
def test_a_refusal_of_s3_names_its_reason_and_the_cure(
    front: ScriptedServer, uri: str, tmp_path: Path, response: Response, error: type[DeliveryError], message: str
) -> None:
    store = _store(front.endpoint)
    (item,) = store.list(uri)
    front.rules.append(always("GET", "part.csv.gz", response))
    with pytest.raises(error, match=message) as raised:
        store.download(item, tmp_path / "bill")
    assert type(raised.value) is error
    assert uri in str(raised.value)


def test_a_role_that_may_not_be_assumed_names_the_trust_it_needs(front: ScriptedServer, uri: str) -> None:
    body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>"
    front.rules.append(always("POST", "", Response(403, {"Content-Type": "text/xml"}, body.encode())))
    store = _store("", replace(_access(front.endpoint), role_arn=ROLE, external_id="wrong"))
    with pytest.raises(AccessDeniedError, match=f"sts:AssumeRole on {ROLE} is not allowed.*sts:ExternalId"):
        store.list(uri)


def test_a_server_that_does_not_answer_is_unavailable_not_denied() -> None:
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        _store("http://127.0.0.1:9").list("s3://bucket/bills")


def test_no_identity_at_all_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(AccessDeniedError, match="no AWS identity was found"):
        _store("", AwsAccess(endpoint_url="http://127.0.0.1:9", region=REGION)).list("s3://bucket/bills")
