"""The inbox on a real database: stored once, claimed by one at a time, tried again later, dead after ten attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.external_events import (
    FIRST_WAIT,
    JITTER,
    LONGEST_WAIT,
    MAXIMUM_ATTEMPTS,
    OUTAGE_WAIT,
    ExternalEvents,
    InboxError,
    NewEvent,
)

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
_SOURCES = count()


@pytest.fixture
def source(database: Database) -> Iterator[str]:
    """A source of this test alone, so that no other test claims its events."""
    name = "source" + "".join(chr(ord("a") + int(digit)) for digit in str(next(_SOURCES)))
    yield name
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("delete from ogf.external_events where source = :source"), {"source": name})


@pytest.fixture
def inbox(database: Database, source: str) -> ExternalEvents:
    """The inbox as the pipeline sees it."""
    return ExternalEvents(database, source)


@pytest.fixture
def change(database: Database, source: str) -> Callable[[str], None]:
    """Changes events past the rules, as time would: `change("lease_until = ...")`."""

    def changed(assignments: str) -> None:
        with database.admin_engine.begin() as connection:
            connection.execute(
                sa.text(f"update ogf.external_events set {assignments} where source = :source"), {"source": source}
            )

    return changed


def event(external_id: str, **changes: Any) -> NewEvent:
    payload = external_id.encode()
    values: dict[str, Any] = {
        "external_id": external_id, "event_type": "invoice.paid", "object_id": "in_1", "customer_id": f"cus_{external_id}",
        "api_version": "2026-10-28.endive", "event_created": AT, "livemode": False, "payload": payload,
        "payload_sha256": sha256(payload).digest(),
    }  # fmt: skip
    return NewEvent(**{**values, **changes})


def ids(events: list[Any]) -> list[str]:
    return [found.external_id for found in events]


def test_the_sidecar_stores_an_event_once_and_the_pipeline_finds_it(
    api_database: Database, inbox: ExternalEvents, source: str
) -> None:
    door = ExternalEvents(api_database, source)
    assert [door.add(event("evt_1")), door.add(event("evt_1", event_type="invoice.voided"))] == [True, False]
    found = inbox.oldest_due()
    assert found is not None
    assert (found.external_id, found.event_type, found.customer_id) == ("evt_1", "invoice.paid", "cus_evt_1")
    assert (found.state, found.attempts, found.event_created) == ("pending", 0, AT)


def test_of_one_event_delivered_by_many_at_once_one_copy_is_stored(api_database: Database, source: str) -> None:
    door, ready = ExternalEvents(api_database, source), threading.Barrier(5)

    def deliver(_number: int) -> bool:
        ready.wait(10)
        return door.add(event("evt_1"))

    with ThreadPoolExecutor(5) as senders:
        assert sorted(senders.map(deliver, range(5))) == [False] * 4 + [True]


def test_an_event_of_a_type_that_nobody_handles_is_kept_and_never_due(inbox: ExternalEvents) -> None:
    assert inbox.add(event("evt_1", ignored=True))
    assert inbox.oldest_due() is None
    assert inbox.claim() == []
    assert [(found.state, found.settled_at is not None) for found in inbox.newest(["ignored"])] == [("ignored", True)]


def test_events_are_claimed_oldest_first_as_many_as_asked_for(inbox: ExternalEvents) -> None:
    for number in (3, 1, 2):
        inbox.add(event(f"evt_{number}"))
    assert ids(inbox.claim(2)) == ["evt_3", "evt_1"]
    (rest,) = inbox.claim(2)
    assert (rest.external_id, rest.state, rest.attempts) == ("evt_2", "processing", 1)
    assert inbox.claim(2) == []


def test_with_an_event_come_the_due_ones_of_its_customer_beyond_the_number_asked_for(inbox: ExternalEvents) -> None:
    for number, customer in enumerate(["cus_a", "cus_b", "cus_a", "", "", "cus_b"]):
        inbox.add(event(f"evt_{number}", customer_id=customer))
    assert ids(inbox.claim(1)) == ["evt_0", "evt_2"]
    assert ids(inbox.claim(2)) == ["evt_1", "evt_3", "evt_5"]
    assert ids(inbox.claim(2)) == ["evt_4"]


def test_who_lost_a_claim_neither_settles_nor_fails_the_one_after(
    inbox: ExternalEvents, change: Callable[[str], None]
) -> None:
    inbox.add(event("evt_1"))
    lost = inbox.claim()
    change("lease_until = clock_timestamp() - interval '1 second'")
    held = inbox.claim()
    assert (inbox.settle(lost, "done"), inbox.fail(lost, "no"), inbox.postpone(lost, "no")) == (0, [], 0)
    assert inbox.settle(held, "done") == 1


def test_an_outage_however_long_kills_no_event(
    database: Database, inbox: ExternalEvents, source: str, change: Callable[[str], None]
) -> None:
    inbox.add(event("evt_1"))
    for _attempt in range(3 * MAXIMUM_ATTEMPTS):
        assert inbox.postpone(inbox.claim(), "out of reach") == 1
        assert inbox.claim() == []
        change("next_attempt_at = clock_timestamp()")
    (waiting,) = inbox.newest(["pending"])
    assert (waiting.attempts, waiting.last_error) == (0, "out of reach")
    inbox.postpone(inbox.claim(), "out of reach")
    wait = _wait(database, source)
    assert OUTAGE_WAIT * (1 - JITTER) - timedelta(seconds=5) <= wait <= OUTAGE_WAIT * (1 + JITTER)


def test_two_that_claim_at_once_never_get_the_same_event(inbox: ExternalEvents) -> None:
    wanted = {f"evt_{number:02d}" for number in range(60)}
    for name in sorted(wanted):
        inbox.add(event(name))
    ready = threading.Barrier(4)

    def consume(_number: int) -> list[str]:
        ready.wait(10)
        taken: list[str] = []
        while batch := inbox.claim(5):
            taken += ids(batch)
        return taken

    with ThreadPoolExecutor(4) as consumers:
        taken = [name for part in consumers.map(consume, range(4)) for name in part]
    assert len(taken) == len(set(taken))
    assert set(taken) == wanted


def test_what_another_has_claimed_and_not_committed_is_passed_over(
    database: Database, inbox: ExternalEvents, source: str
) -> None:
    for number in (1, 2):
        inbox.add(event(f"evt_{number}"))
    with database.admin_engine.begin() as other:
        other.execute(
            sa.text("select from ogf.external_events where source = :source and external_id = 'evt_1' for update"),
            {"source": source},
        )
        assert ids(inbox.claim()) == ["evt_2"]


def test_a_lease_that_ran_out_is_claimed_again(inbox: ExternalEvents, change: Callable[[str], None]) -> None:
    inbox.add(event("evt_1"))
    assert ids(inbox.claim()) == ["evt_1"]
    assert inbox.oldest_due() is None
    change("lease_until = clock_timestamp() - interval '1 second'")
    due = inbox.oldest_due()
    assert due is not None
    assert due.attempts == 1
    assert [(found.external_id, found.attempts) for found in inbox.claim()] == [("evt_1", 2)]


def test_a_lease_is_as_long_as_asked_for(inbox: ExternalEvents) -> None:
    inbox.add(event("evt_1"))
    inbox.claim(lease=timedelta(seconds=-1))
    assert ids(inbox.claim(lease=timedelta(hours=1))) == ["evt_1"]
    assert inbox.claim() == []


def test_a_settled_event_is_not_due_and_is_settled_once(inbox: ExternalEvents) -> None:
    for number in (1, 2):
        inbox.add(event(f"evt_{number}"))
    claimed = inbox.claim()
    assert inbox.settle(claimed[:1], "done") == 1
    assert inbox.settle(claimed, "ignored") == 1
    assert inbox.counts() == {"pending": 0, "processing": 0, "done": 1, "ignored": 1, "dead": 0}
    assert inbox.claim() == []


def test_what_nobody_claimed_is_neither_settled_nor_failed(inbox: ExternalEvents) -> None:
    inbox.add(event("evt_1"))
    waiting = inbox.newest(["pending"])
    assert (inbox.settle(waiting, "done"), inbox.fail(waiting, "no"), inbox.postpone(waiting, "no")) == (0, [], 0)
    assert ids(inbox.claim()) == ["evt_1"]


def _wait(database: Database, source: str) -> timedelta:
    with database.admin_engine.connect() as connection:
        found: timedelta = connection.scalar(
            sa.text("select next_attempt_at - clock_timestamp() from ogf.external_events where source = :source"),
            {"source": source},
        )
    return found


def test_each_failure_waits_twice_as_long_and_the_tenth_is_the_last(
    database: Database, inbox: ExternalEvents, source: str, change: Callable[[str], None]
) -> None:
    inbox.add(event("evt_1"))
    for attempt in range(1, MAXIMUM_ATTEMPTS + 1):
        dead = inbox.fail(inbox.claim(), f"attempt {attempt}")
        assert dead == (["evt_1"] if attempt == MAXIMUM_ATTEMPTS else [])
        assert inbox.claim() == []
        middle = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
        assert middle * (1 - JITTER) - timedelta(seconds=5) <= _wait(database, source) <= middle * (1 + JITTER)
        change("next_attempt_at = clock_timestamp()")
    (last,) = inbox.given_up(10)
    assert (last.attempts, last.last_error, last.settled_at is not None) == (10, "attempt 10", True)
    assert inbox.claim() == []
    inbox.replay("evt_1")
    assert inbox.given_up(10) == []


def test_an_event_that_takes_every_consumer_with_it_is_dead_after_ten_as_well(
    inbox: ExternalEvents, change: Callable[[str], None]
) -> None:
    inbox.add(event("evt_1"))
    for _attempt in range(MAXIMUM_ATTEMPTS):
        assert ids(inbox.claim()) == ["evt_1"]
        change("lease_until = clock_timestamp() - interval '1 second'")
    assert inbox.claim() == []
    (last,) = inbox.given_up(10)
    assert (last.attempts, last.last_error) == (10, "Nobody lived to settle it.")


def test_an_error_of_any_length_is_kept_in_part(inbox: ExternalEvents) -> None:
    inbox.add(event("evt_1"))
    inbox.fail(inbox.claim(), "x" * 10_000)
    (failed,) = inbox.newest(["pending"])
    assert failed.last_error == "x" * 500


@pytest.mark.parametrize("state", ["done", "ignored"])
def test_a_settled_event_is_replayed_from_the_first_attempt(inbox: ExternalEvents, state: Any) -> None:
    inbox.add(event("evt_1"))
    claimed = inbox.claim()
    assert not inbox.replay("evt_1")
    inbox.settle(claimed, state)
    assert inbox.replay("evt_1")
    assert [(found.external_id, found.attempts) for found in inbox.claim()] == [("evt_1", 1)]
    assert not inbox.replay("evt_2")


def test_a_dead_event_is_replayed(inbox: ExternalEvents, change: Callable[[str], None]) -> None:
    inbox.add(event("evt_1"))
    change(f"attempts = {MAXIMUM_ATTEMPTS - 1}")
    assert inbox.fail(inbox.claim(), "no") == ["evt_1"]
    assert inbox.replay("evt_1")
    assert [(found.attempts, found.last_error) for found in inbox.claim()] == [(1, "no")]


def test_bodies_of_events_settled_a_month_ago_are_forgotten_and_their_digests_stay(
    database: Database, inbox: ExternalEvents, source: str, change: Callable[[str], None]
) -> None:
    inbox.add(event("evt_1", ignored=True))
    inbox.add(event("evt_2"))
    assert inbox.forget_payloads() == 0
    change("received_at = received_at - interval '31 days', settled_at = settled_at - interval '31 days'")
    assert [inbox.forget_payloads(), inbox.forget_payloads()] == [1, 0]
    with database.admin_engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select external_id, payload, payload_sha256 from ogf.external_events where source = :source order by 1"
            ),
            {"source": source},
        ).all()
    digests = [sha256(name.encode()).digest() for name in ("evt_1", "evt_2")]
    assert [tuple(row) for row in rows] == [("evt_1", None, digests[0]), ("evt_2", b"evt_2", digests[1])]


def test_the_newest_events_of_some_states_are_listed(inbox: ExternalEvents) -> None:
    for number in range(3):
        inbox.add(event(f"evt_{number}", ignored=number == 1))
    assert ids(inbox.newest(["pending", "ignored"], limit=2)) == ["evt_2", "evt_1"]
    assert ids(inbox.newest(["pending"])) == ["evt_2", "evt_0"]
    assert inbox.newest([]) == []


def test_the_events_of_one_source_are_not_another_ones(database: Database, inbox: ExternalEvents) -> None:
    inbox.add(event("evt_1"))
    other = ExternalEvents(database, "elsewhere")
    assert (other.oldest_due(), other.claim(), other.settle(inbox.newest(["pending"]), "done"), other.replay("evt_1")) == (
        None, [], 0, False,
    )  # fmt: skip
    assert inbox.counts()["pending"] == 1


@pytest.mark.parametrize(
    "statement",
    [
        "select count(*) from ogf.external_events",
        "select external_id from ogf.external_events",
        "insert into ogf.external_events (source, external_id) values ('x', 'y') returning external_id",
        "insert into ogf.external_events (source, external_id) values ('x', 'y')"
        " on conflict (source, external_id) do nothing",
        "insert into ogf.external_events (source, external_id, attempts) values ('x', 'y', 3)",
        "insert into ogf.external_events (source, external_id, received_at) values ('x', 'y', now())",
        "update ogf.external_events set state = 'done', settled_at = now()",
        "delete from ogf.external_events",
        "truncate ogf.external_events",
    ],
)
def test_the_sidecar_may_add_events_and_nothing_else(api_database: Database, statement: str) -> None:
    with (
        api_database.application_engine.connect() as connection,
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
    ):
        connection.execute(sa.text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "delete from ogf.external_events",
        "truncate ogf.external_events",
        "update ogf.external_events set external_id = 'evt_9'",
        "update ogf.external_events set customer_id = 'cus_9'",
        "update ogf.external_events set livemode = true",
        "update ogf.external_events set payload_sha256 = sha256('')",
        "update ogf.external_events set received_at = now()",
    ],
)
def test_the_pipeline_may_settle_events_and_never_rewrite_what_they_said(database: Database, statement: str) -> None:
    with (
        database.application_engine.connect() as connection,
        pytest.raises(sa.exc.ProgrammingError, match="permission denied"),
    ):
        connection.execute(sa.text(statement))


def test_nobody_else_has_to_do_with_the_inbox_and_only_the_pipeline_reads_bodies(database: Database) -> None:
    columns = ["payload", "payload_sha256", "state", "customer_id", "attempts", "received_at"]
    with database.admin_engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select rolname, privilege, string_agg(name, ' ' order by place) from pg_roles r,"
                " unnest(array['select', 'insert', 'update', 'references']) privilege,"
                " unnest(cast(:columns as text[])) with ordinality as wanted (name, place)"
                " where not rolsuper and rolname ~ '^ogf_' and rolname <> 'ogf_owner'"
                " and has_column_privilege(r.oid, 'ogf.external_events', name, privilege) group by 1, 2"
            ),
            {"columns": columns},
        ).all()
    assert {tuple(row[:2]): row[2] for row in rows} == {
        ("ogf_api", "insert"): "payload payload_sha256 state customer_id",
        ("ogf_pipeline", "insert"): "payload payload_sha256 state customer_id",
        ("ogf_pipeline", "select"): " ".join(columns),
        ("ogf_pipeline", "update"): "payload state attempts",
        ("ogf_definer", "select"): "state received_at",
    }


def test_a_server_out_of_reach_is_told_apart_from_an_event_that_is_there(api_database: Database) -> None:
    gone = Database(api_database._admin_url.set(host="127.0.0.1", port=1), api_database._logins)
    with pytest.raises(InboxError, match="OperationalError"):
        ExternalEvents(gone).add(event("evt_1"))
    gone.close()
