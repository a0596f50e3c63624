"""Numbers of the plan, asked of routes: one more than it allows is refused, less and what is there already is not."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import single_use
from offgridflow_pipeline.subscriptions.entitlements import CODES
from offgridflow_pipeline_tests.sidecar.portal.house import tree, words
from offgridflow_pipeline_tests.sidecar.signed_in import Session, signed_in
from offgridflow_pipeline_tests.sidecar.subscribed import SubscribedWorld
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, PASSWORD, PEPPER, World

SOON = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> SubscribedWorld:
    return SubscribedWorld(database, api_database, tmp_path_factory.mktemp("limits"))


class Organisation:
    """A tenant on a plan, and its owner, who asks."""

    def __init__(self, world: SubscribedWorld, plan: str, state: str = "active") -> None:
        self.world, self.tenant = world, world.tenant_on(plan, state)
        self.owner = world.someone(self.tenant, "owner")  # beside the one of the world: two members

    def __call__(self, method: str, path: str, body: Any = None, *, by: Session | None = None) -> Any:
        self.world.client.cookies.clear()
        headers = {**(by or self.owner).headers, "Idempotency-Key": uuid.uuid4().hex}
        return self.world.client.request(method, path, json=body, headers=headers)

    def form(self, path: str, **values: str) -> Any:
        """The answer to a form of the portal."""
        self.world.client.cookies.clear()
        return self.world.client.post(path, data=values, headers=self.owner.headers)

    def page(self, path: str) -> Any:
        """A page of the portal."""
        return self.world.client.get(path, headers=self.owner.headers)

    def connect(self) -> Any:
        """Add a connection by the API."""
        wanted = {"id": f"c{uuid.uuid4().hex[:8]}", "kind": "cur2", "uri": "s3://bucket/exports"}
        return self("POST", "/v1/connectors", wanted)

    def invite(self, role: str = "viewer", email: str = "") -> Any:
        """Invite somebody by the API."""
        ends = {"expires_at": SOON.isoformat()} if role == "auditor" else {}
        address = email or f"{uuid.uuid4().hex[:12]}@alder.example"
        return self("POST", "/v1/invitations", {"email": address, "role": role, **ends})

    def token(self, invitation: str) -> str:
        """The token of an invitation's link, as the mail would hold it."""
        return single_use.mint_invitation(self.world.api, self.tenant, uuid.UUID(invitation), PEPPER)


def cause(answer: Any) -> str:
    """Code of the limit that was met; fails when none was."""
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "plan_limit"
    assert answer.json()["detail"] == answer.json()["errors"][0]["message"]
    found = str(answer.json()["errors"][0]["code"])
    assert found in CODES
    return found


def test_a_plan_of_one_connection_reads_one_and_another_only_in_its_place(world: SubscribedWorld) -> None:
    ask = Organisation(world, "free")
    first = ask.connect()
    assert first.status_code == 201, first.text
    refused = ask.connect()
    assert cause(refused) == "connections"
    assert "allows 1 connection: choose a larger one" in refused.json()["detail"]
    assert len(ask("GET", "/v1/connectors").json()["items"]) == 1
    paused = ask("PATCH", f"/v1/connectors/{first.json()['id']}", {"status": "paused"})
    assert paused.status_code == 200
    assert ask.connect().status_code == 201
    assert cause(ask("PATCH", f"/v1/connectors/{first.json()['id']}", {"status": "active"})) == "connections"


def test_resuming_what_is_read_already_takes_no_other_place(world: SubscribedWorld) -> None:
    ask = Organisation(world, "free")
    name = ask.connect().json()["id"]
    assert ask("PATCH", f"/v1/connectors/{name}", {"status": "active"}).status_code == 200


def test_of_connections_added_at_once_only_as_many_fit_as_the_plan_allows(world: SubscribedWorld) -> None:
    ask = Organisation(world, "basic")
    with ThreadPoolExecutor(6) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: ask.connect(), range(6)))
    assert statuses == [201, 201, 201, 403, 403, 403]


def test_a_paid_plan_is_not_counted_against_another_organisation_s(world: SubscribedWorld) -> None:
    full = Organisation(world, "free")
    full.connect()
    assert Organisation(world, "free").connect().status_code == 201


def test_without_a_payment_a_connection_is_paused_but_neither_resumed_nor_given_a_secret(
    world: SubscribedWorld,
) -> None:
    ask = Organisation(world, "pro", "restricted")
    name = world.connection(ask.tenant)
    assert cause(ask("PATCH", f"/v1/connectors/{name}", {"status": "active"})) == "restricted"
    assert cause(ask("PATCH", f"/v1/connectors/{name}", {"secret": "a-secret-of-tests"})) == "restricted"
    assert ask("PATCH", f"/v1/connectors/{name}", {"status": "paused"}).status_code == 200
    assert ask("DELETE", f"/v1/connectors/{name}").status_code == 204


def test_open_invitations_take_places_and_one_sent_again_or_instead_takes_no_other(world: SubscribedWorld) -> None:
    ask = Organisation(world, "basic")  # two of ten
    invited = [ask.invite() for _ in range(8)]
    assert {answer.status_code for answer in invited} == {201}
    assert cause(ask.invite()) == "members"
    again = invited[0].json()
    assert ask("POST", f"/v1/invitations/{again['invitation_id']}/resend").status_code == 200
    assert ask.invite(email=again["email"].upper()).status_code == 201
    assert ask("DELETE", f"/v1/invitations/{invited[1].json()['invitation_id']}").status_code == 204
    assert ask.invite().status_code == 201


def test_auditors_have_places_of_their_own(world: SubscribedWorld) -> None:
    ask = Organisation(world, "basic")
    assert ask.invite("auditor").status_code == 201
    assert cause(ask.invite("auditor")) == "auditors"
    assert ask.invite("viewer").status_code == 201
    assert cause(Organisation(world, "free").invite("auditor")) == "auditors"


def test_a_role_that_takes_another_kind_of_place_needs_one_and_others_do_not(world: SubscribedWorld) -> None:
    ask = Organisation(world, "free")
    second = world.someone(ask.tenant, "viewer")  # by the operator: one more than the plan allows
    change = f"/v1/members/{second.user_id}"
    assert ask("PATCH", change, {"role": "analyst"}).status_code == 200
    assert cause(ask("PATCH", change, {"role": "auditor", "expires_at": SOON.isoformat()})) == "auditors"


def test_an_auditor_whose_time_ended_is_let_in_again_only_where_there_is_room(world: SubscribedWorld) -> None:
    ask = Organisation(world, "basic")
    former = world.someone(ask.tenant, "auditor")
    world.api.memberships.change(
        ask.tenant, former.user_id, "auditor", granted_by="system", expires_at=datetime.now(UTC) - timedelta(days=1)
    )
    assert ask.invite("auditor").status_code == 201
    again = {"role": "auditor", "expires_at": SOON.isoformat()}
    assert cause(ask("PATCH", f"/v1/members/{former.user_id}", again)) == "auditors"


def test_who_accepts_comes_in_while_there_is_room_and_an_unused_link_stays_good(world: SubscribedWorld) -> None:
    ask = Organisation(world, "pro")
    tokens = [ask.token(ask.invite().json()["invitation_id"]) for _ in range(2)]
    world.put(ask.tenant, "free")  # two members are there, two is what it allows
    accepted = [accept(world, token) for token in tokens]
    assert {answer.status_code for answer in accepted} == {403}
    assert accepted[0].json()["code"] == "plan_limit"
    world.put(ask.tenant, "basic")
    assert accept(world, tokens[0]).status_code == 200
    world.put(ask.tenant, "pro", "restricted")
    assert accept(world, tokens[1]).json()["code"] == "plan_limit"


def test_of_several_who_take_the_last_place_at_once_one_gets_it(world: SubscribedWorld) -> None:
    ask = Organisation(world, "pro")
    people = [world.someone(world.tenant()) for _ in range(5)]
    tokens = [ask.token(ask.invite("auditor", one.email).json()["invitation_id"]) for one in people]
    world.put(ask.tenant, "basic")

    def take(number: int) -> int:
        body = {"token": tokens[number]}
        answer = world.client.post("/v1/invitations/accept", json=body, headers=people[number].headers)
        return int(answer.status_code)

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(take, range(5))) == [200, 403, 403, 403, 403]
    assert sum(row.role == "auditor" for row in world.operator.memberships.list(ask.tenant)) == 1


def accept(world: World, token: str) -> Any:
    world.client.cookies.clear()
    body = {"token": token, "name": "Nia New", "password": PASSWORD}
    return world.client.post("/v1/invitations/accept", json=body, headers=ORIGIN)


def test_the_page_of_an_invitation_says_that_there_is_no_room(world: SubscribedWorld) -> None:
    ask = Organisation(world, "pro")
    token = ask.token(ask.invite().json()["invitation_id"])
    world.put(ask.tenant, "free")
    world.client.cookies.clear()
    form = {"token": token, "name": "Nia New", "password": PASSWORD}
    answer = world.client.post("/invitation", data=form, headers={**ORIGIN, "Accept-Language": "de"})
    assert answer.status_code == 403
    assert "keinen freien Platz" in words(answer)


@pytest.mark.parametrize(("days_back", "status"), [(89, 202), (95, 403)])
def test_bills_are_read_as_far_back_as_the_plan_goes(world: SubscribedWorld, days_back: int, status: int) -> None:
    ask = Organisation(world, "free")
    name = world.connection(ask.tenant)
    first = datetime.now(UTC).date() - timedelta(days=days_back)
    days = {"first": first.isoformat(), "last": first.isoformat()}
    asked = [
        ask("POST", f"/v1/connectors/{name}/sync", days),
        ask("POST", "/v1/runs", {"type": "connector_sync", "payload": days}),
        ask("POST", "/v1/runs", {"type": "emissions_calculation", "payload": days}),
    ]
    assert [answer.status_code for answer in asked] == [status] * 3
    if status == 403:
        assert {cause(answer) for answer in asked} == {"history_days"}


def test_a_plan_without_api_makes_no_keys_and_says_so_before_it_asks_for_the_password(world: SubscribedWorld) -> None:
    ask = Organisation(world, "basic")
    unproved = signed_in(world.api, ask.tenant, "owner", stepped_up=False)
    body = {"name": "dashboard", "permissions": ["emissions:read"]}
    assert cause(ask("POST", "/v1/api-keys", body, by=unproved)) == "api"
    assert ask("GET", "/v1/api-keys").status_code == 200


def test_keys_of_a_plan_that_lost_its_api_still_export_and_nothing_else(world: SubscribedWorld) -> None:
    tenant = world.tenant_on("pro")
    key, report = world.key(tenant), f"rep_{world.report(tenant)}"
    totals = "/v1/emissions/totals?from=2026-10-01&to=2026-10-31"
    token = world.client.post("/v1/auth/token", headers=key).json()["access_token"]
    assert world.client.get(totals, headers=key).status_code == 200
    world.put(tenant, "basic")
    for headers in (key, {"Authorization": f"Bearer {token}"}):
        assert cause(world.client.get(totals, headers=headers)) == "api"
        assert world.client.get("/v1/reports", headers=headers).status_code == 200
        assert world.client.get(f"/v1/reports/{report}/artifacts/report.pdf", headers=headers).status_code == 200
        assert world.client.get("/v1/audit", headers=headers).status_code == 200


def test_a_form_that_meets_a_limit_leads_back_with_its_reason_in_the_reader_s_language(world: SubscribedWorld) -> None:
    ask = Organisation(world, "free")
    refused = ask.form("/members/invitations", email="new@alder.example", role="viewer")
    assert refused.status_code == 303
    assert refused.headers["location"] == "/members?error=plan_limit_members"
    told = tree(ask.page(refused.headers["location"])).xpath("//*[@role='alert']")[0]
    assert "The plan Free allows 2 members" in told.text_content()
    assert told.xpath(".//a/@href") == ["/billing"]
    ask.form("/settings/profile", name="Olga", locale="de")
    page = ask.page(refused.headers["location"])
    assert "Der Tarif Free erlaubt 2 Mitglieder, Eingeladene mitgezählt" in words(page)


@pytest.mark.parametrize(
    ("path", "values", "section", "told"),
    [
        ("/keys", {"name": "x", "permissions": "emissions:read"}, "/keys", "has no API"),
        ("/members/invitations", {"email": "a@alder.example", "role": "auditor"}, "/members", "allows 0 auditors"),
        ("/connections/{spare}/resume", {}, "/connections", "allows 1 connection"),
    ],
)
def test_every_form_of_the_portal_that_the_plan_refuses_says_why(
    world: SubscribedWorld, path: str, values: dict[str, str], section: str, told: str
) -> None:
    ask = Organisation(world, "free")
    spare = world.connection(ask.tenant)
    world.operator.connections.pause(ask.tenant, spare)
    world.connection(ask.tenant)
    refused = ask.form(path.format(spare=spare), **values)
    assert refused.status_code == 303, refused.text
    assert refused.headers["location"].startswith(f"{section}?error=plan_limit_")
    assert told in words(ask.page(refused.headers["location"]))


def test_no_link_can_tell_of_a_limit_that_was_not_met(world: SubscribedWorld) -> None:
    ask = Organisation(world, "enterprise")
    for code in ("members", "api", "restricted", "nothing", "formats"):
        page = tree(ask.page(f"/members?error=plan_limit_{code}"))
        assert page.xpath("//*[@role='alert']") == [], code


def test_where_nobody_subscribes_nothing_is_counted(
    database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = World(database, api_database, tmp_path_factory.mktemp("plain"))
    tenant = plain.tenant()
    plain.operator.subscriptions.change_standing(tenant, "free", "suspended", datetime.now(UTC))
    owner = plain.someone(tenant, "owner")
    for number in range(3):
        body = {"id": f"c{number}", "kind": "cur2", "uri": "s3://bucket/exports"}
        headers = {**owner.headers, "Idempotency-Key": uuid.uuid4().hex}
        assert plain.client.post("/v1/connectors", json=body, headers=headers).status_code == 201
    asked = {"first": date(2024, 1, 1).isoformat(), "last": date(2024, 1, 2).isoformat()}
    headers = {**plain.key(tenant), "Idempotency-Key": uuid.uuid4().hex}
    old = plain.client.post("/v1/runs", json={"type": "connector_sync", "payload": asked}, headers=headers)
    assert old.status_code == 202, old.text
