"""Members of the organisation and invitations into it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from offgridflow_pipeline.identity import invitations, memberships
from offgridflow_pipeline.identity.memberships import Granter
from offgridflow_pipeline.identity.permissions import Permission, Role
from offgridflow_pipeline.sidecar.answering import answers, pagination
from offgridflow_pipeline.sidecar.entrance import idempotency
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, public, requires
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent
from offgridflow_pipeline.sidecar.entrance.plan_limits import (
    admission,
    require_invitation,
    require_resending,
    require_role,
)
from offgridflow_pipeline.sidecar.entrance.problems import problem_responses, unauthenticated
from offgridflow_pipeline.sidecar.entrance.refusals import refusals_as_problems, visitor_of
from offgridflow_pipeline.sidecar.routes.me import person_of
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

if TYPE_CHECKING:
    from offgridflow_pipeline.database.people.invitations import InvitationRow
    from offgridflow_pipeline.database.people.memberships import MemberRow
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

router = APIRouter(tags=["members"])
UserId = Annotated[UUID, Path(description="Id of the member.")]
InvitationId = Annotated[UUID, Path(description="Id of the invitation.")]
_OF_A_LINK = "kJ2v9QmX0bT7cR4nW1sY6eU3pL8aF5hD_oGiZtBxN-E"


class Member(BaseModel):
    """A member of the organisation."""

    user_id: UUID
    email: str
    name: str
    status: str
    role: str
    expires_at: datetime | None
    granted_by: str
    created_at: datetime


class RoleChange(BaseModel):
    """Another role for a member."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "analyst"}]})

    role: Role
    expires_at: AwareDatetime | None = Field(None, description="For an auditor: when the access ends.")


class NewInvitation(BaseModel):
    """Who is invited, as what."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"email": "anna@alder.example", "role": "analyst", "locale": "en"}]},
    )

    email: str = Field(min_length=3, max_length=254)
    role: Role
    expires_at: AwareDatetime | None = Field(None, description="For an auditor: when the access ends.")
    locale: str = Field("en", pattern="^(en|de)$", description="Language of the mail.")


class Invitation(BaseModel):
    """An invitation that is neither accepted nor revoked."""

    invitation_id: UUID
    email: str
    role: str
    membership_expires_at: datetime | None
    invited_by: str
    created_at: datetime
    expires_at: datetime


class Acceptance(BaseModel):
    """The link, and who accepts: nobody more when signed in; password of the account; or name and password of a new
    one.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"token": _OF_A_LINK, "name": "Olga Owner", "password": "violet-lamp-river"}]},
    )

    token: SecretStr = Field(min_length=20, max_length=200, description="Of the link in the mail.")
    password: SecretStr = Field(SecretStr(""), max_length=1024)
    name: str = Field("", max_length=200, description="With it a new account is made.")
    locale: Literal["en", "de"] = "en"


class Membership(BaseModel):
    """An organisation one has become a member of."""

    tenant: str
    tenant_name: str
    role: str


@router.get(
    "/members",
    operation_id="list_members",
    summary="Members, by address",
    response_model=answers.Page[Member],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_members(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_READ)],
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Everybody who belongs to the organisation, those whose time has ended among them."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "members")
        after = cursors.read(cursor)
        rows = caller.database.memberships.list(
            caller.tenant, after=(after[0], after[1]) if after else None, limit=limit + 1
        )
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.email, row.user_id))
    return answers.read(
        answers.Page[Member], answers.Page(items=[_member(row) for row in page], next_cursor=next_cursor)
    )


@router.patch(
    "/members/{user_id}",
    operation_id="change_member",
    summary="Give a member another role",
    response_model=Member,
    responses=problem_responses(401, 403, 404, 409, 422, 429),
)
def change_member(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)], user_id: UserId, body: RoleChange
) -> Response:
    """In force with the member's next request; API keys they made that exceed the role are revoked.

    Nobody grants more than they hold; a last owner stays. An auditor who becomes a member, or the reverse, takes a
    place of the plan.
    """
    with refusals_as_problems(), auth.transaction() as caller:
        require_role(caller, user_id, body.role)
        row = memberships.change_role(
            caller.database,
            caller.tenant,
            _granter(caller),
            user_id,
            body.role,
            body.expires_at,
            visitor_of(auth.request),
        )
    return answers.written(Member, _member(row), status=200)


@router.delete(
    "/members/{user_id}",
    operation_id="remove_member",
    summary="Remove a member",
    status_code=204,
    responses=problem_responses(401, 403, 404, 409, 422, 429),
)
def remove_member(auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)], user_id: UserId) -> Response:
    """In force with the member's next request. API keys that they made are revoked."""
    with refusals_as_problems(), auth.transaction() as caller:
        memberships.remove(caller.database, caller.tenant, _granter(caller), user_id, visitor_of(auth.request))
    return Response(status_code=204)


@router.get(
    "/invitations",
    operation_id="list_invitations",
    summary="Open invitations, newest first",
    response_model=answers.Page[Invitation],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_invitations(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_READ)],
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Neither accepted nor revoked; expired ones among them, as they can be sent again."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "invitations")
        after = cursors.read(cursor)
        rows = caller.database.invitations.list(
            caller.tenant, after=(after[0], after[1]) if after else None, limit=limit + 1
        )
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.created_at, row.invitation_id))
    return answers.read(
        answers.Page[Invitation], answers.Page(items=[_invitation(row) for row in page], next_cursor=next_cursor)
    )


@router.post(
    "/invitations",
    operation_id="invite_member",
    summary="Invite somebody by mail",
    status_code=201,
    response_model=Invitation,
    responses=problem_responses(401, 403, 429, *idempotency.STATUSES),
)
def invite_member(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE, makes=Entitlement.MEMBERS)],
    body: NewInvitation,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """The mail holds a link for seven days. An older invitation of the address is void."""
    with (
        refusals_as_problems(),
        auth.transaction() as caller,
        idempotent(caller, auth.request, body) as once,
    ):
        if once.replay is not None:
            return once.replay
        require_invitation(caller, body.role, address=body.email)
        row = invitations.invite(
            auth.services,
            caller.database,
            caller.tenant,
            caller.tenant_name,
            _granter(caller),
            email=body.email,
            role=body.role,
            expires_at=body.expires_at,
            language=body.locale,
            visitor=visitor_of(auth.request),
        )
        return once.keep(
            answers.written(
                Invitation,
                _invitation(row),
                status=201,
                headers={"location": f"/v1/invitations/{row.invitation_id}"},
            )
        )


@router.post(
    "/invitations/{invitation_id}/resend",
    operation_id="resend_invitation",
    summary="Send an invitation again",
    response_model=Invitation,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def resend_invitation(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE, makes=Entitlement.MEMBERS)],
    invitation_id: InvitationId,
) -> Response:
    """Another link, good for seven days; the one before is void."""
    with refusals_as_problems(), auth.transaction() as caller:
        require_resending(caller, invitation_id)
        row = invitations.resend(
            auth.services,
            caller.database,
            caller.tenant,
            caller.tenant_name,
            _granter(caller),
            invitation_id,
            language=caller.locale,
            visitor=visitor_of(auth.request),
        )
    return answers.written(Invitation, _invitation(row), status=200)


@router.delete(
    "/invitations/{invitation_id}",
    operation_id="revoke_invitation",
    summary="Withdraw an invitation",
    status_code=204,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def revoke_invitation(
    auth: Annotated[Authorization, requires(Permission.MEMBERS_WRITE)], invitation_id: InvitationId
) -> Response:
    """Its link stops working."""
    with refusals_as_problems(), auth.transaction() as caller:
        person = person_of(caller)
        invitations.revoke(caller.database, caller.tenant, person.user_id, invitation_id, visitor_of(auth.request))
    return Response(status_code=204)


@router.post(
    "/invitations/accept",
    operation_id="accept_invitation",
    summary="Accept an invitation",
    response_model=Membership,
    responses=problem_responses(400, 401, 403, 409, 422, 429, 503),
    openapi_extra={"security": [{}, {"session": []}]},
)
def accept(services: Annotated[Services, public()], request: Request, body: Acceptance) -> Response:
    """Signed in with the invited address: the token is enough. Else the account's password, or a new account."""
    visitor = visitor_of(request)
    token, password = body.token.get_secret_value(), body.password.get_secret_value()
    admit = admission(services.settings)
    with refusals_as_problems():
        if body.name:
            person = invitations.NewPerson(body.name, password, body.locale)
            offer = invitations.accept_as_new(services, token, person, visitor, admit=admit)
        elif password:
            offer = invitations.accept_with_password(services, token, password, visitor, admit=admit)
        else:
            with Authorization(request, services, None, needs_tenant=False).transaction() as caller:
                user_id, email = caller.user_id, caller.email
            if user_id is None:
                raise unauthenticated()
            offer = invitations.accept_signed_in(services, user_id, email, token, visitor, admit=admit)
    shown = Membership(tenant=offer.tenant, tenant_name=offer.tenant_name, role=offer.role)
    return answers.written(Membership, shown, status=200)


def _granter(caller: Caller) -> Granter:
    return Granter(person_of(caller).user_id, caller.role or "")


def _member(row: MemberRow) -> Member:
    return Member(
        user_id=row.user_id,
        email=row.email,
        name=row.display_name,
        status=row.status,
        role=row.role,
        expires_at=row.expires_at,
        granted_by=row.granted_by,
        created_at=row.created_at,
    )


def _invitation(row: InvitationRow) -> Invitation:
    return Invitation(
        invitation_id=row.invitation_id,
        email=row.email,
        role=row.role,
        membership_expires_at=row.membership_expires_at,
        invited_by=row.invited_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
