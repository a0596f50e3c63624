"""Published emissions: totals by group, their trend, and how complete and fresh they are.

Both bases always. Figures are decimals as text: nothing is rounded here. Single lines are in `evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Response
from pydantic import Field
from typing_extensions import TypedDict

from offgridflow_pipeline.database.pipeline.emissions_reads import Coverage, GroupTotals
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.answering import answers, caching, pagination
from offgridflow_pipeline.sidecar.answering.questions import Filter, From, GroupBy, Question, To, lineage, question
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import not_found, problem_responses

router = APIRouter(tags=["emissions"])

#: Points of a trend at most, by interval, in days of its period.
_TREND_DAYS = {"day": 366, "month": 3_660}

Mass = Annotated[str | None, Field(description="kgCO2e, exact decimal; null = nothing could be computed.")]
Money = Annotated[str, Field(description="Exact decimal in `currency`.")]
Currency = Annotated[str | None, Field(description="ISO 4217; null = not stated.")]


class Cost(TypedDict):
    """Billed cost in one currency."""

    currency: Currency
    billed_cost: Money


class Lines(TypedDict):
    """Ledger lines by disposition."""

    mapped: int
    proxied: int
    no_emission: int
    unmapped: int


class Links(TypedDict):
    """Where the figure comes from."""

    lineage: str


class EmissionTotals(TypedDict):
    """Totals of one group. Embodied and upstream emissions are beside the use phase, not in it."""

    group: Annotated[dict[str, str | None], Field(description="Dimension -> value; null = the lines do not state it.")]
    line_count: int
    kwh: Annotated[str | None, Field(description="Electricity at the site, kWh, exact decimal.")]
    co2e_location_kg: Mass
    co2e_market_kg: Mass
    embodied_kg: Mass
    upstream_energy_kg: Mass
    cost: list[Cost]
    coverage: Lines
    provisional: Annotated[bool, Field(description="Whether a month of the group is not closed yet.")]
    _links: Links


Period = TypedDict("Period", {"from": date, "to": date})


class TotalsPage(TypedDict):
    """One page of totals, ordered by the dimensions asked for; what is not stated comes first."""

    period: Period
    data_version: Annotated[int, Field(description="Publication that the figures are of.")]
    items: list[EmissionTotals]
    next_cursor: str | None


class Trend(TypedDict):
    """Totals per interval; an interval without any ledger line is left out, it is not zero."""

    period: Period
    interval: Literal["day", "month"]
    data_version: int
    items: list[EmissionTotals]


class DispositionCoverage(TypedDict):
    """Ledger lines and billed cost of one disposition; the four add up to the bill."""

    disposition: Literal["mapped", "proxied", "no_emission", "unmapped"]
    currency: Currency
    line_count: int
    billed_cost: Money


class ProviderCoverage(TypedDict):
    """What of a provider's bill has a figure."""

    provider: str | None
    parts: list[DispositionCoverage]


class CheckVerdict(TypedDict):
    """Newest verdict of a check, and how many partitions of the period fail it now."""

    check: str
    severity: Literal["ERROR", "WARN"]
    passed: bool
    partition: str
    finding: str
    recorded_at: datetime
    partitions: int
    failing: int


class SourceFreshness(TypedDict):
    """When a connection was read last."""

    connection_id: str
    provider: str
    kind: str
    status: Literal["active", "paused", "failing"]
    last_attempt_at: datetime | None
    last_success_at: datetime | None


class Quality(TypedDict):
    """How complete, checked and fresh the figures of a period are."""

    period: Period
    coverage: list[ProviderCoverage]
    checks: list[CheckVerdict]
    sources: list[SourceFreshness]


AsOf = Annotated[
    int | None, Query(ge=1, le=2**62, description="Data version to read as it was reported; default: as known now.")
]


@router.get(
    "/emissions/totals",
    operation_id="list_emission_totals",
    summary="Totals by group",
    response_model=TotalsPage,
    responses={**caching.NOT_MODIFIED, **problem_responses(400, 401, 403, 404, 422, 429, 503)},
)
def list_emission_totals(
    auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)],
    first: From,
    last: To,
    group_by: GroupBy = [],  # noqa: B006  read only
    scope: Filter = None,
    provider: Filter = None,
    account: Filter = None,
    service: Filter = None,
    region: Filter = None,
    disposition: Filter = None,
    as_of: AsOf = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Energy, emissions on both bases and cost of a period by group: one page, exact decimals."""
    asked = question(
        first, last, group_by=group_by, scope=scope, provider=provider, account=account, service=service,
        region=region, disposition=disposition,
    )  # fmt: skip
    with auth.transaction() as caller:
        version = caching.data_version(caller) if as_of is None else as_of
        tag = caching.tag(auth.request, caller, version)
        reported = None
        if as_of is not None:
            reported = caller.database.emissions.reported(caller.tenant, as_of)
            if reported is None:
                raise not_found()
        if caching.matches(auth.request, tag):
            return caching.not_modified(tag)
        cursors = pagination.cursors(auth.services, caller, "emissions/totals", {**asked.as_asked(), "as_of": as_of})
        after = cursors.read(cursor)
        if reported is None:
            rows, closed = caller.database.emissions.totals(
                caller.tenant, asked.first, asked.last, group_by=asked.group_by, filters=asked.filters, after=after,
                limit=limit + 1,
            )  # fmt: skip
        tenant = caller.tenant
    if reported is not None:
        rows, closed = (
            _as_reported(auth, tenant, asked, reported.scope_totals, after, limit + 1),
            reported.closed_months,
        )
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: row.group)
    answer: TotalsPage = {
        "period": {"from": first, "to": last},
        "data_version": version,
        "items": _items(page, asked, closed),
        "next_cursor": next_cursor,
    }
    return answers.read(TotalsPage, answer, tag)


@router.get(
    "/emissions/series",
    operation_id="get_emission_series",
    summary="Trend by day or month",
    response_model=Trend,
    responses={**caching.NOT_MODIFIED, **problem_responses(401, 403, 422, 429)},
)
def get_emission_series(
    auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)],
    first: From,
    last: To,
    interval: Annotated[Literal["day", "month"], Query(description="A day series has at most 366 days.")] = "month",
    scope: Filter = None,
    provider: Filter = None,
    account: Filter = None,
    service: Filter = None,
    region: Filter = None,
    disposition: Filter = None,
) -> Response:
    """The trend of a period: totals of every day or month that has ledger lines."""
    asked = question(
        first, last, group_by=[interval], maximum_days=_TREND_DAYS[interval], scope=scope, provider=provider,
        account=account, service=service, region=region, disposition=disposition,
    )  # fmt: skip
    with auth.transaction() as caller:
        version = caching.data_version(caller)
        tag = caching.tag(auth.request, caller, version)
        if caching.matches(auth.request, tag):
            return caching.not_modified(tag)
        rows, closed = caller.database.emissions.totals(
            caller.tenant, first, last, group_by=asked.group_by, filters=asked.filters, limit=_TREND_DAYS["day"]
        )
    answer: Trend = {
        "period": {"from": first, "to": last},
        "interval": interval,
        "data_version": version,
        "items": _items(rows, asked, closed),
    }
    return answers.read(Trend, answer, tag)


@router.get(
    "/quality",
    operation_id="get_quality",
    summary="Coverage, checks and freshness",
    response_model=Quality,
    responses=problem_responses(401, 403, 422, 429),
)
def get_quality(auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)], first: From, last: To) -> Response:
    """How much of the bill has a figure, what the checks say of the period, and when each source was read."""
    asked = question(first, last)
    with auth.transaction() as caller:
        coverage = caller.database.emissions.coverage(caller.tenant, asked.first, asked.last)
        checks, sources = caller.database.emissions.verdicts_and_sources(caller.tenant, asked.first, asked.last)
    answer: Quality = {
        "period": {"from": first, "to": last},
        "coverage": _by_provider(coverage),
        "checks": [cast("CheckVerdict", _with_times(check)) for check in checks],
        "sources": [cast("SourceFreshness", _with_times(source)) for source in sources],
    }
    return answers.read(Quality, answer)


def _as_reported(
    auth: Authorization,
    tenant: str,
    asked: Question,
    lake_version: int | None,
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[GroupTotals]:
    """The groups at that version of the lake's totals; none before there were any."""
    from offgridflow_pipeline.inventory.as_reported import totals_as_reported

    if lake_version is None:
        return []
    with auth.services.lake_reads.engine(tenant) as engine:
        return totals_as_reported(
            engine, auth.services.lake, tenant, lake_version, asked.first, asked.last, group_by=asked.group_by,
            filters=asked.filters, after=after, limit=limit,
        )  # fmt: skip


def _items(rows: Sequence[GroupTotals], asked: Question, closed: frozenset[str]) -> list[EmissionTotals]:
    whole = not closed.issuperset(asked.months)
    names = asked.group_by
    found: list[EmissionTotals] = []
    for row in rows:
        group: dict[str, str | None] = dict(zip(names, row.group, strict=True))
        time = group.get("month") or group.get("day")
        mapped, proxied, no_emission, unmapped = row.lines
        found.append(
            {
                "group": group,
                "line_count": row.line_count,
                "kwh": row.kwh,
                "co2e_location_kg": row.co2e_location_kg,
                "co2e_market_kg": row.co2e_market_kg,
                "embodied_kg": row.embodied_kg,
                "upstream_energy_kg": row.upstream_energy_kg,
                "cost": [
                    {"currency": currency, "billed_cost": cost}
                    for currency, cost in zip(row.currencies, row.costs, strict=True)
                ],
                "coverage": {
                    "mapped": mapped, "proxied": proxied, "no_emission": no_emission, "unmapped": unmapped,
                },
                "provisional": time[:7] not in closed if time else whole,
                "_links": {"lineage": lineage(asked, group)},
            }
        )  # fmt: skip
    return found


def _by_provider(coverage: Sequence[Coverage]) -> list[ProviderCoverage]:
    found: dict[str | None, ProviderCoverage] = {}
    for part in coverage:
        provider = found.setdefault(part.provider, {"provider": part.provider, "parts": []})
        provider["parts"].append(
            {
                "disposition": cast("Any", part.disposition),
                "currency": part.currency,
                "line_count": part.line_count,
                "billed_cost": part.billed_cost,
            }
        )
    return list(found.values())


def _with_times(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of PostgreSQL with its timestamps read."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") and value is not None else value
        for name, value in document.items()
    }
