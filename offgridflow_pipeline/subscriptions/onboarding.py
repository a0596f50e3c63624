"""Onboarding: from the first payment or trial to the first report, without anybody asking.

due -> reading: the bills of the plan's history, month by month, once a connection is there -> reporting: the report of
the last complete month, when every reading has ended -> done: owners and admins are told. One step per call, each in
one transaction; a subscription that stops meanwhile lets the steps wait.
"""

from __future__ import annotations

import logging
from datetime import date, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.job_requests import ReportGeneration
from offgridflow_pipeline.months import first_day, month_of, shifted
from offgridflow_pipeline.notifications.notices import TOLD_ROLES
from offgridflow_pipeline.subscriptions.billing_mails import BillingMail, write_mails
from offgridflow_pipeline.subscriptions.entitlements import standing
from offgridflow_pipeline.subscriptions.reading_jobs import REQUESTED_BY, ask_for_bills

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.money.subscriptions import Onboarding
    from offgridflow_pipeline.settings import Settings

log = logging.getLogger("offgridflow.billing")


def onboard(
    database: Database, settings: Settings, now: datetime, *, traceparent: str | None = None
) -> dict[str, Onboarding]:
    """Take the step that is due for every tenant that is being onboarded; returns the tenants that took one.

    `traceparent`: of the run that takes them, for the jobs that are asked for.
    """
    taken: dict[str, Onboarding] = {}
    for tenant in database.subscriptions.being_onboarded():
        try:
            step = take_step(database, settings, tenant, now, traceparent=traceparent)
        except Exception:
            log.exception("Could not bring the onboarding of %s forward.", tenant)  # the others are not kept waiting
            continue
        if step is not None:
            taken[tenant] = step
    return taken


def take_step(
    database: Database, settings: Settings, tenant: str, now: datetime, *, traceparent: str | None = None
) -> Onboarding | None:
    """Take the tenant's next step, if it is due; returns where the tenant is then."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        row = bound.subscriptions.get(tenant, for_update=True)
        stored = bound.subscriptions.standing(tenant)
        stands = standing(settings, stored.plan, stored.state)
        if row is None or not stands.works:
            return None
        step: Onboarding | None = None
        match row.onboarding:
            case "due" if bound.connections.list(tenant, paused=False):
                ask_for_bills(bound, settings, tenant, stands.plan, now.date(), traceparent=traceparent)
                step = "reading"
            case "reading" if not bound.jobs.is_open(tenant, "connector_sync", REQUESTED_BY):
                trace = _trace_of_reading(bound, tenant) or traceparent
                step = _ask_for_report(bound, settings, tenant, now.date(), trace)
            case "reporting" if not bound.jobs.is_open(tenant, "report_generation", REQUESTED_BY):
                _tell(bound, tenant, now)
                step = "done"
        if step is not None:
            bound.subscriptions.onboard(tenant, step)
    return step


def _trace_of_reading(bound: Database, tenant: str) -> str | None:
    """Trace of the jobs that read the bills: whichever run finds them ended, the report goes on with theirs."""
    jobs = bound.jobs.list(tenant, limit=100, job_type="connector_sync")
    return next((job.traceparent for job in jobs if job.requested_by == REQUESTED_BY and job.traceparent), None)


def _ask_for_report(
    bound: Database, settings: Settings, tenant: str, today: date, traceparent: str | None
) -> Onboarding:
    """Ask for the report of the last complete month; done at once where history begins after it."""
    month = shifted(f"{today:%Y-%m}", -1)
    if first_day(month) < settings.history_start.replace(day=1):
        return "done"
    bound.jobs.add(
        tenant,
        job_type="report_generation",
        payload=ReportGeneration(month=month).document(),
        requested_by=REQUESTED_BY,
        traceparent=traceparent,
    )
    return "reporting"


def _tell(bound: Database, tenant: str, now: datetime) -> None:
    """Mail how the first report ended to owners and admins: nobody asked for it, so the job itself tells nobody."""
    jobs = bound.jobs.list(tenant, limit=100, job_type="report_generation")
    job = next((job for job in jobs if job.requested_by == REQUESTED_BY), None)
    month = month_of(job.payload.get("month")) if job else None
    if job is None or month is None or job.status == "cancelled":
        return
    report_id = (job.result or {}).get("report_id")
    mail = (
        BillingMail("report_ready", str(job.job_id), {"period": month, "report_id": report_id})
        if job.status == "completed" and report_id
        else BillingMail("report_failed", str(job.job_id), {"period": month})
    )
    write_mails(bound, tenant, [mail], now, TOLD_ROLES)
