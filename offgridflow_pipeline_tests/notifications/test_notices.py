"""Notices that no request causes are written once to each owner and admin, and only when they are due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.changes import DetectedChange
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.notifications.notices import KEY_NOTICE, write_notices
from offgridflow_pipeline_tests.identity.people import new_person

NOW = datetime.now(UTC)


def _key(database: Database, tenant: str, name: str, ends: datetime) -> None:
    with database.tenant(tenant) as scope:
        api_keys.create(
            database.within(scope), tenant, name, [Permission.EMISSIONS_READ], creator="system",
            creator_permissions=[Permission.EMISSIONS_READ], expires_at=ends,
        )  # fmt: skip


def _mails(database: Database, tenant: str) -> list[tuple[str, str]]:
    with database.tenant(tenant) as scope:
        rows = scope.connection.exec_driver_sql("select template, to_addr from ogf.email_outbox order by 1, 2").all()
    return [(row[0], row[1]) for row in rows]


def test_owners_and_admins_hear_once_of_a_key_that_ends_soon_and_of_no_other(
    database: Database, api_database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    told = [new_person(api_database, tenant, role).email for role in ("owner", "admin")]
    new_person(api_database, tenant, "viewer")
    _key(api_database, tenant, "ends soon", NOW + KEY_NOTICE - timedelta(hours=1))
    _key(api_database, tenant, "ends later", NOW + KEY_NOTICE + timedelta(days=1))
    assert write_notices(database, tenant, NOW) == 2
    assert write_notices(database, tenant, NOW) == 0
    assert _mails(database, tenant) == sorted(("key_expiring", email) for email in told)


def test_a_key_whose_successor_is_there_is_not_announced(
    database: Database, api_database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    new_person(api_database, tenant, "owner")
    _key(api_database, tenant, "reader", NOW + timedelta(days=3))
    with api_database.tenant(tenant) as scope:
        bound = api_database.within(scope)
        (old,) = bound.api_keys.list(tenant)
        grown = api_keys.rotate(
            bound, tenant, old.key_id, creator="system", creator_permissions=[Permission.EMISSIONS_READ]
        )
    assert grown.row.expires_at > old.expires_at
    assert write_notices(database, tenant, NOW) == 1  # of the successor, which lives as briefly
    with database.tenant(tenant) as scope:
        told = scope.connection.exec_driver_sql("select dedupe_key from ogf.email_outbox").scalars().all()
    assert [key.split(":")[1] for key in told] == [grown.row.key_id]


def test_changed_data_of_a_closed_month_is_told_until_somebody_decided(
    database: Database, api_database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    owner = new_person(api_database, tenant, "owner")
    database.period_closures.close(tenant, "2026-09", by="ada", today=NOW.date())
    day = date(2026, 9, 3)
    change = DetectedChange(day, day, "new_version", "a" * 64, {"unit": {"version": "2"}})
    database.source_changes.record(tenant, "c", [change], observed_at=NOW)
    assert write_notices(database, tenant, NOW) == 1
    assert _mails(database, tenant) == [("restatement_proposed", owner.email)]
    assert write_notices(database, tenant, NOW) == 0
