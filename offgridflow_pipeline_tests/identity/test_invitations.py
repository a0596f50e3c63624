"""Invitations and memberships: who may give what, and that a link makes one member, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import accounts, api_keys, invitations, memberships, sign_in, single_use
from offgridflow_pipeline.identity.invitations import NewPerson
from offgridflow_pipeline.identity.memberships import Granter
from offgridflow_pipeline.identity.permissions import ROLES, Permission, permissions_of
from offgridflow_pipeline.identity.profiles import DECLINABLE_MAIL
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.notifications.templates import declinable_templates, template_of
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    PEPPER,
    Person,
    TestMeans,
    age,
    audited,
    mails,
    new_person,
    visitor,
)

SOON = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


@pytest.fixture
def owner(means: TestMeans, tenant: str) -> Person:
    return new_person(means.database, tenant, "owner")


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refused:
        act()
    return refused.value.code


def invite(
    means: TestMeans, tenant: str, by: Person, email: str, role: str = "analyst", granter: str = "owner"
) -> UUID:
    with means.database.tenant(tenant) as scope:
        row = invitations.invite(
            means, means.database.within(scope), tenant, "Alder", Granter(by.user_id, granter), email=email, role=role,
            expires_at=SOON if role == "auditor" else None, language="de", visitor=visitor(),
        )  # fmt: skip
    return row.invitation_id


def token_of(means: TestMeans, tenant: str, invitation_id: UUID) -> str:
    return single_use.mint_invitation(means.database, tenant, invitation_id, PEPPER)


def change(
    means: TestMeans, tenant: str, granter: Granter, user_id: UUID, role: str, ends: datetime | None = None
) -> None:
    with means.database.tenant(tenant) as scope:
        memberships.change_role(means.database.within(scope), tenant, granter, user_id, role, ends, visitor())


def role_in(means: TestMeans, tenant: str, user_id: UUID) -> str | None:
    member = means.database.memberships.get(tenant, user_id)
    return member.role if member else None


def test_a_new_person_accepts_and_signs_in_afterwards(means: TestMeans, tenant: str, owner: Person) -> None:
    invitation_id = invite(means, tenant, owner, "New.One@Alder.Example")
    assert mails(means.database, tenant) == [
        ("invitation", {"invitation_id": str(invitation_id), "organisation": "Alder"})
    ]
    token = token_of(means, tenant, invitation_id)
    assert not invitations.look(means, visitor(), token).has_account
    invitations.accept_as_new(means, token, NewPerson("  Nia New ", PASSWORD, "de"), visitor())
    begun = sign_in.sign_in(means, visitor(), "new.one@alder.example", PASSWORD)
    assert (begun.tenant.slug, begun.tenant.role) == (tenant, "analyst")
    assert means.database.users.get(begun.user_id).display_name == "Nia New"
    told = audited(means.database, tenant)
    assert [action for action, _ in told] == [
        "members:added", "members:invited", "users:added", "members:invitation:accepted", "auth:sign_in",
    ]  # fmt: skip


def test_a_person_with_an_account_proves_it(means: TestMeans, tenant: str, owner: Person) -> None:
    guest = new_person(means.database)
    token = token_of(means, tenant, invite(means, tenant, owner, guest.email))
    assert invitations.look(means, visitor(), token).has_account
    new = NewPerson("Impostor", PASSWORD)
    assert code_of(lambda: invitations.accept_as_new(means, token, new, visitor())) == "password_required"
    wrong = code_of(lambda: invitations.accept_with_password(means, token, "violet-lamp-lake", visitor()))
    assert wrong == "invalid_credentials"
    other = new_person(means.database)
    as_other = code_of(lambda: invitations.accept_signed_in(means, other.user_id, other.email, token, visitor()))
    assert as_other == "wrong_account"
    invitations.accept_with_password(means, token, PASSWORD, visitor())
    assert role_in(means, tenant, guest.user_id) == "analyst"
    again = code_of(lambda: invitations.accept_signed_in(means, guest.user_id, guest.email, token, visitor()))
    assert again == "invalid_token"


def test_one_of_many_threads_accepts(means: TestMeans, tenant: str, owner: Person) -> None:
    guest = new_person(means.database)
    token = token_of(means, tenant, invite(means, tenant, owner, guest.email))

    def accept(_: int) -> str:
        try:
            invitations.accept_signed_in(means, guest.user_id, guest.email, token, visitor())
        except RefusedError as refused:
            return refused.code
        return "accepted"

    with ThreadPoolExecutor(4) as threads:
        outcomes = sorted(threads.map(accept, range(6)))
    assert outcomes == ["accepted", *["invalid_token"] * 5]


def test_a_link_ends_after_seven_days_or_when_it_is_revoked_or_replaced(
    means: TestMeans, tenant: str, owner: Person
) -> None:
    expired = invite(means, tenant, owner, "late@alder.example")
    token = token_of(means, tenant, expired)
    age(
        means.database,
        "update ogf.invitations set expires_at = expires_at - interval '7 days' where invitation_id = :i",
        i=expired,
    )
    new = NewPerson("Late", PASSWORD)
    assert code_of(lambda: invitations.accept_as_new(means, token, new, visitor())) == "invalid_token"
    with pytest.raises(single_use.NothingToMintError):
        token_of(means, tenant, expired)
    with means.database.tenant(tenant) as scope:
        bound = means.database.within(scope)
        invitations.resend(
            means, bound, tenant, "Alder", Granter(owner.user_id, "owner"), expired, language="en", visitor=visitor()
        )
    fresh = token_of(means, tenant, expired)
    replaced = invite(means, tenant, owner, "late@alder.example")
    assert code_of(lambda: invitations.look(means, visitor(), fresh)) == "invalid_token"
    last = token_of(means, tenant, replaced)
    with means.database.tenant(tenant) as scope:
        invitations.revoke(means.database.within(scope), tenant, owner.user_id, replaced, visitor())
    assert code_of(lambda: invitations.look(means, visitor(), last)) == "invalid_token"
    assert len(mails(means.database, tenant)) == 3


def test_nobody_grants_more_than_they_hold_and_only_owners_make_owners(
    means: TestMeans, tenant: str, owner: Person
) -> None:
    for granter in ROLES:
        for role in ROLES:
            ends = SOON if role == "auditor" else None
            may = permissions_of(role) <= permissions_of(granter) and (role != "owner" or granter == "owner")
            if may:
                memberships.require_grantable(Granter(owner.user_id, granter), role, ends)
            else:
                act = lambda g=granter, r=role, e=ends: memberships.require_grantable(Granter(owner.user_id, g), r, e)  # noqa: E731
                assert code_of(act) == "role_not_grantable"
    admin = Granter(new_person(means.database, tenant, "admin").user_id, "admin")
    assert code_of(lambda: change(means, tenant, admin, owner.user_id, "viewer")) == "role_not_grantable"
    with means.database.tenant(tenant) as scope:
        bound = means.database.within(scope)
        removal = code_of(lambda: memberships.remove(bound, tenant, admin, owner.user_id, visitor()))
    assert removal == "role_not_grantable"


def test_an_auditor_has_an_end_and_others_have_none(means: TestMeans, tenant: str, owner: Person) -> None:
    boss = Granter(owner.user_id, "owner")
    guest = new_person(means.database, tenant)
    assert code_of(lambda: change(means, tenant, boss, guest.user_id, "auditor")) == "expiry_required"
    assert code_of(lambda: change(means, tenant, boss, guest.user_id, "analyst", SOON)) == "invalid_expiry"
    for wrong in (datetime.now(UTC), datetime.now(UTC) + timedelta(days=400), datetime.now()):  # noqa: DTZ005
        assert code_of(lambda w=wrong: change(means, tenant, boss, guest.user_id, "auditor", w)) == "invalid_expiry"
    change(means, tenant, boss, guest.user_id, "auditor", SOON)
    assert sign_in.sign_in(means, visitor(), guest.email, PASSWORD).tenant.role == "auditor"
    age(
        means.database,
        "update ogf.memberships set expires_at = now() - interval '1 second' where user_id = :u",
        u=guest.user_id,
    )
    assert sign_in.sign_in(means, visitor(), guest.email, PASSWORD).tenant is None
    invitations.accept_signed_in(
        means, guest.user_id, guest.email, token_of(means, tenant, invite(means, tenant, owner, guest.email)), visitor()
    )
    assert role_in(means, tenant, guest.user_id) == "analyst"


def test_a_tenant_keeps_an_owner_even_when_two_step_down_at_once(means: TestMeans, tenant: str, owner: Person) -> None:
    assert (
        code_of(lambda: change(means, tenant, Granter(owner.user_id, "owner"), owner.user_id, "admin")) == "last_owner"
    )
    second = new_person(means.database, tenant, "owner")

    def step_down(user_id: UUID) -> str:
        try:
            change(means, tenant, Granter(user_id, "owner"), user_id, "viewer")
        except RefusedError as refused:
            return refused.code
        return "changed"

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(step_down, [owner.user_id, second.user_id])) == ["changed", "last_owner"]


def test_a_disabled_owner_is_no_owner_to_leave_the_tenant_to(means: TestMeans, tenant: str, owner: Person) -> None:
    second = new_person(means.database, tenant, "owner")
    accounts.set_status(means.database, second.user_id, active=False)
    assert (
        code_of(lambda: change(means, tenant, Granter(owner.user_id, "owner"), owner.user_id, "admin")) == "last_owner"
    )


def test_what_a_removed_member_invited_is_withdrawn(means: TestMeans, tenant: str, owner: Person) -> None:
    admin = new_person(means.database, tenant, "admin")
    token = token_of(means, tenant, invite(means, tenant, admin, "friend@alder.example", granter="admin"))
    with means.database.tenant(tenant) as scope:
        bound = means.database.within(scope)
        memberships.remove(bound, tenant, Granter(owner.user_id, "owner"), admin.user_id, visitor())
    assert role_in(means, tenant, admin.user_id) is None
    assert code_of(lambda: invitations.look(means, visitor(), token)) == "invalid_token"


def test_keys_that_exceed_their_makers_role_are_revoked(means: TestMeans, tenant: str, owner: Person) -> None:
    admin, boss = new_person(means.database, tenant, "admin"), Granter(owner.user_id, "owner")

    def key(permission: Permission) -> str:
        with means.database.tenant(tenant) as scope:
            return api_keys.create(
                means.database.within(scope), tenant, str(permission), [permission],
                creator=f"user:{admin.user_id}", creator_permissions=permissions_of("admin"),
            ).row.key_id  # fmt: skip

    def live() -> set[str]:
        return {row.key_id for row in means.database.api_keys.list(tenant) if row.live}

    reads, uploads = key(Permission.EMISSIONS_READ), key(Permission.UPLOADS_WRITE)
    assert live() == {reads, uploads}
    change(means, tenant, boss, admin.user_id, "viewer")
    assert live() == {reads}
    with means.database.tenant(tenant) as scope:
        memberships.remove(means.database.within(scope), tenant, boss, admin.user_id, visitor())
    assert live() == set()


def test_members_are_not_invited_again_and_another_tenants_are_not_seen(
    means: TestMeans, tenant: str, owner: Person, new_tenant: Callable[[], str]
) -> None:
    assert code_of(lambda: invite(means, tenant, owner, owner.email)) == "already_member"
    elsewhere = new_tenant()
    stranger = new_person(means.database, elsewhere)
    boss = Granter(owner.user_id, "owner")
    assert code_of(lambda: change(means, tenant, boss, stranger.user_id, "viewer")) == "not_found"
    assert [row.user_id for row in means.database.memberships.list(tenant)] == [owner.user_id]
    foreign = invite(means, elsewhere, stranger, "x@alder.example")
    with means.database.tenant(tenant) as scope:
        bound = means.database.within(scope)
        assert code_of(lambda: invitations.revoke(bound, tenant, owner.user_id, foreign, visitor())) == "not_found"


@pytest.mark.parametrize(
    "email",
    ["", "x", "a@b@c", "a b@c.de", "a@c.de\r\nBcc: b@c.de", "ä@c.de", "a@-c.de", f"{'a' * 250}@c.de", "a@c..de"],
)
def test_what_is_no_address_is_not_invited(means: TestMeans, tenant: str, owner: Person, email: str) -> None:
    assert code_of(lambda: invite(means, tenant, owner, email)) == "invalid_address"


@pytest.mark.parametrize("name", ["", "  ", "Eve\r\nBcc: all", "Eve\u202etxt", "x" * 201, "a\0b", "line\u2028two"])
def test_a_name_cannot_break_a_header_or_turn_text_around(
    means: TestMeans, tenant: str, owner: Person, name: str
) -> None:
    token = token_of(means, tenant, invite(means, tenant, owner, f"n{abs(hash(name))}@alder.example"))
    act = lambda: invitations.accept_as_new(means, token, NewPerson(name, PASSWORD), visitor())  # noqa: E731
    assert code_of(act) == "invalid_name"
    assert invitations.look(means, visitor(), token)


def test_mails_written_here_hold_what_their_templates_need() -> None:
    written = {
        "password_reset": {"reset_id"}, "invitation": {"invitation_id", "organisation"}, "login_notice": {"at"},
        "password_changed": {"at"}, "second_factor_changed": {"at", "change"},
    }  # fmt: skip
    assert {name: set(template_of(name).variables) for name in written} == written
    assert declinable_templates() == DECLINABLE_MAIL
