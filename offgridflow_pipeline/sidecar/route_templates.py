"""Templates of paths, `/v1/reports/{report_id}`: what metrics and traces may say of a request's path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import iter_route_contexts

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Scope


class RouteTemplates:
    """Finds the template of a request; a route is looked for once."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._known: dict[int, str | None] = {}  # by identity of the route: the app keeps its routes

    def of(self, scope: Scope) -> str | None:
        """The template; None where nothing is. Also for requests that were refused before a route was chosen."""
        route = scope.get("route")
        if route is None:
            return self._matching(scope["path"], scope["method"])
        key = id(route)
        if key not in self._known:
            self._known[key] = self._matching(scope["path"], scope["method"])
        return self._known[key]

    def _matching(self, path: str, method: str) -> str | None:
        """The first template of that method, else the last one of another: as the routers choose."""
        other = None
        for context in iter_route_contexts(self._app.routes):
            if context.path is None or not context.path_regex.match(path):
                continue
            if not context.methods or method in context.methods:
                return context.path
            other = context.path
        return other
