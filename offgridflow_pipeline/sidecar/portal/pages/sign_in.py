"""Signing in with a second step, signing out, and proving again who one is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from offgridflow_pipeline.identity import sessions, sign_in
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, public, signed_in
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text, status_of
from offgridflow_pipeline.sidecar.portal.rendering import LANGUAGE_COOKIE, local_path, page, see_other
from offgridflow_pipeline.sidecar.routes.me import person_of
from offgridflow_pipeline.sidecar.services import Services

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def sign_in_page(request: Request, services: Annotated[Services, public()], next: str = "") -> Response:
    """Address and password."""
    return page(request, "sign_in.html", email="", next=local_path(next, ""))


@router.post("/sign-in")
def sign_in_form(
    request: Request,
    services: Annotated[Services, public()],
    email: Field = "",
    password: Field = "",
    next: Field = "",
) -> Response:
    """Begin a session, or ask for the second factor."""
    try:
        begun = sign_in.sign_in(services, visitor_of(request), email, password)
    except sign_in.SecondFactorNeededError as needed:
        return page(request, "second_step.html", challenge=needed.challenge, next=local_path(next, ""))
    except RefusedError as refusal:
        return page(
            request,
            "sign_in.html",
            status=status_of(refusal),
            email=email,
            next=local_path(next, ""),
            refusal=refusal_text(request, refusal.code),
        )
    return _entered(request, services, begun, next)


@router.get("/sign-in/second-factor")
def second_step_page(services: Annotated[Services, public()]) -> Response:
    """The second step has no page of its own: a reload begins anew."""
    return see_other("/sign-in")


@router.post("/sign-in/second-factor")
def second_step_form(
    request: Request,
    services: Annotated[Services, public()],
    challenge: Field = "",
    code: Field = "",
    next: Field = "",
) -> Response:
    """The second step of signing in."""
    try:
        begun = sign_in.answer_challenge(services, visitor_of(request), challenge, code.strip())
    except RefusedError as refusal:
        template = "sign_in.html" if refusal.code in {"invalid_token", "invalid_credentials"} else "second_step.html"
        return page(
            request,
            template,
            status=status_of(refusal),
            email="",
            challenge=challenge,
            next=local_path(next, ""),
            refusal=refusal_text(request, refusal.code),
        )
    return _entered(request, services, begun, next)


@router.post("/sign-out")
def sign_out_form(auth: Annotated[Authorization, signed_in()]) -> Response:
    """End the session; what the browser keeps of this site goes with it."""
    try:
        with auth.transaction() as caller:
            person, visitor = person_of(caller), visitor_of(auth.request)
            sessions.sign_out(caller.database, caller.tenant, person.user_id, person.session_id, visitor)
    except Problem as problem:
        if problem.status != 401:
            raise
    response = see_other("/sign-in?done=signed_out")
    cookies.clear_session(response, auth.services)
    return response


@router.get("/step-up")
def step_up_page(auth: Annotated[Authorization, signed_in()], next: str = "") -> Response:
    """The password again."""
    with auth.transaction() as caller:
        pass
    return page(auth.request, "step_up.html", caller, next=local_path(next))


@router.post("/step-up")
def step_up_form(
    auth: Annotated[Authorization, signed_in()],
    password: Field = "",
    next: Field = "",
) -> Response:
    """Prove again who one is; the session gets another token."""
    visitor = visitor_of(auth.request)
    person = None
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            token = sign_in.step_up(
                auth.services, caller.database, caller.tenant, person.user_id, person.session_id, visitor,
                password=password,
            )  # fmt: skip
    except RefusedError as refusal:
        if person is not None:
            sign_in.note_failed_step_up(auth.services, person.user_id, visitor, refusal.code)
        text = refusal_text(auth.request, refusal.code, caller)
        return page(
            auth.request, "step_up.html", caller, status=status_of(refusal), next=local_path(next), refusal=text
        )
    response = see_other(local_path(next))
    cookies.set_session(response, auth.services, token)
    return response


def _entered(request: Request, services: Services, begun: sign_in.SignedIn, wanted: str) -> Response:
    """Into the portal, with the cookie of the new session; the one before it, if any, ends."""
    if before := request.cookies.get(services.session_cookie, ""):
        sessions.discard(services.database, before, services.pepper)
    response = see_other(local_path(wanted))
    cookies.set_session(response, services, begun.token)
    response.delete_cookie(LANGUAGE_COOKIE)
    return response
