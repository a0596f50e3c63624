"""The application factory: routers, middleware and error handlers put together; nothing else.

`uvicorn --factory offgridflow_pipeline.sidecar.app:application` serves it with the settings of the environment.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from offgridflow_pipeline import __version__
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline.sidecar import portal, routes
from offgridflow_pipeline.sidecar.entrance.middleware import RequestFrame
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE, FieldProblem, Problem, pointer, sayable
from offgridflow_pipeline.sidecar.route_templates import RouteTemplates
from offgridflow_pipeline.sidecar.services import Services

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

log = logging.getLogger("offgridflow.sidecar")
#: Code and text of what Starlette and FastAPI raise themselves.
TEXTS = {
    400: ("unreadable_body", "The body cannot be read: send what Content-Type says, JSON in UTF-8."),
    404: ("not_found", "There is nothing here, or it is not yours to see."),
    405: ("method_not_allowed", ""),
    413: ("body_too_large", "The body is larger than this route takes."),
}
#: The database is out of reach, or too busy to answer in time: the request may be sent again.
DATABASE_ERRORS = (OperationalError, InterfaceError, PoolTimeoutError)
DATABASE_RETRY_SECONDS = "5"
#: Wrong fields that an answer names.
MAXIMUM_ERRORS = 100


def application() -> FastAPI:
    """The application of the environment's settings; refuses to start with settings or a schema that do not fit."""
    from offgridflow_pipeline.connectors.secrets import shapes
    from offgridflow_pipeline.database.engine import connect
    from offgridflow_pipeline.identity.rate_limits import policies
    from offgridflow_pipeline.telemetry import logs, setup

    settings = load_settings()
    logs.configure(settings, redact=shapes.redacted)
    database = connect(settings, role="ogf_api")
    app = create_app(settings, database)
    telemetry = setup.start(settings, app, database, route_of=RouteTemplates(app).of, rate_limit_policies=policies())
    app.state.at_end = [telemetry.shutdown, database.close]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Mail is sent while the app runs; what `application` opened is closed at its end."""
    services: Services = app.state.services
    services.mail.start()
    try:
        yield
    finally:
        services.mail.stop()
        for ending in app.state.at_end:
            ending()


class _Api(FastAPI):
    """FastAPI, described by our contract."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made when it is first asked for."""
        from offgridflow_pipeline.sidecar import contract

        if self.openapi_schema is None:
            self.openapi_schema = contract.document(self)
        return self.openapi_schema


def create_app(settings: Settings, database: Database) -> FastAPI:
    """An application over an open database; the caller closes it. Served without telemetry."""
    services = Services(settings, database)
    app = _Api(
        title="OffGridFlow API",
        version=__version__,
        summary="Greenhouse-gas figures of cloud use: read, explained, reported.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.services = services
    app.state.at_end = []
    routes.include(app)
    portal.include(app)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid)
    for error in DATABASE_ERRORS:
        app.add_exception_handler(error, _without_database)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(RequestFrame, services=services, answer=answer)
    return app


def answer(request: Request, problem: Problem) -> Response:
    """The problem as the client reads it: a page in the portal, a document elsewhere."""
    path = request.scope["path"]  # request.url cannot be made of every Host header
    if portal.serves(path):
        return portal.problem_page(request, problem)
    document = problem.document(instance=path, trace_id=getattr(request.state, "request_id", ""))
    return Response(
        document.model_dump_json(), status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101  registered for this class
    return answer(request, error)


async def _http_exception(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    headers = getattr(error, "headers", None)
    if status == 405:  # Starlette names the methods of the first route alone
        headers = {"Allow": ", ".join(sorted(_methods(request)))}
    code, detail = TEXTS.get(status, ("http_error", ""))
    return answer(request, Problem(status, code, detail, headers=headers))


def _methods(request: Request) -> set[str]:
    """Methods that the path of the request can be asked with; a path of its own hides what also would match."""
    path = request.scope["path"]
    routes = [route for route in iter_route_contexts(request.app.routes) if route.path]
    matching = [route for route in routes if route.path == path] or [
        route
        for route in routes
        if compile_path(route.path)[0].match(path)  # type: ignore[arg-type]
    ]
    return {method for route in matching for method in route.methods or ()}


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class
    errors = [
        FieldProblem(pointer=pointer(*found["loc"]), message=sayable(found["msg"]), code=found["type"])
        for found in error.errors()[:MAXIMUM_ERRORS]
    ]
    return answer(request, Problem(422, "invalid_request", "The request does not have the right form.", errors=errors))


async def _without_database(request: Request, error: Exception) -> Response:
    request_id = getattr(request.state, "request_id", "")
    log.error("request %s: the database cannot answer: %s", request_id, getattr(error, "orig", None) or error)
    problem = Problem(
        503,
        "unavailable",
        "The database cannot be reached now: try again in a moment.",
        headers={"Retry-After": DATABASE_RETRY_SECONDS},
    )
    return answer(request, problem)


async def _unexpected(request: Request, error: Exception) -> Response:
    request_id = getattr(request.state, "request_id", "")
    log.error("request %s failed", request_id, exc_info=error)
    return answer(request, Problem(500, "internal_error", "Something went wrong here. It was logged."))
