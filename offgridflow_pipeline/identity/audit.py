"""The audit log: who did what, to what, with which outcome; one hash chain per tenant and one of the platform.

An event is canonical JSON text (keys sorted by code point, no blanks, UTF-8) and is appended in the transaction of
the change it tells of: ``hash = sha256(previous hash || sequence number as int8 || body)``. It holds ids, no names
and no addresses: those stand in tables that can be erased. Checking is in `chains`, signing of heads in `anchors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"

MAXIMUM_TEXT = 2_000


class Action(StrEnum):
    """What an event tells of: ``subject:action``. The outcome is a field of its own."""

    SIGN_IN = "auth:sign_in"
    SIGN_OUT = "auth:sign_out"
    STEP_UP = "auth:step_up"
    SECOND_FACTOR_ENROLLED = "auth:second_factor:enrolled"
    SECOND_FACTOR_REMOVED = "auth:second_factor:removed"
    RECOVERY_CODES_RENEWED = "auth:recovery_codes:renewed"
    TOKEN_ISSUED = "auth:token:issued"  # noqa: S105
    SESSION_REVOKED = "auth:session:revoked"
    TENANT_SWITCHED = "auth:tenant:switched"
    PASSWORD_CHANGED = "auth:password:changed"  # noqa: S105
    PASSWORD_RESET_REQUESTED = "auth:password:reset_requested"  # noqa: S105
    PASSWORD_RESET = "auth:password:reset"  # noqa: S105

    ACCESS_DENIED = "access:denied"
    BREAK_GLASS_GRANTED = "access:break_glass:granted"
    BREAK_GLASS_REVOKED = "access:break_glass:revoked"
    BREAK_GLASS_USED = "access:break_glass:used"

    USER_ADDED = "users:added"
    USER_CHANGED = "users:changed"
    USER_DISABLED = "users:disabled"
    USER_ENABLED = "users:enabled"
    USER_ERASED = "users:erased"
    PLATFORM_ROLE_CHANGED = "users:platform_role:changed"

    MEMBER_INVITED = "members:invited"
    INVITATION_REVOKED = "members:invitation:revoked"
    INVITATION_ACCEPTED = "members:invitation:accepted"
    MEMBER_ADDED = "members:added"
    MEMBER_ROLE_CHANGED = "members:role:changed"
    MEMBER_REMOVED = "members:removed"

    KEYS_CREATED = "keys:created"
    KEYS_ROTATED = "keys:rotated"
    KEYS_REVOKED = "keys:revoked"
    KEYS_LEAKED = "keys:leaked"

    TENANT_ADDED = "tenant:added"
    SETTINGS_CHANGED = "tenant:settings:changed"

    CONNECTION_ADDED = "connectors:added"
    CONNECTION_REMOVED = "connectors:removed"
    CONNECTION_PAUSED = "connectors:paused"
    CONNECTION_RESUMED = "connectors:resumed"
    SECRET_CHANGED = "connectors:secret:changed"  # noqa: S105

    UPLOAD_ACCEPTED = "uploads:accepted"
    UPLOAD_REFUSED = "uploads:refused"

    RUN_REQUESTED = "runs:requested"
    RUN_LAUNCHED = "runs:launched"
    RUN_CANCELLED = "runs:cancelled"
    RUN_COMPLETED = "runs:completed"
    RUN_FAILED = "runs:failed"

    PERIOD_CLOSED = "periods:closed"
    PERIOD_REOPENED = "periods:reopened"
    RESTATEMENT_APPROVED = "restatements:approved"
    RESTATEMENT_REJECTED = "restatements:rejected"

    REPORT_REQUESTED = "report:requested"
    REPORT_PUBLISHED = "report:published"
    REPORT_REVIEWED = "report:reviewed"
    REPORT_APPROVED = "report:approved"
    REPORT_ISSUED = "report:issued"
    ARTIFACT_DOWNLOADED = "report:artifact:download"
    ARTIFACT_LINK_ISSUED = "report:artifact:link"
    RAW_OBJECT_DOWNLOADED = "evidence:object:download"

    BILLING_CUSTOMER_LINKED = "billing:customer:linked"
    BILLING_CHECKOUT_STARTED = "billing:checkout:started"
    BILLING_PORTAL_OPENED = "billing:portal:opened"
    BILLING_PLAN_CHANGED = "billing:plan:changed"
    BILLING_STATE_CHANGED = "billing:state:changed"
    BILLING_DISPUTE_OPENED = "billing:dispute:opened"
    BILLING_OFFBOARDING_REQUESTED = "billing:offboarding:requested"

    AUDIT_EXPORTED = "audit:exported"
    GATE_ENTERED = "gate:entered"
    GATE_REFUSED = "gate:refused"


def record(
    database: Database,
    tenant: str,
    action: Action,
    *,
    actor: str,
    target: str = "",
    outcome: str = "success",
    request_id: str = "",
    ip_hash: str = "",
    details: Mapping[str, Json] | None = None,
) -> int:
    """Append an event to the tenant's chain, in the bound transaction where there is one; returns its number.

    Tenant ``platform`` is the platform's own chain. Actors: ``user:<uuid>``, ``key:<key id>``, ``run:<run id>``,
    ``system``.

    Raises:
        TypeError: `details` holds what canonical JSON does not: a float, or a key that is no text.
    """
    kind, _, actor_id = actor.partition(":")
    body = canonical_json(
        {
            "action": str(action),
            "actor": {"id": actor_id, "type": kind},
            "at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "details": _short(dict(details or {})),
            "ip_hash": ip_hash,
            "outcome": outcome,
            "request_id": request_id,
            "target": _short(target),
        }
    )
    return database.audit_log.append(tenant, body)


def canonical_json(value: Json) -> str:
    """The one text of a value: keys sorted by code point, no blanks, no escapes but those JSON demands.

    Text that PostgreSQL or UTF-8 cannot hold (NUL, lone surrogates) becomes U+FFFD.

    Raises:
        TypeError: a float (write the decimal as text), a key that is no text, or another type.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Json) -> Json:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"canonical JSON has text keys, not {strange[0]!r}")
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"canonical JSON holds no {type(value).__name__}")


def _short(value: Json) -> Json:
    """The value with long texts cut: what a client sent must not fill the log."""
    if isinstance(value, str):
        return value[:MAXIMUM_TEXT]
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value


def _text(text: str) -> str:
    holdable = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return holdable.replace("\0", "\N{REPLACEMENT CHARACTER}")
