"""Setting up the second factor: a key as QR code and text, its first code, then the recovery codes, shown once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from offgridflow_pipeline.identity import second_factor, sessions
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, signed_in
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal import charts
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text, status_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.sidecar.routes.me import person_of

router = APIRouter(include_in_schema=False)
_STEP_UP = "/step-up?next=%2Fsettings%2Fsecond-factor"


@router.get("/settings/second-factor")
def second_factor_page(auth: Annotated[Authorization, signed_in()]) -> Response:
    """What is needed, and the button to begin; with a fresh proof of identity only."""
    with auth.transaction() as caller:
        person_of(caller)
    if not caller.stepped_up:
        return see_other(_STEP_UP)
    return page(auth.request, "second_factor.html", caller, offer=None, wrong={})


@router.post("/settings/second-factor")
def begin(auth: Annotated[Authorization, signed_in()]) -> Response:
    """A new key, shown in this answer; it comes into force with its first code."""
    with auth.transaction() as caller:
        user_id = person_of(caller).user_id
        offer = second_factor.offer(auth.services, caller.database, user_id) if caller.stepped_up else None
    if offer is None:
        return see_other(_STEP_UP)
    texts = Texts(language_for(auth.request, caller))
    drawn = charts.qr_code(offer.uri, texts("second_factor.qr_title"), texts("second_factor.qr_desc"))
    return page(
        auth.request, "second_factor.html", caller, offer=offer, qr=drawn, offer_secret=_grouped(offer.secret), wrong={}
    )


@router.post("/settings/second-factor/confirm")
def confirm(auth: Annotated[Authorization, signed_in()], code: Field = "") -> Response:
    """The first code: the key is in force, the recovery codes are shown, the session gets another token."""
    visitor = visitor_of(auth.request)
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            sessions.require_step_up(caller.stepped_up)
            codes = second_factor.confirm(
                auth.services, caller.database, caller.tenant, person.user_id, person.session_id, code, visitor
            )
            token = sessions.rotate(caller.database, person.user_id, person.session_id, auth.services.pepper)
    except RefusedError as refusal:
        if refusal.code == "step_up_required":
            return see_other(_STEP_UP)
        if refusal.code == "not_enrolled":
            return see_other("/settings/second-factor?error=not_enrolled")
        return _again(auth, refusal)
    response = page(auth.request, "recovery_codes.html", caller, codes=codes, are_renewed=False)
    cookies.set_session(response, auth.services, token)
    return response


def _again(auth: Authorization, refusal: RefusedError) -> Response:
    """The code was wrong: the key still waits, but it is shown once only, so the field alone comes again."""
    with auth.transaction() as caller:
        person_of(caller)
    text = refusal_text(auth.request, refusal.code, caller)
    return page(
        auth.request, "second_factor_code.html", caller, status=status_of(refusal), refusal=text, wrong={"code": text}
    )


def _grouped(secret: str) -> str:
    """The key in groups of four, easier to type."""
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
