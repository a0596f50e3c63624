"""From an invitation to a downloaded report, in a real browser over real processes; and the same with everything killed.

What must hold at the end, whatever was killed in between: one report, one mail, one unbroken audit trail.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openpyxl import load_workbook

from offgridflow_pipeline.identity.chains import ChainWalk
from offgridflow_pipeline_tests.counterparts.browser import browser
from offgridflow_pipeline_tests.counterparts.otlp import Collector, attributes_of, collector
from offgridflow_pipeline_tests.counterparts.smtp import MailServer, smtp_server
from offgridflow_pipeline_tests.journey.stack import (
    FIRST,
    LAST,
    MONTH,
    OWNER,
    PASSWORD,
    Stack,
    installation,
    sign_in,
    until,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ANALYST = "amir@cedarvane.example"


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with smtp_server(tmp_path_factory.mktemp("smtp")) as server:
        yield server


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def stack(mail: MailServer, telemetry: Collector) -> Iterator[Stack]:
    """Everything runs, and the month's bills have been read: asked for through the API."""
    with installation(mail, telemetry) as made:
        made.start_sidecar()
        made.start_daemon()
        job = made.ask_for("connector_sync", {"first": FIRST, "last": LAST})
        ended = made.wait_for_job(job, 240)
        assert ended["status"] == "completed", ended
        yield made


def invite_and_accept(page: Page, stack: Stack, email: str) -> None:
    sign_in(page, stack, OWNER)
    page.goto(f"{stack.url}/members")
    page.fill("form[action='/members/invitations'] [name=email]", email)
    page.select_option("form[action='/members/invitations'] [name=role]", "analyst")
    page.click("form[action='/members/invitations'] button[type=submit]")
    link = stack.link_mailed_to(email, "invitation?token=")
    page.context.clear_cookies()
    page.goto(link)
    page.fill("form[action='/invitation'] [name=name]", "Amir Haddad")
    page.fill("form[action='/invitation'] [name=password]", PASSWORD)
    page.click("form[action='/invitation'] button[type=submit]")
    page.wait_for_load_state()
    assert "token" not in page.url


def ask_for_the_report(page: Page, stack: Stack) -> str:
    """Ask in the portal; returns the job's id."""
    page.goto(f"{stack.url}/reports")
    page.select_option("form[action='/reports'] [name=month]", MONTH)
    page.click("form[action='/reports'] button[type=submit]")
    page.wait_for_url(f"{stack.url}/reports/jobs/job_*")
    return page.url.rpartition("/")[2].partition("?")[0]


def download(page: Page, suffix: str, folder: Path) -> Path:
    with page.expect_download() as started:
        page.click(f"a[href*='/files/'][href$='{suffix}']")
    target = folder / started.value.suggested_filename
    started.value.save_as(target)
    return target


def test_an_invited_analyst_asks_for_a_report_is_told_by_mail_and_downloads_it(
    stack: Stack, mail: MailServer, telemetry: Collector, tmp_path: Path
) -> None:
    with browser() as chromium:
        page = chromium.new_page()
        invite_and_accept(page, stack, ANALYST)
        sign_in(page, stack, ANALYST)
        job = ask_for_the_report(page, stack)
        ended = stack.wait_for_job(job)
        assert ended["status"] == "completed", ended
        told = until(
            lambda: next((m for m in mail.received if ended["result"]["report_id"] in m.part("plain")), None),
            40,
            "mail",
        )
        assert told.recipients == [ANALYST]
        page.goto(f"{stack.url}/reports/{ended['result']['report_id']}")
        files = {suffix: download(page, suffix, tmp_path) for suffix in (".pdf", ".xhtml", ".xlsx")}
        stated = {a["name"]: a["sha256"] for a in ended["result"]["artefacts"]}
        for path in files.values():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == stated[path.name]
        assert files[".pdf"].read_bytes().startswith(b"%PDF-")
        assert "Statement" in load_workbook(files[".xlsx"]).sheetnames
    actions = Counter(event["action"] for event in trail(stack))
    assert actions["report:artifact:download"] == 3
    assert actions["members:invitation:accepted"] == 1
    the_request_and_the_asset_steps_are_one_trace(telemetry)


def the_request_and_the_asset_steps_are_one_trace(telemetry: Collector) -> None:
    def of_request() -> bytes | None:
        asked = [s for s in telemetry.spans if s.name.startswith("POST") and s.name.endswith("/reports")]
        steps = {s.trace_id for s in telemetry.spans if "report_pdf" in str(attributes_of(s.attributes).values())}
        return next((s.trace_id for s in asked if s.trace_id in steps), None)

    assert until(of_request, 60, "one trace of request and asset step")


def test_killed_between_any_two_steps_there_is_one_report_one_mail_and_one_trail(
    stack: Stack, mail: MailServer
) -> None:
    # A new name makes a new report: the same figures under the same name would be the edition that is there.
    stack.database.tenants.change(stack.tenant.slug, {"display_name": "Cedarvane & Daughters"})
    before, mails, reports = trail(stack), len(mail.received), editions(stack)
    stack.kill("daemon")
    with browser() as chromium:
        page = chromium.new_page()
        sign_in(page, stack, OWNER)
        job = ask_for_the_report(page, stack)
    stack.kill("sidecar")  # between the request and its launch
    stack.kill_database()
    stack.start_sidecar()
    stack.start_daemon()
    first = stack.run_between_steps(job)
    assert stack.kill_run_workers() >= 1
    second = stack.run_between_steps(job, [first])
    stack.cut_power()  # nobody is left to report that run: the watchdog must
    stack.run_between_steps(job, [first, second])
    stack.kill_database()
    ended = stack.wait_for_job(job)
    assert ended["status"] == "completed", ended
    told = until(lambda: reports_mailed(mail, mails) or None, 60, "the mail")
    assert len(told) == 1
    assert editions(stack) == [*reports, len(reports) + 1]
    since = trail(stack)[len(before) :]
    happened = Counter(e["action"] for e in since if e["target"] == job or e["action"] == "report:published")
    assert (happened["runs:completed"], happened["runs:failed"], happened["report:published"]) == (1, 0, 1)


def editions(stack: Stack) -> list[int]:
    """Editions of the month's report, as the API lists them."""
    found = stack.api("GET", "/v1/reports").json()["items"]
    return sorted(r["edition"] for r in found if r["period"] == MONTH)


def reports_mailed(mail: MailServer, after: int) -> list[Any]:
    """Mails with a link to a report, after the first so many."""
    return [m for m in mail.received[after:] if "/reports/" in m.part("plain")]


def trail(stack: Stack) -> list[dict[str, Any]]:
    """The company's audit events; their chain is checked on the way."""
    tenant = stack.tenant.slug
    events = stack.database.audit_log.events(tenant, after=0, limit=10_000)
    walk = ChainWalk(tenant)
    for event in events:
        walk.step(event)
    return [json.loads(event.body) for event in events]
