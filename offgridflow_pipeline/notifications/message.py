"""A mail as a MIME message: text and HTML beside each other, headers that machines understand.

Its Message-ID is the id of the outbox row: a mail sent twice (the sender died between sending and noting it) carries
the same one, so that mail programs and people recognise it.
"""

from __future__ import annotations

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, getaddresses
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.notifications.templates import MailError

if TYPE_CHECKING:
    from offgridflow_pipeline.notifications.templates import Rendered


def message(
    rendered: Rendered, *, mail_id: UUID, sender: str, to: str, host: str, locale: str, at: datetime
) -> EmailMessage:
    """The mail of one person; `host` is the right side of its Message-ID.

    Raises:
        MailError: an address or the subject would break the header.
    """
    made = EmailMessage(policy=SMTP)
    try:
        made["From"] = _address(sender)
        made["To"] = _address(to)
        made["Subject"] = rendered.subject
        made["Date"] = format_datetime(at)
        made["Message-ID"] = f"<{mail_id}@{host}>"
        made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices in return
    except (ValueError, IndexError) as error:  # CR or LF in a header, or no address (the parser's IndexError)
        raise MailError(f"A header of the mail is refused: {error}.") from error
    made.set_content(rendered.text, cte="quoted-printable")
    made.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    made["Content-Language"] = locale  # after the content, which takes headers of that kind for its own
    return made


def _address(text: str) -> Address:
    if not text.isprintable():
        raise MailError("An address holds a line break or control character.")
    found = getaddresses([text])
    if len(found) != 1:
        raise MailError("A mail goes from one address to one.")
    ((name, address),) = found
    return Address(display_name=name, addr_spec=address)
