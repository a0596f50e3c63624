"""Members and invitations of the organisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response

from offgridflow_pipeline.identity import invitations, memberships
from offgridflow_pipeline.identity.memberships import Granter
from offgridflow_pipeline.identity.permissions import ROLES, Permission, Role, permissions_of
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.plan_limits import require_invitation, require_resending, require_role
from offgridflow_pipeline.sidecar.entrance.problems import not_found
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal.forms import (
    Field,
    InvalidDayError,
    end_of_day,
    refusal_text,
    status_of,
    wrong_fields,
)
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

router = APIRouter(include_in_schema=False)


@router.get("/members")
def members_page(auth: Annotated[Authorization, requires(Permission.MEMBERS_READ)]) -> Response:
    """Who belongs to the organisation, and who is invited."""
    return _members(auth)


@router.post("/members/invitations")
def invite(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE, makes=Entitlement.MEMBERS)],
    email: Field = "",
    role: Field = "",
    until: Field = "",
) -> Response:
    """Invite an address; the mail goes out after the change is made."""
    try:
        expires_at = end_of_day(until)
        with auth.transaction() as caller:
            require_invitation(caller, role, address=email.strip())
            invitations.invite(
                auth.services,
                caller.database,
                caller.tenant,
                caller.tenant_name,
                _granter(caller),
                email=email,
                role=_role(role),
                expires_at=expires_at,
                language=language_for(auth.request, caller),
                visitor=visitor_of(auth.request),
            )
    except InvalidDayError:
        refused = RefusedError("invalid_expiry", "no day", field="expires_at")
        return _members(auth, refused=refused, email=email, role=role, until=until)
    except RefusedError as refusal:
        return _members(auth, refused=refusal, email=email, role=role, until=until)
    return see_other("/members?done=invited")


@router.post("/members/invitations/{invitation_id}/resend")
def resend(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE, makes=Entitlement.MEMBERS)], invitation_id: UUID
) -> Response:
    """Send the invitation again, with another link."""
    try:
        with auth.transaction() as caller:
            require_resending(caller, invitation_id)
            invitations.resend(
                auth.services,
                caller.database,
                caller.tenant,
                caller.tenant_name,
                _granter(caller),
                invitation_id,
                language=language_for(auth.request, caller),
                visitor=visitor_of(auth.request),
            )
    except RefusedError as refusal:
        return _members(auth, refused=refusal)
    return see_other("/members?done=resent")


@router.post("/members/invitations/{invitation_id}/revoke")
def revoke(auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)], invitation_id: UUID) -> Response:
    """Withdraw the invitation."""
    try:
        with auth.transaction() as caller:
            visitor = visitor_of(auth.request)
            invitations.revoke(caller.database, caller.tenant, _granter(caller).user_id, invitation_id, visitor)
    except RefusedError as refusal:
        return _members(auth, refused=refusal)
    return see_other("/members?done=revoked")


@router.get("/members/{user_id}")
def member_page(auth: Annotated[Authorization, requires(Permission.MEMBERS_READ)], user_id: UUID) -> Response:
    """One member: the role, and leaving."""
    return _member(auth, user_id)


@router.post("/members/{user_id}")
def change_member(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)],
    user_id: UUID,
    role: Field = "",
    until: Field = "",
) -> Response:
    """Give the member another role."""
    try:
        expires_at = end_of_day(until)
        with auth.transaction() as caller:
            require_role(caller, user_id, role)
            memberships.change_role(
                caller.database,
                caller.tenant,
                _granter(caller),
                user_id,
                _role(role),
                expires_at,
                visitor_of(auth.request),
            )
    except InvalidDayError:
        return _member(auth, user_id, refused=RefusedError("invalid_expiry", "no day", field="expires_at"))
    except RefusedError as refusal:
        return _member(auth, user_id, refused=refusal)
    return see_other("/members?done=member_changed")


@router.post("/members/{user_id}/remove")
def remove_member(auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)], user_id: UUID) -> Response:
    """End the membership at once."""
    try:
        with auth.transaction() as caller:
            visitor = visitor_of(auth.request)
            memberships.remove(caller.database, caller.tenant, _granter(caller), user_id, visitor)
    except RefusedError as refusal:
        return _member(auth, user_id, refused=refusal)
    return see_other("/members?done=member_removed")


def _members(auth: Authorization, *, refused: RefusedError | None = None, **entered: str) -> Response:
    with auth.transaction() as caller:
        values: dict[str, Any] = {
            "members": caller.database.memberships.list(caller.tenant),
            "invitations": caller.database.invitations.list(caller.tenant),
            "people": people_of(caller),
        }
    return page(
        auth.request,
        "members.html",
        caller,
        status=200 if refused is None else status_of(refused),
        roles=_choices(auth, caller),
        all_roles=ROLES,
        email=entered.get("email", ""),
        role=entered.get("role") or "viewer",
        until=entered.get("until", ""),
        **_refusal(auth, caller, refused),
        **values,
    )


def _member(auth: Authorization, user_id: UUID, refused: RefusedError | None = None) -> Response:
    with auth.transaction() as caller:
        member = caller.database.memberships.get(caller.tenant, user_id)
        if member is None or not caller.may(Permission.MEMBERS_WRITE):
            raise not_found()
    return page(
        auth.request,
        "member.html",
        caller,
        status=200 if refused is None else status_of(refused),
        member=member,
        roles=_choices(auth, caller),
        **_refusal(auth, caller, refused),
    )


def _refusal(auth: Authorization, caller: Caller, refused: RefusedError | None) -> dict[str, Any]:
    if refused is None:
        return {"refusal": None, "wrong": {}}
    return {
        "refusal": refusal_text(auth.request, refused.code, caller),
        "wrong": wrong_fields(auth.request, refused, caller),
    }


def _choices(auth: Authorization, caller: Caller) -> list[tuple[str, str]]:
    """Roles that the caller may give: none that may do more than their own, and owners by owners alone."""
    texts = Texts(language_for(auth.request, caller))
    within = [role for role in ROLES if permissions_of(role) <= caller.permissions]
    grantable = [role for role in within if role != "owner" or caller.role == "owner"]
    return [(role, texts(f"role.{role}")) for role in grantable]


def _granter(caller: Caller) -> Granter:
    if caller.user_id is None or caller.role is None:
        raise not_found()
    return Granter(caller.user_id, caller.role)


def _role(text: str) -> Role:
    for role in ROLES:
        if role == text:
            return role
    raise RefusedError("role_not_grantable", "There is no such role.", field="role")
