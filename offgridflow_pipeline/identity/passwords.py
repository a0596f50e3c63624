"""Passwords: argon2id hashes, at most two verifications at once, and what is refused as too easy to guess.

Parameters and bounds: service reference, section 5. A verification costs about 38 ms of CPU and 19 MiB; without a
bound, signing in would be the cheapest way to stop the sidecar.
"""

from __future__ import annotations

import re
import secrets
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from offgridflow_pipeline.identity.refusals import RefusedError

HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32, salt_len=16, type=Type.ID)
AT_ONCE = 2
#: A verification waits this long for its turn.
PATIENCE_SECONDS = 1.0
RETRY_AFTER_SECONDS = 2.0
MINIMUM_LENGTH = 12
MAXIMUM_BYTES = 1024
#: Letters and digits that a password must have besides well-known words and the person's own context.
OWN_CHARACTERS = 6
_turns = threading.BoundedSemaphore(AT_ONCE)

_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm",
         "abcdefghijklmnopqrstuvwxyz", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p")  # fmt: skip
_LEET = str.maketrans("0134578@$!|€", "oieastbasiie")
_SHORTEST_CONTEXT = 4
_RUN = 4


def hash_password(password: str) -> str:
    """The argon2id hash with parameters and salt.

    Raises:
        RefusedError: `busy`, too many verifications at once.
    """
    with _turn():
        return HASHER.hash(_bytes(password))


def verify(password_hash: str | None, password: str) -> bool:
    """Whether the password fits; without a hash the same work is done for a hash that nothing fits.

    Raises:
        RefusedError: `busy`, too many verifications at once.
    """
    nobodys = _nobodys_hash()
    with _turn():
        try:
            fits = HASHER.verify(password_hash or nobodys, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
    return fits and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made under other parameters than today's."""
    return HASHER.check_needs_rehash(password_hash)


def require_strong(password: str, context: Iterable[str] = ()) -> None:
    """Pass when the password is neither too short nor easy to guess; there are no rules of composition.

    `context` is what an attacker knows of the person: address, name, organisation.

    Raises:
        RefusedError: `weak_password`, with the reason.
    """
    if len(password) < MINIMUM_LENGTH:
        raise _weak(f"A password has at least {MINIMUM_LENGTH} characters: several words in a row are fine.")
    if len(_bytes(password)) > MAXIMUM_BYTES:
        raise _weak(f"A password has at most {MAXIMUM_BYTES} bytes.")
    plain = _plain(password)
    if plain in _common() or _letters(password.casefold()) in _common():
        raise _weak("This password is on the lists that attackers try first.")
    if _is_repetition(plain) or len(_without_runs(plain)) < OWN_CHARACTERS:
        raise _weak("This password repeats itself or follows the keyboard.")
    words = sorted({*_words(), *_context(context)}, key=len, reverse=True)
    if len(_without_runs(_without(plain, words))) < OWN_CHARACTERS:
        raise _weak("This password is little more than well-known words, your name or your organisation.")


def _weak(message: str) -> RefusedError:
    return RefusedError("weak_password", message, field="password")


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=PATIENCE_SECONDS):
        raise RefusedError(
            "busy", "Many people sign in just now: try again in a moment.", retry_after_seconds=RETRY_AFTER_SECONDS
        )
    try:
        yield
    finally:
        _turns.release()


@cache
def _nobodys_hash() -> str:
    """A hash under today's parameters of a password that nobody knows."""
    return HASHER.hash(secrets.token_bytes(32))


def _bytes(password: str) -> bytes:
    """The password in the one form that every keyboard gives (NFKC, as NIST SP 800-63B advises)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _plain(password: str) -> str:
    """Letters and digits of the password as a guesser sees them: lower case, usual substitutions undone."""
    return _letters(unicodedata.normalize("NFKC", password).casefold().translate(_LEET))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def _is_repetition(plain: str) -> bool:
    """Whether the text is one unit of at most a third of its length, again and again."""
    return len(set(plain)) <= 3 or any(
        plain == (plain[:n] * (len(plain) // n + 1))[: len(plain)] for n in range(1, len(plain) // 3 + 1)
    )


def _without_runs(text: str) -> str:
    """The text without runs of the keyboard or alphabet, forwards or backwards, and of one character."""
    text = re.sub(r"(.)\1{2,}", r"\1", text)
    kept, at = [], 0
    while at < len(text):
        length = max(_run_length(row, text, at) for row in _rows())
        if length >= _RUN:
            at += length
        else:
            kept.append(text[at])
            at += 1
    return "".join(kept)


def _run_length(row: str, text: str, at: int) -> int:
    start = row.find(text[at])
    if start < 0:
        return 0
    length = 0
    while start + length < len(row) and at + length < len(text) and row[start + length] == text[at + length]:
        length += 1
    return length


@cache
def _rows() -> tuple[str, ...]:
    rows = {*_ROWS, *(row.translate(_LEET) for row in _ROWS)}
    return tuple(sorted(rows | {row[::-1] for row in rows}))


def _without(text: str, words: Iterable[str]) -> str:
    for word in words:
        text = text.replace(word, "")
    return text


def _context(parts: Iterable[str]) -> set[str]:
    found = {word for part in parts for word in re.split(r"[\W_]+", part)} | {_letters(part) for part in parts}
    return {plain for word in found if len(plain := _plain(word)) >= _SHORTEST_CONTEXT}


@cache
def _common() -> frozenset[str]:
    """Passwords of the list, spelled as `_plain` and as they are."""
    lines = _lines("common_passwords.txt")
    return frozenset({_letters(line) for line in lines} | {_plain(line) for line in lines})


@cache
def _words() -> frozenset[str]:
    """Words that the most common passwords are made of."""
    return frozenset(_plain(line) for line in _lines("common_words.txt"))


def _lines(name: str) -> list[str]:
    text = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
