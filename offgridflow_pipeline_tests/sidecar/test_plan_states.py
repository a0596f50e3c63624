"""Every route in every billing state: reading and paying go on, making more does not, and closed is closed.

The routes are those of the app, what they answer otherwise is `access_matrix.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.subscriptions import entitlements
from offgridflow_pipeline_tests.sidecar.access_matrix import TABLE, Asked, Asker, asked_routes
from offgridflow_pipeline_tests.sidecar.subscribed import SubscribedWorld
from offgridflow_pipeline_tests.sidecar.world import ORIGIN

STATES = ("restricted", "suspended", "offboarded")
#: Unsafe routes that make nothing an organisation pays for, and why.
MAKES_NOTHING = {
    # One's own account: it belongs to the person, not to the organisation.
    "POST /sign-in", "POST /sign-in/second-factor", "POST /sign-out", "POST /step-up", "POST /forgot-password",
    "POST /reset-password", "POST /settings/profile", "POST /settings/password",
    "POST /settings/sessions/{session_id}/end", "POST /settings/second-factor", "POST /settings/second-factor/confirm",
    "POST /settings/recovery-codes",
    "POST /switch-tenant",
    "POST /v1/auth/login", "POST /v1/auth/logout", "POST /v1/auth/step-up", "POST /v1/auth/password/forgot",
    "POST /v1/auth/password/reset", "POST /v1/auth/password/change", "POST /v1/auth/totp/enroll",
    "POST /v1/auth/totp/confirm", "POST /v1/auth/totp/recovery-codes", "PATCH /v1/me", "DELETE /v1/me/sessions",
    "DELETE /v1/me/sessions/{session_id}", "POST /v1/me/tenant",
    # Of who accepts nobody knows the organisation before; the acceptance itself asks for room, see test_plan_limits.
    "POST /invitation", "POST /v1/invitations/accept",
    # A token is the key in another form: each request with it is asked again.
    "POST /v1/auth/token",
    # Less, not more.
    "POST /connections/{connection_id}/pause", "DELETE /v1/connectors/{connection_id}",
    "POST /keys/{key_id}/revoke", "DELETE /v1/api-keys/{key_id}", "POST /v1/api-keys/revoke-by-value",
    "POST /members/{user_id}/remove", "DELETE /v1/members/{user_id}", "POST /members/invitations/{invitation_id}/revoke",
    "DELETE /v1/invitations/{invitation_id}", "POST /v1/runs/{job_id}/cancel",
    # Pausing is less; resuming and a new secret are asked in the handler, see test_plan_limits.
    "PATCH /v1/connectors/{connection_id}",
    # Another role is no other person; one that takes another kind of place is asked in the handler.
    "POST /members/{user_id}", "PATCH /v1/members/{user_id}",
    # A decision on a report that was made, and paid for, before: reporting duties do not wait for a payment.
    "POST /reports/{report_id}/{verb}", "POST /v1/reports/{report_id}/review", "POST /v1/reports/{report_id}/approve",
    "POST /v1/reports/{report_id}/issue",
    # Name, currency and legal entity identifier: what is issued must be able to say whose it is.
    "PATCH /v1/settings",
    # The way out of the state.
    "POST /billing/checkout", "POST /billing/portal", "POST /billing/closing", "POST /v1/billing/checkout",
    "POST /v1/billing/portal", "POST /v1/tenant/offboarding",
    # Stripe's own: signed, and of no organisation.
    "POST /v1/webhooks/stripe",
}  # fmt: skip
#: Routes that answer otherwise where organisations subscribe: the table is of an installation without Stripe.
_OF_BILLING = ("/billing", "/v1/billing", "/v1/tenant/offboarding")


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> SubscribedWorld:
    return SubscribedWorld(database, api_database, tmp_path_factory.mktemp("states"))


def makes(asked: Asked) -> bool:
    """Whether the route says that it makes something."""
    return any(getattr(call, "__ogf_makes__", None) is not None for call in _doors(asked.route.dependant))


def _doors(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _doors(dependency)


def name(asked: Asked) -> str:
    return f"{asked.method} {asked.route.path}"


def test_every_unsafe_route_says_what_it_makes_or_stands_among_those_that_make_nothing(world: SubscribedWorld) -> None:
    unsafe = [asked for asked in asked_routes(world.app) if asked.method not in ("GET", "HEAD")]
    assert {name(asked) for asked in unsafe if not makes(asked)} == MAKES_NOTHING
    assert len([asked for asked in unsafe if makes(asked)]) >= 17


def test_no_safe_route_makes_anything(world: SubscribedWorld) -> None:
    assert [name(a) for a in asked_routes(world.app) if a.method in ("GET", "HEAD") and makes(a)] == []


def test_the_table_of_states_has_a_row_for_every_permission_and_each_state_allows_less_than_the_one_before() -> None:
    rows = data_rows(entitlements.__file__, "states.csv")
    assert [row["permission"] for row in rows] == [str(permission) for permission in Permission]
    columns = [f"{state}{machine}" for machine in ("", "_key") for state in STATES]
    held = {column: {row["permission"] for row in rows if row[column] == "x"} for column in columns}
    assert held["suspended"] < held["restricted"]
    assert held["suspended_key"] < held["restricted_key"]
    assert held["offboarded"] == held["offboarded_key"] == set()
    assert held["suspended_key"] == {
        "reports:read", "artifact:download", "evidence:read", "audit:read", "audit:export",
    }  # fmt: skip


@pytest.fixture(scope="module")
def asker(world: SubscribedWorld) -> Asker:
    """Of an organisation with things of each kind; its file was uploaded while that was possible."""
    found = Asker(world)
    world.put(found.own, "pro")
    found._upload(found.own)
    return found


@cache
def usual() -> dict[str, dict[str, str]]:
    """What routes answer about one's own things while all is paid."""
    with TABLE.open(newline="", encoding="utf-8") as stream:
        return {f"{row['method']} {row['path']}": row for row in csv.DictReader(stream) if row["ids"] in ("own", "-")}


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["owner", "api_key"])
@pytest.mark.parametrize("state", STATES)
def test_in_each_state_every_route_answers_as_before_or_says_that_the_subscription_ended_it(
    world: SubscribedWorld, asker: Asker, state: str, caller: str
) -> None:
    world.put(asker.own, "pro", state)
    asker._people["owner"] = world.someone(asker.own, "owner")  # one route changes their password
    wrong, ended = [], 0
    for asked in asked_routes(world.app):
        before = int(usual()[name(asked)][caller])
        if asked.access == "public" or (before == 403 and asked.access != "signed_in"):
            continue
        refused = is_ended(asked, state, machine=caller == "api_key")
        told = _told(asker, asked, caller)
        ended += refused
        if told != ("plan_limit" if refused else "") and not (
            asked.route.path.startswith(_OF_BILLING) and not refused and told != "plan_limit"
        ):
            wrong.append((name(asked), told, refused))
    assert wrong == []
    assert ended >= 8


def is_ended(asked: Asked, state: str, *, machine: bool) -> bool:
    """Whether the state ends what the route does."""
    if asked.access == "signed_in":
        return state == "offboarded" and _is_of_a_tenant(asked)
    permission = "reports:create" if asked.route.path.endswith("/cancel") and state == "suspended" else asked.access
    column = f"{state}_key" if machine else state
    rows = data_rows(entitlements.__file__, "states.csv")
    kept = {row["permission"] for row in rows if row[column] == "x"}
    return makes(asked) or permission not in kept


def _is_of_a_tenant(asked: Asked) -> bool:
    return name(asked) in {"GET /", "GET /v1/tenant", "GET /v1/settings", "POST /v1/auth/token"}


def _told(asker: Asker, asked: Asked, caller: str) -> str:
    """`plan_limit` when the subscription was the reason, empty when the answer is the usual one, else the answer."""
    before = int(usual()[name(asked)][caller])
    answer = asker.ask(asked, caller, "own" if asked.names_things else "-")
    document = answer.status == 403 and (b'"plan_limit"' in answer.content or asked.method == "HEAD")
    page = answer.status == 403 and b"Not in this subscription" in answer.content
    if document or page or "?error=plan_limit_" in answer.location:
        return "plan_limit"
    return "" if answer.status == before else f"{answer.status} {answer.content[:200]!r}"


def test_who_is_closed_out_still_has_an_account_and_other_organisations(world: SubscribedWorld) -> None:
    tenant = world.tenant_on("pro", "offboarded")
    person = world.someone(tenant, "owner")
    for path in ("/settings", "/switch-tenant", "/v1/me"):
        assert world.client.get(path, headers=person.headers).status_code == 200, path
    closed = world.client.get("/reports", headers=person.headers)
    assert closed.status_code == 403
    assert "account of the organisation is closed" in closed.text
    assert world.client.post("/sign-out", headers={**person.headers, **ORIGIN}).status_code == 303
