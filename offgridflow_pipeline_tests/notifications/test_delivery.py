"""Delivery: from the outbox to a real mail server, once; and what comes of refusals, broken connections and kills."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from uuid import UUID

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.outbox import OutboxMail
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.notifications import delivery
from offgridflow_pipeline.notifications.delivery import (
    LONGEST_RETRY,
    MAXIMUM_ATTEMPTS,
    Drainer,
    drain,
    retry_after,
    send_due,
)
from offgridflow_pipeline.notifications.outbox import enqueue
from offgridflow_pipeline.notifications.smtp import MailServerError
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.counterparts.smtp import USER, MailServer
from offgridflow_pipeline_tests.notifications.conftest import Person, settings_for

READY = {"organisation": "Acme", "period": "2026-09", "report_id": "rep_1"}
PATIENCE = 10.0


def _enqueue(database: Database, tenant: str, key: str = "k", to: str = "ada@example.org", **more: object) -> None:
    enqueue(database, tenant, "report_ready", to=to, vars=READY, dedupe_key=key, **more)


def _only(database: Database, tenant: str) -> OutboxMail:
    (mail,) = database.outbox.list(tenant)
    return mail


def test_a_mail_arrives_encrypted_and_signed_in_with_its_headers_and_both_parts(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    assert drain(outbox, settings) == 1
    (received,) = smtp.received
    mail = _only(outbox, tenant)
    assert (received.encrypted, received.user) == (True, USER)
    assert (received.sender, received.recipients) == ("noreply@ogf.example", ["ada@example.org"])
    headers = received.message
    assert headers["Message-ID"] == f"<{mail.mail_id}@ogf.example>"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["From"] == "OffGridFlow <noreply@ogf.example>"
    assert abs(headers["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert headers.get_content_type() == "multipart/alternative"
    assert "https://ogf.example/reports/rep_1" in received.part("plain")
    assert 'href="https://ogf.example/reports/rep_1"' in received.part("html")
    assert (mail.state, mail.attempts, mail.sent_at is not None) == ("sent", 1, True)


def test_what_is_sent_is_not_sent_again(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    assert [drain(outbox, settings), drain(outbox, settings)] == [1, 0]
    assert len(smtp.received) == 1


def test_mails_of_several_scopes_go_over_one_connection_in_turns(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    busy, quiet = sorted((new_tenant(), new_tenant()), key=lambda slug: outbox.tenants.get(slug).tenant_id)
    for number in range(delivery.MAILS_IN_TURN + 5):
        _enqueue(outbox, busy, f"k-{number}", to="busy@example.org")
    _enqueue(outbox, quiet, to="quiet@example.org")
    assert drain(outbox, settings) == delivery.MAILS_IN_TURN + 6
    order = [received.recipients[0] for received in smtp.received]
    assert order.index("quiet@example.org") == delivery.MAILS_IN_TURN


def test_a_temporary_refusal_is_tried_again_later(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    pass_time: Callable[[str], None],
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    smtp.refuse("RCPT", "451 greylisted")
    assert drain(outbox, settings) == 0
    mail = _only(outbox, tenant)
    assert (mail.state, mail.attempts, mail.last_error) == ("pending", 1, "451 greylisted")
    assert timedelta(seconds=10) < mail.next_at - datetime.now(UTC) < timedelta(seconds=31)
    assert drain(outbox, settings) == 0
    pass_time("31 seconds")
    assert drain(outbox, settings) == 1
    assert (_only(outbox, tenant).state, len(smtp.received)) == ("sent", 1)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_a_final_refusal_gives_the_mail_up_and_the_next_one_goes_out(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings, command: str
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant, "bad")
    _enqueue(outbox, tenant, "good")
    smtp.refuse(command, "550 no such person")
    assert drain(outbox, settings) == 1
    assert [(mail.state, mail.last_error) for mail in outbox.outbox.list(tenant)] == [
        ("dead", "550 no such person"),
        ("sent", None),
    ]


def test_a_broken_connection_lets_the_whole_queue_wait(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant, "first")
    _enqueue(outbox, tenant, "second")
    smtp.hang_up("before DATA")
    assert drain(outbox, settings) == 0
    assert [(mail.state, mail.attempts) for mail in outbox.outbox.list(tenant)] == [("pending", 1), ("pending", 0)]
    assert drain(outbox, settings) == 1  # the second; the first waits


def test_a_server_that_took_the_mail_but_did_not_say_so_gets_it_again_under_the_same_id(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    pass_time: Callable[[str], None],
) -> None:
    _enqueue(outbox, new_tenant())
    smtp.hang_up("after DATA")
    drain(outbox, settings)
    pass_time("1 minute")
    assert drain(outbox, settings) == 1
    first, second = (received.message["Message-ID"] for received in smtp.received)
    assert first == second


@pytest.mark.parametrize("why", ["nobody listens", "wrong password", "unknown certificate"])
def test_a_server_that_cannot_be_used_keeps_mails_pending(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings, why: str
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    changes = {
        "nobody listens": {"smtp_url": SecretStr(f"smtp://127.0.0.1:{free_port()}")},
        "wrong password": {"smtp_url": SecretStr(smtp.url.replace("word@", "guess@"))},
        "unknown certificate": {"smtp_ca_bundle": None},
    }
    assert drain(outbox, settings.model_copy(update=changes[why])) == 0
    mail = _only(outbox, tenant)
    assert (mail.state, smtp.received) == ("pending", [])
    assert re.search("refused|535|CERTIFICATE_VERIFY_FAILED", mail.last_error or "")
    assert "guess" not in (mail.last_error or "")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class KilledWhileSending:
    """A sender that dies before or after the server has the mail."""

    def __init__(self, handed_over: list[EmailMessage], *, after: bool) -> None:
        self._handed_over = handed_over
        self._after = after

    def send(self, message: EmailMessage) -> None:
        if self._after:
            self._handed_over.append(message)
        raise Killed


@pytest.mark.parametrize(("after", "copies"), [(False, 1), (True, 2)])
def test_a_kill_while_sending_loses_nothing_and_only_a_kill_after_the_servers_yes_sends_twice(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    pass_time: Callable[[str], None],
    after: bool,
    copies: int,
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    handed_over: list[EmailMessage] = []
    with pytest.raises(Killed):
        send_due(outbox, settings, KilledWhileSending(handed_over, after=after))
    assert _only(outbox, tenant).state == "sending"
    assert drain(outbox, settings) == 0  # the lease of the dead sender still holds
    pass_time("5 minutes")
    assert drain(outbox, settings) == 1
    ids = [message["Message-ID"] for message in (*handed_over, *(received.message for received in smtp.received))]
    assert (len(ids), len(set(ids))) == (copies, 1)
    assert (_only(outbox, tenant).state, _only(outbox, tenant).attempts) == ("sent", 2)


def test_a_sender_that_lost_its_lease_settles_nothing(
    outbox: Database, new_tenant: Callable[[], str], pass_time: Callable[[str], None]
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    slow = outbox.outbox.claim(tenant, delivery.LEASE)
    pass_time("5 minutes")
    quick = outbox.outbox.claim(tenant, delivery.LEASE)
    assert slow is not None
    assert quick is not None
    assert [outbox.outbox.give_up(tenant, slow, error="slow"), outbox.outbox.sent(tenant, quick)] == [False, True]
    assert _only(outbox, tenant).state == "sent"


def test_two_senders_at_once_send_every_mail_once(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    tenant = new_tenant()
    for number in range(12):
        _enqueue(outbox, tenant, f"k-{number}", to=f"p{number}@example.org")
    with ThreadPoolExecutor(2) as pool:
        sent = list(pool.map(lambda _: drain(outbox, settings), range(2)))
    assert sum(sent) == 12
    assert sorted(received.recipients[0] for received in smtp.received) == sorted(
        f"p{number}@example.org" for number in range(12)
    )


def test_a_mail_is_given_up_after_the_last_attempt(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    pass_time: Callable[[str], None],
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    smtp.refuse("RCPT", *["450 busy"] * MAXIMUM_ATTEMPTS)
    for _ in range(MAXIMUM_ATTEMPTS):
        assert drain(outbox, settings) == 0
        pass_time("5 hours")
    mail = _only(outbox, tenant)
    assert (mail.state, mail.attempts, mail.last_error) == ("dead", MAXIMUM_ATTEMPTS, "450 busy")


def test_a_mail_whose_every_sender_died_is_given_up(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    pass_time: Callable[[str], None],
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    for _ in range(MAXIMUM_ATTEMPTS):
        assert outbox.outbox.claim(tenant, delivery.LEASE) is not None
        pass_time("5 minutes")
    assert drain(outbox, settings) == 0
    assert (_only(outbox, tenant).state, smtp.received) == ("dead", [])


def test_waits_double_up_to_four_hours_and_last_about_two_days() -> None:
    longest = [retry_after(attempts, 1.0) for attempts in range(1, MAXIMUM_ATTEMPTS)]
    assert longest[:4] == [timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert longest[-1] == LONGEST_RETRY
    assert [retry_after(attempts, 0.0) * 2 for attempts in range(1, MAXIMUM_ATTEMPTS)] == longest
    assert timedelta(days=1) < sum(longest, timedelta()) < timedelta(days=2)


def test_who_declined_a_notice_or_left_the_tenant_gets_none(
    outbox: Database,
    new_tenant: Callable[[], str],
    new_person: Callable[..., Person],
    smtp: MailServer,
    settings: Settings,
) -> None:
    tenant = new_tenant()
    people = [
        new_person(tenant),
        new_person(tenant, ("report_ready",)),
        new_person(tenant, ("key_expiring",)),
        new_person(),
    ]
    for person in people:
        _enqueue(outbox, tenant, str(person.user_id), to=person.email, user_id=person.user_id)
    assert drain(outbox, settings) == 2
    assert {received.recipients[0] for received in smtp.received} == {people[0].email, people[2].email}
    assert [mail.state for mail in outbox.outbox.list(tenant)] == ["sent", "muted", "sent", "muted"]


def test_mail_about_the_safety_of_an_account_cannot_be_declined(
    outbox: Database, new_person: Callable[..., Person], smtp: MailServer, settings: Settings
) -> None:
    person = new_person(None, ("password_changed",))
    enqueue(
        outbox, "platform", "password_changed", to=person.email, user_id=person.user_id,
        vars={"at": datetime(2026, 11, 25, 18, tzinfo=UTC)}, dedupe_key="changed",
    )  # fmt: skip
    assert drain(outbox, settings) == 1
    assert smtp.received[0].message["Subject"] == "Your password was changed"


def _request_reset(database: Database, person: Person) -> UUID:
    reset_id = database.password_resets.request(person.user_id, timedelta(minutes=30))
    assert reset_id is not None
    enqueue(
        database, "platform", "password_reset", to=person.email, user_id=person.user_id,
        vars={"reset_id": reset_id}, dedupe_key=f"reset:{reset_id}",
    )  # fmt: skip
    return reset_id


def test_the_token_of_a_reset_is_made_when_its_mail_is_sent_and_stands_nowhere_else(
    outbox: Database, new_person: Callable[..., Person], smtp: MailServer, settings: Settings
) -> None:
    person = new_person()
    reset_id = _request_reset(outbox, person)
    assert drain(outbox, settings) == 1
    (token,) = set(re.findall(r"https://ogf\.example/reset-password\?token=([\w-]+)", smtp.received[0].part("plain")))
    pepper = settings.session_pepper.get_secret_value().encode()
    assert outbox.password_resets.by_token(keyed_hash("password_reset", token, pepper)) == (person.user_id, reset_id)
    (mail,) = outbox.outbox.list("platform")
    assert token not in repr(mail)
    assert hashlib.sha256(token.encode()).hexdigest() not in repr(mail)


def test_a_reset_that_was_replaced_meanwhile_is_not_sent(
    outbox: Database, new_person: Callable[..., Person], smtp: MailServer, settings: Settings
) -> None:
    person = new_person()
    _request_reset(outbox, person)
    _request_reset(outbox, person)
    assert drain(outbox, settings) == 1
    assert [mail.state for mail in outbox.outbox.list("platform")] == ["muted", "sent"]
    assert len(smtp.received) == 1


def test_an_invitation_mail_carries_the_token_of_its_invitation(
    outbox: Database, new_tenant: Callable[[], str], smtp: MailServer, settings: Settings
) -> None:
    tenant = new_tenant()
    invitation = outbox.invitations.add(
        tenant, "new@example.org", "viewer", invited_by="system", lifetime=timedelta(days=7), membership_expires_at=None
    )
    enqueue(
        outbox, tenant, "invitation", to="new@example.org", locale="de",
        vars={"invitation_id": invitation.invitation_id, "organisation": "Acme"}, dedupe_key="invitation",
    )  # fmt: skip
    assert drain(outbox, settings) == 1
    received = smtp.received[0]
    assert received.message["Subject"] == "Einladung zu Acme auf OffGridFlow"
    assert received.message["Content-Language"] == "de"
    (token,) = set(re.findall(r"https://ogf\.example/invitation\?token=([\w-]+)", received.part("plain")))
    pepper = settings.session_pepper.get_secret_value().encode()
    found = outbox.invitations.by_token(keyed_hash("invitation", token, pepper))
    assert found is not None
    assert found.invitation_id == invitation.invitation_id


def test_without_a_mail_server_mails_wait(outbox: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    assert [drain(outbox, settings_for(None, environment)) for environment in ("test", "production")] == [0, 0]
    assert (_only(outbox, tenant).state, _only(outbox, tenant).attempts) == ("pending", 0)


def test_development_without_a_mail_server_writes_the_mail_to_the_log_once(
    outbox: Database, new_tenant: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant)
    with caplog.at_level(logging.WARNING, "offgridflow.mail"):
        assert [drain(outbox, settings_for(None, "development")) for _ in range(2)] == [1, 0]
    assert [record.getMessage().count("https://ogf.example/reports/rep_1") for record in caplog.records] == [1]
    assert _only(outbox, tenant).state == "sent"


def test_settled_mails_are_removed_after_thirty_days_and_waiting_ones_are_not(
    outbox: Database, new_tenant: Callable[[], str], settings: Settings, pass_time: Callable[[str], None]
) -> None:
    tenant = new_tenant()
    _enqueue(outbox, tenant, "sent")
    drain(outbox, settings)
    pass_time("29 days")
    _enqueue(outbox, tenant, "waits")
    assert outbox.outbox.claim(tenant, timedelta(days=90)) is not None
    drain(outbox, settings)
    assert [mail.dedupe_key for mail in outbox.outbox.list(tenant)] == ["sent", "waits"]
    pass_time("31 days")
    drain(outbox, settings)
    assert [mail.dedupe_key for mail in outbox.outbox.list(tenant)] == ["waits"]


def test_the_drainer_sends_when_nudged_and_lives_through_failures(
    outbox: Database,
    new_tenant: Callable[[], str],
    smtp: MailServer,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rounds: list[str] = []
    done = threading.Semaphore(0)

    def watched(database: Database, of: Settings) -> int:
        rounds.append("round")
        try:
            if len(rounds) == 2:
                raise RuntimeError("the database went away")
            return drain(database, of)
        finally:
            done.release()

    monkeypatch.setattr(delivery, "drain", watched)
    drainer = Drainer(outbox, settings, tick_seconds=3600)
    drainer.start()
    try:
        assert done.acquire(timeout=PATIENCE)
        _enqueue(outbox, new_tenant())
        for _ in range(2):
            drainer.nudge()
            assert done.acquire(timeout=PATIENCE)
    finally:
        drainer.stop()
    assert len(smtp.received) == 1
    assert "The outbox could not be emptied" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "mail"]


@pytest.mark.parametrize("url", ["http://host", "smtp://", "smtp://host:none", "mail.example.org"])
def test_a_mail_server_setting_that_cannot_be_used_is_refused_at_the_start(outbox: Database, url: str) -> None:
    with pytest.raises(MailServerError, match="SMTP_URL"):
        Drainer(outbox, settings_for(None).model_copy(update={"smtp_url": SecretStr(url)}))
