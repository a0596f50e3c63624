"""API keys: create, rotate, end. The text of a key is in one answer and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response

from offgridflow_pipeline.database.people.api_keys import UnknownKeyError
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission, key_permissions
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import not_found
from offgridflow_pipeline.sidecar.portal.forms import Field, Fields, InvalidDayError, end_of_day, refusal_text
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import page, see_other
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(include_in_schema=False)

#: Text of a refusal by the field of an ApiKeyError.
_REFUSALS = {
    "name": "name_taken", "permissions": "permissions", "expires_at": "expires_at", "key_id": "key_ended",
    "keys": "too_many_keys",
}  # fmt: skip
#: Fields of an ApiKeyError that the form does not have: their text stands above the page.
_OF_NO_FIELD = {"key_id", "keys"}


@router.get("/keys")
def keys_page(auth: Annotated[Authorization, requires(Permission.KEYS_WRITE)]) -> Response:
    """Live keys, ended ones, and the form for a new one."""
    return _keys(auth)


@router.post("/keys")
def create_key(
    auth: Annotated[Authorization, requires(Permission.KEYS_WRITE, makes=Entitlement.KEYS)],
    name: Field = "",
    permissions: Fields = [],  # noqa: B006  read only
    until: Field = "",
) -> Response:
    """A new key, shown in this answer."""
    entered = {"name": name, "chosen": permissions, "until": until}
    try:
        wanted = [Permission(permission) for permission in permissions]
        expires_at = end_of_day(until)
        with auth.transaction() as caller:
            created = api_keys.create(
                caller.database,
                caller.tenant,
                name,
                wanted,
                creator=caller.principal,
                creator_permissions=caller.permissions,
                expires_at=expires_at,
                at_most=auth.services.settings.maximum_live_keys,
                **trail(auth.request),
            )
    except InvalidDayError:
        return _keys(auth, refused="expires_at", **entered)
    except api_keys.ApiKeyError as error:
        return _keys(auth, refused=error.field, **entered)
    except ValueError:
        return _keys(auth, refused="permissions", **entered)
    return page(auth.request, "key_created.html", caller, key=created.row, text=created.text)


@router.post("/keys/{key_id}/rotate")
def rotate_key(
    auth: Annotated[Authorization, requires(Permission.KEYS_WRITE, makes=Entitlement.KEYS)], key_id: str
) -> Response:
    """A successor, shown in this answer; the old key stays until it is ended."""
    try:
        with auth.transaction() as caller:
            created = api_keys.rotate(
                caller.database,
                caller.tenant,
                key_id,
                creator=caller.principal,
                creator_permissions=caller.permissions,
                **trail(auth.request),
            )
    except UnknownKeyError:
        raise not_found() from None
    except api_keys.ApiKeyError as error:
        return _keys(auth, refused=error.field)
    return page(auth.request, "key_created.html", caller, key=created.row, text=created.text)


@router.post("/keys/{key_id}/revoke")
def revoke_key(auth: Annotated[Authorization, requires(Permission.KEYS_WRITE)], key_id: str) -> Response:
    """End the key now."""
    try:
        with auth.transaction() as caller:
            api_keys.revoke(caller.database, caller.tenant, key_id, by=caller.principal, **trail(auth.request))
    except UnknownKeyError:
        raise not_found() from None
    return see_other("/keys?done=key_revoked")


def _keys(auth: Authorization, *, refused: str | None = None, **entered: Any) -> Response:
    with auth.transaction() as caller:
        rows = caller.database.api_keys.list(caller.tenant)
        people = people_of(caller)
    text = None if refused is None else refusal_text(auth.request, _REFUSALS[refused], caller)
    next_year = datetime.now(UTC).date() + api_keys.DEFAULT_LIFETIME
    return page(
        auth.request,
        "keys.html",
        caller,
        status=200 if refused is None else 422,
        keys=[row for row in rows if row.live],
        ended=[row for row in rows if not row.live],
        key_prefix=api_keys.PREFIX,
        people=people,
        grantable=[str(one) for one in Permission if one in key_permissions() and one in caller.permissions],
        name=entered.get("name", ""),
        chosen=entered.get("chosen", []),
        until=entered.get("until") or next_year.isoformat(),
        refusal=text if refused in _OF_NO_FIELD else None,
        wrong={} if refused is None else {refused: text},
    )
