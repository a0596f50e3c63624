"""Azure carbon statements from the Carbon Optimization API (2025-04-01; billing-feeds.md 5.7).

A request covers one month, one scope (the API adds up the scopes it is asked for) and at most 100 subscriptions.
Resources are asked for and added up to subscription, region and resource type: only they carry all three. Azure does
not say on which basis its scope 2 stands, so no figure claims one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.providers.azure_clients import body_of, client_options
from offgridflow_pipeline.connectors.statements.figures import Figure, Incomplete, Scope, region_code
from offgridflow_pipeline.months import first_day, month_of

if TYPE_CHECKING:
    from azure.mgmt.carbonoptimization import CarbonOptimizationMgmtClient

    from offgridflow_pipeline.connectors.access import AzureAccess
    from offgridflow_pipeline.connectors.providers.calls import Calls

MAXIMUM_SUBSCRIPTIONS = 100
PAGE_ROWS = 5000
_SCOPES: dict[Scope, tuple[str, ...]] = {"1": ("Scope1",), "2": ("Scope2",), "3": ("Scope3",)}
_TOTAL = ("Scope1", "Scope2", "Scope3")


class AzureCarbon:
    """One reading of the API: `figures` yields what is stated and fills `notices` and `incomplete`."""

    def __init__(self, access: AzureAccess, subscriptions: Sequence[str], calls: Calls) -> None:
        self._access = access
        self._subscriptions = sorted({s.lower() for s in subscriptions})
        self._calls = calls
        self.notices: list[str] = []
        self.incomplete: list[Incomplete] = []

    def figures(self, months: Sequence[str]) -> Iterator[Figure]:
        """Scope 1, 2 and 3 of the months, and their total as Azure states it per 100 subscriptions.

        A month that Azure does not offer is left out and noticed. When a subscription is denied, every figure of
        that month is marked incomplete.
        """
        from azure.mgmt.carbonoptimization import CarbonOptimizationMgmtClient

        with CarbonOptimizationMgmtClient(**client_options(self._access)) as client:
            for month in self._available(client, months):
                denied: dict[str, str] = {}
                found = list(self._month(client, month, denied))
                self.incomplete += [Incomplete(month, part, reason) for part, reason in sorted(denied.items())]
                for figure in found:
                    yield replace(figure, is_complete=not denied)

    def _available(self, client: CarbonOptimizationMgmtClient, months: Sequence[str]) -> list[str]:
        offered = self._calls(lambda: body_of(client.carbon_service.query_carbon_emission_data_available_date_range))
        first, last = (month_of((offered or {}).get(name)) for name in ("startDate", "endDate"))
        if first is None or last is None:
            raise DeliveryError("Azure Carbon Optimization does not say which months it has: try it again.")
        for month in months:
            if not first <= month <= last:
                self.notices.append(f"Azure offers {first} to {last}: {month} is not read.")
        return [month for month in months if first <= month <= last]

    def _month(self, client: CarbonOptimizationMgmtClient, month: str, denied: dict[str, str]) -> Iterator[Figure]:
        for start in range(0, len(self._subscriptions), MAXIMUM_SUBSCRIPTIONS):
            batch = self._subscriptions[start : start + MAXIMUM_SUBSCRIPTIONS]
            for scope in get_args(Scope):
                if scope == "total":
                    yield from self._total(client, month, batch, denied)
                else:
                    yield from self._details(client, month, batch, scope, denied)

    def _details(
        self,
        client: CarbonOptimizationMgmtClient,
        month: str,
        batch: list[str],
        scope: Scope,
        denied: dict[str, str],
    ) -> Iterator[Figure]:
        from azure.mgmt.carbonoptimization import models

        def fetch(token: str | None) -> tuple[dict[str, Any], str | None]:
            page = _ask(
                client,
                models.ItemDetailsQueryFilter(
                    date_range=_only(month),
                    subscription_list=batch,
                    carbon_scope_list=list(_SCOPES[scope]),
                    category_type="Resource",
                    order_by="ItemName",
                    sort_direction="Asc",
                    page_size=PAGE_ROWS,
                    skip_token=token,
                ),
            )
            return page, page.get("skipToken")

        for page in self._calls.pages(fetch):
            _note_denials(page, denied)
            for item in page.get("value") or ():
                yield _figure(month, scope, item)

    def _total(
        self, client: CarbonOptimizationMgmtClient, month: str, batch: list[str], denied: dict[str, str]
    ) -> Iterator[Figure]:
        from azure.mgmt.carbonoptimization import models

        wanted = models.OverallSummaryReportQueryFilter(
            date_range=_only(month), subscription_list=batch, carbon_scope_list=list(_TOTAL)
        )
        page = self._calls(lambda: _ask(client, wanted))
        _note_denials(page, denied)
        for item in page.get("value") or ():
            yield _figure(month, "total", item)


def _ask(client: CarbonOptimizationMgmtClient, wanted: Any) -> dict[str, Any]:
    return body_of(client.carbon_service.query_carbon_emission_reports, wanted) or {}


def _only(month: str) -> Any:
    from azure.mgmt.carbonoptimization import models

    return models.DateRange(start=first_day(month), end=first_day(month))


def _note_denials(page: dict[str, Any], denied: dict[str, str]) -> None:
    """Denials come under HTTP 200 (billing-feeds.md 5.7)."""
    for decision in page.get("subscriptionAccessDecisionList") or ():
        if str(decision.get("decision", "")).lower() != "allowed":
            denied[str(decision["subscriptionId"]).lower()] = str(decision.get("denialReason") or "denied")


def _figure(month: str, scope: Scope, item: dict[str, Any]) -> Figure:
    mass = item.get("latestMonthEmissions")
    if mass is None:
        raise DeliveryError(f"Azure Carbon Optimization states no mass for an item of {month}: try it again.")
    return Figure(
        month,
        None,
        str(item.get("subscriptionId") or "").lower() or None,
        region_code(item.get("location")),
        str(item.get("resourceType") or "").lower() or None,
        "",  # Azure names no model version
        scope,
        "provider_unspecified",
        Decimal(str(mass)),  # kgCO2e, as the model of the API says
    )
