"""Activity files over HTTP: kept once, judged at once, of one tenant."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline_tests.inventory.workbooks import book
from offgridflow_pipeline_tests.sidecar.serving import Api, pages

GOOD = b"mode,quantity,unit,date\nair,1200,km,2026-03-04\nrail,80.5,km,2026-03-05\n"
HEADER = ("mode", "quantity", "unit", "date")
BAD = b"mode,quantity,unit,date\nair,=1+1,km,2026-03-04\n"


@pytest.fixture
def analyst(api: Api, new_tenant: Callable[[], str]) -> tuple[str, dict[str, str]]:
    """A tenant and the headers of somebody who uploads for it."""
    tenant = new_tenant()
    return tenant, api.key(tenant, [Permission.UPLOADS_WRITE, Permission.EVIDENCE_READ])


def upload(api: Api, key: dict[str, str], content: bytes, kind: str = "travel", name: str = "trips.csv") -> Any:
    return api.client.post("/v1/uploads", data={"kind": kind}, files={"file": (name, content)}, headers=key)


def test_a_sound_file_is_accepted_and_its_bytes_are_kept_under_their_hash(
    api: Api, analyst: tuple[str, dict[str, str]]
) -> None:
    tenant, key = analyst
    answer = upload(api, key, GOOD)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    sha256 = hashlib.sha256(GOOD).hexdigest()
    assert (shown["state"], shown["row_count"], shown["sha256"], shown["problems"]) == ("accepted", 2, sha256, [])
    assert shown["size_bytes"] == len(GOOD)
    with api.app.state.services.raw_objects.local_path(tenant, sha256) as path:
        assert path.read_bytes() == GOOD
    assert api.client.get(answer.headers["location"], headers=key).json() == shown


def test_a_refused_file_is_kept_too_and_says_what_is_wrong_where_and_how_to_mend_it(
    api: Api, analyst: tuple[str, dict[str, str]]
) -> None:
    shown = upload(api, analyst[1], BAD).json()
    assert shown["state"] == "refused"
    assert shown["problems"] == [
        {
            "row": 2,
            "column": "quantity",
            "message": "the cell begins like a formula",
            "cure": "write the value itself, without = + - @ or a tab in front",
        }
    ]


def test_the_same_bytes_are_the_same_upload_and_as_another_kind_another_one(
    api: Api, analyst: tuple[str, dict[str, str]]
) -> None:
    first, again, other = (upload(api, analyst[1], GOOD, kind) for kind in ("travel", "travel", "spend"))
    assert [answer.status_code for answer in (first, again, other)] == [201, 200, 201]
    assert again.json() == first.json()
    assert other.json()["id"] != first.json()["id"]
    assert len(api.get("/v1/uploads", analyst[1]).json()["items"]) == 2


def test_a_workbook_is_accepted_like_csv_and_kept_byte_for_byte(api: Api, analyst: tuple[str, dict[str, str]]) -> None:
    tenant, key = analyst
    content = book([HEADER, ("air", 1200, "km", date(2026, 3, 4))])
    shown = upload(api, key, content, name="trips.xlsx").json()
    assert (shown["state"], shown["row_count"], shown["problems"]) == ("accepted", 1, [])
    assert shown["media_type"] == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    assert shown["sha256"] == hashlib.sha256(content).hexdigest()
    with api.app.state.services.raw_objects.local_path(tenant, shown["sha256"]) as path:
        assert path.read_bytes() == content
    again = upload(api, key, content, name="trips.xlsx")
    assert (again.status_code, again.json()["id"]) == (200, shown["id"])


def test_a_fault_in_a_workbook_names_its_sheet(api: Api, analyst: tuple[str, dict[str, str]]) -> None:
    content = book([HEADER, ("air", "=600*2", "km", date(2026, 3, 4))])
    assert upload(api, analyst[1], content, name="trips.xlsx").json()["problems"] == [
        {
            "row": 2,
            "column": "quantity",
            "message": "the cell holds a formula",
            "cure": "copy the column and paste it as values (Paste special)",
            "sheet": "Rows",
        }
    ]


def test_a_compression_bomb_is_refused(api: Api, analyst: tuple[str, dict[str, str]]) -> None:
    shown = upload(api, analyst[1], gzip.compress(b"a,b\n" * 2**24, 9, mtime=0), name="bomb.csv.gz").json()
    assert (shown["state"], shown["media_type"]) == ("refused", "application/gzip")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\bills\\a.csv", "a.csv"),
        ("a\u202eb.csv", "ab.csv"),
        ("x" * 300, "x" * 200),
        ("/", "upload.csv"),
    ],
)
def test_the_name_of_a_file_leads_nowhere(api: Api, analyst: tuple[str, dict[str, str]], name: str, kept: str) -> None:
    assert upload(api, analyst[1], GOOD, name=name).json()["file_name"] == kept


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ({"kind": "payroll"}, {"file": ("a.csv", GOOD)}),
        ({}, {"file": ("a.csv", GOOD)}),
        ({"kind": "travel"}, {"other": ("a.csv", GOOD)}),
        ({"kind": "travel"}, {"file": ("a.csv", b"")}),
    ],
)
def test_a_form_that_is_wrong_is_a_problem(
    api: Api, analyst: tuple[str, dict[str, str]], data: dict[str, str], files: dict[str, Any]
) -> None:
    answer = api.client.post("/v1/uploads", data=data, files=files, headers=analyst[1])
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_a_file_above_the_limit_is_not_read(api: Api, analyst: tuple[str, dict[str, str]]) -> None:
    limit = api.app.state.services.settings.maximum_upload_bytes
    answer = upload(api, analyst[1], b"x" * (limit + 100_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_uploads_are_paged_newest_first_and_of_one_tenant(
    api: Api, analyst: tuple[str, dict[str, str]], new_tenant: Callable[[], str]
) -> None:
    _, key = analyst
    made = [upload(api, key, GOOD + f"air,{n},km,2026-03-06\n".encode()).json()["id"] for n in range(5)]
    seen = [
        row["id"] for page in pages(lambda cursor: api.get("/v1/uploads", key, limit=2, cursor=cursor)) for row in page
    ]
    assert seen == made[::-1]
    stranger = api.key(new_tenant())
    assert api.get("/v1/uploads", stranger).json()["items"] == []
    assert api.get(f"/v1/uploads/{made[0]}", stranger).status_code == 404
    assert api.get("/v1/uploads/upl_nothing", key).status_code == 404


def test_uploading_and_reading_need_their_permissions(api: Api, analyst: tuple[str, dict[str, str]]) -> None:
    tenant, key = analyst
    made = upload(api, key, GOOD).json()["id"]
    nobody = api.key(tenant, [Permission.EMISSIONS_READ])
    assert upload(api, nobody, GOOD).status_code == 403
    assert api.get("/v1/uploads", nobody).status_code == 403
    assert api.get(f"/v1/uploads/{made}", nobody).status_code == 403
    assert upload(api, {"Authorization": "Bearer nothing"}, GOOD).status_code == 401
