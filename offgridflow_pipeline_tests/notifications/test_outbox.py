"""The outbox: mails are written with the change they tell of, once, and never in a form that could break a header."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.notifications.outbox import enqueue
from offgridflow_pipeline.notifications.templates import MailError

READY = {"organisation": "Acme", "period": "2026-09", "report_id": "rep_1"}


def _enqueue(database: Database, tenant: str, **changes: Any) -> bool:
    mail: dict[str, Any] = {"to": "ada@example.org", "vars": READY, "dedupe_key": "k", **changes}
    return enqueue(database, tenant, mail.pop("template", "report_ready"), **mail)


def test_the_same_event_makes_one_mail_however_often_it_is_written(
    outbox: Database, new_tenant: Callable[[], str]
) -> None:
    tenant, other = new_tenant(), new_tenant()
    assert [_enqueue(outbox, tenant), _enqueue(outbox, tenant), _enqueue(outbox, other)] == [True, False, True]
    assert (len(outbox.outbox.list(tenant)), len(outbox.outbox.list(other))) == (1, 1)


def test_a_mail_is_undone_with_the_change_it_tells_of(outbox: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    with pytest.raises(RuntimeError), outbox.tenant(tenant) as scope:
        _enqueue(outbox.within(scope), tenant)
        raise RuntimeError("the change failed")
    assert outbox.outbox.list(tenant) == []
    with outbox.tenant(tenant) as scope:
        _enqueue(outbox.within(scope), tenant)
    assert [mail.state for mail in outbox.outbox.list(tenant)] == ["pending"]


def test_the_pipeline_writes_mails_too(database: Database, outbox: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    assert _enqueue(database, tenant)
    assert len(outbox.outbox.list(tenant)) == 1


def test_times_and_ids_are_kept_as_text(outbox: Database, new_tenant: Callable[[], str]) -> None:
    tenant, report_id = new_tenant(), uuid4()
    at = datetime(2026, 11, 25, 18, tzinfo=UTC)
    _enqueue(outbox, tenant, vars={**READY, "report_id": report_id, "at": at, "count": 3, "note": None})
    (mail,) = outbox.outbox.list(tenant)
    assert mail.vars == {
        **READY, "report_id": str(report_id), "at": "2026-11-25T18:00:00+00:00", "count": 3, "note": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"to": "ada@example.org\r\nBcc: victim@example.org"}, "address"),
        ({"to": "ada@example.org\nBcc: victim@example.org"}, "address"),
        ({"to": "ada lovelace@example.org"}, "address"),
        ({"to": "nobody"}, "address"),
        ({"to": "a" * 250 + "@b.de"}, "address"),
        ({"vars": {**READY, "organisation": "Acme\r\nBcc: victim@example.org"}}, "subject"),
        ({"vars": {**READY, "organisation": "Acme\x00"}}, "subject"),
        ({"vars": {"organisation": "Acme"}}, "period, report_id"),
        ({"template": "newsletter"}, "newsletter"),
    ],
)
def test_what_would_break_a_header_or_has_no_words_is_refused_before_it_is_written(
    outbox: Database, new_tenant: Callable[[], str], change: dict[str, Any], says: str
) -> None:
    tenant = new_tenant()
    with pytest.raises(MailError, match=says):
        _enqueue(outbox, tenant, **change)
    assert outbox.outbox.list(tenant) == []


def test_a_tenants_mails_are_its_own(outbox: Database, new_tenant: Callable[[], str]) -> None:
    tenant, other = new_tenant(), new_tenant()
    _enqueue(outbox, tenant)
    assert outbox.outbox.scopes() == [tenant]
    assert outbox.outbox.list(other) == outbox.outbox.list("platform") == []
