"""Text that can be kept: PostgreSQL takes no NUL, and no encoding takes half of a surrogate pair.

Asked at the door of every route, after the credential: no handler, statement or mail meets such text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem, pointer

if TYPE_CHECKING:
    from fastapi import Request

_UNKEEPABLE = re.compile("[\0\ud800-\udfff]")


def require_keepable(request: Request) -> None:
    """Pass when every text of path, query and body can be kept.

    Raises:
        Problem: 422 with the place of the first that cannot.
    """
    for place, text in _texts(request):
        if _UNKEEPABLE.search(text):
            message = "The text holds a NUL character, or half of a surrogate pair: leave it out."
            raise Problem(
                422,
                "invalid_text",
                "The request holds text that cannot be kept.",
                errors=[FieldProblem(pointer=pointer(*place), message=message, code="invalid_text")],
            )


def _texts(request: Request) -> Iterator[tuple[tuple[object, ...], str]]:
    for name, value in request.path_params.items():
        yield ("path", name), str(value)
    for name, value in request.query_params.multi_items():
        yield ("query", name), name + value
    # What FastAPI has read of the body by now; a route that takes none has read none.
    yield from _texts_of_json(getattr(request, "_json", None))
    if form := getattr(request, "_form", None):
        for name, value in form.multi_items():
            yield ("body", name), name + (value if isinstance(value, str) else "")


def _texts_of_json(value: Any) -> Iterator[tuple[tuple[object, ...], str]]:
    """Every text and every name in the value; without recursion, for it may be nested deeply."""
    left: list[tuple[tuple[object, ...], Any]] = [(("body",), value)]
    while left:
        place, found = left.pop()
        match found:
            case str():
                yield place, found
            case dict():
                yield place, "".join(found)
                left.extend(((*place, name), part) for name, part in found.items())
            case list():
                left.extend(((*place, number), part) for number, part in enumerate(found))
