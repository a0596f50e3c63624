"""Counters of this process: sign-in attempts, and requests that rate limits refused. Ledgers count everything else.

Callable from anywhere. Until `setup` binds them to a meter, a call is one look-up in an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from offgridflow_pipeline.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Meter

AuthOutcome = Literal[
    "success", "failure", "throttled", "second_factor_required", "second_factor_success", "second_factor_failure"
]

_bound: dict[str, Counter] = {}


def auth_attempted(outcome: AuthOutcome) -> None:
    """Count a sign-in, or the second factor of one."""
    _add(names.AUTH_ATTEMPTS, outcome=outcome)


def rate_limit_refused(policy: str) -> None:
    """Count a request that the policy refused."""
    _add(names.RATE_LIMIT_REJECTED, policy=policy)


def rate_limit_store_failed(policy: str) -> None:
    """Count a request whose rate could not be counted, as the store failed."""
    _add(names.RATE_LIMIT_STORE_FAILURES, policy=policy)


def bind(meter: Meter, known: Mapping[str, Iterable[str]]) -> None:
    """Count into the meter from now on; zero is exported for every known value of a label (`known`: label -> values).

    A series that first appears with 1 never raises an alert (observability reference, trap 1).
    """
    for metric in names.METRICS.values():
        if metric.source != "process":
            continue
        counter = meter.create_counter(metric.name, unit=metric.unit, description=metric.meaning)
        (label,) = metric.labels
        for value in {*metric.known.get(label, ()), *known.get(label, ())}:
            counter.add(0, {label: value})
        _bound[metric.name] = counter


def release() -> None:
    """Stop counting."""
    _bound.clear()


def _add(metric: names.Metric, **labels: str) -> None:
    if (counter := _bound.get(metric.name)) is not None:
        counter.add(1, labels)
