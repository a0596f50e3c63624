"""Reports: editions, the way from draft to issued, the second person, and data versions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.reports import Report, ReportStateError
from offgridflow_pipeline.database.statements import RecordError

PERIOD = "2026-09"
ADA, GRACE = f"user:{uuid.UUID(int=1)}", f"user:{uuid.UUID(int=2)}"


class Desk:
    """One tenant's reports: published by the pipeline, decided by the sidecar."""

    def __init__(self, pipeline: Database, api: Database, tenant: str) -> None:
        self.pipeline, self.api, self.tenant = pipeline, api, tenant

    def publish(self, content: str, by: str = ADA) -> Report:
        """Publish the month's PDF with these bytes."""
        register = self.pipeline.report_register
        register.record(
            tenant=self.tenant, period=PERIOD, kind="report_pdf", file_name="report.pdf", sha256=content * 64,
            size_bytes=1, media_type="application/pdf", run_id="r",
        )  # fmt: skip
        with self.pipeline.tenant(self.tenant) as scope:
            bound = self.pipeline.within(scope)
            editions = bound.report_register.publish(self.tenant, PERIOD, ["report_pdf"], run_id="r")
            report, _ = bound.reports.publish(self.tenant, PERIOD, editions, run_id="r", prepared_by=by)
        return report

    def decide(self, report: Report, *decisions: str, by: str = GRACE) -> Report:
        for decision in decisions:
            report, _ = self.api.reports.decide(self.tenant, report.report_id, decision, by=by)
        return report

    def states(self) -> dict[int, str]:
        return {report.edition: report.state for report in self.api.reports.list(self.tenant, limit=9)}

    def write(self, statement: str, report: Report) -> None:
        """As the sidecar, past the repositories."""
        with self.api.tenant(self.tenant) as scope:
            scope.connection.execute(sa.text(f"{statement} where report_id = :id"), {"id": report.report_id})


@pytest.fixture
def desk(database: Database, api_database: Database, new_tenant: Callable[[], str]) -> Desk:
    return Desk(database, api_database, new_tenant())


def test_the_same_artefacts_published_again_are_the_same_report(desk: Desk) -> None:
    first = desk.publish("a")
    assert desk.publish("a", by=GRACE) == first
    assert desk.states() == {1: "draft"}


def test_a_new_edition_takes_the_place_of_drafts_and_reviewed_ones_but_not_of_what_was_approved(desk: Desk) -> None:
    first = desk.publish("a")
    second = desk.publish("b")
    assert desk.states() == {2: "draft", 1: "superseded"}
    assert desk.api.reports.get(desk.tenant, first.report_id).superseded_by == second.report_id
    desk.decide(second, "reviewed", "approved")
    desk.publish("c")
    assert desk.states() == {3: "draft", 2: "approved", 1: "superseded"}


@pytest.mark.req("V7")
def test_an_issued_report_is_superseded_by_the_next_issue_and_keeps_its_files(desk: Desk) -> None:
    first = desk.decide(desk.publish("a"), "reviewed", "approved", "issued")
    second = desk.publish("b")
    assert desk.states() == {2: "draft", 1: "issued"}
    desk.decide(second, "reviewed", "approved", "issued")
    assert desk.states() == {2: "issued", 1: "superseded"}
    (file,) = desk.api.reports.artefacts(desk.tenant, first.report_id)
    assert file.sha256 == "a" * 64
    assert desk.api.reports.get(desk.tenant, first.report_id).issued_by == GRACE


@pytest.mark.req("L7")
def test_who_prepared_a_report_does_not_approve_it_and_the_database_says_so_too(desk: Desk) -> None:
    report = desk.decide(desk.publish("a"), "reviewed")
    with pytest.raises(ReportStateError, match="second person") as refused:
        desk.decide(report, "approved", by=ADA)
    assert refused.value.code == "same_person"
    with pytest.raises(sa.exc.IntegrityError, match="reports_second_person"):
        desk.write(f"update ogf.reports set state = 'approved', approved_by = '{ADA}', approved_at = now()", report)
    assert desk.decide(report, "approved").approved_by == GRACE


@pytest.mark.req("L7")
def test_a_key_is_no_second_person_for_who_created_it(desk: Desk) -> None:
    with desk.pipeline.admin_engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into ogf.api_keys (tenant_id, key_id, secret_sha256, name, permissions, created_by, expires_at)"
                " select tenant_id, 'abcdefghij', sha256('x'), 'k', '{reports:create}', :by, now() + interval '1 day'"
                " from ogf.tenants where slug = :tenant"
            ),
            {"by": GRACE, "tenant": desk.tenant},
        )
    report = desk.decide(desk.publish("a", by="key:abcdefghij"), "reviewed")
    with pytest.raises(ReportStateError, match="second person"):
        desk.decide(report, "approved", by=GRACE)
    assert desk.decide(report, "approved", by=ADA).state == "approved"


@pytest.mark.req("L7")
@pytest.mark.parametrize(
    ("done", "wanted"),
    [
        ((), "approved"),
        ((), "issued"),
        (("reviewed",), "issued"),
        (("reviewed", "approved", "issued"), "reviewed"),
    ],
)
def test_no_state_is_skipped_or_taken_back(desk: Desk, done: tuple[str, ...], wanted: str) -> None:
    report = desk.decide(desk.publish("a"), *done)
    with pytest.raises(ReportStateError) as refused:
        desk.decide(report, wanted, by=ADA if wanted == "reviewed" else GRACE)
    assert refused.value.code == "wrong_state"
    with pytest.raises(sa.exc.IntegrityError):
        desk.write(f"update ogf.reports set state = '{wanted}', {wanted}_by = 'user:x', {wanted}_at = now()", report)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("approved_by = 'user:x'", "what was decided"),
        ("issued_at = now()", "what was decided"),
        ("state = 'draft'", "cannot become"),
    ],
)
def test_what_was_decided_is_not_rewritten(desk: Desk, change: str, constraint: str) -> None:
    report = desk.decide(desk.publish("a"), "reviewed", "approved", "issued")
    with pytest.raises(sa.exc.IntegrityError, match=constraint):
        desk.write(f"update ogf.reports set {change}", report)


def test_the_preparer_cannot_be_changed_to_somebody_else(desk: Desk) -> None:
    report = desk.publish("a")
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        desk.write("update ogf.reports set prepared_by = 'user:x'", report)
    with pytest.raises(sa.exc.IntegrityError, match="publish a new edition"), desk.pipeline.admin_engine.begin() as db:
        db.execute(
            sa.text("update ogf.reports set prepared_by = 'user:x' where report_id = :id"), {"id": report.report_id}
        )


def test_deciding_again_as_the_same_person_changes_nothing(desk: Desk) -> None:
    report = desk.decide(desk.publish("a"), "reviewed")
    assert desk.api.reports.decide(desk.tenant, report.report_id, "reviewed", by=GRACE) == (report, False)


def test_two_who_approve_at_once_approve_once(desk: Desk) -> None:
    report = desk.decide(desk.publish("a", by="run:r"), "reviewed")

    def approve(by: str) -> str:
        try:
            return desk.decide(report, "approved", by=by).approved_by
        except ReportStateError as refused:
            return refused.code

    with ThreadPoolExecutor(2) as pool:
        answers = set(pool.map(approve, (ADA, GRACE)))
    winner = desk.api.reports.get(desk.tenant, report.report_id).approved_by
    assert answers == {winner, "wrong_state"}


def test_an_older_edition_is_not_issued_after_a_newer_one(desk: Desk) -> None:
    older = desk.decide(desk.publish("a"), "reviewed", "approved")
    newer = desk.decide(desk.publish("b"), "reviewed", "approved")
    with desk.pipeline.admin_engine.begin() as db:  # as if both had been issued at the same moment
        db.execute(
            sa.text(
                "update ogf.reports set state = 'issued', issued_by = 'user:x', issued_at = now() where report_id = :id"
            ),
            {"id": newer.report_id},
        )
    with pytest.raises(ReportStateError, match="Edition 2"):
        desk.decide(older, "issued")


def test_a_report_whose_artefact_is_missing_is_not_published_at_all(desk: Desk) -> None:
    with pytest.raises(RecordError):
        desk.pipeline.reports.publish(desk.tenant, PERIOD, {"report_pdf": 7}, run_id="r", prepared_by=ADA)
    assert desk.states() == {}


def test_a_name_finds_the_file_of_its_own_report_only(desk: Desk, new_tenant: Callable[[], str]) -> None:
    report = desk.publish("a")
    find = desk.api.reports.artefact
    assert find(desk.tenant, report.report_id, "report.pdf").sha256 == "a" * 64
    for name in ("../report.pdf", "report.PDF", "", "report.pdf\0", "report_pdf"):
        assert find(desk.tenant, report.report_id, name) is None
    assert find(new_tenant(), report.report_id, "report.pdf") is None


def test_the_verdict_of_the_validator_is_shown_with_its_file(desk: Desk) -> None:
    report = desk.publish("a")
    desk.pipeline.report_register.validated(desk.tenant, PERIOD, "report_pdf", "a" * 64, {"verdict": "valid"})
    desk.pipeline.report_register.validated(desk.tenant, PERIOD, "report_pdf", "b" * 64, {"verdict": "invalid"})
    (file,) = desk.api.reports.artefacts(desk.tenant, report.report_id)
    assert file.validation == {"verdict": "valid"}


def test_data_versions_count_publications_without_gap_whoever_publishes_at_once(desk: Desk) -> None:
    publications = desk.pipeline.publications
    assert publications.current(desk.tenant) == 0
    with ThreadPoolExecutor(4) as pool:
        versions = list(
            pool.map(
                lambda n: publications.bump(desk.tenant, "totals", {"scope_totals": n, "none": None}, "r"), range(8)
            )
        )
    assert sorted(versions) == list(range(1, 9))
    assert desk.api.publications.current(desk.tenant) == 8


def test_a_version_is_read_as_of_the_newest_publication_of_its_kind(desk: Desk) -> None:
    publications = desk.pipeline.publications
    publications.bump(desk.tenant, "totals", {"scope_totals": 4, "missing": None}, "r1")
    publications.bump(desk.tenant, "report", {"report_facts": 1}, "r2")
    found = desk.api.publications.as_of(desk.tenant, "totals", 2)
    assert (found.data_version, found.lake_versions, found.run_id) == (1, {"scope_totals": 4}, "r1")
    assert desk.api.publications.as_of(desk.tenant, "report", 1) is None


def test_a_version_of_a_transaction_that_failed_was_never_there(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError), desk.pipeline.tenant(desk.tenant) as scope:
        desk.pipeline.within(scope).publications.bump(desk.tenant, "totals", {}, "r")
        raise ZeroDivisionError
    assert desk.pipeline.publications.current(desk.tenant) == 0
