"""Repositories: what is recorded comes back exactly, twice recorded is once recorded, refusals name the cure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database, UnknownTenantError
from offgridflow_pipeline.database.statements import RecordError
from offgridflow_pipeline.database.tenants import TenantError

NewTenant = Callable[[], str]
DAY = date(2026, 9, 1)


def _snapshot(**changes: Any) -> dict[str, Any]:
    return {
        "connection_id": "main", "feed": "cur2", "uri": "s3://b/k", "etag": None, "sha256": "a" * 64,
        "size_bytes": 10, "row_count": 2, "source_version": "v1", "billing_period": DAY, **changes,
    }  # fmt: skip


def _total(**changes: Any) -> dict[str, Any]:
    return {
        "usage_date": DAY, "scope": "3", "s3_category": 1, "provider": "aws", "sub_account": "1", "service": "EC2",
        "region": None, "disposition": "mapped", "currency": "USD", "line_count": 3,
        "billed_cost": Decimal("0.000000000000000001"), "kwh": Decimal("12345678901234567890.123456789012"),
        "co2e_lbm_kg": Decimal("-1.5"), "co2e_mbm_kg": None, "embodied_kg": Decimal(0), "upstream_energy_kg": None,
        **changes,
    }  # fmt: skip


def _record(database: Database, tenant: str, sha: str, kind: str = "report_pdf") -> int:
    return database.report_register.record(
        tenant=tenant, period="2026-09", kind=kind, file_name=f"{kind}.pdf", sha256=sha * 64, size_bytes=5,
        media_type="application/pdf", run_id=f"run-{sha}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"slug": "Acme"}, "lower-case letters"),
        ({"slug": "a|b"}, "lower-case letters"),
        ({"slug": "a--b"}, "lower-case letters"),
        ({"slug": "a" * 64}, "2 to 63"),
        ({"slug": "a"}, "2 to 63"),
        ({"display_name": "  "}, "the name is empty"),
        ({"lei": "123"}, "18 capital letters"),
        ({"currency": "eur"}, "ISO 4217"),
    ],
)
def test_a_malformed_tenant_is_refused_with_its_cure(database: Database, values: dict[str, str], cure: str) -> None:
    with pytest.raises(TenantError, match=cure):
        database.tenants.add(**{"slug": "well-formed", "display_name": "A", **values})
    with pytest.raises(UnknownTenantError):
        database.tenants.get("well-formed")


def test_a_slug_is_taken_once(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    with pytest.raises(TenantError, match="the slug is taken"):
        database.tenants.add(slug, "Another")


def test_a_tenant_comes_back_as_it_was_added(database: Database, new_tenant: NewTenant) -> None:
    slug = f"{new_tenant()}-x"
    added = database.tenants.add(slug, "Ünïcode & <Söhne>", lei="5493001KJTIIGC8Y1R12", currency="CHF")
    assert database.tenants.get(slug) == added
    assert added in database.tenants.list()


def test_a_suspended_tenant_is_known_but_not_listed(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql(f"update ogf.tenants set status = 'suspended' where slug = '{slug}'")
    assert database.tenants.get(slug).status == "suspended"
    assert slug not in {t.slug for t in database.tenants.list()}
    assert slug in {t.slug for t in database.tenants.list(inactive=True)}


def test_the_same_bytes_of_a_delivery_are_one_snapshot_that_remembers_both_runs(
    database: Database, new_tenant: NewTenant
) -> None:
    slug = new_tenant()
    first = database.source_snapshots.record(tenant=slug, run_id="one", snapshot=_snapshot())
    again = database.source_snapshots.record(tenant=slug, run_id="two", snapshot=_snapshot())
    assert first == again
    (row,) = database.source_snapshots.list(slug)
    assert (row["run_id"], row["last_run_id"], row["etag"]) == ("one", "two", "")


def test_the_latest_snapshot_is_the_one_read_last(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    for sha, version in (("a", "v1"), ("b", "v2"), ("a", "v1")):
        database.source_snapshots.record(
            tenant=slug, run_id="r", snapshot=_snapshot(sha256=sha * 64, source_version=version)
        )
    latest = database.source_snapshots.latest(slug, "main", DAY)
    assert latest is not None
    assert latest["version"] == "v1"
    assert database.source_snapshots.latest(slug, "main", None) is None
    assert len(database.source_snapshots.list(slug)) == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [({"sha256": "short"}, "sha256"), ({"size_bytes": -1}, "size_bytes"), ({"uri": None}, "uri")],
)
def test_a_malformed_snapshot_is_refused_and_leaves_nothing(
    database: Database, new_tenant: NewTenant, change: dict[str, Any], place: str
) -> None:
    slug = new_tenant()
    with pytest.raises(RecordError, match=f"source_snapshots, .*{place}"):
        database.source_snapshots.record(tenant=slug, run_id="r", snapshot=_snapshot(**change))
    assert database.source_snapshots.list(slug) == []


def test_a_snapshot_without_a_column_is_refused_by_name(database: Database, new_tenant: NewTenant) -> None:
    snapshot = _snapshot()
    del snapshot["feed"]
    with pytest.raises(RecordError, match="feed"):
        database.source_snapshots.record(tenant=new_tenant(), run_id="r", snapshot=snapshot)


def test_a_report_gets_editions_and_the_same_bytes_get_none(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    assert [_record(database, slug, sha) for sha in "aabb"] == [1, 1, 2, 2]
    newest = database.report_register.newest(slug, "2026-09", "report_pdf")
    assert newest is not None
    assert (newest.edition, newest.sha256, newest.status) == (2, "b" * 64, "draft")


def test_publication_supersedes_the_edition_before_and_is_idempotent(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    for sha in "ab":
        _record(database, slug, sha)
        database.report_register.publish(slug, "2026-09", ["report_pdf"], run_id=f"publish-{sha}")
    database.report_register.publish(slug, "2026-09", ["report_pdf"], run_id="again")
    editions = database.report_register.list(slug, "2026-09")
    assert [(e.edition, e.status) for e in editions] == [(1, "superseded"), (2, "published")]
    published = database.report_register.published(slug, "2026-09", "report_pdf")
    assert published == editions[1]
    assert editions[0].published_at < editions[1].published_at


def test_publication_is_all_or_none(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    _record(database, slug, "a")
    with pytest.raises(RecordError, match="report_ixbrl of .* is not there"):
        database.report_register.publish(slug, "2026-09", ["report_pdf", "report_ixbrl"], run_id="r")
    assert [e.status for e in database.report_register.list(slug)] == ["draft"]


def test_concurrent_recordings_get_distinct_editions(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    editions: list[int] = []
    threads = [threading.Thread(target=lambda s=s: editions.append(_record(database, slug, s))) for s in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(editions) == [1, 2, 3, 4]


def test_scope_totals_come_back_to_the_last_digit(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    assert database.scope_totals.replace(slug, [DAY], [_total()]) == 1
    assert database.scope_totals.list(slug, DAY, DAY) == [_total()]


def test_replacing_days_leaves_other_days_and_tenants_alone(database: Database, new_tenant: NewTenant) -> None:
    slug, other, next_day = new_tenant(), new_tenant(), DAY + timedelta(days=1)
    both = [_total(), _total(usage_date=next_day)]
    for tenant in (slug, other):
        database.scope_totals.replace(tenant, [DAY, next_day], both)
    database.scope_totals.replace(slug, [DAY], [])
    assert database.scope_totals.list(slug, DAY, next_day) == [both[1]]
    assert database.scope_totals.list(other, DAY, next_day) == both


@pytest.mark.parametrize(
    ("row", "place"),
    [
        (
            _total(usage_date=DAY + timedelta(days=1)),
            "row 2, usage_date 2026-09-02: not one of the replaced days",
        ),
        (_total(disposition="guessed"), "disposition"),
        (_total(line_count=0), "line_count"),
        ({k: v for k, v in _total().items() if k != "kwh"}, "row 2: column kwh is missing"),
        (_total(), "already exists|duplicate key"),
        (_total(service="x", kwh=Decimal("1e27")), "numeric field overflow"),
    ],
)
def test_a_refused_row_leaves_the_old_days(
    database: Database, new_tenant: NewTenant, row: dict[str, Any], place: str
) -> None:
    slug = new_tenant()
    database.scope_totals.replace(slug, [DAY], [_total(service="before")])
    with pytest.raises(RecordError, match=place):
        database.scope_totals.replace(slug, [DAY], [_total(), row])
    assert [r["service"] for r in database.scope_totals.list(slug, DAY, DAY)] == ["before"]


def test_many_rows_are_replaced_in_one_transaction(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()
    rows = [_total(sub_account=f"{n:06}") for n in range(12_001)]
    assert database.scope_totals.replace(slug, [DAY], rows) == 12_001
    assert len(database.scope_totals.list(slug, DAY, DAY)) == 12_001


def test_two_writers_of_the_same_days_leave_the_rows_of_one(database: Database, new_tenant: NewTenant) -> None:
    slug = new_tenant()

    def write(name: str) -> None:
        database.scope_totals.replace(slug, [DAY], [_total(service=name, sub_account=str(n)) for n in range(200)])

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = database.scope_totals.list(slug, DAY, DAY)
    assert len(rows) == 200
    assert len({row["service"] for row in rows}) == 1


def test_verdicts_are_kept_per_tenant_and_partition(database: Database, new_tenant: NewTenant) -> None:
    one, two = new_tenant(), new_tenant()
    keys = [f"2026-09-01|{one}", f"2026-09-02|{one}", f"2026-09-01|{two}"]
    database.check_ledger.record(
        run_id="r",
        check_name="usage_lines.cost",
        partition_keys=keys,
        failing={keys[1]: "cost differs by 0.01 EUR"},
    )
    assert [(v.partition_key, v.passed, v.finding) for v in database.check_ledger.list(one)] == [
        (keys[0], True, ""),
        (keys[1], False, "cost differs by 0.01 EUR"),
    ]
    (other,) = database.check_ledger.list(two, check_name="usage_lines.cost", partition_key=keys[2])
    assert other.passed
    assert other.recorded_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("keys", "failing", "cure"),
    [
        (["2026-09-01"], {}, "names no tenant"),
        (["2026-09-01|{0}"], {"2026-09-02|{0}": "bad"}, "failed but was not checked"),
    ],
)
def test_a_verdict_of_nobody_is_refused(
    database: Database, new_tenant: NewTenant, keys: list[str], failing: dict[str, str], cure: str
) -> None:
    slug = new_tenant()
    with pytest.raises(RecordError, match=cure):
        database.check_ledger.record(
            run_id="r",
            check_name="c",
            partition_keys=[key.format(slug) for key in keys],
            failing={key.format(slug): text for key, text in failing.items()},
        )
    assert database.check_ledger.list(slug) == []
