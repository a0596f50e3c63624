"""Checkout and portal sessions, and what a customer does on the pages they lead to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart import documents
from offgridflow_pipeline.demo.stripe_counterpart.books import Books
from offgridflow_pipeline.demo.stripe_counterpart.cards import card_of, charge_error, check_attachable
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, missing, required
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form
from offgridflow_pipeline.demo.stripe_counterpart.lifecycle import DAY, Lifecycle, Terms
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document, page

_SESSION_LASTS = int(timedelta(hours=24).total_seconds())


class Checkouts:
    """Hosted sessions of one world."""

    def __init__(self, books: Books, charging: Charging, lifecycle: Lifecycle) -> None:
        self._books = books
        self._charging = charging
        self._lifecycle = lifecycle
        #: Session id -> price id and quantity of each line, and the `subscription_data` of the request.
        self._wanted: dict[str, tuple[list[tuple[str, int]], Form]] = {}
        self._portals: dict[str, Document] = {}

    def open(self, form: Form) -> Document:
        """A session as `POST /v1/checkout/sessions` states it; only `mode=subscription`.

        Raises:
            ApiError: a parameter is missing, or names what does not exist.
        """
        if form.get("mode") != "subscription":
            raise ApiError(400, "This counterpart has checkout sessions of mode=subscription only.", param="mode")
        if not form.get("line_items"):
            raise required("line_items")
        if not form.get("success_url"):
            raise required("success_url")
        lines = [(str(line["price"]), int(line.get("quantity", 1))) for line in form["line_items"]]
        prices = [self._books.objects.get("price", price_id) for price_id, _ in lines]
        owner = self._books.customer(str(form["customer"])) if form.get("customer") else None
        session = self._session(form, owner, sum(p["unit_amount"] * q for p, (_, q) in zip(prices, lines, strict=True)))
        session["currency"] = prices[0]["currency"]
        self._books.objects.add(session)
        self._wanted[session["id"]] = (lines, form.get("subscription_data") or {})
        self._books.clock.at(session["expires_at"], lambda: self._expire_if_open(session))
        return session

    def _session(self, form: Form, owner: Document | None, amount: int) -> Document:
        session_id = self._books.objects.new_id("checkout.session")
        expires_at = int(form.get("expires_at", self._books.clock.timestamp + _SESSION_LASTS))
        return {
            "id": session_id,
            "object": "checkout.session",
            "amount_subtotal": amount,
            "amount_total": amount,
            "cancel_url": form.get("cancel_url"),
            "client_reference_id": form.get("client_reference_id"),
            "created": self._books.clock.timestamp,
            "currency": None,
            "customer": owner["id"] if owner else None,
            "customer_creation": None if owner else "always",
            "customer_details": {"email": owner["email"], "name": owner["name"]} if owner else None,
            "customer_email": form.get("customer_email"),
            "expires_at": expires_at,
            "invoice": None,
            "livemode": False,
            "locale": form.get("locale"),
            "metadata": dict(form.get("metadata") or {}),
            "mode": "subscription",
            "payment_intent": None,
            "payment_method_collection": form.get("payment_method_collection", "always"),
            "payment_method_types": ["card"],
            "payment_status": "unpaid",
            "setup_intent": None,
            "status": "open",
            "submit_type": None,
            "subscription": None,
            "success_url": form["success_url"],
            "ui_mode": "hosted_page",
            "url": f"{self._books.hosted_url}/pay/{session_id}",
        }

    def lines(self, session: Document) -> list[tuple[Document, int]]:
        """What is bought: prices and quantities."""
        lines, _ = self._wanted[session["id"]]
        return [(self._books.objects.get("price", price_id), quantity) for price_id, quantity in lines]

    def line_items(self, session: Document) -> Document:
        """What is bought, as `GET /v1/checkout/sessions/:id/line_items` lists it."""
        data = [
            {
                "id": f"li_{session['id'][8:]}{place}",
                "object": "item",
                "amount_subtotal": price["unit_amount"] * quantity,
                "amount_total": price["unit_amount"] * quantity,
                "currency": price["currency"],
                "description": self._books.objects.get("product", price["product"])["name"],
                "price": dict(price),
                "quantity": quantity,
            }
            for place, (price, quantity) in enumerate(self.lines(session))
        ]
        return page(data, f"/v1/checkout/sessions/{session['id']}/line_items")

    def trial_days(self, session: Document) -> int:
        """Days of trial that the session offers."""
        _, stated = self._wanted[session["id"]]
        if end := stated.get("trial_end"):
            return max(0, (int(end) - self._books.clock.timestamp) // DAY)
        return int(stated.get("trial_period_days", 0))

    def complete(self, session: Document, card: str | None, *, email: str | None = None) -> Document:
        """The customer pays: a subscription begins. `card`: number or token; None where none has to be stated.

        Raises:
            ApiError: 402, the card is declined, the session stays open; 400, the session is not open.
        """
        if session["status"] != "open":
            raise ApiError(400, f"This Checkout Session is {session['status']}.", code="resource_already_exists")
        _, stated = self._wanted[session["id"]]
        trial_days = self.trial_days(session)
        if card is None and not (trial_days and session["payment_method_collection"] == "if_required"):
            raise required("payment_method")
        if card is not None:
            self._try(card, is_charged=not trial_days)
        owner = self._owner(session, email)
        method_id = None if card is None else self._charging.new_method(card_of(card).token, owner["id"])["id"]
        subscription = self._lifecycle.start(
            owner,
            self.lines(session),
            self._terms(stated, trial_days, method_id),
        )
        if method_id and not owner["invoice_settings"]["default_payment_method"]:
            with self._books.changing(owner, "customer.updated"):
                owner["invoice_settings"] = {**owner["invoice_settings"], "default_payment_method": method_id}
        session.update(
            status="complete",
            payment_status="no_payment_required" if trial_days else "paid",
            customer=owner["id"],
            customer_details={"email": owner["email"], "name": owner["name"]},
            subscription=subscription["id"],
            invoice=subscription["latest_invoice"],
        )
        self._books.emit("checkout.session.completed", session)
        return session

    def _terms(self, stated: Form, trial_days: int, method_id: str | None) -> Terms:
        behaviour: Any = (stated.get("trial_settings") or {}).get("end_behavior") or {}
        trial_end = stated.get("trial_end") or (self._books.clock.timestamp + trial_days * DAY if trial_days else None)
        return Terms(
            metadata=dict(stated.get("metadata") or {}),
            description=stated.get("description"),
            trial_end=int(trial_end) if trial_end else None,
            method_id=method_id,
            missing_payment_method=str(behaviour.get("missing_payment_method", "create_invoice")),
            on_session=True,
        )

    def _try(self, card: str, *, is_charged: bool) -> None:
        found = card_of(card)
        check_attachable(found)
        error = charge_error(found, on_session=True) if is_charged else None
        if error is not None:
            raise error

    def _owner(self, session: Document, email: str | None) -> Document:
        if session["customer"]:
            return self._books.customer(session["customer"])
        owner = self._books.objects.add(
            documents.customer(self._books, email=email or session["customer_email"], name=None)
        )
        self._books.emit("customer.created", owner)
        return owner

    def expire(self, session: Document) -> Document:
        """Close an open session.

        Raises:
            ApiError: 400, it is not open.
        """
        if session["status"] != "open":
            raise ApiError(400, f"Only Checkout Sessions with a status of open can be expired: {session['status']}.")
        session.update(status="expired", url=None)
        self._books.emit("checkout.session.expired", session)
        return session

    def _expire_if_open(self, session: Document) -> None:
        if session["status"] == "open":
            self.expire(session)

    def open_portal(self, form: Form) -> Document:
        """A portal session as `POST /v1/billing_portal/sessions` states it.

        Raises:
            ApiError: 400, the customer is missing; 404, there is none.
        """
        if not form.get("customer"):
            raise required("customer")
        owner = self._books.customer(str(form["customer"]))
        secret = self._books.objects.new_id("portal_secret")
        session = {
            "id": self._books.objects.new_id("billing_portal.session"),
            "object": "billing_portal.session",
            "configuration": form.get("configuration", "bpc_test_default"),
            "created": self._books.clock.timestamp,
            "customer": owner["id"],
            "customer_account": None,
            "flow": form.get("flow_data"),
            "livemode": False,
            "locale": form.get("locale"),
            "on_behalf_of": None,
            "return_url": form.get("return_url"),
            "url": f"{self._books.hosted_url}/portal/{secret}",
        }
        self._portals[secret] = session
        self._books.emit("billing_portal.session.created", session)
        return session

    def portal(self, secret: str) -> Document:
        """The portal session that a page's address names.

        Raises:
            ApiError: 404, there is none.
        """
        found = self._portals.get(secret)
        if found is None:
            raise missing("billing_portal.session", secret)
        return found
