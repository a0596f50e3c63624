"""What tests of provider APIs share: a budget in imaginary time, accesses to this machine's fakes, control totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import AwsAccess, AzureAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.control_totals import control_totals
from offgridflow_pipeline.connectors.providers.calls import Budget

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAYS = [date(2026, 9, 1), date(2026, 9, 2)]
SECRET = "wJalrXUtnFEMI-not-a-real-key"


@dataclass
class Time:
    """Imaginary time: sleeping only moves the clock, and is noted."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def budget(self, *, attempts: int = 6, deadline_seconds: float = 600.0, draw: float = 0.5) -> Budget:
        return Budget(
            attempts=attempts,
            deadline_seconds=deadline_seconds,
            clock=lambda: self.now,
            sleep=self.sleep,
            draw=lambda: draw,
        )


def aws(endpoint: str, region: str = "us-east-1") -> AwsAccess:
    return AwsAccess(access_key_id="testing", secret_access_key=SecretStr(SECRET), region=region, endpoint_url=endpoint)


def azure(endpoint: str) -> AzureAccess:
    return AzureAccess(
        directory_id="directory", client_id="client", client_secret=SecretStr(SECRET), management_url=endpoint
    )


def totals(of: Connection, access: Any, days: list[date], time: Time | None = None, **more: Any) -> pa.Table:
    """Control totals of the days, in imaginary time."""
    budget = (time or Time()).budget()
    return control_totals(of, access, days, tenant="acme", retrieved_at=NOW, budget=budget, **more)


def costs(table: pa.Table) -> dict[tuple[str, str | None, str], Decimal]:
    """Cost per day, sub account and currency."""
    return {
        (str(row["usage_date"]), row["SubAccountId"], row["BillingCurrency"]): row["BilledCost"]
        for row in table.to_pylist()
    }
