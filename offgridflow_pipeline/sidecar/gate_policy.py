"""What may pass the gate to the Dagster UI: pure rules over the original request that a forward-auth proxy describes.

Dagster's webserver has no login: GraphQL mutations run over a plain GET from any site, and its report endpoints forge
records (Dagster reference, section 11; service reference, section 11). Whatever is not clear is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = SAFE_METHODS | {"POST"}
GRAPHQL = "graphql"
#: Endpoints that write events without a run: no person needs them, and no mode allows them.
FORGING = ("report_asset_materialization", "report_asset_check", "report_asset_observation")
_DECODINGS = 4


class Mode(StrEnum):
    """Which of the two webservers the proxy has behind it."""

    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


ROLES: Mapping[Mode, frozenset[str]] = {
    Mode.READ_ONLY: frozenset({"platform_operator", "platform_engineer"}),
    Mode.READ_WRITE: frozenset({"platform_engineer"}),
}


@dataclass(frozen=True, slots=True)
class Original:
    """The request that the proxy asks about; `websocket` when it wants to upgrade."""

    method: str
    path: str
    query: str
    websocket: bool
    origin: str | None
    fetch_site: str | None


class UnclearError(ValueError):
    """The proxy does not say, or says twice differently, what is asked."""


def original(headers: Iterable[tuple[str, str]]) -> Original:
    """The original request, from the headers of nginx (X-Original-*) or of Caddy and Traefik (X-Forwarded-*).

    Raises:
        UnclearError: method or URI is missing, or something is stated twice: once by a client.
    """
    stated: defaultdict[str, set[str]] = defaultdict(set)
    for name, value in headers:
        stated[name.lower()].add(value)
    uri = _required("URI", stated["x-original-uri"] | stated["x-forwarded-uri"])
    path, _, query = uri.partition("?")
    if not path.startswith("/"):
        raise UnclearError("the original URI is no path")
    upgrades = {value.lower() for value in stated["x-original-upgrade"] | stated["upgrade"]}
    return Original(
        _required("method", stated["x-original-method"] | stated["x-forwarded-method"]).upper(),
        path,
        query,
        "websocket" in upgrades,
        _optional("origin", stated["origin"]),
        _optional("Sec-Fetch-Site", stated["sec-fetch-site"]),
    )


def mode_of(*stated: str) -> Mode:
    """The mode that the proxy set, in a header or in the query.

    Raises:
        UnclearError: it is missing or unknown, or the two disagree.
    """
    try:
        return Mode(_required("mode", {text for text in stated if text}))
    except ValueError:
        raise UnclearError("the gate's mode is missing or unknown") from None


def _required(what: str, values: set[str]) -> str:
    if len(values) != 1:
        raise UnclearError(f"the {what} is {'stated twice' if values else 'missing'}")
    return next(iter(values))


def _optional(what: str, values: set[str]) -> str | None:
    return _required(what, values) if values else None


def refusal(request: Original, origins: Sequence[str]) -> str | None:
    """Why the request must not reach Dagster, whoever asks; None when it may.

    `origins` are those of the UI itself; a page of another site may not post, and may not open a WebSocket.
    """
    path = _decoded(request.path)
    if path is None or _is_ambiguous(path):
        return "unclear_path"
    if any(name in path for name in FORGING):
        return "forges_records"
    if request.method not in METHODS:
        return "method"
    is_graphql = path.rstrip("/").rpartition("/")[2] == GRAPHQL
    if is_graphql and request.method != "POST" and (request.query or not request.websocket):
        return "graphql_by_get"
    if (request.method == "POST" or request.websocket) and not _same_origin(request, origins):
        return "cross_origin"
    return None


def _is_ambiguous(path: str) -> bool:
    """Whether servers differ in what they read: one drops dot segments, another keeps them."""
    return (
        "//" in path
        or "\\" in path
        or any(ord(character) < ord(" ") for character in path)
        or any(segment in {".", ".."} for segment in path.split("/"))
    )


def _same_origin(request: Original, origins: Sequence[str]) -> bool:
    """Browsers state the origin of every POST and WebSocket; what they state about the site must fit it."""
    if request.fetch_site not in {None, "same-origin"}:
        return False
    return request.origin is not None and request.origin in origins


def _decoded(path: str) -> str | None:
    """The path as any server behind might read it, in lower case; None when it is encoded over and over."""
    for _ in range(_DECODINGS):
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return path.lower()
        path = decoded
    return None
