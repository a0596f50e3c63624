"""Where the lake lies: a local folder or an object store, and the Arrow file system that reaches it.

deltalake keeps its own connection; this one serves data files and raw objects. Storage options carry the
names deltalake gives them (``AWS_ENDPOINT_URL``, ``AWS_REGION`` and so on).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class LakeLocationError(ValueError):
    """The lake cannot lie there; the message names the place and the cure."""


def normal_root(root: str) -> str:
    """The root as an absolute local path or an object-store URI, without a slash at the end.

    Raises:
        LakeLocationError: a local path holds ``%``, which deltalake would decode into another folder.
    """
    if root.startswith("file://"):
        root = unquote(root.removeprefix("file://"))
    if not is_local(root):
        return root.rstrip("/")
    path = str(Path(root).expanduser().resolve())
    if "%" in path:
        raise LakeLocationError(f"The lake folder {path!r} has a percent sign in its path: choose another folder.")
    return path


def is_local(place: str) -> bool:
    """Whether the path or URI lies on this machine."""
    return "://" not in place


def filesystem(place: str, options: Mapping[str, str]) -> tuple[Any, str]:
    """The Arrow file system of a path or URI, and the path inside it."""
    from pyarrow import fs

    if is_local(place):
        return fs.LocalFileSystem(), place
    if place.startswith("s3://"):
        return _s3(options), place.removeprefix("s3://")
    found: tuple[Any, str] = fs.FileSystem.from_uri(place)
    return found


def _s3(options: Mapping[str, str]) -> Any:
    from pyarrow import fs

    option = {key.upper(): value for key, value in options.items()}
    endpoint = option.get("AWS_ENDPOINT_URL", "")
    return fs.S3FileSystem(
        access_key=option.get("AWS_ACCESS_KEY_ID"),
        secret_key=option.get("AWS_SECRET_ACCESS_KEY"),
        session_token=option.get("AWS_SESSION_TOKEN"),
        region=option.get("AWS_REGION"),
        endpoint_override=endpoint.split("://")[-1] or None,
        scheme="http" if endpoint.startswith("http://") else "https",
    )
