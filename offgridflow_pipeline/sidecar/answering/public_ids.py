"""Ids as people and machines see them: a prefix that says of what, and a UUID. Tables hold the UUID."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path

from offgridflow_pipeline.sidecar.entrance.problems import not_found

Prefix = Literal["job", "rep", "upl"]
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def _parameter(prefix: Prefix, thing: str) -> Any:
    """A path parameter whose form is told, not checked: another text is answered as an id that nobody has."""
    return Path(
        description=f"Id of the {thing}.",
        examples=[f"{prefix}_0f8fad5b-d9cb-469f-a165-70867728950e"],
        json_schema_extra={"pattern": f"^{prefix}_{_UUID}$"},
    )


JobId = Annotated[str, _parameter("job", "run")]
ReportId = Annotated[str, _parameter("rep", "report")]
UploadId = Annotated[str, _parameter("upl", "upload")]


def public_id(prefix: Prefix, identity: UUID) -> str:
    """The id for the outside, such as ``rep_0f8fad5b-d9cb-469f-a165-70867728950e``."""
    return f"{prefix}_{identity}"


def uuid_of(prefix: Prefix, text: str) -> UUID:
    """The UUID of an id from outside.

    Raises:
        Problem: 404 for every other text, the same as for an id that nobody has.
    """
    try:
        found = UUID(text.partition("_")[2])
    except ValueError:
        raise not_found() from None
    if text != public_id(prefix, found):  # one id has one spelling
        raise not_found()
    return found
