"""Daily cost per subscription from the Azure Cost Management Query API (billing-feeds.md 5.6).

The answer names its columns, in no fixed order; Azure adds the currency by itself whenever a cost is asked for.
Further pages are fetched by a POST of the same body to the link of the page before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from offgridflow_pipeline.connectors.control_totals.totals import Total
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.providers.azure_clients import body_of, client_options, management_address, parsed
from offgridflow_pipeline.months import next_month

if TYPE_CHECKING:
    from azure.mgmt.costmanagement import CostManagementClient

    from offgridflow_pipeline.connectors.access import AzureAccess
    from offgridflow_pipeline.connectors.providers.calls import Calls

Dataset = Literal["ActualCost", "AmortizedCost"]

#: What the wanted columns are called, lower case; which of the cost columns comes depends on the agreement.
_COLUMNS = {
    "cost": ("cost", "pretaxcost", "costinbillingcurrency"),
    "day": ("usagedate",),
    "subscription": ("subscriptionid",),
    "currency": ("currency", "billingcurrency"),
}
_BILLING_ACCOUNT = "/billingaccounts/"
#: Azure closes a month within 72 hours and changes it until about its fifth day (billing-feeds.md section 5.5).
_OPEN_DAYS = 5


def cost_management(
    access: AzureAccess,
    scope: str,
    days: Sequence[date],
    calls: Calls,
    *,
    asked_on: date,
    dataset: Dataset = "ActualCost",
) -> Iterator[Total]:
    """Totals of the days at the scope (subscription, resource group, management group or billing account).

    `dataset` is the one the bills are exported as: an amortized total never ties to an actual bill. Azure does not
    say whether a day is final: it is taken for final when its month was over for five days on `asked_on`.

    Raises:
        DeliveryError: the answer lacks a column or names another host; else as `Calls`.
    """
    from azure.mgmt.costmanagement import CostManagementClient

    with CostManagementClient(**client_options(access)) as client:
        wanted = frozenset(days)
        query = _query(days, dataset)
        account = _billing_account(scope)
        for page in calls.pages(lambda link: _page(client, access, scope, query, link)):
            for row in _rows(page, scope):
                day = _day(row["day"])
                if day in wanted:
                    subscription = str(row["subscription"] or "").lower() or None
                    yield Total(
                        day, account, subscription, str(row["currency"]), Decimal(str(row["cost"])),
                        is_final=_is_over(day, asked_on),
                    )  # fmt: skip


def _is_over(day: date, asked_on: date) -> bool:
    return asked_on >= next_month(day) + timedelta(days=_OPEN_DAYS)


def _query(days: Sequence[date], dataset: Dataset) -> Any:
    from azure.mgmt.costmanagement import models

    return models.QueryDefinition(
        type=dataset,
        timeframe="Custom",
        # Both ends are inclusive.
        time_period=models.QueryTimePeriod(
            from_property=datetime.combine(min(days), time.min, UTC), to=datetime.combine(max(days), time.min, UTC)
        ),
        dataset=models.QueryDataset(
            granularity="Daily",
            aggregation={"totalCost": models.QueryAggregation(name="Cost", function="Sum")},
            grouping=[models.QueryGrouping(type="Dimension", name="SubscriptionId")],
        ),
    )


def _page(
    client: CostManagementClient, access: AzureAccess, scope: str, query: Any, link: str | None
) -> tuple[dict[str, Any], str | None]:
    if link is None:
        body = body_of(client.query.usage, scope.strip("/"), query)
    else:
        from azure.core.rest import HttpRequest

        response = client.send_request(HttpRequest("POST", link, json=query.as_dict()))
        response.raise_for_status()
        body = parsed(response)
    properties: dict[str, Any] = (body or {}).get("properties") or {}  # 204: nothing was billed
    following = properties.get("nextLink")
    if following:
        _require_same_host(following, management_address(access))
    return properties, following


def _require_same_host(link: str, address: str) -> None:
    """A link to another host would be sent our token."""
    found, expected = urlsplit(link), urlsplit(address)
    if (found.scheme, found.netloc) != (expected.scheme, expected.netloc):
        raise DeliveryError(
            f"Azure Cost Management continues at {found.netloc}, not at {expected.netloc}: nothing was sent there. "
            "Check the management endpoint of the connection."
        )


def _rows(properties: Mapping[str, Any], scope: str) -> Iterator[dict[str, Any]]:
    rows = properties.get("rows") or ()
    if not rows:
        return
    named = {str(column["name"]).lower(): i for i, column in enumerate(properties.get("columns") or ())}
    places = {
        wanted: next((named[name] for name in names if name in named), None) for wanted, names in _COLUMNS.items()
    }
    if missing := [_COLUMNS[wanted][0] for wanted, place in places.items() if place is None]:
        raise DeliveryError(
            f"Azure Cost Management answers for {scope} without the column {missing[0]} (it has "
            f"{', '.join(named) or 'none'}): the API changed, report it."
        )
    for row in rows:
        yield {wanted: row[place] for wanted, place in places.items() if place is not None}


def _day(value: Any) -> date:
    """20260901 (a number), or the same day as text."""
    return date.fromisoformat(str(value).split("T")[0].split(".")[0])


def _billing_account(scope: str) -> str | None:
    lowered = f"/{scope.strip('/')}/".lower()
    if _BILLING_ACCOUNT not in lowered:
        return None
    start = lowered.index(_BILLING_ACCOUNT) + len(_BILLING_ACCOUNT)
    return f"/{scope.strip('/')}/"[start:].split("/")[0]
