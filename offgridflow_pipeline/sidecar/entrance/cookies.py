"""The session cookie: set at sign-in and whenever its token rotates, cleared at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.sessions import LIFETIME

if TYPE_CHECKING:
    from starlette.responses import Response

    from offgridflow_pipeline.sidecar.services import Services

CLEAR_SITE_DATA = '"cache", "cookies", "storage"'


def set_session(response: Response, services: Services, token: str) -> None:
    """Give the browser the token: out of reach of scripts, never sent along from another site's forms."""
    response.set_cookie(
        services.session_cookie,
        token,
        max_age=int(LIFETIME.total_seconds()),
        path="/",
        secure=services.secure_cookies,
        httponly=True,
        samesite="lax",
    )


def clear_session(response: Response, services: Services) -> None:
    """Take the token away, and whatever else the browser keeps of us."""
    response.delete_cookie(
        services.session_cookie, path="/", secure=services.secure_cookies, httponly=True, samesite="lax"
    )
    response.headers["Clear-Site-Data"] = CLEAR_SITE_DATA
