"""One row in every table of a tenant and of a person, written past row level security by the administrator.

Two tenants get the same natural keys (connection `payer`, period 2026-09, job of an equal type): where a statement
or a key forgot the tenant, they collide. Nothing of it is due: sensors and senders that other tests run find no work here. A table without a row here fails a test of `test_tenant_isolation`.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database

DAY = "2026-09-01"
PERIOD = "2026-09"
CONNECTION = "payer"

#: Rows of a tenant, in an order that foreign keys accept. Columns of a name that `Filled` has are filled from it.
TENANT_ROWS: dict[str, dict[str, Any]] = {
    "source_snapshots": {
        "connection_id": CONNECTION, "feed": "cur", "uri": "s3://b/k", "sha256": "a" * 64, "size_bytes": 1,
        "row_count": 1, "run_id": "r", "last_run_id": "r", "billing_period": DAY,
    },
    "report_register": {
        "period": PERIOD, "kind": "report_pdf", "edition": 1, "file_name": "a.pdf", "sha256": "b" * 64,
        "size_bytes": 1, "media_type": "application/pdf", "status": "published", "run_id": "r",
        "published_at": "2026-10-01", "published_by": "r",
    },
    "daily_scope_totals": {
        "usage_date": DAY, "scope": "3", "s3_category": 1, "provider": "aws", "sub_account": "1", "service": "EC2",
        "region": "eu-west-1", "disposition": "mapped", "currency": "EUR", "line_count": 1, "billed_cost": 1,
        "kwh": 1, "co2e_lbm_kg": 1, "co2e_mbm_kg": 1, "embodied_kg": 1, "upstream_energy_kg": 1,
    },
    "check_ledger": {
        "run_id": "r", "check_name": "a.b", "partition_key": DAY, "passed": False, "severity": "ERROR",
        "finding": "wrong",
    },
    "cloud_connections": {
        "connection_id": CONNECTION, "provider": "aws", "kind": "cur2", "uri": "s3://b/k", "secret_ref": "sealed",
    },
    "sealed_secrets": {
        "connection_id": CONNECTION, "key_id": "k", "nonce": b"n" * 12, "ciphertext": b"c" * 17,
        "wrapped_key": b"w" * 48, "wrapped_key_nonce": b"m" * 12,
    },
    "feed_states": {
        "connection_id": CONNECTION, "unit": "unit", "fingerprint": None, "observed_at": DAY,
        "run_id": "r",
    },
    "day_digests": {
        "dataset": "aws_billing_extract", "connection_id": CONNECTION, "usage_date": DAY, "row_count": 1,
        "cost_digest": None, "run_id": "r",
    },
    "period_closures": {"month": PERIOD, "closed_by": "ada"},
    "restatements": {
        "restatement_id": None, "month": PERIOD, "connection_id": CONNECTION, "first_day": DAY, "last_day": DAY,
        "reason": "new_version",
    },
    "source_changes": {
        "connection_id": CONNECTION, "first_day": DAY, "last_day": DAY, "reason": "new_version", "version": "e" * 64,
        "observed": "{}", "observed_at": DAY,
    },
    "memberships": {"user_id": None, "role": "owner", "granted_by": "system"},
    "invitations": {
        "invitation_id": None, "email": "guest@example.com", "role": "viewer", "invited_by": "system", "expires_at": "2999-01-01",
        "token_hash": None,
    },
    "break_glass_grants": {
        "user_id": None, "reason": "help", "granted_by": "system", "granted_at": None, "expires_at": None,
    },
    "tenant_states": {"data_version": 1},
    "data_versions": {"data_version": 1, "what": "scope_totals", "run_id": "r"},
    "api_keys": {
        "key_id": None, "secret_sha256": None, "name": "dashboard", "permissions": ["emissions:read"],
        "created_by": "system", "expires_at": "2999-01-01",
    },
    "jobs": {
        "job_id": None, "type": "report_generation", "requested_by": "system", "status": "failed",
        "completed_at": None,
    },
    "reports": {
        "report_id": None, "period": PERIOD, "edition": 1, "prepared_by": "run:r", "run_id": "r",
    },
    "report_artefacts": {"report_id": None, "period": PERIOD, "kind": "report_pdf", "artefact_edition": 1},
    "email_outbox": {
        "mail_id": None, "template": "report_ready", "to_addr": "ada@example.com", "dedupe_key": "k",
        "next_at": "2999-01-01",
    },
    "idempotency_keys": {
        "principal": "system", "route": "POST /v1/runs", "key": "k", "fingerprint": b"f" * 32, "status": 201,
        "headers": "{}", "body": b"b",
    },
    "uploads": {
        "upload_id": None, "kind": "activity", "file_name": "a.csv", "media_type": "text/csv", "sha256": "f" * 64, "size_bytes": 1,
        "row_count": 1, "state": "accepted", "uploaded_by": "system",
    },
    "sync_ledger": {"connection_id": CONNECTION, "provider": "aws", "outcome": "success"},
    "subscriptions": {"customer_id": None, "snapshot": "{}", "fetched_at": DAY},
    "audit_anchor_leaves": {"anchor_date": "1998-01-01", "seq": 1, "hash": bytes(32), "proof": "[]"},
}  # fmt: skip

#: Rows of a person.
USER_ROWS: dict[str, dict[str, Any]] = {
    "credentials": {"password_hash": "$argon2id$"},
    "recovery_codes": {"code_hash": b"c" * 32},
    "password_resets": {"reset_id": None, "token_hash": None, "expires_at": "2999-01-01"},
    "sessions": {"session_id": None, "token_hmac": None, "active_tenant": None, "expires_at": "2999-01-01"},
    "gate_entries": {"session_id": None, "mode": "read-only"},
}

#: Tables that hold nothing of a tenant or a person: a new one is added here on purpose.
SHARED_TABLES = {
    "schema_migration", "audit_anchors", "rate_buckets", "heartbeats", "run_heartbeats", "run_states",
    "audit_verifications", "sign_in_failures", "external_events",
}  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """A tenant with one row in every table, and its owner, who has one in every table of people.

    `thing_id` is the id of its job, report, session, restatement, invitation, upload, reset and mail.
    """

    slug: str
    tenant_id: UUID
    user_id: UUID
    email: str
    key_id: str
    secret_sha256: bytes
    token_hash: bytes
    token_hmac: bytes
    thing_id: UUID

    @property
    def fingerprint(self) -> str:
        """State of its source."""
        return json.dumps({"version": self.slug})

    @property
    def cost_digest(self) -> str:
        """Digest of a day of its source."""
        return sha256(self.slug.encode()).hexdigest()

    @property
    def customer_id(self) -> str:
        """Its Stripe customer."""
        return f"cus_{self.slug}"

    @property
    def active_tenant(self) -> UUID:
        """Tenant that the owner's session works in."""
        return self.tenant_id


def fill(database: Database, slug: str) -> Filled:
    """Write the rows."""
    seed = sha256(slug.encode()).digest()
    filled = Filled(
        slug=slug,
        tenant_id=database.tenants.get(slug).tenant_id,
        user_id=uuid.uuid5(uuid.NAMESPACE_DNS, slug),
        email=f"{slug}@example.com",
        key_id=seed.hex()[:10],
        secret_sha256=sha256(b"secret" + seed).digest(),
        token_hash=sha256(b"token" + seed).digest(),
        token_hmac=sha256(b"session" + seed).digest(),
        thing_id=uuid.uuid5(uuid.NAMESPACE_OID, slug),
    )
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into ogf.audit_anchors values ('1998-01-01', now(), '{}', 'k', decode(repeat('00', 64), 'hex'))"
            " on conflict do nothing"
        )
        connection.execute(
            sa.text(
                "insert into ogf.users (user_id, email, display_name, platform_role)"
                " values (:user_id, :email, 'Ada', 'platform_operator')"
            ),
            {"user_id": filled.user_id, "email": filled.email},
        )
        for table, row in TENANT_ROWS.items():
            _insert(connection, filled, table, {"tenant_id": None, **row})
        for table, row in USER_ROWS.items():
            _insert(connection, filled, table, {"user_id": None, **row})
    database.audit_log.append(slug, '{"action":"auth:sign_in","actor":{"id":"u","type":"user"}}')
    return filled


#: Of columns whose value only the server knows.
_TIMES = {
    "granted_at": "now()",
    "expires_at": "now() + interval '1 hour'",
    "completed_at": "clock_timestamp() + interval '1 second'",
}


def _insert(connection: sa.Connection, filled: Filled, table: str, row: dict[str, Any]) -> None:
    """Write a row; what it leaves open is the tenant's or person's own, or a time."""
    own = {name: getattr(filled, name, filled.thing_id) for name, value in row.items() if value is None}
    places = {name: _TIMES[name] if name in own and name in _TIMES else f":{name}" for name in row}
    connection.execute(
        sa.text(f"insert into ogf.{table} ({', '.join(places)}) values ({', '.join(places.values())})"), {**row, **own}
    )
