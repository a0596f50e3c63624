"""Refusals of `identity` as problems, and who visits, for API and portal alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.refusals import Code, RefusedError
from offgridflow_pipeline.identity.visits import Visitor
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem
from offgridflow_pipeline.sidecar.services import services_of

if TYPE_CHECKING:
    from fastapi import Request

STATUS: Mapping[Code, int] = {
    "already_enrolled": 409,
    "already_member": 409,
    "busy": 503,
    "expiry_required": 422,
    "invalid_address": 422,
    "invalid_code": 401,
    "invalid_credentials": 401,
    "invalid_expiry": 422,
    "invalid_locale": 422,
    "invalid_name": 422,
    "invalid_template": 422,
    "invalid_token": 400,
    "last_owner": 409,
    "not_enrolled": 409,
    "not_found": 404,
    "password_required": 409,
    "plan_limit": 403,
    "role_not_grantable": 403,
    "second_factor_required": 401,
    "step_up_required": 403,
    "too_many_attempts": 429,
    "weak_password": 422,
    "wrong_account": 403,
}


def problem_of(error: RefusedError) -> Problem:
    """The refusal as clients read it; `errors` points to the field where one is wrong."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    status = STATUS[error.code]
    if status == 401:  # RFC 9110: every 401 names a scheme
        headers["WWW-Authenticate"] = 'Session realm="offgridflow"'
    errors = []
    if error.field is not None:
        errors.append(FieldProblem(pointer=f"/body/{error.field}", message=error.message, code=error.code))
    return Problem(status, error.code, error.message, errors=errors, headers=headers)


@contextmanager
def refusals_as_problems() -> Iterator[None]:
    """Refusals inside the block become problems."""
    try:
        yield
    except RefusedError as error:
        raise problem_of(error) from error


def visitor_of(request: Request) -> Visitor:
    """Who sends the request, as the network shows them."""
    return Visitor(
        ip=request.state.client_ip,
        user_agent=request.headers.get("user-agent", ""),
        request_id=request.state.request_id,
        pepper=services_of(request).pepper,
    )
