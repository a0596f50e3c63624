"""Inbox of signed events: stored once by the sidecar, claimed and settled by the pipeline.

pending -> processing (leased) -> done or ignored; a failed attempt is pending again later, and dead after too many.
A lease that ran out is claimed again, so a consumer that died loses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

EventState = Literal["pending", "processing", "done", "ignored", "dead"]
EVERY_EVENT_STATE: tuple[EventState, ...] = get_args(EventState)
CLAIMED_AT_ONCE = 20
LEASE = timedelta(minutes=5)
MAXIMUM_ATTEMPTS = 10
#: Wait before the second attempt; doubled for each further one, at most six hours.
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(hours=6)
JITTER = 0.2
#: Between attempts while Stripe is out of reach.
OUTAGE_WAIT = timedelta(minutes=5)
#: Other events of the customers in a claim that are taken along.
MOST_BESIDE = 480
MAXIMUM_ERROR_LENGTH = 500
#: The body is personal data: Stripe itself keeps events for 30 days.
PAYLOAD_KEPT = timedelta(days=30)


class InboxError(RuntimeError):
    """The database is out of reach, or too busy: whether the event is stored is not known. Send it again."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A verified event; `customer_id` and `object_id` are empty where its object names none.

    `traceparent`: trace context of the request that brought it.
    """

    external_id: str
    event_type: str
    object_id: str
    customer_id: str
    api_version: str | None
    event_created: datetime
    livemode: bool
    payload: bytes
    payload_sha256: bytes
    ignored: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """A stored event; what its body said is not applied, only whom it tells of."""

    external_id: str
    event_type: str
    object_id: str
    customer_id: str
    event_created: datetime
    livemode: bool
    state: EventState
    attempts: int
    last_error: str | None
    received_at: datetime
    settled_at: datetime | None
    traceparent: str | None


_EVENT = ", ".join(InboxEvent.__dataclass_fields__)
_CLAIMED = ", ".join(f"e.{name}" for name in InboxEvent.__dataclass_fields__)
_MINE = "source = :source"
#: Without naming the key that conflicts: the sidecar may insert, and read nothing.
_ADD = (
    "insert into ogf.external_events (source, external_id, event_type, object_id, customer_id, api_version,"
    " event_created, livemode, payload, payload_sha256, state, settled_at, traceparent)"
    " values (:source, :external_id, :event_type, :object_id, :customer_id, :api_version, :event_created, :livemode,"
    " :payload, :payload_sha256, :state, case when :state = 'ignored' then clock_timestamp() end, :traceparent)"
    " on conflict do nothing"
)
_DUE = (
    "((state = 'pending' and next_attempt_at <= clock_timestamp())"
    " or (state = 'processing' and lease_until < clock_timestamp()))"
)
_BURY = (
    "update ogf.external_events set state = 'dead', lease_until = null, settled_at = clock_timestamp(),"
    f" last_error = coalesce(last_error, 'Nobody lived to settle it.') where {_MINE} and state = 'processing'"
    " and lease_until < clock_timestamp() and attempts >= :most"
)
#: Materialized: joined as plain subqueries they may be run again for more rows than the limit.
_CLAIM = (
    "with oldest as materialized (select external_id, customer_id from ogf.external_events"
    f" where {_MINE} and {_DUE} order by received_at, external_id limit :limit for update skip locked),"
    " beside as materialized (select external_id from ogf.external_events"
    f" where {_MINE} and {_DUE} and customer_id in (select customer_id from oldest where customer_id <> '')"
    " and external_id not in (select external_id from oldest)"
    " order by received_at, external_id limit :beside for update skip locked)"
    " update ogf.external_events e set state = 'processing', attempts = attempts + 1,"
    " lease_until = clock_timestamp() + :lease"
    " from (select external_id from oldest union all select external_id from beside) claimed"
    f" where e.source = :source and e.external_id = claimed.external_id returning {_CLAIMED}"
)


class ExternalEvents:
    """Events of one source."""

    def __init__(self, database: Database, source: str = "stripe") -> None:
        self._database = database
        self._source = source

    def add(self, event: NewEvent) -> bool:
        """Store the event and commit; False when it was there already.

        Raises:
            InboxError: the database is out of reach, or too busy.
        """
        values = {
            **{name: getattr(event, name) for name in NewEvent.__dataclass_fields__},
            "source": self._source,
            "state": "ignored" if event.ignored else "pending",
        }
        try:
            with self._database.application_engine.begin() as connection:
                added = connection.execute(sa.text(_ADD), values)
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            raise InboxError(f"The event was not stored: {type(error).__name__}.") from error
        return added.rowcount == 1

    def oldest_due(self) -> InboxEvent | None:
        """The event that waits longest for an attempt; None when none is due."""
        return next(iter(self._select(f"{_DUE} order by received_at, external_id limit 1")), None)

    def claim(self, limit: int = CLAIMED_AT_ONCE, lease: timedelta = LEASE) -> list[InboxEvent]:
        """Take up to `limit` due events for the time of the lease, oldest first; others get others.

        With each come the other due events of its customer (at most `MOST_BESIDE`): one fetch answers them all. What
        took its last attempt with it, because each consumer died of it, is dead instead of tried for ever.
        """
        values = {
            "source": self._source,
            "limit": limit,
            "beside": MOST_BESIDE,
            "lease": lease,
            "most": MAXIMUM_ATTEMPTS,
        }
        with self._database.application_engine.begin() as connection:
            connection.execute(sa.text(_BURY), values)
            rows = connection.execute(sa.text(_CLAIM), values).all()
        return sorted((InboxEvent(*row) for row in rows), key=lambda event: (event.received_at, event.external_id))

    def settle(self, events: Sequence[InboxEvent], state: Literal["done", "ignored"], reason: str | None = None) -> int:
        """End events as they were claimed; returns how many were not claimed anew meanwhile.

        `reason`: why they were ignored.
        """
        return len(
            self._end(
                events,
                "state = :state, settled_at = clock_timestamp(), last_error = :text",
                {"state": state, "text": reason},
            )
        )

    def fail(self, events: Sequence[InboxEvent], error: str) -> list[str]:
        """Put events back for a later attempt; ids of those that had their last and are dead."""
        rows = self._end(
            events,
            "last_error = :text, state = case when e.attempts >= :most then 'dead' else 'pending' end,"
            " settled_at = case when e.attempts >= :most then clock_timestamp() end,"
            " next_attempt_at = clock_timestamp() + :chance"
            " * least(:first * power(2, least(e.attempts, 30) - 1), :longest)",
            {
                "text": error,
                "most": MAXIMUM_ATTEMPTS,
                "first": FIRST_WAIT,
                "longest": LONGEST_WAIT,
                "chance": _chance(),
            },
        )
        return sorted(row[0] for row in rows if row[1] == "dead")

    def postpone(self, events: Sequence[InboxEvent], error: str) -> int:
        """Put events back that nobody could try: the attempt does not count, so an outage of days kills none."""
        return len(
            self._end(
                events,
                "last_error = :text, state = 'pending', attempts = e.attempts - 1,"
                " next_attempt_at = clock_timestamp() + :chance * :wait",
                {"text": error, "wait": OUTAGE_WAIT, "chance": _chance()},
            )
        )

    def _end(
        self, events: Sequence[InboxEvent], assignments: str, values: Mapping[str, object]
    ) -> Sequence[sa.Row[Any]]:
        """End the claims; a claim that was lost, and is another consumer's now, stays that one's."""
        text = values["text"]
        with self._database.application_engine.begin() as connection:
            return connection.execute(
                sa.text(
                    f"update ogf.external_events e set lease_until = null, {assignments}"
                    " from unnest(cast(:external_ids as text[]), cast(:claims as int[])) as held (external_id, claim)"
                    " where e.source = :source and e.state = 'processing' and e.external_id = held.external_id"
                    " and e.attempts = held.claim returning e.external_id, e.state"
                ),
                {
                    **values,
                    "text": text[:MAXIMUM_ERROR_LENGTH] if isinstance(text, str) else None,
                    "source": self._source,
                    "external_ids": [event.external_id for event in events],
                    "claims": [event.attempts for event in events],
                },
            ).all()

    def replay(self, external_id: str) -> bool:
        """Make a settled event pending again, its attempts forgotten; False when there is none to replay."""
        with self._database.application_engine.begin() as connection:
            replayed = connection.execute(
                sa.text(
                    "update ogf.external_events set state = 'pending', attempts = 0, settled_at = null,"
                    f" next_attempt_at = clock_timestamp() where {_MINE} and external_id = :external_id"
                    " and state in ('done', 'ignored', 'dead')"
                ),
                {"source": self._source, "external_id": external_id},
            )
        return replayed.rowcount == 1

    def forget_payloads(self) -> int:
        """Remove bodies of events settled long ago; returns how many. Their digests stay."""
        with self._database.application_engine.begin() as connection:
            forgotten = connection.execute(
                sa.text(
                    f"update ogf.external_events set payload = null where {_MINE} and payload is not null"
                    " and settled_at < clock_timestamp() - :kept"
                ),
                {"source": self._source, "kept": PAYLOAD_KEPT},
            )
        return forgotten.rowcount

    def counts(self) -> dict[EventState, int]:
        """How many events are in each state."""
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(
                sa.text(f"select state, count(*) from ogf.external_events where {_MINE} group by 1"),
                {"source": self._source},
            ).all()
        found = {row[0]: row[1] for row in rows}
        return {state: found.get(state, 0) for state in EVERY_EVENT_STATE}

    def newest(self, states: Sequence[EventState], limit: int = 100) -> list[InboxEvent]:
        """Newest events in any of the states."""
        return self._select(
            "state = any(cast(:states as text[])) order by received_at desc, external_id limit :limit",
            states=list(states),
            limit=limit,
        )

    def given_up(self, limit: int) -> list[InboxEvent]:
        """Newest events that are dead, until they are replayed."""
        return self._select("state = 'dead' order by received_at desc, external_id limit :limit", limit=limit)

    def _select(self, condition: str, **values: object) -> list[InboxEvent]:
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(
                sa.text(f"select {_EVENT} from ogf.external_events where {_MINE} and {condition}"),
                {"source": self._source, **values},
            ).all()
        return [InboxEvent(*row) for row in rows]


def _chance() -> float:
    """Spreads attempts, so that what failed together does not come back together."""
    return random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  guards nothing
