"""What forms change, and that they change it as the API does: with permission, once, and told in the audit log."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from offgridflow_pipeline.identity.api_keys import parse
from offgridflow_pipeline_tests.inventory.workbooks import book
from offgridflow_pipeline_tests.sidecar.portal.house import House, last_month, report_of, tree, where, words
from offgridflow_pipeline_tests.sidecar.world import Someone, World


@pytest.fixture
def own(world: World) -> House:
    """A tenant of this test alone: an owner and nothing else."""
    tenant = world.tenant()
    return House(world, tenant, world.someone(tenant, "owner"), "", "", "", "")


def events(house: House) -> list[tuple[str, str]]:
    """Actions and outcomes, newest first."""
    bodies = [json.loads(event.body) for event in house.world.api.audit_log.newest(house.tenant, limit=50)]
    return [(body["action"], body["outcome"]) for body in bodies]


def messages(answer: Any) -> str:
    return " ".join(node.text_content() for node in tree(answer).xpath("//*[@role='status' or @role='alert']"))


def test_a_requested_report_becomes_a_job_whose_page_looks_again_until_it_is_done(own: House) -> None:
    path, query = where(own.post("/reports", {"month": last_month()}))
    assert query == {"done": "report_requested"}
    page = own.get(path)
    assert page.headers["refresh"] == f"10; url={path}"
    assert tree(page).xpath("//progress")
    job = own.world.operator.jobs.claim(own.tenant)[0]
    own.world.operator.jobs.settle(own.tenant, job, "failed", error="No bills of this month.")
    settled = own.get(path)
    assert "refresh" not in settled.headers
    assert "No bills of this month." in words(settled)
    assert ("report:requested", "success") in events(own)


@pytest.mark.parametrize("month", ["2999-01", "soon", "", "1999-01"])
def test_a_month_that_cannot_be_reported_is_refused_on_the_page(own: House, month: str) -> None:
    answer = own.post("/reports", {"month": month})
    assert answer.status_code == 422
    assert messages(answer)
    assert own.world.api.jobs.list(own.tenant, limit=5) == []


def test_a_report_goes_from_draft_to_issued_by_buttons(own: House) -> None:
    analyst = own.world.someone(own.tenant, "analyst")
    report = f"rep_{report_of(own.world, own.tenant, '2026-03', prepared_by=f'user:{analyst.user_id}')}"
    for verb, done in (("review", "reviewed"), ("approve", "approved"), ("issue", "issued")):
        actions = tree(own.get(f"/reports/{report}")).xpath("//main//form/@action")
        assert actions == [f"/reports/{report}/{verb}"]
        assert where(own.post(actions[0])) == (f"/reports/{report}", {"done": done})
    assert tree(own.get(f"/reports/{report}")).xpath("//main//form") == []
    assert [action for action, _ in events(own)][:3] == ["report:issued", "report:approved", "report:reviewed"]


def test_who_prepared_a_report_finds_no_button_to_approve_it_and_cannot_without_one(own: House) -> None:
    report = f"rep_{report_of(own.world, own.tenant, '2026-03', prepared_by=f'user:{own.owner.user_id}')}"
    own.post(f"/reports/{report}/review")
    page = own.get(f"/reports/{report}")
    assert tree(page).xpath("//main//form") == []
    assert "somebody else has to approve it" in words(page)
    assert own.post(f"/reports/{report}/approve").status_code == 403


def test_a_viewer_cannot_decide_and_the_refusal_is_a_page(own: House) -> None:
    viewer = own.world.someone(own.tenant, "viewer")
    report = f"rep_{report_of(own.world, own.tenant, '2026-03', prepared_by='run:r')}"
    answer = own.post(f"/reports/{report}/review", someone=viewer)
    assert answer.status_code == 403
    assert "Your role does not allow this" in words(answer)
    assert ("access:denied", "forbidden") in events(own)


def test_a_new_key_is_shown_once(own: House) -> None:
    until = "2027-06-30"
    answer = own.post("/keys", {"name": "dashboard", "permissions": ["emissions:read"], "until": until})
    text = tree(answer).xpath("//code[@class='secret']")[0].text
    assert parse(text) is not None
    assert answer.headers["cache-control"] == "no-store"
    listed = own.get("/keys")
    assert "dashboard" in words(listed)
    assert text not in listed.text
    row = own.world.api.api_keys.list(own.tenant)[0]
    assert row.expires_at.date().isoformat() == until
    assert row.permissions == ["emissions:read"]
    assert own.world.client.get("/v1/reports", headers={"Authorization": f"Bearer {text}"}).status_code == 403


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "a", "until": "2027-06-30"}, "permissions"),
        ({"name": "a", "permissions": ["keys:write"], "until": "2027-06-30"}, "permissions"),
        ({"name": "a", "permissions": ["no:such"], "until": "2027-06-30"}, "permissions"),
        ({"name": " ", "permissions": ["emissions:read"], "until": "2027-06-30"}, "name"),
        ({"name": "a", "permissions": ["emissions:read"], "until": "1999-01-01"}, "expires_at"),
        ({"name": "a", "permissions": ["emissions:read"], "until": "someday"}, "expires_at"),
    ],
)
def test_a_key_that_cannot_be_made_says_which_field_is_wrong(own: House, form: dict[str, Any], field: str) -> None:
    answer = own.post("/keys", form)
    assert answer.status_code == 422
    place = {"name": "name-wrong", "permissions": "permissions-wrong", "expires_at": "until-wrong"}[field]
    assert tree(answer).xpath(f"//*[@id='{place}']")
    assert own.world.api.api_keys.list(own.tenant) == []


def test_one_key_too_many_is_refused_above_the_form_which_keeps_what_was_written(
    own: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = own.world.app.state.services
    monkeypatch.setattr(services, "settings", services.settings.model_copy(update={"maximum_live_keys": 1}))
    form = {"permissions": ["emissions:read"], "until": "2027-06-30"}
    assert own.post("/keys", {**form, "name": "first"}).status_code == 200
    refused = own.post("/keys", {**form, "name": "second"})
    assert refused.status_code == 422
    assert "as many live keys as it may have" in messages(refused)
    assert tree(refused).xpath("//input[@name='name']/@value") == ["second"]
    assert len(own.world.api.api_keys.list(own.tenant)) == 1


def test_a_key_is_rotated_and_ended(own: House) -> None:
    own.post("/keys", {"name": "nightly", "permissions": ["emissions:read"], "until": "2027-06-30"})
    first = own.world.api.api_keys.list(own.tenant)[0]
    rotated = own.post(f"/keys/{first.key_id}/rotate")
    assert parse(tree(rotated).xpath("//code[@class='secret']")[0].text) is not None
    assert where(own.post(f"/keys/{first.key_id}/revoke"))[1] == {"done": "key_revoked"}
    assert own.post("/keys/0000000000/revoke").status_code == 404
    assert {row.live for row in own.world.api.api_keys.list(own.tenant)} == {True, False}


def test_a_member_is_invited_changed_and_removed(own: House) -> None:
    invited = own.post("/members/invitations", {"email": "Jonas@Alder.example", "role": "analyst"})
    assert where(invited) == ("/members", {"done": "invited"})
    row = own.world.api.invitations.list(own.tenant)[0]
    assert (row.email, row.role) == ("jonas@alder.example", "analyst")
    assert where(own.post(f"/members/invitations/{row.invitation_id}/resend"))[1] == {"done": "resent"}
    assert where(own.post(f"/members/invitations/{row.invitation_id}/revoke"))[1] == {"done": "revoked"}
    viewer = own.world.someone(own.tenant, "viewer")
    assert where(own.post(f"/members/{viewer.user_id}", {"role": "analyst"}))[1] == {"done": "member_changed"}
    assert own.world.api.memberships.get(own.tenant, viewer.user_id).role == "analyst"
    assert where(own.post(f"/members/{viewer.user_id}/remove"))[1] == {"done": "member_removed"}
    assert own.world.api.memberships.get(own.tenant, viewer.user_id) is None
    assert where(own.get("/", viewer))[0] == "/switch-tenant"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"email": "no address", "role": "viewer"}, 422),
        ({"email": "a@b.example", "role": "emperor"}, 403),
        ({"email": "a@b.example", "role": "auditor"}, 422),
        ({"email": "a@b.example", "role": "auditor", "until": "someday"}, 422),
    ],
)
def test_an_invitation_that_is_refused_keeps_what_was_entered(own: House, form: dict[str, str], status: int) -> None:
    answer = own.post("/members/invitations", form)
    assert answer.status_code == status
    assert messages(answer)
    assert tree(answer).xpath("//input[@id='email']/@value") == [form["email"]]
    assert own.world.api.invitations.list(own.tenant) == []


def test_an_administrator_is_not_offered_to_make_owners(own: House) -> None:
    admin = own.world.someone(own.tenant, "admin")
    offered = tree(own.get("/members", admin)).xpath("//select[@id='role']/option/@value")
    assert "owner" not in offered
    assert "viewer" in offered


def test_a_connection_is_paused_resumed_and_read_now(own: House) -> None:
    name = own.world.connection(own.tenant)
    assert where(own.post(f"/connections/{name}/pause"))[1] == {"done": "paused"}
    assert own.post(f"/connections/{name}/sync").status_code == 409
    assert where(own.post(f"/connections/{name}/resume"))[1] == {"done": "resumed"}
    assert where(own.post(f"/connections/{name}/sync"))[1] == {"done": "sync_requested"}
    job = own.world.api.jobs.list(own.tenant, limit=1)[0]
    assert (job.type, job.payload["connection_id"]) == ("connector_sync", name)
    assert own.post("/connections/nobody/pause").status_code == 404
    assert ("connectors:paused", "success") in events(own)


def test_a_sent_file_shows_its_faults_row_by_row(own: House) -> None:
    content = "site,fuel,quantity,unit,period_start,period_end\nHQ,natural_gas,many,kWh,2026-10-01,2026-10-31\n"
    headers = own.owner.headers
    sent = own.world.client.post(
        "/uploads", data={"kind": "fuel"}, files={"file": ("oil.csv", content, "text/csv")}, headers=headers
    )
    path, _ = where(sent)
    page = tree(own.get(path))
    assert page.xpath("//tbody/tr[1]/th")[0].text == "2"
    assert "quantity" in page.xpath("//tbody/tr[1]/td[1]")[0].text
    missing = own.post("/uploads", {"kind": "fuel"})
    assert missing.status_code == 422
    assert tree(missing).xpath("//*[@id='file-wrong']")


def test_a_fault_in_a_workbook_is_shown_with_its_sheet(own: House) -> None:
    content = book([("mode", "quantity", "unit", "date"), ("air", "many", "km", date(2026, 3, 4))])
    sent = own.world.client.post(
        "/uploads", data={"kind": "travel"}, files={"file": ("trips.xlsx", content)}, headers=own.owner.headers
    )
    place = tree(own.get(where(sent)[0])).xpath("//tbody/tr[1]/th")[0]
    assert (place.text, place.xpath("span")[0].text) == ("2", "Rows")


def test_the_audit_log_is_filtered_paged_and_exported(own: House) -> None:
    for number in range(52):
        own.post("/settings/profile", {"name": f"Name {number}", "locale": "en"})
    page = tree(own.get("/audit"))
    assert len(page.xpath("//section[1]//tbody/tr")) == 50
    older = page.xpath("//p[@class='pager']/a/@href")[0]
    assert len(tree(own.get(older)).xpath("//section[1]//tbody/tr")) >= 2
    filtered = words(own.get("/audit?action=keys:created"))
    assert "No event of this kind." in filtered
    exported = own.get("/audit/export")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    assert exported.headers["content-disposition"].startswith("attachment")


def test_a_password_is_changed_and_other_sessions_end(own: House) -> None:
    other = own.world.session(own.owner.user_id, own.tenant)
    wrong = own.post("/settings/password", {"current": "wrong", "password": "amber-kite-field-seven"})
    assert wrong.status_code == 401
    assert tree(wrong).xpath("//*[@id='current-wrong']")
    form = {"current": "violet-lamp-river", "password": "amber-kite-field-seven"}
    assert where(own.post("/settings/password", form))[1] == {"done": "password_changed"}
    elsewhere = Someone(own.owner.user_id, own.owner.email, own.tenant, other)
    assert where(own.get("/settings", elsewhere))[0] == "/sign-in"


def test_a_person_switches_between_their_organisations_and_into_no_other(own: House) -> None:
    from offgridflow_pipeline.identity import accounts

    second, foreign = own.world.tenant(), own.world.tenant()
    accounts.add_member(own.world.api, own.owner.user_id, second, "viewer")
    assert second in own.get("/switch-tenant").text
    assert own.post("/switch-tenant", {"tenant": foreign}).status_code == 404
    assert where(own.post("/switch-tenant", {"tenant": second})) == ("/", {"done": "switched"})


def test_another_session_is_ended_from_the_list(own: House) -> None:
    own.world.session(own.owner.user_id, own.tenant)
    ends = tree(own.get("/settings")).xpath("//form[contains(@action, '/end')]/@action")
    assert len(ends) == 1
    assert where(own.post(ends[0]))[1] == {"done": "session_ended"}
    assert own.post(ends[0]).status_code == 404


def test_a_file_of_a_report_is_downloaded_as_the_api_sends_it(own: House) -> None:
    report = own.world.report(own.tenant)
    answer = own.get(f"/reports/rep_{report}/files/report.pdf")
    assert answer.content.startswith(b"%PDF")
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    assert ("report:artifact:download", "success") in events(own)
