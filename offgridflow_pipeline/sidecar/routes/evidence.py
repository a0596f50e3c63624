"""Evidence: single ledger lines, why a line has its figures, and the factor register. For those who may read evidence.

Lines are read from the lake, a bounded page at a time; nothing here is computed but the proof of an arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field
from typing_extensions import TypedDict

from offgridflow_pipeline.decimal_text import exact_text
from offgridflow_pipeline.factors.listing import listed
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.answering import answers, caching, pagination
from offgridflow_pipeline.sidecar.answering.explained import Explanation, FactorRow, explanation, factor_row
from offgridflow_pipeline.sidecar.answering.questions import MAXIMUM_LINE_DAYS, Filter, From, To, question
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import not_found, problem_responses

router = APIRouter(tags=["evidence"])

Exact = Annotated[str | None, Field(description="Exact decimal.")]


class LineLinks(TypedDict):
    """Where the line's figures come from."""

    lineage: str


class LedgerLine(TypedDict):
    """One line of the ledger: a billed row with its verdict, energy (kWh) and emissions (kgCO2e)."""

    line_id: str
    usage_date: date
    provider: str | None
    account: str | None
    service_code: str | None
    service: str | None
    region: str | None
    resource: str | None
    charge_category: str | None
    currency: str | None
    billed_cost: Exact
    quantity: Exact
    unit: str | None
    disposition: str
    reason: str | None
    rule_id: str
    component: str | None
    scope: str | None
    s3_category: int | None
    kwh: Exact
    co2e_location_kg: Exact
    co2e_market_kg: Exact
    embodied_kg: Exact
    upstream_energy_kg: Exact
    dq_score: int | None
    flags: list[str]
    source_object_sha256: str
    source_row: int
    _links: LineLinks


class LinesPage(TypedDict):
    """One page of ledger lines, by day and line id."""

    items: list[LedgerLine]
    next_cursor: str | None


class FactorsPage(TypedDict):
    """One page of the factor register, by key and uid."""

    factor_set: str
    factor_set_sha: str
    items: list[FactorRow]
    next_cursor: str | None


@router.get(
    "/emissions/lines",
    operation_id="list_emission_lines",
    summary="Lines of the ledger",
    response_model=LinesPage,
    responses={**caching.NOT_MODIFIED, **problem_responses(400, 401, 403, 422, 429, 503)},
)
def list_emission_lines(
    auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)],
    first: From,
    last: To,
    scope: Filter = None,
    provider: Filter = None,
    account: Filter = None,
    service: Filter = None,
    region: Filter = None,
    disposition: Filter = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Single lines of at most 31 days, a page at a time."""
    from offgridflow_pipeline.inventory.ledger_lines import days_between, ledger_page

    asked = question(
        first, last, maximum_days=MAXIMUM_LINE_DAYS, scope=scope, provider=provider, account=account, service=service,
        region=region, disposition=disposition,
    )  # fmt: skip
    with auth.transaction() as caller:
        tenant = caller.tenant
        cursors = pagination.cursors(auth.services, caller, "emissions/lines", asked.as_asked())
        after = cursors.read(cursor)
    # The ledger is committed before its totals are published: its own version is what these rows depend on.
    version = auth.services.lake.version(tenant, "emission_lines")
    tag = caching.tag(auth.request, caller, f"ledger-{version}")
    if caching.matches(auth.request, tag):
        return caching.not_modified(tag)
    with auth.services.lake_reads.engine(tenant) as engine:
        rows = ledger_page(
            engine, auth.services.lake, tenant, days_between(first, last), version=version, filters=asked.filters,
            after=None if after is None else (after[0], after[1]), limit=limit + 1,
        )  # fmt: skip
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row["usage_date"], row["line_id"]))
    answer: LinesPage = {"items": [_line(row) for row in page], "next_cursor": next_cursor}
    return answers.read(LinesPage, answer, tag)


@router.get(
    "/explain/{line_id}",
    operation_id="explain_emission_line",
    summary="Why a line has its figures",
    response_model=Explanation,
    responses=problem_responses(401, 403, 404, 422, 429, 503),
)
def explain_emission_line(
    auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)],
    line_id: Annotated[str, Path(pattern=r"^[A-Za-z0-9_.:-]{1,128}$", description="Id of the ledger line.")],
    day: Annotated[date | None, Query(description="Its usage date, where known: then one day is searched.")] = None,
) -> Response:
    """From the figures of one line back to usage, rule, arithmetic, factors with sources, and the billed row."""
    from offgridflow_pipeline.inventory.ledger_lines import explained

    with auth.transaction() as caller:
        tenant, tenant_id = caller.tenant, caller.tenant_id
    with auth.services.lake_reads.engine(tenant) as engine:
        found = explained(engine, auth.services.lake, tenant, line_id, day)
    if found is None or tenant_id is None:
        raise not_found()
    line, usage = found
    with auth.services.database.requests.by_tenant(tenant_id, tenant) as database:
        source = database.emissions.source_object(tenant, line["source_object_sha256"])
    return answers.read(Explanation, explanation(auth.services.factor_set, line, usage, source))


@router.get(
    "/factors",
    operation_id="list_factors",
    summary="The factor register",
    response_model=FactorsPage,
    responses={**caching.NOT_MODIFIED, **problem_responses(400, 401, 403, 422, 429)},
)
def list_factors(
    auth: Annotated[Authorization, requires(Permission.EVIDENCE_READ)],
    key: Annotated[str, Query(max_length=200, description="Beginning of the key: grid.location/FR.")] = "",
    region: Annotated[str, Query(max_length=100, description="Country or region code: FR, eu-west-1.")] = "",
    year: Annotated[int | None, Query(ge=1900, le=2200, description="Valid in this year.")] = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Factors and coefficients with source, licence and validity. Values that may not be passed on are masked."""
    factor_set = auth.services.factor_set
    with auth.transaction() as caller:
        tag = caching.tag(auth.request, caller, factor_set.sha[:16])
        if caching.matches(auth.request, tag):
            return caching.not_modified(tag)
        cursors = pagination.cursors(
            auth.services, caller, "factors", {"key": key, "region": region, "year": year, "set": factor_set.sha}
        )
        after = cursors.read(cursor)
    rows = listed(
        factor_set, key=key, region=region, year=year, after=None if after is None else (after[0], after[1]),
        limit=limit + 1,
    )  # fmt: skip
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.factor_key, row.factor_uid))
    answer: FactorsPage = {
        "factor_set": f"{factor_set.name} {factor_set.semver}",
        "factor_set_sha": factor_set.sha,
        "items": [factor_row(factor_set, row) for row in page],
        "next_cursor": next_cursor,
    }
    return answers.read(FactorsPage, answer, tag)


def _line(row: Mapping[str, Any]) -> LedgerLine:
    def exact(name: str) -> str | None:
        value: Decimal | None = row[name]
        return None if value is None else exact_text(value)

    return {
        "line_id": row["line_id"],
        "usage_date": row["usage_date"],
        "provider": row["x_Provider"],
        "account": row["SubAccountId"],
        "service_code": row["x_ServiceCode"],
        "service": row["ServiceName"],
        "region": row["RegionId"],
        "resource": row["ResourceId"],
        "charge_category": row["ChargeCategory"],
        "currency": row["BillingCurrency"],
        "billed_cost": exact("billed_cost"),
        "quantity": exact("norm_quantity"),
        "unit": row["norm_unit"],
        "disposition": row["disposition"],
        "reason": row["reason"],
        "rule_id": row["rule_id"],
        "component": row["component"],
        "scope": row["scope"],
        "s3_category": row["s3_category"],
        "kwh": exact("kwh"),
        "co2e_location_kg": exact("co2e_lbm_kg"),
        "co2e_market_kg": exact("co2e_mbm_kg"),
        "embodied_kg": exact("embodied_kg"),
        "upstream_energy_kg": exact("upstream_energy_kg"),
        "dq_score": row["dq_score"],
        "flags": row["flags"] or [],
        "source_object_sha256": row["source_object_sha256"],
        "source_row": row["row_no"],
        "_links": {"lineage": f"/v1/explain/{row['line_id']}?day={row['usage_date']}"},
    }
