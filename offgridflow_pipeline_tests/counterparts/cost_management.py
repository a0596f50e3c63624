"""The Azure Cost Management Query API for tests, from azure-mgmt-costmanagement 5.0.0 (api-version 2025-03-01).

Daily costs per subscription with the headers Azure really throttles by, its paging by POST, its own column order,
and 204 where nothing was billed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from offgridflow_pipeline_tests.counterparts.provider_api import Answer, Request

API_VERSION = "2025-03-01"
_TAIL = "/providers/Microsoft.CostManagement/query"
EXPIRED = Answer(
    401,
    {"error": {"code": "ExpiredAuthenticationToken", "message": "The access token expiry UTC time is earlier."}},
    {"www-authenticate": 'Bearer error="invalid_token", error_description="The access token is expired"'},
)


def throttled(seconds: int) -> Answer:
    """Too many requests, as Cost Management says it: by its own headers, without Retry-After."""
    return Answer(
        429,
        {"error": {"code": "429", "message": "Too many requests. Please retry."}},
        {
            "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after": str(seconds),
            "x-ms-ratelimit-microsoft.costmanagement-entity-retry-after": "0",
            "x-ms-ratelimit-microsoft.costmanagement-clienttype-retry-after": str(max(seconds - 1, 0)),
        },
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a subscription on a day."""

    day: date
    subscription: str
    currency: str
    cost: Decimal


class CostManagementApi:
    """The API of one scope; `order` seeds the order of columns, other scopes are denied."""

    def __init__(self, scope: str, costs: Iterable[Cost] = (), *, page_rows: int = 1000, order: int = 0) -> None:
        self.scope = scope
        self.costs = list(costs)
        self.page_rows = page_rows
        self.order = order
        self.next_host: str | None = None
        self.requests: list[Request] = []
        self.failures: deque[Answer] = deque()
        self.endpoint = ""
        self._first_body: Any = None

    def answer(self, request: Request) -> Answer:
        if not request.path.endswith(_TAIL) or request.method != "POST":
            return _error(404, "NotFound", request.path)
        if request.query.get("api-version") != API_VERSION:
            return _error(400, "InvalidApiVersionParameter", str(request.query))
        scope = request.path.removesuffix(_TAIL)
        if scope.lower() != self.scope.lower():
            return _error(403, "RBACAccessDenied", f"The client does not have authorization over {scope}.")
        if problem := _problem(request.body):
            return _error(400, "BadRequest", problem)
        first = int(request.query.get("$skiptoken", "0"))
        if first == 0:
            self._first_body = request.body
        elif request.body != self._first_body:
            return _error(400, "BadRequest", "The body of a next page must be that of the first.")
        return self._page(request.body, first)

    def _page(self, body: Any, first: int) -> Answer:
        start, end = (date.fromisoformat(body["timePeriod"][name][:10]) for name in ("from", "to"))
        metric = next(iter(body["dataset"]["aggregation"].values()))["name"]
        rows = [
            {
                metric: c.cost,
                "UsageDate": int(f"{c.day:%Y%m%d}"),
                "SubscriptionId": c.subscription,
                "Currency": c.currency,
            }
            for c in self.costs
            if start <= c.day <= end
        ]
        if not rows:
            return Answer(204)
        names = [metric, "UsageDate", "SubscriptionId", "Currency"]
        random.Random(self.order + first).shuffle(names)
        types = {"Currency": "String", "SubscriptionId": "String"}
        following = first + self.page_rows
        host = self.next_host or self.endpoint
        link = f"{host}{self.scope}{_TAIL}?api-version={API_VERSION}&$skiptoken={following}"
        return Answer(
            200,
            {
                "id": f"{self.scope.strip('/')}{_TAIL}/1",
                "name": "1",
                "type": "Microsoft.CostManagement/query",
                "properties": {
                    "nextLink": link if following < len(rows) else None,
                    "columns": [{"name": name, "type": types.get(name, "Number")} for name in names],
                    "rows": [[row[name] for name in names] for row in rows[first:following]],
                },
            },
        )


def _problem(body: Any) -> str:
    dataset = body.get("dataset", {})
    if body.get("type") not in ("ActualCost", "AmortizedCost", "Usage"):
        return f"type {body.get('type')}"
    if body.get("timeframe") != "Custom" or set(body.get("timePeriod", ())) != {"from", "to"}:
        return "a custom timeframe has from and to"
    if dataset.get("granularity") != "Daily":
        return "this counterpart knows days only"
    if len(dataset.get("grouping", ())) > 2 or not 0 < len(dataset.get("aggregation", ())) <= 2:
        return "at most two groupings and two aggregations"
    return ""


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}})
