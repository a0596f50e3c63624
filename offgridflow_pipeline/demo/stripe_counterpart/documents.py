"""New objects in the layout of API version 2026-10-28.endive, with the fields that matter to subscriptions.

Periods lie on subscription items, an invoice names its subscription below `parent`, its payments are a list of their
own. No behaviour: what happens to objects is in `catalog`, `charging`, `lifecycle` and `checkout`.
"""

from __future__ import annotations

from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart.books import Books
from offgridflow_pipeline.demo.stripe_counterpart.cards import Card
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document, page


def _new(books: Books, kind: str, **fields: Any) -> Document:
    return {
        "id": books.objects.new_id(kind),
        "object": kind,
        "created": books.clock.timestamp,
        "livemode": False,
        "metadata": {},
        **fields,
    }


def customer(books: Books, *, email: str | None, name: str | None) -> Document:
    """A customer without a payment method."""
    return _new(
        books,
        "customer",
        address=None,
        balance=0,
        currency=None,
        default_source=None,
        delinquent=False,
        description=None,
        email=email,
        invoice_settings={
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        name=name,
        next_invoice_sequence=1,
        phone=None,
        preferred_locales=[],
        shipping=None,
        tax_exempt="none",
        test_clock=None,
    )


def product(books: Books, *, name: str) -> Document:
    """An active service."""
    return _new(
        books,
        "product",
        active=True,
        default_price=None,
        description=None,
        images=[],
        marketing_features=[],
        name=name,
        statement_descriptor=None,
        tax_code=None,
        type="service",
        unit_label=None,
        updated=books.clock.timestamp,
        url=None,
    )


def price(
    books: Books, *, product_id: str, unit_amount: int, currency: str, interval: str | None, interval_count: int
) -> Document:
    """A price in the smallest unit of its currency; `interval` None: paid once."""
    recurring = {
        "interval": interval,
        "interval_count": interval_count,
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
    return _new(
        books,
        "price",
        active=True,
        billing_scheme="per_unit",
        currency=currency,
        custom_unit_amount=None,
        lookup_key=None,
        nickname=None,
        product=product_id,
        recurring=recurring if interval else None,
        tax_behavior="unspecified",
        tiers_mode=None,
        transform_quantity=None,
        type="recurring" if interval else "one_time",
        unit_amount=unit_amount,
        unit_amount_decimal=str(unit_amount),
    )


def payment_method(books: Books, card: Card, customer_id: str | None) -> Document:
    """A card; its metadata names the test card, so that nobody takes it for a real one."""
    return _new(
        books,
        "payment_method",
        allow_redisplay="unspecified",
        billing_details={"address": None, "email": None, "name": None, "phone": None},
        card={
            "brand": card.brand,
            "country": "US",
            "exp_month": 12,
            "exp_year": books.clock.now().year + 4,
            "funding": "credit",
            "last4": card.last4,
        },
        customer=customer_id,
        metadata={"test_card": card.token},
        type="card",
    )


def subscription_item(books: Books, subscription_id: str, price_document: Document, quantity: int) -> Document:
    """An item whose period is not set yet."""
    item = _new(
        books,
        "subscription_item",
        billing_thresholds=None,
        current_period_end=None,
        current_period_start=None,
        discounts=[],
        price=price_document,
        quantity=quantity,
        subscription=subscription_id,
        tax_rates=[],
    )
    del item["livemode"]
    return item


def subscription(books: Books, *, customer_id: str, currency: str, description: str | None) -> Document:
    """A subscription without items that has not been paid: `incomplete`."""
    created = _new(
        books,
        "subscription",
        application=None,
        application_fee_percent=None,
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None},
        billing_cycle_anchor=books.clock.timestamp,
        billing_cycle_anchor_config=None,
        billing_mode={"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        billing_schedules=[],
        billing_thresholds=None,
        cancel_at=None,
        cancel_at_period_end=False,
        canceled_at=None,
        cancellation_details={"comment": None, "feedback": None, "reason": None},
        collection_method="charge_automatically",
        currency=currency,
        customer=customer_id,
        customer_account=None,
        days_until_due=None,
        default_payment_method=None,
        default_source=None,
        default_tax_rates=[],
        description=description,
        discounts=[],
        ended_at=None,
        invoice_settings={"account_tax_ids": None, "issuer": {"type": "self"}},
        items=None,
        latest_invoice=None,
        next_pending_invoice_item_invoice=None,
        on_behalf_of=None,
        pause_collection=None,
        payment_settings={"payment_method_types": None, "save_default_payment_method": "off"},
        pending_invoice_item_interval=None,
        pending_setup_intent=None,
        pending_update=None,
        schedule=None,
        start_date=books.clock.timestamp,
        status="incomplete",
        status_details=None,
        test_clock=None,
        transfer_data=None,
        trial_end=None,
        trial_settings={"end_behavior": {"billing_cycle_anchor": "now", "missing_payment_method": "create_invoice"}},
        trial_start=None,
    )
    created["items"] = page([], f"/v1/subscription_items?subscription={created['id']}")
    return created


def invoice_line(
    books: Books, subscription_id: str, item: Document, amount: int, period: tuple[int, int], *, proration: bool
) -> Document:
    """A line for one item and period; amounts below nought are credits."""
    price_document = item["price"]
    return {
        "id": books.objects.new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price_document["currency"],
        "description": f"{item['quantity']} × {price_document['id']}",
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": None,
                "subscription": subscription_id,
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"end": period[1], "start": period[0]},
        "pricing": {
            "price_details": {"price": price_document["id"], "product": price_document["product"]},
            "type": "price_details",
            "unit_amount_decimal": price_document["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "subtotal": amount,
        "taxes": [],
    }


def invoice(
    books: Books, *, subscription_document: Document, owner: Document, lines: list[Document], reason: str
) -> Document:
    """A draft of what a subscription costs; `reason` is Stripe's billing reason."""
    total = sum(line["amount"] for line in lines)
    created = _new(
        books,
        "invoice",
        account_country="IE",
        amount_due=max(total, 0),
        amount_overpaid=0,
        amount_paid=0,
        amount_remaining=max(total, 0),
        attempt_count=0,
        attempted=False,
        auto_advance=True,
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None, "status": None},
        automatically_finalizes_at=None,
        billing_reason=reason,
        collection_method="charge_automatically",
        currency=subscription_document["currency"],
        customer=owner["id"],
        customer_email=owner["email"],
        customer_name=owner["name"],
        default_payment_method=None,
        description=None,
        discounts=[],
        due_date=None,
        effective_at=None,
        hosted_invoice_url=None,
        invoice_pdf=None,
        last_finalization_error=None,
        lines=None,
        next_payment_attempt=None,
        number=None,
        parent={
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription_document["metadata"]),
                "subscription": subscription_document["id"],
            },
            "type": "subscription_details",
        },
        payment_settings={"payment_method_types": None},
        period_end=max((line["period"]["end"] for line in lines), default=books.clock.timestamp),
        period_start=min((line["period"]["start"] for line in lines), default=books.clock.timestamp),
        receipt_number=None,
        status="draft",
        status_transitions={
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        subtotal=total,
        test_clock=None,
        total=total,
        total_taxes=[],
        webhooks_delivered_at=None,
    )
    for line in lines:
        line["invoice"] = created["id"]
    created["lines"] = page(lines, f"/v1/invoices/{created['id']}/lines")
    return created


def payment_intent(books: Books, bill: Document) -> Document:
    """The attempt to collect an invoice, not yet confirmed."""
    return _new(
        books,
        "payment_intent",
        amount=bill["amount_due"],
        amount_received=0,
        canceled_at=None,
        capture_method="automatic",
        currency=bill["currency"],
        customer=bill["customer"],
        last_payment_error=None,
        latest_charge=None,
        next_action=None,
        payment_method=None,
        payment_method_types=["card"],
        setup_future_usage="off_session",
        status="requires_payment_method",
    )


def invoice_payment(books: Books, bill: Document, intent: Document) -> Document:
    """The link between an invoice and its payment intent."""
    created = _new(
        books,
        "invoice_payment",
        amount_paid=None,
        amount_requested=bill["amount_due"],
        currency=bill["currency"],
        invoice=bill["id"],
        is_default=True,
        payment={"payment_intent": intent["id"], "type": "payment_intent"},
        status="open",
        status_transitions={"canceled_at": None, "paid_at": None},
    )
    del created["metadata"]
    return created


def charge(books: Books, intent: Document, method_id: str | None) -> Document:
    """A charge of a card that succeeded."""
    return _new(
        books,
        "charge",
        amount=intent["amount"],
        amount_captured=intent["amount"],
        amount_refunded=0,
        captured=True,
        currency=intent["currency"],
        customer=intent["customer"],
        disputed=False,
        failure_code=None,
        failure_message=None,
        paid=True,
        payment_intent=intent["id"],
        payment_method=method_id,
        refunded=False,
        status="succeeded",
    )


def dispute(books: Books, charge_document: Document, reason: str) -> Document:
    """A cardholder's objection to a charge; evidence is due after a week."""
    return _new(
        books,
        "dispute",
        amount=charge_document["amount"],
        balance_transactions=[],
        charge=charge_document["id"],
        currency=charge_document["currency"],
        evidence_details={
            "due_by": books.clock.timestamp + 7 * 86_400,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        is_charge_refundable=False,
        payment_intent=charge_document["payment_intent"],
        reason=reason,
        status="needs_response",
    )
