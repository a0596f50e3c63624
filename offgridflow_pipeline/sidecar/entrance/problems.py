"""Problems: every answer that is no success is an RFC 9457 document, in the portal a page.

`Problem` is raised anywhere below a route. What a client may know stands in `detail` and `errors`; the text of an
unexpected exception goes to the log alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
#: Characters of a request that an answer repeats at most.
MAXIMUM_ECHO_LENGTH = 300
#: Names of RFC 9110 where Python's differ between its versions.
_TITLES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


class FieldProblem(BaseModel):
    """One field that is wrong: JSON pointer, message with the cure, and a code for machines."""

    pointer: str
    message: str
    code: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem document; `code` is stable, texts are not."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = Field("", description="Path of the request.")
    code: str
    trace_id: str = Field("", description="Quote it when you ask for help.")
    errors: list[FieldProblem] = []


class Problem(Exception):  # noqa: N818  the name of RFC 9457
    """An answer that is no success."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def document(self, *, instance: str, trace_id: str) -> ProblemDocument:
        """The document for the client."""
        return ProblemDocument(
            title=title_of(self.status),
            status=self.status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            trace_id=trace_id,
            errors=self.errors,
        )


def not_found() -> Problem:
    """The same answer for what does not exist and for what belongs to another tenant."""
    return Problem(404, "not_found", "There is nothing here, or it is not yours to see.")


def unauthenticated(detail: str = "Sign in, or send a valid API key.") -> Problem:
    """No credential, or one that is unknown, expired or revoked."""
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="offgridflow"'})


def forbidden(permission: str) -> Problem:
    """A valid credential without the permission."""
    return Problem(403, "forbidden", f"This needs the permission {permission}.")


def pointer(*parts: object) -> str:
    """The JSON pointer (RFC 6901) of a place in the request, of bounded length: names may come from the client."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return sayable("/" + "/".join(escaped))


def sayable(text: str) -> str:
    """What a client sent, as it may stand in an answer: of bounded length, and without halves of surrogate pairs."""
    return text[:MAXIMUM_ECHO_LENGTH].encode("utf-8", "replace").decode()


def title_of(status: int) -> str:
    """Name of the status."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the statuses that a handler answers with; `contract` says what they look like."""
    return {status: {"description": title_of(status)} for status in statuses}
