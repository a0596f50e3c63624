"""Requests per minute go by the plan: of a session, a key and the organisation together."""

from __future__ import annotations

from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.rate_limits import RateLimiter, limits_of
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline_tests.sidecar.subscribed import SubscribedWorld
from offgridflow_pipeline_tests.sidecar.world import PEPPER, World


@pytest.fixture
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> SubscribedWorld:
    return counted(SubscribedWorld(database, api_database, tmp_path_factory.mktemp("rates")))


def counted(world: Any) -> Any:
    """The world with its limits in force, but for those of the address; no time passes, nothing spent comes back."""
    limiter = RateLimiter(MemoryStore(clock_ns=lambda: 0), PEPPER)
    real = limiter.refusal
    limiter.refusal = lambda policy, key: None if policy == "address" else real(policy, key)  # type: ignore[method-assign]
    world.app.state.services.rate_limiter = limiter
    return world


def asked_until_refused(world: World, headers: dict[str, str]) -> tuple[int, str]:
    """How many requests went through, and the policy that ended it."""
    for number in range(2000):
        world.client.cookies.clear()
        answer = world.client.get("/v1/tenant", headers=headers)
        if answer.status_code == 429:
            return number, answer.headers["ratelimit-policy"].partition(";")[0].strip('"')
    raise AssertionError("never refused")


def quota(policy: str) -> int:
    return limits_of(policy)[0].quota


def test_a_session_is_counted_by_the_plan_of_its_organisation(world: SubscribedWorld) -> None:
    person = world.someone(world.tenant_on("free"), "viewer")
    assert asked_until_refused(world, person.headers) == (60, "principal.free")
    assert quota("principal.free") == 60


def test_a_larger_plan_counts_from_the_next_request_on(world: SubscribedWorld) -> None:
    tenant = world.tenant_on("free")
    person = world.someone(tenant, "viewer")
    asked_until_refused(world, person.headers)
    world.put(tenant, "basic")
    assert asked_until_refused(world, person.headers) == (quota("principal.basic"), "principal.basic")


def test_people_of_an_organisation_together_have_its_quota(world: SubscribedWorld) -> None:
    tenant = world.tenant_on("free")
    people = [world.someone(tenant, "viewer") for _ in range(2)]
    assert quota("principal.free") == quota("tenant.free") == 60
    found = [asked_until_refused(world, person.headers) for person in people]
    assert [number for number, _ in found] == [60, 0]
    assert found[1][1] == "tenant.free"


def test_a_key_and_its_token_have_no_more_requests_than_the_plan(world: SubscribedWorld) -> None:
    tenant = world.tenant_on("pro")
    key = world.key(tenant)
    token = world.client.post("/v1/auth/token", headers=key).json()["access_token"]
    # One request of the key was its exchange; its token is the same principal.
    assert asked_until_refused(world, key) == (quota("principal.pro") - 1, "principal.pro")
    assert asked_until_refused(world, {"Authorization": f"Bearer {token}"}) == (0, "principal.pro")


def test_without_stripe_the_plan_in_the_database_counts_for_nothing(
    database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = counted(World(database, api_database, tmp_path_factory.mktemp("plain")))
    person = plain.someone(plain.tenant(), "viewer")
    assert asked_until_refused(plain, person.headers) == (300, "principal.unlimited")
