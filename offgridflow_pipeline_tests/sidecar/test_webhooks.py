"""Events of Stripe at the door: what is signed, ours and whole is stored once and acknowledged; nothing else is."""

from __future__ import annotations

import hmac
import logging
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.rate_limits import RateLimiter, limits_of
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.sidecar.entrance.middleware import SIGNED_BODY_BYTES
from offgridflow_pipeline_tests.sidecar.webhook_door import KEY, PATH, Door, Stored, problem
from offgridflow_pipeline_tests.subscriptions.signed_events import PREVIOUS_SECRET, SECRET, body, header, id_of

CARD, CUSTOMER_ADDRESS = "4242424242424242", "ada@alder.example"


def test_a_signed_event_is_stored_as_it_came_and_acknowledged(door: Door, stored: Stored) -> None:
    payload = body()
    answer = door.send(payload)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert stored() == [id_of(payload)]
    assert stored("payload") == [payload]
    assert stored("payload_sha256") == [sha256(payload).digest()]
    assert stored("state || ' ' || customer_id") == ["pending cus_1"]


def test_no_credential_cookie_or_origin_is_asked_for(door: Door, stored: Stored) -> None:
    payload = body()
    foreign = {
        "Origin": "https://elsewhere.example",
        "Sec-Fetch-Site": "cross-site",
        "Stripe-Signature": header(payload),
    }
    assert door.client.post(PATH, content=payload, headers=foreign).status_code == 200
    assert len(stored()) == 1


def test_an_event_that_comes_again_is_acknowledged_and_stored_once(door: Door, stored: Stored) -> None:
    payload = body()
    assert [door.send(payload).status_code for _ in range(3)] == [200] * 3
    assert stored() == [id_of(payload)]


def test_copies_that_come_at_once_are_all_acknowledged_and_stored_once(door: Door, stored: Stored) -> None:
    payload = body()
    with ThreadPoolExecutor(6) as senders:
        answers = list(senders.map(lambda _number: door.send(payload).status_code, range(12)))
    assert answers == [200] * 12
    assert stored() == [id_of(payload)]


def test_a_type_that_nobody_handles_is_acknowledged_and_kept_as_ignored(door: Door, stored: Stored) -> None:
    assert door.send(body("payout.paid", {"object": "payout", "id": "po_1"})).status_code == 200
    assert stored("event_type || ' ' || state || ' ' || object_id") == ["payout.paid ignored po_1"]


@pytest.mark.parametrize("secret", [SECRET, PREVIOUS_SECRET])
def test_both_secrets_are_accepted_during_a_rotation(door: Door, stored: Stored, secret: str) -> None:
    payload = body()
    assert door.send(payload, header(payload, secret)).status_code == 200
    assert len(stored()) == 1


def _refused(payload: bytes) -> dict[str, tuple[bytes, str | None]]:
    """Deliveries that are not shown to be Stripe's: what is sent, and its signature."""
    signed = header(payload)
    binary = b"\xff" + payload
    now = int(time.time())
    over_binary = hmac.new(SECRET.encode(), f"{now}.".encode() + binary, sha256).hexdigest()
    over_nothing = hmac.new(b"", f"{now}.".encode() + payload, sha256).hexdigest()
    return {
        "an altered byte": (payload.replace(b"cus_1", b"cus_2"), signed),
        "old": (payload, header(payload, ago=timedelta(seconds=301))),
        "of the future": (payload, header(payload, ago=-timedelta(seconds=310))),
        "another secret": (payload, header(payload, "whsec_other")),
        "the key of the API": (payload, header(payload, KEY)),
        "an empty secret": (payload, f"t={now},v1={over_nothing}"),
        "no header": (payload, ""),
        "a header of another form": (payload, "Bearer x"),
        "two times": (payload, f"t={now - 1},{signed}"),
        "no UTF-8": (binary, f"t={now},v1={over_binary}"),
        "nothing": (b"", signed),
    }


@pytest.mark.parametrize("delivery", _refused(b"{}"))
def test_what_is_not_shown_to_be_stripes_is_refused_and_not_stored(door: Door, stored: Stored, delivery: str) -> None:
    payload, signature = _refused(body())[delivery]
    problem(door.send(payload, signature), 400, "bad_signature")
    assert stored() == []


def test_a_request_without_the_header_and_one_with_two_are_refused(door: Door, stored: Stored) -> None:
    payload = body()
    problem(door.client.post(PATH, content=payload), 400, "bad_signature")
    twice = [("Stripe-Signature", header(payload)), ("Stripe-Signature", header(payload, "whsec_other"))]
    problem(door.client.post(PATH, content=payload, headers=twice), 400, "bad_signature")
    assert stored() == []


@pytest.mark.parametrize("payload", [b"[]", b"no json", b"{}", body(id=None), body(object="v2.core.event")])
def test_a_signed_body_that_is_no_event_is_refused(door: Door, stored: Stored, payload: bytes) -> None:
    problem(door.send(payload), 400, "unreadable_body")
    assert stored() == []


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1", "sk_test_1", "rk_test_1"])
def test_an_event_must_be_of_the_mode_of_the_key(
    api_database: Database, stored: Stored, tmp_path: Path, key: str
) -> None:
    door, live = Door(api_database, tmp_path, stripe_secret_key=key), "_live_" in key
    problem(door.send(body(livemode=not live)), 400, "wrong_mode")
    assert door.send(body(livemode=live)).status_code == 200
    assert stored("livemode") == [live]


@pytest.mark.parametrize(
    "stated",
    [
        {"stripe_webhook_secret": ""},
        {"stripe_webhook_secret": " \n"},
        {"stripe_webhook_secret": "", "stripe_webhook_secret_previous": ""},
        {"stripe_secret_key": ""},
    ],
)
def test_without_a_secret_there_is_no_endpoint(
    api_database: Database, stored: Stored, tmp_path: Path, stated: dict[str, str]
) -> None:
    door, payload = Door(api_database, tmp_path, **stated), body()
    now = int(time.time())
    unkeyed = hmac.new(b"", f"{now}.".encode() + payload, sha256).hexdigest()
    for signature in (header(payload), header(payload, PREVIOUS_SECRET), f"t={now},v1={unkeyed}", ""):
        problem(door.send(payload, signature), 404, "not_found")
    assert stored() == []


def _of_length(length: int) -> bytes:
    payload = body(padding="")
    return payload.replace(b'"padding": ""', b'"padding": "' + b"x" * (length - len(payload)) + b'"')


def test_a_body_of_one_mebibyte_is_stored(door: Door, stored: Stored) -> None:
    payload = _of_length(SIGNED_BODY_BYTES)
    assert len(payload) == 1024 * 1024
    assert door.send(payload).status_code == 200
    assert stored("length(payload)") == [1024 * 1024]


@pytest.mark.parametrize("length", [SIGNED_BODY_BYTES + 1, 2 * SIGNED_BODY_BYTES])
@pytest.mark.parametrize("in_pieces", [False, True], ids=["with its length", "in pieces"])
def test_a_larger_body_is_refused_whether_or_not_it_states_its_length(
    door: Door, stored: Stored, length: int, in_pieces: bool
) -> None:
    payload = _of_length(length)
    pieces = (payload[start : start + 65536] for start in range(0, length, 65536))
    headers = {"Stripe-Signature": header(payload)}
    answer = door.client.post(PATH, content=pieces if in_pieces else payload, headers=headers)
    problem(answer, 413, "body_too_large")
    assert stored() == []


def test_other_routes_take_no_larger_body_for_it(door: Door) -> None:
    problem(door.client.post("/v1/auth/login", content=_of_length(300_000)), 413, "body_too_large")


def test_events_are_counted_by_themselves_and_by_address(door: Door, stored: Stored) -> None:
    (limit,) = limits_of("webhook.address")
    nanoseconds = [0]
    door.app.state.services.rate_limiter = RateLimiter(MemoryStore(lambda: nanoseconds[0]), b"pepper")
    assert limit.quota > limits_of("address")[0].quota
    for _ in range(limit.quota):
        assert door.app.state.services.rate_limiter.refusal("webhook.address", "testclient") is None
    found = door.send(body())
    problem(found, 429, "rate_limited")
    assert found.headers["ratelimit-policy"] == '"webhook.address";q=3000;w=60'
    assert door.client.get("/v1/me").status_code == 401
    nanoseconds[0] += 60 * 10**9
    assert door.send(body()).status_code == 200
    assert len(stored()) == 1


def test_no_log_tells_of_a_body_a_signature_or_a_secret(
    api_database: Database, stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"object": "customer", "id": "cus_1", "email": CUSTOMER_ADDRESS, "card": CARD}
    payload = body("customer.updated", told)
    nowhere = Database(api_database._admin_url.set(host="127.0.0.1", port=1), api_database._logins)
    deliveries = [payload, body("customer.updated", told, livemode=True), body("customer.updated", told, id=None), b"{"]
    signatures = [header(delivery) for delivery in deliveries]
    with caplog.at_level(logging.DEBUG), closing(nowhere) as gone:
        answers = [
            door.send(delivery, signature).text
            for door in (Door(api_database, tmp_path), Door(gone, tmp_path))
            for delivery, signature in [*zip(deliveries, signatures, strict=True), (payload, signatures[1])]
        ]
    assert len(stored()) == 1
    written = caplog.text + repr([record.__dict__ for record in caplog.records]) + "".join(answers)
    assert "wrong_mode" in written
    canaries = [CARD, CUSTOMER_ADDRESS, SECRET, PREVIOUS_SECRET, KEY, *(s.rpartition("=")[2] for s in signatures)]
    assert [canary for canary in canaries if canary in written] == []


def test_an_event_is_acknowledged_in_less_than_fifty_milliseconds(door: Door, stored: Stored) -> None:
    """The 99th percentile, of the quietest of three rounds: other tests are at work beside this one."""
    assert door.send(body()).status_code == 200  # the first one also loads the library
    slowest: list[float] = []
    while len(slowest) < 3 and min(slowest, default=1.0) >= 0.05:
        took = []
        for payload in [body() for _ in range(100)]:
            signature = header(payload)
            begun = time.perf_counter()
            assert door.send(payload, signature).status_code == 200
            took.append(time.perf_counter() - begun)
        slowest.append(sorted(took)[-2])
    assert min(slowest) < 0.05
    assert len(stored()) == 1 + 100 * len(slowest)


def test_the_library_of_stripe_is_loaded_by_the_first_event_and_not_by_the_start(tmp_path: Path) -> None:
    script = "import sys; import offgridflow_pipeline.sidecar.routes.webhooks; sys.exit('stripe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
