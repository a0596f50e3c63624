"""Talking to a mail server: never without encryption, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from offgridflow_pipeline.notifications.smtp import (
    MailServer,
    ServerAwayError,
    SmtpSender,
    TryLaterError,
    UndeliverableError,
    mail_server,
)
from offgridflow_pipeline_tests.counterparts import smtp as counterpart
from offgridflow_pipeline_tests.counterparts.smtp import smtp_server


def _mail() -> EmailMessage:
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = "ogf@example.org", "ada@example.org", "Hello"
    made.set_content("Text")
    return made


@pytest.fixture
def sender(smtp: counterpart.MailServer) -> Iterator[SmtpSender]:
    with SmtpSender(mail_server(smtp.url, smtp.ca_bundle), "ogf.example") as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd does not count implicit TLS as TLS
def test_implicit_tls_works_as_starttls_does(tmp_path: Path) -> None:
    with smtp_server(tmp_path, implicit_tls=True) as server:
        with SmtpSender(mail_server(server.url, server.ca_bundle), "ogf.example") as sender:
            sender.send(_mail())
        (received,) = server.received
    assert (received.encrypted, received.user) == (True, counterpart.USER)


def test_a_server_without_encryption_is_not_used(tmp_path: Path) -> None:
    with smtp_server(tmp_path, starttls=False) as server:
        with (
            SmtpSender(mail_server(server.url, server.ca_bundle), "ogf.example") as sender,
            pytest.raises(ServerAwayError, match="STARTTLS"),
        ):
            sender.send(_mail())
        assert (server.received, server.commands) == ([], [])


def test_a_certificate_of_another_authority_is_refused_before_the_password_is_said(
    smtp: counterpart.MailServer,
) -> None:
    with (
        SmtpSender(mail_server(smtp.url), "ogf.example") as sender,
        pytest.raises(ServerAwayError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        sender.send(_mail())
    assert smtp.commands == []


def test_several_mails_go_over_one_connection(smtp: counterpart.MailServer, sender: SmtpSender) -> None:
    for _ in range(3):
        sender.send(_mail())
    assert len(smtp.received) == 3
    assert smtp.greeted == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [("450 later", TryLaterError), ("550 never", UndeliverableError), ("421 closing", ServerAwayError)],
)
def test_4xx_is_for_later_5xx_is_for_ever_and_421_means_the_server(
    smtp: counterpart.MailServer, sender: SmtpSender, command: str, answer: str, error: type[Exception]
) -> None:
    smtp.refuse(command, answer)
    with pytest.raises(error, match=answer) as caught:
        sender.send(_mail())
    assert type(caught.value) is error
    sender.send(_mail())  # the next mail goes out, over a new connection where need be
    assert len(smtp.received) == 1


def test_an_address_outside_of_ascii_needs_a_server_that_takes_it(
    smtp: counterpart.MailServer, sender: SmtpSender
) -> None:
    mail = _mail()
    mail.replace_header("To", "jürgen@example.org")
    with pytest.raises(UndeliverableError, match="SMTPUTF8"):
        sender.send(mail)
    assert smtp.received == []


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example.org", MailServer("mail.example.org", 587, False, "", "")),
        ("smtps://u:p%40ss%2F@mail.example.org", MailServer("mail.example.org", 465, True, "u", "p@ss/")),
        ("smtp://u@[2001:db8::1]:2525", MailServer("2001:db8::1", 2525, False, "u", "")),
    ],
)
def test_the_url_names_host_port_encryption_and_sign_in(url: str, server: MailServer) -> None:
    assert mail_server(url) == server
    assert "p@ss" not in repr(server)
