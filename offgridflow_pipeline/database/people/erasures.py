"""Erasure of what names a person: the rows that go, and the two columns that are written over. Ids stay everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import PLATFORM_SLUG

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

#: In place of an address; no mail can reach it (RFC 2606).
_ADDRESS = "'erased-' || user_id || '@erased.invalid'"
#: Bodies are bytes as Stripe signed them, and Stripe keeps the case in which an address was typed.
_FORGET_PAYLOADS = (
    "update ogf.external_events set payload = null where position(lower(encode(convert_to(:email, 'UTF8'), 'escape'))"
    " in lower(encode(payload, 'escape'))) > 0"
)
_OF_A_PERSON = ("credentials", "recovery_codes", "password_resets", "sessions", "gate_entries")


class Erasures:
    """What is removed when a person is erased."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def person(self, user_id: UUID) -> None:
        """Remove credentials, sessions and links of the person, and write over address and name; for good."""
        with self._database.user(user_id) as scope:
            for table in _OF_A_PERSON:
                scope.connection.execute(
                    sa.text(f"delete from ogf.{table} where user_id = :user_id"), {"user_id": user_id}
                )
            scope.connection.execute(
                sa.text(
                    f"update ogf.users set email = {_ADDRESS}, display_name = 'Erased person', locale = 'en',"
                    " muted_mail = '{}', status = 'disabled', updated_at = clock_timestamp() where user_id = :user_id"
                ),
                {"user_id": user_id},
            )

    def payloads(self, email: str) -> int:
        """Forget bodies of events that hold the address; how many. Only the operator's role may; digests stay.

        No body is read after it was stored: events that wait are settled without it.
        """
        with self._database.application_engine.begin() as connection:
            return connection.execute(sa.text(_FORGET_PAYLOADS), {"email": email}).rowcount

    def address(self, tenant: str, email: str) -> int:
        """Remove mails to the address, sent or not, and its invitations, which the platform has none of; how many."""
        is_platform = tenant == PLATFORM_SLUG
        with self._database.platform() if is_platform else self._database.tenant(tenant) as scope:
            values = {"tenant_id": scope.tenant_id, "email": email}
            removed = scope.connection.execute(
                sa.text("delete from ogf.email_outbox where tenant_id = :tenant_id and lower(to_addr) = :email"), values
            ).rowcount
            if not is_platform:
                removed += scope.connection.execute(
                    sa.text("delete from ogf.invitations where tenant_id = :tenant_id and email = :email"), values
                ).rowcount
        return removed
