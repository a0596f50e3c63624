"""Downloads: whole, in part, conditionally, by signed link; who gets what, and what the audit log holds of it."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.lake.objects import RawObjectError
from offgridflow_pipeline.sidecar.answering import signed_links
from offgridflow_pipeline.sidecar.answering.byte_ranges import UnsatisfiableRangeError, wanted
from offgridflow_pipeline.sidecar.answering.downloads import attachment
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline_tests.sidecar.reporting import CONTENT, ReportDesk
from offgridflow_pipeline_tests.sidecar.serving import served_api

SHA = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA}"'
DOWNLOAD = "report:artifact:download"


@pytest.fixture
def desk(
    database: Database, api_database: Database, new_tenant: Callable[[], str], tmp_path: Path
) -> Iterator[ReportDesk]:
    with served_api(database, api_database, tmp_path / "data", ["reports", "runs"]) as api:
        yield ReportDesk(api, new_tenant(), tmp_path / "files")


@pytest.fixture
def path(desk: ReportDesk) -> str:
    return f"/v1/reports/rep_{desk.publish().report_id}/artifacts/report.pdf"


def test_a_file_arrives_whole_with_its_digest_and_nothing_that_a_browser_would_run(desk: ReportDesk, path: str) -> None:
    answer = desk.api.client.get(path, headers=desk.person("viewer"))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    wanted_headers = {
        "content-length": str(len(CONTENT)),
        "content-type": "application/pdf",
        "etag": ETAG,
        "repr-digest": f"sha-256=:{base64.b64encode(bytes.fromhex(SHA)).decode()}:",
        "accept-ranges": "bytes",
        "content-disposition": 'attachment; filename="report.pdf"',
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in wanted_headers} == wanted_headers
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_head_tells_size_and_digest_and_is_no_download(desk: ReportDesk, path: str) -> None:
    headers = desk.person("viewer")
    answer = desk.api.client.head(path, headers={**headers, "Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (200, b"")
    whole = desk.api.client.get(path, headers=headers)
    for name in ("content-length", "etag", "repr-digest", "content-type", "accept-ranges", "content-disposition"):
        assert answer.headers[name] == whole.headers[name]
    assert len(desk.events(DOWNLOAD)) == 1


@pytest.mark.parametrize("held", [ETAG, f"W/{ETAG}", "*", f'"other", {ETAG}'])
def test_who_has_the_file_already_gets_none_of_it_and_no_event(desk: ReportDesk, path: str, held: str) -> None:
    answer = desk.api.client.get(path, headers={**desk.person("viewer"), "If-None-Match": held})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == ETAG
    assert desk.events(DOWNLOAD) == []


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=300000-", 300_000, len(CONTENT)),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT)),
        ("bytes=-99999999", 0, len(CONTENT)),
        ("bytes=1048575-9999999", len(CONTENT) - 1, len(CONTENT)),
    ],
)
def test_a_range_arrives_as_asked(desk: ReportDesk, path: str, asked: str, first: int, stop: int) -> None:
    answer = desk.api.client.get(path, headers={**desk.person(), "Range": asked, "If-Range": ETAG})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first:stop]
    assert answer.headers["content-range"] == f"bytes {first}-{stop - 1}/{len(CONTENT)}"
    assert answer.headers["content-length"] == str(stop - first)
    assert answer.headers["repr-digest"].startswith("sha-256=:")


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-9", "If-Range": '"another edition"'},
        {"Range": "bytes=0-9", "If-Range": f"W/{ETAG}"},
        {"Range": "bytes=0-9", "If-Range": "Wed, 21 Oct 2026 07:28:00 GMT"},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=9-0"},
        {"Range": "lines=0-9"},
        {"Range": "bytes=-"},
        {"Range": "bytes=a-b"},
    ],
)
def test_what_is_no_single_range_of_this_file_is_answered_with_all_of_it(
    desk: ReportDesk, path: str, headers: dict[str, str]
) -> None:
    answer = desk.api.client.get(path, headers={**desk.person(), **headers})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=1048576-", "bytes=99999999-100000000", "bytes=-0"])
def test_a_range_behind_the_end_says_how_long_the_file_is(desk: ReportDesk, path: str, asked: str) -> None:
    answer = desk.api.client.get(path, headers={**desk.person(), "Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.json()["code"] == "range_not_satisfiable"
    assert desk.events(DOWNLOAD) == []


@given(size=st.integers(1, 50), first=st.integers(0, 60) | st.none(), last=st.integers(0, 60) | st.none())
def test_a_range_never_leaves_the_file(size: int, first: int | None, last: int | None) -> None:
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    try:
        part = wanted("GET", Headers({"range": text}), ETAG, size)
    except UnsatisfiableRangeError:
        assert (first is not None and first >= size) or (first is None and last == 0)
        return
    assert 0 <= part.start < part.stop <= size
    assert part.status == (206 if _is_range(first, last) else 200)


def _is_range(first: int | None, last: int | None) -> bool:
    return (first is not None and (last is None or last >= first)) or (first is None and last is not None)


@pytest.mark.req("R6")
def test_each_download_is_one_event_and_its_later_parts_are_none(desk: ReportDesk, path: str) -> None:
    ada = desk.person()
    for asked in ("bytes=0-99", "bytes=100-199", "bytes=200-"):
        assert desk.api.client.get(path, headers={**ada, "Range": asked}).status_code == 206
    (event,) = desk.events(DOWNLOAD)
    assert event["details"] == {"artefact": "report.pdf", "sha256": SHA, "signed_link": False}
    assert event["target"] == path.split("/")[3]
    assert event["request_id"]
    assert event["ip_hash"]
    desk.api.client.get(path, headers=ada)
    assert len(desk.events(DOWNLOAD)) == 2


def test_who_begins_in_the_middle_is_in_the_log_all_the_same(desk: ReportDesk, path: str) -> None:
    desk.api.client.get(path, headers={**desk.person(), "Range": "bytes=0-99"})
    desk.api.client.get(path, headers={**desk.person(), "Range": "bytes=1-"})  # another person
    assert len(desk.events(DOWNLOAD)) == 2


def test_foreign_and_unknown_ids_and_names_are_answered_alike(
    desk: ReportDesk, path: str, new_tenant: Callable[[], str]
) -> None:
    stranger = ReportDesk(desk.api, new_tenant(), desk.folder)
    own = desk.person()
    report = path.split("/")[3]
    texts = set()
    for url, headers in [
        (path, stranger.person()),
        (path.replace(report, f"rep_{uuid.uuid4()}"), own),
        (path.replace(report, report.upper()), own),
        (path.replace(report, "rep_1"), own),
        (path.replace(report, report.replace("rep_", "job_")), own),
        (path.replace("report.pdf", "other.pdf"), own),
        (path.replace("report.pdf", "..%2f..%2fsecrets"), own),
        (path.replace("report.pdf", "%2e%2e"), own),
    ]:
        for method in ("GET", "HEAD"):
            answer = desk.api.client.request(method, url, headers=headers)
            assert answer.status_code == 404, url
            if method == "GET":
                body = answer.json()
                texts.add((body["title"], body["detail"], body["code"], tuple(sorted(body))))
    assert len(texts) == 1
    assert desk.events(DOWNLOAD) == []
    assert stranger.events(DOWNLOAD) == []


def test_without_the_permission_nothing_is_sent_and_the_denial_is_logged(desk: ReportDesk, path: str) -> None:
    assert desk.api.client.get(path).status_code == 401
    assert desk.api.client.get(path, headers=desk.person("billing")).status_code == 403
    key = desk.api.key(desk.tenant, [Permission.REPORTS_READ])
    assert desk.api.client.get(path, headers=key).status_code == 403
    assert len(desk.events("access:denied")) == 2
    assert desk.events(DOWNLOAD) == []


def test_an_object_that_is_gone_or_cut_is_an_error_and_no_download(desk: ReportDesk, path: str) -> None:
    place = desk.place()
    place.write_bytes(CONTENT[:-1])
    assert desk.api.client.get(path, headers=desk.person()).status_code == 503
    place.unlink()
    answer = desk.api.client.get(path, headers=desk.person())
    assert (answer.status_code, answer.json()["code"]) == (503, "artefact_unavailable")
    assert str(place.parent) not in answer.text
    assert desk.events(DOWNLOAD) == []


def test_a_changed_byte_breaks_the_transfer_before_its_last_bytes(desk: ReportDesk, path: str) -> None:
    desk.place().write_bytes(CONTENT[:10] + b"X" + CONTENT[11:])
    received = b""
    with (
        pytest.raises(RawObjectError, match="was changed"),
        desk.api.client.stream("GET", path, headers=desk.person()) as answer,
    ):
        for chunk in answer.iter_bytes():
            received += chunk
    assert len(received) < len(CONTENT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report.pdf", 'attachment; filename="report.pdf"'),
        ('a"b\r\nX: y.pdf', "attachment; filename=\"a_b__X__y.pdf\"; filename*=UTF-8''a%22b%0D%0AX%3A%20y.pdf"),
        ("Übersicht.pdf", "attachment; filename=\"_bersicht.pdf\"; filename*=UTF-8''%C3%9Cbersicht.pdf"),
    ],
)
def test_a_file_name_breaks_no_header(name: str, expected: str) -> None:
    assert attachment(name) == expected


def test_a_file_with_an_odd_name_is_found_and_downloaded(desk: ReportDesk) -> None:
    report = desk.publish(b"x", name="Übersicht 100%.pdf")
    detail = desk.api.client.get(f"/v1/reports/rep_{report.report_id}", headers=desk.person()).json()
    (artifact,) = detail["artifacts"]
    answer = desk.api.client.get(artifact["_links"]["download"], headers=desk.person())
    assert (answer.status_code, answer.content) == (200, b"x")


def _link(desk: ReportDesk, path: str, headers: dict[str, str], **parameters: int) -> str:
    answer = desk.api.client.get(f"{path}/link", headers=headers, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["url"].startswith(desk.services.settings.public_url)
    return str(urlsplit(answer.json()["url"]).path)


@pytest.mark.req("R6")
def test_a_signed_link_works_without_signing_in_and_under_the_name_of_who_made_it(desk: ReportDesk, path: str) -> None:
    ada = uuid.uuid4()
    link = _link(desk, path, desk.person("viewer", ada))
    answer = desk.api.client.get(link)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, CONTENT, ETAG)
    assert desk.api.client.head(link).headers["content-length"] == str(len(CONTENT))
    assert desk.api.client.get(link, headers={"Range": "bytes=5-9"}).content == CONTENT[5:10]
    (issued,) = desk.events("report:artifact:link")
    (download,) = desk.events(DOWNLOAD)
    for event in (issued, download):
        assert event["actor"] == {"type": "user", "id": str(ada)}
    assert download["details"]["signed_link"] is True


@pytest.mark.req("R6")
def test_a_link_that_was_altered_is_nothing_and_one_that_has_ended_is_gone(desk: ReportDesk, path: str) -> None:
    link = _link(desk, path, desk.person("viewer"), seconds=60)
    text = link.rpartition("/")[2]
    claims = signed_links.opened(text, desk.services.pepper)
    for altered in (
        text[:-1],
        text + "A",
        text.replace(".", ""),
        text[:20] + ("A" if text[20] != "A" else "B") + text[21:],
        signed_links.sealed(claims, b"another pepper"),
        "",
        "ü.ü",
    ):
        assert desk.api.client.get(f"/v1/downloads/{altered}").status_code == 404, altered
    ended = datetime.now(UTC) - timedelta(seconds=1)
    old = signed_links.sealed(_with(claims, expires=int(ended.timestamp())), desk.services.pepper)
    answer = desk.api.client.get(f"/v1/downloads/{old}")
    assert (answer.status_code, answer.json()["code"]) == (410, "link_expired")
    assert desk.events(DOWNLOAD) == []


def test_a_link_of_one_tenant_opens_no_file_of_another(
    desk: ReportDesk, path: str, new_tenant: Callable[[], str]
) -> None:
    stranger = ReportDesk(desk.api, new_tenant(), desk.folder)
    claims = signed_links.opened(_link(desk, path, desk.person()).rpartition("/")[2], desk.services.pepper)
    for foreign in (
        _with(claims, tenant=stranger.tenant),
        _with(claims, tenant=stranger.tenant, tenant_id=str(stranger.tenant_id)),
        _with(claims, tenant="nobody-has-this"),
        _with(claims, sha256="0" * 64),
        _with(claims, report_id=str(uuid.uuid4())),
    ):
        text = signed_links.sealed(foreign, desk.services.pepper)
        assert desk.api.client.get(f"/v1/downloads/{text}").status_code == 404
    assert stranger.events(DOWNLOAD) == []
    assert desk.api.client.get(f"{path}/link", headers=stranger.person()).status_code == 404


@pytest.mark.parametrize("seconds", [0, 59, 301])
def test_a_link_works_for_one_to_five_minutes_only(desk: ReportDesk, path: str, seconds: int) -> None:
    answer = desk.api.client.get(f"{path}/link", headers=desk.person(), params={"seconds": seconds})
    assert answer.status_code == 422


def test_a_link_ends_to_the_second() -> None:
    claims = signed_links.Claims("t", "acme", "r", "n", "s", "user:1", 1_000)
    text = signed_links.sealed(claims, b"pepper")
    assert signed_links.opened(text, b"pepper", datetime.fromtimestamp(999, UTC)) == claims
    with pytest.raises(Problem) as refused:
        signed_links.opened(text, b"pepper", datetime.fromtimestamp(1_000, UTC))
    assert refused.value.status == 410


def _with(claims: signed_links.Claims, **changes: object) -> signed_links.Claims:
    values = {name: getattr(claims, name) for name in signed_links.Claims.__dataclass_fields__}
    return signed_links.Claims(**{**values, **changes})
