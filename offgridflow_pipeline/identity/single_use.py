"""Single-use tokens of resets and invitations: 256 bits, made when the mail is sent, stored as keyed hashes.

The purpose is in the hash, so a reset token never accepts an invitation. A mail that is sent again gets another token;
the one before is void.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.identity.keyed_hashes import keyed_hash, new_token

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


class NothingToMintError(LookupError):
    """The reset or invitation was used, voided or has expired: the mail is not worth sending any more."""


def mint_reset(database: Database, user_id: UUID, reset_id: UUID, pepper: bytes) -> str:
    """The token of a password reset, for its mail alone.

    Raises:
        NothingToMintError: the request is used, void or expired.
    """
    token = new_token()
    if not database.password_resets.give_token(user_id, reset_id, keyed_hash("password_reset", token, pepper)):
        raise NothingToMintError(f"Password reset {reset_id} is used, void or expired.")
    return token


def mint_invitation(database: Database, tenant: str, invitation_id: UUID, pepper: bytes) -> str:
    """The token of an invitation, for its mail alone.

    Raises:
        NothingToMintError: the invitation is accepted, revoked or expired.
    """
    token = new_token()
    if not database.invitations.give_token(tenant, invitation_id, keyed_hash("invitation", token, pepper)):
        raise NothingToMintError(f"Invitation {invitation_id} is accepted, revoked or expired.")
    return token
