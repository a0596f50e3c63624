"""Decimals as text for machines: exact, plain, without trailing zeros, as PostgreSQL's `trim_scale` writes them."""

from __future__ import annotations

from decimal import Decimal
from typing import overload


@overload
def exact_text(value: Decimal) -> str: ...
@overload
def exact_text(value: None) -> None: ...
def exact_text(value: Decimal | None) -> str | None:
    """The decimal as plain text; no digit is lost, no exponent is written."""
    if value is None:
        return None
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
