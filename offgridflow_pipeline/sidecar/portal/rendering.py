"""Pages from templates: Jinja2 with autoescape and strict names, the reader's language, and what every page shows.

Templates hold no words and no figures of their own: words come from `texts`, values from the page's handler.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from offgridflow_pipeline.sidecar.portal.assets import asset_url
from offgridflow_pipeline.sidecar.portal.navigation import navigation, section_of
from offgridflow_pipeline.sidecar.portal.standing import LIMIT, banner, limit_met
from offgridflow_pipeline.sidecar.portal.texts import LOCALES, Texts, catalogue, formats, language_of
from offgridflow_pipeline.sidecar.services import services_of

if TYPE_CHECKING:
    from fastapi import Request, Response

    from offgridflow_pipeline.sidecar.entrance.caller import Caller

LANGUAGE_COOKIE = "ogf_language"


@cache
def environment() -> Environment:
    """The templates, compiled once."""
    found = Environment(
        loader=PackageLoader("offgridflow_pipeline.sidecar.portal"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["asset"] = asset_url
    return found


def page(
    request: Request, template: str, caller: Caller | None = None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """The page: its template with the values, in the language of the caller or of the browser.

    `caller` brings navigation and name; its transaction has ended. Values `done` and `error` in the query are
    codes of messages, shown once at the top.
    """
    language = language_for(request, caller)
    texts = Texts(language)
    content = (
        environment()
        .get_template(template)
        .render(
            **formats(language),
            language=language,
            languages=tuple(LOCALES),
            me=caller,
            navigation=navigation(caller) if caller else (),
            section=section_of(request.url.path),
            path=request.url.path,
            may=frozenset(map(str, caller.permissions)) if caller else frozenset(),
            banner=banner(texts, caller),
            done=_code(request, "done", texts),
            trouble=_trouble(request, texts, caller),
            trouble_is_limit=request.query_params.get("error", "").startswith(LIMIT),
            **values,
        )
    )
    response = HTMLResponse(content, status_code=status)
    response.headers["Content-Language"] = language
    if caller is None and request.query_params.get("language") in LOCALES:
        response.set_cookie(
            LANGUAGE_COOKIE,
            language,
            httponly=True,
            samesite="lax",
            secure=services_of(request).secure_cookies,
            max_age=31_536_000,
        )
    return response


def language_for(request: Request, caller: Caller | None = None) -> str:
    """The language of the answer: the person's own, else the one chosen on the page, else the browser's.

    Of a person who was refused the frame knows the language, though not the caller.
    """
    chosen = [caller.locale if caller else None, request.query_params.get("language")]
    chosen += [getattr(request.state, "locale", None), request.cookies.get(LANGUAGE_COOKIE)]
    known = next((language for language in chosen if language in LOCALES), None)
    return known or language_of(request.headers.get("accept-language", ""))


def see_other(path: str) -> Response:
    """Go and look there: the answer to every form that changed something, so that a reload repeats nothing."""
    return RedirectResponse(path, status_code=303)


def local_path(wanted: str | None, otherwise: str = "/") -> str:
    """The path where it leads within this site; never to another host, scheme or line of the header."""
    if not wanted or len(wanted) > 500 or not wanted.startswith("/") or not wanted.isprintable():
        return otherwise
    return otherwise if wanted.startswith(("//", "/\\")) or "\\" in wanted else wanted


def _trouble(request: Request, texts: Texts, caller: Caller | None) -> str | None:
    code = request.query_params.get("error", "")
    if code.startswith(LIMIT):
        return limit_met(texts, caller, code.removeprefix(LIMIT))
    return _code(request, "error", texts)


def _code(request: Request, name: str, texts: Texts) -> str | None:
    """The message of a code in the query; unknown codes say nothing, so that no link can put words here."""
    message = catalogue(texts.language).get(f"{name}.{request.query_params.get(name, '')}")
    return str(message.string) if message is not None else None
