"""Daily totals of AWS Cost Explorer, against moto and a scripted server."""

from __future__ import annotations

import json
import urllib.request
import uuid
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from offgridflow_pipeline.connectors.access import AwsAccess
from offgridflow_pipeline.connectors.connections import Connection, connection
from offgridflow_pipeline.connectors.errors import (
    AccessDeniedError,
    DeliveryError,
    ExpiredCredentialsError,
)
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.lake.schemas import CONTROL_TOTALS
from offgridflow_pipeline_tests.connectors.provider_reading import DAYS, SECRET, Time, aws, costs, totals
from offgridflow_pipeline_tests.counterparts.provider_api import Answer, ScriptedApi, serving
from offgridflow_pipeline_tests.counterparts.s3 import S3Server

#: The account whose Cost Explorer the queue of moto belongs to.
MOTO_ACCOUNT = "123456789012"


def _payer(**config: Any) -> Connection:
    return connection(
        {"id": "payer", "kind": "cur2", "uri": "s3://bills/cur", "reconcile": "cost_explorer", "aws": config}
    )


def _own_days(count: int = 1) -> list[date]:
    """Days that no other test asks for: the server gives equal requests equal answers."""
    first = date(2000, 1, 1) + timedelta(days=uuid.uuid4().int % 9000)
    return [first + timedelta(days=n) for n in range(count)]


def _by_day(day: date, amounts: dict[str, str], estimated: bool = False) -> dict[str, Any]:
    return {
        "TimePeriod": {"Start": day.isoformat(), "End": (day + timedelta(days=1)).isoformat()},
        "Total": {},
        "Groups": [
            {"Keys": [account], "Metrics": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}}
            for account, amount in amounts.items()
        ],
        "Estimated": estimated,
    }


def _queue(s3: S3Server, *results: dict[str, Any]) -> None:
    body = json.dumps({"results": list(results)}).encode()
    url = f"{s3.endpoint}/moto-api/static/ce/cost-and-usage-results"
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST")) as response:
        assert response.status == 201


def test_every_page_of_cost_explorer_is_read_to_the_last_digit(s3: S3Server) -> None:
    first, second = _own_days(2)
    _queue(
        s3,
        {"ResultsByTime": [_by_day(first, {"000000000042": "1.2345678901234567"})], "NextPageToken": "more"},
        {"ResultsByTime": [_by_day(second, {"000000000042": "-0.0000000012", "111111111111": "7"}, estimated=True)]},
    )

    found = totals(_payer(), aws(s3.endpoint), [first, second])

    assert costs(found) == {
        (str(first), "000000000042", "USD"): Decimal("1.2345678901234567"),
        (str(second), "000000000042", "USD"): Decimal("-0.0000000012"),
        (str(second), "111111111111", "USD"): Decimal(7),
    }
    assert found.column("is_final").to_pylist() == [True, False, False]
    assert found.schema == CONTROL_TOTALS.arrow_schema
    assert set(found.column("source").to_pylist()) == {"cost_explorer"}


def test_days_between_those_asked_for_are_left_out(s3: S3Server) -> None:
    days = _own_days(3)
    _queue(s3, {"ResultsByTime": [_by_day(day, {"111111111111": "1"}) for day in days]})

    found = totals(_payer(), aws(s3.endpoint), [days[0], days[2]])

    assert found.column("usage_date").to_pylist() == [days[0], days[2]]


def test_all_days_are_one_request_with_an_exclusive_end_and_the_accounts_of_the_connection() -> None:
    api = ScriptedApi(Answer(200, {"ResultsByTime": []}))
    with serving(api):
        totals(_payer(account_ids=["000000000042"]), aws(api.endpoint), [date(2026, 9, 3), date(2026, 9, 1)])

    (request,) = api.requests
    assert request.body["TimePeriod"] == {"Start": "2026-09-01", "End": "2026-09-04"}
    assert request.body["Metrics"] == ["UnblendedCost"]
    assert len(request.body["GroupBy"]) <= 2
    assert request.body["Filter"] == {"Dimensions": {"Key": "LINKED_ACCOUNT", "Values": ["000000000042"]}}


def _json_1_1(code: str, status: int = 400) -> Answer:
    return Answer(status, {"__type": code, "message": f"{code} of the test"})


def test_a_throttled_cost_explorer_is_asked_again_until_it_answers() -> None:
    time = Time()
    busy = _json_1_1("LimitExceededException")
    api = ScriptedApi(busy, busy, Answer(200, {"ResultsByTime": [_by_day(DAYS[0], {"111111111111": "3.5"})]}))
    with serving(api):
        found = totals(_payer(), aws(api.endpoint), DAYS[:1], time)

    assert costs(found) == {("2026-09-01", "111111111111", "USD"): Decimal("3.5")}
    assert len(api.requests) == 3
    assert len(time.slept) == 2


def test_cost_explorer_that_keeps_throttling_is_a_clear_error() -> None:
    api = ScriptedApi(*[_json_1_1("ThrottlingException")] * 20)
    with serving(api), pytest.raises(ProviderUnavailableError, match="AWS Cost Explorer did not answer"):
        totals(_payer(), aws(api.endpoint), DAYS)

    assert len(api.requests) == 6


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("AccessDeniedException", AccessDeniedError, "ce:GetCostAndUsage"),
        ("ExpiredTokenException", ExpiredCredentialsError, "Renew"),
        ("UnrecognizedClientException", ExpiredCredentialsError, "Renew"),
        ("ValidationException", DeliveryError, "refuses"),
    ],
)
def test_cost_explorers_refusals_name_the_cure(code: str, error: type[Exception], said: str) -> None:
    api = ScriptedApi(_json_1_1(code))
    with serving(api), pytest.raises(error, match=said) as caught:
        totals(_payer(), aws(api.endpoint), DAYS)

    assert SECRET not in str(caught.value)


def test_cost_explorer_is_asked_as_the_role_of_the_connection(s3: S3Server) -> None:
    day = _own_days()
    _queue(s3, {"ResultsByTime": [_by_day(day[0], {"111111111111": "2"})]})
    base = aws(s3.endpoint)
    access = AwsAccess(
        role_arn=f"arn:aws:iam::{MOTO_ACCOUNT}:role/offgridflow",
        external_id="tenant-1",
        access_key_id=base.access_key_id,
        secret_access_key=base.secret_access_key,
        endpoint_url=base.endpoint_url,
    )

    assert totals(_payer(), access, day).num_rows == 1
    foreign = replace(access, role_arn="arn:aws:iam::111111111111:role/offgridflow")
    assert totals(_payer(), foreign, day).num_rows == 0, "another account's Cost Explorer knows nothing of it"
