"""What signing in and its neighbours work with: the open parts of a process, and who knocks at its door.

`Means` is what the sidecar's `Services` has; the command line has its own. `Visitor` is what the network shows of a
person before they have proved anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.scopes import NOBODY, turned_to
from offgridflow_pipeline.identity.audit import Action, Json, record
from offgridflow_pipeline.identity.keyed_hashes import network_hash
from offgridflow_pipeline.identity.rate_limits import network_of
from offgridflow_pipeline.identity.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.users import PersonRow
    from offgridflow_pipeline.identity.rate_limits import RateLimiter
    from offgridflow_pipeline.settings import Settings

MAXIMUM_USER_AGENT_LENGTH = 300


class Means(Protocol):
    """The open parts of a process."""

    @property
    def settings(self) -> Settings:
        """Settings of the installation."""
        ...

    @property
    def database(self) -> Database:
        """The database, bound to no transaction."""
        ...

    @property
    def pepper(self) -> bytes:
        """Key of all keyed hashes."""
        ...

    @property
    def rate_limiter(self) -> RateLimiter:
        """Rate limits."""
        ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who knocks: network address, browser, and the id of the request."""

    ip: str = ""
    user_agent: str = ""
    request_id: str = ""
    pepper: bytes = field(default=b"", repr=False)

    @property
    def ip_hash(self) -> str:
        """The network as it is kept: one subscriber, as rate limits count it, for IPv6 addresses change by the day."""
        return network_hash(network_of(self.ip), self.pepper) if self.ip else ""

    @property
    def browser(self) -> str:
        """The browser's name as it is kept: printable, of bounded length."""
        return "".join(c for c in self.user_agent if c.isprintable())[:MAXIMUM_USER_AGENT_LENGTH]


def tell(
    bound: Database,
    tenant: str,
    user_id: UUID,
    action: Action,
    visitor: Visitor,
    *,
    target: str = "",
    outcome: str = "success",
    details: Mapping[str, Json] | None = None,
) -> None:
    """Append what a person did to the audit chain of the tenant; without one (""), to that of the platform.

    Joins the person's transaction. For `NOBODY` the actor is `anonymous`.
    """
    actor = user_actor(user_id) if user_id != NOBODY else "anonymous"

    def append(database: Database, chain: str) -> None:
        record(
            database,
            chain,
            action,
            actor=actor,
            target=target,
            outcome=outcome,
            request_id=visitor.request_id,
            ip_hash=visitor.ip_hash,
            details=details,
        )

    if tenant:
        append(bound, tenant)
        return
    with turned_to(bound, user_id) as platform:
        append(platform, PLATFORM_SLUG)


def require_rate(limiter: RateLimiter, policy: str, key: str) -> None:
    """Count an attempt; pass when it fits.

    Raises:
        RefusedError: `too_many_attempts`, or `busy` when attempts cannot be counted, with the seconds to wait.
    """
    refused = limiter.refusal(policy, key)
    if refused is not None and refused.store_failed:
        raise RefusedError(
            "busy", "This cannot be done just now: try again.", retry_after_seconds=refused.retry_after_seconds
        )
    if refused is not None:
        raise RefusedError(
            "too_many_attempts",
            "Too many attempts: wait a little and try again.",
            retry_after_seconds=refused.retry_after_seconds,
        )


def notify(bound: Database, person: PersonRow, template: str, *, key: str, **variables: str) -> None:
    """Write a mail about their account to the person, in the bound transaction of the platform.

    `key` makes it one mail, however often it is written. Words and form are those of `notifications`, which stands
    above this room and holds a test over what is written here.
    """
    bound.outbox.add(
        PLATFORM_SLUG,
        template,
        to=person.email,
        user_id=person.user_id,
        locale=person.locale,
        variables=variables,
        dedupe_key=f"{template}:{person.user_id}:{key}",
    )


def now_text() -> str:
    """The present, as mails carry times."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user_actor(user_id: UUID) -> str:
    """The actor of audit events."""
    return f"user:{user_id}"
