"""Signatures of Stripe's webhooks: whether a body was sent by Stripe, just now.

The official library computes and compares the signature. It accepts times in the future and headers with two times,
so the header's form and its time are looked at here (stripe reference, section 2). No error holds body, header or key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

TOLERANCE_SECONDS = 300
#: Twenty signatures: more than a rotation ever has, and each costs a comparison.
MAXIMUM_HEADER_LENGTH = 2048
_HEADER = re.compile(r"[!-~]+")
_TIME = re.compile(r"[0-9]{1,12}")


class SignatureError(ValueError):
    """The body is not shown to be Stripe's; the message says what is wrong with the header, never what is in it."""


def verify(payload: bytes, header: str, secrets: Sequence[str], now: datetime) -> None:
    """Pass only when one of the secrets signed exactly these bytes, at most five minutes from `now` (aware).

    Raises:
        SignatureError: no secret did, or earlier or later than that, or the header is not one of Stripe's.
    """
    signed_at = _time(header)
    if abs(now.timestamp() - signed_at) > TOLERANCE_SECONDS:
        raise SignatureError("The signature's time is more than five minutes off.")
    if not any(_signed_by(secret, payload, header) for secret in secrets if secret.strip()):
        raise SignatureError("No signature of the header fits the body.")


def _time(header: str) -> int:
    """The one time of a header of the right form, in seconds since 1970."""
    if len(header) > MAXIMUM_HEADER_LENGTH or not _HEADER.fullmatch(header):
        raise SignatureError("There is no Stripe-Signature header, or it is not of the right form.")
    times = [value for name, _, value in (part.partition("=") for part in header.split(",")) if name == "t"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        raise SignatureError("The Stripe-Signature header does not state one time.")
    return int(times[0])


def _signed_by(secret: str, payload: bytes, header: str) -> bool:
    from stripe import SignatureVerificationError, WebhookSignature  # a tenth of a second: not for every process

    try:
        # The age was looked at above, against the caller's clock.
        WebhookSignature.verify_header(payload, header, secret, tolerance=None)
    except (SignatureVerificationError, UnicodeDecodeError):
        return False
    return True
