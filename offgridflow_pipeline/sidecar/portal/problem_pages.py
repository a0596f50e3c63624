"""Problems as people meet them: a way on where there is one (sign in, confirm, set up), else a page that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from offgridflow_pipeline.sidecar.entrance.plan_limits import PlanLimit
from offgridflow_pipeline.sidecar.portal.navigation import section_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import catalogue
from offgridflow_pipeline.subscriptions.entitlements import EVERY_STATE

if TYPE_CHECKING:
    from fastapi import Request, Response

    from offgridflow_pipeline.sidecar.entrance.problems import Problem

#: Paths that are no pages: their problems are documents.
_MACHINES = ("/v1/", "/.well-known/")
_MACHINE_PATHS = frozenset({"/v1", "/livez", "/readyz", "/gate", "/metrics"})
_SAFE = frozenset({"GET", "HEAD"})
_BY_STATUS = {
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_request",
    429: "rate_limited",
    500: "internal_error",
    503: "unavailable",
}


def serves(path: str) -> bool:
    """Whether the path belongs to the portal, so that problems there are pages."""
    return path not in _MACHINE_PATHS and not path.startswith(_MACHINES)


def problem_page(request: Request, problem: Problem) -> Response:
    """The way on, or the problem as a page with the request's id."""
    way = _way_on(request, problem)
    if way is not None:
        return see_other(way)
    known = catalogue(language_for(request))
    code = problem.code if known.get(f"problem_title.{problem.code}") else _BY_STATUS.get(problem.status, "http_error")
    told = f"problem_text.{code}"
    if isinstance(problem, PlanLimit) and problem.cause in EVERY_STATE:
        told = f"error.plan_limit_{problem.cause}"
    is_closed = isinstance(problem, PlanLimit) and problem.cause == "offboarded"
    response = page(
        request,
        "problem.html",
        status=problem.status,
        title=str(known[f"problem_title.{code}"].string),
        text=str(known[told].string),
        way=("/switch-tenant", "nav.switch") if is_closed else ("/", "problem.home"),
        request_id=getattr(request.state, "request_id", ""),
    )
    response.headers.update(problem.headers)
    return response


def _way_on(request: Request, problem: Problem) -> str | None:
    """Where the person gets what they lack; a form's own address cannot be opened, so its section takes its place.

    What the plan does not allow is told where the form was: `standing` has the words.
    """
    is_page = request.method in _SAFE
    here = section_of(request.url.path)
    if is_page:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    next_path = quote(here, safe="")
    if problem.status == 401:
        ended = "" if is_page else "&error=session_ended"
        return f"/sign-in?next={next_path}{ended}" if here != "/" or ended else "/sign-in"
    if isinstance(problem, PlanLimit) and not is_page:
        return f"{here}?error=plan_limit_{problem.cause}"
    ways = {
        "step_up_required": f"/step-up?next={next_path}",
        "second_factor_required": "/settings/second-factor?error=second_factor",
        "no_tenant": "/switch-tenant",
    }
    return ways.get(problem.code)
