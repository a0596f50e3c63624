"""The AWS Sustainability API for tests, from the service model of botocore 1.44.5 (api 2018-05-10).

Only GetEstimatedCarbonEmissions by month. It adds up what the request does not group by, as AWS does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from offgridflow_pipeline_tests.counterparts.provider_api import Answer, Request

PATH = "/v1/estimated-carbon-emissions"
DIMENSIONS = ("USAGE_ACCOUNT_ID", "REGION", "SERVICE")
TYPES = (
    "TOTAL_LBM_CARBON_EMISSIONS",
    "TOTAL_MBM_CARBON_EMISSIONS",
    "TOTAL_SCOPE_1_CARBON_EMISSIONS",
    "TOTAL_SCOPE_2_LBM_CARBON_EMISSIONS",
    "TOTAL_SCOPE_2_MBM_CARBON_EMISSIONS",
    "TOTAL_SCOPE_3_LBM_CARBON_EMISSIONS",
    "TOTAL_SCOPE_3_MBM_CARBON_EMISSIONS",
)
THROTTLED = Answer(429, {"message": "Rate exceeded"}, {"x-amzn-ErrorType": "ThrottlingException"})
EXPIRED = Answer(403, {"message": "The security token is expired"}, {"x-amzn-ErrorType": "ExpiredTokenException"})
DENIED = Answer(
    403,
    {"message": "not authorized to perform: sustainability:GetEstimatedCarbonEmissions"},
    {"x-amzn-ErrorType": "AccessDeniedException"},
)


@dataclass(frozen=True, slots=True)
class Emissions:
    """What AWS states for a month, account, region and service, in tonnes per type."""

    month: str
    account: str
    region: str
    service: str
    version: str
    tonnes: Mapping[str, Decimal]


class SustainabilityApi:
    """The API and its figures; `page_rows` caps what one page holds."""

    def __init__(self, emissions: Iterable[Emissions] = (), page_rows: int = 5000) -> None:
        self.emissions = list(emissions)
        self.page_rows = page_rows
        self.requests: list[Request] = []
        self.failures: deque[Answer] = deque()
        self.endpoint = ""

    def answer(self, request: Request) -> Answer:
        if (request.method, request.path) != ("POST", PATH):
            return _invalid(f"unknown operation {request.method} {request.path}")
        body = request.body
        start, end = (_instant(body["TimePeriod"][name]) for name in ("Start", "End"))
        if start >= end:
            return _invalid("TimePeriod.Start must be before End")
        if body.get("Granularity", "MONTHLY") != "MONTHLY":
            return _invalid("this counterpart knows months only")
        if unknown := set(body.get("EmissionsTypes", TYPES)) - set(TYPES):
            return _invalid(f"unknown EmissionsTypes {unknown}")
        rows = self._grouped(body, start, end)
        first = int(body.get("NextToken", "0"))
        size = min(int(body.get("MaxResults", 1000)), self.page_rows)
        page = {"Results": rows[first : first + size]}
        return Answer(200, page | ({"NextToken": str(first + size)} if first + size < len(rows) else {}))

    def _grouped(self, body: Mapping[str, object], start: datetime, end: datetime) -> list[dict[str, object]]:
        groups: dict[tuple[str, ...], dict[str, Decimal]] = {}
        grouping = [name for name in DIMENSIONS if name in body.get("GroupBy", ())]
        allowed = body.get("FilterBy", {}).get("Dimensions", {})
        for stated in self.emissions:
            values = dict(zip(DIMENSIONS, (stated.account, stated.region, stated.service), strict=True))
            first_day = datetime.fromisoformat(f"{stated.month}-01T00:00:00+00:00")
            if not start <= first_day < end or any(values[name] not in names for name, names in allowed.items()):
                continue
            key = (stated.month, stated.version, *(values[name] for name in grouping))
            sums = groups.setdefault(key, {})
            for name in body.get("EmissionsTypes", TYPES):
                sums[name] = sums.get(name, Decimal(0)) + stated.tonnes.get(name, Decimal(0))
        return [
            {
                "TimePeriod": {"Start": f"{month}-01T00:00:00Z", "End": f"{_next(month)}-01T00:00:00Z"},
                "DimensionsValues": dict(zip(grouping, values, strict=True)),
                "ModelVersion": version,
                "EmissionsValues": {name: {"Value": value, "Unit": "MTCO2e"} for name, value in sums.items()},
            }
            for (month, version, *values), sums in sorted(groups.items())
        ]


def _invalid(message: str) -> Answer:
    return Answer(400, {"message": message}, {"x-amzn-ErrorType": "ValidationException"})


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def _next(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12}-{number % 12 + 1:02d}"
