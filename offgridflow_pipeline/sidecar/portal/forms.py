"""What forms bring, and what is answered to a refusal: its text in the reader's language, beside the field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated

from fastapi import Form

from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance.refusals import STATUS
from offgridflow_pipeline.sidecar.portal.rendering import language_for
from offgridflow_pipeline.sidecar.portal.texts import Texts, catalogue

if TYPE_CHECKING:
    from fastapi import Request

    from offgridflow_pipeline.sidecar.entrance.caller import Caller

#: A text field of a form; one that is missing is empty.
Field = Annotated[str, Form()]
Fields = Annotated[list[str], Form()]


class InvalidDayError(ValueError):
    """A field holds no day of the calendar."""


def refusal_text(request: Request, code: str, caller: Caller | None = None) -> str:
    """The text of a refusal; a general one for codes without."""
    texts = Texts(language_for(request, caller))
    known = catalogue(texts.language).get(f"refusal.{code}") is not None
    return texts(f"refusal.{code}" if known else "refusal.other")


def status_of(refusal: RefusedError) -> int:
    """The HTTP status of a page that shows the refusal."""
    return STATUS[refusal.code]


def wrong_fields(request: Request, refusal: RefusedError, caller: Caller | None = None) -> Mapping[str, str]:
    """The refusal's text by the field that it concerns."""
    return {refusal.field: refusal_text(request, refusal.code, caller)} if refusal.field else {}


def end_of_day(text: str) -> datetime | None:
    """The end of the day that a date field holds, UTC; None when it is empty.

    Raises:
        InvalidDayError: it holds no day.
    """
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC)
    except ValueError:
        raise InvalidDayError(text) from None
