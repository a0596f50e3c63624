"""Of a verified body the inbox keeps whom it tells of; what is no event is refused with the field that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.subscriptions.event_bodies import HANDLED, EventBodyError, WrongModeError, parsed
from offgridflow_pipeline_tests.subscriptions.signed_events import CREATED, body


def test_an_event_is_kept_with_its_bytes_and_whom_it_tells_of() -> None:
    payload = body(id="evt_1")
    event = parsed(payload, livemode=False)
    assert (event.external_id, event.event_type) == ("evt_1", "customer.subscription.updated")
    assert (event.object_id, event.customer_id) == ("sub_1", "cus_1")
    assert (event.api_version, event.event_created, event.livemode) == ("2026-10-28.endive", CREATED, False)
    assert (event.payload, event.payload_sha256) == (payload, sha256(payload).digest())
    assert not event.ignored


@pytest.mark.parametrize(
    ("told", "object_id", "customer_id"),
    [
        ({"object": "customer", "id": "cus_7"}, "cus_7", "cus_7"),
        ({"object": "invoice", "id": "in_1", "customer": "cus_7"}, "in_1", "cus_7"),
        ({"object": "invoice", "id": "in_1", "customer": {"id": "cus_7", "object": "customer"}}, "in_1", "cus_7"),
        ({"object": "checkout.session", "id": "cs_1", "customer": None}, "cs_1", ""),
        ({"object": "dispute", "id": "dp_1", "charge": "ch_1"}, "dp_1", ""),
        ({"object": "balance"}, "", ""),
        ({"object": "new thing", "id": 7, "customer": ["?"]}, "", ""),
        ({"object": "new thing", "id": "a\0b", "customer": "c" * 256}, "", ""),
    ],
)
def test_the_customer_is_found_in_every_shape_and_left_open_where_there_is_none(
    told: Mapping[str, Any], object_id: str, customer_id: str
) -> None:
    event = parsed(body("invoice.paid", told), livemode=False)
    assert (event.object_id, event.customer_id) == (object_id, customer_id)


@pytest.mark.parametrize("event_type", ["payout.paid", "customer.subscription.renamed", "invoice.paid2", "v9"])
def test_a_type_that_nobody_handles_is_kept_and_ignored(event_type: str) -> None:
    assert parsed(body(event_type), livemode=False).ignored


def test_the_types_handled_are_those_of_the_specification() -> None:
    subscription = {"created", "updated", "deleted", "paused", "resumed", "trial_will_end"}
    invoice = {"paid", "payment_failed", "payment_action_required", "finalized"}
    assert {
        "checkout.session.completed", "customer.updated", "customer.deleted", "charge.dispute.created",
        *(f"customer.subscription.{name}" for name in subscription), *(f"invoice.{name}" for name in invoice),
    } == HANDLED  # fmt: skip
    assert not [name for name in HANDLED if parsed(body(name), livemode=False).ignored]


def test_an_event_of_an_account_without_an_api_version_is_an_event() -> None:
    assert parsed(body(api_version=None), livemode=False).api_version is None


@pytest.mark.parametrize("live_here", [True, False])
def test_an_event_of_the_other_mode_is_refused(live_here: bool) -> None:
    with pytest.raises(WrongModeError, match="of test mode" if live_here else "of live mode"):
        parsed(body(livemode=not live_here), livemode=live_here)
    assert parsed(body(livemode=live_here), livemode=live_here).livemode is live_here


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"id": "evt_\0"}, "id"),
        ({"id": "evt_\ud800"}, "id"),
        ({"id": "e" * 256}, "id"),
        ({"id": 7}, "id"),
        ({"type": "two words"}, "type"),
        ({"type": None}, "type"),
        ({"api_version": 7}, "api_version"),
        ({"created": None}, "created"),
        ({"created": True}, "created"),
        ({"created": -1}, "created"),
        ({"created": 1e9}, "created"),
        ({"created": 10**18}, "created"),
        ({"created": "2026-11-20T12:00:00Z"}, "created"),
        ({"livemode": "false"}, "livemode"),
        ({"livemode": 0}, "livemode"),
        ({"object": "v2.core.event"}, "no event"),
        ({"object": None}, "no event"),
        ({"data": None}, "data.object"),
        ({"data": {"object": []}}, "data.object"),
    ],
)
def test_what_is_no_event_is_refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EventBodyError, match=field):
        parsed(body(**changes), livemode=False)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"{", b"[]", b"null", b'"text"', b"7", b"[" * 200_000, b'{"a":' * 200_000, b"{} {}"],
    ids=["empty", "no UTF-8", "half", "list", "null", "text", "number", "deep list", "deep object", "two"],
)
def test_what_is_no_json_object_is_refused_without_quoting_it(payload: bytes) -> None:
    with pytest.raises(EventBodyError) as caught:
        parsed(payload, livemode=False)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 100


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(["id", "type", "created", "livemode", "object", "data", "api_version", "request"])


@given(changes=st.dictionaries(_FIELDS, _JSON, max_size=3), told=_JSON)
def test_any_json_is_either_an_event_that_can_be_stored_or_refused(changes: dict[str, Any], told: Any) -> None:
    payload = body(**{"data": {"object": told}, **changes})
    try:
        event = parsed(payload, livemode=False)
    except EventBodyError:
        return
    kept = (event.external_id, event.event_type, event.object_id, event.customer_id, event.api_version or "")
    assert all(text.isascii() and "\0" not in text and len(text) <= 255 for text in kept)
    assert json.loads(payload)["id"] == event.external_id
