"""Templates of mails: which there are (`data/templates.csv`), their words (`texts/`), their form (`layouts/`).

Text and HTML come from the same words, so they never say different things. In HTML every value is escaped. A new mail
is a row of the table and a section in each language.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from babel.dates import format_date
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.notifications.invoice_links import invoice_link

Locale = Literal["en", "de"]
LOCALES: tuple[Locale, ...] = ("en", "de")
#: How dates are written: day before month in English too.
_BABEL = {"en": "en_GB", "de": "de_DE"}
TEXT_WIDTH = 76
#: Where a person chooses which notices to get, below the public URL.
SETTINGS_PATH = "settings"
_ROOM = Path(__file__).parent
_MONTH = re.compile(r"\d{4}-\d{2}")


class MailError(ValueError):
    """A mail cannot be written as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of mail. `token`: what is minted when it is sent; `link`: path below the public URL.

    `outside`: the variable that holds an invoice's address at Stripe, a second link where it may be shown.
    """

    name: str
    declinable: bool
    token: Literal["", "reset", "invitation"]
    link: str
    variables: frozenset[str]
    outside: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A mail's words in one language."""

    subject: str
    text: str
    html: str


def template_of(name: str) -> Template:
    """The template of that name.

    Raises:
        MailError: there is none.
    """
    found = templates().get(name)
    if found is None:
        raise MailError(f"There is no mail template {name!r}.")
    return found


@cache
def templates() -> dict[str, Template]:
    """All templates by name."""
    return {
        row["template"]: Template(
            row["template"],
            row["declinable"] == "yes",
            cast("Literal['', 'reset', 'invitation']", row["token"]),
            row["link"],
            frozenset(row["variables"].split()),
            row["outside"],
        )
        for row in data_rows(__file__, "templates.csv")
    }


def declinable_templates() -> frozenset[str]:
    """Templates that a person may turn off; those about the safety of an account are not among them."""
    return frozenset(name for name, template in templates().items() if template.declinable)


def locale_of(wanted: str) -> Locale:
    """The language of a mail: German where it is wanted, else English."""
    return "de" if wanted.partition("_")[0].partition("-")[0].lower() == "de" else "en"


def subject_of(name: str, locale: Locale, variables: Mapping[str, Any]) -> str:
    """The subject line.

    Raises:
        MailError: there is no such template, or a variable is missing.
    """
    template_of(name)
    return _say(_environment(locale, escape=False), _words(locale)[name]["subject"], variables)


def render(
    name: str,
    locale: Locale,
    variables: Mapping[str, Any],
    *,
    public_url: str,
    token: str = "",
    counterpart: str = "",
) -> Rendered:
    """The mail in one language; links begin with `public_url`, whatever the variables hold, or lead to Stripe.

    `counterpart`: address of the API that stands in for Stripe in demonstration and tests.

    Raises:
        MailError: there is no such template, or a variable is missing.
    """
    template = template_of(name)
    root = public_url.rstrip("/")
    known = {"public_url": root, "settings_url": f"{root}/{SETTINGS_PATH}", **variables}
    link = f"{root}/{_path(template, variables, token)}"
    outside = _outside(template, variables, counterpart)
    subject = subject_of(name, locale, variables)
    bodies = []
    for suffix in ("txt", "html"):
        environment = _environment(locale, escape=suffix == "html")
        layout = environment.get_template(f"mail.{suffix}.j2")
        words = _spoken(environment, template, locale, known)
        bodies.append(layout.render(words, locale=locale, subject=subject, link=link, outside=outside))
    return Rendered(subject, *bodies)


def _path(template: Template, variables: Mapping[str, Any], token: str) -> str:
    values = {name: quote(str(value), safe="") for name, value in {**variables, "token": token}.items()}
    try:
        return template.link.format(**values)
    except KeyError as error:
        raise MailError(f"Mail {template.name} needs {error.args[0]} for its link.") from None


def _outside(template: Template, variables: Mapping[str, Any], counterpart: str) -> str:
    if not template.outside:
        return ""
    if template.outside not in variables:
        raise MailError(f"Mail {template.name} needs {template.outside}.")
    return invoice_link(str(variables[template.outside]), counterpart)


def _spoken(environment: Environment, template: Template, locale: Locale, known: Mapping[str, Any]) -> dict[str, Any]:
    """The words with their values filled in; a paragraph that came out empty is left out."""
    words, frame = _words(locale)[template.name], _words(locale)["frame"]

    def say(source: str) -> str:
        return _say(environment, source, known)

    return {
        "text": [said for source in words["text"] if (said := say(source))],
        "action": say(words["action"]),
        "after": [say(source) for source in words["after"]],
        "outside_hint": say(words.get("outside", "")),
        "frame": {
            "greeting": say(frame["greeting"]),
            "link_hint": say(frame["link_hint"]),
            "sender": say(frame["sender"]),
            "declining": say(frame["declining"]) if template.declinable else "",
        },
    }


def _say(environment: Environment, source: str, variables: Mapping[str, Any]) -> str:
    try:
        said = environment.from_string(source).render(variables)
    except UndefinedError as error:
        raise MailError(f"A variable of the mail is missing: {error.message}.") from None
    except ValueError as error:  # a time or month that is none
        raise MailError(f"A variable of the mail has the wrong form: {error}.") from None
    return Markup(said) if environment.autoescape else said  # noqa: S704  rendered by the escaping environment


@cache
def _words(locale: Locale) -> dict[str, Any]:
    return tomllib.loads((_ROOM / "texts" / f"{locale}.toml").read_text(encoding="utf-8"))


@cache
def _environment(locale: Locale, *, escape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ROOM / "layouts"),
        autoescape=escape,  # noqa: S701  off for plain text alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["moment"] = lambda value: _moment(str(value), locale)  # str() refuses what is undefined
    environment.filters["day"] = lambda value: _day(str(value), locale)
    environment.filters["period"] = lambda value: _period(str(value), locale)
    environment.filters["wrapped"] = _wrapped
    return environment


def _moment(value: str, locale: Locale) -> str:
    """An ISO 8601 time as people write it, in UTC, which is said."""
    at = datetime.fromisoformat(value)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return f"{format_date(at.date(), 'long', locale=_BABEL[locale])}, {at:%H:%M} UTC"


def _day(value: str, locale: Locale) -> str:
    return format_date(datetime.fromisoformat(value).date(), "long", locale=_BABEL[locale])


def _period(value: str, locale: Locale) -> str:
    """A month in words; other periods (2026, 2026-Q3) as they are."""
    if not _MONTH.fullmatch(value):
        return value
    return format_date(date.fromisoformat(f"{value}-01"), "LLLL y", locale=_BABEL[locale])


def _wrapped(text: str) -> str:
    """Lines of readable width; an address stays whole."""
    lines = text.splitlines() or [""]
    return "\n".join(textwrap.fill(line, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines)
