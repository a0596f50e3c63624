"""API keys of the tenant: create (shown once), list, rotate, revoke; and revocation by whoever finds a leaked one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from offgridflow_pipeline.database.people.api_keys import ApiKeyRow, UnknownKeyError
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.answering import answers, pagination
from offgridflow_pipeline.sidecar.entrance import idempotency
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, public, requires
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent
from offgridflow_pipeline.sidecar.entrance.middleware import too_many
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem, not_found, problem_responses
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(tags=["api-keys"])
KeyId = Annotated[
    str, Path(pattern="^[0-9A-Za-z]{10}$", description="Id as the list shows it.", examples=["Xk3PqZ81aB"])
]


class NewKey(BaseModel):
    """What a key is for and what it may do."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "dashboard", "permissions": ["emissions:read"]}]},
    )

    name: str = Field(min_length=1, max_length=100, pattern=r"\S", description="What the key is for.")
    permissions: list[Permission] = Field(
        min_length=1, max_length=50, description="At most what you hold and keys may have."
    )
    expires_at: AwareDatetime | None = Field(None, description="At most two years ahead; default: in one year.")


class LeakedKey(BaseModel):
    """A key that was found where it should not be."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"key": "ogf_live_…"}]})

    key: str = Field(min_length=1, max_length=500)


class ApiKey(TypedDict):
    """A key without its secret. `state` is `live`, `expired` or `revoked`."""

    key_id: str
    name: str
    permissions: list[str]
    state: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: Annotated[datetime | None, Field(description="To the minute; null = never.")]
    revoked_at: datetime | None


class CreatedApiKey(ApiKey):
    """A new key with its text, which is not kept and not shown again."""

    key: str


class Received(TypedDict):
    """The same answer for every key, live or not."""

    status: str


@router.get(
    "/api-keys",
    operation_id="list_api_keys",
    summary="API keys, newest first",
    response_model=answers.Page[ApiKey],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_api_keys(
    auth: Annotated[Authorization, requires(Permission.KEYS_WRITE)],
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Every key of the organisation, those that have ended among them."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "api-keys")
        rows = caller.database.api_keys.newest(caller.tenant, after=cursors.read(cursor), limit=limit + 1)
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.created_at, row.key_id))
    return answers.read(
        answers.Page[ApiKey], answers.Page(items=[_shown(row) for row in page], next_cursor=next_cursor)
    )


@router.post(
    "/api-keys",
    operation_id="create_api_key",
    summary="Create an API key",
    status_code=201,
    response_model=CreatedApiKey,
    responses=problem_responses(401, 403, 429, *idempotency.STATUSES),
)
def create_api_key(
    auth: Annotated[Authorization, requires(Permission.KEYS_WRITE, makes=Entitlement.KEYS)],
    body: NewKey,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """A new key. Its text is in this answer and nowhere else: keep it in a secret store.

    Code `too_many_keys`: the organisation has as many live keys as it may have.
    """
    with auth.transaction() as caller, idempotent(caller, auth.request, body) as once:
        if once.replay is not None:
            return once.replay
        try:
            created = api_keys.create(
                caller.database,
                caller.tenant,
                body.name,
                body.permissions,
                creator=caller.principal,
                creator_permissions=caller.permissions,
                expires_at=body.expires_at,
                at_most=auth.services.settings.maximum_live_keys,
                **trail(auth.request),
            )
        except api_keys.TooManyKeysError as error:
            raise Problem(409, "too_many_keys", str(error)) from error
        except api_keys.ApiKeyError as error:
            raise _refused(error, "/body/") from error
        return once.keep(_created(created))


@router.post(
    "/api-keys/{key_id}/rotate",
    operation_id="rotate_api_key",
    summary="Make a successor of an API key",
    status_code=201,
    response_model=CreatedApiKey,
    responses=problem_responses(401, 403, 404, 429, *idempotency.STATUSES),
)
def rotate_api_key(
    auth: Annotated[Authorization, requires(Permission.KEYS_WRITE, makes=Entitlement.KEYS)],
    key_id: KeyId,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """A key of the same name and permissions. The old one lives on until you revoke it or it expires."""
    with auth.transaction() as caller, idempotent(caller, auth.request, None) as once:
        if once.replay is not None:
            return once.replay
        try:
            created = api_keys.rotate(
                caller.database,
                caller.tenant,
                key_id,
                creator=caller.principal,
                creator_permissions=caller.permissions,
                **trail(auth.request),
            )
        except UnknownKeyError as error:
            raise not_found() from error
        except api_keys.ApiKeyError as error:
            raise Problem(409, "key_not_rotatable", str(error)) from error
        return once.keep(_created(created))


@router.delete(
    "/api-keys/{key_id}",
    operation_id="revoke_api_key",
    summary="Revoke an API key",
    response_model=ApiKey,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def revoke_api_key(auth: Annotated[Authorization, requires(Permission.KEYS_WRITE)], key_id: KeyId) -> Response:
    """End the key now; revoking it again changes nothing. It stays in the list."""
    with auth.transaction() as caller:
        try:
            row = api_keys.revoke(
                caller.database,
                caller.tenant,
                key_id,
                by=caller.principal,
                **trail(auth.request),
            )
        except UnknownKeyError as error:
            raise not_found() from error
    return answers.written(ApiKey, _shown(row), status=200)


@router.post(
    "/api-keys/revoke-by-value",
    operation_id="revoke_leaked_api_key",
    summary="Revoke a key that was found in public",
    status_code=202,
    response_model=Received,
    responses=problem_responses(422, 429),
)
def revoke_leaked_api_key(services: Annotated[Services, public()], request: Request, body: LeakedKey) -> Response:
    """For secret scanners. Needs no credential: who has a key may end it. The answer never tells whether it lived."""
    if refused := services.rate_limiter.refusal("key_revocation.address", request.state.client_ip):
        raise too_many(refused)
    api_keys.revoke_by_value(services.database, body.key, **trail(request))
    received: Received = {"status": "received"}
    return answers.written(Received, received, status=202)


def _created(created: api_keys.CreatedKey) -> Response:
    shown: CreatedApiKey = {**_shown(created.row), "key": created.text}
    return answers.written(CreatedApiKey, shown, status=201, headers={"location": f"/v1/api-keys/{created.row.key_id}"})


def _shown(row: ApiKeyRow) -> ApiKey:
    return {
        "key_id": row.key_id,
        "name": row.name,
        "permissions": row.permissions,
        "state": row.state,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
    }


def _refused(error: api_keys.ApiKeyError, place: str) -> Problem:
    return Problem(
        422,
        "invalid_request",
        str(error),
        errors=[FieldProblem(pointer=f"{place}{error.field}", message=str(error), code="not_allowed")],
    )
