"""Subscriptions of tenants: their Stripe customer, what Stripe last said of it, and the plan and state that follow.

What the values mean, and which follow from which, is decided in `subscriptions`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

Onboarding = Literal["none", "due", "reading", "reporting", "done"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """The tenant's row; without a snapshot nothing was fetched yet."""

    customer_id: str
    snapshot: Mapping[str, Any] | None
    fetched_at: datetime | None
    onboarding: Onboarding
    offboard_requested_at: datetime | None
    stopped_since: datetime | None


@dataclass(frozen=True, slots=True)
class StoredStanding:
    """Plan and billing state as they stand; `since` is None for a tenant that never was in another."""

    plan: str
    state: str
    since: datetime | None


_ROW = ", ".join(Subscription.__dataclass_fields__)


class Subscriptions:
    """Customers of Stripe among the tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def customers(self) -> dict[str, str]:
        """Stripe customer of every tenant that has one, by slug; closed tenants are left out."""
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(sa.text("select slug, customer_id from ogf.tenants_with_subscriptions()")).all()
        return {row[0]: row[1] for row in rows}

    def being_onboarded(self) -> list[str]:
        """Slugs of tenants whose first bills or first report are still to come, sorted."""
        with self._database.application_engine.begin() as connection:
            return list(
                connection.scalars(
                    sa.text(
                        "select slug from ogf.tenants_with_subscriptions()"
                        " where onboarding in ('due', 'reading', 'reporting') order by 1"
                    )
                )
            )

    def leaving(self) -> list[str]:
        """Slugs of tenants whose owner asked to close the account, and that is still open, sorted."""
        with self._database.application_engine.begin() as connection:
            return list(
                connection.scalars(sa.text("select slug from ogf.tenants_with_subscriptions() where leaves order by 1"))
            )

    def clock(self) -> datetime:
        """Time of the database, for `keep`: one clock for every process that fetches."""
        with self._database.application_engine.begin() as connection:
            now: datetime = connection.scalar(sa.text("select clock_timestamp()"))
        return now

    def tenant_of(self, customer_id: str) -> str | None:
        """Slug of the tenant whose customer that is, the first one's if two claim it; None when it is nobody's."""
        with self._database.application_engine.begin() as connection:
            found: str | None = connection.scalar(
                sa.text("select ogf.tenant_by_customer(:customer_id)"), {"customer_id": customer_id}
            )
        return found

    def link(self, tenant: str, customer_id: str, *, instead_of: str = "") -> str:
        """Make the customer the tenant's, unless it has one other than `instead_of`; returns the one it has.

        Raises:
            RecordError: the id is none.
        """
        with self._database.tenant(tenant) as scope:
            values = {"tenant_id": scope.tenant_id, "customer_id": customer_id, "instead_of": instead_of}
            write(
                scope,
                "subscriptions",
                "insert into ogf.subscriptions as s (tenant_id, customer_id) values (:tenant_id, :customer_id)"
                " on conflict (tenant_id) do update set customer_id = excluded.customer_id,"
                " updated_at = clock_timestamp() where s.tenant_id = :tenant_id and s.customer_id = :instead_of",
                values,
            )
            linked: str = scope.connection.scalar(
                sa.text("select customer_id from ogf.subscriptions where tenant_id = :tenant_id"), values
            )
        return linked

    def get(self, tenant: str, *, for_update: bool = False) -> Subscription | None:
        """The tenant's subscription; None when it never was a customer. `for_update` keeps others waiting."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select {_ROW} from ogf.subscriptions where tenant_id = :tenant_id"
                    + (" for update" if for_update else "")
                ),
                {"tenant_id": scope.tenant_id},
            ).one_or_none()
        return None if row is None else Subscription(*row)

    def keep(self, tenant: str, snapshot: Mapping[str, Any], fetched_at: datetime) -> bool:
        """Keep what was fetched at that time; False when something newer is there already."""
        with self._database.tenant(tenant) as scope:
            kept = write(
                scope,
                "subscriptions",
                "update ogf.subscriptions set snapshot = cast(:snapshot as jsonb), fetched_at = :fetched_at,"
                " updated_at = clock_timestamp() where tenant_id = :tenant_id"
                " and (fetched_at is null or fetched_at <= :fetched_at)",
                {
                    "tenant_id": scope.tenant_id,
                    "snapshot": json.dumps(dict(snapshot), sort_keys=True),
                    "fetched_at": fetched_at,
                },
            )
        return kept.rowcount == 1

    def onboard(self, tenant: str, step: Onboarding) -> None:
        """Note how far the first bills and the first report are."""
        with self._database.tenant(tenant) as scope:
            write(
                scope,
                "subscriptions",
                "update ogf.subscriptions set onboarding = :step, updated_at = clock_timestamp()"
                " where tenant_id = :tenant_id",
                {"tenant_id": scope.tenant_id, "step": step},
            )

    def stop(self, tenant: str, since: datetime | None) -> None:
        """Note since when no work goes on; None: it goes on."""
        with self._database.tenant(tenant) as scope:
            write(
                scope,
                "subscriptions",
                "update ogf.subscriptions set stopped_since = :since, updated_at = clock_timestamp()"
                " where tenant_id = :tenant_id",
                {"tenant_id": scope.tenant_id, "since": since},
            )

    def request_offboarding(self, tenant: str, at: datetime | None) -> bool:
        """Note the owner's wish to leave, or its withdrawal; False when the tenant is no customer."""
        with self._database.tenant(tenant) as scope:
            noted = write(
                scope,
                "subscriptions",
                "update ogf.subscriptions set offboard_requested_at = :at, updated_at = clock_timestamp()"
                " where tenant_id = :tenant_id",
                {"tenant_id": scope.tenant_id, "at": at},
            )
        return noted.rowcount == 1

    def standing(self, tenant: str) -> StoredStanding:
        """Plan and billing state now: free and active for a tenant that never subscribed."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    "select plan, billing_state, billing_since from ogf.tenant_states where tenant_id = :tenant_id"
                ),
                {"tenant_id": scope.tenant_id},
            ).one_or_none()
        return StoredStanding("free", "active", None) if row is None else StoredStanding(*row)

    def change_standing(self, tenant: str, plan: str, state: str, since: datetime) -> None:
        """Set plan and billing state; requests see them from the next one on."""
        with self._database.tenant(tenant) as scope:
            write(
                scope,
                "tenant_states",
                "insert into ogf.tenant_states (tenant_id, plan, billing_state, billing_since)"
                " values (:tenant_id, :plan, :state, :since) on conflict (tenant_id) do update set"
                " plan = excluded.plan, billing_state = excluded.billing_state, billing_since = excluded.billing_since",
                {"tenant_id": scope.tenant_id, "plan": plan, "state": state, "since": since},
            )
