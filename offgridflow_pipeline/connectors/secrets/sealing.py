"""Sealing of connection secrets: the envelope of `identity`, bound to tenant and connection; and its rotation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SealError
from offgridflow_pipeline.identity import envelope

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.connections import SealedSecret
    from offgridflow_pipeline.settings import Settings

_CURE = " with `offgridflow connections add --replace`"


class KeyRing(envelope.KeyRing):
    """Key-encryption keys of connection secrets."""

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of the settings; outside of production there is one that anybody can derive.

        Raises:
            SealError: no key, an id twice, or a key that is not 32 bytes in base64; keys are never repeated.
        """
        with _connection_errors(""):
            ring = envelope.KeyRing.of(settings)
        return cls(ring.current, ring.keys)


def seal(ring: envelope.KeyRing, tenant: str, connection_id: str, secret: SecretStr) -> SealedSecret:
    """The secret under a new data key, wrapped by the current key of the ring."""
    return envelope.seal(ring, (tenant, connection_id), secret)


def unseal(ring: envelope.KeyRing, tenant: str, connection_id: str, sealed: SealedSecret) -> SecretStr:
    """The secret.

    Raises:
        SealError: its key is not in the ring, or the row was changed or belongs to another tenant or connection.
    """
    with _connection_errors(_CURE):
        return envelope.unseal(ring, (tenant, connection_id), sealed)


def rewrapped(ring: envelope.KeyRing, tenant: str, connection_id: str, sealed: SealedSecret) -> SealedSecret:
    """The same sealed text, its data key wrapped by the current key of the ring.

    Raises:
        SealError: as for `unseal`.
    """
    with _connection_errors(_CURE):
        return envelope.rewrapped(ring, (tenant, connection_id), sealed)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: data keys wrapped anew, and those that already were under the current key."""

    rewrapped: int
    current: int


def rotate(database: Database, ring: envelope.KeyRing) -> Rotation:
    """Wrap the data keys of every tenant by the current key; afterwards the other keys can be removed.

    Running it again, or twice at once, does no harm: a row that changed meanwhile is read again. Second factors of
    people are sealed under the same keys: `offgridflow user rotate-key`.

    Raises:
        SealError: a row does not open; names tenant and connection. Rows before it stay rotated.
    """
    done = current = 0
    for tenant in database.tenants.list(inactive=True):
        waiting = dict(database.connections.secrets(tenant.slug))
        while waiting:
            connection_id, sealed = waiting.popitem()
            if sealed.key_id == ring.current:
                current += 1
                continue
            try:
                new = rewrapped(ring, tenant.slug, connection_id, sealed)
            except SealError as error:
                raise SealError(f"Connection {connection_id!r} of {tenant.slug}: {error}.") from None
            if database.connections.rewrap(tenant.slug, connection_id, sealed, new):
                done += 1
            elif (newer := database.connections.secret(tenant.slug, connection_id)) is not None:
                waiting[connection_id] = newer
    return Rotation(done, current)


@contextmanager
def _connection_errors(cure: str) -> Iterator[None]:
    """The errors of the envelope, with the command that mends a connection."""
    try:
        yield
    except envelope.EnvelopeError as error:
        raise SealError(f"{error}{cure}") from None
