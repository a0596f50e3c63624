"""Changes of sources and closed months: states never lead the lake, nothing runs twice, closed months only change
through a decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.changes import MAXIMUM_ATTEMPTS, DetectedChange, SourceChange
from offgridflow_pipeline.database.statements import RecordError

NewTenant = Callable[[], str]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = date(2026, 11, 20)
AWS = "aws-payer"
PERIOD = "2026-10-01/2026-11-01"


def _document(version: str) -> dict[str, object]:
    return {"version": version, "objects": {"s3://b/1.csv.gz": "etag"}, "days": None}


def _change(
    first: date = date(2026, 10, 1), last: date = date(2026, 10, 31), version: str = "a", unit: str = PERIOD
) -> DetectedChange:
    return DetectedChange(first, last, "new_version", version * 64, {unit: _document(version)})


def _find(database: Database, tenant: str, *changes: DetectedChange, at: datetime = NOON) -> int:
    return database.source_changes.record(tenant, AWS, changes or [_change()], observed_at=at)


def _one_run(key: str) -> Callable[[Sequence[SourceChange]], dict[UUID, str]]:
    return lambda changes: {change.change_id: key for change in changes}


def _states(database: Database, tenant: str) -> dict[str, str]:
    return {unit: document["version"] for unit, document in database.feed_states.read(tenant, AWS).items()}


def _statuses(database: Database, tenant: str) -> list[str]:
    everything = database.source_changes.list(tenant, ["pending", "requested", "done", "held", "failed"])
    return [change.status for change in everything]


def _close(database: Database, tenant: str, month: str = "2026-10") -> None:
    database.period_closures.close(tenant, month, by="ada", today=TODAY)


@pytest.fixture
def tenant(new_tenant: NewTenant) -> str:
    return new_tenant()


def test_a_state_comes_back_as_it_was_observed_and_an_older_observation_does_not_replace_it(
    database: Database, tenant: str
) -> None:
    later, earlier = NOON + timedelta(minutes=1), NOON - timedelta(minutes=1)
    for version, at in (("b", NOON), ("a", earlier)):
        database.feed_states.advance(tenant, AWS, {PERIOD: _document(version)}, observed_at=at, run_id="r")
    assert database.feed_states.read(tenant, AWS) == {PERIOD: _document("b")}
    database.feed_states.advance(tenant, AWS, {PERIOD: _document("c")}, observed_at=later, run_id="r")
    assert _states(database, tenant) == {PERIOD: "c"}
    assert database.feed_states.read(tenant, "other") == {}


def test_digests_tell_what_each_day_holds_also_that_it_is_empty(database: Database, tenant: str) -> None:
    fifth, sixth = date(2026, 10, 5), date(2026, 10, 6)
    record = database.day_digests.record
    record(
        tenant, "aws_billing_extract", days=[fifth, sixth], connections={AWS: "v1"},
        digests={(AWS, fifth): (3, "a" * 64)}, run_id="one",
    )  # fmt: skip
    read = database.day_digests.read(tenant, "aws_billing_extract", [fifth, sixth])
    assert read == {(AWS, fifth): (3, "a" * 64), (AWS, sixth): (0, "0" * 64)}
    assert database.day_digests.read(tenant, "focus_billing_extract", [fifth]) == {}


def test_a_connection_that_is_gone_has_no_rows_on_the_days_that_were_written_without_it(
    database: Database, tenant: str
) -> None:
    fifth, sixth = date(2026, 10, 5), date(2026, 10, 6)
    digests = {(c, d): (1, "a" * 64) for c in (AWS, "old") for d in (fifth, sixth)}
    database.day_digests.record(
        tenant,
        "aws_billing_extract",
        days=[fifth, sixth],
        connections={AWS: "", "old": ""},
        digests=digests,
        run_id="1",
    )
    database.day_digests.record(
        tenant, "aws_billing_extract", days=[sixth], connections={AWS: ""}, digests={(AWS, sixth): (1, "a" * 64)},
        run_id="2",
    )  # fmt: skip
    read = database.day_digests.read(tenant, "aws_billing_extract", [fifth, sixth])
    assert read == digests | {("old", sixth): (0, "0" * 64)}


def test_a_digest_of_a_connection_that_was_not_read_is_refused(database: Database, tenant: str) -> None:
    with pytest.raises(RecordError, match="stranger was not read"):
        database.day_digests.record(
            tenant, "aws_billing_extract", days=[TODAY], connections={AWS: ""},
            digests={("stranger", TODAY): (1, "a" * 64)}, run_id="r",
        )  # fmt: skip


def test_a_change_is_recorded_once_until_a_newer_version_comes(database: Database, tenant: str) -> None:
    assert [_find(database, tenant, _change(version=v)) for v in "aabba"] == [1, 0, 1, 0, 1]


def test_a_change_that_was_read_is_not_found_again(database: Database, tenant: str) -> None:
    _find(database, tenant)
    database.source_changes.claim(tenant, _one_run("k"))
    database.source_changes.done(tenant, "k", run_id="run")
    assert _find(database, tenant) == 0
    assert _statuses(database, tenant) == ["done"]


def test_the_state_advances_with_the_run_and_not_before(database: Database, tenant: str) -> None:
    _find(database, tenant)
    (claimed,) = database.source_changes.claim(tenant, _one_run("k"))
    assert (claimed.status, claimed.run_key, claimed.attempts) == ("requested", "k", 1)
    assert _states(database, tenant) == {}
    database.source_changes.done(tenant, "k", run_id="run")
    assert _states(database, tenant) == {PERIOD: "a"}


def test_a_period_cut_into_two_runs_advances_after_the_second(database: Database, tenant: str) -> None:
    unit = "2026-10-15/2026-11-15"
    cut = (
        _change(date(2026, 10, 15), date(2026, 10, 31), unit=unit),
        _change(date(2026, 11, 1), date(2026, 11, 14), unit=unit),
    )
    _find(database, tenant, *cut)
    database.source_changes.claim(tenant, lambda changes: {c.change_id: str(c.first_day.month) for c in changes})
    database.source_changes.done(tenant, "10", run_id="one")
    assert _states(database, tenant) == {}
    database.source_changes.done(tenant, "11", run_id="two")
    assert _states(database, tenant) == {unit: "a"}


def test_a_period_whose_other_run_failed_for_good_does_not_advance(database: Database, tenant: str) -> None:
    unit = "2026-10-15/2026-11-15"
    _find(
        database, tenant,
        _change(date(2026, 10, 15), date(2026, 10, 31), unit=unit),
        _change(date(2026, 11, 1), date(2026, 11, 14), unit=unit),
    )  # fmt: skip
    for _ in range(MAXIMUM_ATTEMPTS):
        database.source_changes.claim(tenant, lambda changes: {c.change_id: str(c.first_day.month) for c in changes})
        database.source_changes.failed(tenant, "10", error="refused")
    database.source_changes.done(tenant, "11", run_id="two")
    assert _statuses(database, tenant) == ["failed", "done"]
    assert _states(database, tenant) == {}


def test_two_runs_that_end_in_the_wrong_order_leave_the_newer_state(database: Database, tenant: str) -> None:
    for version, at in (("a", NOON), ("b", NOON + timedelta(hours=1))):
        _find(database, tenant, _change(version=version), at=at)
        database.source_changes.claim(tenant, _one_run(version))
    database.source_changes.done(tenant, "b", run_id="two")
    database.source_changes.done(tenant, "a", run_id="one")
    assert _states(database, tenant) == {PERIOD: "b"}


def test_a_failed_run_is_tried_again_a_bounded_number_of_times(database: Database, tenant: str) -> None:
    _find(database, tenant)
    for attempt in range(1, MAXIMUM_ATTEMPTS + 1):
        (claimed,) = database.source_changes.claim(tenant, _one_run(f"k{attempt}"))
        assert claimed.attempts == attempt
        database.source_changes.failed(tenant, f"k{attempt}", error="the bucket is gone")
    assert database.source_changes.claim(tenant, _one_run("k")) == []
    (change,) = database.source_changes.list(tenant, ["failed"])
    assert change.error == "the bucket is gone"
    assert _find(database, tenant) == 0


def test_a_run_that_was_never_launched_counts_as_no_attempt(database: Database, tenant: str) -> None:
    _find(database, tenant)
    database.source_changes.claim(tenant, _one_run("k"))
    database.source_changes.failed(tenant, "k", error="no run", attempted=False)
    assert [(c.status, c.attempts) for c in database.source_changes.list(tenant)] == [("pending", 0)]


def test_a_change_that_failed_is_taken_up_again_a_day_later(database: Database, tenant: str) -> None:
    _find(database, tenant)
    for _ in range(MAXIMUM_ATTEMPTS):
        database.source_changes.claim(tenant, _one_run("k"))
        database.source_changes.failed(tenant, "k", error="refused")
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.source_changes set settled_at = settled_at - interval '25 hours' where tenant_id = :t"),
            {"t": database.tenants.get(tenant).tenant_id},
        )
    assert _find(database, tenant) == 1
    assert [(c.status, c.attempts) for c in database.source_changes.list(tenant)] == [("pending", 0)]


def test_a_claim_in_the_middle_of_another_takes_none_of_its_changes(database: Database, tenant: str) -> None:
    _find(database, tenant)
    second: list[SourceChange] = []

    def keys(changes: Sequence[SourceChange]) -> dict[UUID, str]:
        second.extend(database.source_changes.claim(tenant, _one_run("second")))
        return _one_run("first")(changes)

    first = database.source_changes.claim(tenant, keys)
    assert ([c.run_key for c in first], second) == (["first"], [])


def test_a_change_that_the_planner_leaves_out_stays_pending(database: Database, tenant: str) -> None:
    _find(database, tenant)
    assert database.source_changes.claim(tenant, lambda _: {}) == []
    assert _statuses(database, tenant) == ["pending"]


def test_a_change_of_a_closed_month_is_held_and_one_restatement_is_proposed(database: Database, tenant: str) -> None:
    _close(database, tenant)
    october = [_change(date(2026, 10, n), date(2026, 10, n + 1)) for n in (5, 20)]
    _find(database, tenant, *october, _change(date(2026, 11, 1), date(2026, 11, 2)))
    assert [(c.first_day, c.status) for c in database.source_changes.list(tenant, ["pending", "held"])] == [
        (date(2026, 10, 5), "held"), (date(2026, 10, 20), "held"), (date(2026, 11, 1), "pending"),
    ]  # fmt: skip
    (proposal,) = database.restatements.list(tenant)
    assert (proposal.month, proposal.connection_id, proposal.status) == ("2026-10", AWS, "proposed")
    assert (proposal.first_day, proposal.last_day) == (date(2026, 10, 5), date(2026, 10, 21))


def test_a_month_closed_after_the_change_was_found_holds_it_at_the_claim(database: Database, tenant: str) -> None:
    _find(database, tenant)
    _close(database, tenant)
    assert database.source_changes.claim(tenant, _one_run("k")) == []
    assert _statuses(database, tenant) == ["held"]
    assert len(database.restatements.list(tenant)) == 1


def test_an_approved_restatement_runs_and_is_applied_by_its_run(database: Database, tenant: str) -> None:
    _close(database, tenant)
    _find(database, tenant)
    (proposal,) = database.restatements.list(tenant)
    database.restatements.approve(tenant, proposal.restatement_id, by="grace")
    (claimed,) = database.source_changes.claim(tenant, _one_run("k"))
    assert claimed.restatement_id == proposal.restatement_id
    database.source_changes.done(tenant, "k", run_id="run")
    applied = database.restatements.find(tenant, proposal.restatement_id)
    assert applied is not None
    assert (applied.status, applied.decided_by, applied.run_id) == ("applied", "grace", "run")
    assert _states(database, tenant) == {PERIOD: "a"}
    assert database.period_closures.closed_months(tenant) == {"2026-10"}


def test_a_rejected_restatement_is_not_proposed_again_but_a_newer_delivery_is(database: Database, tenant: str) -> None:
    _close(database, tenant)
    _find(database, tenant)
    (proposal,) = database.restatements.list(tenant)
    database.restatements.reject(tenant, proposal.restatement_id, by="grace")
    assert _find(database, tenant) == 0
    assert database.source_changes.claim(tenant, _one_run("k")) == []
    assert database.restatements.list(tenant) == []
    assert _find(database, tenant, _change(version="b")) == 1
    assert len(database.restatements.list(tenant)) == 1
    assert _states(database, tenant) == {}


def test_a_decision_is_made_once(database: Database, tenant: str) -> None:
    _close(database, tenant)
    _find(database, tenant)
    (proposal,) = database.restatements.list(tenant)
    database.restatements.reject(tenant, proposal.restatement_id, by="grace")
    with pytest.raises(RecordError, match=r"No proposed restatement .*`offgridflow restatement list"):
        database.restatements.approve(tenant, proposal.restatement_id, by="ada")
    with pytest.raises(RecordError, match="No proposed restatement"):
        database.restatements.approve(tenant, uuid4(), by="ada")


def test_reopening_a_month_lets_its_held_changes_run(database: Database, tenant: str) -> None:
    _close(database, tenant)
    _find(database, tenant)
    database.period_closures.reopen(tenant, "2026-10", by="grace")
    assert len(database.source_changes.claim(tenant, _one_run("k"))) == 1
    (restatement,) = database.restatements.list(tenant)
    assert (restatement.status, restatement.decided_by) == ("approved", "grace")


def test_a_month_is_closed_once_and_keeps_its_history(database: Database, tenant: str) -> None:
    _close(database, tenant)
    with pytest.raises(RecordError, match="closed already"):
        _close(database, tenant)
    database.period_closures.reopen(tenant, "2026-10", by="grace")
    with pytest.raises(RecordError, match="is not closed"):
        database.period_closures.reopen(tenant, "2026-10", by="grace")
    _close(database, tenant)
    history = [(c.closed_by, c.reopened_by) for c in database.period_closures.list(tenant)]
    assert history == [("ada", "grace"), ("ada", None)]


@pytest.mark.parametrize(
    ("month", "by", "problem"),
    [("2026-11", "ada", "has not ended"), ("2026-1", "ada", "month"), ("2026-09", " ", "closed_by")],
)
def test_a_month_that_cannot_be_closed_is_refused(
    database: Database, tenant: str, month: str, by: str, problem: str
) -> None:
    with pytest.raises(RecordError, match=problem):
        database.period_closures.close(tenant, month, by=by, today=TODAY)
    assert database.period_closures.list(tenant) == []


def test_a_change_over_two_months_is_refused(database: Database, tenant: str) -> None:
    with pytest.raises(RecordError, match="source_changes"):
        _find(database, tenant, _change(date(2026, 10, 31), date(2026, 11, 1)))


def _connect(database: Database, tenant: str) -> None:
    database.connections.add(tenant, AWS, provider="aws", kind="cur2", uri="s3://b")


def test_a_run_does_not_settle_a_change_whose_connection_was_paused_meanwhile(database: Database, tenant: str) -> None:
    _connect(database, tenant)
    _find(database, tenant)
    database.source_changes.claim(tenant, _one_run("k"))
    database.connections.pause(tenant, AWS)
    database.source_changes.done(tenant, "k", run_id="run")
    assert _states(database, tenant) == {}
    assert database.source_changes.claim(tenant, _one_run("k2")) == []
    database.connections.resume(tenant, AWS)
    assert [c.run_key for c in database.source_changes.claim(tenant, _one_run("k3"))] == ["k3"]
    database.source_changes.done(tenant, "k3", run_id="run")
    assert _states(database, tenant) == {PERIOD: "a"}


def test_a_connection_that_was_removed_and_added_again_is_read_anew(database: Database, tenant: str) -> None:
    for run in ("first", "second"):
        _connect(database, tenant)
        assert _find(database, tenant) == 1
        database.source_changes.claim(tenant, _one_run(run))
        database.source_changes.done(tenant, run, run_id=run)
        assert _states(database, tenant) == {PERIOD: "a"}
        database.connections.remove(tenant, AWS)
        assert _states(database, tenant) == {}


def test_removing_a_connection_ends_its_open_changes(database: Database, tenant: str) -> None:
    _connect(database, tenant)
    _find(database, tenant)
    database.source_changes.claim(tenant, _one_run("k"))
    database.connections.remove(tenant, AWS)
    database.source_changes.done(tenant, "k", run_id="run")
    assert _statuses(database, tenant) == ["failed"]
    assert _states(database, tenant) == {}
    _connect(database, tenant)
    assert _find(database, tenant) == 1
    database.source_changes.claim(tenant, _one_run("k2"))
    database.source_changes.done(tenant, "k2", run_id="run")
    assert _states(database, tenant) == {PERIOD: "a"}


def test_digests_of_a_paused_connection_stay_with_its_rows(database: Database, tenant: str) -> None:
    record, read = database.day_digests.record, database.day_digests.read
    digests = {(c, TODAY): (1, "a" * 64) for c in (AWS, "paused")}
    record(tenant, "x", days=[TODAY], connections={AWS: "", "paused": ""}, digests=digests, run_id="1")
    record(
        tenant, "x", days=[TODAY], connections={AWS: ""}, kept=["paused"], digests={(AWS, TODAY): (2, "b" * 64)},
        run_id="2",
    )  # fmt: skip
    assert read(tenant, "x", [TODAY]) == {(AWS, TODAY): (2, "b" * 64), ("paused", TODAY): (1, "a" * 64)}


def _end_in_failure(database: Database, tenant: str, hours_ago: int) -> None:
    for _ in range(MAXIMUM_ATTEMPTS):
        database.source_changes.claim(tenant, _one_run("k"))
        database.source_changes.failed(tenant, "k", error="refused")
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.source_changes set settled_at = settled_at - :age where tenant_id = :t"),
            {"t": database.tenants.get(tenant).tenant_id, "age": timedelta(hours=hours_ago)},
        )


def test_a_failed_change_that_the_source_does_not_show_again_is_taken_up_too(database: Database, tenant: str) -> None:
    _find(database, tenant)
    _end_in_failure(database, tenant, hours_ago=25)
    assert database.source_changes.record(tenant, AWS, [], observed_at=NOON) == 1
    assert _statuses(database, tenant) == ["pending"]


def test_a_failed_change_with_a_newer_one_on_its_days_is_left(database: Database, tenant: str) -> None:
    _find(database, tenant)
    _end_in_failure(database, tenant, hours_ago=25)
    assert _find(database, tenant, _change(date(2026, 10, 5), date(2026, 10, 5), version="b")) == 1
    assert _statuses(database, tenant) == ["failed", "pending"]


@pytest.mark.parametrize("changed", [{"role": "reconciliation"}, {"uri": "s3://other"}, {"kind": "focus"}])
def test_a_connection_that_is_another_source_for_a_while_is_read_anew(
    database: Database, tenant: str, changed: dict[str, str]
) -> None:
    first = {"provider": "aws", "kind": "cur2", "uri": "s3://b", "role": "record"}
    database.connections.add(tenant, AWS, **first)
    _find(database, tenant)
    database.source_changes.claim(tenant, _one_run("k"))
    database.source_changes.done(tenant, "k", run_id="run")
    database.connections.add(tenant, AWS, **first, replace=True)
    assert _states(database, tenant) == {PERIOD: "a"}
    for values in (first | changed, first):
        database.connections.add(tenant, AWS, **values, replace=True)
    assert _states(database, tenant) == {}
    assert _find(database, tenant) == 1
