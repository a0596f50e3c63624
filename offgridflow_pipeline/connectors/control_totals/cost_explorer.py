"""Daily cost per linked account from AWS Cost Explorer (billing-feeds.md 4.7).

Unblended cost, because that is what a cost and usage report bills. `UsageQuantity` is never asked for: it adds
unlike units. Each page of an answer is a charged request, so all days are one request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.control_totals.totals import Total
from offgridflow_pipeline.connectors.providers.aws_clients import aws_client

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.access import AwsAccess
    from offgridflow_pipeline.connectors.providers.calls import Calls

_METRIC = "UnblendedCost"


def cost_explorer(
    access: AwsAccess, days: Sequence[date], calls: Calls, *, account_ids: Sequence[str] = ()
) -> Iterator[Total]:
    """Totals of the days for all linked accounts, or only these; a day without cost has none.

    `is_final` is false while AWS calls the day estimated.
    """
    client = calls(lambda: aws_client(access, "ce"))
    request: dict[str, Any] = {
        # The end is exclusive.
        "TimePeriod": {"Start": min(days).isoformat(), "End": (max(days) + timedelta(days=1)).isoformat()},
        "Granularity": "DAILY",
        "Metrics": [_METRIC],
        "GroupBy": [{"Type": "DIMENSION", "Key": "LINKED_ACCOUNT"}],
    }
    if account_ids:
        request["Filter"] = {"Dimensions": {"Key": "LINKED_ACCOUNT", "Values": list(account_ids)}}

    def fetch(token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        answer = client.get_cost_and_usage(**request, **({"NextPageToken": token} if token else {}))
        return answer["ResultsByTime"], answer.get("NextPageToken")

    wanted = frozenset(days)
    for page in calls.pages(fetch):
        for result in page:
            day = date.fromisoformat(result["TimePeriod"]["Start"])
            if day in wanted:
                for group in result.get("Groups", ()):
                    metric = group["Metrics"][_METRIC]
                    yield Total(
                        day, None, group["Keys"][0], metric["Unit"], Decimal(metric["Amount"]),
                        is_final=not result.get("Estimated", True),
                    )  # fmt: skip
