"""Authorization: who calls, in which tenant, with which permissions, and the transaction the call works in.

Every route declares what it needs: `requires(permission)`, `signed_in()` or `public()`; a test finds those that
do not. The transaction is opened inside the handler and ends before the answer is made: a failed commit is never
answered with success::

    def totals(auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)]) -> Response:
        with auth.transaction() as caller:
            rows = caller.database.scope_totals.list(caller.tenant, ...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Request

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import (
    SECOND_FACTOR_ROLES,
    Permission,
    key_permissions,
    step_up_permissions,
)
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.caller import Caller
from offgridflow_pipeline.sidecar.entrance.middleware import UNLIMITED_PATHS, too_many
from offgridflow_pipeline.sidecar.entrance.plan_limits import PlanLimit
from offgridflow_pipeline.sidecar.entrance.problems import Problem, forbidden, unauthenticated
from offgridflow_pipeline.sidecar.entrance.request_text import require_keepable
from offgridflow_pipeline.sidecar.services import Services, services_of
from offgridflow_pipeline.subscriptions.entitlements import Decision, Entitlement, check, is_open, may_still

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a route needs and what the request brought; `transaction` brings both together."""

    request: Request
    services: Services
    permission: Permission | None
    needs_tenant: bool = True
    makes: Entitlement | None = None

    @contextmanager
    def transaction(self) -> Iterator[Caller]:
        """Authenticate, check the permission, and work as the caller; commits at the end of the block.

        Raises:
            Problem: 401 without a valid credential, 403 without the permission, second factor or step-up, 429.
        """
        from offgridflow_pipeline.sidecar.entrance.authentication import authenticated

        with authenticated(self.request, self.services) as caller:
            self.request.state.locale = caller.locale
            self._count(caller)
            refusal = self._refusal(caller)
            if refusal is None:
                if caller.break_glass:
                    self._record(caller.database, caller, Action.BREAK_GLASS_USED, "success")
                self.request.state.caller, self.request.state.tenant = caller.principal, caller.tenant
                yield caller
                return
        if caller.tenant_id is not None:
            with self.services.database.tenant(caller.tenant) as scope:
                self._record(self.services.database.within(scope), caller, Action.ACCESS_DENIED, refusal.code)
        raise refusal

    def _count(self, caller: Caller) -> None:
        """Count the request of the principal, and of its tenant by plan; refuse what is too much."""
        if self.request.scope["path"] in UNLIMITED_PATHS:
            return
        limiter = self.services.rate_limiter
        refused = limiter.refusal(f"principal.{caller.standing.plan.name}", caller.principal)
        if refused is None and caller.tenant_id is not None:
            refused = limiter.refusal(f"tenant.{caller.standing.plan.name}", caller.tenant)
        if refused is not None:
            raise too_many(refused)

    def _refusal(self, caller: Caller) -> Problem | None:
        if self.needs_tenant and caller.tenant_id is None:
            return Problem(403, "no_tenant", "You belong to no organisation here: ask its owner for an invitation.")
        refusal = self._lacking(caller) if self.permission is not None else None
        if refusal is None and self.needs_tenant and not (decision := self._entitled(caller)).allowed:
            refusal = PlanLimit(decision)
        if refusal is None and self.permission in step_up_permissions() and not caller.stepped_up:
            refusal = Problem(403, "step_up_required", "Confirm your password again: this needs a fresh sign-in.")
        return refusal

    def _lacking(self, caller: Caller) -> Problem | None:
        """What the caller lacks of what the permission asks for."""
        if caller.role in SECOND_FACTOR_ROLES and not caller.second_factor and not self.services.second_factor_optional:
            return Problem(403, "second_factor_required", "Your role needs a second factor: set it up under Settings.")
        if self.permission is not None and self.permission not in caller.permissions:
            return forbidden(self.permission)
        return None

    def _entitled(self, caller: Caller) -> Decision:
        """What plan and billing state of the tenant say; how many there may be, the handler asks."""
        if self.permission is None:
            return is_open(caller.standing)
        still = may_still(caller.standing, self.permission, machine=caller.kind != "session")
        return check(caller.standing, self.makes, amount=0) if still.allowed and self.makes is not None else still

    def _record(self, database: Database, caller: Caller, action: Action, outcome: str) -> None:
        """Tell the tenant's audit log what was asked for, and how it ended."""
        record(
            database,
            caller.tenant,
            action,
            actor=caller.principal,
            target=f"permission:{self.permission}" if self.permission else "",
            outcome=outcome,
            details={"method": self.request.method, "route": self.request.scope["path"]},
            **trail(self.request),
        )


def requires(permission: Permission, *, makes: Entitlement | None = None) -> Any:
    """Dependency of a route that needs the permission in the caller's tenant.

    `makes`: what the route makes more of; refused in billing states in which no work goes on. How many the plan
    allows, the handler checks in its transaction (`plan_limits`).
    """
    return _door(
        permission, needs_tenant=True, access=str(permission), machines=permission in key_permissions(), makes=makes
    )


def signed_in(*, tenant: bool = False) -> Any:
    """Dependency of a route for a person: their own account; with `tenant` for anybody of an organisation."""
    return _door(None, needs_tenant=tenant, access="signed_in", machines=tenant)


def _door(
    permission: Permission | None,
    *,
    needs_tenant: bool,
    access: str,
    machines: bool,
    makes: Entitlement | None = None,
) -> Any:
    async def dependency(request: Request) -> Authorization:
        services = services_of(request)
        # Who brings nothing is told so before the form of the request is looked at.
        if "authorization" not in request.headers and not request.cookies.get(services.session_cookie):
            raise unauthenticated()
        require_keepable(request)
        return Authorization(request, services, permission, needs_tenant, makes)

    dependency.__ogf_access__ = access  # type: ignore[attr-defined]
    dependency.__ogf_machines__ = machines  # type: ignore[attr-defined]
    dependency.__ogf_makes__ = makes  # type: ignore[attr-defined]
    return Depends(dependency)


def public() -> Any:
    """Dependency of a route for everybody: says so on purpose."""

    async def dependency(request: Request) -> Services:
        require_keepable(request)
        return services_of(request)

    dependency.__ogf_access__ = "public"  # type: ignore[attr-defined]
    dependency.__ogf_machines__ = True  # type: ignore[attr-defined]
    return Depends(dependency)
