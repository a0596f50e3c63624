"""A body is Stripe's only when one of our secrets signed exactly these bytes, just now (stripe reference, check 3)."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import SignatureVerificationError, WebhookSignature

from offgridflow_pipeline.subscriptions.signatures import MAXIMUM_HEADER_LENGTH, SignatureError, verify
from offgridflow_pipeline_tests.subscriptions.signed_events import PREVIOUS_SECRET, SECRET, body, header

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BODY = body(id="evt_1")
SIGNED = header(BODY, at=NOW)
T, V1 = SIGNED.split(",")


@pytest.mark.parametrize("seconds", [-300, -1, 0, 1, 300])
def test_a_signature_of_at_most_five_minutes_from_now_is_accepted(seconds: int) -> None:
    verify(BODY, header(BODY, at=NOW + timedelta(seconds=seconds)), [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-10_000, -301, 301, 10_000])
def test_an_old_signature_and_one_of_the_future_are_refused(seconds: int) -> None:
    with pytest.raises(SignatureError, match="five minutes"):
        verify(BODY, header(BODY, at=NOW + timedelta(seconds=seconds)), [SECRET], NOW)


@given(place=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7))
def test_a_body_with_one_bit_altered_is_refused(place: int, bit: int) -> None:
    altered = bytearray(BODY)
    altered[place] ^= 1 << bit
    with pytest.raises(SignatureError):
        verify(bytes(altered), SIGNED, [SECRET], NOW)


@pytest.mark.parametrize(
    "changed",
    [BODY + b" ", BODY[:-1], b"", b"\xef\xbb\xbf" + BODY, BODY.decode().encode("utf-16"), BODY.replace(b": ", b":")],
    ids=["longer", "shorter", "empty", "marked", "re-encoded", "re-serialised"],
)
def test_a_body_that_means_the_same_in_other_bytes_is_refused(changed: bytes) -> None:
    with pytest.raises(SignatureError, match="fits"):
        verify(changed, SIGNED, [SECRET], NOW)


def test_the_time_is_signed_too() -> None:
    with pytest.raises(SignatureError, match="fits"):
        verify(BODY, f"t={int(NOW.timestamp()) + 1},{V1}", [SECRET], NOW)


def test_both_secrets_are_accepted_while_they_are_rotated_and_no_third_one() -> None:
    for secret in (SECRET, PREVIOUS_SECRET):
        verify(BODY, header(BODY, secret, at=NOW), [SECRET, PREVIOUS_SECRET], NOW)
    with pytest.raises(SignatureError, match="fits"):
        verify(BODY, header(BODY, "whsec_other", at=NOW), [SECRET, PREVIOUS_SECRET], NOW)


def test_of_the_two_signatures_that_stripe_sends_while_it_rotates_one_is_enough() -> None:
    theirs = header(BODY, "whsec_next", at=NOW).split(",")[1]
    verify(BODY, f"{T},{theirs},{V1},v0=00", [SECRET], NOW)


@pytest.mark.parametrize("secret", ["", " ", "\t\n"])
def test_nothing_is_ever_signed_with_an_empty_secret(secret: str) -> None:
    signed = f"t={int(NOW.timestamp())},v1=" + (
        hmac.new(secret.encode(), f"{int(NOW.timestamp())}.".encode() + BODY, sha256).hexdigest()
    )
    for secrets in ([secret], [SECRET, secret], []):
        with pytest.raises(SignatureError, match="fits"):
            verify(BODY, signed, secrets, NOW)


@pytest.mark.parametrize(
    "wrong",
    {
        "missing": "",
        "no time": V1,
        "no signature": T,
        "other scheme": SIGNED.replace("v1=", "v0="),
        "two times": f"{T},{SIGNED}",
        "two equal headers": f"{SIGNED},{SIGNED}",
        "time is no number": f"t=now,{V1}",
        "time is negative": f"t=-1,{V1}",
        "time is endless": f"t={'9' * 5000},{V1}",
        "time in other digits": f"t=\u0661,{V1}",
        "spaces": SIGNED.replace(",", ", "),
        "not ASCII": f"{SIGNED}\u00e9",
        "signature not ASCII": f"{T},v1=\u00e9",
        "line break": f"{SIGNED}\n",
        "too long": SIGNED + ",v1=00" * MAXIMUM_HEADER_LENGTH,
        "names alone": "t,v1",
        "equals signs alone": "===,==",
    }.items(),
    ids=lambda wrong: wrong[0],
)
def test_a_header_of_another_form_is_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(SignatureError):
        verify(BODY, wrong[1], [SECRET], NOW)


@given(text=st.text(max_size=60) | st.from_regex(r"t=[0-9]{1,20},v1=[0-9a-f]{0,70}", fullmatch=True))
def test_no_header_does_anything_but_be_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        verify(BODY, text, [SECRET], NOW)


@given(payload=st.binary(max_size=60))
def test_whatever_bytes_are_sent_a_signature_of_others_does_not_fit_them(payload: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(payload, SIGNED, [SECRET], NOW)


def test_bytes_that_are_no_text_are_refused_even_when_they_are_signed() -> None:
    payload = b"\xff\xfe"
    signed = hmac.new(SECRET.encode(), f"{int(NOW.timestamp())}.".encode() + payload, sha256).hexdigest()
    with pytest.raises(SignatureError, match="fits"):
        verify(payload, f"{T},v1={signed}", [SECRET], NOW)


def test_no_error_tells_of_the_body_the_header_or_the_secret() -> None:
    for refused in (SIGNED.replace("v1=", "v1=0"), V1, "t=1,v1=2"):
        with pytest.raises(SignatureError) as caught:
            verify(BODY, refused, [SECRET], NOW)
        told = repr(caught.value) + repr(caught.value.__cause__)
        assert not [part for part in (SECRET, V1[3:], "cus_1", refused) if part in told]


def test_the_library_alone_would_accept_what_lies_in_the_future() -> None:
    """Why the time is looked at here; should the library begin to, this can go."""
    late = header(BODY, at=datetime.now(UTC) + timedelta(days=1))
    assert WebhookSignature.verify_header(BODY, late, SECRET, tolerance=300)
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(BODY, header(BODY, ago=timedelta(days=1)), SECRET, tolerance=300)
