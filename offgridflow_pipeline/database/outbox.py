"""The outbox of mails as rows. What a mail says is decided in `notifications`, which also sends.

A sender claims one mail at a time: state `sending` and a lease until `next_at`. When the lease ends unsettled, the
sender has died and the mail is due again. The number of attempts fences: who held an older lease settles nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from offgridflow_pipeline.database.engine import Database, TenantScope

KEPT_FOR = timedelta(days=30)
REMOVED_AT_ONCE = 1000
MAXIMUM_ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class OutboxMail:
    """A mail to send, sent, given up (dead) or not wanted any more (muted); `attempts` counts the present one."""

    mail_id: UUID
    template: str
    locale: str
    to_addr: str
    user_id: UUID | None
    vars: Mapping[str, Any]
    dedupe_key: str
    state: Literal["pending", "sending", "sent", "dead", "muted"]
    attempts: int
    last_error: str | None
    created_at: datetime
    next_at: datetime
    sent_at: datetime | None


_COLUMNS = ", ".join(OutboxMail.__dataclass_fields__)
_CLAIMED = "tenant_id = :tenant_id and mail_id = :mail_id and state = 'sending' and attempts = :attempts"


class Outbox:
    """Mails of tenants, and of the platform to persons (tenant "platform")."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        tenant: str,
        template: str,
        *,
        to: str,
        user_id: UUID | None,
        locale: str,
        variables: Mapping[str, Any],
        dedupe_key: str,
    ) -> bool:
        """Write a mail that is due at once; False when the tenant has one of that `dedupe_key`.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._scope(tenant) as scope:
            added = write(
                scope,
                "email_outbox",
                "insert into ogf.email_outbox (tenant_id, template, locale, to_addr, user_id, vars, dedupe_key)"
                " values (:tenant_id, :template, :locale, :to_addr, :user_id, cast(:vars as jsonb), :dedupe_key)"
                " on conflict (tenant_id, dedupe_key) do nothing",
                {
                    "tenant_id": scope.tenant_id,
                    "template": template,
                    "locale": locale,
                    "to_addr": to,
                    "user_id": user_id,
                    "vars": json.dumps(dict(variables), sort_keys=True),
                    "dedupe_key": dedupe_key,
                },
            )
            return added.rowcount == 1

    def scopes(self) -> list[str]:
        """Slugs that have mail due, "platform" first."""
        with self._database.application_engine.begin() as connection:
            return list(connection.scalars(sa.text("select slug from ogf.scopes_with_mail()")))

    def list(self, tenant: str) -> list[OutboxMail]:
        """The tenant's mails, oldest first."""
        with self._scope(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.email_outbox where tenant_id = :tenant_id order by created_at, mail_id"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return [OutboxMail(*row) for row in rows]

    def claim(self, tenant: str, lease: timedelta) -> OutboxMail | None:
        """Take the mail that is due longest, for the time of the lease; None when no other is due."""
        with self._scope(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    "with due as (select mail_id from ogf.email_outbox where tenant_id = :tenant_id"
                    " and state in ('pending', 'sending') and next_at <= clock_timestamp()"
                    " order by next_at, mail_id limit 1 for update skip locked)"
                    " update ogf.email_outbox set state = 'sending', attempts = attempts + 1,"
                    " next_at = clock_timestamp() + :lease where tenant_id = :tenant_id"
                    f" and mail_id = (select mail_id from due) returning {_COLUMNS}"
                ),
                {"tenant_id": scope.tenant_id, "lease": lease},
            ).one_or_none()
        return OutboxMail(*row) if row else None

    def is_wanted(self, tenant: str, user_id: UUID, template: str) -> bool:
        """Whether the person still is an active member of the tenant and did not decline the template."""
        with self._scope(tenant) as scope:
            return bool(
                scope.connection.scalar(
                    sa.text(
                        "select u.status = 'active' and not (:template = any(u.muted_mail)) from ogf.users u"
                        " join ogf.memberships m on m.tenant_id = :tenant_id and m.user_id = u.user_id"
                        " and (m.expires_at is null or m.expires_at > clock_timestamp())"
                        " where u.user_id = :user_id"
                    ),
                    {"tenant_id": scope.tenant_id, "user_id": user_id, "template": template},
                )
            )

    def sent(self, tenant: str, mail: OutboxMail) -> bool:
        """Settle: the mail server has it. False when the lease was lost meanwhile."""
        return self._settle(
            tenant, mail, "state = 'sent', sent_at = clock_timestamp(), next_at = clock_timestamp(), last_error = null"
        )

    def retry(self, tenant: str, mail: OutboxMail, *, after: timedelta, error: str) -> bool:
        """Give the mail back, due again after that time. False when the lease was lost meanwhile."""
        return self._settle(
            tenant,
            mail,
            "state = 'pending', next_at = clock_timestamp() + :after, last_error = :error",
            after=after,
            error=error[:MAXIMUM_ERROR_LENGTH],
        )

    def give_up(self, tenant: str, mail: OutboxMail, *, error: str) -> bool:
        """Settle: the mail will not be sent. False when the lease was lost meanwhile."""
        return self._settle(tenant, mail, "state = 'dead', last_error = :error", error=error[:MAXIMUM_ERROR_LENGTH])

    def mute(self, tenant: str, mail: OutboxMail, *, reason: str) -> bool:
        """Settle: nobody wants the mail (any more). False when the lease was lost meanwhile."""
        return self._settle(tenant, mail, "state = 'muted', last_error = :error", error=reason[:MAXIMUM_ERROR_LENGTH])

    def remove_old(self) -> int:
        """Remove settled mails of more than 30 days, of all scopes; returns how many."""
        with self._database.application_engine.begin() as connection:
            slugs = connection.scalars(sa.text("select slug from ogf.scopes_with_old_mail(:age)"), {"age": KEPT_FOR})
            scopes = list(slugs)
        return sum(self._remove_old(slug) for slug in scopes)

    def _remove_old(self, tenant: str) -> int:
        with self._scope(tenant) as scope:
            removed = scope.connection.execute(
                sa.text(
                    "delete from ogf.email_outbox where tenant_id = :tenant_id and mail_id in"
                    " (select mail_id from ogf.email_outbox where tenant_id = :tenant_id"
                    " and state not in ('pending', 'sending') and created_at < clock_timestamp() - :age"
                    " limit :at_once for update skip locked)"
                ),
                {"tenant_id": scope.tenant_id, "age": KEPT_FOR, "at_once": REMOVED_AT_ONCE},
            )
            return int(removed.rowcount)

    def _settle(self, tenant: str, mail: OutboxMail, outcome: str, **values: object) -> bool:
        with self._scope(tenant) as scope:
            changed = scope.connection.execute(
                sa.text(f"update ogf.email_outbox set {outcome} where {_CLAIMED}"),
                {"tenant_id": scope.tenant_id, "mail_id": mail.mail_id, "attempts": mail.attempts, **values},
            )
            return changed.rowcount == 1

    def _scope(self, tenant: str) -> AbstractContextManager[TenantScope]:
        return self._database.platform() if tenant == PLATFORM_SLUG else self._database.tenant(tenant)
