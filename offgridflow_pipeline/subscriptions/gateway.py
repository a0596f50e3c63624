"""Stripe's API, as far as it is asked: what a customer has, and pages of Stripe that people are sent to.

A client of its own under a pinned version, never the library's global one; every create has an idempotency key. Each
fault is one of three errors whose text holds no personal data. The library is imported where it is used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.subscriptions.fetched_facts import Document, id_of, snapshot_of
from offgridflow_pipeline.subscriptions.plans import prices, subscribable
from offgridflow_pipeline.subscriptions.snapshots import Snapshot

if TYPE_CHECKING:
    from stripe import HTTPClient, StripeClient, StripeObject

    from offgridflow_pipeline.settings import Settings

#: The version that our reading of objects was written for; the webhook endpoint is created with the same.
PINNED_API_VERSION = "2026-10-28.endive"
SERVICE = "offgridflow"
#: One request, in seconds: a batch of events must end within its lease.
TIMEOUT_SECONDS = 15
NETWORK_RETRIES = 2
PAGE_SIZE = 100
#: Stripe keeps events for so long; what is older is found by listing objects only.
EVENTS_KEPT = timedelta(days=30)
#: Too many requests, or the object is locked by another.
_BUSY = frozenset({409, 429})
_SERVER_ERROR = 500

log = logging.getLogger("offgridflow.billing")


class StripeUnavailableError(RuntimeError):
    """Stripe is out of reach, too busy or faulty: nothing is known, ask again later."""


class StripeKeyError(RuntimeError):
    """Stripe does not accept our key, or the key lacks a right: set STRIPE_SECRET_KEY."""


class StripeRefusedError(RuntimeError):
    """Stripe understood and refuses; `missing`: there is no such object."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


STRIPE_ERRORS = (StripeUnavailableError, StripeKeyError, StripeRefusedError)


@dataclass(frozen=True, slots=True)
class CheckoutFacts:
    """Whom a Checkout session was made for, as its metadata says."""

    customer_id: str
    client_reference: str
    tenant: str
    environment: str
    service: str


@dataclass(frozen=True, slots=True)
class CheckoutPages:
    """Pages of Checkout that were made for a customer: those that are open, as (id, price, address), and ended ones."""

    open: tuple[tuple[str, str, str], ...]
    ended: int


class StripeGateway:
    """One account of Stripe, by the key in the settings. `http_client` replaces the network."""

    def __init__(self, settings: Settings, http_client: HTTPClient | None = None) -> None:
        self._settings = settings
        self._http_client = http_client
        self._hints: dict[str, str] = {}

    @property
    def livemode(self) -> bool:
        """Whether the key moves real money."""
        return self._settings.stripe_secret_key.get_secret_value().startswith(("sk_live_", "rk_live_"))

    @property
    def marks(self) -> Mapping[str, str]:
        """Metadata that all our objects carry, beside the tenant."""
        return {"environment": self._settings.environment, "service": SERVICE}

    @cached_property
    def _client(self) -> StripeClient:
        import stripe

        client = self._http_client or stripe.RequestsClient(timeout=TIMEOUT_SECONDS)
        url = self._settings.stripe_api_url.rstrip("/")
        return stripe.StripeClient(
            self._settings.stripe_secret_key.get_secret_value(),
            stripe_version=PINNED_API_VERSION,
            max_network_retries=NETWORK_RETRIES,
            base_addresses={"api": url} if url else {},
            http_client=client,
        )

    def snapshot(self, customer_id: str) -> Snapshot:
        """What Stripe says of the customer now.

        Raises:
            StripeUnavailableError, StripeKeyError, StripeRefusedError: see there.
        """
        with _translated():
            customer = _plain(self._client.v1.customers.retrieve(customer_id))
            subscriptions = self._subscriptions(customer_id, deleted=bool(customer.get("deleted")))
            invoices = self._open_invoices(customer_id) if subscriptions else []
            return snapshot_of(customer, subscriptions, invoices, self._plan_hint)

    def all_snapshots(self) -> dict[str, Snapshot]:
        """Snapshots of every customer that ever had a subscription, by customer, from two listings of the account."""
        with _translated():
            listed = self._client.v1.subscriptions.list(
                {"status": "all", "limit": PAGE_SIZE, "expand": ["data.customer"]}
            )
            customers: dict[str, Document] = {}
            subscriptions: dict[str, list[Document]] = {}
            for subscription in map(_plain, listed.auto_paging_iter()):
                customer = subscription["customer"]
                name = id_of(customer)
                customers[name] = customer if isinstance(customer, Mapping) else {"id": name}
                subscriptions.setdefault(name, []).append(self._complete(subscription))
            invoices: dict[str, list[Document]] = {}
            for invoice in self._client.v1.invoices.list({"status": "open", "limit": PAGE_SIZE}).auto_paging_iter():
                document = _plain(invoice)
                invoices.setdefault(id_of(document.get("customer")), []).append(document)
            return {
                name: snapshot_of(customer, subscriptions[name], invoices.get(name, ()), self._plan_hint)
                for name, customer in customers.items()
            }

    def ensure_customer(self, tenant: str, *, organisation: str, email: str, instead_of: str = "") -> str:
        """Id of a customer for the tenant: asked for twice with the same values, Stripe makes one.

        `instead_of`: the customer that was deleted; without it Stripe would answer with that one again, for a day.
        """
        values: Any = {
            "name": organisation,
            "email": email,
            "metadata": {"tenant": tenant, **self.marks},
        }
        with _translated():
            key = self._key(f"customer:{instead_of}" if instead_of else "customer", values)
            return self._client.v1.customers.create(values, {"idempotency_key": key}).id

    def mark_customer(self, customer_id: str, tenant: str) -> None:
        """Put our marks on a customer that bears none; what else its metadata holds stays."""
        with _translated():
            self._client.v1.customers.update(customer_id, {"metadata": {"tenant": tenant, **self.marks}})

    def checkout(
        self,
        tenant: str,
        *,
        customer_id: str,
        price: str,
        trial_days: int,
        success_url: str,
        cancel_url: str,
        attempt: str,
    ) -> str:
        """Address of Stripe's page on which the tenant subscribes; the same one for the same `attempt`."""
        metadata = {"tenant": tenant, **self.marks}
        subscription: Any = {"metadata": metadata}
        if trial_days:
            subscription["trial_period_days"] = trial_days
        values: Any = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": tenant,
            "line_items": [{"price": price, "quantity": 1}],
            "metadata": {**metadata, "price": price},
            "subscription_data": subscription,
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        options: Any = {"idempotency_key": self._key(f"checkout:{attempt}", values)}
        with _translated():
            return _address(self._client.v1.checkout.sessions.create(values, options).url)

    def checkout_pages(self, customer_id: str) -> CheckoutPages:
        """Pages of Checkout that were made for the customer."""
        with _translated():
            listed = self._client.v1.checkout.sessions.list({"customer": customer_id, "limit": PAGE_SIZE})
            found = [_plain(session) for session in listed.auto_paging_iter()]
        opened = tuple(
            (session["id"], str((session.get("metadata") or {}).get("price", "")), session.get("url") or "")
            for session in found
            if session.get("status") == "open"
        )
        return CheckoutPages(opened, len(found) - len(opened))

    def close_checkout(self, session_id: str) -> None:
        """Let nobody pay on that page any more; one that has ended meanwhile stays as it is."""
        try:
            with _translated():
                self._client.v1.checkout.sessions.expire(session_id)
        except StripeRefusedError as error:
            log.info("A page of Checkout had ended by itself: %s", error)

    def portal(self, customer_id: str, *, return_url: str, attempt: str) -> str:
        """Address of Stripe's page on which invoices are paid, cards changed and subscriptions ended."""
        values: Any = {"customer": customer_id, "return_url": return_url}
        options: Any = {"idempotency_key": self._key(f"portal:{attempt}", values)}
        with _translated():
            return _address(self._client.v1.billing_portal.sessions.create(values, options).url)

    def cancel_at_period_end(self, subscription_id: str) -> None:
        """Let the subscription end with the period that is paid."""
        with _translated():
            self._client.v1.subscriptions.update(subscription_id, {"cancel_at_period_end": True})

    def checkout_session(self, session_id: str) -> CheckoutFacts:
        """Whom the Checkout session was made for."""
        with _translated():
            session = _plain(self._client.v1.checkout.sessions.retrieve(session_id))
        metadata = session.get("metadata") or {}
        return CheckoutFacts(
            id_of(session.get("customer")),
            str(session.get("client_reference_id") or ""),
            *(str(metadata.get(name, "")) for name in ("tenant", "environment", "service")),
        )

    def disputed_customer(self, dispute_id: str) -> str:
        """Id of the customer whose payment is disputed; empty when the payment was nobody's."""
        with _translated():
            dispute = _plain(self._client.v1.disputes.retrieve(dispute_id, {"expand": ["charge"]}))
        charge = dispute.get("charge")
        return id_of(charge.get("customer")) if isinstance(charge, Mapping) else ""

    def events(self, since: datetime, *, undelivered_only: bool = False) -> Iterator[bytes]:
        """Bodies of the account's events since then, newest first; Stripe keeps 30 days."""
        values: Any = {"created": {"gte": int(since.timestamp())}, "limit": PAGE_SIZE}
        if undelivered_only:
            values["delivery_success"] = False
        with _translated():
            for event in self._client.v1.events.list(values).auto_paging_iter():
                yield json.dumps(event.to_dict(for_json=True), separators=(",", ":")).encode()

    def _subscriptions(self, customer_id: str, *, deleted: bool) -> list[Document]:
        try:
            with _translated():
                listed = self._client.v1.subscriptions.list(
                    {"customer": customer_id, "status": "all", "limit": PAGE_SIZE}
                )
                return [self._complete(_plain(found)) for found in listed.auto_paging_iter()]
        except StripeRefusedError as error:
            if deleted and error.missing:  # `application` goes on with those of the last snapshot
                return []
            raise

    def _open_invoices(self, customer_id: str) -> list[Document]:
        listed = self._client.v1.invoices.list({"customer": customer_id, "status": "open", "limit": PAGE_SIZE})
        return [_plain(invoice) for invoice in listed.auto_paging_iter()]

    def _complete(self, subscription: Document) -> Document:
        """The subscription with all its items: the list inside it may be cut short."""
        if not (subscription.get("items") or {}).get("has_more"):
            return subscription
        listed = self._client.v1.subscription_items.list({"subscription": subscription["id"], "limit": PAGE_SIZE})
        return {**subscription, "items": {"data": [_plain(item) for item in listed.auto_paging_iter()]}}

    def _plan_hint(self, price: Document) -> str:
        """What a price that is not in the settings says of its plan.

        The product is a request of its own: five levels of expansion, one more than the API allows, lead to it.
        """
        plans = {plan.name for plan in subscribable()}
        if price["id"] in prices(self._settings).values():
            return ""
        if price.get("lookup_key") in plans:
            return str(price["lookup_key"])
        product = price.get("product")
        name = id_of(product)
        if name and name not in self._hints:
            found = product if isinstance(product, Mapping) else _plain(self._client.v1.products.retrieve(name))
            self._hints[name] = str((found.get("metadata") or {}).get("plan", ""))
        return self._hints.get(name, "")

    @staticmethod
    def _key(intent: str, values: Mapping[str, Any]) -> str:
        """Idempotency key of an intent with its values: with other values Stripe would refuse the same key."""
        return f"{SERVICE}:{sha256(json.dumps([intent, values], sort_keys=True).encode()).hexdigest()}"


def _plain(found: StripeObject) -> dict[str, Any]:
    return found.to_dict(for_json=True)


def _address(url: str | None) -> str:
    if not url:
        raise StripeRefusedError("Stripe made a session without an address.")
    return url


@contextmanager
def _translated() -> Iterator[None]:
    """Stripe's errors as ours. Their own text may hold people's data: only kind, code and request are kept."""
    import stripe

    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise StripeKeyError(f"Stripe refuses our key: {_kind(error)}.") from None
    except stripe.StripeError as error:
        status = error.http_status
        if isinstance(error, stripe.APIConnectionError) or status is None or status >= _SERVER_ERROR or status in _BUSY:
            raise StripeUnavailableError(f"Stripe cannot answer: {_kind(error)}.") from None
        raise StripeRefusedError(f"Stripe refuses: {_kind(error)}.", missing=error.code == "resource_missing") from None


def _kind(error: Any) -> str:
    parts = [type(error).__name__, error.code, getattr(error, "param", None), error.request_id]
    status = [] if error.http_status is None else [f"HTTP {error.http_status}"]
    return ", ".join([str(part) for part in parts if part] + status)
