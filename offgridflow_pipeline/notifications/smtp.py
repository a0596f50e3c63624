"""Sending over SMTP: always encrypted, the server's certificate checked, every wait bounded.

What a server says is sorted into three: sent, `UndeliverableError` (5xx: never), `TryLaterError` (4xx, or the server
is away: `ServerAwayError`, then the rest of the queue waits too).
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path

PORTS = {"smtp": 587, "smtps": 465}
TIMEOUT_SECONDS = 10.0
_PERMANENT = 500
_CLOSING = 421


class MailServerError(ValueError):
    """The setting of the mail server cannot be used; the message says why."""


class TryLaterError(RuntimeError):
    """The server did not take the mail now."""


class ServerAwayError(TryLaterError):
    """The server is out of reach, refuses the sign-in, or is not the one its certificate should name."""


class UndeliverableError(RuntimeError):
    """The server will never take the mail."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails go. Without `implicit_tls` the connection is encrypted by STARTTLS, or not used."""

    host: str
    port: int
    implicit_tls: bool
    user: str
    password: str = field(repr=False)
    ca_bundle: Path | None = None


def mail_server(url: str, ca_bundle: Path | None = None) -> MailServer:
    """The server of an ``smtp://`` or ``smtps://`` URL.

    Raises:
        MailServerError: the URL has another form.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in PORTS or not parts.hostname or port == -1:
        raise MailServerError("OFFGRIDFLOW_SMTP_URL: write smtp://user:password@host:587 or smtps://…:465.")
    return MailServer(
        parts.hostname,
        port or PORTS[parts.scheme],
        parts.scheme == "smtps",
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        ca_bundle,
    )


class SmtpSender:
    """Sends over one connection, opened for the first mail and anew after it broke. A context manager."""

    def __init__(self, server: MailServer, own_host: str) -> None:
        """`own_host` is the name that this side greets with."""
        self._server = server
        self._own_host = own_host
        self._connection: smtplib.SMTP | None = None

    def __enter__(self) -> SmtpSender:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def send(self, message: EmailMessage) -> None:
        """Hand the mail to the server.

        Raises:
            UndeliverableError: the server will never take it.
            TryLaterError: the server did not take it now.
        """
        connection = self._connected()
        try:
            connection.send_message(message, parseaddr(message["From"])[1], [parseaddr(message["To"])[1]])
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refused(*next(iter(error.recipients.values()))) from error
        except smtplib.SMTPNotSupportedError as error:  # an address outside of ASCII, a server without SMTPUTF8
            raise UndeliverableError(str(error)) from error
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, error.smtp_error) from error
        except (OSError, smtplib.SMTPException) as error:
            self._close()
            raise ServerAwayError(_words(error)) from error

    def _connected(self) -> smtplib.SMTP:
        if self._connection is None:
            try:
                self._connection = self._connect()
            except (OSError, smtplib.SMTPException) as error:
                raise ServerAwayError(_words(error)) from error
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        trust = ssl.create_default_context(cafile=server.ca_bundle)
        connection: smtplib.SMTP
        if server.implicit_tls:
            connection = smtplib.SMTP_SSL(
                server.host, server.port, self._own_host, timeout=TIMEOUT_SECONDS, context=trust
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, self._own_host, timeout=TIMEOUT_SECONDS)
        try:
            if not server.implicit_tls:
                connection.starttls(context=trust)
            if server.user:
                connection.login(server.user, server.password)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refused(self, code: int, said: bytes | str) -> UndeliverableError | TryLaterError:
        text = f"{code} {_decoded(said)}"
        if code >= _PERMANENT:
            return UndeliverableError(text)
        if code == _CLOSING:
            self._close()
            return ServerAwayError(text)
        return TryLaterError(text)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.quit()
        except (OSError, smtplib.SMTPException):
            connection.close()


def _words(error: Exception) -> str:
    """What went wrong; the server's answer to a sign-in holds no password."""
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_decoded(error.smtp_error)}"
    return f"{type(error).__name__}: {error}"


def _decoded(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
