"""JSON answers from declared models: serialised once by Pydantic's core, not validated again.

A handler returns what these make, and names the same model as `response_model` for the description. The values come
from our own statements; their form is held by tests against the schema. `read` is for what one tenant may read,
`written` for the answer to a change: it is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Generic, TypeVar

from fastapi import Response
from pydantic import BaseModel, Field, TypeAdapter

from offgridflow_pipeline.sidecar.answering.caching import PRIVATE

MEDIA_TYPE = "application/json"
Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(None, description="Send it as `cursor` for the next page; null on the last.")


def read(model: Any, value: Any, tag: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """200 with the value as JSON of the model, for the caller's own cache."""
    fields = {"cache-control": PRIVATE, **(headers or {})}
    if tag is not None:
        fields["etag"] = tag
    return Response(_serializer(model).dump_json(value), media_type=MEDIA_TYPE, headers=fields)


def written(model: Any, value: Any, *, status: int = 201, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a change, as JSON of the model; no cache keeps it."""
    return Response(
        _serializer(model).dump_json(value), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


@cache
def _serializer(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)
