"""The Azure Carbon Optimization API for tests, from azure-mgmt-carbonoptimization 1.0.0 (api-version 2025-04-01).

Resource details and overall summaries of one month, with denials under HTTP 200, pages and the window of months.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from offgridflow_pipeline_tests.counterparts.provider_api import Answer, Request

API_VERSION = "2025-04-01"
_REPORTS = "/providers/Microsoft.Carbon/carbonEmissionReports"
_WINDOW = "/providers/Microsoft.Carbon/queryCarbonEmissionDataAvailableDateRange"
THROTTLED = Answer(429, {"error": {"code": "TooManyRequests", "message": "Try later."}}, {"retry-after": "7"})


@dataclass(frozen=True, slots=True)
class Resource:
    """Emissions of one resource in a month and scope, in kg."""

    month: str
    subscription: str
    name: str
    location: str
    resource_type: str
    scope: int
    kg: Decimal


class CarbonOptimizationApi:
    """The API; subscriptions in `denied` are refused with their reason."""

    def __init__(
        self,
        resources: Iterable[Resource] = (),
        *,
        denied: dict[str, str] | None = None,
        window: tuple[str, str] = ("2025-09-01", "2026-08-01"),
    ) -> None:
        self.resources = list(resources)
        self.denied = denied or {}
        self.window = window
        self.page_rows = 5000
        self.requests: list[Request] = []
        self.failures: deque[Answer] = deque()
        self.endpoint = ""

    @property
    def reports(self) -> list[Any]:
        """Bodies of the report requests."""
        return [request.body for request in self.requests if request.path == _REPORTS]

    def answer(self, request: Request) -> Answer:
        if request.method != "POST" or request.query.get("api-version") != API_VERSION:
            return _error("InvalidRequest", request.path)
        if request.path == _WINDOW:
            return Answer(200, {"startDate": self.window[0], "endDate": self.window[1]})
        body = request.body
        subscriptions = body["subscriptionList"]
        if len(subscriptions) > 100 or any(s != s.lower() for s in subscriptions):
            return _error("InvalidSubscriptionList", "at most 100, in lower case")
        if body["dateRange"]["start"] != body["dateRange"]["end"] or not body["dateRange"]["start"].endswith("-01"):
            return _error("InvalidDateRange", "one month a request")
        wanted = {int(scope[-1]) for scope in body["carbonScopeList"]}
        month = body["dateRange"]["start"][:7]
        found = [
            r
            for r in self.resources
            if r.month == month and r.scope in wanted and r.subscription in subscriptions
            and r.subscription not in self.denied
        ]  # fmt: skip
        if body["reportType"] == "OverallSummaryReport":
            return Answer(200, {"value": [_summary(found)], **self._decisions(subscriptions)})
        if body["reportType"] == "ItemDetailsReport" and body["categoryType"] == "Resource":
            return self._details(body, found)
        return _error("InvalidReportType", "this counterpart knows resources and overall summaries")

    def _details(self, body: Any, found: list[Resource]) -> Answer:
        if not 0 < body["pageSize"] <= 5000:
            return _error("InvalidPageSize", "1 to 5000")
        sums: dict[tuple[str, str, str, str], Decimal] = {}
        for r in found:
            key = (r.name, r.subscription, r.location, r.resource_type)
            sums[key] = sums.get(key, Decimal(0)) + r.kg
        items = [_item(key, kg) for key, kg in sorted(sums.items())]
        first = int(body.get("skipToken") or 0)
        following = first + min(body["pageSize"], self.page_rows)
        return Answer(
            200,
            {
                "value": items[first:following],
                "skipToken": str(following) if following < len(items) else None,
                **self._decisions(body["subscriptionList"]),
            },
        )

    def _decisions(self, subscriptions: list[str]) -> dict[str, Any]:
        return {
            "subscriptionAccessDecisionList": [
                {"subscriptionId": s, "decision": "Denied", "denialReason": self.denied[s]}
                if s in self.denied
                else {"subscriptionId": s, "decision": "Allowed"}
                for s in subscriptions
            ]
        }


def _item(key: tuple[str, str, str, str], kg: Decimal) -> dict[str, Any]:
    name, subscription, location, resource_type = key
    return {
        "dataType": "ResourceItemDetailsData",
        "itemName": name,
        "categoryType": "Resource",
        "subscriptionId": subscription,
        "resourceGroup": "group",
        "resourceId": f"/subscriptions/{subscription}/resourcegroups/group/providers/{resource_type}/{name}",
        "location": location,
        "resourceType": resource_type,
        **_change(kg),
    }


def _summary(found: list[Resource]) -> dict[str, Any]:
    return {"dataType": "OverallSummaryData", **_change(sum((r.kg for r in found), Decimal(0)))}


def _change(kg: Decimal) -> dict[str, Any]:
    return {
        "latestMonthEmissions": kg,
        "previousMonthEmissions": Decimal(0),
        "monthOverMonthEmissionsChangeRatio": Decimal(0),
        "monthlyEmissionsChangeValue": kg,
    }


def _error(code: str, message: str) -> Answer:
    return Answer(400, {"error": {"code": code, "message": message}})
