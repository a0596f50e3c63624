"""Metrics of a served app: what is declared is emitted, with the figures of two tenants and without their names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.telemetry import counters, names
from offgridflow_pipeline_tests.telemetry.conftest import Serve, execute, value

TODAY = datetime.now(UTC).date()


def a_total(day: date, disposition: str, cost: str, lines: int) -> dict[str, object]:
    measures = ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")
    return {
        "usage_date": day,
        "provider": "aws",
        "disposition": disposition,
        "currency": "EUR",
        "line_count": lines,
        "billed_cost": Decimal(cost),
        **dict.fromkeys(("scope", "s3_category", "sub_account", "service", "region", *measures)),
    }


def test_every_declared_metric_is_emitted_with_its_labels(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    tenant = new_tenant()
    database.scope_totals.replace(tenant, [TODAY], [a_total(TODAY, "mapped", "10", 3)])
    served = serve(policies=("address",))
    served.client.get("/v1/things/one")
    text = served.scrape()
    found = {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }
    for metric in names.METRICS.values():
        for series in metric.series:
            assert series in found, metric.name
            assert found[series] - {"le"} == set(metric.prometheus_labels), metric.name
    assert not [name for name in found if name not in {s for m in names.METRICS.values() for s in m.series}
                and not name.startswith("target")
                and not name.endswith("_created")]  # fmt: skip


def test_http_metrics_have_the_stable_names_and_templated_routes(serve: Serve) -> None:
    served = serve()
    served.client.get("/v1/things/one?token=secret")
    served.client.post("/v1/things/one")
    served.client.get("/livez")
    text = served.scrape(refresh=False)
    labels = 'http_request_method="{}",http_response_status_code="{}",http_route="/v1/things/{{name}}"'
    name = "http_server_request_duration_seconds_count"
    assert value(text, f"{name}{{{labels.format('GET', 200)}}}") == 1
    assert value(text, f"{name}{{{labels.format('POST', 405)}}}") == 1
    assert "livez" not in text
    assert "secret" not in text


def test_no_figure_and_no_label_names_a_tenant(database: Database, new_tenant: Callable[[], str], serve: Serve) -> None:
    tenants = [new_tenant(), new_tenant()]
    for tenant in tenants:
        database.connections.add(tenant, "bills", provider="aws", kind="cur")
        database.connections.record_failure(tenant, "bills", "no access")
        database.scope_totals.replace(tenant, [TODAY], [a_total(TODAY, "mapped", "10", 3)])
    text = serve().scrape()
    assert not [tenant for tenant in tenants if tenant in text]


def test_syncs_of_all_tenants_are_counted_though_row_level_security_hides_them(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    series = 'offgridflow_connector_syncs_total{{connector="gcp",outcome="{}"}}'
    before = {outcome: value(served.scrape(), series.format(outcome)) for outcome in ("success", "failure")}
    for tenant in (new_tenant(), new_tenant()):
        database.connections.add(tenant, "bills", provider="gcp", kind="bigquery")
        database.connections.record_failure(tenant, "bills", "no access")
        database.connections.record_success(tenant, "bills")
    text = served.scrape()
    assert value(text, series.format("success")) - before["success"] == 2
    assert value(text, series.format("failure")) - before["failure"] == 2


def test_a_removed_connection_that_is_reported_on_is_not_counted(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    database.connections.record_success(tenant, "gone")
    with database.tenant(tenant) as scope:
        counted = scope.connection.scalar(
            sa.text("select count(*) from ogf.sync_ledger where tenant_id = :tenant_id"),
            {"tenant_id": scope.tenant_id},
        )
    assert counted == 0


def test_counters_are_exported_as_zero_before_anything_happens(serve: Serve) -> None:
    text = serve(policies=("sign_in.account",)).scrape()
    known = [
        'offgridflow_connector_syncs_total{connector="azure",outcome="failure"}',
        'offgridflow_checks_failed_total{check="emission_lines.cost_reconciles",severity="error"}',
        'offgridflow_report_generated_total{format="pdf",outcome="failed"}',
        'offgridflow_auth_attempts_total{outcome="failure"}',
        'offgridflow_ratelimit_rejected_total{policy="sign_in.account"}',
        'offgridflow_report_duration_seconds_count{outcome="failed"}',
    ]
    assert [series for series in known if f"\n{series} " not in text] == []


def test_failed_checks_are_counted_by_check_and_severity(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    series = 'offgridflow_checks_failed_total{check="usage_lines.schema",severity="error"}'
    before = value(served.scrape(), series)
    tenant = new_tenant()
    keys = [f"2026-01-0{n}|{tenant}" for n in (1, 2, 3)]
    database.check_ledger.record(
        run_id="run-1", check_name="usage_lines.schema", partition_keys=keys, failing={keys[0]: "a", keys[2]: "b"}
    )
    assert value(served.scrape(), series) - before == 2


def test_coverage_is_that_of_the_worst_tenant(database: Database, new_tenant: Callable[[], str], serve: Serve) -> None:
    good, bad = new_tenant(), new_tenant()
    database.scope_totals.replace(good, [TODAY], [a_total(TODAY, "mapped", "1000", 9)])
    database.scope_totals.replace(
        bad,
        [TODAY],
        [
            a_total(TODAY, "mapped", "1", 1),
            a_total(TODAY, "unmapped", "3", 2),
            a_total(TODAY, "no_emission", "50", 1),
        ],
    )
    text = serve().scrape()
    assert value(text, 'offgridflow_emissions_coverage_ratio{provider="aws"}') == 0.25
    assert value(text, 'offgridflow_emissions_unmatched_rows{provider="aws"}') >= 2


def test_the_queue_holds_due_jobs_and_runs_of_dagster(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    database.signals.record_runs("queued", 0, None)
    before = value(served.scrape(), "offgridflow_runs_queued")
    tenant = database.tenants.get(new_tenant())
    for minutes in (-30, +30):
        execute(
            database,
            "insert into ogf.jobs (tenant_id, type, requested_by, scheduled_at) values (:tenant_id,"
            " 'connector_sync', 'system', clock_timestamp() + make_interval(mins => :minutes))",
            tenant_id=tenant.tenant_id,
            minutes=minutes,
        )
    database.signals.record_runs("queued", 4, datetime.now(UTC) - timedelta(minutes=5))
    database.signals.record_runs("active", 2, datetime.now(UTC))
    text = served.scrape()
    assert value(text, "offgridflow_runs_queued") - before == 5
    assert value(text, "offgridflow_runs_active") == 2
    assert value(text, "offgridflow_runs_oldest_queued_age_seconds") == pytest.approx(1800, abs=60)


def test_freshness_is_that_of_the_connection_that_waits_longest(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    for days in (1, 3):
        tenant = new_tenant()
        database.connections.add(tenant, "bills", provider="azure", kind="exports")
        execute(
            database,
            "update ogf.cloud_connections set last_success_at = clock_timestamp() - make_interval(days => :days)"
            " where tenant_id = :tenant_id",
            days=days,
            tenant_id=database.tenants.get(tenant).tenant_id,
        )
    paused = new_tenant()
    database.connections.add(paused, "bills", provider="azure", kind="exports")
    database.connections.pause(paused, "bills")
    execute(
        database,
        "update ogf.cloud_connections set created_at = clock_timestamp() - interval '90 days' where tenant_id = :id",
        id=database.tenants.get(paused).tenant_id,
    )
    series = 'offgridflow_connector_data_freshness_seconds{connector="azure"}'
    assert value(served.scrape(), series) == pytest.approx(3 * 86_400, abs=60)


def test_data_of_a_tenant_whose_work_has_stopped_is_not_late(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    names = ('offgridflow_connector_data_freshness_seconds{connector="gcp"}', "offgridflow_publish_age_seconds")
    tenant = new_tenant()
    database.connections.add(tenant, "bills", provider="gcp", kind="exports")
    execute(
        database,
        "update ogf.cloud_connections set created_at = clock_timestamp() - interval '900 days' where tenant_id = :id",
        id=database.tenants.get(tenant).tenant_id,
    )
    late = served.scrape()
    assert [value(late, name) > 899 * 86_400 for name in names] == [True, True]
    database.subscriptions.change_standing(tenant, "pro", "restricted", datetime.now(UTC))
    stopped = served.scrape()
    assert [value(stopped, name) > 899 * 86_400 for name in names] == [False, False]


def test_the_age_of_the_publication_is_that_of_the_tenant_that_waits_longest(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    for days in (400, 500):
        tenant = new_tenant()
        database.connections.add(tenant, "bills", provider="aws", kind="cur")
        execute(
            database,
            "insert into ogf.data_versions (tenant_id, data_version, published_at, what, run_id) values"
            " (:tenant_id, 1, clock_timestamp() - make_interval(days => :days), 'scope_totals', 'run-1')",
            days=days,
            tenant_id=database.tenants.get(tenant).tenant_id,
        )
    assert value(served.scrape(), "offgridflow_publish_age_seconds") == pytest.approx(500 * 86_400, abs=60)
    execute(database, "update ogf.data_versions set published_at = clock_timestamp()")


def test_mails_of_tenants_and_of_the_platform_are_counted_by_state(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    depth = 'offgridflow_email_outbox_depth{state="pending"}'
    before = value(served.scrape(), depth)
    for tenant_id in (database.tenants.get(new_tenant()).tenant_id, uuid.UUID(int=0)):
        execute(
            database,
            "insert into ogf.email_outbox (tenant_id, template, to_addr, dedupe_key, created_at) values (:tenant_id,"
            " 'report_ready', 'someone@example.org', :key, clock_timestamp() - interval '9 days')",
            tenant_id=tenant_id,
            key=str(uuid.uuid4()),
        )
    text = served.scrape()
    assert value(text, depth) - before == 2
    assert value(text, "offgridflow_email_outbox_age_seconds") >= 9 * 86_400
    execute(database, "delete from ogf.email_outbox where created_at < clock_timestamp() - interval '8 days'")


def test_a_daemon_that_never_ticked_is_as_silent_as_the_installation_is_old(database: Database, serve: Serve) -> None:
    execute(database, "delete from ogf.heartbeats")
    served = serve()
    assert value(served.scrape(), "offgridflow_dagster_heartbeat_age_seconds") > 0
    database.signals.beat("daemon")
    assert value(served.scrape(), "offgridflow_dagster_heartbeat_age_seconds") < 5


def test_a_broken_chain_or_a_verification_of_long_ago_turns_the_audit_gauge_to_zero(
    database: Database, serve: Serve
) -> None:
    served = serve()
    database.signals.record_verification(chains=3, broken_chains=0)
    assert value(served.scrape(), "offgridflow_audit_chain_ok") == 1
    database.signals.record_verification(chains=3, broken_chains=1)
    assert value(served.scrape(), "offgridflow_audit_chain_ok") == 0
    execute(database, "delete from ogf.audit_verifications")
    execute(
        database,
        "insert into ogf.audit_verifications (verified_at, chains, broken_chains)"
        " values (clock_timestamp() - interval '51 hours', 3, 0)",
    )
    assert value(served.scrape(), "offgridflow_audit_chain_ok") == 0
    execute(database, "delete from ogf.audit_verifications")


def test_reports_are_counted_by_verdict_and_timed_from_their_request(
    database: Database, new_tenant: Callable[[], str], serve: Serve
) -> None:
    served = serve()
    before = served.scrape()
    tenant = new_tenant()
    for kind in ("report_ixbrl", "report_xbrl", "report_pdf"):
        database.report_register.record(
            tenant=tenant, period="2026-01", kind=kind, file_name="r.x", sha256="0" * 64, size_bytes=1,
            media_type="x/y", run_id="run-1",
        )  # fmt: skip
    key = f"2026-01-01|{tenant}"
    for kind, failing in (("report_ixbrl", {}), ("report_xbrl", {key: "broken"})):
        database.check_ledger.record(run_id="run-1", check_name=f"{kind}.valid", partition_keys=[key], failing=failing)
    execute(
        database,
        "insert into ogf.jobs (tenant_id, type, status, requested_by, created_at, completed_at) values (:tenant_id,"
        " 'report_generation', 'completed', 'system', clock_timestamp() - interval '40 s', clock_timestamp())",
        tenant_id=database.tenants.get(tenant).tenant_id,
    )
    after = served.scrape()
    generated = 'offgridflow_report_generated_total{{format="{}",outcome="{}"}}'
    within = 'offgridflow_report_duration_seconds_bucket{{le="{}",outcome="completed"}}'
    for series, more in (
        (generated.format("ixbrl", "valid"), 1),
        (generated.format("xbrl", "invalid"), 1),
        (generated.format("pdf", "not_validated"), 1),
        (within.format("30.0"), 0),
        (within.format("60.0"), 1),
        ('offgridflow_report_duration_seconds_count{outcome="completed"}', 1),
    ):
        assert value(after, series) - value(before, series) == more, series


def test_counting_costs_nothing_and_fails_nothing_when_telemetry_is_off() -> None:
    counters.release()
    counters.auth_attempted("failure")
    counters.rate_limit_refused("address")


def test_attempts_and_refusals_are_counted(serve: Serve) -> None:
    served = serve(policies=("address",))
    counters.auth_attempted("failure")
    counters.rate_limit_refused("address")
    counters.rate_limit_store_failed("address")
    text = served.scrape(refresh=False)
    for series in (
        'offgridflow_auth_attempts_total{outcome="failure"}',
        'offgridflow_ratelimit_rejected_total{policy="address"}',
        'offgridflow_ratelimit_store_failures_total{policy="address"}',
    ):
        assert value(text, series) == 1


def test_with_port_and_collector_off_nothing_is_started(serve: Serve) -> None:
    served = serve(metrics_port=0)
    assert (served.telemetry.registry, served.telemetry.ledger, served.telemetry.server) == (None, None, None)
    assert served.client.get("/v1/things/one").status_code == 200


def test_the_list_of_checks_is_that_of_the_definitions() -> None:
    from offgridflow_pipeline.definitions import defs

    keys = defs.resolve_asset_graph().asset_check_keys
    assert sorted(names.CHECKS) == sorted(f"{key.asset_key.to_user_string()}.{key.name}" for key in keys), (
        "telemetry/data/checks.csv names every asset check: a counter that is born at 1 raises no alert"
    )


def test_a_session_enters_the_gate_once_an_hour(database: Database, serve: Serve) -> None:
    served = serve()
    user_id, session_id = uuid.uuid4(), uuid.uuid4()
    execute(
        database,
        "insert into ogf.users (user_id, email, display_name) values (:user_id, :email, 'Someone')",
        user_id=user_id,
        email=f"{user_id}@example.org",
    )
    signals = served.database.signals
    assert [signals.enter_gate(user_id, session_id, "read-only") for _ in range(2)] == [True, False]
    assert signals.enter_gate(user_id, session_id, "read-write")
