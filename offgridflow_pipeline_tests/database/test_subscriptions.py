"""Subscriptions of tenants on a real database: one customer each, no older snapshot over a newer, the standing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.subscriptions import StoredStanding
from offgridflow_pipeline.database.statements import RecordError

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def customer() -> str:
    """A customer's id of this test alone."""
    return f"cus_{uuid.uuid4().hex}"


@pytest.fixture
def tenant(database: Database, new_tenant: Callable[[], str], customer: str) -> str:
    """A tenant that is that customer."""
    slug = new_tenant()
    database.subscriptions.link(slug, customer)
    return slug


def test_a_tenant_has_one_customer_and_keeps_the_first(database: Database, tenant: str, customer: str) -> None:
    assert database.subscriptions.link(tenant, "cus_other") == customer
    found = database.subscriptions.get(tenant)
    assert found is not None
    assert (found.customer_id, found.snapshot, found.fetched_at, found.onboarding) == (customer, None, None, "none")


def test_a_customer_is_the_tenants_that_linked_it_first(
    database: Database, new_tenant: Callable[[], str], tenant: str, customer: str
) -> None:
    database.subscriptions.link(new_tenant(), customer)
    assert database.subscriptions.tenant_of(customer) == tenant
    assert database.subscriptions.tenant_of("cus_of_nobody") is None


def test_customers_are_listed_by_tenant(database: Database, tenant: str, customer: str) -> None:
    assert database.subscriptions.customers()[tenant] == customer


def test_the_customer_of_a_closed_tenant_is_not_listed_and_still_known(
    database: Database, tenant: str, customer: str
) -> None:
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("update ogf.tenants set status = 'closed' where slug = :slug"), {"slug": tenant})
    assert tenant not in database.subscriptions.customers()
    assert database.subscriptions.tenant_of(customer) == tenant


def test_a_tenant_that_never_was_a_customer_has_no_subscription(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    slug = new_tenant()
    assert database.subscriptions.get(slug) is None
    assert not database.subscriptions.keep(slug, {}, AT)
    assert not database.subscriptions.request_offboarding(slug, AT)
    assert database.subscriptions.standing(slug) == StoredStanding("free", "active", None)


def test_an_older_fetch_never_replaces_a_newer(database: Database, tenant: str) -> None:
    kept = [
        database.subscriptions.keep(tenant, {"fetch": number}, AT + timedelta(seconds=at))
        for number, at in enumerate((0, 2, 1, 2))
    ]
    found = database.subscriptions.get(tenant)
    assert found is not None
    assert (kept, found.snapshot, found.fetched_at) == (
        [True, True, False, True], {"fetch": 3}, AT + timedelta(seconds=2),
    )  # fmt: skip


def test_onboarding_and_the_wish_to_leave_are_noted_and_taken_back(database: Database, tenant: str) -> None:
    database.subscriptions.onboard(tenant, "reading")
    assert database.subscriptions.request_offboarding(tenant, AT)
    found = database.subscriptions.get(tenant, for_update=True)
    assert found is not None
    assert (found.onboarding, found.offboard_requested_at) == ("reading", AT)
    assert database.subscriptions.request_offboarding(tenant, None)
    found = database.subscriptions.get(tenant)
    assert found is not None
    assert found.offboard_requested_at is None


def test_a_standing_is_changed_and_read_again(database: Database, tenant: str) -> None:
    for plan, state in (("pro", "trial"), ("basic", "grace")):
        database.subscriptions.change_standing(tenant, plan, state, AT)
        assert database.subscriptions.standing(tenant) == StoredStanding(plan, state, AT)


def test_a_standing_changes_nothing_of_what_was_published(database: Database, tenant: str) -> None:
    database.publications.bump(tenant, "scope_totals", {"scope_totals": 1}, "r")
    version = database.publications.current(tenant)
    database.subscriptions.change_standing(tenant, "pro", "active", AT)
    assert database.publications.current(tenant) == version


@pytest.mark.parametrize(("plan", "state"), [("gold", "active"), ("pro", "late")])
def test_a_plan_or_state_that_there_is_not_is_refused(database: Database, tenant: str, plan: str, state: str) -> None:
    with pytest.raises(RecordError, match="tenant_states"):
        database.subscriptions.change_standing(tenant, plan, state, AT)


def test_the_sidecar_links_customers_and_notes_the_wish_to_leave(
    api_database: Database, new_tenant: Callable[[], str], customer: str
) -> None:
    slug = new_tenant()
    assert api_database.subscriptions.link(slug, customer) == customer
    assert api_database.subscriptions.request_offboarding(slug, AT)
    found = api_database.subscriptions.get(slug)
    assert found is not None
    assert found.offboard_requested_at == AT


@pytest.mark.parametrize(
    "ask",
    {
        "plan and state": lambda r, slug: r.change_standing(slug, "enterprise", "active", AT),
        "what Stripe said": lambda r, slug: r.keep(slug, {}, AT),
        "onboarding": lambda r, slug: r.onboard(slug, "done"),
        "whose a customer is": lambda r, _slug: r.tenant_of("cus_1"),
        "all customers": lambda r, _slug: r.customers(),
    }.items(),
    ids=lambda ask: ask[0],
)
def test_the_sidecar_decides_nothing_about_money(
    api_database: Database, tenant: str, ask: tuple[str, Callable[[Any, str], Any]]
) -> None:
    with pytest.raises((sa.exc.ProgrammingError, RecordError), match="permission denied"):
        ask[1](api_database.subscriptions, tenant)
