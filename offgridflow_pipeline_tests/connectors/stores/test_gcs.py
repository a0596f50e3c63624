"""Google Cloud Storage as a store: against an emulator, and a scripted server in front of it for what it cannot do."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import GcpAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.stores import Store, open_store
from offgridflow_pipeline.connectors.stores.transfer import TransferLimits
from offgridflow_pipeline_tests.counterparts.gcs import GcsServer
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
DOWNLOAD = "/download/"


@pytest.fixture
def front(gcs: GcsServer) -> Iterator[ScriptedServer]:
    with scripted_server(gcs.endpoint) as server:
        yield server


@pytest.fixture
def store(front: ScriptedServer) -> Store:
    return _store(front.endpoint)


@pytest.fixture
def bucket(gcs: GcsServer) -> str:
    return gcs.new_bucket()


@pytest.fixture
def uri(gcs: GcsServer, bucket: str) -> str:
    _put(gcs, bucket, BODY)
    return f"gs://{bucket}/bills/part.csv"


def _store(endpoint: str, limits: TransferLimits = QUICK) -> Store:
    return open_store("gs://any", GcpAccess(api_endpoint=endpoint, anonymous=True), limits)


def _put(gcs: GcsServer, bucket: str, body: bytes, name: str = "bills/part.csv") -> None:
    gcs.client().bucket(bucket).blob(name).upload_from_string(body)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_objects_below_a_folder_are_listed_with_their_generation(gcs: GcsServer, store: Store, bucket: str) -> None:
    for name in ("acme/b.csv", "acme/a/x y.csv", "acme-old/a.csv"):
        _put(gcs, bucket, b"body", name)
    found = store.list(f"gs://{bucket}/acme")
    assert [item.uri for item in found] == [f"gs://{bucket}/acme/a/x y.csv", f"gs://{bucket}/acme/b.csv"]
    assert found[1].etag == str(gcs.client().bucket(bucket).get_blob("acme/b.csv").generation)
    assert found[1].size_bytes == 4
    assert found[1].modified_at
    assert datetime.now(UTC) - found[1].modified_at < timedelta(minutes=10)
    with pytest.raises(DeliveryError, match="holds no object"):
        store.list(f"gs://{bucket}/ac")


def test_every_page_of_a_listing_is_asked_for(gcs: GcsServer, front: ScriptedServer, store: Store, bucket: str) -> None:
    for number in range(5):
        _put(gcs, bucket, b"x", f"bills/{number}.csv")

    def two_a_page(request, forward):  # type: ignore[no-untyped-def]
        if request.method != "GET" or not request.path.endswith("/o"):
            return None
        items = json.loads(forward().body)["items"]
        start = int(request.target.partition("pageToken=")[2].partition("&")[0] or 0)
        page = {"items": items[start : start + 2]}
        if start + 2 < len(items):
            page["nextPageToken"] = str(start + 2)
        return Response(200, {"Content-Type": "application/json"}, json.dumps(page).encode())

    front.rules.append(two_a_page)
    found = store.list(f"gs://{bucket}/bills")
    assert [item.uri.rpartition("/")[2] for item in found] == [f"{n}.csv" for n in range(5)]
    assert len([r for r in front.requests if r.path.endswith("/o")]) == 3


def test_an_object_is_downloaded_with_one_get_of_its_generation(
    front: ScriptedServer, store: Store, uri: str, tmp_path: Path
) -> None:
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    assert _names(tmp_path) == ["bill"]
    (asked,) = front.asked("GET", DOWNLOAD)
    assert f"ifGenerationMatch={item.etag}" in asked.target
    assert store.read_bytes(item) == BODY


def test_a_body_that_breaks_off_is_continued_where_it_ended(
    front: ScriptedServer, store: Store, uri: str, tmp_path: Path
) -> None:
    front.rules.append(cut_bodies(DOWNLOAD, after=1_000_000, times=2))
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    starts = [r.headers.get("range", "") for r in front.asked("GET", DOWNLOAD)]
    assert starts == ["", "bytes=1000000-", "bytes=2000000-"]


def test_a_body_that_always_breaks_off_is_given_up_and_leaves_no_file(
    front: ScriptedServer, uri: str, tmp_path: Path
) -> None:
    front.rules.append(cut_bodies(DOWNLOAD, after=100, times=99))
    store = _store(front.endpoint, replace(QUICK, continuations=1))
    (item,) = store.list(uri)
    with pytest.raises(ProviderUnavailableError, match="broke off 2 times"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_an_object_overwritten_while_it_is_read_is_refused(
    gcs: GcsServer, front: ScriptedServer, store: Store, bucket: str, uri: str, tmp_path: Path, moment: str
) -> None:
    (item,) = store.list(uri)

    def enforce(request, _forward):  # type: ignore[no-untyped-def]
        """Google refuses another generation; the emulator does not."""
        present = gcs.client().bucket(bucket).get_blob("bills/part.csv").generation
        if DOWNLOAD in request.path and f"ifGenerationMatch={present}" not in request.target:
            return Response(412, {"Content-Type": "application/json"}, b'{"error": {"message": "conditionNotMet"}}')
        return None

    def overwrite() -> None:
        _put(gcs, bucket, BODY[::-1])

    if moment == "before":
        overwrite()
    elif moment == "between":
        front.rules += [cut_bodies(DOWNLOAD, after=1_000_000), first_do("GET", DOWNLOAD, overwrite)]
    else:
        front.rules.append(first_do("GET", "/b/", lambda: None))
        front.rules.append(lambda r, _f: overwrite() if r.method == "GET" and DOWNLOAD not in r.path else None)
    front.rules.append(enforce)
    with pytest.raises(DeliveryError, match=r"part\.csv changed while it was read: run again"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


def test_an_object_that_vanished_is_said_to_have_changed(
    gcs: GcsServer, store: Store, bucket: str, uri: str, tmp_path: Path
) -> None:
    (item,) = store.list(uri)
    gcs.client().bucket(bucket).blob("bills/part.csv").delete()
    with pytest.raises(DeliveryError, match="changed while it was read"):
        store.download(item, tmp_path / "bill")


@pytest.mark.parametrize(("digest", "stated"), [("md5Hash", "md5"), ("crc32c", "crc32c")])
def test_bytes_that_do_not_fit_the_digests_of_the_object_are_refused(
    front: ScriptedServer, store: Store, uri: str, tmp_path: Path, digest: str, stated: str
) -> None:
    (item,) = store.list(uri)

    def only_this(request, forward):  # type: ignore[no-untyped-def]
        response = forward()
        if DOWNLOAD in request.path:
            response.body = bytes([response.body[0] ^ 1]) + response.body[1:]
        else:
            found = json.loads(response.body)
            kept = {name: value for name, value in found.items() if name not in ("md5Hash", "crc32c") or name == digest}
            response.body = json.dumps(kept).encode()
        return response

    front.rules.append(only_this)
    with pytest.raises(DeliveryError, match=f"arrived damaged: its {stated} is"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


def test_an_object_over_the_limit_is_refused(front: ScriptedServer, uri: str, tmp_path: Path) -> None:
    store = _store(front.endpoint, replace(QUICK, maximum_bytes=1000))
    (item,) = store.list(uri)
    with pytest.raises(DeliveryError, match="at most 1,000 are read"):
        store.download(item, tmp_path / "bill")


# Identity and rights.


def _error(status: int, message: str) -> Response:
    body = {"error": {"code": status, "message": message}}
    return Response(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


DENIED = "reader@p.iam.gserviceaccount.com does not have {} access to the Google Cloud Storage {}."


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (_error(403, DENIED.format("storage.objects.list", "bucket")), AccessDeniedError, "storage.objects.list"),
        (_error(403, "Forbidden"), AccessDeniedError, "storage.objects.list on the bucket any is not allowed"),
        (_error(404, "The specified bucket does not exist."), DeliveryError, "the bucket any does not exist"),
        (_error(400, "Bucket is a requester pays bucket"), DeliveryError, "set the project that pays"),
        (_error(503, "Backend Error"), ProviderUnavailableError, "any"),
    ],
)
def test_a_refused_listing_names_its_reason_and_the_cure(
    front: ScriptedServer, store: Store, response: Response, error: type[DeliveryError], message: str
) -> None:
    front.rules.append(always("GET", "/o", response))
    with pytest.raises(error, match=message) as raised:
        store.list("gs://any/bills")
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DENIED.format("storage.objects.get", "object"), "storage.objects.get is not allowed.*on the bucket"),
        (
            "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource 'projects/p/key'",
            r"cloudkms\.cryptoKeyVersions\.useToDecrypt on the key of bills/part\.csv",
        ),
    ],
)
def test_a_refused_download_names_the_permission(
    front: ScriptedServer, store: Store, uri: str, tmp_path: Path, text: str, message: str
) -> None:
    (item,) = store.list(uri)
    front.rules.append(always("GET", DOWNLOAD, _error(403, text)))
    with pytest.raises(AccessDeniedError, match=message):
        store.download(item, tmp_path / "bill")


def _service_account() -> SecretStr:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {
        "type": "service_account",
        "project_id": "p",
        "private_key": key.decode(),
        "client_email": "reader@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return SecretStr(json.dumps(info))


def test_a_revoked_key_is_expired_and_never_repeated(
    front: ScriptedServer, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth.exceptions import RefreshError
    from google.oauth2 import service_account

    def refuse(*_arguments: object) -> None:
        raise RefreshError("invalid_grant: Invalid JWT Signature.")

    # Google's token service cannot be had here, and no other address is trusted: only its answer is put in place.
    monkeypatch.setattr(service_account.Credentials, "refresh", refuse)
    secret = _service_account()
    store = open_store(uri, GcpAccess(credentials_json=secret, api_endpoint=front.endpoint), QUICK)
    with pytest.raises(ExpiredCredentialsError, match="cannot be renewed.*store a present key") as raised:
        store.list(uri)
    assert "PRIVATE KEY" not in str(raised.value)
    assert front.asked("GET") == []


def test_a_token_that_google_does_not_accept_is_said_so(front: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.oauth2 import service_account

    def renew(self: service_account.Credentials, _request: object) -> None:
        self.token = "a-token"

    monkeypatch.setattr(service_account.Credentials, "refresh", renew)
    front.rules.append(always("GET", "/o", _error(401, "Invalid Credentials")))
    store = open_store("gs://any", GcpAccess(credentials_json=_service_account(), api_endpoint=front.endpoint), QUICK)
    with pytest.raises(ExpiredCredentialsError, match="credentials of the connection's service account are not accept"):
        store.list("gs://any/bills")


def test_credentials_of_a_connection_leave_the_environment_alone(store: Store, uri: str) -> None:
    before = dict(os.environ)
    store.list(uri)
    assert dict(os.environ) == before
    assert "STORAGE_EMULATOR_HOST" not in before


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        _store("http://127.0.0.1:9").list("gs://any/bills")
