"""A person's own settings: profile, mail, password, sessions; and which organisation they work in."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response

from offgridflow_pipeline.identity import accounts, password_reset, sessions
from offgridflow_pipeline.identity.profiles import DECLINABLE_MAIL, LOCALES
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, signed_in
from offgridflow_pipeline.sidecar.entrance.problems import not_found
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal.forms import (
    Field,
    Fields,
    refusal_text,
    status_of,
    wrong_fields,
)
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.sidecar.routes.me import person_of

router = APIRouter(include_in_schema=False)


@router.get("/settings")
def settings_page(auth: Annotated[Authorization, signed_in()]) -> Response:
    """Everything a person sets for themself."""
    return _settings(auth)


@router.post("/settings/profile")
def change_profile(
    auth: Annotated[Authorization, signed_in()],
    name: Field = "",
    locale: Field = "",
    wanted_mail: Fields = [],  # noqa: B006  read only
) -> Response:
    """Name, language, mail."""
    values = {"name": name, "locale": locale, "muted_mail": sorted(DECLINABLE_MAIL - set(wanted_mail))}
    try:
        with auth.transaction() as caller:
            user_id = person_of(caller).user_id
            visitor = visitor_of(auth.request)
            accounts.change_profile(caller.database, caller.tenant, user_id, values, visitor)
    except RefusedError as refusal:
        return _settings(auth, refusal)
    return see_other("/settings?done=saved")


@router.post("/settings/password")
def change_password(auth: Annotated[Authorization, signed_in()], current: Field = "", password: Field = "") -> Response:
    """Another password; other sessions end, this one gets another token."""
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            token = password_reset.change(
                auth.services,
                caller.database,
                caller.tenant,
                person.user_id,
                person.session_id,
                visitor_of(auth.request),
                current=current,
                new=password,
            )
    except RefusedError as refusal:
        return _settings(auth, refusal)
    response = see_other("/settings?done=password_changed")
    cookies.set_session(response, auth.services, token)
    return response


@router.post("/settings/sessions/{session_id}/end")
def end_session(auth: Annotated[Authorization, signed_in()], session_id: UUID) -> Response:
    """End another session of the person."""
    try:
        with auth.transaction() as caller:
            user_id = person_of(caller).user_id
            visitor = visitor_of(auth.request)
            sessions.revoke(caller.database, caller.tenant, user_id, session_id, visitor)
    except RefusedError:
        raise not_found() from None
    return see_other("/settings?done=session_ended")


@router.get("/switch-tenant")
def switch_page(auth: Annotated[Authorization, signed_in()]) -> Response:
    """The organisations a person may work in."""
    with auth.transaction() as caller:
        user_id = person_of(caller).user_id
        tenants = caller.database.users.tenants(user_id)
    return page(auth.request, "switch_tenant.html", caller, tenants=tenants)


@router.post("/switch-tenant")
def switch_form(auth: Annotated[Authorization, signed_in()], tenant: Field = "") -> Response:
    """Work in another organisation from here on; the session gets another token."""
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            visitor = visitor_of(auth.request)
            token, _ = sessions.switch_tenant(caller.database, person.user_id, person.session_id, tenant, visitor)
    except RefusedError:
        raise not_found() from None
    response = see_other("/?done=switched")
    cookies.set_session(response, auth.services, token)
    return response


def _settings(auth: Authorization, refused: RefusedError | None = None) -> Response:
    with auth.transaction() as caller:
        user_id = person_of(caller).user_id
        second_factor = caller.database.credentials.second_factor(user_id)
        values: dict[str, Any] = {
            "person": caller.database.users.get(user_id),
            "sessions": sessions.live(caller.database, user_id),
            "enrolled": second_factor.is_enrolled,
            "codes_left": second_factor.recovery_codes_left,
        }
    texts = Texts(language_for(auth.request, caller))
    wrong = {} if refused is None else dict(wrong_fields(auth.request, refused, caller))
    return page(
        auth.request,
        "settings.html",
        caller,
        status=200 if refused is None else status_of(refused),
        locales=[(one, texts(f"language.{one}")) for one in LOCALES],
        declinable=sorted(DECLINABLE_MAIL),
        refusal=None if refused is None else refusal_text(auth.request, refused.code, caller),
        wrong={"current" if field == "current_password" else field: text for field, text in wrong.items()},
        **values,
    )
