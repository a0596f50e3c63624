"""From Stripe's objects, as plain documents, to the facts of a snapshot.

Shapes of API version 2026-10-28.endive: periods on the items, an invoice's subscription under its parent. Older shapes
(periods on the subscription) are read too; what is missing or new never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from offgridflow_pipeline.subscriptions.snapshots import OpenInvoice, Snapshot, SubscriptionFacts

Document: TypeAlias = Mapping[str, Any]
#: The plan that a price names by itself, by its lookup key or its product; empty when it names none.
PlanHint: TypeAlias = Callable[[Document], str]


def snapshot_of(
    customer: Document, subscriptions: Iterable[Document], open_invoices: Iterable[Document], plan_hint: PlanHint
) -> Snapshot:
    """The snapshot of a customer, deleted or not, with all its subscriptions."""
    metadata = customer.get("metadata") or {}
    invoices = invoices_by_subscription(open_invoices)
    facts = (facts_of(document, invoices.get(document["id"], ()), plan_hint) for document in subscriptions)
    return Snapshot(
        customer_id=customer["id"],
        tenant=str(metadata.get("tenant", "")),
        environment=str(metadata.get("environment", "")),
        service=str(metadata.get("service", "")),
        deleted=bool(customer.get("deleted")),
        subscriptions=tuple(sorted(facts, key=lambda found: (found.created, found.subscription_id))),
    )


def facts_of(document: Document, open_invoices: Sequence[OpenInvoice], plan_hint: PlanHint) -> SubscriptionFacts:
    """The facts of one subscription."""
    items = (document.get("items") or {}).get("data") or []
    prices = [item["price"] for item in items if isinstance(item.get("price"), Mapping)]
    paused = (document.get("status_details") or {}).get("paused") or {}
    cancellation = document.get("cancellation_details") or {}
    return SubscriptionFacts(
        subscription_id=document["id"],
        status=str(document.get("status") or ""),
        created=_time(document.get("created")) or datetime.fromtimestamp(0, UTC),
        price_ids=tuple(price["id"] for price in prices),
        plan_hint=next((hint for price in prices if (hint := plan_hint(price))), ""),
        period_start=max(_times(document, items, "current_period_start"), default=None),
        paid_until=max(_times(document, items, "current_period_end"), default=None),
        next_change=min(_times(document, items, "current_period_end"), default=None),
        trial_end=_time(document.get("trial_end")),
        cancel_at=_time(document.get("cancel_at")),
        canceled_at=_time(document.get("canceled_at")),
        ended_at=_time(document.get("ended_at")),
        paused_at=_time(paused.get("transitioned_at")),
        payment_failed=cancellation.get("reason") == "payment_failed",
        open_invoices=tuple(open_invoices),
    )


def invoices_by_subscription(documents: Iterable[Document]) -> dict[str, list[OpenInvoice]]:
    """Open invoices of each subscription, oldest first; invoices of no subscription are left out."""
    found: dict[str, list[OpenInvoice]] = {}
    for document in documents:
        details = (document.get("parent") or {}).get("subscription_details") or {}
        subscription = id_of(details.get("subscription"))
        finalised = _time((document.get("status_transitions") or {}).get("finalized_at"))
        since = max(filter(None, (finalised or _time(document.get("created")), _time(document.get("due_date")))))
        if subscription:
            invoice = OpenInvoice(
                invoice_id=document["id"], due_since=since, url=document.get("hosted_invoice_url") or ""
            )
            found.setdefault(subscription, []).append(invoice)
    return {name: sorted(some, key=lambda one: (one.due_since, one.invoice_id)) for name, some in found.items()}


def id_of(value: object) -> str:
    """Id of an object that may be expanded; empty for None."""
    return str(value.get("id", "")) if isinstance(value, Mapping) else str(value or "")


def _times(document: Document, items: Sequence[Document], name: str) -> list[datetime]:
    stated = [item.get(name) for item in items] or [None]
    return [at for value in stated if (at := _time(value if value is not None else document.get(name)))]


def _time(value: object) -> datetime | None:
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int) and not isinstance(value, bool) else None
