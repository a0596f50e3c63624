"""Azure Blob Storage as a store: against azurite, and a scripted server in front of it where connections break off."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import AzureAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.stores import Store, open_store
from offgridflow_pipeline.connectors.stores.azure_blob import BlobPlace, blob_place
from offgridflow_pipeline.connectors.stores.transfer import TransferLimits
from offgridflow_pipeline_tests.counterparts.azurite import ACCOUNT, BlobServer
from offgridflow_pipeline_tests.counterparts.installation import without
from offgridflow_pipeline_tests.counterparts.scripted_server import (
    Response,
    ScriptedServer,
    always,
    cut_bodies,
    first_do,
    scripted_server,
)

QUICK = TransferLimits(pause_seconds=0.01, attempts=1, continuations=3, connect_seconds=2, read_seconds=5)
BODY = random.Random(7).randbytes(9 * 2**20 + 17)
ANY = f"az://{ACCOUNT}/container"


@pytest.fixture
def front(blobs: BlobServer) -> Iterator[ScriptedServer]:
    parts = urlsplit(blobs.endpoint)
    with scripted_server(f"{parts.scheme}://{parts.netloc}") as server:
        yield server


@pytest.fixture
def access(blobs: BlobServer, front: ScriptedServer) -> AzureAccess:
    return replace(blobs.access, account_url=f"{front.endpoint}/{ACCOUNT}")


@pytest.fixture
def container(blobs: BlobServer) -> str:
    return blobs.new_container()


@pytest.fixture
def uri(blobs: BlobServer, container: str) -> str:
    blobs.client().get_blob_client(container, "bills/part.csv").upload_blob(BODY)
    return f"az://{ACCOUNT}/{container}/bills/part.csv"


def _store(access: AzureAccess, limits: TransferLimits = QUICK) -> Store:
    return open_store(ANY, access, limits)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("az://acct/bills/a/b.csv", BlobPlace("acct", "core.windows.net", "bills", "a/b.csv")),
        ("az://acct/bills", BlobPlace("acct", "core.windows.net", "bills", "")),
        ("abfss://bills@acct.dfs.core.windows.net/a b", BlobPlace("acct", "core.windows.net", "bills", "a b")),
        ("https://acct.blob.core.windows.net/bills/a", BlobPlace("acct", "core.windows.net", "bills", "a")),
        ("https://acct.blob.core.usgovcloudapi.net/bills/", BlobPlace("acct", "core.usgovcloudapi.net", "bills", "")),
    ],
)
def test_the_three_forms_of_a_uri_name_the_same_place(uri: str, place: BlobPlace) -> None:
    assert blob_place(uri) == place


@pytest.mark.parametrize(
    "uri",
    [
        "https://acct.blob.core.windows.net.example.org/bills/a",
        "https://acct.blob.example.org/bills",
        "https://user@acct.blob.core.windows.net/bills",
        "abfss://bills@evil/a",
        "az://acct.example.org/bills",
        "az://acct",
    ],
)
def test_a_host_that_is_not_azures_is_refused(uri: str) -> None:
    with pytest.raises(DeliveryError, match="is no place in Azure Blob Storage: write az://account/container"):
        open_store(uri, AzureAccess())


def test_an_endpoint_of_another_account_is_refused() -> None:
    access = AzureAccess(account_key=SecretStr("a2V5"), account_url="https://other.blob.core.windows.net")
    with pytest.raises(DeliveryError, match="is not that of the storage account ogftest: correct the connection"):
        open_store(ANY, access)


def test_all_blobs_below_a_folder_are_listed_with_size_etag_and_time(
    blobs: BlobServer, access: AzureAccess, container: str
) -> None:
    client = blobs.client().get_container_client(container)
    for name in ("acme/b.csv", "acme/a/x y#1.csv", "acme-old/a.csv", "acme/empty.csv"):
        client.upload_blob(name, b"" if "empty" in name else b"body")
    found = _store(access).list(f"az://{ACCOUNT}/{container}/acme")
    root = f"az://{ACCOUNT}/{container}/acme"
    assert [item.uri for item in found] == [f"{root}/a/x y#1.csv", f"{root}/b.csv", f"{root}/empty.csv"]
    assert [item.size_bytes for item in found] == [4, 4, 0]
    assert found[1].etag == client.get_blob_client("acme/b.csv").get_blob_properties().etag
    assert found[1].modified_at
    assert datetime.now(UTC) - found[1].modified_at < timedelta(minutes=10)
    with pytest.raises(DeliveryError, match="holds no object"):
        _store(access).list(f"az://{ACCOUNT}/{container}/ac")


def test_an_empty_blob_that_stands_for_a_folder_of_others_is_no_object(
    blobs: BlobServer, access: AzureAccess, container: str
) -> None:
    client = blobs.client().get_container_client(container)
    client.upload_blob("run/bill.parquet", b"")
    client.upload_blob("run/bill.parquet/part-0.parquet", b"body")
    found = _store(access).list(f"az://{ACCOUNT}/{container}/run")
    assert [item.uri.rpartition("/")[2] for item in found] == ["part-0.parquet"]


def test_every_page_of_a_listing_is_asked_for(
    blobs: BlobServer, front: ScriptedServer, access: AzureAccess, container: str
) -> None:
    client = blobs.client().get_container_client(container)
    for number in range(5):
        client.upload_blob(f"bills/{number}.csv", b"x")

    def two_a_page(request, _forward):  # type: ignore[no-untyped-def]
        if "comp=list" not in request.target or "maxresults" in request.target:
            return None
        # The account key signs the query: ask the server as the official client does, two at a time.
        (marker,) = parse_qs(urlsplit(request.target).query).get("marker", [None])
        pages = client.list_blobs(name_starts_with="bills", results_per_page=2).by_page(marker)
        names = "".join(
            f"<Blob><Name>{b.name}</Name><Properties><Etag>{b.etag}</Etag><Content-Length>{b.size}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for b in next(pages)
        )
        following = pages.continuation_token or ""
        body = f"<EnumerationResults><Blobs>{names}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>"
        return Response(200, {"Content-Type": "application/xml"}, body.encode())

    front.rules.append(two_a_page)
    found = _store(access).list(f"az://{ACCOUNT}/{container}/bills")
    assert [item.uri.rpartition("/")[2] for item in found] == [f"{n}.csv" for n in range(5)]
    assert len(front.asked("GET")) == 3


def test_a_blob_is_downloaded_once_in_ranges_and_verified(
    front: ScriptedServer, access: AzureAccess, uri: str, tmp_path: Path
) -> None:
    store = _store(access)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    assert _names(tmp_path) == ["bill"]
    ranges = [r.headers["x-ms-range"] for r in front.asked("GET", "part.csv")]
    assert ranges == [f"bytes=0-{2**23 - 1}", f"bytes={2**23}-{len(BODY) - 1}"]
    assert {r.headers["if-match"] for r in front.asked("GET", "part.csv")} == {item.etag}
    assert store.read_bytes(item) == BODY


def test_a_blob_that_is_stored_compressed_arrives_as_it_is_stored(
    blobs: BlobServer, access: AzureAccess, container: str, tmp_path: Path
) -> None:
    import gzip

    from azure.storage.blob import ContentSettings

    zipped = gzip.compress(b"a,b\n1,2\n", mtime=0)
    blobs.client().get_blob_client(container, "bill.csv.gz").upload_blob(
        zipped, content_settings=ContentSettings(content_encoding="gzip")
    )
    store = _store(access)
    (item,) = store.list(f"az://{ACCOUNT}/{container}/bill.csv.gz")
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == zipped


def test_a_body_that_breaks_off_is_continued(
    front: ScriptedServer, access: AzureAccess, uri: str, tmp_path: Path
) -> None:
    front.rules.append(cut_bodies("part.csv", after=1_000_000, times=1))
    store = _store(access)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY


def test_a_body_that_breaks_off_late_is_not_started_again(
    front: ScriptedServer, access: AzureAccess, uri: str, tmp_path: Path
) -> None:
    cuts = [3]  # more often than the library itself tries a range again

    def cut_second_range(request, forward):  # type: ignore[no-untyped-def]
        if not request.headers.get("x-ms-range", "").startswith(f"bytes={2**23}-") or not cuts[0]:
            return None
        cuts[0] -= 1
        response = forward()
        response.cut_after = 1000
        return response

    front.rules.append(cut_second_range)
    store = _store(access)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    starts = [r.headers["x-ms-range"].partition("-")[0] for r in front.asked("GET", "part.csv")]
    assert starts == ["bytes=0", *[f"bytes={2**23}"] * 4]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_blob_overwritten_while_it_is_read_is_refused(
    blobs: BlobServer, front: ScriptedServer, access: AzureAccess, container: str, uri: str, tmp_path: Path, moment: str
) -> None:
    def overwrite() -> None:
        blobs.client().get_blob_client(container, "bills/part.csv").upload_blob(BODY[::-1], overwrite=True)

    store = _store(access)
    (item,) = store.list(uri)
    if moment == "before":
        overwrite()
    elif moment == "between":

        def rule(request, _forward):  # type: ignore[no-untyped-def]
            if request.headers.get("x-ms-range", "").startswith(f"bytes={2**23}-"):
                overwrite()

        front.rules.append(rule)
    else:
        front.rules.append(first_do("HEAD", "part.csv", overwrite))
    with pytest.raises(DeliveryError, match=r"part\.csv changed while it was read: run again"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


def test_a_blob_that_vanished_is_said_to_have_changed(
    blobs: BlobServer, access: AzureAccess, container: str, uri: str, tmp_path: Path
) -> None:
    store = _store(access)
    (item,) = store.list(uri)
    blobs.client().get_blob_client(container, "bills/part.csv").delete_blob()
    with pytest.raises(DeliveryError, match="changed while it was read"):
        store.download(item, tmp_path / "bill")


def test_bytes_that_do_not_fit_the_md5_of_the_blob_are_refused(
    blobs: BlobServer, access: AzureAccess, container: str, tmp_path: Path
) -> None:
    from azure.storage.blob import ContentSettings

    wrong = bytearray(16)
    blob = blobs.client().get_blob_client(container, "bill.csv")
    blob.upload_blob(b"body")
    blob.set_http_headers(ContentSettings(content_md5=wrong))
    store = _store(access)
    (item,) = store.list(f"az://{ACCOUNT}/{container}/bill.csv")
    with pytest.raises(DeliveryError, match=f"arrived damaged: its md5 is .* the store states {wrong.hex()}"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


def test_a_blob_over_the_limit_is_refused(access: AzureAccess, uri: str, tmp_path: Path) -> None:
    store = _store(access, replace(QUICK, maximum_bytes=1000))
    (item,) = store.list(uri)
    with pytest.raises(DeliveryError, match="at most 1,000 are read"):
        store.download(item, tmp_path / "bill")


# Identity and rights.


def test_a_wrong_account_key_and_a_missing_container_are_told_apart(access: AzureAccess) -> None:
    wrong = SecretStr(base64.b64encode(b"w" * 64).decode())
    with pytest.raises(AccessDeniedError) as raised:
        _store(replace(access, account_key=wrong)).list(ANY)
    assert wrong.get_secret_value() not in str(raised.value)
    with pytest.raises(DeliveryError, match="the container container does not exist in ogftest") as missing:
        _store(access).list(ANY)
    assert not isinstance(missing.value, AccessDeniedError)


def _sas(blobs: BlobServer, container: str, permission: str, hours: int) -> SecretStr:
    from azure.storage.blob import generate_container_sas

    now = datetime.now(UTC)
    return SecretStr(
        generate_container_sas(
            ACCOUNT, container, account_key=blobs.key, permission=permission, start=now - timedelta(hours=9),
            expiry=now + timedelta(hours=hours),
        )
    )  # fmt: skip


def test_a_sas_reads_what_it_is_for(
    blobs: BlobServer, front: ScriptedServer, access: AzureAccess, container: str, uri: str, tmp_path: Path
) -> None:
    sas = replace(access, account_key=SecretStr(""), sas_token=_sas(blobs, container, "rl", 1))
    store = _store(sas)
    (item,) = store.list(uri)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").stat().st_size == len(BODY)
    assert "sig=" not in item.uri


def test_a_sas_without_list_names_the_right_and_an_expired_one_its_age(
    blobs: BlobServer, access: AzureAccess, container: str, uri: str
) -> None:
    def listed(permission: str, hours: int) -> None:
        sas = _sas(blobs, container, permission, hours)
        try:
            _store(replace(access, account_key=SecretStr(""), sas_token=sas)).list(uri)
        except DeliveryError as error:
            assert sas.get_secret_value() not in str(error)
            assert "sig=" not in str(error)
            raise

    with pytest.raises(AccessDeniedError, match=f"the connection's SAS may not list the container {container}.*sp=rl"):
        listed("r", 1)
    with pytest.raises(DeliveryError, match=r"SAS"):
        listed("rl", -1)


def _error(status: int, code: str, message: str = "no") -> Response:
    body = f"<?xml version='1.0' encoding='utf-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(status, {"Content-Type": "application/xml", "x-ms-error-code": code}, body.encode())


@pytest.mark.parametrize(
    ("response", "error", "message"),
    [
        (
            _error(403, "AuthorizationPermissionMismatch"),
            AccessDeniedError,
            "Storage Blob Data Reader on the container",
        ),
        (_error(403, "AuthorizationFailure"), AccessDeniedError, "storage account ogftest refuses this network"),
        (_error(403, "KeyBasedAuthenticationNotPermitted"), AccessDeniedError, "does not accept keys"),
        (
            _error(403, "AuthenticationFailed", "Signature not valid in the specified time frame: Start"),
            ExpiredCredentialsError,
            "the SAS of the connection has expired",
        ),
        (_error(409, "BlobArchived"), DeliveryError, "is archived and cannot be read.*Rehydrate"),
        (_error(503, "ServerBusy"), ProviderUnavailableError, "Run again later"),
        (_error(400, "Teapot", "short and stout"), DeliveryError, r"the store answers Teapot \(short and stout"),
    ],
)
def test_a_refusal_of_azure_names_its_reason_and_the_cure(
    front: ScriptedServer, access: AzureAccess, uri: str, tmp_path: Path, response: Response,
    error: type[DeliveryError], message: str,
) -> None:  # fmt: skip
    store = _store(access)
    (item,) = store.list(uri)
    front.rules.append(always("GET", "part.csv", response))
    with pytest.raises(error, match=message) as raised:
        store.download(item, tmp_path / "bill")
    assert type(raised.value) is error
    assert uri in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("AADSTS7000222: The provided client secret keys are expired.", ExpiredCredentialsError, "secret of the client c1 has expired"),
        ("AADSTS7000215: Invalid client secret provided.", AccessDeniedError, "client secret of the client c1 is wrong"),
        ("something new", AccessDeniedError, "Microsoft Entra refuses the client c1"),
    ],
)  # fmt: skip
def test_a_refusal_of_the_service_principal_says_what_is_wrong_with_it(
    monkeypatch: pytest.MonkeyPatch, text: str, error: type[DeliveryError], message: str
) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import ClientSecretCredential

    def refuse(*_arguments: object, **_options: object) -> None:
        raise ClientAuthenticationError(message=text)

    # Microsoft Entra itself cannot be had here: only its answer is put in place.
    monkeypatch.setattr(ClientSecretCredential, "get_token", refuse)
    monkeypatch.setattr(ClientSecretCredential, "get_token_info", refuse)
    access = AzureAccess(directory_id="d1", client_id="c1", client_secret=SecretStr("s1"))
    with pytest.raises(error, match=message):
        _store(access).list(ANY)


def test_credentials_of_a_connection_leave_the_environment_alone(access: AzureAccess, uri: str) -> None:
    before = dict(os.environ)
    _store(access).list(uri)
    assert dict(os.environ) == before


def test_without_azurite_tests_skip_but_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="azurite is not installed in .*install_azurite"):
        without("azurite", "install_azurite.sh")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="azurite is not installed"):
        without("azurite", "install_azurite.sh")


def test_a_server_that_does_not_answer_is_unavailable(access: AzureAccess) -> None:
    away = replace(access, account_url=f"http://127.0.0.1:9/{ACCOUNT}")
    with pytest.raises(ProviderUnavailableError, match="cannot be reached"):
        _store(away).list(ANY)
