"""Errors of the feeds. Each names the object, and where it can the row, the column, the value and the cure."""

from __future__ import annotations


class ConnectionConfigError(ValueError):
    """A connection cannot be used as it is configured; names the connection, the field and the cure."""


class SecretError(ValueError):
    """A connection's secret cannot be used; names the reference and the cure, never the secret."""


class SecretRefusedError(SecretError):
    """The reference is one that this tenant's connections may not use, or is malformed."""


class SecretMissingError(SecretError):
    """There is no secret where the reference points, or its keeper does not answer or does not let us read it."""


class SealError(SecretError):
    """A sealed secret cannot be opened, or nothing can be sealed: a key is missing, or a row was changed."""


class DeliveryError(ValueError):
    """A delivery is incomplete or inconsistent (manifest, parts, period); nothing of it was read."""


class AccessDeniedError(DeliveryError):
    """The source refuses us; names the right that is missing and where to grant it."""


class ExpiredCredentialsError(DeliveryError):
    """The credentials of the connection are expired, revoked or malformed; names the connection's cure."""


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
