"""Calls of one provider API within a budget: retries with jitter, and one deadline for a whole reading.

The libraries' own retries are switched off where this is used: azure-core never retries a throttled POST without a
Retry-After header, botocore has no total deadline, and nested retries multiply. An error that is not worth another
try, or that outlives the budget, becomes an error of `errors` that names the API, the right and the cure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeVar, cast

from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.problems import Problem, Provider, understand
from offgridflow_pipeline.data_rows import data_rows

T = TypeVar("T")


class ProviderUnavailableError(DeliveryError):
    """The provider kept throttling or failing until the budget was spent; nothing of the answer was used."""


@dataclass(frozen=True, slots=True)
class Api:
    """One provider API, how people know it, the right it needs and where that is granted."""

    name: str
    provider: Provider
    shown_as: str
    right: str
    grant: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How often one call is tried, and how many seconds a whole reading (all its pages) may take.

    Pauses grow from `first_pause_seconds` to `longest_pause_seconds`, drawn evenly from zero (full jitter); what
    the provider asks for is waited in full, unless the deadline comes first.
    """

    attempts: int = 6
    deadline_seconds: float = 600.0
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    #: Spreads retries of many tenants; not used for secrets.
    draw: Callable[[], float] = random.random


class Calls:
    """One reading of an API; every call goes through here. `target` says what is read, for messages."""

    def __init__(self, api: str, target: str, budget: Budget | None = None) -> None:
        self.api = apis()[api]
        self._target = target
        self._budget = budget or Budget()
        self._started = self._budget.clock()

    def __call__(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, tried again while that can help.

        Raises:
            AccessDeniedError: the right is missing.
            ExpiredCredentialsError: the credentials are no longer accepted.
            ProviderUnavailableError: throttled or failing until the budget was spent.
            DeliveryError: the provider refuses the request for another reason.
        """
        for number in range(1, self._budget.attempts + 1):
            try:
                return attempt()
            except DeliveryError:
                raise
            except Exception as error:
                problem = understand(self.api.provider, error)
                if problem.verdict == "other" and not _of_library(error):
                    raise
                self._pause_or_raise(problem, number)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def pages(self, fetch: Callable[[str | None], tuple[T, str | None]]) -> Iterator[T]:
        """Every page: `fetch` takes the token of a page (None for the first) and returns page and next token.

        Raises:
            DeliveryError: a token comes twice; else as for one call.
        """
        token: str | None = None
        seen: set[str] = set()
        while True:
            page, token = self(lambda asked=token: fetch(asked))  # type: ignore[misc]
            yield page
            if not token:
                return
            if token in seen:
                raise DeliveryError(f"{self.api.shown_as} repeats a page of {self._target}: try it again.")
            seen.add(token)

    def refuse(self, problem: Problem) -> DeliveryError:
        """The error to raise for a problem that no retry cures."""
        said = f"{problem.code}: {problem.text}"
        if problem.verdict == "denied":
            return AccessDeniedError(
                f"{self.api.shown_as} denies {self._target} ({said}). It needs {self.api.right}: {self.api.grant}."
            )
        if problem.verdict == "expired":
            return ExpiredCredentialsError(
                f"{self.api.shown_as} does not accept the credentials for {self._target} ({said}). "
                "Renew the secret or the trust of the connection."
            )
        return DeliveryError(f"{self.api.shown_as} refuses {self._target} ({said}).")

    def _pause_or_raise(self, problem: Problem, number: int) -> None:
        if problem.verdict != "retry":
            raise self.refuse(problem) from None
        budget = self._budget
        longest = min(budget.longest_pause_seconds, budget.first_pause_seconds * 2 ** (number - 1))
        pause = problem.retry_after_seconds + budget.draw() * longest
        spent = budget.clock() - self._started
        if number >= budget.attempts or spent + pause > budget.deadline_seconds:
            asked = f", and asks to wait {problem.retry_after_seconds:g} s" if problem.retry_after_seconds else ""
            raise ProviderUnavailableError(
                f"{self.api.shown_as} did not answer for {self._target}: {problem.code} after {number} attempts "
                f"in {spent:.0f} s{asked} ({problem.text}). Nothing was changed; run it again later."
            ) from None
        budget.sleep(pause)


def _of_library(error: Exception) -> bool:
    """Whether a cloud library raised it; a mistake of our own must not be reported as the provider's refusal."""
    return any(k.__module__.split(".")[0] in {"botocore", "azure", "google", "requests"} for k in type(error).__mro__)


@cache
def apis() -> dict[str, Api]:
    """The APIs by name, from data/provider_apis.csv."""
    return {
        row["api"]: Api(row["api"], cast("Provider", row["provider"]), row["shown_as"], row["right"], row["grant"])
        for row in data_rows(__file__, "provider_apis.csv")
    }
