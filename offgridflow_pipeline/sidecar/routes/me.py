"""One's own account: profile, sessions, organisations. For people; machines have none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from offgridflow_pipeline.identity import accounts, sessions
from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, signed_in
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found, problem_responses
from offgridflow_pipeline.sidecar.entrance.refusals import refusals_as_problems, visitor_of

if TYPE_CHECKING:
    from offgridflow_pipeline.database.people.users import PersonRow
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

router = APIRouter(tags=["me"])
SessionId = Annotated[UUID, Path(description="Id of the session.")]


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in, with which session."""

    user_id: UUID
    session_id: UUID


def person_of(caller: Caller) -> Person:
    """The person who calls.

    Raises:
        Problem: 403, a machine calls.
    """
    if caller.user_id is None or caller.session_id is None:
        raise Problem(403, "person_required", "This belongs to a person: sign in with a browser.")
    return Person(caller.user_id, caller.session_id)


class Me(BaseModel):
    """The person who is signed in, and the organisation they work in now."""

    user_id: UUID
    email: str
    name: str
    locale: str
    muted_mail: list[str]
    platform_role: str | None
    tenant: str | None = Field(description="Slug; null: none, ask for an invitation or switch.")
    tenant_name: str | None
    role: str | None
    break_glass: bool = Field(description="Platform staff reading here by a grant.")
    permissions: list[str]
    second_factor: bool = Field(description="Whether this session showed a second factor.")
    second_factor_enrolled: bool
    recovery_codes_left: int
    stepped_up: bool = Field(description="Whether identity was proved within the last 15 minutes.")


class Profile(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"locale": "de", "muted_mail": ["report_ready"]}]}
    )

    name: str | None = Field(None, max_length=200)
    locale: Literal["en", "de"] | None = None
    muted_mail: list[str] | None = Field(None, max_length=20, description="Mail templates that you decline.")


class Session(BaseModel):
    """A browser that is signed in."""

    session_id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    second_factor: bool
    current: bool


class Ended(BaseModel):
    """How many sessions were ended."""

    ended: int


class MyTenant(BaseModel):
    """An organisation one may work in."""

    tenant: str
    name: str
    role: str
    expires_at: datetime | None
    break_glass: bool
    active: bool


class TenantChoice(BaseModel):
    """The organisation to work in."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tenant": "alder"}]})

    tenant: str = Field(min_length=1, max_length=63)


@router.get(
    "/me",
    operation_id="get_me",
    summary="Who you are",
    response_model=Me,
    responses=problem_responses(401, 403, 404, 429),
)
def get_me(auth: Annotated[Authorization, signed_in()]) -> Response:
    """The person, the organisation they work in, and what they may do there."""
    with auth.transaction() as caller:
        row = caller.database.users.get(person_of(caller).user_id)
        shown = _me(caller, row)
    return answers.read(Me, shown)


@router.patch(
    "/me",
    operation_id="change_me",
    summary="Change your name, language or mail",
    response_model=Me,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def change_me(auth: Annotated[Authorization, signed_in()], body: Profile) -> Response:
    """Mail about the safety of your account cannot be declined."""
    values = body.model_dump(exclude_none=True)
    with refusals_as_problems(), auth.transaction() as caller:
        user_id = person_of(caller).user_id
        row = accounts.change_profile(caller.database, caller.tenant, user_id, values, visitor_of(auth.request))
        shown = _me(caller, row)
    return answers.written(Me, shown, status=200)


@router.get(
    "/me/sessions",
    operation_id="list_sessions",
    summary="Browsers that are signed in",
    response_model=answers.Page[Session],
    responses=problem_responses(401, 403, 429),
)
def list_sessions(auth: Annotated[Authorization, signed_in()]) -> Response:
    """All of them on one page, the one used last first."""
    with auth.transaction() as caller:
        person = person_of(caller)
        rows = sessions.live(caller.database, person.user_id)
    items = [
        Session(
            session_id=row.session_id,
            created_at=row.created_at,
            last_seen_at=row.last_seen_at,
            expires_at=row.expires_at,
            user_agent=row.user_agent,
            second_factor=row.second_factor,
            current=row.session_id == person.session_id,
        )
        for row in rows
    ]
    return answers.read(answers.Page[Session], answers.Page(items=items))


@router.delete(
    "/me/sessions/{session_id}",
    operation_id="revoke_session",
    summary="End one of your sessions",
    response_model=Ended,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def revoke_session(auth: Annotated[Authorization, signed_in()], session_id: SessionId) -> Response:
    """The browser has to sign in again."""
    with refusals_as_problems(), auth.transaction() as caller:
        user_id = person_of(caller).user_id
        sessions.revoke(caller.database, caller.tenant, user_id, session_id, visitor_of(auth.request))
    return answers.written(Ended, Ended(ended=1), status=200)


@router.delete(
    "/me/sessions",
    operation_id="revoke_other_sessions",
    summary="End your other sessions",
    response_model=Ended,
    responses=problem_responses(401, 403, 429),
)
def revoke_other_sessions(auth: Annotated[Authorization, signed_in()]) -> Response:
    """Every browser but this one has to sign in again."""
    with auth.transaction() as caller:
        person = person_of(caller)
        ended = sessions.revoke_others(
            caller.database, caller.tenant, person.user_id, person.session_id, visitor_of(auth.request)
        )
    return answers.written(Ended, Ended(ended=ended), status=200)


@router.get(
    "/me/tenants",
    operation_id="list_my_tenants",
    summary="Organisations you may work in",
    response_model=answers.Page[MyTenant],
    responses=problem_responses(401, 403, 429),
)
def list_my_tenants(auth: Annotated[Authorization, signed_in()]) -> Response:
    """All of them on one page, by slug."""
    with auth.transaction() as caller:
        rows = caller.database.users.tenants(person_of(caller).user_id)
        active = caller.tenant_id
    items = [
        MyTenant(
            tenant=row.slug,
            name=row.display_name,
            role=row.role,
            expires_at=row.expires_at,
            break_glass=row.break_glass,
            active=row.tenant_id == active,
        )
        for row in rows
    ]
    return answers.read(answers.Page[MyTenant], answers.Page(items=items))


@router.post(
    "/me/tenant",
    operation_id="switch_tenant",
    summary="Work in another of your organisations",
    response_model=MyTenant,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def switch_tenant(auth: Annotated[Authorization, signed_in()], body: TenantChoice) -> Response:
    """The cookie gets a new token; the next request works there."""
    with refusals_as_problems(), auth.transaction() as caller:
        person = person_of(caller)
        token, chosen = sessions.switch_tenant(
            caller.database, person.user_id, person.session_id, body.tenant, visitor_of(auth.request)
        )
    shown = MyTenant(
        tenant=chosen.slug,
        name=chosen.display_name,
        role=chosen.role,
        expires_at=chosen.expires_at,
        break_glass=chosen.break_glass,
        active=True,
    )
    response = answers.written(MyTenant, shown, status=200)
    cookies.set_session(response, auth.services, token)
    return response


def _me(caller: Caller, row: PersonRow | None) -> Me:
    if row is None:
        raise not_found()
    second_factor = caller.database.credentials.second_factor(row.user_id)
    return Me(
        user_id=row.user_id,
        email=row.email,
        name=row.display_name,
        locale=row.locale,
        muted_mail=row.muted_mail,
        platform_role=row.platform_role,
        tenant=caller.tenant or None,
        tenant_name=caller.tenant_name or None,
        role=caller.role,
        break_glass=caller.break_glass,
        permissions=sorted(caller.permissions),
        second_factor=caller.second_factor,
        second_factor_enrolled=second_factor.is_enrolled,
        recovery_codes_left=second_factor.recovery_codes_left,
        stepped_up=caller.stepped_up,
    )
