"""What happens to subscriptions as time passes and invoices are paid or not: trial, renewal, dunning, end.

================ =============================================================
moment           what happens
================ =============================================================
created          incomplete until the first invoice is paid; with a trial: trialing
23 hours later   incomplete -> incomplete_expired, the first invoice void
trial end        active, a first paid invoice; without a card as the trial's settings say
period end       new period, draft invoice; an hour later finalised and charged
charge fails     past_due, retries by the account's plan; after the last: unpaid or canceled
invoice paid     active, when no other finalised invoice is open
cancel_at        canceled; nothing is charged any more
================ =============================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from offgridflow_pipeline.demo.stripe_counterpart import documents
from offgridflow_pipeline.demo.stripe_counterpart.books import Books
from offgridflow_pipeline.demo.stripe_counterpart.cards import charge_error
from offgridflow_pipeline.demo.stripe_counterpart.charging import Charging, subscription_of
from offgridflow_pipeline.demo.stripe_counterpart.clock import period_after
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document

DAY = int(timedelta(days=1).total_seconds())
INCOMPLETE_EXPIRES_AFTER = int(timedelta(hours=23).total_seconds())
TRIAL_WARNING = 3 * DAY
ENDED = frozenset({"canceled", "incomplete_expired"})
_RENEWING = frozenset({"trialing", "active", "past_due", "unpaid"})


@dataclass(frozen=True, slots=True)
class Terms:
    """How a subscription is to start. `trial_end`: Unix time; `on_session`: the customer is there to authenticate."""

    metadata: dict[str, str] = field(default_factory=dict)
    description: str | None = None
    trial_end: int | None = None
    method_id: str | None = None
    missing_payment_method: str = "create_invoice"
    payment_behavior: str = "allow_incomplete"
    on_session: bool = False


class Lifecycle:
    """Subscriptions of one world."""

    def __init__(self, books: Books, charging: Charging) -> None:
        self._books = books
        self._charging = charging
        #: Of invoices in dunning: when the first attempt failed, and how many retries were planned since.
        self._retries: dict[str, tuple[int, int]] = {}
        #: Prorations that the next invoice of a subscription will hold.
        self.pending_lines: dict[str, list[Document]] = {}

    def start(self, owner: Document, priced: Sequence[tuple[Document, int]], terms: Terms) -> Document:
        """A new subscription to these prices and quantities.

        Raises:
            ApiError: 402, `error_if_incomplete` and the first charge would fail: nothing is left behind.
        """
        books, now = self._books, self._books.clock.timestamp
        method = terms.method_id or owner["invoice_settings"]["default_payment_method"]
        if terms.payment_behavior == "error_if_incomplete" and terms.trial_end is None:
            error = charge_error(books.card(method), on_session=terms.on_session)
            if error is not None:
                raise error
        subscription = documents.subscription(
            books, customer_id=owner["id"], currency=priced[0][0]["currency"], description=terms.description
        )
        subscription["metadata"] = dict(terms.metadata)
        subscription["default_payment_method"] = terms.method_id
        subscription["trial_settings"]["end_behavior"]["missing_payment_method"] = terms.missing_payment_method
        if terms.trial_end is not None and terms.trial_end > now:
            subscription.update(
                status="trialing", trial_start=now, trial_end=terms.trial_end, billing_cycle_anchor=terms.trial_end
            )
        books.objects.add(subscription)
        for price, quantity in priced:
            self.add_item(subscription, price, quantity)
        self._first_invoice(subscription, terms)
        return subscription

    def add_item(self, subscription: Document, price: Document, quantity: int) -> Document:
        """A further item; its first period is the trial, or begins now."""
        item = self._books.objects.add(
            documents.subscription_item(self._books, subscription["id"], dict(price), quantity)
        )
        self.begin_period(subscription, item)
        subscription["items"]["data"].append(item)
        return item

    def begin_period(self, subscription: Document, item: Document) -> None:
        """Let the period of an item begin now."""
        now, recurring = self._books.clock.timestamp, item["price"]["recurring"]
        end = (
            subscription["trial_end"]
            if subscription["status"] == "trialing"
            else period_after(now, now, recurring["interval"], recurring["interval_count"])
        )
        item.update(current_period_start=now, current_period_end=end)

    def _first_invoice(self, subscription: Document, terms: Terms) -> None:
        books, is_trial = self._books, subscription["status"] == "trialing"
        bill = self._charging.draft(subscription, self.lines(subscription, free=is_trial), reason="subscription_create")
        books.emit("customer.subscription.created", subscription)
        self._charging.finalize(bill)
        if is_trial or terms.payment_behavior != "default_incomplete":
            self.collect(bill, on_session=terms.on_session)
        if subscription["status"] == "incomplete":
            books.clock.at(
                books.clock.timestamp + INCOMPLETE_EXPIRES_AFTER, lambda: self._expire_incomplete(subscription, bill)
            )
        self.plan(subscription)

    def lines(
        self, subscription: Document, items: Sequence[Document] | None = None, *, free: bool = False
    ) -> list[Document]:
        """Lines for the present periods of items (all, unless stated), and pending prorations."""
        pending = self.pending_lines.pop(subscription["id"], [])
        return pending + [
            documents.invoice_line(
                self._books,
                subscription["id"],
                item,
                0 if free else item["price"]["unit_amount"] * item["quantity"],
                (item["current_period_start"], item["current_period_end"]),
                proration=False,
            )
            for item in (subscription["items"]["data"] if items is None else items)
        ]

    def plan(self, subscription: Document) -> None:
        """Plan what the clock brings next; plans that no longer hold are ignored when they come due."""
        clock = self._books.clock
        end = next_period_end(subscription)
        if subscription["status"] in _RENEWING and end is not None:
            clock.at(end, lambda: self._period_ends(subscription, end))
        cancel_at = subscription["cancel_at"]
        if cancel_at is not None and subscription["status"] not in ENDED:
            clock.at(cancel_at, lambda: self._cancellation_comes(subscription))
        trial_end = subscription["trial_end"]
        if subscription["status"] == "trialing":
            clock.at(
                max(clock.timestamp, trial_end - TRIAL_WARNING),
                lambda: self._warn_of_trial_end(subscription, trial_end),
            )

    def _warn_of_trial_end(self, subscription: Document, trial_end: int) -> None:
        if subscription["status"] == "trialing" and subscription["trial_end"] == trial_end:
            self._books.emit("customer.subscription.trial_will_end", subscription)

    def _expire_incomplete(self, subscription: Document, bill: Document) -> None:
        if subscription["status"] != "incomplete":
            return
        with self._books.changing(subscription, "customer.subscription.updated"):
            subscription.update(status="incomplete_expired", ended_at=self._books.clock.timestamp)
        self._charging.void(bill)

    def _cancellation_comes(self, subscription: Document) -> None:
        self._end_if_due(subscription)

    def _end_if_due(self, subscription: Document) -> bool:
        cancel_at = subscription["cancel_at"]
        if subscription["status"] in ENDED or cancel_at is None or cancel_at > self._books.clock.timestamp:
            return False
        self.end(subscription, reason=subscription["cancellation_details"]["reason"])
        return True

    def _period_ends(self, subscription: Document, end: int) -> None:
        if subscription["status"] not in _RENEWING or next_period_end(subscription) != end:
            return
        if self._end_if_due(subscription):
            return
        if subscription["status"] == "trialing" and self._stops_without_card(subscription):
            return
        due = [item for item in subscription["items"]["data"] if item["current_period_end"] <= end]
        with self._books.changing(subscription, "customer.subscription.updated"):
            if subscription["status"] == "trialing":
                subscription["status"] = "active"
            for item in due:
                self._renew(subscription, item)
            bill = self._charging.draft(subscription, self.lines(subscription, due), reason="subscription_cycle")
        self._collect_later(subscription, bill)
        self.plan(subscription)

    def _renew(self, subscription: Document, item: Document) -> None:
        start, recurring = item["current_period_end"], item["price"]["recurring"]
        anchor = subscription["billing_cycle_anchor"]
        end = period_after(anchor, start, recurring["interval"], recurring["interval_count"])
        item.update(current_period_start=start, current_period_end=end)

    def _stops_without_card(self, subscription: Document) -> bool:
        owner = self._books.objects.get("customer", subscription["customer"])
        behaviour = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
        if (
            subscription["default_payment_method"]
            or owner["invoice_settings"]["default_payment_method"]
            or behaviour == "create_invoice"
        ):
            return False
        if behaviour == "cancel":
            self.end(subscription, reason=None)
        else:
            self.pause(subscription, "trial_end_without_payment_method")
        return True

    def _collect_later(self, subscription: Document, bill: Document) -> None:
        paused = subscription["pause_collection"]
        if subscription["status"] == "unpaid" or (paused and paused["behavior"] == "keep_as_draft"):
            self._charging.stop(bill)
            return
        due = self._books.clock.timestamp + int(self._books.settings.draft_for.total_seconds())
        bill["automatically_finalizes_at"] = due
        self._books.clock.at(due, lambda: self._finalize_and_collect(bill, paused["behavior"] if paused else ""))

    def _finalize_and_collect(self, bill: Document, paused: str) -> None:
        if bill["status"] != "draft" or not bill["auto_advance"]:
            return
        self._charging.finalize(bill)
        if paused == "void":
            self._charging.void(bill)
        elif paused == "mark_uncollectible":
            self._charging.mark_uncollectible(bill)
        else:
            self.collect(bill, on_session=False)

    def collect(self, bill: Document, *, on_session: bool) -> None:
        """Charge a finalised invoice automatically; a failure starts or goes on with its retries."""
        subscription = self._books.objects.get("subscription", subscription_of(bill))
        is_dunned = subscription["status"] not in {"incomplete", "trialing", "paused"}
        upcoming = self._next_retry(bill) if is_dunned else None
        error = self._charging.attempt(
            bill, method_id=self._charging.method_for(bill), on_session=on_session, next_attempt=upcoming
        )
        if error is None:
            self.paid(bill)
            return
        if not is_dunned:
            return
        if upcoming is None:
            self._give_up(subscription, bill)
            return
        self._set_status(subscription, "past_due")
        self._books.clock.at(upcoming, lambda: self._retry(bill, upcoming))

    def _next_retry(self, bill: Document) -> int | None:
        first, count = self._retries.get(bill["id"], (self._books.clock.timestamp, 0))
        self._retries[bill["id"]] = (first, count + 1)
        days = self._books.settings.retry_days
        return first + days[count] * DAY if count < len(days) else None

    def _retry(self, bill: Document, planned: int) -> None:
        if bill["status"] == "open" and bill["next_payment_attempt"] == planned:
            self.collect(bill, on_session=False)

    def _give_up(self, subscription: Document, bill: Document) -> None:
        self._charging.stop(bill)
        match self._books.settings.after_last_retry:
            case "canceled":
                self.end(subscription, reason="payment_failed")
            case status:
                self._set_status(subscription, status)

    def pay(self, bill: Document, *, method_id: str | None = None, on_session: bool = True) -> None:
        """Pay an invoice on request; planned retries stay as they are when it fails.

        Raises:
            ApiError: 402, the card is declined; 400, the invoice cannot be paid.
        """
        self._charging.check_payable(bill)
        self._charging.finalize(bill)
        error = self._charging.attempt(
            bill,
            method_id=method_id or self._charging.method_for(bill),
            on_session=on_session,
            next_attempt=bill["next_payment_attempt"],
        )
        if error is not None:
            raise error
        self.paid(bill)

    def paid(self, bill: Document) -> None:
        """What a paid invoice means for its subscription."""
        subscription = self._books.objects.get("subscription", subscription_of(bill))
        if subscription["status"] == "paused" and subscription["latest_invoice"] == bill["id"]:
            self.resumed(subscription)
        elif subscription["status"] in {"incomplete", "past_due", "unpaid"} and not self._open(subscription):
            self._set_status(subscription, "active")
            self.plan(subscription)

    def _open(self, subscription: Document) -> list[Document]:
        return [bill for bill in self._charging.bills(subscription) if bill["status"] == "open"]

    def pause(self, subscription: Document, reason: str) -> None:
        """Stop a subscription until it is resumed.

        Raises:
            ApiError: 400, it is not running.
        """
        if subscription["status"] not in {"active", "trialing", "past_due"}:
            raise ApiError(400, f"Subscriptions with status {subscription['status']} cannot be paused.")
        with self._books.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = "paused"
            subscription["status_details"] = {
                "paused": {
                    "subscription": {"type": reason},
                    "transitioned_at": self._books.clock.timestamp,
                    "type": "subscription",
                }
            }
        self._books.emit("customer.subscription.paused", subscription)

    def resumed(self, subscription: Document) -> None:
        """Let a paused subscription go on: active, or past_due while its invoice is open."""
        with self._books.changing(subscription, "customer.subscription.updated"):
            subscription.update(status="active", status_details=None)
        self._books.emit("customer.subscription.resumed", subscription)
        self.plan(subscription)

    def end(self, subscription: Document, *, reason: str | None) -> None:
        """Cancel at once. Open invoices stay open, but are charged no more."""
        now = self._books.clock.timestamp
        for bill in self._charging.bills(subscription):
            if bill["status"] in {"open", "draft"}:
                self._charging.stop(bill)
        subscription.update(status="canceled", ended_at=now, canceled_at=subscription["canceled_at"] or now)
        subscription["cancellation_details"]["reason"] = reason
        self._books.emit("customer.subscription.deleted", subscription)

    def _set_status(self, subscription: Document, status: str) -> None:
        with self._books.changing(subscription, "customer.subscription.updated"):
            subscription["status"] = status


def next_period_end(subscription: Document) -> int | None:
    """The earliest end of a period among the items."""
    return min((item["current_period_end"] for item in subscription["items"]["data"]), default=None)
