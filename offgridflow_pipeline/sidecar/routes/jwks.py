"""Public keys of this installation: for services that check exchange tokens, and auditors that check anchors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from typing_extensions import TypedDict

from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance.authorization import public
from offgridflow_pipeline.sidecar.services import Services

router = APIRouter(tags=["machines"])
#: A new key is published for at least this long before it signs.
CACHE_SECONDS = 300


class PublicKey(TypedDict):
    """One Ed25519 key (RFC 8037)."""

    kty: str
    crv: str
    use: str
    alg: str
    kid: str
    x: str


class KeySet(TypedDict):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[PublicKey]


@router.get("/.well-known/jwks.json", operation_id="get_jwks", summary="Public keys", response_model=KeySet)
def get_jwks(services: Annotated[Services, public()]) -> Response:
    """Keys that verify our signatures, the one that will sign next among them."""
    return answers.written(
        KeySet,
        services.token_keys.jwks(),
        status=200,
        headers={"cache-control": f"public, max-age={CACHE_SECONDS}", "cross-origin-resource-policy": "cross-origin"},
    )
