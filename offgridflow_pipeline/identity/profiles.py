"""What people may be called and where they get mail: one form, checked before it reaches a row, a mail or a page."""

from __future__ import annotations

import re
import unicodedata

from offgridflow_pipeline.identity.refusals import RefusedError

LOCALES = ("en", "de")
#: Mail that a person may decline; the rest is owed to them (security, invitations, money).
DECLINABLE_MAIL = frozenset({"key_expiring", "report_ready", "report_failed", "sync_failing", "restatement_proposed"})
MAXIMUM_NAME_LENGTH = 200
MAXIMUM_ADDRESS_LENGTH = 254
# RFC 5321 mailboxes without quoting; ASCII, because our mail goes to servers without SMTPUTF8 too.
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_ADDRESS = re.compile(rf"[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(\.{_LABEL})*")
#: Line breaks and other controls (header injection), and characters that turn text around (spoofed names).
_UNPRINTABLE = {"Cc", "Cs", "Co", "Zl", "Zp"}
#: Mail programs make links of these: names stand in mails that go to strangers.
_LINK = re.compile(r"://|\bwww\.", re.IGNORECASE)
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def address(text: str) -> str:
    """The e-mail address in the one spelling under which it is known.

    Raises:
        RefusedError: it is none that mail can be sent to.
    """
    found = text.strip().lower()
    if len(found) > MAXIMUM_ADDRESS_LENGTH or not _ADDRESS.fullmatch(found):
        raise RefusedError(
            "invalid_address", "This is no e-mail address: write it like name@example.com.", field="email"
        )
    return found


def display_name(text: str, *, field: str = "name") -> str:
    """The name on one line, composed (NFC), without blanks around it.

    Raises:
        RefusedError: nothing of it can be seen, it is too long, it holds controls or characters that turn text around,
            or a link.
    """
    found = unicodedata.normalize("NFC", text).strip()
    if any(unicodedata.category(c) in _UNPRINTABLE or c in _BIDIRECTIONAL for c in found):
        raise RefusedError("invalid_name", "A name stands on one line and holds no control characters.", field=field)
    if _LINK.search(found):
        raise RefusedError("invalid_name", "A name holds no address of a web page.", field=field)
    if not any(unicodedata.category(c)[0] in "LNPS" for c in found) or len(found) > MAXIMUM_NAME_LENGTH:
        raise RefusedError("invalid_name", f"A name has 1 to {MAXIMUM_NAME_LENGTH} characters.", field=field)
    return found


def locale(text: str) -> str:
    """The language of pages and mail.

    Raises:
        RefusedError: there are no texts in it.
    """
    if text not in LOCALES:
        raise RefusedError("invalid_locale", f"There are texts in {' and '.join(LOCALES)}.", field="locale")
    return text


def muted_mail(templates: list[str]) -> list[str]:
    """Templates that a person declines, each once.

    Raises:
        RefusedError: one of them is owed to everybody, or does not exist.
    """
    if set(templates) - DECLINABLE_MAIL:
        raise RefusedError(
            "invalid_template",
            f"Only {', '.join(sorted(DECLINABLE_MAIL))} may be declined.",
            field="muted_mail",
        )
    return sorted(set(templates))
