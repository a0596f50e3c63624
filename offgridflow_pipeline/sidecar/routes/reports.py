"""Reports: editions of a month, their way from draft to issued, and their files."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from offgridflow_pipeline.database.engine import UnknownTenantError
from offgridflow_pipeline.database.pipeline.reports import Decision, Report, ReportArtefact, State
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ReportGeneration
from offgridflow_pipeline.sidecar.answering import answers, downloads, pagination, signed_links
from offgridflow_pipeline.sidecar.answering.public_ids import ReportId, public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, public, requires
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent
from offgridflow_pipeline.sidecar.entrance.problems import not_found, problem_responses
from offgridflow_pipeline.sidecar.report_decisions import decide
from offgridflow_pipeline.sidecar.routes.runs import Run, accepted
from offgridflow_pipeline.sidecar.run_requests import request_run
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(tags=["reports"])
FileName = Annotated[str, Path(description="Name of the file, as the report lists it.", examples=["report.pdf"])]
Link = Annotated[str, Path(description="Last part of a signed link.")]

#: A file, in part or not at all.
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"*/*": {}}},
    206: {"description": "A part of the file."},
    304: {"description": "The client has the file already."},
}


class DecisionMade(BaseModel):
    """Who decided, and when."""

    by: str = Field(examples=["user:7c9e6679-7425-40de-944b-e07fc1f90ae7"])
    at: datetime


class ReportLinks(BaseModel):
    """Where to go from here."""

    self: str
    superseded_by: str | None = Field(None, description="The edition that took its place.")


class ReportSummary(BaseModel):
    """One edition of a month's report."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    id: str = Field(examples=["rep_0f8fad5b-d9cb-469f-a165-70867728950e"])
    period: str = Field(examples=["2026-10"])
    edition: int
    state: State
    prepared_by: str = Field(description="user:<id>, key:<id>, or run:<id> when nobody asked for it.")
    published_at: datetime
    reviewed: DecisionMade | None
    approved: DecisionMade | None
    issued: DecisionMade | None
    links: ReportLinks = Field(alias="_links")


class ArtifactLinks(BaseModel):
    """Where the file is, and where a link to it is made that works without signing in."""

    download: str
    link: str


class Artifact(BaseModel):
    """One file of a report."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: str = Field(examples=["offgridflow-alder-2026-10.pdf"])
    kind: str = Field(examples=["report_pdf"])
    media_type: str
    size_bytes: int
    sha256: str
    validation: Literal["valid", "invalid", "not_validated"] = Field(
        description="Verdict of the validator; not_validated where there is none for the format."
    )
    links: ArtifactLinks = Field(alias="_links")


class ReportDetail(ReportSummary):
    """One edition of a month's report with its files."""

    artifacts: list[Artifact]


class SignedLink(BaseModel):
    """A link that works without signing in, for a short time."""

    url: str
    expires_at: datetime


@router.get(
    "/reports",
    operation_id="list_reports",
    summary="Reports",
    response_model=answers.Page[ReportSummary],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_reports(
    auth: Annotated[Authorization, requires(Permission.REPORTS_READ)],
    period: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{4}(-(0[1-9]|1[0-2]|Q[1-4]|H[12]))?$", description="Month, quarter, half or year alone."),
    ] = None,
    state: Annotated[State | None, Query(description="Reports in this state alone.")] = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Every edition, the newest publication first."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "reports", {"period": period, "state": state})
        found = caller.database.reports.list(
            caller.tenant, limit=limit + 1, after=cursors.read(cursor), period=period, state=state
        )
        rows, next_cursor = pagination.page(found, limit, cursors, key=lambda one: (one.published_at, one.report_id))
    page = answers.Page[ReportSummary](items=[summary_of(report) for report in rows], next_cursor=next_cursor)
    return answers.read(answers.Page[ReportSummary], page)


@router.post(
    "/reports",
    operation_id="create_report",
    summary="Ask for a report",
    status_code=202,
    response_model=Run,
    responses=problem_responses(400, 401, 403, 409, 422, 429),
)
def create_report(
    auth: Annotated[Authorization, requires(Permission.REPORTS_CREATE, makes=Entitlement.REPORTS)],
    body: ReportGeneration,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """Ask for the report of a month: the same as a run of type `report_generation`."""
    with auth.transaction() as caller, idempotent(caller, auth.request, body) as once:
        if once.replay is not None:
            return once.replay
        return once.keep(accepted(request_run(caller, auth.services, auth.request, "report_generation", body)))


@router.get(
    "/reports/{report_id}",
    operation_id="get_report",
    summary="One report",
    response_model=ReportDetail,
    responses=problem_responses(401, 403, 404, 429),
)
def get_report(auth: Annotated[Authorization, requires(Permission.REPORTS_READ)], report_id: ReportId) -> Response:
    """State, decisions and files."""
    identity = uuid_of("rep", report_id)
    with auth.transaction() as caller:
        report = caller.database.reports.get(caller.tenant, identity)
        files = caller.database.reports.artefacts(caller.tenant, identity)
    if report is None:
        raise not_found()
    return answers.read(ReportDetail, detail_of(report, files))


@router.post(
    "/reports/{report_id}/review",
    operation_id="review_report",
    summary="Mark a report as reviewed",
    response_model=ReportSummary,
    responses=problem_responses(401, 403, 404, 409, 429),
)
def review_report(
    auth: Annotated[Authorization, requires(Permission.REPORTS_APPROVE)], report_id: ReportId
) -> Response:
    """draft -> reviewed."""
    return _decided(auth, report_id, "reviewed")


@router.post(
    "/reports/{report_id}/approve",
    operation_id="approve_report",
    summary="Approve a report",
    response_model=ReportSummary,
    responses=problem_responses(401, 403, 404, 409, 429),
)
def approve_report(
    auth: Annotated[Authorization, requires(Permission.REPORTS_APPROVE)], report_id: ReportId
) -> Response:
    """reviewed -> approved, never by the one who prepared it."""
    return _decided(auth, report_id, "approved")


@router.post(
    "/reports/{report_id}/issue",
    operation_id="issue_report",
    summary="Issue a report",
    response_model=ReportSummary,
    responses=problem_responses(401, 403, 404, 409, 429),
)
def issue_report(auth: Annotated[Authorization, requires(Permission.REPORTS_APPROVE)], report_id: ReportId) -> Response:
    """approved -> issued; earlier editions of the period are superseded and stay downloadable."""
    return _decided(auth, report_id, "issued")


@router.get(
    "/reports/{report_id}/artifacts/{name}",
    operation_id="download_artifact",
    summary="Download a file of a report",
    response_class=Response,
    responses={**_FILE, **problem_responses(401, 403, 404, 416, 429, 503)},
)
def download_artifact(
    auth: Annotated[Authorization, requires(Permission.ARTIFACT_DOWNLOAD)], report_id: ReportId, name: FileName
) -> Response:
    """The file as it was published. `Repr-Digest` and `ETag` are its SHA-256; one range may be asked for."""
    return downloads.of_report(auth, report_id, name)


@router.head(
    "/reports/{report_id}/artifacts/{name}",
    operation_id="head_artifact",
    summary="Size and digest of a file of a report",
    response_class=Response,
    responses={304: _FILE[304], **problem_responses(401, 403, 404, 429)},
)
def head_artifact(
    auth: Annotated[Authorization, requires(Permission.ARTIFACT_DOWNLOAD)], report_id: ReportId, name: FileName
) -> Response:
    """The headers of a download, without its bytes."""
    return downloads.of_report(auth, report_id, name)


@router.get(
    "/reports/{report_id}/artifacts/{name}/link",
    operation_id="create_artifact_link",
    summary="A link that works without signing in",
    response_model=SignedLink,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def create_artifact_link(
    auth: Annotated[Authorization, requires(Permission.ARTIFACT_DOWNLOAD)],
    report_id: ReportId,
    name: FileName,
    seconds: Annotated[
        int,
        Query(
            ge=signed_links.SHORTEST_SECONDS,
            le=signed_links.LONGEST_SECONDS,
            description="How long the link works.",
        ),
    ] = signed_links.LONGEST_SECONDS,
) -> Response:
    """A signed link to one file; who made it answers for its downloads in the audit log."""
    identity = uuid_of("rep", report_id)
    with auth.transaction() as caller:
        link = signed_links.create(caller, auth.services, auth.request, identity, name, seconds)
    return answers.written(SignedLink, SignedLink(url=link.url, expires_at=link.expires_at), status=200)


@router.get(
    "/downloads/{link}",
    operation_id="download_by_link",
    summary="Download by a signed link",
    response_class=Response,
    responses={**_FILE, **problem_responses(404, 410, 416, 429, 503)},
)
def download_by_link(services: Annotated[Services, public()], request: Request, link: Link) -> Response:
    """The file that the link names; 410 once it has ended."""
    return _download_by_link(services, request, link)


@router.head(
    "/downloads/{link}",
    operation_id="head_by_link",
    summary="Size and digest by a signed link",
    response_class=Response,
    responses={304: _FILE[304], **problem_responses(404, 410, 429)},
)
def head_by_link(services: Annotated[Services, public()], request: Request, link: Link) -> Response:
    """The headers of the download, without its bytes."""
    return _download_by_link(services, request, link)


def summary_of(report: Report) -> ReportSummary:
    """The report as lists show it."""
    return ReportSummary(**_fields(report))


def detail_of(report: Report, files: list[ReportArtefact]) -> ReportDetail:
    """The report with its files."""
    base = f"/v1/reports/{public_id('rep', report.report_id)}/artifacts"
    artifacts = [
        Artifact(
            name=file.file_name,
            kind=file.kind,
            media_type=file.media_type,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            validation=(file.validation or {}).get("verdict", "not_validated"),
            links=ArtifactLinks(
                download=f"{base}/{quote(file.file_name, safe='')}",
                link=f"{base}/{quote(file.file_name, safe='')}/link",
            ),
        )
        for file in files
    ]
    return ReportDetail(**_fields(report), artifacts=artifacts)


def _fields(report: Report) -> dict[str, object]:
    def made(by: str | None, at: datetime | None) -> DecisionMade | None:
        return DecisionMade(by=by, at=at) if by is not None and at is not None else None

    identity = public_id("rep", report.report_id)
    newer = public_id("rep", report.superseded_by) if report.superseded_by else None
    return {
        "id": identity,
        "period": report.period,
        "edition": report.edition,
        "state": report.state,
        "prepared_by": report.prepared_by,
        "published_at": report.published_at,
        "reviewed": made(report.reviewed_by, report.reviewed_at),
        "approved": made(report.approved_by, report.approved_at),
        "issued": made(report.issued_by, report.issued_at),
        "links": ReportLinks(self=f"/v1/reports/{identity}", superseded_by=f"/v1/reports/{newer}" if newer else None),
    }


def _decided(auth: Authorization, report_id: str, decision: Decision) -> Response:
    identity = uuid_of("rep", report_id)
    with auth.transaction() as caller:
        report = decide(caller, auth.request, identity, decision)
    return answers.written(ReportSummary, summary_of(report), status=200)


def _download_by_link(services: Services, request: Request, link: str) -> Response:
    claims = signed_links.opened(link, services.pepper)
    try:
        with services.database.tenant(claims.tenant) as scope:
            prepared = signed_links.redeem(request, services, services.database.within(scope), claims)
    except UnknownTenantError:
        raise not_found() from None
    return downloads.answer(prepared)
