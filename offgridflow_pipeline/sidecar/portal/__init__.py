"""The portal: pages for people, rendered on the server, without any script.

`pages` has a module per area, each with its `router`; they call the same functions as the API's routes. Words stand in
`texts/`, markup in `templates/`, looks in `static/portal.css`; charts are drawn by the definitions of the report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from offgridflow_pipeline.sidecar.portal import assets
from offgridflow_pipeline.sidecar.portal.problem_pages import problem_page, serves

if TYPE_CHECKING:
    from fastapi import FastAPI

PAGES = (
    "sign_in",
    "accounts",
    "overview",
    "reports",
    "connections",
    "uploads",
    "members",
    "keys",
    "audit",
    "billing",
    "settings",
    "second_factor",
    "recovery_codes",
)


def include(app: FastAPI) -> None:
    """Add every page and the files they refer to."""
    app.include_router(assets.router)
    for area in PAGES:
        app.include_router(import_module(f"{__name__}.pages.{area}").router)


__all__ = ["PAGES", "include", "problem_page", "serves"]
