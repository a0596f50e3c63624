"""Forgotten passwords, and invitations: pages for people who are not signed in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Request, Response

from offgridflow_pipeline.identity import invitations, password_reset
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance.authorization import public
from offgridflow_pipeline.sidecar.entrance.plan_limits import admission
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text, status_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.services import Services

router = APIRouter(include_in_schema=False)


@router.get("/forgot-password")
def forgot_password_page(request: Request, services: Annotated[Services, public()]) -> Response:
    """The address to send a link to."""
    return page(request, "forgot_password.html", sent=False)


@router.post("/forgot-password")
def forgot_password_form(
    request: Request, services: Annotated[Services, public()], tasks: BackgroundTasks, email: Field = ""
) -> Response:
    """The same answer whether or not somebody has the address; the work follows the answer."""
    visitor = visitor_of(request)
    try:
        known = password_reset.require_request_rate(services, visitor, email)
    except RefusedError as refusal:
        text = refusal_text(request, refusal.code)
        return page(request, "forgot_password.html", status=status_of(refusal), sent=False, refusal=text)
    tasks.add_task(password_reset.request, services, visitor, known)
    return page(request, "forgot_password.html", sent=True)


@router.get("/reset-password")
def reset_password_page(request: Request, services: Annotated[Services, public()], token: str = "") -> Response:
    """The new password, for who holds a link that still works."""
    good = password_reset.is_good(services, token)
    refusal = None if good else refusal_text(request, "invalid_token")
    return page(request, "reset_password.html", status=200 if good else 410, token=token, refusal=refusal)


@router.post("/reset-password")
def reset_password_form(
    request: Request, services: Annotated[Services, public()], token: Field = "", password: Field = ""
) -> Response:
    """Set the password; nobody is signed in by this."""
    try:
        password_reset.reset(services, visitor_of(request), token, password)
    except RefusedError as refusal:
        text = refusal_text(request, refusal.code)
        return page(request, "reset_password.html", status=status_of(refusal), token=token, refusal=text)
    return see_other("/sign-in?done=password_reset")


@router.get("/invitation")
def invitation_page(request: Request, services: Annotated[Services, public()], token: str = "") -> Response:
    """What the invitation offers."""
    return _invitation(request, services, token)


@router.post("/invitation")
def invitation_form(
    request: Request, services: Annotated[Services, public()], token: Field = "", name: Field = "", password: Field = ""
) -> Response:
    """Accept, as a new person or as one who proves their account; nobody is signed in by this."""
    visitor, admit = visitor_of(request), admission(services.settings)
    try:
        if invitations.look(services, visitor, token).has_account:
            invitations.accept_with_password(services, token, password, visitor, admit=admit)
        else:
            person = invitations.NewPerson(name, password, language_for(request))
            invitations.accept_as_new(services, token, person, visitor, admit=admit)
    except RefusedError as refusal:
        return _invitation(request, services, token, name=name, refused=refusal)
    return see_other("/sign-in?done=invitation_accepted")


def _invitation(
    request: Request, services: Services, token: str, *, name: str = "", refused: RefusedError | None = None
) -> Response:
    try:
        offer = invitations.look(services, visitor_of(request), token)
    except RefusedError as gone:
        status = 410 if gone.code == "invalid_token" else status_of(gone)
        return page(request, "invitation.html", status=status, invitation=None)
    return page(
        request,
        "invitation.html",
        status=200 if refused is None else status_of(refused),
        invitation=offer,
        known=offer.has_account,
        token=token,
        name=name,
        refusal=None if refused is None else refusal_text(request, refused.code),
    )
