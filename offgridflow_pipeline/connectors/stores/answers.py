"""What a store's refusal means: the right that is missing and the cure. The rows are data/store_answers.csv.

A row is found by provider, operation (``list``, ``get``, ``assume``, a stated permission, ``*`` for any) and code
(the provider's own, an HTTP status, or an exception's name). Texts name the place, never a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.data_rows import data_rows

_KINDS = {"denied": AccessDeniedError, "expired": ExpiredCredentialsError, "refused": DeliveryError}
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Place:
    """What was asked for, and as whom: the names that messages are made of."""

    uri: str
    container: str
    identity: str
    key: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A store's refusal, most telling code first; `permission` and `resource` where its text states them."""

    operation: str
    codes: tuple[str, ...]
    text: str
    permission: str = ""
    resource: str = ""


def refusal(provider: str, answer: Answer, place: Place) -> DeliveryError:
    """The error to raise for the answer."""
    row = _row(provider, answer)
    said = " ".join(answer.text.split())[:_LONGEST_TEXT]
    code = next((code for code in answer.codes if code), "no code")
    if row is None:
        return DeliveryError(f"{place.uri} cannot be read: the store answers {code} ({said}).")
    if row["error"] == "changed":
        return DeliveryError(f"{place.uri} changed while it was read: run again.")
    if row["error"] == "unavailable":
        return ProviderUnavailableError(f"{place.uri} cannot be read now: the store answers {code}. Run again later.")
    names = {
        "container": place.container,
        "key": place.key or place.container,
        "account": place.account,
        "identity": place.identity,
        "permission": answer.permission,
        "resource": answer.resource or "a resource that it does not name",
        "said": said,
    }
    problem, cure = (row[part].format_map(names) for part in ("problem", "cure"))
    return _KINDS[row["error"]](f"{place.uri} cannot be read: {problem} ({code}). {cure}.")


def unreachable(uri: str, error: Exception) -> ProviderUnavailableError:
    """The error for a store that gave no answer; the library's own text may hold addresses, only its kind is told."""
    return ProviderUnavailableError(
        f"{uri} cannot be reached ({type(error).__name__}): check its name and our network, then run again."
    )


def _row(provider: str, answer: Answer) -> dict[str, str] | None:
    rows = _rows()
    operations = (answer.permission, "stated", answer.operation, "*") if answer.permission else (answer.operation, "*")
    keys = ((provider, operation, code) for code in answer.codes for operation in operations)
    return next((rows[key] for key in keys if key in rows), None)


@cache
def _rows() -> dict[tuple[str, str, str], dict[str, str]]:
    return {(r["provider"], r["operation"], r["code"]): r for r in data_rows(__file__, "store_answers.csv")}
