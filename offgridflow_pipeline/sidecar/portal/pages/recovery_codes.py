"""New recovery codes: for who shows password and authenticator; shown once, the older ones are void."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from offgridflow_pipeline.identity import second_factor, sessions, sign_in
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, signed_in
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text, status_of, wrong_fields
from offgridflow_pipeline.sidecar.portal.rendering import page, see_other
from offgridflow_pipeline.sidecar.routes.me import person_of

router = APIRouter(include_in_schema=False)
_SET_UP = "/settings/second-factor"


@router.get("/settings/recovery-codes")
def recovery_codes_page(auth: Annotated[Authorization, signed_in()]) -> Response:
    """What renewing does, and the form; without a second factor there is nothing to recover."""
    with auth.transaction() as caller:
        factor = caller.database.credentials.second_factor(person_of(caller).user_id)
    if not factor.is_enrolled:
        return see_other(_SET_UP)
    return page(auth.request, "renew_recovery_codes.html", caller, codes_left=factor.recovery_codes_left, wrong={})


@router.post("/settings/recovery-codes")
def renew(auth: Annotated[Authorization, signed_in()], password: Field = "", code: Field = "") -> Response:
    """The new codes, in this answer alone; the session gets another token."""
    visitor = visitor_of(auth.request)
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            codes = second_factor.renew_recovery_codes(
                auth.services, caller.database, caller.tenant, person.user_id, person.session_id, visitor,
                password=password, code=code,
            )  # fmt: skip
            token = sessions.rotate(caller.database, person.user_id, person.session_id, auth.services.pepper)
    except RefusedError as refusal:
        if refusal.code == "not_enrolled":
            return see_other(_SET_UP)
        sign_in.note_failed_step_up(auth.services, person.user_id, visitor, refusal.code)
        return _again(auth, refusal)
    response = page(auth.request, "recovery_codes.html", caller, codes=codes, are_renewed=True)
    cookies.set_session(response, auth.services, token)
    return response


def _again(auth: Authorization, refusal: RefusedError) -> Response:
    """The form again, with what was wrong; codes and sessions are as they were."""
    with auth.transaction() as caller:
        factor = caller.database.credentials.second_factor(person_of(caller).user_id)
    return page(
        auth.request,
        "renew_recovery_codes.html",
        caller,
        status=status_of(refusal),
        codes_left=factor.recovery_codes_left,
        refusal=refusal_text(auth.request, refusal.code, caller),
        wrong=wrong_fields(auth.request, refusal, caller),
    )
