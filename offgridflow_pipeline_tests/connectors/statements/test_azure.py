"""Azure carbon statements from the Carbon Optimization API."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from offgridflow_pipeline.connectors.connections import Connection, connection
from offgridflow_pipeline.connectors.errors import AccessDeniedError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.statements import Incomplete, StatementRead, read_statements
from offgridflow_pipeline_tests.connectors.provider_reading import NOW, Time, azure
from offgridflow_pipeline_tests.counterparts import carbon_optimization as fake
from offgridflow_pipeline_tests.counterparts.carbon_optimization import CarbonOptimizationApi, Resource
from offgridflow_pipeline_tests.counterparts.cost_management import EXPIRED
from offgridflow_pipeline_tests.counterparts.provider_api import Answer, serving

ONE = "11111111-0000-0000-0000-000000000001"
TWO = "22222222-0000-0000-0000-000000000002"
VM = "Microsoft.Compute/virtualMachines"


@pytest.fixture
def api() -> Iterator[CarbonOptimizationApi]:
    served = CarbonOptimizationApi()
    with serving(served):
        yield served


def _subscriptions(*subscriptions: str) -> Connection:
    return connection({"id": "carbon", "kind": "azure_carbon", "azure": {"subscriptions": subscriptions}})


def _read(
    api: CarbonOptimizationApi, *months: str, of: Connection | None = None, time: Time | None = None
) -> StatementRead:
    return read_statements(
        of or _subscriptions(ONE, TWO),
        azure(api.endpoint),
        months,
        tenant="acme",
        run_id="run-1",
        retrieved_at=NOW,
        budget=(time or Time()).budget(),
    )


def _resource(name: str, scope: int, kg: str, subscription: str = ONE, **changes: Any) -> Resource:
    values = {"month": "2026-08", "location": "east us", "resource_type": VM} | changes
    return Resource(subscription=subscription, name=name, scope=scope, kg=Decimal(kg), **values)


def _masses(read: StatementRead) -> dict[tuple[Any, ...], Decimal]:
    names = ("month", "SubAccountId", "RegionId", "x_ServiceCode", "scope")
    return {tuple(row[name] for name in names): row["co2e_kg"] for row in read.rows.to_pylist()}


def test_scopes_are_asked_for_one_by_one_and_resources_add_up_to_type_and_region(api: CarbonOptimizationApi) -> None:
    api.resources = [
        _resource("vm-1", 1, "0.1"),
        _resource("vm-1", 2, "1.123456789012"),
        _resource("vm-2", 2, "2"),
        _resource("vm-3", 2, "4", location="west europe"),
        _resource("vm-1", 3, "3", subscription=TWO),
    ]

    read = _read(api, "2026-08")

    vm = VM.lower()
    assert _masses(read) == {
        ("2026-08", ONE, "eastus", vm, "1"): Decimal("0.1"),
        ("2026-08", ONE, "eastus", vm, "2"): Decimal("3.123456789012"),
        ("2026-08", ONE, "westeurope", vm, "2"): Decimal(4),
        ("2026-08", TWO, "eastus", vm, "3"): Decimal(3),
        ("2026-08", None, None, None, "total"): Decimal("10.223456789012"),
    }
    details = [body for body in api.reports if body["reportType"] == "ItemDetailsReport"]
    assert [body["carbonScopeList"] for body in details] == [["Scope1"], ["Scope2"], ["Scope3"]]
    assert set(read.rows.column("basis").to_pylist()) == {"provider_unspecified"}
    assert read.incomplete == ()


def test_every_page_and_every_hundred_subscriptions_are_read(api: CarbonOptimizationApi) -> None:
    many = [f"{n:08d}-0000-0000-0000-000000000000" for n in range(150)]
    api.page_rows = 40
    api.resources = [_resource(f"vm-{n}", 2, "1.5", subscription=name) for n, name in enumerate(many)]

    read = _read(api, "2026-08", of=_subscriptions(*many))

    scope_2 = {key: mass for key, mass in _masses(read).items() if key[-1] == "2"}
    assert len(scope_2) == 150
    assert sum(scope_2.values()) == Decimal("225.0")
    assert _masses(read)[("2026-08", None, None, None, "total")] == Decimal("225.0")
    assert {len(body["subscriptionList"]) for body in api.reports} == {100, 50}


def test_a_denied_subscription_marks_the_whole_month_incomplete_and_is_named(api: CarbonOptimizationApi) -> None:
    api.resources = [_resource("vm-1", 2, "1"), _resource("vm-2", 2, "8", subscription=TWO)]
    api.denied = {TWO: "InsufficientPermissions"}

    read = _read(api, "2026-08")

    assert read.incomplete == (Incomplete("2026-08", TWO, "InsufficientPermissions"),)
    assert set(read.rows.column("is_complete").to_pylist()) == {False}
    assert ("2026-08", ONE, "eastus", VM.lower(), "2") in _masses(read)

    api.denied = {}
    again = _read(api, "2026-08")

    assert set(again.rows.column("is_complete").to_pylist()) == {True}
    both = set(again.rows.column("statement_id").to_pylist()) & set(read.rows.column("statement_id").to_pylist())
    assert not both, "a figure that turned complete is news"


def test_a_month_that_is_not_offered_is_noticed_and_not_asked_for(api: CarbonOptimizationApi) -> None:
    api.resources = [_resource("vm-1", 2, "1")]

    read = _read(api, "2026-08", "2026-09")

    assert read.notices == (
        "Azure offers 2025-09 to 2026-08: 2026-09 is not read.",
        "Connection carbon has no statement for 2026-09 yet.",
    )
    assert {body["dateRange"]["start"] for body in api.reports} == {"2026-08-01"}


def test_retry_after_is_waited_for(api: CarbonOptimizationApi) -> None:
    time = Time()
    api.resources = [_resource("vm-1", 2, "1")]
    api.failures.append(fake.THROTTLED)

    read = _read(api, "2026-08", time=time)

    assert [int(pause) for pause in time.slept] == [7]
    assert _masses(read)[("2026-08", None, None, None, "total")] == Decimal(1)


def test_an_api_that_keeps_throttling_is_a_clear_error(api: CarbonOptimizationApi) -> None:
    api.failures.extend([fake.THROTTLED] * 20)

    with pytest.raises(ProviderUnavailableError, match="Azure Carbon Optimization did not answer"):
        _read(api, "2026-08")


def test_an_expired_token_is_told_from_a_missing_role(api: CarbonOptimizationApi) -> None:
    denied = Answer(403, {"error": {"code": "AuthorizationFailed", "message": "no"}})
    api.failures.extend([EXPIRED, denied])

    with pytest.raises(ExpiredCredentialsError, match="ExpiredAuthenticationToken"):
        _read(api, "2026-08")
    with pytest.raises(AccessDeniedError, match="Carbon Optimization Reader: Assign it on every subscription"):
        _read(api, "2026-08")
