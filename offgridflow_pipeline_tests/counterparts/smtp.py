"""A mail server for tests: aiosmtpd with STARTTLS or implicit TLS, sign-in, and answers by script.

It keeps what it accepted. `refuse` queues an answer for the next command of a name; `hang_up` breaks the connection
off instead, before or after the mail was kept.
"""

from __future__ import annotations

import ssl
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import MISSING, AuthResult, Envelope, LoginPassword, Session

from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.counterparts.scripted_server import own_certificate

USER = "mailer"
PASSWORD = "p@ss/word"  # needs quoting in a URL


@dataclass(frozen=True, slots=True)
class Received:
    """A mail the server accepted, and how it came."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    encrypted: bool
    user: str | None

    def part(self, subtype: Literal["plain", "html"]) -> str:
        """Text of that part."""
        body = self.message.get_body((subtype,))
        assert isinstance(body, EmailMessage)
        return str(body.get_content())


@dataclass
class MailServer:
    """A running server; `url` is the setting for it."""

    url: str
    ca_bundle: Path
    received: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    greeted: int = 0
    _script: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))

    def refuse(self, command: Literal["MAIL", "RCPT", "DATA"], *answers: str) -> None:
        """Answer the next commands of that name so, such as ``451 later``; an empty answer lets one pass."""
        self._script[command].extend(answers)

    def start_over(self) -> None:
        """Forget what was received and what was scripted."""
        self.received.clear()
        self.commands.clear()
        self.greeted = 0
        self._script.clear()

    def hang_up(self, when: Literal["before DATA", "after DATA"]) -> None:
        """Break the next connection off: before the mail is kept, or after it but before saying so."""
        self._script["DATA"].append(when)

    async def handle_AUTH(  # names of aiosmtpd
        self, _server: Any, _session: Session, _envelope: Envelope, _arguments: list[str]
    ) -> object:
        self.greeted += 1
        return MISSING  # goes on as without this method

    async def handle_MAIL(
        self, _server: Any, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self._answer("MAIL")
        if not answer:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or "250 OK"

    async def handle_RCPT(
        self, _server: Any, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self._answer("RCPT")
        if not answer:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        answer = self._answer("DATA")
        if answer == "before DATA":
            server.transport.abort()
            return "421 gone"
        if answer and answer != "after DATA":
            return answer
        self._keep(session, envelope)
        if answer == "after DATA":
            server.transport.abort()
        return "250 OK"

    def _answer(self, command: str) -> str:
        self.commands.append(command)
        script = self._script[command]
        return script.popleft() if script else ""

    def _keep(self, session: Session, envelope: Envelope) -> None:
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=default)
        assert isinstance(message, EmailMessage)
        login = session.auth_data
        self.received.append(
            Received(
                envelope.mail_from or "",
                list(envelope.rcpt_tos),
                message,
                session.ssl is not None or self.url.startswith("smtps"),
                login.decode() if isinstance(login, bytes) else None,
            )
        )


def _authenticated(_server: Any, _session: Session, _envelope: Envelope, _mechanism: str, login: Any) -> AuthResult:
    good = isinstance(login, LoginPassword) and (login.login, login.password) == (USER.encode(), PASSWORD.encode())
    # handled=False: with the default, aiosmtpd says nothing to a wrong password and the client waits for ever
    return AuthResult(success=good, handled=False, auth_data=USER.encode() if good else None)


@contextmanager
def smtp_server(folder: Path, *, implicit_tls: bool = False, starttls: bool = True) -> Iterator[MailServer]:
    """A server with a certificate of its own for 127.0.0.1; `starttls=False` offers no encryption at all."""
    certificate = own_certificate(folder)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(certificate)
    port = free_port()
    scheme = "smtps" if implicit_tls else "smtp"
    server = MailServer(f"{scheme}://{USER}:p%40ss%2Fword@127.0.0.1:{port}", certificate)
    encryption: dict[str, Any] = {}
    if implicit_tls:
        encryption = {"ssl_context": trust, "auth_require_tls": False}
    elif starttls:
        encryption = {"tls_context": trust, "require_starttls": True}
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=port,
        authenticator=_authenticated,
        auth_required=implicit_tls or starttls,
        enable_SMTPUTF8=False,
        **encryption,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()
