"""What each repository method is asked in the tests of non-interference: by tenant A, with A's ids and with B's.

A method that takes a tenant or a person needs an entry: `test_every_method_has_a_question` fails without one. Natural
keys (connection, period, dedupe key) are the same in A and B, so that a statement that forgot its tenant finds both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from offgridflow_pipeline.database.idempotency import KeptAnswer, RequestKey
from offgridflow_pipeline.database.pipeline.changes import DetectedChange
from offgridflow_pipeline.database.pipeline.connections import SealedSecret
from offgridflow_pipeline_tests.database.filled import CONNECTION, PERIOD, Filled

#: (repository, A, B) -> the answer.
Ask = Callable[[Any, Filled, Filled], Any]

FIRST, LAST = date(2026, 9, 1), date(2026, 9, 30)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
SEALED = SealedSecret("k", b"n" * 12, b"c" * 17, b"w" * 48, b"m" * 12)
OTHER = SealedSecret("k2", b"n" * 12, b"c" * 17, b"x" * 48, b"m" * 12)
KEY = RequestKey("system", "POST /v1/runs", "k")
HASH = b"h" * 32
TOTALS = {
    "usage_date": FIRST, "scope": "3", "s3_category": 1, "provider": "aws", "sub_account": "1", "service": "S3",
    "region": "eu-west-1", "disposition": "mapped", "currency": "EUR", "line_count": 1, "billed_cost": Decimal(1),
    "kwh": Decimal(1), "co2e_lbm_kg": Decimal(1), "co2e_mbm_kg": Decimal(1), "embodied_kg": Decimal(1),
    "upstream_energy_kg": Decimal(1),
}  # fmt: skip
SNAPSHOT = {
    "connection_id": CONNECTION, "feed": "cur", "uri": "s3://b/k", "etag": "e", "sha256": "a" * 64, "size_bytes": 1,
    "row_count": 1, "source_version": "", "billing_period": FIRST,
}  # fmt: skip


def _own(ask: Callable[[Any, Filled], Any]) -> list[Ask]:
    """Asked with A's values."""
    return [lambda repository, a, _b: ask(repository, a)]


def _either(ask: Callable[[Any, Filled, Filled], Any]) -> list[Ask]:
    """Asked with A's ids, and with B's, which A could have seen somewhere."""
    return [lambda repository, a, _b: ask(repository, a, a), ask]


def _mail(repository: Any, a: Filled) -> Any:
    return repository.list(a.slug)[0]


#: Of tenants.
TENANT_QUESTIONS: Mapping[str, list[Ask]] = {
    "tenants.get": _own(lambda r, a: r.get(a.slug)),
    "tenants.change": _own(lambda r, a: r.change(a.slug, {"display_name": "New"})),
    "connections.add": _own(
        lambda r, a: r.add(a.slug, CONNECTION, provider="aws", kind="cur2", uri="s3://new", replace=True)
    )
    + _own(lambda r, a: r.add(a.slug, CONNECTION, provider="aws", kind="cur2")),
    "connections.get": _own(lambda r, a: r.get(a.slug, CONNECTION)),
    "connections.list": _own(lambda r, a: r.list(a.slug)),
    "connections.pause": _own(lambda r, a: (r.pause(a.slug, CONNECTION), r.list(a.slug))),
    "connections.resume": _own(lambda r, a: r.resume(a.slug, CONNECTION)),
    "connections.remove": _own(lambda r, a: (r.remove(a.slug, CONNECTION), r.list(a.slug))),
    "connections.record_failure": _own(lambda r, a: r.record_failure(a.slug, CONNECTION, "no")),
    "connections.record_success": _own(lambda r, a: r.record_success(a.slug, CONNECTION)),
    "connections.put_secret": _own(lambda r, a: (r.put_secret(a.slug, CONNECTION, OTHER), r.secrets(a.slug))),
    "connections.rewrap": _own(lambda r, a: r.rewrap(a.slug, CONNECTION, SEALED, OTHER)),
    "connections.secret": _own(lambda r, a: r.secret(a.slug, CONNECTION)),
    "connections.secrets": _own(lambda r, a: r.secrets(a.slug)),
    "source_snapshots.latest": _own(lambda r, a: r.latest(a.slug, CONNECTION, FIRST)),
    "source_snapshots.list": _own(lambda r, a: r.list(a.slug)),
    "source_snapshots.record": _own(lambda r, a: r.record(tenant=a.slug, run_id="r2", snapshot=SNAPSHOT)),
    "report_register.list": _own(lambda r, a: r.list(a.slug)),
    "report_register.newest": _own(lambda r, a: r.newest(a.slug, PERIOD, "report_pdf")),
    "report_register.published": _own(lambda r, a: r.published(a.slug, PERIOD, "report_pdf")),
    "report_register.publish": _own(lambda r, a: r.publish(a.slug, PERIOD, ["report_pdf"], run_id="r2")),
    "report_register.record": _own(
        lambda r, a: r.record(
            tenant=a.slug, period=PERIOD, kind="report_pdf", file_name="a.pdf", sha256="c" * 64, size_bytes=1,
            media_type="application/pdf", run_id="r2",
        )
    ),
    "report_register.validated": _own(
        lambda r, a: (r.validated(a.slug, PERIOD, "report_pdf", "b" * 64, {"verdict": "valid"}), r.list(a.slug))
    ),
    "scope_totals.list": _own(lambda r, a: r.list(a.slug, FIRST, LAST)),
    "scope_totals.replace": _own(lambda r, a: (r.replace(a.slug, [FIRST], [TOTALS]), r.list(a.slug, FIRST, LAST))),
    "emissions.coverage": _own(lambda r, a: r.coverage(a.slug, FIRST, LAST)),
    "emissions.reported": _own(lambda r, a: r.reported(a.slug, 1)),
    "emissions.source_object": _own(lambda r, a: r.source_object(a.slug, "a" * 64)),
    "emissions.totals": _own(lambda r, a: r.totals(a.slug, FIRST, LAST, group_by=("provider",), limit=10))
    + _own(lambda r, a: r.totals(a.slug, FIRST, LAST, group_by=("month", "scope"), filters={"scope": "3"}, limit=10)),
    "emissions.verdicts_and_sources": _own(lambda r, a: r.verdicts_and_sources(a.slug, FIRST, LAST)),
    "check_ledger.failures": _own(lambda r, a: r.failures(a.slug, "r")),
    "check_ledger.list": _own(lambda r, a: r.list(a.slug)),
    "check_ledger.record": _own(
        lambda r, a: (
            r.record(run_id="r2", check_name="a.b", partition_keys=[f"{FIRST}|{a.slug}"], failing={}),
            [(found.run_id, found.passed) for found in r.list(a.slug)],
        )
    ),
    "feed_states.advance": _own(
        lambda r, a: r.advance(a.slug, CONNECTION, {"unit": {"version": "2"}}, observed_at=NOON, run_id="r2")
    ),
    "feed_states.read": _own(lambda r, a: r.read(a.slug, CONNECTION)),
    "day_digests.read": _own(lambda r, a: r.read(a.slug, "aws_billing_extract", [FIRST])),
    "day_digests.record": _own(
        lambda r, a: (
            r.record(
                a.slug, "aws_billing_extract", days=[FIRST], connections={CONNECTION: "2"}, digests={}, run_id="r2"
            ),
            r.read(a.slug, "aws_billing_extract", [FIRST]),
        )
    ),
    "source_changes.claim": _own(lambda r, a: r.claim(a.slug, lambda changes: {c.change_id: "key" for c in changes})),
    "source_changes.done": _own(lambda r, a: (r.done(a.slug, "key", run_id="r2"), r.list(a.slug))),
    "source_changes.failed": _own(lambda r, a: (r.failed(a.slug, "key", error="no"), r.list(a.slug))),
    "source_changes.list": _own(lambda r, a: r.list(a.slug)),
    "source_changes.record": _own(
        lambda r, a: r.record(
            a.slug, CONNECTION, [DetectedChange(FIRST, FIRST, "new_version", "f" * 64, {})], observed_at=NOON
        )
    ),
    "period_closures.close": _own(lambda r, a: r.close(a.slug, "2026-08", by="ada", today=NOON.date()))
    + _own(lambda r, a: r.close(a.slug, PERIOD, by="ada", today=NOON.date())),
    "period_closures.closed_months": _own(lambda r, a: r.closed_months(a.slug)),
    "period_closures.list": _own(lambda r, a: r.list(a.slug)),
    "period_closures.reopen": _own(lambda r, a: (r.reopen(a.slug, PERIOD, by="ada"), r.closed_months(a.slug))),
    "restatements.approve": _either(lambda r, a, x: r.approve(a.slug, x.thing_id, by="ada")),
    "restatements.find": _either(lambda r, a, x: r.find(a.slug, x.thing_id)),
    "restatements.list": _own(lambda r, a: r.list(a.slug)),
    "restatements.reject": _either(lambda r, a, x: r.reject(a.slug, x.thing_id, by="ada")),
    "break_glass.add": _own(
        lambda r, a: r.add(a.slug, a.user_id, reason="help", granted_by="system", lifetime=timedelta(hours=1))
    ),
    "break_glass.list": _own(lambda r, a: r.list(a.slug)),
    "break_glass.revoke": _either(lambda r, a, x: r.revoke(a.slug, x.user_id)),
    "memberships.add": _either(
        lambda r, a, x: r.add(a.slug, x.user_id, "viewer", granted_by="system", expires_at=None)
    ),
    "memberships.change": _either(
        lambda r, a, x: r.change(a.slug, x.user_id, "viewer", granted_by="system", expires_at=None)
    ),
    "memberships.get": _either(lambda r, a, x: r.get(a.slug, x.user_id)),
    "memberships.has_address": _either(lambda r, a, x: r.has_address(a.slug, x.email)),
    "memberships.list": _own(lambda r, a: r.list(a.slug)),
    "memberships.remove": _either(lambda r, a, x: r.remove(a.slug, x.user_id)),
    "erasures.address": _own(lambda r, a: r.address(a.slug, "guest@example.com")),
    "invitations.accept": _either(lambda r, a, x: r.accept(a.slug, x.thing_id, x.token_hash, a.user_id)),
    "invitations.add": _own(
        lambda r, a: r.add(
            a.slug, "new@example.com", "viewer", invited_by="system", lifetime=WEEK, membership_expires_at=None
        )
    )
    + _own(
        lambda r, a: r.add(
            a.slug, "guest@example.com", "viewer", invited_by="system", lifetime=WEEK, membership_expires_at=None
        )
    ),
    "invitations.get": _either(lambda r, a, x: r.get(a.slug, x.thing_id)),
    "invitations.give_token": _either(lambda r, a, x: r.give_token(a.slug, x.thing_id, HASH)),
    "invitations.list": _own(lambda r, a: r.list(a.slug)),
    "invitations.prolong": _either(lambda r, a, x: r.prolong(a.slug, x.thing_id, WEEK)),
    "invitations.revoke": _either(lambda r, a, x: r.revoke(a.slug, x.thing_id)),
    "invitations.revoke_of": _own(lambda r, a: r.revoke_of(a.slug, "system")),
    "api_keys.add": _either(
        lambda r, a, x: r.add(
            a.slug, x.key_id, HASH, name="new", permissions=["emissions:read"], created_by="system", expires_at=FUTURE
        )
    ),
    "api_keys.get": _either(lambda r, a, x: r.get(a.slug, x.key_id)),
    "api_keys.hold": _own(lambda r, a: r.hold(a.slug)),
    "api_keys.list": _own(lambda r, a: r.list(a.slug)),
    "api_keys.newest": _own(lambda r, a: r.newest(a.slug, after=None, limit=10))
    + _own(lambda r, a: r.newest(a.slug, after=(FUTURE, "z"), limit=10)),
    "api_keys.revoke": _either(lambda r, a, x: r.revoke(a.slug, x.key_id, by="system")),
    "api_keys.touch": _either(lambda r, a, x: r.touch(a.slug, x.key_id)),
    "audit_log.anchors": _own(lambda r, a: r.anchors(a.slug)),
    "audit_log.append": _own(
        lambda r, a: (r.append(a.slug, '{"action":"a","actor":{"id":"","type":"system"}}'), r.head(a.slug).seq)
    ),
    "audit_log.events": _own(lambda r, a: r.events(a.slug, after=0, limit=10)),
    "audit_log.head": _own(lambda r, a: r.head(a.slug)),
    "audit_log.newest": _own(lambda r, a: r.newest(a.slug, limit=10))
    + _own(lambda r, a: r.newest(a.slug, before=5, limit=10, action="auth:sign_in", actor="user:u")),
    "audit_log.newest_anchor": _own(lambda r, a: r.newest_anchor(a.slug)),
    "jobs.add": _own(
        lambda r, a: r.add(a.slug, job_type="report_generation", payload={"month": PERIOD}, requested_by="system")
    ),
    "jobs.cancel": _either(lambda r, a, x: r.cancel(a.slug, x.thing_id)),
    "jobs.claim": _own(lambda r, a: r.claim(a.slug)),
    "jobs.get": _either(lambda r, a, x: r.get(a.slug, x.thing_id)),
    "jobs.is_open": _own(lambda r, a: r.is_open(a.slug, "report_generation", "system")),
    "jobs.list": _own(lambda r, a: r.list(a.slug, limit=10)),
    "jobs.progressed": _own(lambda r, a: r.progressed(a.slug, r.get(a.slug, a.thing_id), run_id="r2", progress=5)),
    "jobs.requester": _own(lambda r, a: r.requester(a.slug, r.get(a.slug, a.thing_id))),
    "jobs.retry": _own(lambda r, a: r.retry(a.slug, r.get(a.slug, a.thing_id), error="no")),
    "jobs.settle": _own(lambda r, a: r.settle(a.slug, r.get(a.slug, a.thing_id), "failed", error="no")),
    "jobs.open_count": _own(lambda r, a: r.open_count(a.slug, 200)),
    "jobs.under_way": _own(lambda r, a: r.under_way(a.slug)),
    "reports.artefact": _either(lambda r, a, x: r.artefact(a.slug, x.thing_id, "a.pdf")),
    "reports.artefacts": _either(lambda r, a, x: r.artefacts(a.slug, x.thing_id)),
    "reports.decide": _either(lambda r, a, x: r.decide(a.slug, x.thing_id, "reviewed", by="user:u")),
    "reports.get": _either(lambda r, a, x: r.get(a.slug, x.thing_id)),
    "reports.list": _own(lambda r, a: r.list(a.slug, limit=10)),
    "reports.newest": _own(lambda r, a: r.newest(a.slug, PERIOD)),
    "reports.of_run": _own(lambda r, a: r.of_run(a.slug, "r")),
    "reports.publish": _own(
        lambda r, a: r.publish(a.slug, PERIOD, {"report_pdf": 1}, run_id="r2", prepared_by="run:r2")
    ),
    "publications.as_of": _own(lambda r, a: r.as_of(a.slug, "scope_totals", 1)),
    "publications.bump": _own(lambda r, a: r.bump(a.slug, "scope_totals", {"scope_totals": 2}, "r2")),
    "publications.current": _own(lambda r, a: r.current(a.slug)),
    "outbox.add": _own(
        lambda r, a: r.add(
            a.slug, "report_ready", to="a@b.c", user_id=None, locale="en", variables={}, dedupe_key="k"
        )
    ),
    "outbox.claim": _own(lambda r, a: r.claim(a.slug, timedelta(minutes=1))),
    "outbox.give_up": _own(lambda r, a: r.give_up(a.slug, _mail(r, a), error="no")),
    "outbox.is_wanted": _either(lambda r, a, x: r.is_wanted(a.slug, x.user_id, "report_ready")),
    "outbox.list": _own(lambda r, a: r.list(a.slug)),
    "outbox.mute": _own(lambda r, a: r.mute(a.slug, _mail(r, a), reason="muted")),
    "outbox.retry": _own(lambda r, a: r.retry(a.slug, _mail(r, a), after=timedelta(minutes=1), error="no")),
    "outbox.sent": _own(lambda r, a: r.sent(a.slug, _mail(r, a))),
    "idempotency.claim": _own(lambda r, a: r.claim(a.slug, KEY)),
    "idempotency.find": _own(lambda r, a: r.find(a.slug, KEY)),
    "idempotency.keep": _own(lambda r, a: r.keep(a.slug, KEY, KeptAnswer(HASH, 201, {}, b"b")))
    + _own(lambda r, a: r.keep(a.slug, RequestKey("system", "r", "new"), KeptAnswer(HASH, 201, {}, b"b"))),
    "subscriptions.change_standing": _own(
        lambda r, a: (r.change_standing(a.slug, "pro", "grace", NOON), r.standing(a.slug))
    ),
    "subscriptions.get": _own(lambda r, a: r.get(a.slug)) + _own(lambda r, a: r.get(a.slug, for_update=True)),
    "subscriptions.keep": _own(lambda r, a: (r.keep(a.slug, {"fetch": 2}, NOON), r.get(a.slug))),
    "subscriptions.link": _either(lambda r, a, x: r.link(a.slug, x.customer_id))
    + _either(lambda r, a, x: r.link(a.slug, "cus_new", instead_of=x.customer_id)),
    "subscriptions.onboard": _own(lambda r, a: (r.onboard(a.slug, "done"), r.get(a.slug))),
    "subscriptions.request_offboarding": _own(lambda r, a: (r.request_offboarding(a.slug, NOON), r.get(a.slug))),
    "subscriptions.standing": _own(lambda r, a: r.standing(a.slug)),
    "subscriptions.stop": _own(lambda r, a: (r.stop(a.slug, NOON), r.get(a.slug))),
    "uploads.add": _own(
        lambda r, a: r.add(
            a.slug, kind="activity", file_name="a.csv", media_type="text/csv", sha256="f" * 64, size_bytes=1,
            row_count=1, state="accepted", problems=[], uploaded_by="system",
        )
    ),
    "uploads.get": _either(lambda r, a, x: r.get(a.slug, x.thing_id)),
    "uploads.list": _own(lambda r, a: r.list(a.slug, limit=10)),
    "uploads.same": _own(lambda r, a: r.same(a.slug, "activity", "f" * 64)),
}  # fmt: skip

#: Of people. The one who asks is the person of the transaction.
PERSON_QUESTIONS: Mapping[str, list[Ask]] = {
    "users.add": _own(lambda r, a: r.add(a.user_id, "new@example.com", "New")),
    "users.change": _own(lambda r, a: (r.change(a.user_id, {"locale": "de"}), r.get(a.user_id))),
    "users.get": _own(lambda r, a: r.get(a.user_id)),
    "users.set_platform_role": _own(lambda r, a: r.set_platform_role(a.user_id, None)),
    "users.tenants": _own(lambda r, a: r.tenants(a.user_id)),
    "credentials.confirm_second_factor": _own(lambda r, a: r.confirm_second_factor(a.user_id, SEALED, 1)),
    "credentials.get": _own(lambda r, a: r.get(a.user_id)),
    "credentials.offer_second_factor": _own(lambda r, a: r.offer_second_factor(a.user_id, SEALED)),
    "credentials.rehash": _own(lambda r, a: r.rehash(a.user_id, "$argon2id$", "$argon2id$new")),
    "credentials.remove_second_factor": _own(lambda r, a: r.remove_second_factor(a.user_id)),
    "credentials.replace_recovery_codes": _own(
        lambda r, a: (r.replace_recovery_codes(a.user_id, [HASH]), r.second_factor(a.user_id))
    ),
    "credentials.rewrap": _own(lambda r, a: r.rewrap(a.user_id, SEALED, OTHER)),
    "credentials.second_factor": _own(lambda r, a: r.second_factor(a.user_id)),
    "credentials.set_password": _own(lambda r, a: r.set_password(a.user_id, "$argon2id$new")),
    "credentials.use_recovery_code": _own(lambda r, a: r.use_recovery_code(a.user_id, b"c" * 32)),
    "credentials.use_step": _own(lambda r, a: r.use_step(a.user_id, 1)),
    "erasures.person": _own(lambda r, a: r.person(a.user_id)),
    "password_resets.give_token": _either(lambda r, a, x: r.give_token(a.user_id, x.thing_id, HASH)),
    "password_resets.request": _own(lambda r, a: r.request(a.user_id, WEEK)),
    "password_resets.use": _either(lambda r, a, x: r.use(a.user_id, x.thing_id, x.token_hash)),
    "password_resets.void": _own(lambda r, a: r.void(a.user_id)),
    "sessions.add": _own(
        lambda r, a: r.add(
            a.user_id, HASH, lifetime=WEEK, active_tenant=a.tenant_id, second_factor=True, user_agent="", ip_hash=b""
        )
    ),
    "sessions.forget_old": _own(lambda r, a: r.forget_old(a.user_id)),
    "sessions.knows_device": _own(lambda r, a: r.knows_device(a.user_id, user_agent="", ip_hash=b"")),
    "sessions.knows_network": _own(lambda r, a: r.knows_network(a.user_id, b"")),
    "sessions.last_tenant": _own(lambda r, a: r.last_tenant(a.user_id)),
    "sessions.list": _own(lambda r, a: r.list(a.user_id, WEEK)),
    "sessions.revoke": _either(lambda r, a, x: r.revoke(a.user_id, x.thing_id)),
    "sessions.revoke_all": _own(lambda r, a: r.revoke_all(a.user_id)),
    "sessions.rotate": _either(lambda r, a, x: r.rotate(a.user_id, x.thing_id, HASH)),
    "sessions.set_active_tenant": _either(lambda r, a, x: r.set_active_tenant(a.user_id, x.thing_id, a.tenant_id)),
    "sessions.step_up": _either(lambda r, a, x: r.step_up(a.user_id, x.thing_id, second_factor=True)),
    "sessions.touch": _either(lambda r, a, x: r.touch(a.user_id, x.thing_id)),
    "signals.enter_gate": _either(lambda r, a, x: r.enter_gate(a.user_id, x.thing_id, "read-only")),
}

#: Of no one tenant or person: they begin scopes, look across them through a definer function, or count without them.
ACROSS = {
    "requests.by_key", "requests.by_session", "requests.by_tenant", "requests.by_token", "tenants.add", "tenants.list", "users.directory",
    "password_resets.by_token", "invitations.by_token", "sign_in_failures.add", "sign_in_failures.clear",
    "sign_in_failures.of", "audit_log.anchor", "jobs.tenants", "outbox.scopes",
    "outbox.remove_old", "rate_buckets.hit", "rate_buckets.remove_expired", "signals.beat", "signals.beat_run",
    "signals.exporter", "signals.forget_run_beats", "signals.run_silences", "signals.record_runs",
    "signals.record_verification", "erasures.payloads", "external_events.add", "external_events.claim", "external_events.counts",
    "external_events.fail", "external_events.forget_payloads", "external_events.given_up", "external_events.newest", "external_events.oldest_due",
    "external_events.postpone",
    "external_events.replay", "external_events.settle", "subscriptions.being_onboarded", "subscriptions.clock",
    "subscriptions.customers", "subscriptions.leaving", "subscriptions.tenant_of",
}  # fmt: skip
