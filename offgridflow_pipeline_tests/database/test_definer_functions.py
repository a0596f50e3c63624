"""The functions that look across tenants: each finds what it needs with two tenants there, and tells no more.

Under row level security a function that lost its policy finds nothing and says nothing: hence one check per function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.database.filled import Filled, fill

#: How each function is called; `:name` is an attribute of one of the two tenants.
CALLS = {
    "tenant_by_slug": "select count(*) from ogf.tenant_by_slug(:slug)",
    "tenant_directory": "select count(*) from ogf.tenant_directory() where slug = :slug",
    "user_by_email": "select count(*) from ogf.user_by_email(:email) found where found = :user_id",
    "user_directory": "select count(*) from ogf.user_directory() where user_id = :user_id and tenants[1] like :slug || '%owner'",
    "begin_session": (
        "select count(*) from ogf.begin_session(:token_hmac, interval '1 hour')"
        " where user_id = :user_id and tenant_id = :tenant_id and role = 'owner'"
    ),
    "my_tenants": (
        "select count(*) from (select set_config('offgridflow.user', cast(:user_id as text), true)) scoped,"
        " lateral ogf.my_tenants() where slug = :slug"
    ),
    "my_tenants (break glass)": (
        "select count(*) from (select set_config('offgridflow.user', cast(:user_id as text), true)) scoped,"
        " lateral ogf.my_tenants() where break_glass"
    ),
    "invitation_by_token": "select count(*) from ogf.invitation_by_token(:token_hash) where tenant_id = :tenant_id",
    "reset_by_token": "select count(*) from ogf.reset_by_token(:token_hash) where user_id = :user_id",
    "begin_request": "select count(*) from ogf.begin_request(:key_id, :secret_sha256)"
    " where tenant_id = :tenant_id and data_version = 1",
    "audit_append": (
        "select count(*) from (select set_config('offgridflow.tenant', cast(:tenant_id as text), true)) scoped,"
        """ lateral ogf.audit_append('{"action":"a","actor":{"id":"","type":"system"}}') number where number = 2"""
    ),
    "audit_chain_heads": "select count(*) from ogf.audit_chain_heads() where tenant_id = :tenant_id",
    "tenants_with_jobs": "select count(*) from ogf.tenants_with_jobs() where slug = :slug",
    "tenant_by_customer": "select count(*) from ogf.tenant_by_customer(:customer_id) found where found = :slug",
    "tenants_with_subscriptions": (
        "select count(*) from ogf.tenants_with_subscriptions() where slug = :slug and customer_id = :customer_id"
    ),
    "scopes_with_mail": "select count(*) from ogf.scopes_with_mail() where slug = :slug",
    "scopes_with_old_mail": "select count(*) from ogf.scopes_with_old_mail(interval '-1 hour') where slug = :slug",
}

#: Figures of all tenants together: the number that must be there once two tenants are.
FIGURES = {
    "metric_runs": "select queued from ogf.metric_runs()",
    "metric_heartbeat": "select 2 from ogf.metric_heartbeat() where age >= 0",
    "metric_syncs": "select total from ogf.metric_syncs() where connector = 'aws' and outcome = 'success'",
    "metric_freshness": "select 2 from ogf.metric_freshness() where connector = 'aws' and age >= 0",
    "metric_failed_checks": "select total from ogf.metric_failed_checks() where check_name = 'a.b'",
    "metric_publish_age": "select case when age > 3000 then 2 end from ogf.metric_publish_age()",
    "metric_emissions": "select line_count from ogf.metric_emissions() where provider = 'aws'",
    "metric_reports": (
        "select min(total) from ogf.metric_reports()"
        " where (format, outcome) in (('report', 'failed'), ('pdf', 'not_validated'))"
        " having count(*) = 2"
    ),
    "metric_report_durations": "select total from ogf.metric_report_durations('{1,2}') where outcome = 'failed'",
    "metric_outbox": "select depth from ogf.metric_outbox() where state = 'pending'",
    "metric_audit": "select 2 from ogf.metric_audit() where whole is not null",
    "metric_billing_failures": "select total from ogf.metric_billing_failures()",
    "metric_billing_inbox": "select depth from ogf.metric_billing_inbox() where state = 'dead'",
    "metric_billing_tenants": "select total from ogf.metric_billing_tenants() where state = 'active'",
}


@contextmanager
def prepared(database: Database, prefix: str) -> Iterator[list[Filled]]:
    """Two tenants with a row in every table, work that waits until the end, and each other's owner behind glass."""
    filled = [
        fill(database, database.tenants.add(f"{prefix}-{number}", "Tenant", currency="EUR").slug) for number in (1, 2)
    ]
    values = {"ids": [one.tenant_id for one in filled], "users": [one.user_id for one in reversed(filled)]}
    with database.admin_engine.begin() as connection:
        for statement in (
            "insert into ogf.jobs (tenant_id, type, requested_by) select unnest(cast(:ids as uuid[])),"
            " 'connector_sync', 'system'",
            "update ogf.email_outbox set next_at = now() where tenant_id = any(:ids)",
            "insert into ogf.email_outbox (tenant_id, template, to_addr, dedupe_key, state)"
            " select unnest(cast(:ids as uuid[])), 'report_ready', 'a@b.c', 'old', 'sent'",
            "insert into ogf.break_glass_grants (tenant_id, user_id, reason, granted_by, granted_at, expires_at)"
            " select t, u, 'help', 'system', now(), now() + interval '1 hour'"
            " from unnest(cast(:ids as uuid[]), cast(:users as uuid[])) as pair (t, u)",
            "update ogf.daily_scope_totals set usage_date = current_date where tenant_id = any(:ids)",
            "insert into ogf.external_events (source, external_id, event_type, event_created, livemode, payload_sha256,"
            " state, settled_at) select 'stripe', 'evt_' || t, 'invoice.payment_failed', now(), false, sha256('e'),"
            " 'dead', now() from unnest(cast(:ids as uuid[])) t",
            "update ogf.data_versions set published_at = now() - interval '1 hour' where tenant_id = any(:ids)",
        ):
            text = sa.text(statement)
            connection.execute(text, {name: values[name] for name in text._bindparams})
    yield filled
    with database.admin_engine.begin() as connection:
        for statement in (
            "delete from ogf.jobs where status = 'pending' and tenant_id = any(:ids)",
            "update ogf.email_outbox set state = 'sent' where tenant_id = any(:ids)",
            "delete from ogf.external_events where external_id in (select 'evt_' || t from unnest(cast(:ids as uuid[])) t)",
        ):
            connection.execute(sa.text(statement), {"ids": values["ids"]})


@pytest.fixture(scope="module")
def both(database: Database) -> Iterator[list[Filled]]:
    with prepared(database, "definer") as filled:
        yield filled


def _call(database: Database, statement: str, one: Filled | None = None) -> Any:
    values = {name: getattr(one, name) for name in sa.text(statement)._bindparams}
    with database.application_engine.connect() as connection:
        return connection.scalar(sa.text(statement), values)


def _role_of(connection: sa.Connection, function: str) -> str:
    """A login role that may call the function."""
    roles = connection.scalars(
        sa.text(
            "select r.rolname from pg_proc p, pg_roles r where p.proname = :name and r.rolname in"
            " ('ogf_api', 'ogf_pipeline') and has_function_privilege(r.oid, p.oid, 'execute') order by 1"
        ),
        {"name": function.split(maxsplit=1)[0]},
    ).all()
    assert roles, f"nobody may call {function}"
    return str(roles[0])


def test_every_function_that_looks_across_tenants_is_checked_here(database: Database) -> None:
    with database.admin_engine.connect() as connection:
        functions = connection.scalars(
            sa.text("select proname from pg_proc where prosecdef and pronamespace = cast('ogf' as regnamespace)")
        ).all()
    assert sorted(functions) == sorted({call.split()[0] for call in [*CALLS, *FIGURES]})


@pytest.mark.parametrize("function", CALLS)
def test_it_finds_each_of_two_tenants(
    database: Database, api_database: Database, both: list[Filled], function: str
) -> None:
    with database.admin_engine.connect() as connection:
        role = _role_of(connection, function)
    opened = {"ogf_api": api_database, "ogf_pipeline": database}[role]
    assert [_call(opened, CALLS[function], one) for one in both] == [1, 1]


@pytest.mark.parametrize("function", FIGURES)
def test_it_counts_both_of_two_tenants(
    database: Database, api_database: Database, both: list[Filled], function: str
) -> None:
    with database.admin_engine.connect() as connection:
        role = _role_of(connection, function)
    opened = {"ogf_api": api_database, "ogf_pipeline": database}[role]
    assert both
    assert _call(opened, FIGURES[function]) >= 2


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("select count(*) from ogf.begin_request('AAAAAAAAAA', sha256('guess'))", "an unknown key"),
        ("select count(*) from ogf.begin_session(sha256('guess'), interval '1 hour')", "an unknown session"),
        ("select count(*) from ogf.invitation_by_token(sha256('guess'))", "an unknown invitation"),
        ("select count(*) from ogf.reset_by_token(sha256('guess'))", "an unknown reset"),
        ("select count(*) from ogf.my_tenants()", "nobody"),
        ("select count(*) from ogf.tenant_by_slug('no-such-tenant')", "an unknown tenant"),
    ],
)
def test_it_finds_nothing_for(api_database: Database, both: list[Filled], statement: str, reason: str) -> None:
    assert both
    assert _call(api_database, statement) == 0, reason


def test_a_credential_that_fails_leaves_no_scope_of_the_one_before(api_database: Database, both: list[Filled]) -> None:
    one = both[0]
    with api_database.application_engine.begin() as connection:
        found = connection.execute(
            sa.text("select tenant_id from ogf.begin_request(:key_id, :secret)"),
            {"key_id": one.key_id, "secret": one.secret_sha256},
        ).one()
        assert found.tenant_id == one.tenant_id
        assert connection.execute(sa.text("select * from ogf.begin_request('x', '')")).all() == []
        assert connection.scalar(sa.text("select ogf.current_tenant()")) is None


def test_the_definer_reads_what_its_functions_need_and_nothing_else(database: Database) -> None:
    with database.admin_engine.connect() as connection:
        tables = [*catalog.tenant_tables(connection), *catalog.user_tables(connection)]
        readable = {
            table
            for table in tables
            if connection.scalar(
                sa.text("select has_any_column_privilege('ogf_definer', :table, 'select')"), {"table": table}
            )
        }
    assert readable == catalog.LOOKED_UP
