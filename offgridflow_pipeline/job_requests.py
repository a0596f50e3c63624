"""What may be asked of the pipeline, and in which form: the payloads of the `jobs` table.

Checked where a request is made, so that a person reads at once what is wrong, and again before it becomes a run:
months may have been closed meanwhile, and one impossible partition would stop the requests of every tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from offgridflow_pipeline.months import first_day, next_month

JobType = Literal["connector_sync", "connector_test", "emissions_calculation", "report_generation"]

_Month = Annotated[
    str, Field(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])$", description="Calendar month.", examples=["2026-10"])
]


class JobRequestError(ValueError):
    """The request cannot be carried out; `code` is stable, the message names the cure."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Payload(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def document(self) -> dict[str, Any]:
        """JSON-ready, as the `jobs` table keeps it."""
        return self.model_dump(mode="json", exclude_none=True)


class ReportGeneration(_Payload):
    """Inventory, facts and report of one month that has ended."""

    month: _Month

    def require_possible(self, *, today: date, history_start: date, closed_months: Collection[str]) -> None:
        """Pass only for a month that Dagster has a partition of. Closed months may be reported again.

        Raises:
            JobRequestError: the month lies before the start of history, or has not ended.
        """
        first = first_day(self.month)
        if first < history_start.replace(day=1):
            raise JobRequestError("before_history", f"{self.month} lies before {history_start:%Y-%m}, the first month.")
        if next_month(first) > today:
            raise JobRequestError("month_not_ended", f"{self.month} has not ended: a report needs the whole month.")


class DayRangePayload(_Payload):
    """Days of one month, both ends included."""

    first: date = Field(description="First day.", examples=["2026-10-01"])
    last: date = Field(description="Last day; in the month of the first.", examples=["2026-10-31"])

    @model_validator(mode="after")
    def _one_month(self) -> DayRangePayload:
        if self.last < self.first:
            raise ValueError("last is before first: swap them")
        if (self.first.year, self.first.month) != (self.last.year, self.last.month):
            raise ValueError("the days lie in several months: ask once for each month, at most 31 days")
        return self

    def require_possible(self, *, today: date, history_start: date, closed_months: Collection[str]) -> None:
        """Pass only for days that have begun, and whose month is open.

        Raises:
            JobRequestError: the days lie before the start of history or in the future, or their month is closed.
        """
        if self.first < history_start:
            raise JobRequestError("before_history", f"{self.first} lies before {history_start}, the first day.")
        if self.last > today:
            raise JobRequestError("in_the_future", f"{self.last} lies in the future: end the days at {today}.")
        if (month := f"{self.first:%Y-%m}") in closed_months:
            raise JobRequestError(
                "month_closed",
                f"{month} is closed: its days change through an approved restatement only. Nothing was read.",
            )


class ConnectorSync(DayRangePayload):
    """Bills of the days, read again from their sources, and everything that follows from them."""

    connection_id: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Read this connection alone; left out: every connection.",
        examples=["aws-payer"],
    )


class ConnectorTest(_Payload):
    """The smallest calls of everything that a connection needs, to see which right is missing."""

    connection_id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="The connection.", examples=["aws-payer"]
    )

    def require_possible(self, *, today: date, history_start: date, closed_months: Collection[str]) -> None:
        """Pass: a test reads no day."""


class EmissionsCalculation(DayRangePayload):
    """Lines, emissions and totals of the days, computed again from the bills that were read already."""


Payload: TypeAlias = ReportGeneration | ConnectorSync | ConnectorTest | EmissionsCalculation

PAYLOADS: Mapping[str, type[Payload]] = {
    "report_generation": ReportGeneration,
    "connector_sync": ConnectorSync,
    "connector_test": ConnectorTest,
    "emissions_calculation": EmissionsCalculation,
}


def parsed(job_type: str, document: Mapping[str, Any]) -> Payload:
    """The payload of a stored job.

    Raises:
        JobRequestError: the type is unknown, or the payload has not its form.
    """
    model = PAYLOADS.get(job_type)
    if model is None:
        raise JobRequestError("unknown_type", f"There is no kind of run {job_type!r}.")
    try:
        found: Payload = TypeAdapter(model).validate_python(dict(document))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "payload"
        raise JobRequestError("invalid_payload", f"{place}: {first['msg']}.") from None
    return found
