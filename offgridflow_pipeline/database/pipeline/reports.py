"""Reports: editions of a period, each of its artefacts, from draft to issued. States are kept by the database too.

draft -> reviewed -> approved -> issued; superseded by a newer edition. Who may decide what is decided by the caller,
but for one rule: who prepared a report does not approve it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError, one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

State = Literal["draft", "reviewed", "approved", "issued", "superseded"]
Decision = Literal["reviewed", "approved", "issued"]
#: What a report must be before the decision.
BEFORE: Mapping[Decision, State] = {"reviewed": "draft", "approved": "reviewed", "issued": "approved"}


class ReportStateError(ValueError):
    """The report cannot be decided so; `code` is stable, the message names the cure."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Report:
    """One edition of a period's report. People and keys as ``user:<id>``, ``key:<id>`` or ``run:<id>``."""

    report_id: UUID
    period: str
    edition: int
    state: State
    prepared_by: str
    run_id: str
    published_at: datetime
    reviewed_by: str | None
    reviewed_at: datetime | None
    approved_by: str | None
    approved_at: datetime | None
    issued_by: str | None
    issued_at: datetime | None
    superseded_by: UUID | None


@dataclass(frozen=True, slots=True)
class ReportArtefact:
    """A file of a report; `validation` as the validator gave it, None where there is no validator."""

    kind: str
    file_name: str
    sha256: str
    size_bytes: int
    media_type: str
    validation: Mapping[str, Any] | None


_REPORT = ", ".join(Report.__dataclass_fields__)
_MINE = "tenant_id = :tenant_id and report_id = :report_id"
_ARTEFACTS = (
    f"select {', '.join(f'a.{name}' for name in ReportArtefact.__dataclass_fields__)}"
    " from ogf.report_artefacts r join ogf.report_register a on a.tenant_id = r.tenant_id and a.period = r.period"
    " and a.kind = r.kind and a.edition = r.artefact_edition"
    " where r.tenant_id = :tenant_id and r.report_id = :report_id"
)


class Reports:
    """Reports of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(
        self, tenant: str, period: str, artefacts: Mapping[str, int], *, run_id: str, prepared_by: str
    ) -> tuple[Report, bool]:
        """Make the artefacts (kind -> edition) the period's newest report; older drafts and reviewed ones give way.

        The same artefacts are the same report: then it is returned with False, and nothing changed.

        Raises:
            RecordError: an artefact is not in the register, or a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "reports", period)
            newest = next(iter(_select(scope, "period = :period order by edition desc limit 1", period=period)), None)
            if newest is not None and _links(scope, newest.report_id) == dict(artefacts):
                return newest, False
            report = Report(
                *write(
                    scope,
                    "reports",
                    "insert into ogf.reports (tenant_id, period, edition, prepared_by, run_id)"
                    f" values (:tenant_id, :period, :edition, :prepared_by, :run_id) returning {_REPORT}",
                    {
                        "tenant_id": scope.tenant_id,
                        "period": period,
                        "edition": newest.edition + 1 if newest else 1,
                        "prepared_by": prepared_by,
                        "run_id": run_id,
                    },
                ).one()
            )
            for kind, edition in sorted(artefacts.items()):
                write(
                    scope,
                    "report_artefacts",
                    "insert into ogf.report_artefacts (tenant_id, report_id, period, kind, artefact_edition)"
                    " values (:tenant_id, :report_id, :period, :kind, :edition)",
                    {
                        "tenant_id": scope.tenant_id,
                        "report_id": report.report_id,
                        "period": period,
                        "kind": kind,
                        "edition": edition,
                    },
                )
            _supersede(scope, report, ("draft", "reviewed"))
        return report, True

    def get(self, tenant: str, report_id: UUID) -> Report | None:
        """The report; None when the tenant has none of that id."""
        with self._database.tenant(tenant) as scope:
            return next(iter(_select(scope, "report_id = :report_id", report_id=report_id)), None)

    def of_run(self, tenant: str, run_id: str) -> Report | None:
        """The report that the run published; None when it published none, or nothing new."""
        with self._database.tenant(tenant) as scope:
            return next(iter(_select(scope, "run_id = :run_id order by edition desc limit 1", run_id=run_id)), None)

    def newest(self, tenant: str, period: str) -> Report | None:
        """The newest edition of the period; None when there is none."""
        with self._database.tenant(tenant) as scope:
            found = _select(scope, "period = :period order by edition desc limit 1", period=period)
        return found[0] if found else None

    def artefacts(self, tenant: str, report_id: UUID) -> list[ReportArtefact]:
        """The report's files by kind; empty when the tenant has no such report."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(f"{_ARTEFACTS} order by a.kind"), {"tenant_id": scope.tenant_id, "report_id": report_id}
            ).all()
        return [ReportArtefact(*row) for row in rows]

    def artefact(self, tenant: str, report_id: UUID, file_name: str) -> ReportArtefact | None:
        """The report's file of that name; the name is compared, never used as a path."""
        if "\0" in file_name:  # PostgreSQL has no such text
            return None
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(f"{_ARTEFACTS} and a.file_name = :file_name"),
                {"tenant_id": scope.tenant_id, "report_id": report_id, "file_name": file_name},
            ).one_or_none()
        return ReportArtefact(*row) if row else None

    def decide(self, tenant: str, report_id: UUID, decision: Decision, *, by: str) -> tuple[Report, bool] | None:
        """Take the report into the next state; issuing supersedes the period's earlier editions.

        Returns it with True; with False when the same person had decided so already, and nothing changed; None when
        the tenant has no such report.

        Raises:
            ReportStateError: the report is in another state, a newer edition was issued, or who prepared it would
                approve it.
        """
        with self._database.tenant(tenant) as scope:
            found = _select(scope, "report_id = :report_id", report_id=report_id)
            if not found:
                return None
            one_at_a_time(scope, "reports", found[0].period)
            report = _select(scope, "report_id = :report_id for update", report_id=report_id)[0]
            if report.state == decision and getattr(report, f"{decision}_by") == by:
                return report, False
            _require_decidable(scope, report, decision, by)
            try:
                decided = write(
                    scope,
                    "reports",
                    f"update ogf.reports set state = :state, {decision}_by = :by, {decision}_at = clock_timestamp()"
                    f" where {_MINE} returning {_REPORT}",
                    {"tenant_id": scope.tenant_id, "report_id": report_id, "state": decision, "by": by},
                ).one()
            except RecordError as error:
                if "reports_second_person" in str(error):
                    raise _same_person() from error
                raise
            report = Report(*decided)
            if decision == "issued":
                _supersede(scope, report, ("draft", "reviewed", "approved", "issued"))
        return report, True

    def list(
        self,
        tenant: str,
        *,
        limit: int,
        after: Sequence[Any] | None = None,
        period: str | None = None,
        state: State | None = None,
    ) -> list[Report]:
        """Newest publications first, after the report with the sort keys `(published_at, report_id)`."""
        published_at, report_id = after or (None, None)
        with self._database.tenant(tenant) as scope:
            return _select(
                scope,
                "(cast(:period as text) is null or period = :period)"
                " and (cast(:state as text) is null or state = :state)"
                " and (cast(:report_id as uuid) is null or (published_at, report_id)"
                " < (cast(:published_at as timestamptz), cast(:report_id as uuid)))"
                " order by published_at desc, report_id desc limit :limit",
                period=period,
                state=state,
                published_at=published_at,
                report_id=report_id,
                limit=limit,
            )


def _require_decidable(scope: TenantScope, report: Report, decision: Decision, by: str) -> None:
    if report.state != BEFORE[decision]:
        raise ReportStateError(
            "wrong_state", f"The report is {report.state}; only one that is {BEFORE[decision]} can be {decision}."
        )
    if decision == "approved" and by in {report.prepared_by, _creator_of_key(scope, report.prepared_by)}:
        raise _same_person()
    if decision == "issued":
        later = _select(
            scope,
            "period = :period and edition > :edition and issued_at is not null limit 1",
            period=report.period,
            edition=report.edition,
        )
        if later:
            raise ReportStateError(
                "newer_issued", f"Edition {later[0].edition} of {report.period} is issued already: it stays."
            )


def _creator_of_key(scope: TenantScope, prepared_by: str) -> str | None:
    """Who created the key that prepared the report: a key is no second person."""
    kind, _, key_id = prepared_by.partition(":")
    if kind != "key":
        return None
    creator: str | None = scope.connection.execute(
        sa.text("select created_by from ogf.api_keys where tenant_id = :tenant_id and key_id = :key_id"),
        {"tenant_id": scope.tenant_id, "key_id": key_id},
    ).scalar_one_or_none()
    return creator


def _same_person() -> ReportStateError:
    return ReportStateError("same_person", "Who prepared a report does not approve it: ask a second person.")


def _supersede(scope: TenantScope, report: Report, states: Sequence[State]) -> None:
    scope.connection.execute(
        sa.text(
            "update ogf.reports set state = 'superseded', superseded_by = :report_id where tenant_id = :tenant_id"
            " and period = :period and edition < :edition and state = any(cast(:states as text[]))"
        ),
        {
            "tenant_id": scope.tenant_id,
            "report_id": report.report_id,
            "period": report.period,
            "edition": report.edition,
            "states": list(states),
        },
    )


def _links(scope: TenantScope, report_id: UUID) -> dict[str, int]:
    rows = scope.connection.execute(
        sa.text(f"select kind, artefact_edition from ogf.report_artefacts where {_MINE}"),
        {"tenant_id": scope.tenant_id, "report_id": report_id},
    ).all()
    return {kind: edition for kind, edition in rows}  # noqa: C416  rows are no pairs to the type checker


def _select(scope: TenantScope, condition: str, **values: Any) -> list[Report]:
    rows = scope.connection.execute(
        sa.text(f"select {_REPORT} from ogf.reports where tenant_id = :tenant_id and {condition}"),
        {"tenant_id": scope.tenant_id, **values},
    ).all()
    return [Report(*row) for row in rows]
