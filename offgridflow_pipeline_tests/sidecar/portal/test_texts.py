"""Words and looks: both languages are complete, templates hold no words, and the colours are those of the PDF."""

from __future__ import annotations

import re
from importlib import resources
from typing import get_args

import pytest

from offgridflow_pipeline.connectors.connections import FEEDS, StatementKind
from offgridflow_pipeline.database.pipeline.jobs import EVERY_STATUS
from offgridflow_pipeline.database.pipeline.reports import State
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.permissions import ROLES, Permission
from offgridflow_pipeline.identity.profiles import DECLINABLE_MAIL
from offgridflow_pipeline.identity.refusals import Code
from offgridflow_pipeline.inventory.activity_files import KINDS
from offgridflow_pipeline.reporting.pdf import theme
from offgridflow_pipeline.reporting.svg import _colour
from offgridflow_pipeline.sidecar.portal.texts import LOCALES, Texts, UnknownTextError, catalogue, language_of
from offgridflow_pipeline.subscriptions.entitlements import EVERY_STATE
from offgridflow_pipeline.subscriptions.plans import FORMATS, subscribable

PORTAL = resources.files("offgridflow_pipeline.sidecar.portal")
TEMPLATES = {
    entry.name: entry.read_text(encoding="utf-8")
    for entry in PORTAL.joinpath("templates").iterdir()
    if entry.name.endswith(".html")
}
PLACEHOLDER = re.compile(r"%\(\w+\)s")


def strings(language: str) -> dict[str, list[str]]:
    return {
        str(message.id if isinstance(message.id, str) else message.id[0]): (
            [message.string] if isinstance(message.string, str) else list(message.string)
        )
        for message in catalogue(language)
        if message.id
    }


def test_both_catalogues_have_the_same_keys_and_no_empty_text() -> None:
    english, german = strings("en"), strings("de")
    assert english.keys() == german.keys()
    assert len(english) > 500
    for catalogue_ in (english, german):
        assert [key for key, texts in catalogue_.items() if not all(text.strip() for text in texts)] == []


def test_a_text_has_the_same_placeholders_in_both_languages() -> None:
    english, german = strings("en"), strings("de")
    for key in english:
        wanted = {name for text in english[key] for name in PLACEHOLDER.findall(text)}
        assert {name for text in german[key] for name in PLACEHOLDER.findall(text)} == wanted, key


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_holds_no_words_of_its_own(name: str) -> None:
    bare = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", TEMPLATES[name], flags=re.DOTALL)
    assert re.findall(r'(?:aria-label|title|alt|placeholder)="[^"]*[A-Za-z][^"]*"', bare) == []
    bare = re.sub(r"<[^>]*>", " ", bare)
    assert re.findall(r"[A-Za-zÄÖÜäöüß]{2,}", bare) == []


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_text_that_a_template_asks_for_is_in_the_catalogue(name: str) -> None:
    known = strings("en")
    asked = re.findall(r'\b(?:t|n)\("([a-z_0-9.]+)"\s*[,)]', TEMPLATES[name])
    assert [key for key in asked if key not in known] == []


def test_every_code_that_pages_show_has_a_label() -> None:
    groups = {
        "role": ROLES,
        "role_may": ROLES,
        "permission": map(str, Permission),
        "action": map(str, Action),
        "job_state": EVERY_STATUS,
        "report_state": get_args(State),
        "mail": DECLINABLE_MAIL,
        "refusal": get_args(Code),
        "activity": KINDS,
        "connection_kind": (*FEEDS, *get_args(StatementKind)),
        "scope": ("1", "2", "3"),
        "plan": [plan.name for plan in subscribable()],
        "billing_state": EVERY_STATE,
        "format": FORMATS,
    }
    known = strings("en")
    missing = [f"{group}.{name}" for group, names in groups.items() for name in names if f"{group}.{name}" not in known]
    assert missing == []


def test_an_unknown_text_is_an_error_and_an_unknown_code_shows_itself() -> None:
    with pytest.raises(UnknownTextError, match="nowhere"):
        Texts("en")("nowhere")
    assert Texts("de").label("role", "owner") == "Inhaber"
    assert Texts("de").label("role", "gardener") == "gardener"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de-AT,de;q=0.9,en;q=0.8", "de"), ("en-US", "en"), ("fr, de;q=0.5", "de"), ("", "en"), ("x;q=oops,,;", "en")],
)
def test_the_browser_s_languages_choose_the_page_s(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


def test_the_stylesheet_has_the_colours_of_the_pdf() -> None:
    css = PORTAL.joinpath("static/portal.css").read_text(encoding="utf-8")
    variables = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css))
    for name in ("INK", "MUTED", "RULE", "PANEL", "DEEP", "ACCENT", "MINT", "AMBER", "RUST"):
        assert variables[name.lower()] == _colour(getattr(theme, name)), name
    for member, colour in theme.FILLS.items():
        assert variables[member.replace("_", "-")] == _colour(colour), member


def test_every_language_knows_how_to_write_numbers_and_days() -> None:
    from datetime import date
    from decimal import Decimal

    assert set(LOCALES) == {"en", "de"}
    assert Texts("en").tonnes(Decimal("1234567.8")) == "1,235"
    assert Texts("de").tonnes(Decimal("123456")) == "123,5"
    assert Texts("de").tonnes(Decimal("-1500")) == "\N{MINUS SIGN}1,50"
    assert Texts("en").tonnes(Decimal("3")) == "< 0.01"
    assert Texts("en").tonnes(None) == "\N{EN DASH}"
    assert Texts("de").change(Decimal("0.0512")) == "+5,1\N{NO-BREAK SPACE}%"
    assert Texts("en").day(date(2026, 10, 3)) == "3 October 2026"
    assert Texts("de").month(date(2026, 3, 1)) == "März 2026"
