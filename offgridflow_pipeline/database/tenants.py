"""Repository of tenants: who reports. The only SQL that looks across tenants, through two definer functions.

Adding a tenant runs inside the new tenant's own scope, so the application role needs no wider power.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import enter

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope


class TenantError(ValueError):
    """A tenant cannot be added or changed as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: slug (immutable), name, LEI (ISO 17442), reporting currency (ISO 4217) and status."""

    tenant_id: UUID
    slug: str
    display_name: str
    lei: str | None
    currency: str
    status: str


class Tenants:
    """Organisations that report."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, slug: str, display_name: str, *, lei: str | None = None, currency: str = "EUR") -> Tenant:
        """Add an active tenant.

        Raises:
            TenantError: the slug is taken or a value has the wrong form.
        """
        tenant_id = uuid4()
        try:
            with self._database.application_engine.begin() as connection:
                enter(connection, tenant_id)
                connection.execute(
                    sa.text(
                        "insert into ogf.tenants (tenant_id, slug, display_name, lei, currency)"
                        " values (:tenant_id, :slug, :display_name, :lei, :currency)"
                    ),
                    {
                        "tenant_id": tenant_id,
                        "slug": slug,
                        "display_name": display_name,
                        "lei": lei,
                        "currency": currency,
                    },
                )
        except sa.exc.IntegrityError as error:
            raise TenantError(f"Tenant {slug!r} cannot be added: {_refusal(error)}") from None
        return Tenant(tenant_id, slug, display_name, lei, currency, "active")

    def list(self, *, inactive: bool = False) -> list[Tenant]:
        """Active tenants by slug; with `inactive`, suspended and closed ones too."""
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(
                sa.text(
                    "select tenant_id, slug, display_name, lei, currency, status from ogf.tenant_directory()"
                    " where :inactive or status = 'active'"
                ),
                {"inactive": inactive},
            ).all()
        return [Tenant(*row) for row in rows]

    def get(self, slug: str) -> Tenant:
        """The tenant, active or not.

        Raises:
            UnknownTenantError: no tenant has that slug.
        """
        with self._database.tenant(slug) as scope:
            return self._get(scope)

    def change(self, slug: str, values: Mapping[str, str | None]) -> Tenant:
        """Set name, LEI or currency: those that `values` names (display_name, lei, currency).

        Raises:
            UnknownTenantError: no tenant has that slug.
            TenantError: a value has the wrong form.
        """
        if strange := values.keys() - {"display_name", "lei", "currency"}:
            raise KeyError(f"not a column that may be changed: {sorted(strange)}")
        assignments = ", ".join(f"{name} = :{name}" for name in sorted(values))
        with self._database.tenant(slug) as scope:
            if assignments:
                try:
                    with scope.connection.begin_nested():
                        scope.connection.execute(
                            sa.text(f"update ogf.tenants set {assignments} where tenant_id = :tenant_id"),
                            {**values, "tenant_id": scope.tenant_id},
                        )
                except sa.exc.IntegrityError as error:
                    raise TenantError(f"Tenant {slug!r} is not changed: {_refusal(error)}") from None
            return self._get(scope)

    @staticmethod
    def _get(scope: TenantScope) -> Tenant:
        row = scope.connection.execute(
            sa.text(
                "select tenant_id, slug, display_name, lei, currency, status from ogf.tenants"
                " where tenant_id = :tenant_id"
            ),
            {"tenant_id": scope.tenant_id},
        ).one()
        return Tenant(*row)


_REFUSALS = {
    "tenants_slug_key": "the slug is taken.",
    "tenants_slug_reserved": "the slug means the platform itself.",
    "tenants_slug_check": "a slug has 2 to 63 lower-case letters, digits and single dashes.",
    "tenants_display_name_check": "the name is empty.",
    "tenants_lei_check": "a LEI has 18 capital letters or digits and 2 check digits.",
    "tenants_currency_check": "a currency is an ISO 4217 code such as EUR.",
}


def _refusal(error: sa.exc.IntegrityError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    constraint = getattr(diagnosis, "constraint_name", None)
    return _REFUSALS.get(str(constraint), f"{getattr(diagnosis, 'message_primary', error.orig)}.")
