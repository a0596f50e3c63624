"""The pages a customer sees at Stripe: checkout, portal, invoice. Plain forms without scripts, with a label for every
field, so that people, browsers in tests and screen readers can use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from offgridflow_pipeline.demo.stripe_counterpart.clock import of_timestamp
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document

_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 2rem auto; padding: 0 1rem; color: #1a1f36; }
label { display: block; margin-top: .75rem; } input, select { font: inherit; padding: .4rem; width: 100%;
box-sizing: border-box; } button { font: inherit; padding: .5rem 1rem; margin-top: 1rem; cursor: pointer; }
[role=alert] { border: 2px solid #b3093c; padding: .5rem 1rem; } section { margin-top: 2rem; }
.notice { background: #fff4c2; padding: .5rem 1rem; }
"""
_NOTICE = "A test counterpart of Stripe: no money moves. Use test cards only."


def page(title: str, body: str) -> str:
    """A whole document."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f'<body><main><p class="notice">{_NOTICE}</p><h1>{escape(title)}</h1>{body}</main></body></html>'
    )


def money(amount: int, currency: str) -> str:
    """An amount in the smallest unit as people read it."""
    return f"{amount / 100:,.2f} {currency.upper()}"


def day(timestamp: int) -> str:
    """A day in UTC."""
    return of_timestamp(timestamp).strftime("%d %B %Y").lstrip("0")


def alert(message: str) -> str:
    """A message on what went wrong; empty without one."""
    return f'<p role="alert">{escape(message)}</p>' if message else ""


def card_fields() -> str:
    """Number, expiry and security code of a card."""
    return (
        '<label for="card_number">Card number</label>'
        '<input id="card_number" name="card_number" inputmode="numeric" autocomplete="off" required '
        'aria-describedby="cards"><p id="cards">Pays: 4242 4242 4242 4242. Declined: 4000 0000 0000 0002. '
        "Declined later: 4000 0000 0000 0341.</p>"
        '<label for="card_expiry">Expiry (MM / YY)</label>'
        '<input id="card_expiry" name="card_expiry" autocomplete="off" required>'
        '<label for="card_cvc">CVC</label><input id="card_cvc" name="card_cvc" autocomplete="off" required>'
    )


def checkout(session: Document, bought: Sequence[tuple[Document, Document, int]], trial_days: int, error: str) -> str:
    """The checkout page; `bought`: price, product and quantity."""
    lines = "".join(
        f"<li>{escape(product['name'])}: {money(price['unit_amount'] * quantity, price['currency'])} "
        f"per {escape(price['recurring']['interval'])}</li>"
        for price, product, quantity in bought
    )
    trial = f"<p>{trial_days} days free, then the price above.</p>" if trial_days else ""
    details = session["customer_details"]
    email = (
        f"<p>Email: {escape(str(details['email'] or ''))}</p>"
        if details
        else '<label for="email">Email</label><input id="email" name="email" type="email" required>'
    )
    cancel = f'<p><a href="{escape(session["cancel_url"])}">Back</a></p>' if session["cancel_url"] else ""
    button = "Start trial" if trial_days else "Subscribe"
    form = f'<form method="post">{email}{card_fields()}<button type="submit">{button}</button></form>'
    return page("Subscribe", f"<ul>{lines}</ul>{trial}{alert(error)}{form}{cancel}")


def invoice(bill: Document, error: str) -> str:
    """The page of one invoice: what is due, or that it is paid."""
    due = money(bill["amount_remaining"], bill["currency"])
    if bill["status"] != "open":
        return page(f"Invoice {bill['number']}", f"<p>This invoice is {escape(bill['status'])}.</p>")
    form = f'<form method="post">{card_fields()}<button type="submit">Pay {due}</button></form>'
    return page(f"Invoice {bill['number']}", f"<p>Due: {due}</p>{alert(error)}{form}")


def portal(
    session: Document,
    subscriptions: Sequence[Document],
    bills: Sequence[Document],
    prices: Sequence[tuple[Document, Document]],
    error: str,
) -> str:
    """The customer portal: subscriptions, open invoices, the card. `prices`: what can be switched to, with products."""
    back = f'<p><a href="{escape(session["return_url"])}">Return</a></p>' if session["return_url"] else ""
    parts = [alert(error), *(_subscription(one, prices) for one in subscriptions), _bills(bills), _card(), back]
    return page("Billing", "".join(parts))


def _subscription(subscription: Document, prices: Sequence[tuple[Document, Document]]) -> str:
    items = subscription["items"]["data"]
    held = {item["price"]["id"] for item in items}
    names = ", ".join(escape(product["name"]) for price, product in prices if price["id"] in held)
    hidden = f'<input type="hidden" name="subscription" value="{escape(subscription["id"])}">'
    end = min(item["current_period_end"] for item in items)
    if subscription["cancel_at"]:
        state = f"Cancels on {day(subscription['cancel_at'])}."
        button = _button("keep", "Keep plan")
    else:
        state = f"Renews on {day(end)}."
        button = _button("cancel", "Cancel plan")
    options = "".join(
        f'<option value="{escape(price["id"])}">{escape(product["name"])}, '
        f"{money(price['unit_amount'], price['currency'])} per {escape(price['recurring']['interval'])}</option>"
        for price, product in prices
        if price["id"] not in held
    )
    select_id = f"price_{subscription['id']}"
    switch = (
        f'<form method="post">{hidden}<label for="{select_id}">Change plan to</label>'
        f'<select id="{select_id}" name="price">{options}</select>{_button("switch", "Change plan")}</form>'
        if options
        else ""
    )
    return (
        f"<section><h2>{names}</h2><p>Status: {escape(subscription['status'])}. {state}</p>"
        f'<form method="post">{hidden}{button}</form>{switch}</section>'
    )


def _bills(bills: Sequence[Document]) -> str:
    if not bills:
        return ""
    rows = "".join(
        f'<li><a href="{escape(bill["hosted_invoice_url"])}">Pay invoice {escape(bill["number"])}</a>: '
        f"{money(bill['amount_remaining'], bill['currency'])}</li>"
        for bill in bills
    )
    return f"<section><h2>Open invoices</h2><ul>{rows}</ul></section>"


def _card() -> str:
    return (
        f'<section><h2>Card</h2><form method="post">{card_fields()}{_button("card", "Use this card")}</form></section>'
    )


def _button(action: str, text: str) -> str:
    return f'<button type="submit" name="action" value="{action}">{text}</button>'
