"""Signing in and out, second factor, step-up, passwords, and exchange tokens for machines.

What may happen is decided in `identity`; here it is read from the request and answered. Answers with a session set the
cookie and say no more than who it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from offgridflow_pipeline.identity import exchange_tokens, password_reset, second_factor, sessions, sign_in
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance import cookies
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, public, signed_in
from offgridflow_pipeline.sidecar.entrance.middleware import too_many
from offgridflow_pipeline.sidecar.entrance.problems import Problem, problem_responses
from offgridflow_pipeline.sidecar.entrance.refusals import problem_of, refusals_as_problems, visitor_of
from offgridflow_pipeline.sidecar.routes.me import person_of
from offgridflow_pipeline.sidecar.services import Services

router = APIRouter(tags=["auth"])

Email = Annotated[str, Field(min_length=3, max_length=254, examples=["olga@alder.example"])]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
SecondFactorCode = Annotated[str, Field(max_length=32, description="Of the authenticator, or a recovery code.")]
_OF_A_LINK = "kJ2v9QmX0bT7cR4nW1sY6eU3pL8aF5hD_oGiZtBxN-E"
Token = Annotated[SecretStr, Field(min_length=20, max_length=200, description="Of the link in the mail.")]


class SignIn(BaseModel):
    """Who wants to come in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"email": "olga@alder.example", "password": "violet-lamp-river"}]},
    )

    email: Email
    password: Password
    code: SecondFactorCode = ""


class SignedIn(BaseModel):
    """A session has begun; its token is in the cookie."""

    user_id: str
    tenant: str | None = Field(description="Slug of the organisation the session works in.")
    second_factor: bool = Field(description="Whether a second factor was shown.")


class Done(BaseModel):
    """It is done, or, where nothing may be told, will be if it can be."""

    status: Literal["done", "accepted"]


class Address(BaseModel):
    """An address to send the link to."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"email": "olga@alder.example"}]})

    email: Email


class NewPasswordByLink(BaseModel):
    """A new password, allowed by the link of the mail."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"token": _OF_A_LINK, "password": "violet-lamp-river"}]}
    )

    token: Token
    password: Password


class ChangedPassword(BaseModel):
    """A new password, allowed by the current one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"current_password": "violet-lamp-river", "new_password": "amber-kite-field"}]},
    )

    current_password: Password
    new_password: Password


class Proof(BaseModel):
    """Password or code: one of the two."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "492039"}]})

    password: SecretStr = Field(SecretStr(""), max_length=1024)
    code: SecondFactorCode = ""


class Code(BaseModel):
    """The first code of an authenticator."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "492039"}]})

    code: Annotated[str, Field(min_length=6, max_length=32)]


class BothFactors(BaseModel):
    """Password and code of the authenticator: a recovery code does not do."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"password": "violet-lamp-river", "code": "492039"}]}
    )

    password: Password
    code: Annotated[str, Field(min_length=6, max_length=32)]


class Enrolment(BaseModel):
    """A secret for an authenticator; it is in force once a code of it was confirmed."""

    secret: str
    uri: str = Field(description="For a QR code: otpauth://…")


class RecoveryCodes(BaseModel):
    """Shown once: each replaces a code of the authenticator, once."""

    recovery_codes: list[str]


class ExchangeToken(BaseModel):
    """A token for the header `Authorization: Bearer …`."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  the type, no secret
    expires_in: int = Field(description="Seconds.")


@router.post(
    "/auth/login",
    operation_id="sign_in",
    summary="Sign in",
    response_model=SignedIn,
    responses=problem_responses(401, 422, 429, 503),
)
def login(services: Annotated[Services, public()], request: Request, body: SignIn) -> Response:
    """Start a session. Code `second_factor_required`: send the same again with a code."""
    visitor = visitor_of(request)
    with refusals_as_problems():
        begun = sign_in.sign_in(services, visitor, body.email, body.password.get_secret_value(), body.code)
    if replaced := request.cookies.get(services.session_cookie):
        sessions.discard(services.database, replaced, services.pepper)
    shown = SignedIn(
        user_id=str(begun.user_id),
        tenant=begun.tenant.slug if begun.tenant else None,
        second_factor=begun.second_factor,
    )
    response = answers.written(SignedIn, shown, status=200)
    cookies.set_session(response, services, begun.token)
    return response


@router.post(
    "/auth/logout",
    operation_id="sign_out",
    summary="Sign out",
    response_model=Done,
    responses=problem_responses(401, 403, 429),
)
def logout(auth: Annotated[Authorization, signed_in()]) -> Response:
    """End the session of the cookie."""
    with auth.transaction() as caller:
        person = person_of(caller)
        sessions.sign_out(caller.database, caller.tenant, person.user_id, person.session_id, visitor_of(auth.request))
    response = _done()
    cookies.clear_session(response, auth.services)
    return response


@router.post(
    "/auth/step-up",
    operation_id="step_up",
    summary="Prove again who you are",
    response_model=Done,
    responses=problem_responses(401, 403, 422, 429, 503),
)
def step_up(auth: Annotated[Authorization, signed_in()], body: Proof) -> Response:
    """For 15 minutes the session may change keys, members and billing. The cookie gets a new token."""
    visitor = visitor_of(auth.request)
    user_id = None
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            user_id = person.user_id
            token = sign_in.step_up(
                auth.services,
                caller.database,
                caller.tenant,
                person.user_id,
                person.session_id,
                visitor,
                password=body.password.get_secret_value(),
                code=body.code,
            )
    except RefusedError as error:
        if user_id is not None:
            sign_in.note_failed_step_up(auth.services, user_id, visitor, error.code)
        raise problem_of(error) from error
    return _with_session(auth.services, token)


@router.post(
    "/auth/token",
    operation_id="exchange_token",
    summary="Exchange an API key for a token of ten minutes",
    response_model=ExchangeToken,
    responses=problem_responses(401, 403, 429),
    openapi_extra={"security": [{"api_key": []}]},
)
def exchange_token(auth: Annotated[Authorization, signed_in(tenant=True)]) -> Response:
    """For tools that take bearer tokens: EdDSA, checked with `/.well-known/jwks.json`."""
    with auth.transaction() as caller:
        if caller.kind != "api_key" or caller.tenant_id is None:
            raise Problem(403, "api_key_required", "Only an API key is exchanged for a token.")
        if refused := auth.services.rate_limiter.refusal("exchange_token", caller.principal):
            raise too_many(refused)
        token = auth.services.token_keys.issue(
            tenant_id=caller.tenant_id,
            tenant=caller.tenant,
            principal=caller.principal,
            permissions=caller.permissions,
        )
        record(
            caller.database,
            caller.tenant,
            Action.TOKEN_ISSUED,
            actor=caller.principal,
            target=caller.principal,
            **trail(auth.request),
        )
    shown = ExchangeToken(access_token=token, expires_in=int(exchange_tokens.LIFETIME.total_seconds()))
    return answers.written(ExchangeToken, shown, status=200)


@router.post(
    "/auth/password/forgot",
    operation_id="request_password_reset",
    summary="Ask for a link to set a new password",
    status_code=202,
    response_model=Done,
    responses=problem_responses(422, 429, 503),
)
def forgot(
    services: Annotated[Services, public()], request: Request, body: Address, tasks: BackgroundTasks
) -> Response:
    """A mail goes out if the address has an account; this answer is the same either way."""
    visitor = visitor_of(request)
    with refusals_as_problems():
        known = password_reset.require_request_rate(services, visitor, body.email)
    tasks.add_task(password_reset.request, services, visitor, known)
    response = answers.written(Done, Done(status="accepted"), status=202)
    response.background = tasks
    return response


@router.post(
    "/auth/password/reset",
    operation_id="reset_password",
    summary="Set a new password with the link of the mail",
    response_model=Done,
    responses=problem_responses(400, 422, 429, 503),
)
def reset(services: Annotated[Services, public()], request: Request, body: NewPasswordByLink) -> Response:
    """Ends every session of the person; sign in afterwards."""
    with refusals_as_problems():
        password_reset.reset(
            services, visitor_of(request), body.token.get_secret_value(), body.password.get_secret_value()
        )
    return _done()


@router.post(
    "/auth/password/change",
    operation_id="change_password",
    summary="Change your password",
    response_model=Done,
    responses=problem_responses(401, 403, 422, 429, 503),
)
def change(auth: Annotated[Authorization, signed_in()], body: ChangedPassword) -> Response:
    """Ends your other sessions; the cookie gets a new token."""
    with refusals_as_problems(), auth.transaction() as caller:
        person = person_of(caller)
        token = password_reset.change(
            auth.services,
            caller.database,
            caller.tenant,
            person.user_id,
            person.session_id,
            visitor_of(auth.request),
            current=body.current_password.get_secret_value(),
            new=body.new_password.get_secret_value(),
        )
    return _with_session(auth.services, token)


@router.post(
    "/auth/totp/enroll",
    operation_id="enroll_second_factor",
    summary="Begin to set up a second factor",
    response_model=Enrolment,
    responses=problem_responses(401, 403, 404, 429),
)
def enroll(auth: Annotated[Authorization, signed_in()]) -> Response:
    """A secret for your authenticator. One that is in force stays so until the new one is confirmed."""
    with refusals_as_problems(), auth.transaction() as caller:
        person = person_of(caller)
        sessions.require_step_up(caller.stepped_up)
        offered = second_factor.offer(auth.services, caller.database, person.user_id)
    return answers.written(Enrolment, Enrolment(secret=offered.secret, uri=offered.uri), status=200)


@router.post(
    "/auth/totp/confirm",
    operation_id="confirm_second_factor",
    summary="Confirm the second factor with its first code",
    response_model=RecoveryCodes,
    responses=problem_responses(401, 403, 404, 409, 422, 429),
)
def confirm(auth: Annotated[Authorization, signed_in()], body: Code) -> Response:
    """Puts it into force, ends your other sessions and returns the recovery codes, which are shown once."""
    with refusals_as_problems(), auth.transaction() as caller:
        person = person_of(caller)
        sessions.require_step_up(caller.stepped_up)
        codes = second_factor.confirm(
            auth.services,
            caller.database,
            caller.tenant,
            person.user_id,
            person.session_id,
            body.code,
            visitor_of(auth.request),
        )
        token = sessions.rotate(caller.database, person.user_id, person.session_id, auth.services.pepper)
    return _recovery_codes(auth.services, codes, token)


@router.post(
    "/auth/totp/recovery-codes",
    operation_id="renew_recovery_codes",
    summary="Replace your recovery codes",
    response_model=RecoveryCodes,
    responses=problem_responses(401, 403, 404, 409, 422, 429, 503),
)
def renew_recovery_codes(auth: Annotated[Authorization, signed_in()], body: BothFactors) -> Response:
    """New codes, shown once; the older ones are void and your other sessions end. The cookie gets a new token."""
    visitor = visitor_of(auth.request)
    user_id = None
    try:
        with auth.transaction() as caller:
            person = person_of(caller)
            user_id = person.user_id
            codes = second_factor.renew_recovery_codes(
                auth.services, caller.database, caller.tenant, person.user_id, person.session_id, visitor,
                password=body.password.get_secret_value(), code=body.code,
            )  # fmt: skip
            token = sessions.rotate(caller.database, person.user_id, person.session_id, auth.services.pepper)
    except RefusedError as error:
        if user_id is not None and error.code != "not_enrolled":
            sign_in.note_failed_step_up(auth.services, user_id, visitor, error.code)
        raise problem_of(error) from error
    return _recovery_codes(auth.services, codes, token)


def _done() -> Response:
    return answers.written(Done, Done(status="done"), status=200)


def _with_session(services: Services, token: str) -> Response:
    response = _done()
    cookies.set_session(response, services, token)
    return response


def _recovery_codes(services: Services, codes: list[str], token: str) -> Response:
    response = answers.written(RecoveryCodes, RecoveryCodes(recovery_codes=codes), status=200)
    cookies.set_session(response, services, token)
    return response
