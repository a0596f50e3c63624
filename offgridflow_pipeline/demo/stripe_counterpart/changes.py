"""What a merchant or customer changes in a running subscription: plan, quantity, end, trial, card, pausing."""

from __future__ import annotations

from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart import documents
from offgridflow_pipeline.demo.stripe_counterpart.books import Books, changed_metadata
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, required
from offgridflow_pipeline.demo.stripe_counterpart.forms import Form, flag
from offgridflow_pipeline.demo.stripe_counterpart.lifecycle import ENDED, Lifecycle, next_period_end
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document


class Changes:
    """Changes of subscriptions of one world."""

    def __init__(self, books: Books, charging: Charging, lifecycle: Lifecycle) -> None:
        self._books = books
        self._charging = charging
        self._lifecycle = lifecycle

    def update(self, subscription: Document, form: Form) -> None:
        """What `POST /v1/subscriptions/:id` states.

        Raises:
            ApiError: the subscription has ended, a price or payment method does not exist, a time is past.
        """
        if subscription["status"] in ENDED and set(form) - {"metadata", "cancellation_details", "expand"}:
            raise ApiError(
                400, "A canceled subscription can only update its cancellation_details and metadata.", param="id"
            )
        bill = None
        with self._books.changing(subscription, "customer.subscription.updated"):
            changed_metadata(subscription, form)
            subscription["description"] = form.get("description", subscription["description"])
            subscription["cancellation_details"].update(form.get("cancellation_details") or {})
            if method := form.get("default_payment_method"):
                found = self._charging.new_method(str(method), subscription["customer"])
                subscription["default_payment_method"] = found["id"]
            if "pause_collection" in form:
                self._pause_collection(subscription, form["pause_collection"])
            if "trial_end" in form:
                self._move_trial_end(subscription, str(form["trial_end"]))
            if "cancel_at" in form or "cancel_at_period_end" in form:
                self._move_end(subscription, form)
            if form.get("items"):
                bill = self._change_items(subscription, form)
        if bill is not None:
            self._charging.finalize(bill)
            self._lifecycle.collect(bill, on_session=True)
        self._lifecycle.plan(subscription)

    def cancel(self, subscription: Document, form: Form) -> None:
        """Cancel at once.

        Raises:
            ApiError: 404, it has ended already.
        """
        if subscription["status"] in ENDED:
            raise ApiError(404, f"No such subscription: {subscription['id']}", code="resource_missing", param="id")
        details = form.get("cancellation_details") or {}
        subscription["cancellation_details"].update(details)
        self._lifecycle.end(subscription, reason="cancellation_requested")

    def resume(self, subscription: Document, form: Form) -> None:
        """Let a paused subscription go on; unless its billing day stays, a new period begins and is charged.

        Raises:
            ApiError: 400, it is not paused.
        """
        if subscription["status"] != "paused":
            raise ApiError(400, "The subscription is not paused.", param="id")
        anchor = form.get("billing_cycle_anchor", "now")
        stays = (anchor.get("type") if isinstance(anchor, dict) else anchor) == "unchanged"
        if stays and (next_period_end(subscription) or 0) > self._books.clock.timestamp:
            self._lifecycle.resumed(subscription)
            return
        subscription["billing_cycle_anchor"] = self._books.clock.timestamp
        for item in subscription["items"]["data"]:
            self._lifecycle.begin_period(subscription, item)
        bill = self._charging.draft(subscription, self._lifecycle.lines(subscription), reason="subscription_cycle")
        self._charging.finalize(bill)
        if form.get("payment_behavior") != "resume_on_payment_success":
            self._lifecycle.resumed(subscription)
        self._lifecycle.collect(bill, on_session=True)

    def use_card(self, owner: Document, name: str) -> Document:
        """Make a card the default of a customer and of its running subscriptions.

        Raises:
            ApiError: 402, the card cannot be attached.
        """
        method = self._charging.new_method(name, owner["id"])
        with self._books.changing(owner, "customer.updated"):
            owner["invoice_settings"] = {**owner["invoice_settings"], "default_payment_method": method["id"]}
        for subscription in self.running(owner):
            if subscription["default_payment_method"]:
                with self._books.changing(subscription, "customer.subscription.updated"):
                    subscription["default_payment_method"] = method["id"]
        return method

    def running(self, owner: Document) -> list[Document]:
        """Subscriptions of a customer that have not ended, newest first."""
        return [
            subscription
            for subscription in self._books.objects.of("subscription")
            if subscription["customer"] == owner["id"] and subscription["status"] not in ENDED
        ]

    def _pause_collection(self, subscription: Document, stated: Any) -> None:
        subscription["pause_collection"] = (
            {"behavior": stated["behavior"], "resumes_at": None} if isinstance(stated, dict) else None
        )

    def _move_trial_end(self, subscription: Document, stated: str) -> None:
        now = self._books.clock.timestamp
        end = now if stated == "now" else int(stated)
        if end < now:
            raise ApiError(
                400, "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
            )
        is_starting = subscription["trial_start"] is None
        subscription.update(status="trialing", trial_end=end, billing_cycle_anchor=end)
        if is_starting:
            subscription["trial_start"] = now
        for item in subscription["items"]["data"]:
            item["current_period_end"] = end

    def _move_end(self, subscription: Document, form: Form) -> None:
        now = self._books.clock.timestamp
        at_period_end = flag(form.get("cancel_at_period_end", "false"))
        stated = str(form.get("cancel_at", ""))
        ends = [item["current_period_end"] for item in subscription["items"]["data"]]
        named = {"": None, "min_period_end": min(ends), "max_period_end": max(ends)}
        cancel_at = min(ends) if at_period_end else named[stated] if stated in named else int(stated)
        if cancel_at is not None and cancel_at <= now:
            raise ApiError(400, "`cancel_at` must be in the future.", param="cancel_at")
        subscription.update(
            cancel_at=cancel_at, cancel_at_period_end=at_period_end, canceled_at=None if cancel_at is None else now
        )
        subscription["cancellation_details"] = {
            **subscription["cancellation_details"],
            "reason": None if cancel_at is None else "cancellation_requested",
        }

    def _change_items(self, subscription: Document, form: Form) -> Document | None:
        """Change, add and remove items; an invoice when something is due at once."""
        behaviour = str(form.get("proration_behavior", "create_prorations"))
        restarts, prorations = False, []
        for stated in form["items"]:
            item = self._item(subscription, str(stated.get("id", "")))
            if item is not None:
                prorations.append(self._proration(subscription, item, -1))
            if flag(stated.get("deleted", "false")):
                subscription["items"]["data"] = [kept for kept in subscription["items"]["data"] if kept is not item]
                continue
            price = self._price(stated, item)
            if item is None:
                item = self._lifecycle.add_item(subscription, price, int(stated.get("quantity", 1)))
            else:
                restarts |= _interval(item["price"]) != _interval(price)
                item.update(price=dict(price), quantity=int(stated.get("quantity", item["quantity"])))
            prorations.append(self._proration(subscription, item, 1))
        if not subscription["items"]["data"]:
            raise ApiError(400, "A subscription must have at least one active plan.", param="items")
        charged = subscription["status"] in {"active", "past_due"} and behaviour != "none"
        if charged:
            self._lifecycle.pending_lines.setdefault(subscription["id"], []).extend(
                line for line in prorations if line["amount"]
            )
        if restarts and subscription["status"] in {"active", "past_due"}:
            subscription["billing_cycle_anchor"] = self._books.clock.timestamp
            for item in subscription["items"]["data"]:
                self._lifecycle.begin_period(subscription, item)
            return self._bill(subscription, self._lifecycle.lines(subscription))
        if charged and behaviour == "always_invoice":
            return self._bill(subscription, self._lifecycle.lines(subscription, []))
        return None

    def _bill(self, subscription: Document, lines: list[Document]) -> Document:
        return self._charging.draft(subscription, lines, reason="subscription_update")

    def _item(self, subscription: Document, item_id: str) -> Document | None:
        if not item_id:
            return None
        items: list[Document] = subscription["items"]["data"]
        for item in items:
            if item["id"] == item_id:
                return item
        raise ApiError(404, f"No such subscription item: '{item_id}'", code="resource_missing", param="items")

    def _price(self, stated: Form, item: Document | None) -> Document:
        if price := stated.get("price"):
            return self._books.objects.get("price", str(price))
        if item is None:
            raise required("items[0][price]")
        price_now: Document = item["price"]
        return price_now

    def _proration(self, subscription: Document, item: Document, sign: int) -> Document:
        """A credit (-1) or debit (1) for what is left of an item's period."""
        now, start, end = self._books.clock.timestamp, item["current_period_start"], item["current_period_end"]
        left = max(0, end - max(now, start)) / max(1, end - start)
        amount = sign * round(item["price"]["unit_amount"] * item["quantity"] * left)
        return documents.invoice_line(
            self._books, subscription["id"], item, amount, (min(now, end), end), proration=True
        )


def _interval(price: Document) -> tuple[str, int]:
    recurring = price["recurring"]
    return recurring["interval"], recurring["interval_count"]
