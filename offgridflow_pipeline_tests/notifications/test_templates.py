"""Every mail in both languages, word for word, and what no value may do to one.

The golden files are what people read. After a wanted change `python -m …notifications.test_templates` writes them anew;
the difference is to be read before it is committed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from offgridflow_pipeline.identity import profiles
from offgridflow_pipeline.notifications.invoice_links import counterpart_of, invoice_link
from offgridflow_pipeline.notifications.message import message
from offgridflow_pipeline.notifications.templates import (
    LOCALES,
    MailError,
    Rendered,
    declinable_templates,
    locale_of,
    render,
    subject_of,
    templates,
)
from offgridflow_pipeline.settings import Settings

GOLDEN = Path(__file__).parent / "golden"
URL = "https://ogf.example"
TOKEN = "kTq3-9_token-of-a-test"
MAIL_ID = UUID("0192f0c1-0000-7000-8000-000000000001")
AT = "2026-11-25T18:04:59+01:00"
INVOICE = "https://invoice.stripe.com/i/acct_1/test_a?s=ap&x=1"

#: Values of every variable, optional ones too, with characters that HTML has to escape.
EXAMPLES: dict[str, dict[str, Any]] = {
    "password_reset": {"reset_id": "5b0e0f8e-7d1c-4a53-9d6f-0d6f5d6b7a01"},
    "invitation": {"invitation_id": "5b0e0f8e-7d1c-4a53-9d6f-0d6f5d6b7a02", "organisation": "Müller & Söhne <GmbH>"},
    "login_notice": {"at": AT},
    "login_notice.failures": {"at": AT, "reason": "failures"},
    "password_changed": {"at": AT},
    "second_factor_changed": {"at": AT, "change": "enrolled"},
    "second_factor_changed.removed": {"at": AT, "change": "removed"},
    "second_factor_changed.recovery_code_used": {"at": AT, "change": "recovery_code_used"},
    "second_factor_changed.recovery_codes_renewed": {"at": AT, "change": "recovery_codes_renewed"},
    "key_expiring": {"organisation": "Acme", "key_name": "warehouse", "expires_at": "2026-12-01T00:00:00+00:00"},
    "report_ready": {"organisation": "Acme", "period": "2026-09", "report_id": "rep_0192f0c1"},
    "report_failed": {"organisation": "Acme", "period": "2026-09", "error": "2 of 30 days have no bill."},
    "sync_failing": {
        "organisation": "Acme",
        "connection": "payer",
        "error": "AccessDenied: s3:ListBucket\nRole: billing",
    },
    "restatement_proposed": {"organisation": "Acme", "period": "2026-Q3"},
    "payment_failed": {
        "organisation": "Müller & Söhne <GmbH>", "restricted_at": "2026-12-09T17:30:00+00:00", "invoice_url": INVOICE,
        "day": 0,
    },
    "payment_failed.still_open": {
        "organisation": "Acme", "restricted_at": "2026-12-09T17:30:00+00:00", "invoice_url": "", "day": 7,
    },
    "payment_action_required": {"organisation": "Acme", "invoice_url": INVOICE},
    "subscription_restricted": {"organisation": "Acme", "invoice_url": INVOICE},
    "subscription_suspended": {"organisation": "Acme", "readable_until": "2027-03-01T00:00:00+00:00"},
    "subscription_active": {"organisation": "Acme", "plan": "pro"},
    "trial_ending": {"organisation": "Acme", "trial_end": "2026-12-03T09:00:00+00:00"},
}  # fmt: skip
CASES = [(case, locale) for case in EXAMPLES for locale in LOCALES]


def _rendered(case: str, locale: str) -> Rendered:
    return render(case.partition(".")[0], locale_of(locale), EXAMPLES[case], public_url=URL, token=TOKEN)


def _golden(case: str, locale: str) -> dict[str, str]:
    mail = _rendered(case, locale)
    return {f"{case}.{locale}.txt": f"{mail.subject}\n\n{mail.text}", f"{case}.{locale}.html": mail.html}


def test_every_template_has_an_example_and_every_example_a_template() -> None:
    assert {case.partition(".")[0] for case in EXAMPLES} == set(templates())


@pytest.mark.parametrize(("case", "locale"), CASES)
def test_the_mail_reads_as_its_golden_files(case: str, locale: str) -> None:
    for name, text in _golden(case, locale).items():
        assert text == (GOLDEN / name).read_text(encoding="utf-8"), name


def test_there_is_no_golden_file_of_a_mail_that_is_gone() -> None:
    known = {name for case, locale in CASES for name in _golden(case, locale)}
    assert {path.name for path in GOLDEN.iterdir()} == known


@pytest.mark.parametrize(("case", "locale"), CASES)
def test_text_and_html_say_the_same_and_lead_to_the_same_place(case: str, locale: str) -> None:
    mail = _rendered(case, locale)
    html = _Page(mail.html)
    assert html.language == locale
    assert set(html.links) == {line for line in mail.text.splitlines() if line.startswith("https://")}
    assert set(html.links) - {INVOICE} == {next(line for line in mail.text.splitlines() if line.startswith(URL))}
    for paragraph in mail.text.split("\n\n")[1:2]:
        assert " ".join(paragraph.split()) in " ".join(html.text.split())


@pytest.mark.parametrize(("case", "locale"), CASES)
def test_only_notices_that_may_be_declined_say_how(case: str, locale: str) -> None:
    assert (f"{URL}/settings" in _rendered(case, locale).text.rpartition("-- \n")[2]) == (
        case.partition(".")[0] in declinable_templates()
    )


def test_people_may_decline_what_the_templates_say_and_nothing_else() -> None:
    assert declinable_templates() == profiles.DECLINABLE_MAIL


@pytest.mark.parametrize("case", EXAMPLES)
def test_a_missing_variable_is_an_error_and_not_an_empty_place(case: str) -> None:
    template = templates()[case.partition(".")[0]]
    for name in template.variables - {"reset_id", "invitation_id"}:
        variables = {key: value for key, value in EXAMPLES[case].items() if key != name}
        with pytest.raises(MailError, match=name):
            render(template.name, "en", variables, public_url=URL, token=TOKEN)


def test_an_unknown_template_is_an_error() -> None:
    with pytest.raises(MailError, match="no mail template"):
        subject_of("newsletter", "en", {})


@pytest.mark.parametrize(("wanted", "locale"), [("de", "de"), ("de-AT", "de"), ("de_CH", "de"), ("DE", "de"), ("fr", "en"), ("", "en")])  # fmt: skip
def test_german_is_written_where_it_is_wanted_and_english_elsewhere(wanted: str, locale: str) -> None:
    assert locale_of(wanted) == locale


@given(value=st.text(max_size=40))
def test_no_value_becomes_markup_or_a_link_of_its_own(value: str) -> None:
    variables = {"organisation": value, "connection": value, "error": value}
    html = _Page(render("sync_failing", "en", variables, public_url=URL).html)
    assert html.tags == _Page(_rendered("sync_failing", "en").html).tags
    assert set(html.links) == {f"{URL}/connections"}


@given(value=st.text(min_size=1, max_size=30))
def test_a_link_begins_with_the_public_url_whatever_the_values_hold(value: str) -> None:
    variables = {"organisation": "Acme", "period": "2026-09", "report_id": value}
    (link,) = set(_Page(render("report_ready", "en", variables, public_url=f"{URL}/").html).links)
    assert link.startswith(f"{URL}/reports/")
    assert link.count("/") == 4
    assert not {"?", "#"} & set(link)


STRANGE_ADDRESSES = [
    "http://invoice.stripe.com/i/1",
    "https://stripe.com.evil.example/i/1",
    "https://evilstripe.com/i/1",
    "https://invoice.stripe.com@evil.example/",
    "https://evil.example\\.stripe.com/",
    "https://evil.example#.stripe.com/",
    "https://invoice.stripe.com:444/",
    "https://invoice.stripe.com/i/1\nhttps://evil.example/",
    "//invoice.stripe.com/i/1",
    "javascript:alert(1)//https://invoice.stripe.com/",
    "http://127.0.0.1:4243/invoices/1",
]


@pytest.mark.parametrize("address", STRANGE_ADDRESSES)
def test_an_invoice_that_is_not_at_stripe_is_not_linked(address: str) -> None:
    mail = render("subscription_restricted", "en", {"organisation": "Acme", "invoice_url": address}, public_url=URL)
    assert set(_Page(mail.html).links) == {f"{URL}/billing"}
    assert address not in mail.text


@pytest.mark.parametrize(
    "address", [INVOICE, "https://pay.stripe.com/invoice/acct_1/test_1?s=ap", "https://stripe.com/"]
)
def test_an_invoice_at_stripe_is_linked(address: str) -> None:
    assert invoice_link(address) == address


@given(
    address=st.text(max_size=60) | st.from_regex(r"https://[a-z.@:\\/#?-]{1,20}stripe\.com[!-~]{0,9}", fullmatch=True)
)
def test_what_is_linked_leads_to_stripe_as_browsers_read_it(address: str) -> None:
    if shown := invoice_link(address):
        host = parse_url(shown.replace("\\", "/")).host or ""
        assert host == "stripe.com" or host.endswith(".stripe.com")


def test_the_counterpart_stands_in_for_stripe_but_never_in_production() -> None:
    counterpart, address = "http://127.0.0.1:4243", "http://127.0.0.1:4243/invoices/1"
    assert invoice_link(address, counterpart) == address
    assert not invoice_link("http://127.0.0.1:4244/invoices/1", counterpart)
    assert counterpart_of(Settings(environment="test", stripe_api_url=counterpart)) == counterpart
    assert counterpart_of(Settings(environment="production", stripe_api_url=counterpart)) == ""


def _message(
    subject: str = "Hello", to: str = "ada@example.org", sender: str = "OGF <ogf@example.org>"
) -> EmailMessage:
    return message(
        Rendered(subject, "Text: grün\n", "<p>grün</p>\n"),
        mail_id=MAIL_ID, sender=sender, to=to, host="ogf.example", locale="de",
        at=datetime(2026, 11, 25, 18, tzinfo=UTC),
    )  # fmt: skip


def test_the_message_is_plain_ascii_on_the_wire_and_reads_back_as_written() -> None:
    made = _message("Grüße an Söhne " + "sehr " * 30, sender='"Öko, GmbH" <ogf@example.org>')
    wire = bytes(made)
    assert wire.isascii()
    assert all(len(line) <= 78 for line in wire.split(b"\r\n"))
    read = message_from_bytes(wire, policy=default)
    assert isinstance(read, EmailMessage)
    assert str(read["Subject"]).strip() == ("Grüße an Söhne " + "sehr " * 30).strip()
    assert read["From"].addresses[0].display_name == "Öko, GmbH"
    assert (read["Message-ID"], read["Auto-Submitted"]) == (f"<{MAIL_ID}@ogf.example>", "auto-generated")
    assert (read["Content-Language"], read["Date"].datetime.isoformat()) == ("de", "2026-11-25T18:00:00+00:00")
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert isinstance(plain, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert (plain.get_content().splitlines(), html.get_content().splitlines()) == (["Text: grün"], ["<p>grün</p>"])


INJECTIONS = [
    "a@b.example\r\nBcc: victim@example.org",
    "a@b.example\nBcc: v@e.org",
    "a@b.example\rX: y",
    "a\x00@b.example",
]


@pytest.mark.parametrize("address", [*INJECTIONS, "", "nobody", "a@b.example, c@d.example", "@", "a@"])
def test_an_address_that_would_break_a_header_or_is_none_is_refused(address: str) -> None:
    with pytest.raises(MailError):
        _message(to=address)
    with pytest.raises(MailError):
        _message(sender=address)


@pytest.mark.parametrize("subject", ["Hello\r\nBcc: victim@example.org", "Hello\nX: y", "Hello\rX: y"])
def test_a_subject_with_a_line_break_is_refused(subject: str) -> None:
    with pytest.raises(MailError):
        _message(subject=subject)


class _Page(HTMLParser):
    """Tags, links, language and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.language = ""
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "html":
            self.language = found.get("lang") or ""

    def handle_data(self, data: str) -> None:
        self.text += data


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for golden_case, golden_locale in CASES:
        for golden_name, golden_text in _golden(golden_case, golden_locale).items():
            (GOLDEN / golden_name).write_text(golden_text, encoding="utf-8")
