"""Words, numbers and dates in the reader's language: gettext catalogues read at start, formats by Babel.

Messages have keys (``dashboard.title``), each language a full catalogue; a missing key is an error, not an empty
place. Placeholders are named: ``%(name)s``. Nothing here knows HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime, format_skeleton
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

#: Languages of the portal, by Babel's name of the locale. English dates and numbers are British.
LOCALES = {"en": "en_GB", "de": "de_DE"}
DEFAULT = "en"
DASH = "\N{EN DASH}"


class UnknownTextError(LookupError):
    """A key has no text in the catalogue."""


@dataclass(frozen=True, slots=True)
class Texts:
    """One language."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """The text of the key with its placeholders filled.

        Raises:
            UnknownTextError: no text of that key.
        """
        message = catalogue(self.language).get(key)
        if message is None or not isinstance(message.string, str):
            raise UnknownTextError(f"No text {key!r} in {self.language}.po.")
        return message.string % values if values else message.string.replace("%%", "%")

    def count(self, key: str, number: int, **values: object) -> str:
        """The text of the key in the form for a number of things; `%(n)s` is the number.

        Raises:
            UnknownTextError: no text with plural forms of that key.
        """
        found = catalogue(self.language)
        message = found.get(key)
        if message is None or isinstance(message.string, str):
            raise UnknownTextError(f"No plural text {key!r} in {self.language}.po.")
        form = list(message.string or ())[0 if number == 1 else 1]
        return form % {"n": self.number(number), **values}

    def label(self, group: str, name: str | None) -> str:
        """Label of a code from outside, ``role.owner``; the code itself where the catalogue does not know it."""
        message = catalogue(self.language).get(f"{group}.{name}")
        return message.string if message is not None and isinstance(message.string, str) else str(name or DASH)

    def number(self, value: Decimal | float | None, places: int = 0) -> str:
        """A number with so many places; a dash where there is none."""
        if value is None:
            return DASH
        pattern = "#,##0" + ("." + "0" * places if places else "")
        return format_decimal(value, format=pattern, locale=self._locale).replace("-", "\N{MINUS SIGN}")

    def share(self, value: Decimal | float | None, places: int = 1) -> str:
        """A share between 0 and 1 as a percentage; a dash where there is none."""
        if value is None:
            return DASH
        pattern = "#,##0" + ("." + "0" * places if places else "") + "\N{NO-BREAK SPACE}%"
        if self.language == "en":
            pattern = pattern.replace("\N{NO-BREAK SPACE}", "")
        return format_percent(value, format=pattern, locale=self._locale).replace("-", "\N{MINUS SIGN}")

    def change(self, value: Decimal | float | None) -> str:
        """A relative change with its sign; a dash where there is none."""
        if value is None:
            return DASH
        return ("+" if value > 0 else "") + self.share(value)

    def tonnes(self, kg: Decimal | None) -> str:
        """Kilograms as tonnes (kWh as MWh), with the places that a figure of its size needs; a dash without one."""
        if kg is None:
            return DASH
        tonnes = kg / 1000
        size = abs(tonnes)
        if 0 < size < Decimal("0.005"):
            return f"< {self.number(Decimal('0.01'), 2)}" if tonnes > 0 else self.number(tonnes, 3)
        return self.number(tonnes, 0 if size >= 1000 else 1 if size >= 100 else 2)

    def day(self, value: date) -> str:
        """A day, as a person writes it."""
        return format_date(value, "d MMMM y" if self.language == "en" else "d. MMMM y", locale=self._locale)

    def month(self, value: date) -> str:
        """A month and its year."""
        return format_skeleton("yMMMM", value, locale=self._locale)

    def short_month(self, value: date) -> str:
        """A month and its year for an axis."""
        return f"{format_date(value, 'MMM', locale=self._locale)[:3]} {value:%y}"

    def moment(self, value: datetime | None) -> str:
        """A moment in UTC; a dash where there is none."""
        if value is None:
            return DASH
        pattern = "d MMM y, HH:mm 'UTC'" if self.language == "en" else "d. MMM y, HH:mm 'UTC'"
        text = format_datetime(value.astimezone(UTC), pattern, locale=self._locale)
        return text.replace(" ", "\N{NO-BREAK SPACE}")

    def size(self, size_bytes: int) -> str:
        """A file's size."""
        unit, scale, places = ("MB", 10**6, 1) if size_bytes >= 10**6 else ("kB", 10**3, 0)
        return f"{self.number(Decimal(size_bytes) / scale, places)}\N{NO-BREAK SPACE}{unit}"

    @property
    def _locale(self) -> Locale:
        return Locale.parse(LOCALES[self.language])


@cache
def catalogue(language: str) -> Catalog:
    """The catalogue of a language, read once."""
    content = resources.files(__package__).joinpath(f"texts/{language}.po").read_bytes()
    return read_po(BytesIO(content), locale=LOCALES[language], abort_invalid=True)


def language_of(accepted: str) -> str:
    """The language for an Accept-Language header (RFC 9110, 12.5.4); English where none fits."""
    wanted: list[tuple[float, str]] = []
    for part in accepted.split(","):
        name, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((float(weight or 1), name.strip()))
        except ValueError:
            continue
    ordered = [name.replace("-", "_") for _, name in sorted(wanted, key=lambda found: -found[0]) if name]
    return str(negotiate_locale(ordered, list(LOCALES), sep="_") or DEFAULT)


def formats(language: str) -> Mapping[str, Any]:
    """What templates call: texts by `t`, `n` and `label`, formats by their names."""
    texts = Texts(language)
    return {
        "t": texts,
        "n": texts.count,
        "label": texts.label,
        "number": texts.number,
        "share": texts.share,
        "change": texts.change,
        "tonnes": texts.tonnes,
        "day": texts.day,
        "month": texts.month,
        "moment": texts.moment,
        "size": texts.size,
    }
