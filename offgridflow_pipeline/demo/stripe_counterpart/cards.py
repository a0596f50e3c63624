"""Test cards, with the numbers and `pm_card_*` names that Stripe's own test mode has for the same behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError, declined

#: ok: pays. declined: cannot even be attached. fails: attaches, every charge is declined.
#: authenticate: a charge without the cardholder present needs them. disputed: pays, then the cardholder disputes.
Behaviour = Literal["ok", "declined", "fails", "authenticate", "disputed"]


@dataclass(frozen=True, slots=True)
class Card:
    """A card: `token` is the name that API calls may use in place of a payment method's id."""

    number: str
    token: str
    behaviour: Behaviour
    brand: str = "visa"

    @property
    def last4(self) -> str:
        """The last four digits."""
        return self.number[-4:]


GOOD = Card("4242424242424242", "pm_card_visa", "ok")
DECLINED = Card("4000000000000002", "pm_card_chargeDeclined", "declined")
FAILING = Card("4000000000000341", "pm_card_chargeCustomerFail", "fails")
AUTHENTICATED = Card("4000002760003184", "pm_card_authenticationRequired", "authenticate")
DISPUTED = Card("4000000000000259", "pm_card_createDispute", "disputed")
MASTERCARD = Card("5555555555554444", "pm_card_mastercard", "ok", "mastercard")

CARDS: tuple[Card, ...] = (GOOD, DECLINED, FAILING, AUTHENTICATED, DISPUTED, MASTERCARD)


def card_of(number_or_token: str) -> Card:
    """The test card of a number (blanks allowed) or token.

    Raises:
        ApiError: 402, no test card has this number.
    """
    wanted = number_or_token.replace(" ", "")
    for card in CARDS:
        if wanted in {card.number, card.token}:
            return card
    raise declined("Your card number is incorrect.", "incorrect_number")


def is_token(text: str) -> bool:
    """Whether the text names a test card."""
    return any(text == card.token for card in CARDS)


def check_attachable(card: Card) -> None:
    """Attaching a card asks its issuer.

    Raises:
        ApiError: 402, the issuer refuses.
    """
    if card.behaviour == "declined":
        raise declined()


def charge_error(card: Card | None, *, on_session: bool) -> ApiError | None:
    """Why a charge fails; None when it succeeds. `on_session`: the cardholder is there to authenticate."""
    if card is None:
        return ApiError(400, "This customer has no attached payment source or default payment method.")
    if card.behaviour in {"declined", "fails"}:
        return declined()
    if card.behaviour == "authenticate" and not on_session:
        return declined("Your card was declined. This transaction requires authentication.", "authentication_required")
    return None
