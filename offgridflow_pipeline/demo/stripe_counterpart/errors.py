"""What Stripe answers when it refuses: an error of its own shape with an HTTP status."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal; `document` is the answer's body, `status` its HTTP status."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str = "", param: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param

    @property
    def document(self) -> dict[str, Any]:
        """As the API writes it."""
        parts = {"code": self.code, "message": self.message, "param": self.param, "type": self.kind}
        return {"error": {name: value for name, value in parts.items() if value}}


def missing(kind: str, object_id: str) -> ApiError:
    """There is no such object (404)."""
    return ApiError(404, f"No such {kind}: '{object_id}'", code="resource_missing", param="id")


def required(param: str) -> ApiError:
    """A parameter is not there (400)."""
    return ApiError(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def declined(message: str = "Your card was declined.", code: str = "card_declined") -> ApiError:
    """The card issuer refused (402)."""
    return ApiError(402, message, kind="card_error", code=code)
