"""Errors of the feeds. Each names the object, and where it can the row, the column, the value and the cure."""

from __future__ import annotations


class ConnectionConfigError(ValueError):
    """The connections file cannot be used; names the tenant, the entry and the cure."""


class DeliveryError(ValueError):
    """A delivery is incomplete or inconsistent (manifest, parts, period); nothing of it was read."""


class BillingObjectError(ValueError):
    """A billing object is refused as a whole; its rows are not used, older data stays.

    `row` counts data rows from 1 (0 is the header); `row` and `column` are None where none can be named.
    """

    def __init__(
        self, source: str, problem: str, cure: str, *, row: int | None = None, column: str | None = None
    ) -> None:
        self.source = source
        self.row = row
        self.column = column
        place = source
        if row is not None:
            place += f", row {row}"
        if column:
            place += f", column {column}"
        super().__init__(f"{place}: {problem}. {cure}.")
