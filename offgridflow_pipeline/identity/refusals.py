"""Refusals: why somebody's request about people is not done. Codes are stable, texts say the cure.

One class, because callers do one thing with all of them: show the text. Which HTTP status a code has is decided in
`sidecar.refusals`.
"""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "already_enrolled",
    "already_member",
    "busy",
    "expiry_required",
    "invalid_address",
    "invalid_code",
    "invalid_credentials",
    "invalid_expiry",
    "invalid_locale",
    "invalid_name",
    "invalid_template",
    "invalid_token",
    "last_owner",
    "not_enrolled",
    "not_found",
    "password_required",
    "plan_limit",
    "role_not_grantable",
    "second_factor_required",
    "step_up_required",
    "too_many_attempts",
    "weak_password",
    "wrong_account",
]


class RefusedError(Exception):
    """The request is refused; nothing was changed, but the attempt may be counted.

    `field` names the input that is wrong; `retry_after_seconds` says when to try again.
    """

    def __init__(
        self, code: Code, message: str, *, field: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds


def not_found() -> RefusedError:
    """The same for what does not exist and for what is another's."""
    return RefusedError("not_found", "There is nothing here, or it is not yours to see.")


def invalid_credentials() -> RefusedError:
    """The same for an unknown address and a wrong password."""
    return RefusedError("invalid_credentials", "The address and the password do not fit. Check both, or reset it.")


def invalid_token() -> RefusedError:
    """The same for a link that was used, expired, voided, or never sent."""
    return RefusedError("invalid_token", "This link was used or has expired: ask for a new one.")
