"""What plans and billing states allow: the one function, its reasons, and that each refusal has a stable cause."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.identity.rate_limits import policies
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.subscriptions.entitlements import (
    CODES,
    COUNTED,
    EVERY_STATE,
    UNLIMITED,
    WORKING,
    Entitlement,
    Standing,
    check,
    is_open,
    may_still,
    standing,
)
from offgridflow_pipeline.subscriptions.plans import plan_of, subscribable

FREE, BASIC, PRO = (Standing(plan_of(name), "active") for name in ("free", "basic", "pro"))


@pytest.mark.parametrize("plan", [plan.name for plan in subscribable()])
@pytest.mark.parametrize("entitlement", COUNTED)
def test_a_plan_allows_its_number_and_not_one_more(plan: str, entitlement: Entitlement) -> None:
    found = Standing(plan_of(plan), "active")
    limit: int | None = getattr(found.plan, entitlement)
    if limit is None:
        assert check(found, entitlement, 10**9).allowed
        return
    assert check(found, entitlement, limit).allowed
    beyond = check(found, entitlement, limit + 1)
    assert (beyond.allowed, beyond.limit, beyond.code) == (False, limit, str(entitlement))
    assert f"The {plan} plan allows {limit} " in beyond.reason


def test_one_is_written_in_the_singular() -> None:
    assert check(FREE, Entitlement.CONNECTIONS, 2).reason.startswith("The free plan allows 1 connection: ")


@pytest.mark.parametrize("state", EVERY_STATE)
@pytest.mark.parametrize("entitlement", Entitlement)
def test_nothing_new_is_made_while_no_work_goes_on(state: str, entitlement: Entitlement) -> None:
    found = Standing(plan_of("enterprise"), next(known for known in EVERY_STATE if known == state))
    decision = check(found, entitlement, 0)
    assert decision.allowed == (state in WORKING)
    assert decision.code == ("" if decision.allowed else state)


def test_formats_and_keys_are_of_larger_plans() -> None:
    assert [check(found, Entitlement.IXBRL).code for found in (FREE, BASIC, PRO)] == ["formats", "formats", ""]
    assert [check(found, Entitlement.PDF).allowed for found in (FREE, BASIC, PRO)] == [False, True, True]
    assert [check(found, Entitlement.KEYS).code for found in (FREE, BASIC, PRO)] == ["api", "api", ""]


def test_without_an_api_machines_export_and_people_notice_nothing() -> None:
    assert may_still(BASIC, "emissions:read", machine=True).code == "api"
    assert may_still(BASIC, "artifact:download", machine=True).allowed
    assert may_still(BASIC, "emissions:read", machine=False).allowed
    assert may_still(Standing(plan_of("basic"), "restricted"), "emissions:read", machine=True).code == "api"


def test_the_state_is_named_before_the_plan() -> None:
    assert may_still(Standing(plan_of("basic"), "suspended"), "emissions:read", machine=True).code == "suspended"


def test_every_refusal_has_a_cause_that_is_declared() -> None:
    decisions = [
        check(Standing(plan, state), entitlement, 10**6)
        for plan in subscribable()
        for state in EVERY_STATE
        for entitlement in Entitlement
    ]
    assert {decision.code for decision in decisions if not decision.allowed} == set(CODES)
    assert all(decision.reason for decision in decisions if not decision.allowed)


def test_only_a_closed_account_shows_nothing() -> None:
    assert [state for state in EVERY_STATE if not is_open(Standing(plan_of("pro"), state)).allowed] == ["offboarded"]


def test_without_stripe_everything_is_unlimited_whatever_the_database_says() -> None:
    plain = Settings(_env_file=None, environment="test")
    assert standing(plain, "free", "offboarded") == UNLIMITED
    assert not UNLIMITED.is_limited
    assert may_still(UNLIMITED, "emissions:read", machine=True).allowed


def test_a_plan_or_state_that_nobody_knows_is_an_error() -> None:
    sold = Settings(_env_file=None, environment="test", stripe_secret_key="sk_test_x")
    assert standing(sold, "pro", "grace").works
    with pytest.raises(LookupError, match="golden"):
        standing(sold, "golden", "active")
    with pytest.raises(LookupError, match="asleep"):
        standing(sold, "pro", "asleep")


def test_every_plan_has_its_own_rates() -> None:
    names = [plan.name for plan in subscribable()]
    assert {f"{kind}.{name}" for kind in ("principal", "tenant") for name in names} <= set(policies())
