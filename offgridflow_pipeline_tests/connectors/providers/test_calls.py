"""Retries, budgets and the meaning of providers' errors."""

from __future__ import annotations

import csv
from importlib import resources
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseTimeoutError
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from google.api_core.exceptions import Forbidden, ServiceUnavailable, TooManyRequests
from google.auth.exceptions import RefreshError, TransportError

from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import Calls, ProviderUnavailableError, apis
from offgridflow_pipeline.connectors.providers.problems import understand
from offgridflow_pipeline_tests.connectors.provider_reading import Time


def _aws_error(code: str, status: int = 400, **headers: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": f"{code} happened"},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
        },  # type: ignore[arg-type]
        "GetCostAndUsage",
    )


class _Failing:
    """Fails with these errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def _calls(time: Time, **budget: Any) -> Calls:
    return Calls("cost_explorer", "connection payer", time.budget(**budget))


def test_a_throttled_call_is_tried_again_with_growing_pauses() -> None:
    time = Time()
    attempt = _Failing(*[_aws_error("LimitExceededException")] * 4)

    assert _calls(time, draw=1.0)(attempt) == "answer"

    assert time.slept == [1, 2, 4, 8]


def test_jitter_never_shortens_what_the_provider_asks_to_wait() -> None:
    time = Time()
    _calls(time, draw=0.0)(_Failing(_aws_error("ThrottlingException", 429, **{"retry-after": "7"})))

    assert time.slept == [7]


def test_a_spent_budget_is_an_error_that_says_what_was_tried() -> None:
    time = Time()
    attempt = _Failing(*[_aws_error("ThrottlingException", 429)] * 9)

    with pytest.raises(ProviderUnavailableError, match=r"ThrottlingException after 3 attempts.*run it again later"):
        _calls(time, attempts=3)(attempt)

    assert attempt.calls == 3


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    time = Time()
    attempt = _Failing(_aws_error("ThrottlingException", 429, **{"retry-after": "3600"}))

    with pytest.raises(ProviderUnavailableError, match="asks to wait 3600 s"):
        _calls(time, deadline_seconds=600)(attempt)

    assert time.slept == []


def test_the_deadline_covers_all_calls_of_a_reading() -> None:
    time = Time()
    calls = _calls(time, deadline_seconds=100, draw=0.0)
    calls(_Failing(_aws_error("Throttling", 400, **{"retry-after": "60"})))

    with pytest.raises(ProviderUnavailableError):
        calls(_Failing(_aws_error("Throttling", 400, **{"retry-after": "60"})))


def test_a_denied_call_names_the_right_and_is_not_repeated() -> None:
    attempt = _Failing(_aws_error("AccessDeniedException", 400))

    with pytest.raises(AccessDeniedError, match=r"connection payer.*ce:GetCostAndUsage.*payer account"):
        _calls(Time())(attempt)

    assert attempt.calls == 1


def test_expired_credentials_are_told_apart() -> None:
    with pytest.raises(ExpiredCredentialsError, match=r"ExpiredTokenException.*Renew"):
        _calls(Time())(_Failing(_aws_error("ExpiredTokenException", 400)))


def test_a_request_that_the_provider_finds_wrong_is_a_clear_error() -> None:
    with pytest.raises(DeliveryError, match=r"AWS Cost Explorer refuses connection payer \(ValidationException"):
        _calls(Time())(_Failing(_aws_error("ValidationException")))


def test_a_mistake_of_our_own_is_not_blamed_on_the_provider() -> None:
    with pytest.raises(KeyError):
        _calls(Time())(_Failing(KeyError("ours")))


def test_pages_end_when_no_token_comes_and_a_repeated_token_is_refused() -> None:
    pages = {None: ("first", "a"), "a": ("second", None)}
    assert list(_calls(Time()).pages(lambda token: pages[token])) == ["first", "second"]

    with pytest.raises(DeliveryError, match="repeats a page"):
        list(_calls(Time()).pages(lambda token: ("again", "a")))


@pytest.mark.parametrize(
    ("provider", "error", "verdict"),
    [
        ("aws", _aws_error("SomethingNew", 503), "retry"),
        ("aws", _aws_error("SomethingNew", 403), "denied"),
        ("aws", _aws_error("SomethingNew", 400), "other"),
        ("aws", EndpointConnectionError(endpoint_url="https://x"), "retry"),
        ("aws", ReadTimeoutError(endpoint_url="https://x"), "retry"),
        ("aws", NoCredentialsError(), "expired"),
        ("azure", ServiceRequestError("refused"), "retry"),
        ("azure", ServiceResponseTimeoutError("slow"), "retry"),
        ("azure", ClientAuthenticationError("AADSTS7000222: the secret is expired"), "expired"),
        ("gcp", TooManyRequests("quota"), "retry"),  # type: ignore[no-untyped-call]
        ("gcp", ServiceUnavailable("down"), "retry"),  # type: ignore[no-untyped-call]
        ("gcp", Forbidden("no"), "denied"),  # type: ignore[no-untyped-call]
        ("gcp", Forbidden("no", errors=[{"reason": "rateLimitExceeded"}]), "retry"),  # type: ignore[no-untyped-call]
        ("gcp", RefreshError("invalid_grant"), "expired"),  # type: ignore[no-untyped-call]
        ("gcp", TransportError("no route"), "retry"),  # type: ignore[no-untyped-call]
    ],
)
def test_errors_of_the_libraries_are_understood(provider: Any, error: Exception, verdict: str) -> None:
    assert understand(provider, error).verdict == verdict


def test_the_longest_of_azures_throttling_periods_counts() -> None:
    headers = {
        "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after": "4",
        "x-ms-ratelimit-microsoft.costmanagement-tenant-retry-after": "31",
        "x-ms-ratelimit-remaining-tenant-reads": "11999",
    }
    error = ClientAuthenticationError("throttled")
    error.response = SimpleNamespace(headers=headers)
    error.status_code = 429

    problem = understand("azure", error)

    assert (problem.verdict, problem.retry_after_seconds) == ("retry", 31)


def test_every_row_of_the_error_table_has_a_source_and_a_known_verdict() -> None:
    file = resources.files("offgridflow_pipeline.connectors.providers") / "data/provider_errors.csv"
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))

    assert len({(r["provider"], r["kind"], r["match"]) for r in rows}) == len(rows)
    assert all(r["source"] and r["verdict"] in {"retry", "denied", "expired"} for r in rows)
    assert all(api.right and api.grant for api in apis().values())
