"""Invoices and the money: drafts, finalising, attempts to charge, voiding. What a payment means for the subscription
is decided in `lifecycle`.
"""

from __future__ import annotations

from offgridflow_pipeline.demo.stripe_counterpart import documents
from offgridflow_pipeline.demo.stripe_counterpart.books import Books
from offgridflow_pipeline.demo.stripe_counterpart.cards import card_of, charge_error, check_attachable, is_token
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document


def subscription_of(bill: Document) -> str:
    """The subscription that an invoice is for."""
    return str(bill["parent"]["subscription_details"]["subscription"])


class Charging:
    """Invoices of one world."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._bills: dict[str, list[Document]] = {}
        self._payments: dict[str, Document] = {}

    def bills(self, subscription: Document) -> list[Document]:
        """Invoices of a subscription, oldest first."""
        return self._bills.get(subscription["id"], [])

    def draft(self, subscription: Document, lines: list[Document], reason: str) -> Document:
        """A new draft, now the newest invoice of its subscription."""
        owner = self._books.objects.get("customer", subscription["customer"])
        bill = self._books.objects.add(
            documents.invoice(self._books, subscription_document=subscription, owner=owner, lines=lines, reason=reason)
        )
        subscription["latest_invoice"] = bill["id"]
        self._bills.setdefault(subscription["id"], []).append(bill)
        self._books.emit("invoice.created", bill)
        return bill

    def finalize(self, bill: Document) -> None:
        """Turn a draft into an open invoice with a number and a page to pay it on; others stay as they are."""
        if bill["status"] != "draft":
            return
        owner = self._books.objects.get("customer", bill["customer"])
        sequence = owner["next_invoice_sequence"]
        owner["next_invoice_sequence"] = sequence + 1
        address = f"{self._books.hosted_url}/invoices/{self._books.objects.new_id('hosted_invoice')}"
        bill.update(
            status="open",
            number=f"{bill['customer'][-8:].upper()}-{sequence:04d}",
            effective_at=self._books.clock.timestamp,
            automatically_finalizes_at=None,
            hosted_invoice_url=address,
            invoice_pdf=f"{address}/pdf",
        )
        bill["status_transitions"]["finalized_at"] = self._books.clock.timestamp
        self._books.emit("invoice.finalized", bill)

    def method_for(self, bill: Document) -> str | None:
        """The payment method that an automatic charge uses: the subscription's, else the customer's."""
        subscription = self._books.objects.get("subscription", subscription_of(bill))
        owner = self._books.objects.get("customer", bill["customer"])
        found = subscription["default_payment_method"] or owner["invoice_settings"]["default_payment_method"]
        return str(found) if found else None

    def attempt(
        self, bill: Document, *, method_id: str | None, on_session: bool, next_attempt: int | None
    ) -> ApiError | None:
        """Charge an open invoice; returns why it failed. `next_attempt`: what to note for after a failure."""
        if bill["amount_remaining"] == 0:
            self._pay(bill)
            return None
        intent = self._intent(bill)
        error = charge_error(self._books.card(method_id), on_session=on_session)
        if error is None:
            self._succeed(bill, intent, method_id)
        else:
            self._fail(bill, intent, error, next_attempt)
        return error

    def void(self, bill: Document) -> None:
        """The invoice counts no longer."""
        self._close(bill, "void", "voided_at", "invoice.voided")

    def mark_uncollectible(self, bill: Document) -> None:
        """The invoice is given up."""
        self._close(bill, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")

    def stop(self, bill: Document) -> None:
        """No more automatic attempts; the invoice can still be paid."""
        with self._books.changing(bill, "invoice.updated"):
            bill.update(auto_advance=False, next_payment_attempt=None)

    def check_payable(self, bill: Document) -> None:
        """Check that the invoice can be paid.

        Raises:
            ApiError: 400, it is paid, void or given up.
        """
        if bill["status"] == "paid":
            raise ApiError(400, "Invoice is already paid", code="invoice_already_paid")
        if bill["status"] not in {"open", "draft", "uncollectible"}:
            raise ApiError(400, f"Invoices with status {bill['status']} cannot be paid.")

    def _close(self, bill: Document, status: str, transition: str, event_type: str) -> None:
        with self._books.changing(bill, "invoice.updated"):
            bill.update(status=status, auto_advance=False, next_payment_attempt=None)
        bill["status_transitions"][transition] = self._books.clock.timestamp
        self._books.emit(event_type, bill)

    def _intent(self, bill: Document) -> Document:
        known = self._payments.get(bill["id"])
        if known is not None:
            return self._books.objects.get("payment_intent", known["payment"]["payment_intent"])
        intent = self._books.objects.add(documents.payment_intent(self._books, bill))
        payment = self._books.objects.add(documents.invoice_payment(self._books, bill, intent))
        self._payments[bill["id"]] = payment
        self._books.emit("payment_intent.created", intent)
        return intent

    def _succeed(self, bill: Document, intent: Document, method_id: str | None) -> None:
        charge = self._books.objects.add(documents.charge(self._books, intent, method_id))
        self._books.emit("charge.succeeded", charge)
        intent.update(
            status="succeeded",
            amount_received=intent["amount"],
            latest_charge=charge["id"],
            last_payment_error=None,
            next_action=None,
            payment_method=method_id,
        )
        self._books.emit("payment_intent.succeeded", intent)
        payment = self._payments[bill["id"]]
        payment.update(status="paid", amount_paid=bill["amount_due"])
        payment["status_transitions"]["paid_at"] = self._books.clock.timestamp
        self._books.emit("invoice_payment.paid", payment)
        bill["attempt_count"] += 1
        self._pay(bill)
        card = self._books.card(method_id)
        if card is not None and card.behaviour == "disputed":
            self.dispute(charge, "fraudulent")

    def _pay(self, bill: Document) -> None:
        now = self._books.clock.timestamp
        with self._books.changing(bill, "invoice.updated"):
            bill.update(
                status="paid",
                attempted=True,
                amount_paid=bill["amount_due"],
                amount_remaining=0,
                auto_advance=False,
                next_payment_attempt=None,
                status_transitions={**bill["status_transitions"], "paid_at": now},
            )
        self._books.emit("invoice.paid", bill)
        self._books.emit("invoice.payment_succeeded", bill)
        self._delinquent(bill, is_delinquent=False)

    def _fail(self, bill: Document, intent: Document, error: ApiError, next_attempt: int | None) -> None:
        needs_action = error.code == "authentication_required"
        intent.update(
            status="requires_action" if needs_action else "requires_payment_method",
            last_payment_error={"code": error.code, "message": error.message, "type": error.kind},
            next_action={"type": "use_stripe_sdk", "use_stripe_sdk": {}} if needs_action else None,
        )
        self._books.emit("payment_intent.requires_action" if needs_action else "payment_intent.payment_failed", intent)
        with self._books.changing(bill, "invoice.updated"):
            bill.update(attempted=True, attempt_count=bill["attempt_count"] + 1, next_payment_attempt=next_attempt)
        self._books.emit("invoice.payment_failed", bill)
        if needs_action:
            self._books.emit("invoice.payment_action_required", bill)
        self._delinquent(bill, is_delinquent=True)

    def _delinquent(self, bill: Document, *, is_delinquent: bool) -> None:
        owner = self._books.objects.get("customer", bill["customer"])
        with self._books.changing(owner, "customer.updated"):
            owner["delinquent"] = is_delinquent

    def dispute(self, charge: Document, reason: str) -> Document:
        """The cardholder objects to a charge."""
        charge["disputed"] = True
        disputed = self._books.objects.add(documents.dispute(self._books, charge, reason))
        self._books.emit("charge.dispute.created", disputed)
        return disputed

    def new_method(self, name: str, owner_id: str | None) -> Document:
        """A payment method of a test card (`pm_card_visa`), or an existing one by its id; attached to the customer.

        Raises:
            ApiError: 402, the card cannot be attached; 404, there is no such payment method.
        """
        if not is_token(name):
            method = self._books.objects.get("payment_method", name)
        else:
            method = self._books.objects.add(documents.payment_method(self._books, card_of(name), None))
        if owner_id is not None and method["customer"] != owner_id:
            card = self._books.card(method["id"])
            if card is not None:
                check_attachable(card)
            method["customer"] = owner_id
            self._books.emit("payment_method.attached", method)
        return method
