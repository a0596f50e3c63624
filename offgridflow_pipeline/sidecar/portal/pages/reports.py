"""Reports: ask for one, watch it being made, take it from draft to issued, download its files."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ReportGeneration
from offgridflow_pipeline.months import first_day, shifted
from offgridflow_pipeline.sidecar.answering import downloads, pagination
from offgridflow_pipeline.sidecar.answering.public_ids import public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.sidecar.report_decisions import decide
from offgridflow_pipeline.sidecar.run_requests import request_run
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from offgridflow_pipeline.database.pipeline.jobs import Job
    from offgridflow_pipeline.database.pipeline.reports import Decision, Report
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

router = APIRouter(include_in_schema=False)
REPORTS_PER_PAGE = 25
#: Months that the form offers.
MONTHS_OFFERED = 24
JOBS_SHOWN = 10
RELOAD_SECONDS = 10
_DECISIONS: dict[str, Decision] = {"review": "reviewed", "approve": "approved", "issue": "issued"}
_NEXT = {"draft": "review", "reviewed": "approve", "approved": "issue"}


@router.get("/reports")
def reports_page(
    auth: Annotated[Authorization, requires(Permission.REPORTS_READ)],
    cursor: Annotated[str | None, Query(max_length=2048)] = None,
) -> Response:
    """Reports, what is being made, and the form to ask for one."""
    return _reports(auth, cursor=cursor)


@router.post("/reports")
def request_report(
    auth: Annotated[Authorization, requires(Permission.REPORTS_CREATE, makes=Entitlement.REPORTS)], month: Field = ""
) -> Response:
    """Ask for the report of a month."""
    try:
        with auth.transaction() as caller:
            job = request_run(caller, auth.services, auth.request, "report_generation", ReportGeneration(month=month))
    except ValueError:
        return _reports(auth, refused="month_not_ended")
    except Problem as problem:
        if problem.status not in {409, 422}:
            raise
        return _reports(auth, refused=problem.code)
    return see_other(f"/reports/jobs/{public_id('job', job.job_id)}?done=report_requested")


@router.get("/reports/jobs/{job_id}")
def job_page(auth: Annotated[Authorization, requires(Permission.REPORTS_READ)], job_id: str) -> Response:
    """How far a report is; the page loads itself again until the work is settled."""
    with auth.transaction() as caller:
        job = caller.database.jobs.get(caller.tenant, uuid_of("job", job_id))
        if job is None or job.type != "report_generation":
            raise not_found()
        report = caller.database.reports.of_run(caller.tenant, job.run_id) if job.run_id else None
        people = people_of(caller)
    response = page(
        auth.request,
        "job.html",
        caller,
        job=job,
        job_id=job_id,
        job_month=_month_of,
        people=people,
        report=public_id("rep", report.report_id) if report else None,
    )
    if not job.is_settled:
        response.headers["Refresh"] = f"{RELOAD_SECONDS}; url=/reports/jobs/{job_id}"
    return response


@router.get("/reports/{report_id}")
def report_page(auth: Annotated[Authorization, requires(Permission.REPORTS_READ)], report_id: str) -> Response:
    """One edition: where it stands, what may be decided, its files."""
    return _report(auth, report_id)


@router.post("/reports/{report_id}/{verb}")
def decide_report(
    auth: Annotated[Authorization, requires(Permission.REPORTS_APPROVE)], report_id: str, verb: str
) -> Response:
    """Review, approve or issue."""
    if verb not in _DECISIONS:
        raise not_found()
    decision = _DECISIONS[verb]
    try:
        with auth.transaction() as caller:
            decide(caller, auth.request, uuid_of("rep", report_id), decision)
    except Problem as problem:
        if problem.code not in {"same_person", "wrong_state", "newer_issued"}:
            raise
        return _report(auth, report_id, refused=problem)
    return see_other(f"/reports/{report_id}?done={decision}")


@router.get("/reports/{report_id}/files/{name}")
def download_file(
    auth: Annotated[Authorization, requires(Permission.ARTIFACT_DOWNLOAD)], report_id: str, name: str
) -> Response:
    """The file, as the API sends it."""
    return downloads.of_report(auth, report_id, name)


def _reports(auth: Authorization, *, cursor: str | None = None, refused: str | None = None) -> Response:
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "portal/reports")
        found = caller.database.reports.list(caller.tenant, limit=REPORTS_PER_PAGE + 1, after=cursors.read(cursor))
        rows, next_cursor = pagination.page(
            found, REPORTS_PER_PAGE, cursors, key=lambda report: (report.published_at, report.report_id)
        )
        jobs = caller.database.jobs.list(caller.tenant, limit=JOBS_SHOWN, job_type="report_generation")
        people = people_of(caller)
    texts = Texts(language_for(auth.request, caller))
    return page(
        auth.request,
        "reports.html",
        caller,
        status=200 if refused is None else 422,
        reports=rows,
        next_cursor=next_cursor,
        jobs=[job for job in jobs if not job.is_settled or job.status == "failed"],
        job_month=_month_of,
        public_id=public_id,
        people=people,
        period=_period(texts),
        choices=_choices(texts, auth.services.settings.history_start),
        refusal=None if refused is None else refusal_text(auth.request, refused, caller),
    )


def _report(auth: Authorization, report_id: str, refused: Problem | None = None) -> Response:
    identity = uuid_of("rep", report_id)
    with auth.transaction() as caller:
        report = caller.database.reports.get(caller.tenant, identity)
        if report is None:
            raise not_found()
        artefacts = caller.database.reports.artefacts(caller.tenant, identity)
        people = people_of(caller)
    texts = Texts(language_for(auth.request, caller))
    return page(
        auth.request,
        "report.html",
        caller,
        status=200 if refused is None else refused.status,
        report=report,
        report_id=report_id,
        artefacts=artefacts,
        people=people,
        period=_period(texts),
        steps=_steps(report),
        decisions=_decisions(caller, report),
        refusal=None if refused is None else refusal_text(auth.request, refused.code, caller),
    )


def _steps(report: Report) -> list[dict[str, Any]]:
    prepared = {"name": "prepared", "by": report.prepared_by, "at": report.published_at}
    decided = [
        {"name": name, "by": getattr(report, f"{name}_by"), "at": getattr(report, f"{name}_at")}
        for name in ("reviewed", "approved", "issued")
    ]
    return [prepared, *decided]


def _decisions(caller: Caller, report: Report) -> list[dict[str, str | None]]:
    """What the caller may decide next; the database decides again when they do."""
    verb = _NEXT.get(report.state)
    if verb is None or not caller.may(Permission.REPORTS_APPROVE):
        return []
    own = verb == "approve" and report.prepared_by == caller.principal
    return [{"name": _DECISIONS[verb], "verb": verb, "refusal": "report.second_person" if own else None}]


def _choices(texts: Texts, history_start: date) -> list[tuple[str, str]]:
    """Months that have ended, newest first."""
    present = f"{datetime.now(UTC):%Y-%m}"
    months = [shifted(present, -number) for number in range(1, MONTHS_OFFERED + 1)]
    return [(month, texts.month(first_day(month))) for month in months if month >= f"{history_start:%Y-%m}"]


def _month_of(job: Job) -> date:
    return first_day(str(job.payload["month"]))


def _period(texts: Texts) -> Callable[[str], str]:
    """How a period is written: months by name, quarters, halves and years as they are."""
    return lambda text: texts.month(first_day(text)) if len(text) == 7 and text[5].isdigit() else text
