"""Which addresses of an invoice are shown to people: those at Stripe, and the counterpart's outside of production.

The address comes from Stripe's API; one that leads anywhere else is never put before somebody who is about to pay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

#: invoice.stripe.com, pay.stripe.com …; no port, no user, and nothing that browsers read otherwise than we do.
_AT_STRIPE = re.compile(r"https://(?:[a-z0-9-]+\.)*stripe\.com(?:[/?#][!-~]*)?")
_ADDRESS = re.compile(r"https?://[a-z0-9.:-]+(?:[/?#][!-~]*)?")


def invoice_link(address: str, counterpart: str = "") -> str:
    """The address if it may be shown, else nothing. `counterpart`: address of the API that stands in for Stripe."""
    if _AT_STRIPE.fullmatch(address):
        return address
    if counterpart and _ADDRESS.fullmatch(address) and _origin(address) == _origin(counterpart):
        return address
    return ""


def counterpart_of(settings: Settings) -> str:
    """The stand-in for Stripe of demonstration and tests; none in production."""
    return "" if settings.environment == "production" else settings.stripe_api_url


def _origin(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc
