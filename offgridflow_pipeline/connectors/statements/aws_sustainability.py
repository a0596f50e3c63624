"""AWS carbon statements from the Sustainability API (api 2018-05-10; billing-feeds.md 4.8).

The API answers with the newest model version of a month only; older ones are what we stored before, or the export.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.providers.aws_clients import aws_client
from offgridflow_pipeline.connectors.statements.aws_emissions import emission_types
from offgridflow_pipeline.connectors.statements.figures import Figure, kilograms, region_code
from offgridflow_pipeline.months import first_day, shifted

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.access import AwsAccess
    from offgridflow_pipeline.connectors.providers.calls import Calls

_PAGE_ROWS = 1000
_ACCOUNT, _REGION, _SERVICE = "USAGE_ACCOUNT_ID", "REGION", "SERVICE"


def aws_sustainability(
    access: AwsAccess, months: Sequence[str], calls: Calls, *, account_ids: Sequence[str] = ()
) -> Iterator[Figure]:
    """All seven kinds of emissions per account, region and service for the months, of all accounts or only these."""
    client = calls(lambda: aws_client(access, "sustainability"))
    types = {kind.api_type: kind for kind in emission_types()}
    request: dict[str, Any] = {
        "TimePeriod": {"Start": _instant(min(months)), "End": _instant(shifted(max(months), 1))},  # end exclusive
        "GroupBy": [_ACCOUNT, _REGION, _SERVICE],
        "EmissionsTypes": list(types),
        "Granularity": "MONTHLY",
        "MaxResults": _PAGE_ROWS,
    }
    if account_ids:
        request["FilterBy"] = {"Dimensions": {_ACCOUNT: list(account_ids)}}

    def fetch(token: str | None) -> tuple[list[dict[str, Any]], str | None]:
        answer = client.get_estimated_carbon_emissions(**request, **({"NextToken": token} if token else {}))
        return answer["Results"], answer.get("NextToken")

    wanted = frozenset(months)
    number = 0
    for page in calls.pages(fetch):
        for result in page:
            number += 1
            month = f"{result['TimePeriod']['Start']:%Y-%m}"
            if month not in wanted:
                continue
            named = result["DimensionsValues"]
            for name, stated in result["EmissionsValues"].items():
                if kind := types.get(name):
                    yield Figure(
                        month,
                        None,
                        named.get(_ACCOUNT) or None,
                        region_code(named.get(_REGION)),
                        named.get(_SERVICE) or None,
                        result["ModelVersion"],
                        kind.scope,
                        kind.basis,
                        kilograms(stated["Value"], stated["Unit"], source=calls.api.shown_as, row=number, column=name),
                    )


def _instant(month: str) -> datetime:
    day = first_day(month)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
