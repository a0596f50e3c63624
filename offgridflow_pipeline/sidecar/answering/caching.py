"""Strong ETags of reads, and the answer 304, decided before anything heavy is read.

A tag is ``"<data version>-<hash>"``: the tenant's last publication, and a hash of tenant, path, query and release.
So it changes with every publication, and the tag of another tenant never matches. A read route::

    with auth.transaction() as caller:
        tag = caching.tag(auth.request, caller)
        if caching.matches(auth.request, tag):
            return caching.not_modified(tag)
        rows = ...
    return answers.read(Rows, rows, tag)

Only for answers that depend on nothing but publications; for others pass the `version` that they depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from offgridflow_pipeline import __version__

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

#: Caches of the client may keep the answer and must ask whether it still holds; shared caches keep nothing.
PRIVATE = "private, no-cache"
#: For the `responses` of routes that answer 304.
NOT_MODIFIED: Mapping[int | str, dict[str, Any]] = {304: {"description": "What you hold is still the answer."}}
_RELEASE = __version__.encode()


def data_version(caller: Caller) -> int:
    """The tenant's last publication; read where the credential did not bring it (sessions, exchange tokens)."""
    if caller.data_version is not None:
        return caller.data_version
    return caller.database.publications.current(caller.tenant)


def tag(request: Request, caller: Caller, version: int | str | None = None) -> str:
    """The strong ETag of the request's answer; `version` stands for the tenant's data version."""
    if version is None:
        version = data_version(caller)
    digest = blake2b(digest_size=12, person=b"ofg etag")
    for part in (
        caller.tenant_id.bytes if caller.tenant_id else b"",
        request.scope["path"].encode(),
        request.scope["query_string"],
        _RELEASE,
    ):
        digest.update(len(part).to_bytes(4, "big") + part)
    return f'"{version}-{digest.hexdigest()}"'


def matches(request: Request, tag: str) -> bool:
    """Whether the client holds that answer already (`If-None-Match`, RFC 9110 13.1.2, weak comparison)."""
    held = request.headers.get("if-none-match")
    if held is None:
        return False
    return any(one.strip().removeprefix("W/") == tag for one in held.split(","))


def not_modified(tag: str) -> Response:
    """304: what the client holds is still the answer."""
    return Response(status_code=304, headers={"etag": tag, "cache-control": PRIVATE})
