"""Which passwords are refused, and what a hash is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.identity import passwords
from offgridflow_pipeline.identity.refusals import RefusedError

CONTEXT = ["olga.berg@alder.example", "Olga Berg", "alder-industries", "Alder Industries GmbH"]


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short-one", "at least 12"),
        ("x" * 1025, "at most 1024 bytes"),
        ("aéàüöß" * 120, "at most 1024 bytes"),
        ("password123456", "lists"),
        ("P@ssw0rd-1234", "lists"),
        ("CorrectHorseBatteryStaple", "lists"),
        ("aaaaaaaaaaaaa", "repeats"),
        ("abcabcabcabcabc", "repeats"),
        ("zyxwvutsrqpo", "repeats"),
        ("qwertz-asdfgh-yxcvbn", "repeats"),
        ("0987654321098", "repeats"),
        ("Sommer2026!!!", "little more"),
        ("OffGridFlow-Scope-3", "little more"),
        ("Alder-Industries-7", "little more"),
        ("olga.berg.1987", "little more"),
    ],
)
def test_what_is_easy_to_guess_is_refused_with_the_reason(password: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as refused:
        passwords.require_strong(password, CONTEXT)
    assert (refused.value.code, refused.value.field) == ("weak_password", "password")


@pytest.mark.parametrize(
    "password", ["violet-lamp-river", "tangerine quilt 9", "дом-солнце-река", "mX9#kk2Lp!zQ", "Straße über Öl 3x"]
)
def test_what_is_long_enough_and_ones_own_passes(password: str) -> None:
    passwords.require_strong(password, CONTEXT)


@given(st.text(max_size=200), st.lists(st.text(max_size=30), max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_text_is_either_taken_or_refused_with_a_cure(password: str, context: list[str]) -> None:
    try:
        passwords.require_strong(password, context)
    except RefusedError as refused:
        assert refused.message.endswith(".")
    else:
        assert len(password) >= passwords.MINIMUM_LENGTH


def test_a_hash_fits_every_spelling_of_the_same_characters_and_nothing_else() -> None:
    made = passwords.hash_password("Stra\u00dfe \u00fcber \u00d6l")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(made, "Stra\u00dfe u\u0308ber O\u0308l")
    assert not passwords.verify(made, "Strasse uber Ol")
    assert not passwords.verify("$argon2id$no hash", "Stra\u00dfe")
    assert not passwords.verify(None, "anything")


def test_the_list_holds_passwords_that_length_alone_lets_through() -> None:
    listed = passwords._lines("common_passwords.txt")
    assert len(listed) > 300
    assert all(len(each) >= passwords.MINIMUM_LENGTH and each == each.lower() for each in listed)
