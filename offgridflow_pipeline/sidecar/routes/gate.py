"""The gate of the Dagster UI: a forward-auth proxy asks here whether the request it holds may pass.

nginx `auth_request`, Caddy `forward_auth` and Traefik send the original method and URI in headers; the proxy, never
the client, sets the mode. Only people of the platform with a second factor enter; tenants never do. Entering is one
event of the platform's audit chain per session and hour, every refusal of a platform person is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute

from offgridflow_pipeline.database.engine import UserScope, enter_user
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.sidecar import gate_policy
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, signed_in
from offgridflow_pipeline.sidecar.entrance.problems import Problem, problem_responses
from offgridflow_pipeline.sidecar.gate_policy import Mode, Original, UnclearError

if TYPE_CHECKING:
    from uuid import UUID

    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.services import Services

SIGN_IN_PATH = "/sign-in"
HOUR_SECONDS = 3600
REMEMBERED_ENTRIES = 1_000

#: Entries that this process knows to be recorded: (session, mode, hour). The table decides; this spares asking it.
_entered: set[tuple[UUID, Mode, int]] = set()


class _GateRoute(APIRoute):
    """A 401 of the gate, wherever it arises, tells the proxy where people sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                if problem.status == 401:
                    problem.headers["Location"] = SIGN_IN_PATH
                raise

        return handled


router = APIRouter(tags=["gate"], route_class=_GateRoute)


@router.get(
    "/gate",
    operation_id="gate",
    summary="Whether the request that a forward-auth proxy holds may reach the Dagster UI.",
    status_code=204,
    response_class=Response,
    responses={
        204: {
            "description": "It may pass; pass the headers on.",
            "headers": {
                "X-OffGridFlow-User": {"schema": {"type": "string"}, "description": "Id of the person."},
                "X-OffGridFlow-Role": {"schema": {"type": "string"}, "description": "Role on the platform."},
            },
        },
        **problem_responses(401, 403, 429),
    },
)
def gate(
    request: Request,
    auth: Annotated[Authorization, signed_in()],
    x_gate_mode: Annotated[str, Header(description="read-only or read-write, set by the proxy.")] = "",
    mode: Annotated[str, Query(description="The same, for proxies that cannot set headers.")] = "",
) -> Response:
    """204 with the person's id and role; 401 with the address of the sign-in in `Location`; 403."""
    if "authorization" in request.headers:
        raise Problem(403, "gate_refused", "The Dagster UI is for people: keys and tokens do not enter.")
    with auth.transaction() as caller:
        pass  # who asks is proven; what is recorded below is the platform's, in a transaction of its own
    if caller.platform_role is None:
        raise Problem(403, "gate_refused", "The Dagster UI is for people of the platform.")
    try:
        wanted = gate_policy.mode_of(x_gate_mode, mode)
        asked = gate_policy.original(request.headers.items())
    except UnclearError as error:
        _refuse(auth.services, request, caller, "unclear", {"cause": str(error)})
    reason = _personal_refusal(auth.services, caller, wanted) or gate_policy.refusal(
        asked, auth.services.settings.gate_origins
    )
    if reason is not None:
        _refuse(auth.services, request, caller, reason, _described(asked, wanted))
    _enter(auth.services, request, caller, wanted)
    return Response(
        status_code=204,
        headers={"X-OffGridFlow-User": str(caller.user_id), "X-OffGridFlow-Role": str(caller.platform_role)},
    )


def _personal_refusal(services: Services, caller: Caller, mode: Mode) -> str | None:
    if caller.platform_role not in gate_policy.ROLES[mode]:
        return "role"
    if not caller.second_factor and not services.second_factor_optional:
        return "second_factor"
    return None


def _described(asked: Original, mode: Mode) -> dict[str, str | bool]:
    return {"method": asked.method, "path": asked.path[:200], "mode": str(mode), "websocket": asked.websocket}


def _refuse(
    services: Services, request: Request, caller: Caller, reason: str, details: Mapping[str, str | bool]
) -> None:
    with services.database.platform() as scope:
        record(
            services.database.within(scope),
            "platform",
            Action.GATE_REFUSED,
            actor=caller.principal,
            target="dagster",
            outcome=reason,
            request_id=request.state.request_id,
            details=details,
        )
    raise Problem(403, "gate_refused", f"The gate does not let this request pass: {reason}.")


def _enter(services: Services, request: Request, caller: Caller, mode: Mode) -> None:
    assert caller.user_id is not None  # noqa: S101  a session has a user
    assert caller.session_id is not None  # noqa: S101
    entry = (caller.session_id, mode, int(time.time()) // HOUR_SECONDS)
    if entry in _entered:
        return
    with services.database.platform() as scope:
        enter_user(scope.connection, caller.user_id)
        bound = services.database.within(scope, UserScope(scope.connection, caller.user_id))
        if bound.signals.enter_gate(caller.user_id, caller.session_id, mode):
            record(
                bound,
                "platform",
                Action.GATE_ENTERED,
                actor=caller.principal,
                target=f"dagster:{mode}",
                request_id=request.state.request_id,
                details={"session": str(caller.session_id)},
            )
    if len(_entered) >= REMEMBERED_ENTRIES:
        _entered.clear()
    _entered.add(entry)
