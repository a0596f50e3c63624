"""Asking for runs and deciding about reports through the API: who may, what is refused, what is written once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline_tests.sidecar.reporting import PERIOD, ReportDesk
from offgridflow_pipeline_tests.sidecar.serving import pages, served_api

REPORT = {"type": "report_generation", "payload": {"month": PERIOD}}
SYNC = {"type": "connector_sync", "payload": {"first": "2026-09-01", "last": "2026-09-30"}}
CALCULATION = {"type": "emissions_calculation", "payload": {"first": "2026-09-01", "last": "2026-09-02"}}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Desk(ReportDesk):
    """A desk that asks."""

    def ask(self, headers: dict[str, str], body: Any, path: str = "/v1/runs", **more: str) -> Any:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return self.api.client.post(path, json=body, headers={**key, **headers, **more})

    def post(self, headers: dict[str, str], path: str) -> Any:
        return self.api.client.post(path, headers=headers)


@pytest.fixture
def desk(database: Database, api_database: Database, new_tenant: Callable[[], str], tmp_path: Path) -> Iterator[Desk]:
    with served_api(database, api_database, tmp_path / "data", ["reports", "runs"]) as api:
        yield Desk(api, new_tenant(), tmp_path / "files")


def test_a_run_is_accepted_with_its_address_and_seen_there(desk: Desk) -> None:
    ada = uuid.uuid4()
    answer = desk.ask(desk.person("owner", ada), SYNC, traceparent=TRACE)
    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["location"] == run["_links"]["self"] == f"/v1/runs/{run['id']}"
    assert (run["status"], run["payload"], run["requested_by"]) == ("pending", SYNC["payload"], f"user:{ada}")
    seen = desk.api.client.get(answer.headers["location"], headers=desk.person("auditor"))
    assert (seen.status_code, seen.json()) == (200, run)
    (job,) = desk.api.pipeline.jobs.list(desk.tenant, limit=9)
    assert job.traceparent == TRACE
    (event,) = desk.events("runs:requested")
    assert (event["target"], event["actor"]["id"]) == (run["id"], str(ada))


def test_the_same_request_sent_again_asks_once(desk: Desk) -> None:
    headers = {**desk.person("owner", uuid.UUID(int=7)), "Idempotency-Key": "one"}
    first = desk.api.client.post("/v1/runs", json=SYNC, headers=headers)
    again = desk.api.client.post("/v1/runs", json=SYNC, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert desk.api.client.post("/v1/runs", json=REPORT, headers=headers).status_code == 422
    assert len(desk.api.pipeline.jobs.list(desk.tenant, limit=9)) == 1
    assert len(desk.events("runs:requested")) == 1
    assert desk.api.client.post("/v1/runs", json=SYNC, headers=desk.person()).status_code in {400, 422}


@pytest.mark.parametrize(
    ("role", "body", "status"),
    [
        ("analyst", REPORT, 202),
        ("analyst", SYNC, 403),
        ("analyst", CALCULATION, 403),
        ("engineer", SYNC, 202),
        ("engineer", CALCULATION, 202),
        ("engineer", REPORT, 403),
        ("owner", REPORT, 202),
        ("auditor", REPORT, 403),
        ("viewer", SYNC, 403),
    ],
)
def test_what_may_be_asked_for_depends_on_the_type(desk: Desk, role: str, body: Any, status: int) -> None:
    assert desk.ask(desk.person(role), body).status_code == status
    assert len(desk.api.pipeline.jobs.list(desk.tenant, limit=9)) == (status == 202)


def test_a_report_is_asked_for_by_its_month_alone(desk: Desk) -> None:
    answer = desk.ask(desk.person("analyst"), {"month": PERIOD}, "/v1/reports")
    assert answer.status_code == 202
    assert answer.json()["type"] == "report_generation"
    assert len(desk.events("report:requested")) == 1


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"type": "report_generation", "payload": {"month": "2031-01"}}, 422, "has not ended"),
        ({"type": "report_generation", "payload": {"month": "2026-9"}}, 422, "pattern"),
        ({"type": "connector_sync", "payload": {"first": "2026-09-30", "last": "2026-10-01"}}, 422, "several months"),
        ({"type": "connector_sync", "payload": {"first": "2031-09-01", "last": "2031-09-02"}}, 422, "future"),
        ({"type": "connector_sync", "payload": {**SYNC["payload"], "connection_id": "nope"}}, 422, "no connection"),
        ({"type": "connector_sync", "payload": {**SYNC["payload"], "tenant": "other"}}, 422, "extra"),
        ({"type": "drop_tables", "payload": {}}, 422, "tag"),
        ({"type": "connector_sync"}, 422, "payload"),
        ([], 422, ""),
    ],
)
def test_what_is_not_possible_is_refused_with_its_reason_and_nothing_is_written(
    desk: Desk, body: Any, status: int, told: str
) -> None:
    answer = desk.ask(desk.person(), body)
    assert answer.status_code == status
    assert told in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.api.pipeline.jobs.list(desk.tenant, limit=9) == []


def test_a_closed_month_is_reported_but_not_read_again(desk: Desk) -> None:
    desk.api.pipeline.period_closures.close(desk.tenant, PERIOD, by="ada", today=date(2026, 11, 20))
    for body in (SYNC, CALCULATION):
        answer = desk.ask(desk.person(), body)
        assert (answer.status_code, answer.json()["code"]) == (409, "month_closed")
        assert "approved restatement" in answer.json()["detail"]
    assert desk.ask(desk.person(), REPORT).status_code == 202


def test_a_paused_connection_is_not_read(desk: Desk) -> None:
    desk.api.pipeline.connections.add(desk.tenant, "payer", provider="aws", kind="cur2", uri="s3://b/k")
    body = {"type": "connector_sync", "payload": {**SYNC["payload"], "connection_id": "payer"}}
    assert desk.ask(desk.person(), body).status_code == 202
    desk.api.pipeline.connections.pause(desk.tenant, "payer")
    answer = desk.ask(desk.person(), body)
    assert (answer.status_code, answer.json()["code"]) == (409, "connection_paused")


def test_runs_are_listed_newest_first_page_by_page(desk: Desk) -> None:
    ada = desk.person()
    asked = [desk.ask(ada, body).json()["id"] for body in (REPORT, SYNC, REPORT, REPORT, SYNC)]
    got = list(pages(lambda cursor: desk.api.get("/v1/runs", ada, limit=2, cursor=cursor)))
    assert [len(page) for page in got] == [2, 2, 1]
    assert [run["id"] for page in got for run in page] == asked[::-1]
    syncs = desk.api.get("/v1/runs", ada, type="connector_sync").json()["items"]
    assert [run["id"] for run in syncs] == [asked[4], asked[1]]
    cursor = desk.api.get("/v1/runs", ada, limit=1).json()["next_cursor"]
    assert desk.api.get("/v1/runs", ada, cursor=cursor, status="failed").status_code == 400
    assert desk.api.get("/v1/runs", ada, limit=201).status_code == 422


def test_cancelling_needs_what_asking_needed_and_is_told_once(desk: Desk) -> None:
    sync = desk.ask(desk.person(), SYNC).json()["id"]
    report = desk.ask(desk.person(), REPORT).json()["id"]
    assert desk.post(desk.person("analyst"), f"/v1/runs/{sync}/cancel").status_code == 403
    assert desk.post(desk.person("viewer"), f"/v1/runs/{report}/cancel").status_code == 403
    analyst = desk.person("analyst")
    for _ in range(2):
        answer = desk.post(analyst, f"/v1/runs/{report}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert len(desk.events("runs:cancelled")) == 1
    (job,) = desk.api.pipeline.jobs.claim(desk.tenant)
    assert desk.post(desk.person(), f"/v1/runs/{sync}/cancel").json()["status"] == "cancelling"
    desk.api.pipeline.jobs.settle(desk.tenant, job, "completed")
    done = desk.ask(desk.person(), SYNC).json()["id"]
    (job,) = desk.api.pipeline.jobs.claim(desk.tenant)
    desk.api.pipeline.jobs.settle(desk.tenant, job, "completed", run_id="r")
    answer = desk.post(desk.person(), f"/v1/runs/{done}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_ended")


def test_runs_and_reports_of_another_tenant_are_not_there(desk: Desk, new_tenant: Callable[[], str]) -> None:
    stranger = Desk(desk.api, new_tenant(), desk.folder)
    foreign_run = desk.ask(desk.person(), SYNC).json()["id"]
    foreign_report = f"rep_{desk.publish().report_id}"
    asking = stranger.person("owner")
    for foreign, path, methods in [
        (foreign_run, "/v1/runs/{}", {"": "GET", "/cancel": "POST"}),
        (foreign_report, "/v1/reports/{}", {"": "GET", "/review": "POST", "/approve": "POST", "/issue": "POST"}),
    ]:
        unknown = f"{foreign[:4]}{uuid.uuid4()}"
        for tail, method in methods.items():
            bodies = [
                desk.api.client.request(method, path.format(identity) + tail, headers=asking)
                for identity in (foreign, unknown)
            ]
            assert [answer.status_code for answer in bodies] == [404, 404]
            texts = [{**answer.json(), "instance": "", "trace_id": ""} for answer in bodies]
            assert texts[0] == texts[1]
    assert stranger.api.get("/v1/runs", asking).json()["items"] == []
    assert stranger.api.get("/v1/reports", asking).json()["items"] == []
    assert desk.api.pipeline.jobs.list(desk.tenant, limit=1)[0].status == "pending"


@pytest.mark.req("L7")
def test_a_report_goes_from_draft_to_issued_by_two_people(desk: Desk) -> None:
    preparer, approver = uuid.uuid4(), uuid.uuid4()
    report = f"/v1/reports/rep_{desk.publish(prepared_by=f'user:{preparer}').report_id}"
    first, second = desk.person("owner", preparer), desk.person("admin", approver)
    assert desk.post(first, f"{report}/review").json()["state"] == "reviewed"
    refused = desk.post(first, f"{report}/approve")
    assert (refused.status_code, refused.json()["code"]) == (403, "same_person")
    early = desk.post(second, f"{report}/issue")
    assert (early.status_code, early.json()["code"]) == (409, "wrong_state")
    for _ in range(2):
        assert desk.post(second, f"{report}/approve").json()["approved"]["by"] == f"user:{approver}"
    assert desk.post(first, f"{report}/issue").json()["state"] == "issued"
    for action in ("report:reviewed", "report:approved", "report:issued"):
        (event,) = desk.events(action)
        assert event["details"] == {"period": PERIOD, "edition": 1}


def test_only_owners_and_admins_decide_and_no_key_does(desk: Desk) -> None:
    report = f"/v1/reports/rep_{desk.publish().report_id}"
    for role in ("engineer", "analyst", "auditor", "billing", "viewer"):
        assert desk.post(desk.person(role), f"{report}/review").status_code == 403
    assert desk.post(desk.api.key(desk.tenant), f"{report}/review").status_code == 403


def test_a_superseded_report_names_its_successor_and_keeps_its_files(desk: Desk) -> None:
    old, new = desk.publish(b"old"), desk.publish(b"new")
    seen = desk.api.client.get(f"/v1/reports/rep_{old.report_id}", headers=desk.person("viewer")).json()
    assert seen["state"] == "superseded"
    assert seen["_links"]["superseded_by"] == f"/v1/reports/rep_{new.report_id}"
    (artifact,) = seen["artifacts"]
    assert artifact["validation"] == "not_validated"
    answer = desk.api.client.get(artifact["_links"]["download"], headers=desk.person("viewer"))
    assert (answer.status_code, answer.content) == (200, b"old")


def test_reports_are_listed_by_state_and_period_page_by_page(desk: Desk) -> None:
    published = [f"rep_{desk.publish(bytes([n])).report_id}" for n in range(3)]
    reader = desk.api.key(desk.tenant, [Permission.REPORTS_READ])
    got = list(pages(lambda cursor: desk.api.get("/v1/reports", reader, limit=2, cursor=cursor)))
    assert [report["id"] for page in got for report in page] == published[::-1]
    drafts = desk.api.get("/v1/reports", reader, state="draft", period=PERIOD).json()["items"]
    assert [report["id"] for report in drafts] == [published[-1]]
    assert desk.api.get("/v1/reports", reader, period="2026-09' or 1=1").status_code == 422
