"""Coming in and going out: sign-in, second factor, step-up, reset, invitation; by forms alone."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.identity.single_use import mint_invitation, mint_reset
from offgridflow_pipeline.sidecar.portal.rendering import local_path
from offgridflow_pipeline_tests.sidecar.portal.house import (
    next_code,
    shown_codes,
    signed_in_with,
    tree,
    where,
    with_second_factor,
    words,
)
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, PASSWORD, PEPPER, Someone, World


def sign_in(world: World, someone: Someone, password: str = PASSWORD, **more: str):
    world.client.cookies.clear()
    return world.client.post("/sign-in", data={"email": someone.email, "password": password, **more}, headers=ORIGIN)


@pytest.fixture
def viewer(world: World) -> Someone:
    return world.someone(world.tenant(), "viewer")


def test_address_and_password_lead_to_the_page_that_was_asked_for(world: World, viewer: Someone) -> None:
    path, query = where(world.client.get("/reports?cursor=a%26b"))
    assert (path, query) == ("/sign-in", {"next": "/reports?cursor=a%26b"})
    answer = sign_in(world, viewer, next=query["next"])
    assert answer.headers["location"] == "/reports?cursor=a%26b"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert world.client.get("/settings", headers=signed_in_with(world, answer)).status_code == 200


def test_a_wrong_password_and_an_unknown_address_read_the_same(world: World, viewer: Someone) -> None:
    wrong = sign_in(world, viewer, "not-the-password")
    unknown = world.client.post(
        "/sign-in", data={"email": "nobody@alder.example", "password": "not-the-password"}, headers=ORIGIN
    )
    assert wrong.status_code == unknown.status_code == 401
    strip = re.compile(r'value="[^"]*"')
    assert strip.sub("", wrong.text) == strip.sub("", unknown.text)
    assert tree(wrong).xpath("//*[@role='alert']")
    assert tree(wrong).xpath("//input[@type='password']/@value") == [""]


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/a\\..//evil", "javascript:alert(1)", "/x\r\nSet-Cookie: a", ""],
)  # fmt: skip
def test_nobody_is_led_to_another_site_after_signing_in(world: World, viewer: Someone, wanted: str) -> None:
    assert local_path(wanted) == "/"
    assert sign_in(world, viewer, next=wanted).headers["location"] == "/"


def test_a_form_that_another_site_sends_is_refused(world: World, viewer: Someone) -> None:
    answer = world.client.post(
        "/sign-in", data={"email": viewer.email, "password": PASSWORD}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_second_factor_is_set_up_by_code_and_asked_for_at_the_next_sign_in(world: World, viewer: Someone) -> None:
    secret, codes, _ = with_second_factor(world, viewer)
    assert len(set(codes)) == 8
    asked = sign_in(world, viewer, next="/reports")
    assert asked.status_code == 200
    assert "set-cookie" not in asked.headers
    form = {field.get("name"): field.get("value") for field in tree(asked).xpath("//form[@class='stack']//input")}
    wrong = world.client.post("/sign-in/second-factor", data={**form, "code": "000000"}, headers=ORIGIN)
    assert wrong.status_code == 401
    assert tree(wrong).xpath("//input[@name='challenge']/@value") == [form["challenge"]]
    entered = world.client.post("/sign-in/second-factor", data={**form, "code": codes[0]}, headers=ORIGIN)
    assert where(entered)[0] == "/reports"
    assert secret not in entered.text


def test_a_reload_of_the_second_step_begins_anew(world: World) -> None:
    assert where(world.client.get("/sign-in/second-factor"))[0] == "/sign-in"
    stale = world.client.post("/sign-in/second-factor", data={"challenge": "x", "code": "1"}, headers=ORIGIN)
    assert tree(stale).xpath("//input[@name='email']")


def test_a_wrong_first_code_shows_the_field_again_and_not_the_key(world: World, viewer: Someone) -> None:
    world.client.post("/settings/second-factor", headers=viewer.headers)
    answer = world.client.post("/settings/second-factor/confirm", data={"code": "000000"}, headers=viewer.headers)
    assert answer.status_code == 401
    page = tree(answer)
    assert page.xpath("//input[@name='code']/@aria-invalid") == ["true"]
    assert page.xpath("//code[@class='secret']") == []


def test_the_key_of_the_second_factor_is_drawn_as_a_qr_code(world: World, viewer: Someone) -> None:
    page = tree(world.client.post("/settings/second-factor", headers=viewer.headers))
    modules = page.xpath("//div[@class='qr']//*[local-name()='rect']")
    assert len(modules) > 300
    assert page.xpath("//div[@class='qr']//*[local-name()='title']")[0].text


def test_recovery_codes_are_renewed_with_password_and_authenticator_and_shown_once(
    world: World, viewer: Someone
) -> None:
    path = "/settings/recovery-codes"
    secret, old, headers = with_second_factor(world, viewer)
    assert tree(world.client.get("/settings", headers=headers)).xpath(f"//a[@href='{path}']")
    form = {"password": PASSWORD, "code": next_code(secret)}
    for wrong, field in (({"password": "wrong"}, "password"), ({"code": old[0]}, "code"), ({"code": "000000"}, "code")):
        refused = world.client.post(path, data={**form, **wrong}, headers=headers)
        assert refused.status_code == 401
        assert tree(refused).xpath(f"//input[@name='{field}']/@aria-invalid") == ["true"]
        assert tree(refused).xpath("//input[@name='password']/@value") == [""]
        assert shown_codes(refused) == []
    renewed = world.client.post(path, data=form, headers=headers)
    new = shown_codes(renewed)
    assert len(set(new) - set(old)) == 8
    assert "codes that you had before are void" in words(renewed)
    assert renewed.headers["cache-control"] == "no-store"
    rotated = signed_in_with(world, renewed)
    assert where(world.client.get(path, headers=headers))[0] == "/sign-in"
    again = world.client.post(path, data=form, headers=rotated)
    assert (again.status_code, shown_codes(again)) == (401, [])
    assert not set(new) & set(words(world.client.get(path, headers=rotated)).split())
    asked = sign_in(world, viewer)
    step = {field.get("name"): field.get("value") for field in tree(asked).xpath("//form[@class='stack']//input")}
    for code, status in ((old[0], 401), (new[0], 303)):
        entered = world.client.post("/sign-in/second-factor", data={**step, "code": code}, headers=ORIGIN)
        assert entered.status_code == status


def test_without_a_second_factor_the_way_to_new_codes_leads_to_setting_it_up(world: World, viewer: Someone) -> None:
    for ask in (world.client.get, world.client.post):
        assert where(ask("/settings/recovery-codes", headers=viewer.headers))[0] == "/settings/second-factor"
    assert not tree(world.client.get("/settings", headers=viewer.headers)).xpath("//a[contains(@href, 'recovery')]")


def test_a_german_reader_renews_codes_in_german(world: World, viewer: Someone) -> None:
    _, _, headers = with_second_factor(world, viewer)
    world.client.post("/settings/profile", data={"name": "Bianca", "locale": "de"}, headers=headers)
    page = words(world.client.get("/settings/recovery-codes", headers=headers))
    assert "Neue Wiederherstellungscodes" in page
    assert "Die alten gelten sofort nicht mehr" in page


def test_an_owner_without_second_factor_is_led_to_set_it_up(world: World) -> None:
    tenant = world.tenant()
    owner = world.someone(tenant, "owner", second_factor=False)
    path, query = where(world.client.get("/reports", headers=owner.headers))
    assert (path, query) == ("/settings/second-factor", {"error": "second_factor"})


def test_keys_ask_to_confirm_the_password_and_go_on_afterwards(world: World) -> None:
    owner = world.someone(world.tenant(), "owner")
    with world.api.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.sessions set stepped_up_at = now() - interval '16 minutes' where user_id = :user_id"),
            {"user_id": owner.user_id},
        )
    path, query = where(world.client.get("/keys", headers=owner.headers))
    assert (path, query) == ("/step-up", {"next": "/keys"})
    assert where(world.client.post("/keys", data={"name": "x"}, headers=owner.headers))[1] == {"next": "/keys"}
    wrong = world.client.post("/step-up", data={"password": "wrong", "next": "/keys"}, headers=owner.headers)
    assert wrong.status_code == 401
    right = world.client.post("/step-up", data={"password": PASSWORD, "next": "/keys"}, headers=owner.headers)
    assert where(right)[0] == "/keys"
    assert world.client.get("/keys", headers=signed_in_with(world, right)).status_code == 200
    assert where(world.client.get("/keys", headers=owner.headers))[0] == "/sign-in"


def test_signing_out_ends_the_session_and_can_be_repeated(world: World, viewer: Someone) -> None:
    for _ in range(2):
        answer = world.client.post("/sign-out", headers=viewer.headers)
        assert where(answer) == ("/sign-in", {"done": "signed_out"})
        assert "clear-site-data" in answer.headers
    assert where(world.client.get("/", headers=viewer.headers))[0] == "/sign-in"
    assert "You are signed out" in words(world.client.get("/sign-in?done=signed_out"))


def test_messages_come_from_a_list_and_not_from_the_address(world: World) -> None:
    answer = world.client.get("/sign-in?done=<b>send+money</b>&error=evil")
    assert not tree(answer).xpath("//*[@class='message' or @role='alert']")
    assert "send money" not in answer.text


def test_asking_for_a_reset_says_the_same_for_every_address(world: World, viewer: Someone) -> None:
    known = world.client.post("/forgot-password", data={"email": viewer.email}, headers=ORIGIN)
    unknown = world.client.post("/forgot-password", data={"email": "nobody@alder.example"}, headers=ORIGIN)
    assert known.status_code == unknown.status_code == 200
    assert known.text == unknown.text


def test_a_reset_link_sets_a_new_password_once(world: World, viewer: Someone) -> None:
    with world.api.user(viewer.user_id) as scope:
        bound = world.api.within(scope)
        reset_id = bound.password_resets.request(viewer.user_id, timedelta(minutes=30))
        token = mint_reset(bound, viewer.user_id, reset_id, PEPPER)
    assert world.client.get(f"/reset-password?token={token}").status_code == 200
    weak = world.client.post("/reset-password", data={"token": token, "password": "password1234"}, headers=ORIGIN)
    assert weak.status_code == 422
    form = {"token": token, "password": "amber-kite-field-seven"}
    assert where(world.client.post("/reset-password", data=form, headers=ORIGIN))[1] == {"done": "password_reset"}
    assert world.client.get(f"/reset-password?token={token}").status_code == 410
    assert where(world.client.get("/", headers=viewer.headers))[0] == "/sign-in"
    assert where(sign_in(world, viewer, form["password"]))[0] == "/"


def test_an_invitation_makes_an_account_that_signs_in(world: World) -> None:
    tenant = world.tenant()
    email = f"i-{uuid.uuid4().hex[:10]}@alder.example"
    with world.api.tenant(tenant) as scope:
        bound = world.api.within(scope)
        row = bound.invitations.add(
            tenant, email, "analyst", invited_by="system", lifetime=timedelta(days=7), membership_expires_at=None
        )
        token = mint_invitation(bound, tenant, row.invitation_id, PEPPER)
    offered = world.client.get(f"/invitation?token={token}")
    assert f"Tenant of a test invites {email} as Analyst" in words(offered)
    refused = world.client.post("/invitation", data={"token": token, "name": "", "password": "x"}, headers=ORIGIN)
    assert refused.status_code == 422
    form = {"token": token, "name": "Jonas Alder", "password": "amber-kite-field-seven"}
    assert where(world.client.post("/invitation", data=form, headers=ORIGIN))[1] == {"done": "invitation_accepted"}
    assert world.client.get(f"/invitation?token={token}").status_code == 410
    answer = world.client.post("/sign-in", data={"email": email, "password": form["password"]}, headers=ORIGIN)
    home = world.client.get("/", headers=signed_in_with(world, answer))
    assert "Jonas Alder, Analyst" in words(home)
