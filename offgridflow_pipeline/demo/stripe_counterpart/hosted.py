"""What the hosted pages do: read a page's form, act on the world, show the page again or lead back to the merchant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offgridflow_pipeline.demo.stripe_counterpart import pages
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, missing
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document
from offgridflow_pipeline.demo.stripe_counterpart.world import StripeWorld


@dataclass(frozen=True, slots=True)
class Shown:
    """A page, or a redirect when `location` is set."""

    status: int
    html: str = ""
    location: str = ""


class HostedPages:
    """Pages of one world. They hold the world's lock while they act."""

    def __init__(self, world: StripeWorld) -> None:
        self._world = world
        self._objects = world.books.objects

    def show(self, method: str, path: str, form: Mapping[str, str]) -> Shown:
        """The page at a path, after what its form asks for; 404 where there is none."""
        room, _, name = path.strip("/").partition("/")
        page = {"pay": self._checkout, "invoices": self._invoice, "portal": self._portal}.get(room)
        if page is None:
            return Shown(404, pages.page("Not found", ""))
        with self._world.lock:
            try:
                return page(name, form if method == "POST" else None)
            except ApiError as refusal:
                return Shown(refusal.status, pages.page("This page is not available", pages.alert(refusal.message)))

    def _checkout(self, session_id: str, form: Mapping[str, str] | None) -> Shown:
        session, error = self._objects.get("checkout.session", session_id), ""
        if form is not None:
            try:
                self._world.complete_checkout(session_id, form.get("card_number", ""), email=form.get("email"))
            except ApiError as refusal:
                error = refusal.message
            else:
                return Shown(303, location=session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id))
        if session["status"] != "open":
            return Shown(410, pages.page("This page is not available", f"<p>The session is {session['status']}.</p>"))
        checkouts = self._world.parts.checkouts
        bought = [
            (price, self._objects.get("product", price["product"]), quantity)
            for price, quantity in checkouts.lines(session)
        ]
        return Shown(402 if error else 200, pages.checkout(session, bought, checkouts.trial_days(session), error))

    def _invoice(self, token: str, form: Mapping[str, str] | None) -> Shown:
        bill, error = self._bill(token), ""
        if form is not None:
            try:
                self._world.pay_invoice(bill["id"], form.get("card_number", ""))
            except ApiError as refusal:
                error = refusal.message
        return Shown(402 if error else 200, pages.invoice(bill, error))

    def _bill(self, token: str) -> Document:
        for bill in self._objects.of("invoice"):
            if str(bill["hosted_invoice_url"]).endswith(f"/invoices/{token}"):
                return bill
        raise missing("invoice", token)

    def _portal(self, secret: str, form: Mapping[str, str] | None) -> Shown:
        session, error = self._world.parts.checkouts.portal(secret), ""
        if form is not None:
            try:
                self._change(session["customer"], form)
            except ApiError as refusal:
                error = refusal.message
        owner = self._world.books.customer(session["customer"])
        bills = [
            bill for bill in self._objects.of("invoice") if bill["customer"] == owner["id"] and bill["status"] == "open"
        ]
        running = self._world.parts.changes.running(owner)
        return Shown(402 if error else 200, pages.portal(session, running, bills, self._prices(), error))

    def _prices(self) -> list[tuple[Document, Document]]:
        return [
            (price, self._objects.get("product", price["product"]))
            for price in reversed(self._objects.of("price"))
            if price["active"] and price["recurring"]
        ]

    def _change(self, customer_id: str, form: Mapping[str, str]) -> None:
        action = form.get("action")
        if action == "card":
            self._world.use_card(customer_id, form.get("card_number", ""))
            return
        subscription = self._objects.get("subscription", form.get("subscription", ""))
        if subscription["customer"] != customer_id:
            raise missing("subscription", subscription["id"])
        path = f"/v1/subscriptions/{subscription['id']}"
        match action:
            case "cancel":
                self._world.call("POST", path, cancel_at_period_end="true")
            case "keep":
                self._world.call("POST", path, cancel_at_period_end="false")
            case "switch":
                item = {"id": subscription["items"]["data"][0]["id"], "price": form.get("price", "")}
                self._world.call("POST", path, items=[item], proration_behavior="always_invoice")
            case _:
                raise ApiError(400, "Unknown action.")
