"""The fakes of providers' APIs, driven with the official clients and held against the official models."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.mgmt.carbonoptimization import CarbonOptimizationMgmtClient
from azure.mgmt.carbonoptimization import models as carbon
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.costmanagement import models as cost
from botocore.exceptions import ClientError

from offgridflow_pipeline.connectors.providers.aws_clients import aws_client
from offgridflow_pipeline.connectors.providers.azure_clients import client_options
from offgridflow_pipeline_tests.connectors.provider_reading import aws, azure
from offgridflow_pipeline_tests.counterparts import aws_sustainability, carbon_optimization, cost_management
from offgridflow_pipeline_tests.counterparts.aws_sustainability import TYPES, Emissions, SustainabilityApi
from offgridflow_pipeline_tests.counterparts.carbon_optimization import CarbonOptimizationApi, Resource
from offgridflow_pipeline_tests.counterparts.cost_management import Cost, CostManagementApi
from offgridflow_pipeline_tests.counterparts.provider_api import serving

SCOPE = "/subscriptions/aaaa"
TONNES = {name: Decimal("0.1") for name in TYPES}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def sustainability(stack: ExitStack) -> tuple[SustainabilityApi, Any]:
    api = SustainabilityApi(
        [Emissions("2026-08", f"{n:012d}", "eu-west-1", "AmazonEC2", "v3.0.0", TONNES) for n in range(5)], page_rows=2
    )
    stack.enter_context(serving(api))
    return api, aws_client(aws(api.endpoint), "sustainability")


@pytest.fixture
def query(stack: ExitStack) -> tuple[CostManagementApi, CostManagementClient]:
    costs = [Cost(date(2026, 9, day), "aaaa", "EUR", Decimal(day)) for day in range(1, 4)]
    api = CostManagementApi(SCOPE, costs, page_rows=2)
    stack.enter_context(serving(api))
    return api, stack.enter_context(CostManagementClient(**client_options(azure(api.endpoint))))


@pytest.fixture
def emissions(stack: ExitStack) -> tuple[CarbonOptimizationApi, CarbonOptimizationMgmtClient]:
    api = CarbonOptimizationApi(
        [Resource("2026-08", "aaaa", f"vm-{n}", "east us", "microsoft.x/y", 2, Decimal(n)) for n in range(3)],
        denied={"bbbb": "InsufficientPermissions"},
    )
    stack.enter_context(serving(api))
    return api, stack.enter_context(CarbonOptimizationMgmtClient(**client_options(azure(api.endpoint))))


def _months(first: int, end: int) -> dict[str, datetime]:
    return {"Start": datetime(2026, first, 1, tzinfo=UTC), "End": datetime(2026, end, 1, tzinfo=UTC)}


def _strangers(shape: Any, value: Any, path: str = "") -> list[str]:
    """Members that the official model does not have, or requires and does not find."""
    if shape.type_name == "structure":
        names = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        wrong = [
            f"{path}.{name}" for name in {*value, *shape.required_members} if name not in names or name not in value
        ]
        return wrong + [w for k, v in value.items() if k in names for w in _strangers(names[k], v, f"{path}.{k}")]
    if shape.type_name == "list":
        return [w for member in value for w in _strangers(shape.member, member, path + "[]")]
    if shape.type_name == "map":
        return [w for member in value.values() for w in _strangers(shape.value, member, path + "{}")]
    allowed = getattr(shape, "enum", ())
    return [f"{path}={value}"] if allowed and value not in allowed else []


def test_sustainability_answers_have_the_members_of_the_service_model(sustainability: Any) -> None:
    api, client = sustainability
    body = json.dumps(
        {
            "TimePeriod": {"Start": "2026-08-01T00:00:00Z", "End": "2026-09-01T00:00:00Z"},
            "GroupBy": list(aws_sustainability.DIMENSIONS),
        }
    )
    request = urllib.request.Request(api.endpoint + aws_sustainability.PATH, body.encode(), method="POST")
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)

    shape = client.meta.service_model.operation_model("GetEstimatedCarbonEmissions").output_shape
    assert _strangers(shape, answer) == []
    assert len(answer["Results"]) == 2


def test_the_official_paginator_reads_every_page_of_sustainability(sustainability: Any) -> None:
    _, client = sustainability
    pages = client.get_paginator("get_estimated_carbon_emissions").paginate(
        TimePeriod=_months(8, 9), GroupBy=["USAGE_ACCOUNT_ID"], PaginationConfig={"PageSize": 2}
    )

    found = [row["DimensionsValues"]["USAGE_ACCOUNT_ID"] for page in pages for row in page["Results"]]

    assert found == [f"{n:012d}" for n in range(5)]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (aws_sustainability.THROTTLED, "ThrottlingException"),
        (aws_sustainability.EXPIRED, "ExpiredTokenException"),
        (aws_sustainability.DENIED, "AccessDeniedException"),
    ],
)
def test_sustainability_failures_arrive_as_the_official_errors(sustainability: Any, failure: Any, code: str) -> None:
    api, client = sustainability
    api.failures.append(failure)

    with pytest.raises(ClientError) as caught:
        client.get_estimated_carbon_emissions(TimePeriod=_months(8, 9))

    assert caught.value.response["Error"]["Code"] == code
    assert len(api.requests) == 1, "our clients leave retries to the budget"


def _query(last: int = 3) -> cost.QueryDefinition:
    return cost.QueryDefinition(
        type="ActualCost",
        timeframe="Custom",
        time_period=cost.QueryTimePeriod(
            from_property=datetime(2026, 9, 1, tzinfo=UTC), to=datetime(2026, 9, last, tzinfo=UTC)
        ),
        dataset=cost.QueryDataset(
            granularity="Daily",
            aggregation={"totalCost": cost.QueryAggregation(name="Cost", function="Sum")},
            grouping=[cost.QueryGrouping(type="Dimension", name="SubscriptionId")],
        ),
    )


def test_a_query_answers_one_page_with_the_link_to_the_next(query: Any) -> None:
    _, client = query
    first = client.query.usage(SCOPE.strip("/"), _query())
    body = _query().as_dict()

    second = client.send_request(HttpRequest("POST", first.next_link, json=body)).json()
    by_get = client.send_request(HttpRequest("GET", first.next_link))

    assert {column.name for column in first.columns} == {"Cost", "UsageDate", "SubscriptionId", "Currency"}
    assert len(first.rows) == 2
    assert len(second["properties"]["rows"]) == 1
    assert second["properties"]["nextLink"] is None
    assert by_get.status_code != 200


def test_a_query_without_cost_is_204(query: Any) -> None:
    api, client = query
    api.costs.clear()

    assert client.query.usage(SCOPE.strip("/"), _query()) is None


def test_cost_management_throttles_by_headers_of_its_own(query: Any) -> None:
    api, client = query
    api.failures.append(cost_management.throttled(3))

    with pytest.raises(HttpResponseError) as caught:
        client.query.usage(SCOPE.strip("/"), _query())

    assert caught.value.status_code == 429
    assert "Retry-After" not in caught.value.response.headers
    assert caught.value.response.headers["x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after"] == "3"


def test_an_expired_token_and_another_scope_are_refused(query: Any) -> None:
    api, client = query
    api.failures.append(cost_management.EXPIRED)

    with pytest.raises(ClientAuthenticationError):
        client.query.usage(SCOPE.strip("/"), _query())
    with pytest.raises(HttpResponseError) as caught:
        client.query.usage("subscriptions/bbbb", _query())

    assert caught.value.error.code == "RBACAccessDenied"


def _details(**changes: Any) -> carbon.ItemDetailsQueryFilter:
    values: dict[str, Any] = {
        "date_range": carbon.DateRange(start=date(2026, 8, 1), end=date(2026, 8, 1)),
        "subscription_list": ["aaaa", "bbbb"],
        "carbon_scope_list": ["Scope2"],
        "category_type": "Resource",
        "order_by": "ItemName",
        "sort_direction": "Asc",
        "page_size": 2,
    }
    return carbon.ItemDetailsQueryFilter(**values | changes)


def test_carbon_details_page_by_token_and_state_denials_under_200(emissions: Any) -> None:
    _, client = emissions
    first = client.carbon_service.query_carbon_emission_reports(_details())
    second = client.carbon_service.query_carbon_emission_reports(_details(skip_token=first.skip_token))

    assert isinstance(first.value[0], carbon.ResourceCarbonEmissionItemDetailData)
    assert [item.item_name for item in (*first.value, *second.value)] == ["vm-0", "vm-1", "vm-2"]
    assert not second.skip_token
    decisions = {d.subscription_id: d.decision for d in first.subscription_access_decision_list}
    assert decisions == {"aaaa": "Allowed", "bbbb": "Denied"}


def test_carbon_requests_beyond_the_limits_are_refused(emissions: Any) -> None:
    _, client = emissions
    two_months = carbon.DateRange(start=date(2026, 7, 1), end=date(2026, 8, 1))
    for wrong in (
        _details(subscription_list=[f"{n:04d}" for n in range(101)]),
        _details(date_range=two_months),
        _details(page_size=5001),
    ):
        with pytest.raises(HttpResponseError):
            client.carbon_service.query_carbon_emission_reports(wrong)


def test_carbon_summary_and_window_are_of_the_official_models(emissions: Any) -> None:
    _, client = emissions
    summary = client.carbon_service.query_carbon_emission_reports(
        carbon.OverallSummaryReportQueryFilter(
            date_range=carbon.DateRange(start=date(2026, 8, 1), end=date(2026, 8, 1)),
            subscription_list=["aaaa"],
            carbon_scope_list=["Scope1", "Scope2", "Scope3"],
        )
    )

    assert isinstance(summary.value[0], carbon.CarbonEmissionOverallSummaryData)
    assert summary.value[0].latest_month_emissions == 3.0
    window = client.carbon_service.query_carbon_emission_data_available_date_range()
    assert (window.start_date, window.end_date) == carbon_optimization.CarbonOptimizationApi().window
