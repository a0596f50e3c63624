"""Signed links to one artefact: whoever holds one may download it for a minute or five, without signing in.

``<base64url of the claims>.<base64url of their HMAC-SHA256>`` under the pepper. The claims name tenant, report, file,
its bytes and who made the link: a link works for nothing else, and its downloads are in the log under their name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.sidecar.answering.downloads import Download, prepare
from offgridflow_pipeline.sidecar.answering.public_ids import public_id
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found

if TYPE_CHECKING:
    from fastapi import Request

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.services import Services

SHORTEST_SECONDS = 60
LONGEST_SECONDS = 300
PATH = "/v1/downloads"
_PURPOSE = b"offgridflow download link 1\0"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a link proves. `expires` in seconds since 1970."""

    tenant_id: str
    tenant: str
    report_id: str
    name: str
    sha256: str
    principal: str
    expires: int


@dataclass(frozen=True, slots=True)
class Link:
    """A link and when it ends."""

    url: str
    expires_at: datetime


def create(caller: Caller, services: Services, request: Request, report_id: UUID, name: str, seconds: int) -> Link:
    """A link to the artefact, written to the audit log in the transaction of the caller.

    Raises:
        Problem: 404 without such an artefact.
    """
    artefact = caller.database.reports.artefact(caller.tenant, report_id, name)
    if artefact is None:
        raise not_found()
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    claims = Claims(
        str(caller.tenant_id),
        caller.tenant,
        str(report_id),
        artefact.file_name,
        artefact.sha256,
        caller.principal,
        int(expires_at.timestamp()),
    )
    record(
        caller.database,
        caller.tenant,
        Action.ARTIFACT_LINK_ISSUED,
        actor=caller.principal,
        target=public_id("rep", report_id),
        details={"artefact": artefact.file_name, "sha256": artefact.sha256, "seconds": seconds},
        **trail(request),
    )
    base = services.settings.public_url.rstrip("/")
    return Link(f"{base}{PATH}/{sealed(claims, services.pepper)}", expires_at)


def redeem(request: Request, services: Services, database: Database, claims: Claims) -> Download:
    """The download that the link is for, in the bound transaction of its tenant.

    Raises:
        Problem: 404 when the tenant is closed, or the report no longer has these bytes under that name.
    """
    tenant = database.tenants.get(claims.tenant)
    if str(tenant.tenant_id) != claims.tenant_id or tenant.status == "closed":
        raise not_found()
    return prepare(
        request,
        services,
        database,
        tenant=claims.tenant,
        principal=claims.principal,
        report_id=UUID(claims.report_id),
        name=claims.name,
        sha256=claims.sha256,
    )


def sealed(claims: Claims, pepper: bytes) -> str:
    """The claims as the last part of a link."""
    body = json.dumps(asdict(claims), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return f"{_text(body)}.{_text(_mac(body, pepper))}"


def opened(text: str, pepper: bytes, now: datetime | None = None) -> Claims:
    """The claims of a link.

    Raises:
        Problem: 404 when it is not one of ours or was altered, 410 when it has ended.
    """
    head, _, tail = text.partition(".")
    try:
        body, mac = _bytes(head), _bytes(tail)
    except (ValueError, binascii.Error):
        raise not_found() from None
    # Compared as text too: base64 has several spellings of the same bytes, and one only is ours.
    if not hmac.compare_digest(mac, _mac(body, pepper)) or f"{_text(body)}.{_text(mac)}" != text:
        raise not_found()
    claims = Claims(**json.loads(body))
    if (now or datetime.now(UTC)).timestamp() >= claims.expires:
        raise Problem(410, "link_expired", "The link has ended: ask for a new one.")
    return claims


def _mac(body: bytes, pepper: bytes) -> bytes:
    return hmac.digest(pepper, _PURPOSE + body, "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
