"""Signing in over HTTP: cookies, step-up, second factor, passwords, sessions, members, and what refusals look like."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import single_use
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.identity.rate_limits import RateLimiter
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline_tests.identity.people import PASSWORD, Person, audited, code_of, mails, new_person
from offgridflow_pipeline_tests.sidecar.serving import Api, pages, served_api

BROWSER = {"Sec-Fetch-Site": "same-origin", "User-Agent": "Firefox"}
NEW = "amber-kite-field"


class Browser:
    """A browser of its own: cookies, and the header that browsers send."""

    def __init__(self, api: Api) -> None:
        from starlette.testclient import TestClient

        self.client = TestClient(api.app, headers=BROWSER)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        return self.client.request(method, f"/v1/{path}", json=body, headers=headers)

    def sign_in(self, person: Person, code: str = "") -> Any:
        return self("POST", "auth/login", {"email": person.email, "password": person.password, "code": code})

    @property
    def cookie(self) -> str:
        return self.client.cookies.get("ogf_session", "")

    def enrolled(self, person: Person) -> list[str]:
        """Sign in and set up a second factor; returns the recovery codes."""
        assert self.sign_in(person).status_code == 200
        person.secret = self("POST", "auth/totp/enroll").json()["secret"]
        answer = self("POST", "auth/totp/confirm", {"code": code_of(person.secret, -1)})
        assert answer.status_code == 200, answer.text
        return answer.json()["recovery_codes"]


@pytest.fixture
def api(database: Database, api_database: Database, tmp_path: Path) -> Iterator[Api]:
    with served_api(database, api_database, tmp_path, ("auth", "me", "tenant", "members")) as served:
        yield served


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_its_token_is_always_new(
    api: Api, api_database: Database, tenant: str
) -> None:
    person, browser = new_person(api_database, tenant), Browser(api)
    browser.client.cookies.set("ogf_session", "planted-by-an-attacker")
    answer = browser.sign_in(person)
    assert answer.json() == {"user_id": str(person.user_id), "tenant": tenant, "second_factor": False}
    header = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=604800"} <= set(header.split("; "))
    assert answer.headers["cache-control"] == "no-store"
    first = answer.cookies["ogf_session"]
    assert len(first) == 43
    browser.client.cookies.clear()
    second = Browser(api)
    second.client.cookies.set("ogf_session", first)
    replaced = second.sign_in(person).cookies["ogf_session"]
    assert replaced != first
    stolen = Browser(api)
    stolen.client.cookies.set("ogf_session", first)
    assert stolen("GET", "me").status_code == 401


def test_over_https_the_cookie_is_bound_to_the_host(database: Database, api_database: Database, tmp_path: Path) -> None:
    person = new_person(api_database)
    with served_api(database, api_database, tmp_path, ("auth", "me"), public_url="https://app.example") as api:
        header = Browser(api).sign_in(person).headers["set-cookie"]
    assert header.startswith("__Host-ogf_session=")
    assert "; Secure" in header
    assert "Domain" not in header


def test_wrong_password_and_unknown_address_get_the_same_answer(api: Api, api_database: Database) -> None:
    person, browser = new_person(api_database), Browser(api)
    answers = []
    for email in (person.email, "nobody@alder.example"):
        answer = browser("POST", "auth/login", {"email": email, "password": "violet-lamp-lake"})
        body = {name: value for name, value in answer.json().items() if name != "trace_id"}
        headers = {n: v for n, v in answer.headers.items() if n not in {"x-request-id", "content-length"}}
        answers.append((answer.status_code, body, headers, answer.headers["content-length"]))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401
    assert answers[0][1]["code"] == "invalid_credentials"


def test_forgotten_passwords_get_the_same_answer_and_the_link_changes_the_password(
    api: Api, api_database: Database
) -> None:
    person, browser = new_person(api_database), Browser(api)
    known, unknown = (
        browser("POST", "auth/password/forgot", {"email": email}) for email in (person.email, "nobody@alder.example")
    )
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert known.status_code == 202
    ((template, values),) = mails(api_database, to=person.email)
    assert template == "password_reset"
    pepper = api.app.state.services.pepper
    token = single_use.mint_reset(api_database, person.user_id, uuid.UUID(values["reset_id"]), pepper)
    weak = browser("POST", "auth/password/reset", {"token": token, "password": "password1234"})
    assert (weak.status_code, weak.json()["errors"][0]["pointer"]) == (422, "/body/password")
    done = browser("POST", "auth/password/reset", {"token": token, "password": NEW})
    assert (done.status_code, browser.cookie) == (200, "")
    replayed = browser("POST", "auth/password/reset", {"token": token, "password": PASSWORD})
    assert (replayed.status_code, replayed.json()["code"]) == (400, "invalid_token")
    person.password = NEW
    assert browser.sign_in(person).status_code == 200


def test_signing_out_ends_the_session_and_clears_the_browser(api: Api, api_database: Database) -> None:
    person, browser = new_person(api_database), Browser(api)
    token = browser.sign_in(person).cookies["ogf_session"]
    answer = browser("POST", "auth/logout")
    assert answer.headers["clear-site-data"] == '"cache", "cookies", "storage"'
    assert browser.cookie == ""
    browser.client.cookies.set("ogf_session", token)
    assert browser("GET", "me").status_code == 401
    assert audited(api_database, about=str(person.user_id))[-1] == ("auth:sign_out", "success")


def test_step_up_rotates_the_token_and_a_wrong_proof_is_told_in_the_log(api: Api, api_database: Database) -> None:
    person, browser = new_person(api_database), Browser(api)
    browser.sign_in(person)
    before = browser.cookie
    wrong = browser("POST", "auth/step-up", {"password": "violet-lamp-lake"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert browser("POST", "auth/step-up", {"password": PASSWORD}).status_code == 200
    assert browser.cookie != before
    assert browser("GET", "me").json()["stepped_up"]
    told = [event for event in audited(api_database, about=str(person.user_id)) if event[0] == "auth:step_up"]
    assert told == [("auth:step_up", "invalid_credentials"), ("auth:step_up", "success")]


def test_a_second_factor_is_set_up_asked_for_and_counted(api: Api, api_database: Database, tenant: str) -> None:
    owner, browser, other = new_person(api_database, tenant, "owner"), Browser(api), Browser(api)
    other.sign_in(owner)
    refused = other("GET", "members")
    assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required")
    codes = browser.enrolled(owner)
    assert other("GET", "me").status_code == 401
    me = browser("GET", "me").json()
    assert (me["second_factor"], me["second_factor_enrolled"], me["recovery_codes_left"]) == (True, True, 8)
    assert browser("GET", "members").status_code == 200
    asked = other.sign_in(owner)
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    assert other.sign_in(owner, codes[0]).status_code == 200
    assert other("GET", "me").json()["recovery_codes_left"] == 7


def test_setting_up_a_second_factor_needs_a_fresh_proof(api: Api, api_database: Database) -> None:
    person, browser = new_person(api_database), Browser(api)
    browser.sign_in(person)
    with api_database.admin_engine.begin() as connection:
        connection.exec_driver_sql("update ogf.sessions set stepped_up_at = now() - interval '16 minutes'")
    for path, body in (("enroll", None), ("confirm", {"code": "000000"})):
        answer = browser("POST", f"auth/totp/{path}", body)
        assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")


def test_recovery_codes_are_renewed_with_both_factors_and_failures_are_told_in_the_log(
    api: Api, api_database: Database
) -> None:
    person, browser = new_person(api_database), Browser(api)
    codes = browser.enrolled(person)
    path, before = "auth/totp/recovery-codes", browser.cookie
    assert browser("POST", path).status_code == 422
    for body, code in (
        ({"password": "violet-lamp-lake", "code": code_of(person.secret)}, "invalid_credentials"),
        ({"password": PASSWORD, "code": codes[0]}, "invalid_code"),
    ):
        refused = browser("POST", path, body)
        assert (refused.status_code, refused.json()["code"]) == (401, code)
    answer = browser("POST", path, {"password": PASSWORD, "code": code_of(person.secret)})
    assert set(answer.json()["recovery_codes"]).isdisjoint(codes)
    assert answer.headers["cache-control"] == "no-store"
    assert browser.cookie != before
    assert browser("GET", "me").json()["recovery_codes_left"] == 8
    told = [event for event in audited(api_database, about=str(person.user_id)) if event[0] == "auth:step_up"]
    assert told == [("auth:step_up", "invalid_credentials"), ("auth:step_up", "invalid_code")]


def test_sessions_are_listed_and_ended_one_by_one_or_all_others(api: Api, api_database: Database) -> None:
    person, browsers = new_person(api_database), [Browser(api) for _ in range(3)]
    for browser in browsers:
        browser.sign_in(person)
    first, second, third = browsers
    listed = first("GET", "me/sessions").json()["items"]
    assert [row["current"] for row in listed].count(True) == 1
    assert len(listed) == 3
    mine = next(row["session_id"] for row in second("GET", "me/sessions").json()["items"] if row["current"])
    assert first("DELETE", f"me/sessions/{mine}").json() == {"ended": 1}
    assert second("GET", "me").status_code == 401
    assert first("DELETE", f"me/sessions/{mine}").status_code == 404
    assert first("DELETE", "me/sessions").json() == {"ended": 1}
    assert (third("GET", "me").status_code, first("GET", "me").status_code) == (401, 200)


def test_people_change_their_profile_and_nothing_else(api: Api, api_database: Database) -> None:
    person, browser = new_person(api_database), Browser(api)
    browser.sign_in(person)
    changed = browser("PATCH", "me", {"name": "  Óla  ", "locale": "de", "muted_mail": ["report_ready"]}).json()
    assert (changed["name"], changed["locale"], changed["muted_mail"]) == ("Óla", "de", ["report_ready"])
    for body, code in (
        ({"muted_mail": ["password_reset"]}, "invalid_template"),
        ({"name": "Eve\r\nBcc: all"}, "invalid_name"),
        ({"platform_role": "platform_operator"}, "invalid_request"),
        ({"email": "x@y.example"}, "invalid_request"),
    ):
        answer = browser("PATCH", "me", body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_people_switch_between_their_own_organisations_only(
    api: Api, api_database: Database, tenant: str, new_tenant: Callable[[], str]
) -> None:
    from offgridflow_pipeline.identity import accounts

    person, browser, foreign = new_person(api_database, tenant), Browser(api), new_tenant()
    second = new_tenant()
    accounts.add_member(api_database, person.user_id, second, "analyst")
    browser.sign_in(person)
    assert {row["tenant"] for row in browser("GET", "me/tenants").json()["items"]} == {tenant, second}
    before = browser.cookie
    for slug, role in ((second, "analyst"), (tenant, "viewer")):
        assert browser("POST", "me/tenant", {"tenant": slug}).json()["role"] == role
        assert browser("GET", "tenant").json()["tenant"] == slug
        assert browser("GET", "me").json()["role"] == role
    assert browser.cookie != before
    assert browser("POST", "me/tenant", {"tenant": foreign}).status_code == 404


def test_an_owner_invites_changes_and_removes_members(api: Api, api_database: Database, tenant: str) -> None:
    owner, browser, guest = new_person(api_database, tenant, "owner"), Browser(api), Browser(api)
    browser.enrolled(owner)
    email = f"{uuid.uuid4().hex}@alder.example"
    wanted = {"email": email, "role": "engineer"}
    assert browser("POST", "invitations", wanted).json()["code"] == "idempotency_key"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    made = browser("POST", "invitations", wanted, **key)
    assert (made.status_code, browser("POST", "invitations", wanted, **key).json()) == (201, made.json())
    assert len(mails(api_database, tenant)) == 1
    invitation = made.json()["invitation_id"]
    assert browser("POST", f"invitations/{invitation}/resend").status_code == 200
    pepper = api.app.state.services.pepper
    token = single_use.mint_invitation(api_database, tenant, uuid.UUID(invitation), pepper)
    accepted = guest("POST", "invitations/accept", {"token": token, "name": "Gus", "password": PASSWORD})
    assert (accepted.json()["tenant"], accepted.json()["role"], guest.cookie) == (tenant, "engineer", "")
    assert guest("POST", "invitations/accept", {"token": token}).status_code == 401
    user_id = guest("POST", "auth/login", {"email": email, "password": PASSWORD}).json()["user_id"]
    assert guest("GET", "members").json()["code"] == "forbidden"
    changed = browser("PATCH", f"members/{user_id}", {"role": "analyst"})
    assert changed.json()["role"] == guest("GET", "me").json()["role"] == "analyst"
    listed = list(pages(lambda cursor: browser("GET", f"members?limit=1{'&cursor=' + cursor if cursor else ''}")))
    assert {row["user_id"] for page in listed for row in page} == {user_id, str(owner.user_id)}
    assert browser("GET", "invitations").json()["items"] == []
    assert browser("DELETE", f"members/{user_id}").status_code == 204
    assert guest("GET", "me").json()["tenant"] is None
    assert browser("DELETE", f"members/{user_id}").status_code == 404
    last = browser("DELETE", f"members/{owner.user_id}")
    assert (last.status_code, last.json()["code"]) == (409, "last_owner")


def test_settings_are_changed_by_who_may_and_told(api: Api, api_database: Database, tenant: str) -> None:
    owner, viewer = new_person(api_database, tenant, "owner"), new_person(api_database, tenant)
    browser, other = Browser(api), Browser(api)
    browser.enrolled(owner)
    other.sign_in(viewer)
    change = {"name": "Alder & Söhne", "lei": "529900T8BM49AURSDO55", "currency": "CHF"}
    assert browser("PATCH", "settings", change).json() == change
    assert other("GET", "settings").json() == change
    assert other("PATCH", "settings", {"name": "Mine"}).status_code == 403
    assert browser("PATCH", "settings", {"lei": ""}).json()["lei"] is None
    for wrong in ({"lei": "x"}, {"currency": "euro"}, {"slug": "other"}, {"name": "a\nb"}):
        assert browser("PATCH", "settings", wrong).status_code == 422
    assert ("tenant:settings:changed", "success") in audited(api_database, tenant)


def test_an_api_key_is_exchanged_but_has_no_account(api: Api, tenant: str) -> None:
    headers = api.key(tenant, [Permission.EMISSIONS_READ])
    token = api.client.post("/v1/auth/token", headers=headers).json()
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 600)
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    assert api.client.get("/v1/tenant", headers=bearer).json()["tenant"] == tenant
    assert api.client.post("/v1/auth/token", headers=bearer).json()["code"] == "api_key_required"
    for path in ("me", "me/sessions", "me/tenants"):
        assert api.client.get(f"/v1/{path}", headers=headers).json()["code"] == "person_required"
    accept = api.client.post("/v1/invitations/accept", headers=headers, json={"token": "x" * 43})
    assert accept.status_code == 401


def test_limits_and_busy_doors_say_when_to_come_back(
    api: Api, api_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offgridflow_pipeline.identity import passwords

    person, browser = new_person(api_database), Browser(api)
    monkeypatch.setattr(passwords, "PATIENCE_SECONDS", 0.01)
    with passwords._turn(), passwords._turn():
        busy = browser.sign_in(person)
    assert (busy.status_code, busy.headers["retry-after"], busy.json()["code"]) == (503, "2", "busy")
    services = api.app.state.services
    services.rate_limiter = RateLimiter(MemoryStore(), services.pepper)
    refused = next(answer for answer in (browser.sign_in(person) for _ in range(30)) if answer.status_code != 200)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "body",
    [
        "{", "[]", '"x"', "null", '{"email": 1, "password": 2}', '{"email": "a@b.c"}',
        '{"email": "a@b.c", "password": "x", "admin": true}', '{"email": "a\\u0000@b.c", "password": "x\\u0000"}',
        json.dumps({"email": "a@b.c", "password": "x" * 2000}),
    ],
)  # fmt: skip
def test_bad_bodies_are_problems_and_repeat_no_password(api: Api, body: str) -> None:
    answer = api.client.post(
        "/v1/auth/login", content=body.encode(), headers={**BROWSER, "Content-Type": "application/json"}
    )
    assert answer.status_code in {401, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert "xxxx" not in answer.text
