"""Into the outbox: a mail is written in the transaction of the change it tells of, and sent afterwards.

Which templates there are, and what each needs, stands in `data/templates.csv`; sending is `delivery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.notifications.templates import MailError, locale_of, subject_of, template_of

if TYPE_CHECKING:
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database

MAXIMUM_ADDRESS_LENGTH = 254


def enqueue(
    database: Database,
    tenant: str,
    template: str,
    *,
    to: str,
    user_id: UUID | None = None,
    locale: str = "en",
    vars: Mapping[str, Any],
    dedupe_key: str,
) -> bool:
    """Write a mail in the bound transaction; False when one of that `dedupe_key` is there already.

    `tenant` is a slug, or "platform" for mail to a person that concerns no tenant. `vars` never hold a token:
    it is made when the mail is sent. With `user_id`, who declined the template or left the tenant gets nothing.

    Raises:
        MailError: no such template, a variable is missing, or an address or subject would break the header.
    """
    if missing := sorted(template_of(template).variables - vars.keys()):
        raise MailError(f"Mail {template} needs {', '.join(missing)}.")
    if len(to) > MAXIMUM_ADDRESS_LENGTH or not to.isprintable() or " " in to or to.count("@") != 1:
        raise MailError(f"Mail {template}: the address is none.")
    language, variables = locale_of(locale), {name: _plain(value) for name, value in vars.items()}
    if not subject_of(template, language, variables).isprintable():
        raise MailError(f"Mail {template}: line breaks and control characters may not stand in the subject.")
    return database.outbox.add(
        tenant, template, to=to, user_id=user_id, locale=language, variables=variables, dedupe_key=dedupe_key
    )


def _plain(value: object) -> object:
    """The value as JSON knows it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
