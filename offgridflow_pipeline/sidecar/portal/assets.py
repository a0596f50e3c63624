"""Files that pages refer to: stylesheet, fonts and icon, under a URL that changes with their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Response

from offgridflow_pipeline.sidecar.entrance.authorization import public
from offgridflow_pipeline.sidecar.entrance.problems import not_found
from offgridflow_pipeline.sidecar.services import Services

MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".woff2": "font/woff2", ".svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: what it is, and its bytes."""

    media_type: str
    content: bytes


@cache
def assets() -> dict[str, Asset]:
    """All files by name."""
    found = {}
    for entry in resources.files(__package__).joinpath("static").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in MEDIA_TYPES:
            found[entry.name] = Asset(MEDIA_TYPES[suffix], entry.read_bytes())
    return found


@cache
def release() -> str:
    """Hash of all files together: the stylesheet names the fonts beside it, so they share one address."""
    digest = hashlib.sha256()
    for name, asset in sorted(assets().items()):
        digest.update(name.encode() + b"\0" + asset.content)
    return digest.hexdigest()[:16]


def asset_url(name: str) -> str:
    """Address of a file; raises KeyError for a file that is not there."""
    assets()[name]
    return f"/static/{release()}/{name}"


@router.get("/static/{version}/{name}")
def static(version: str, name: str, services: Annotated[Services, public()]) -> Response:
    """A file; of a version that is not this one, nothing: a cache must not keep it under the wrong name."""
    asset = assets().get(name)
    if asset is None or version != release():
        raise not_found()
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": FOREVER})
