"""Emptying the outbox: claim a mail, mint its token, send it, note what came of it.

At least once: a sender that dies between the server's yes and noting it leaves the mail to be sent again when its lease
ends, under the same Message-ID. No database transaction is open while the server is talked to. Called right after
a commit by the sidecar's `Drainer`, and by the Dagster sensor `outbox` as safety net. See docs/mail.md.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from offgridflow_pipeline.identity import single_use
from offgridflow_pipeline.identity.single_use import NothingToMintError
from offgridflow_pipeline.notifications.invoice_links import counterpart_of
from offgridflow_pipeline.notifications.message import message
from offgridflow_pipeline.notifications.smtp import (
    ServerAwayError,
    SmtpSender,
    TryLaterError,
    UndeliverableError,
    mail_server,
)
from offgridflow_pipeline.notifications.templates import MailError, locale_of, render, template_of

if TYPE_CHECKING:
    from email.message import EmailMessage

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.outbox import OutboxMail
    from offgridflow_pipeline.settings import Settings

log = logging.getLogger("offgridflow.mail")
#: Longer than the slowest talk with a server (a dozen steps of 10 s each).
LEASE = timedelta(minutes=5)
FIRST_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(hours=4)
#: With these waits, about two days.
MAXIMUM_ATTEMPTS = 20
#: Taken from one scope before the others have their turn.
MAILS_IN_TURN = 10


class Sender(Protocol):
    """Hands mails over; raises as `SmtpSender.send`."""

    def send(self, message: EmailMessage) -> None:
        """Hand one mail over."""
        ...


class LogSender:
    """Development without a mail server: the text, links included, goes to the log."""

    def send(self, message: EmailMessage) -> None:
        """Write the mail to the log."""
        body = message.get_body(("plain",))
        text = body.get_content() if body is not None else ""
        log.warning("Mail to %s: %s\n%s", message["To"], message["Subject"], text)


def drain(database: Database, settings: Settings) -> int:
    """Send what is due; returns how many mails were sent. Needs the sidecar's role, for tokens.

    Without a mail server nothing is sent, except that development writes mails to its log.

    Raises:
        MailServerError: the setting of the mail server cannot be used.
    """
    if url := settings.smtp_url.get_secret_value():
        with SmtpSender(mail_server(url, settings.smtp_ca_bundle), host_of(settings)) as sender:
            sent = send_due(database, settings, sender)
    elif settings.environment == "development":
        sent = send_due(database, settings, LogSender())
    else:
        sent = 0
    database.outbox.remove_old()
    return sent


def send_due(
    database: Database, settings: Settings, sender: Sender, jitter: Callable[[], float] = random.random
) -> int:
    """Send what is due, scopes in turn, until nothing is or the server is away; returns how many were sent."""
    delivery = _Delivery(database, settings, sender, jitter)
    try:
        while sum(delivery.turn(tenant) for tenant in database.outbox.scopes()):
            pass
    except ServerAwayError as error:
        log.warning("The mail server is away, mails wait: %s", error)
    return delivery.sent


def host_of(settings: Settings) -> str:
    """Host of the public URL: the right side of Message-IDs, and what the mail server is greeted with."""
    return urlsplit(settings.public_url).hostname or "localhost"


def retry_after(attempts: int, jitter: float) -> timedelta:
    """Wait after so many attempts: 30 s, doubling up to hours; of that, half and a share (`jitter`) of the rest."""
    doublings = min(attempts - 1, MAXIMUM_ATTEMPTS)
    longest: timedelta = min(FIRST_RETRY * 2**doublings, LONGEST_RETRY)
    return longest * (0.5 + jitter / 2)


class _Delivery:
    """One emptying of the outbox."""

    def __init__(self, database: Database, settings: Settings, sender: Sender, jitter: Callable[[], float]) -> None:
        self._outbox = database.outbox
        self._database = database
        self._settings = settings
        self._sender = sender
        self._jitter = jitter
        self.sent = 0

    def turn(self, tenant: str) -> int:
        """Deliver some mails of the scope; returns how many it took up."""
        for taken in range(MAILS_IN_TURN):
            mail = self._outbox.claim(tenant, LEASE)
            if mail is None:
                return taken
            self._deliver(tenant, mail)
        return MAILS_IN_TURN

    def _deliver(self, tenant: str, mail: OutboxMail) -> None:
        if mail.attempts > MAXIMUM_ATTEMPTS:
            self._give_up(tenant, mail, "The sender was interrupted at every attempt.")
            return
        try:
            if not self._is_wanted(tenant, mail):
                self._outbox.mute(tenant, mail, reason="Declined, or no member any more.")
                return
            self._sender.send(self._message(tenant, mail))
        except TryLaterError as error:
            self._retry(tenant, mail, error)
            if isinstance(error, ServerAwayError):
                raise
        except NothingToMintError as error:  # used, revoked or expired meanwhile: nobody waits for it
            self._outbox.mute(tenant, mail, reason=str(error))
        except (UndeliverableError, MailError) as error:
            self._give_up(tenant, mail, str(error))
        else:
            self.sent += 1
            if not self._outbox.sent(tenant, mail):
                log.warning("Mail %s took longer than its lease: it may be sent twice.", mail.mail_id)

    def _is_wanted(self, tenant: str, mail: OutboxMail) -> bool:
        """Notices to a person ask whether they want them; what keeps an account safe always goes out."""
        if mail.user_id is None or not template_of(mail.template).declinable:
            return True
        return self._outbox.is_wanted(tenant, mail.user_id, mail.template)

    def _message(self, tenant: str, mail: OutboxMail) -> EmailMessage:
        locale = locale_of(mail.locale)
        rendered = render(
            mail.template,
            locale,
            mail.vars,
            public_url=self._settings.public_url,
            token=self._token(tenant, mail),
            counterpart=counterpart_of(self._settings),
        )
        return message(
            rendered,
            mail_id=mail.mail_id,
            sender=self._settings.mail_from,
            to=mail.to_addr,
            host=host_of(self._settings),
            locale=locale,
            at=datetime.now(UTC),
        )

    def _token(self, tenant: str, mail: OutboxMail) -> str:
        """The mail's token, made now: a mail that is sent again carries another, and the older one is void."""
        pepper = self._settings.session_pepper.get_secret_value().encode()
        match template_of(mail.template).token:
            case "reset" if mail.user_id is not None:
                return single_use.mint_reset(self._database, mail.user_id, UUID(mail.vars["reset_id"]), pepper)
            case "reset":
                raise MailError("A reset belongs to a person: the mail has no user_id.")
            case "invitation":
                return single_use.mint_invitation(self._database, tenant, UUID(mail.vars["invitation_id"]), pepper)
            case _:
                return ""

    def _retry(self, tenant: str, mail: OutboxMail, error: TryLaterError) -> None:
        if mail.attempts >= MAXIMUM_ATTEMPTS:
            self._give_up(tenant, mail, str(error))
            return
        self._outbox.retry(tenant, mail, after=retry_after(mail.attempts, self._jitter()), error=str(error))

    def _give_up(self, tenant: str, mail: OutboxMail, error: str) -> None:
        log.error("Mail %s (%s) is not sent: %s", mail.mail_id, mail.template, error)
        self._outbox.give_up(tenant, mail, error=error)


class Drainer:
    """A thread that empties the outbox when nudged, and every half minute for what is to be tried again."""

    def __init__(self, database: Database, settings: Settings, tick_seconds: float = 30.0) -> None:
        """Refuses a mail server setting that cannot be used (MailServerError)."""
        if url := settings.smtp_url.get_secret_value():
            mail_server(url)
        self._database = database
        self._settings = settings
        self._tick_seconds = tick_seconds
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def start(self) -> None:
        """Begin; mails that wait are sent at once."""
        self._wake.set()
        self._thread.start()

    def nudge(self) -> None:
        """Say that a mail was committed. Returns at once; what goes wrong is logged."""
        self._wake.set()

    def stop(self, timeout_seconds: float = 15.0) -> None:
        """End after the mail at hand. What is not settled then is sent again when its lease ends."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._tick_seconds)
            self._wake.clear()
            if self._stopping:
                return
            try:
                drain(self._database, self._settings)
            except Exception:  # the thread must live on; what failed is tried again at the next tick
                log.exception("The outbox could not be emptied")
