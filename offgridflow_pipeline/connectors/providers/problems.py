"""What an error of a provider's library means: try again, access denied, credentials expired, or anything else.

Which code, HTTP status or exception class means what is data (data/provider_errors.csv); here the three libraries'
errors are only taken apart. How often and how long something is tried again is `calls`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

from offgridflow_pipeline.data_rows import data_rows

Provider = Literal["aws", "azure", "gcp"]
Verdict = Literal["retry", "denied", "expired", "other"]

#: Azure names its throttling periods in headers of its own (test-counterparts.md 5), the longest counts.
_AZURE_THROTTLING = re.compile(r"x-ms-ratelimit-microsoft\.costmanagement-[a-z]+-retry-after", re.IGNORECASE)
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """One failed call: what it means, the provider's code and text, and how many seconds it asks us to wait."""

    verdict: Verdict
    code: str
    text: str
    retry_after_seconds: float = 0.0


def understand(provider: Provider, error: Exception) -> Problem:
    """The meaning of an error that a call of the provider's library raised."""
    code, status, headers, text = {"aws": _aws, "azure": _azure, "gcp": _gcp}[provider](error)
    named = code or (str(status) if status else type(error).__name__)
    return Problem(_verdict(provider, error, code, status), named, _short(text), _retry_after(headers))


def _verdict(provider: Provider, error: Exception, code: str, status: int) -> Verdict:
    rules = _rules()
    for key in ((provider, "code", code), ("", "status", str(status))):
        if key in rules:
            return rules[key]
    if not status:
        for kind in type(error).__mro__:
            if found := rules.get((provider, "exception", kind.__name__)):
                return found
    return "other"


@cache
def _rules() -> dict[tuple[str, str, str], Verdict]:
    rows = data_rows(__file__, "provider_errors.csv")
    return {(row["provider"], row["kind"], row["match"]): cast("Verdict", row["verdict"]) for row in rows}


def _aws(error: Exception) -> tuple[str, int, Mapping[str, str], str]:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    metadata = response.get("ResponseMetadata", {})
    detail = response.get("Error", {})
    text = str(detail.get("Message") or error)
    return str(detail.get("Code", "")), int(metadata.get("HTTPStatusCode", 0)), metadata.get("HTTPHeaders", {}), text


def _azure(error: Exception) -> tuple[str, int, Mapping[str, str], str]:
    response = getattr(error, "response", None)
    detail = getattr(error, "error", None)
    headers = getattr(response, "headers", None) or {}
    text = str(getattr(detail, "message", None) or getattr(error, "message", None) or error)
    return str(getattr(detail, "code", None) or ""), int(getattr(error, "status_code", None) or 0), headers, text


def _gcp(error: Exception) -> tuple[str, int, Mapping[str, str], str]:
    reasons = [str(e.get("reason", "")) for e in getattr(error, "errors", None) or () if isinstance(e, Mapping)]
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    text = str(getattr(error, "message", None) or error)
    return (reasons[0] if reasons else ""), int(getattr(error, "code", None) or 0), headers, text


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds the provider asks to wait; 0 when it does not say. Dates (RFC 9110) are not used by these APIs."""
    stated = [v for k, v in headers.items() if k.lower() == "retry-after" or _AZURE_THROTTLING.fullmatch(k)]
    return max((float(v) for v in stated if v.replace(".", "", 1).isdigit()), default=0.0)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
