"""Daily totals of the Azure Cost Management Query API, against our fake of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pytest

from offgridflow_pipeline.connectors.access import AzureAccess
from offgridflow_pipeline.connectors.connections import Connection, connection
from offgridflow_pipeline.connectors.control_totals import control_totals
from offgridflow_pipeline.connectors.errors import (
    AccessDeniedError,
    ConnectionConfigError,
    DeliveryError,
    ExpiredCredentialsError,
)
from offgridflow_pipeline.connectors.providers.azure_clients import client_options
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline_tests.connectors.bills import SHARED
from offgridflow_pipeline_tests.connectors.provider_reading import DAYS, Time, azure, costs, totals
from offgridflow_pipeline_tests.counterparts import cost_management as fake
from offgridflow_pipeline_tests.counterparts.cost_management import Cost, CostManagementApi
from offgridflow_pipeline_tests.counterparts.provider_api import Answer, serving

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
SCOPE = f"/subscriptions/{SUBSCRIPTION}"


def _agreement(kind: str = "azure_actual", scope: str = SCOPE) -> Connection:
    return connection(
        {
            "id": "agreement",
            "kind": kind,
            "uri": "az://exports/actual",
            "reconcile": "cost_management",
            "azure": {"scope": scope, "account_url": "https://example.blob.core.windows.net"},
        }
    )


@pytest.fixture
def query() -> Iterator[CostManagementApi]:
    api = CostManagementApi(SCOPE)
    with serving(api):
        yield api


@pytest.mark.parametrize("order", range(6))
def test_columns_are_found_by_name_in_any_order(query: CostManagementApi, order: int) -> None:
    query.order = order
    query.costs = [Cost(DAYS[0], SUBSCRIPTION.upper(), "EUR", Decimal("0.12345678901234567"))]

    found = totals(_agreement(), azure(query.endpoint), DAYS)

    assert costs(found) == {("2026-09-01", SUBSCRIPTION, "EUR"): Decimal("0.123456789012345670")}
    assert found.column("source").to_pylist() == ["cost_management_query"]


@pytest.mark.parametrize(
    ("day", "asked", "final"),
    [("2026-10-31", "2026-11-05", False), ("2026-10-01", "2026-11-06", True), ("2026-11-01", "2026-11-25", False)],
)
def test_a_total_is_final_five_days_after_its_month(
    query: CostManagementApi, day: str, asked: str, final: bool
) -> None:
    billed = date.fromisoformat(day)
    query.costs = [Cost(billed, SUBSCRIPTION, "EUR", Decimal(1))]
    found = control_totals(
        _agreement(), azure(query.endpoint), [billed], tenant="acme",
        retrieved_at=datetime.fromisoformat(f"{asked}T12:00:00+00:00"),
    )  # fmt: skip
    assert found.column("is_final").to_pylist() == [final]


def test_further_pages_are_posted_with_the_body_of_the_first(query: CostManagementApi) -> None:
    query.page_rows = 2
    query.costs = [Cost(day, f"sub-{n}", "USD", Decimal(n)) for n in range(3) for day in DAYS]

    found = totals(_agreement(), azure(query.endpoint), DAYS)

    assert found.num_rows == 6
    assert sum(costs(found).values()) == Decimal(6)
    assert len(query.requests) == 3
    assert len({json.dumps(r.body, sort_keys=True) for r in query.requests}) == 1


def test_nothing_billed_is_no_row(query: CostManagementApi) -> None:
    assert totals(_agreement(), azure(query.endpoint), DAYS).num_rows == 0


def test_costs_of_one_day_in_two_currencies_stay_apart(query: CostManagementApi) -> None:
    query.costs = [Cost(DAYS[0], "s", "EUR", Decimal(1)), Cost(DAYS[0], "s", "USD", Decimal(2))]

    found = totals(_agreement(), azure(query.endpoint), DAYS)

    assert costs(found) == {("2026-09-01", "s", "EUR"): Decimal(1), ("2026-09-01", "s", "USD"): Decimal(2)}


@pytest.mark.parametrize(
    ("kind", "dataset"), [("azure_actual", "ActualCost"), ("azure_amortized", "AmortizedCost"), ("focus", "ActualCost")]
)
def test_the_query_asks_for_the_costs_that_the_feed_exports(query: CostManagementApi, kind: str, dataset: str) -> None:
    totals(_agreement(kind), azure(query.endpoint), DAYS)

    body = query.requests[0].body
    assert body["type"] == dataset
    assert (body["timePeriod"]["from"][:10], body["timePeriod"]["to"][:10]) == ("2026-09-01", "2026-09-02")


def test_azures_own_throttling_headers_are_waited_for(query: CostManagementApi) -> None:
    time = Time()
    query.costs = [Cost(DAYS[0], "s", "EUR", Decimal(5))]
    query.failures.extend([fake.throttled(11), fake.throttled(29)])

    found = totals(_agreement(), azure(query.endpoint), DAYS, time)

    assert costs(found) == {("2026-09-01", "s", "EUR"): Decimal(5)}
    assert [int(pause) for pause in time.slept] == [11, 30]


def test_a_throttling_period_beyond_the_budget_is_not_waited_for(query: CostManagementApi) -> None:
    time = Time()
    query.failures.append(fake.throttled(3600))

    with pytest.raises(ProviderUnavailableError, match=f"scope {SCOPE}.*asks to wait 3600 s"):
        totals(_agreement(), azure(query.endpoint), DAYS, time)

    assert time.slept == []


def test_an_expired_token_is_told_from_a_missing_role(query: CostManagementApi) -> None:
    query.failures.append(fake.EXPIRED)
    with pytest.raises(ExpiredCredentialsError, match="ExpiredAuthenticationToken"):
        totals(_agreement(), azure(query.endpoint), DAYS)

    with pytest.raises(AccessDeniedError, match=r"/subscriptions/other.*Cost Management Reader.*scope"):
        totals(_agreement(scope="/subscriptions/other"), azure(query.endpoint), DAYS)


def test_a_page_at_another_host_is_not_asked_for(query: CostManagementApi) -> None:
    query.page_rows = 1
    query.costs = [Cost(day, "s", "EUR", Decimal(1)) for day in DAYS]
    query.next_host = "http://127.0.0.1:1"

    with pytest.raises(DeliveryError, match=r"continues at 127\.0\.0\.1:1"):
        totals(_agreement(), azure(query.endpoint), DAYS)


def test_an_answer_without_a_currency_is_refused(query: CostManagementApi) -> None:
    columns = [{"name": "Cost", "type": "Number"}, {"name": "UsageDate", "type": "Number"}]
    query.failures.append(Answer(200, {"properties": {"columns": columns, "rows": [[1.5, 20260901]]}}))

    with pytest.raises(DeliveryError, match="without the column subscriptionid"):
        totals(_agreement(), azure(query.endpoint), DAYS)


def test_an_answer_that_is_no_json_is_refused(query: CostManagementApi) -> None:
    query.failures.append(Answer(200, None))

    with pytest.raises(DeliveryError, match="something else than JSON"):
        totals(_agreement(), azure(query.endpoint), DAYS)


def test_no_token_is_sent_over_plain_http(query: CostManagementApi) -> None:
    totals(_agreement(), azure(query.endpoint), DAYS)
    assert "authorization" not in query.requests[0].headers

    with pytest.raises(ConnectionConfigError, match="not https"):
        totals(_agreement(), AzureAccess(management_url="http://management.example.org"), DAYS)


@pytest.mark.parametrize(
    ("address", "sign_in"),
    [
        ("", "login.microsoftonline.com"),
        ("https://management.usgovcloudapi.net/", "login.microsoftonline.us"),
        ("https://management.chinacloudapi.cn", "login.chinacloudapi.cn"),
    ],
)
def test_national_clouds_have_their_own_sign_in_and_token(address: str, sign_in: str) -> None:
    options = client_options(replace(azure(address), client_id="22222222-0000-0000-0000-000000000000"))

    management = address.rstrip("/") or "https://management.azure.com"
    assert options["credential_scopes"] == [f"{management}/.default"]
    assert options["credential"]._authority == f"https://{sign_in}"
    assert "authentication_policy" not in options


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")
def test_the_sample_answer_of_the_query_api_is_read(query: CostManagementApi) -> None:
    answer = json.loads((SHARED / "azure" / "SYNTHETIC_query_response.json").read_text())
    answer["properties"]["columns"][3]["name"] = "SubscriptionId"
    answer["properties"]["rows"][0][3] = "aaaa"
    query.failures.append(Answer(200, answer))

    found = totals(_agreement(), azure(query.endpoint), DAYS)

    assert costs(found) == {("2026-09-01", "aaaa", "USD"): Decimal("1.5")}
