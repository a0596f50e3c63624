"""Routes of the API, one module per area, each with a `router`. Handlers are thin: read or request, and answer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/v1"
#: Modules whose paths begin with /v1. Routes are tried in this order: what is asked most stands first.
AREAS = (
    "emissions",
    "evidence",
    "auth",
    "me",
    "tenant",
    "members",
    "keys",
    "connectors",
    "reports",
    "runs",
    "uploads",
    "audit",
    "billing",
    "webhooks",
)
#: Modules for machines that watch or guard, outside of /v1.
MACHINES = ("health", "gate", "jwks")


def include(app: FastAPI) -> None:
    """Add every area to the app."""
    for area in AREAS:
        app.include_router(import_module(f"{__name__}.{area}").router, prefix=PREFIX)
    for name in MACHINES:
        app.include_router(import_module(f"{__name__}.{name}").router)
