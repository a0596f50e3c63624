"""Connections of a tenant: where its bills and carbon statements come from. Secrets go in and never come out.

Nothing here reaches a cloud: syncs and tests are jobs. Where a connection may point is decided in `connectors`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import TypedDict

from offgridflow_pipeline.connectors.connections import (
    AzureConfig,
    Connection,
    GcpConfig,
    HttpsConfig,
    Kind,
    Reconcile,
    connection,
    from_row,
    to_row,
)
from offgridflow_pipeline.connectors.credentials import check_form, check_places
from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretError
from offgridflow_pipeline.connectors.secrets.references import SEALED
from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, seal
from offgridflow_pipeline.database.pipeline.connections import ConnectionRow, UnknownConnectionError
from offgridflow_pipeline.database.statements import RecordError
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ConnectorSync, ConnectorTest, DayRangePayload
from offgridflow_pipeline.sidecar.answering import answers, pagination
from offgridflow_pipeline.sidecar.entrance import idempotency
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.caller import Caller
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent
from offgridflow_pipeline.sidecar.entrance.plan_limits import require_connection, require_entitled
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem, not_found, problem_responses
from offgridflow_pipeline.sidecar.routes.runs import Run, accepted
from offgridflow_pipeline.sidecar.run_requests import request_run
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(tags=["connectors"])

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MAXIMUM_SECRET_LENGTH = 64 * 2**10
ConnectionId = Annotated[str, Path(pattern=ID_PATTERN, description="Id of the connection.", examples=["aws-payer"])]
Secret = Annotated[
    SecretStr | None,
    Field(
        min_length=1, max_length=MAXIMUM_SECRET_LENGTH,
        description="Write-only, kept sealed: JSON of keys, a service account, a client secret or a bearer token.",
    ),
]  # fmt: skip


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewAws(_Asked):
    """AWS: the role to assume. Its external id is made here and told in the answer: nobody else can use the role."""

    role_arn: str = Field("", max_length=2048, examples=["arn:aws:iam::123456789012:role/offgridflow"])
    region: str = Field("", max_length=64, description="Region of the bucket.")
    endpoint_url: str = Field("", max_length=500, description="Another endpoint than Amazon's.")
    account_ids: list[str] = Field([], max_length=1000, description="Carbon statements of these accounts only.")


class NewConnector(_Asked):
    """A source of bills or carbon statements. Fill the part of the provider that is asked; leave the others out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "aws-payer",
                    "kind": "cur2",
                    "uri": "s3://acme-billing/exports/cur2",
                    "aws": {"role_arn": "arn:aws:iam::123456789012:role/offgridflow", "region": "eu-west-1"},
                }
            ]
        }
    )

    id: str = Field(pattern=ID_PATTERN, description="Chosen by you; rows of the ledger name it.")
    kind: Kind
    uri: str = Field("", max_length=2048, description="s3://, az://, gs://, bigquery:// or https://; empty for an API.")
    role: Literal["record", "reconciliation"] = "record"
    reconcile: Reconcile = "none"
    aws: NewAws = NewAws()
    azure: AzureConfig = AzureConfig()
    gcp: GcpConfig = GcpConfig()
    https: HttpsConfig = HttpsConfig()
    secret_ref: str = Field("", max_length=2048, description="Where the secret lies, instead of `secret`: aws-sm:NAME.")
    secret: Secret = None


class ConnectorChange(_Asked):
    """Pause or resume reading; or give a new secret in place of a sealed one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "paused"}]})

    status: Literal["active", "paused"] | None = None
    secret: Secret = None

    @model_validator(mode="after")
    def _changes_something(self) -> ConnectorChange:
        if self.status is None and self.secret is None:
            raise ValueError("name status, secret or both")
        return self


class ConnectorLinks(TypedDict):
    """Where to go from here."""

    self: str


class Connector(TypedDict):
    """A connection. `config` holds no secret; `secret` says how it is kept."""

    id: str
    provider: str
    kind: str
    role: str
    uri: str
    config: dict[str, Any]
    secret: Annotated[str, Field(description="ambient (none), sealed, or the kind of reference: aws-sm, env, ...")]
    status: Literal["active", "paused", "failing"]
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    created_at: datetime
    _links: ConnectorLinks


@router.get(
    "/connectors",
    operation_id="list_connectors",
    summary="Connections",
    response_model=answers.Page[Connector],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_connectors(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_READ)],
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """Connections by id, with when each was read and what went wrong last."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "connectors")
        after = cursors.read(cursor)
        rows = [
            row for row in caller.database.connections.list(caller.tenant) if not after or row.connection_id > after[0]
        ]
    page, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.connection_id,))
    return answers.read(
        answers.Page[Connector], answers.Page(items=[_shown(row) for row in page], next_cursor=next_cursor)
    )


@router.post(
    "/connectors",
    operation_id="create_connector",
    summary="Add a connection",
    status_code=201,
    response_model=Connector,
    responses=problem_responses(401, 403, 429, *idempotency.STATUSES),
)
def create_connector(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_WRITE, makes=Entitlement.CONNECTIONS)],
    body: NewConnector,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """Add a connection; without a secret it is reached by role or by the identity of OffGridFlow."""
    with auth.transaction() as caller, idempotent(caller, auth.request, _fingerprint(auth, body)) as once:
        if once.replay is not None:
            return once.replay
        with _told():
            wanted = _wanted(body)
            check_places(wanted, caller.tenant, auth.services.settings)
            sealed = None
            if body.secret is not None:
                check_form(wanted, body.secret)
                sealed = seal(KeyRing.of(auth.services.settings), caller.tenant, wanted.id, body.secret)
            if any(row.connection_id == wanted.id for row in caller.database.connections.list(caller.tenant)):
                raise Problem(409, "already_there", f"There is a connection {wanted.id!r} already: choose another id.")
            require_connection(caller, wanted.id)
            caller.database.connections.add(caller.tenant, wanted.id, **to_row(wanted), sealed=sealed)
        _audit(auth, caller, Action.CONNECTION_ADDED, wanted.id, kind=wanted.kind, provider=wanted.provider)
        row = caller.database.connections.get(caller.tenant, wanted.id)
        return once.keep(
            answers.written(Connector, _shown(row), headers={"location": f"/v1/connectors/{row.connection_id}"})
        )


@router.get(
    "/connectors/{connection_id}",
    operation_id="get_connector",
    summary="One connection",
    response_model=Connector,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def get_connector(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_READ)], connection_id: ConnectionId
) -> Response:
    """How it is reached, when it was read, and what went wrong last."""
    with auth.transaction() as caller:
        row = _found(caller, connection_id)
    return answers.read(Connector, _shown(row))


@router.patch(
    "/connectors/{connection_id}",
    operation_id="change_connector",
    summary="Pause, resume, or replace the secret",
    response_model=Connector,
    responses=problem_responses(401, 403, 404, 409, 422, 429),
)
def change_connector(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_WRITE)],
    connection_id: ConnectionId,
    body: ConnectorChange,
) -> Response:
    """Pause or resume reading; give a new secret. Another source is another connection.

    Pausing is always possible; the rest is for subscriptions that are paid, as far as the plan goes.
    """
    with auth.transaction() as caller:
        row = _found(caller, connection_id)
        if body.secret is not None:
            require_entitled(caller, Entitlement.CHANGES)
            _replace_secret(auth, caller, row, body.secret)
        if body.status == "paused":
            caller.database.connections.pause(caller.tenant, connection_id)
            _audit(auth, caller, Action.CONNECTION_PAUSED, connection_id)
        elif body.status == "active":
            require_connection(caller, connection_id)
            caller.database.connections.resume(caller.tenant, connection_id)
            _audit(auth, caller, Action.CONNECTION_RESUMED, connection_id)
        row = _found(caller, connection_id)
    return answers.written(Connector, _shown(row), status=200)


@router.delete(
    "/connectors/{connection_id}",
    operation_id="delete_connector",
    summary="Remove a connection",
    status_code=204,
    response_class=Response,
    responses=problem_responses(401, 403, 404, 422, 429),
)
def delete_connector(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_WRITE)], connection_id: ConnectionId
) -> Response:
    """Remove the connection and its secret. What was read through it stays until its days are read again."""
    with auth.transaction() as caller:
        _found(caller, connection_id)
        caller.database.connections.remove(caller.tenant, connection_id)
        _audit(auth, caller, Action.CONNECTION_REMOVED, connection_id)
    return Response(status_code=204)


@router.post(
    "/connectors/{connection_id}/sync",
    operation_id="sync_connector",
    summary="Read some days again",
    status_code=202,
    response_model=Run,
    responses=problem_responses(401, 403, 404, 429, *idempotency.STATUSES),
)
def sync_connector(
    auth: Annotated[Authorization, requires(Permission.RUNS_LAUNCH, makes=Entitlement.SYNCS)],
    connection_id: ConnectionId,
    body: DayRangePayload,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """Ask for the bills of some days of this connection to be read again; follow the run that it becomes."""
    with auth.transaction() as caller, idempotent(caller, auth.request, body) as once:
        if once.replay is not None:
            return once.replay
        _found(caller, connection_id)
        payload = ConnectorSync(first=body.first, last=body.last, connection_id=connection_id)
        return once.keep(accepted(request_run(caller, auth.services, auth.request, "connector_sync", payload)))


@router.post(
    "/connectors/{connection_id}/test",
    operation_id="test_connector",
    summary="Try the connection",
    status_code=202,
    response_model=Run,
    responses=problem_responses(401, 403, 404, 429, *idempotency.STATUSES),
)
def test_connector(
    auth: Annotated[Authorization, requires(Permission.RUNS_LAUNCH, makes=Entitlement.RUNS)],
    connection_id: ConnectionId,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """Ask for the smallest calls of everything the connection needs; the run tells which right is missing."""
    with auth.transaction() as caller, idempotent(caller, auth.request, None) as once:
        if once.replay is not None:
            return once.replay
        _found(caller, connection_id)
        payload = ConnectorTest(connection_id=connection_id)
        return once.keep(accepted(request_run(caller, auth.services, auth.request, "connector_test", payload)))


def _wanted(body: NewConnector) -> Connection:
    """The connection that is asked for.

    Raises:
        ConnectionConfigError: with every problem and its cure.
    """
    if body.secret is not None and body.secret_ref:
        raise ConnectionConfigError("Give either secret or secret_ref.")
    if body.secret_ref == SEALED:
        raise ConnectionConfigError("secret_ref: give the secret itself, then it is sealed.")
    aws = body.aws.model_dump(exclude_defaults=True)
    if body.aws.role_arn:
        aws["external_id"] = f"ogf-{uuid4().hex}"
    return connection(
        {
            "id": body.id,
            "kind": body.kind,
            "uri": body.uri,
            "role": body.role,
            "reconcile": body.reconcile,
            "aws": aws,
            "azure": body.azure.model_dump(exclude_defaults=True),
            "gcp": body.gcp.model_dump(exclude_defaults=True),
            "https": body.https.model_dump(exclude_defaults=True),
            "secret_ref": SEALED if body.secret is not None else body.secret_ref,
        }
    )


def _replace_secret(auth: Authorization, caller: Caller, row: ConnectionRow, secret: SecretStr) -> None:
    if row.secret_ref != SEALED:
        raise Problem(409, "not_sealed", "The secret of this connection is not kept here: change it where it lies.")
    with _told():
        check_form(from_row(row), secret)
        sealed = seal(KeyRing.of(auth.services.settings), caller.tenant, row.connection_id, secret)
        caller.database.connections.put_secret(caller.tenant, row.connection_id, sealed)
    _audit(auth, caller, Action.SECRET_CHANGED, row.connection_id)


def _found(caller: Caller, connection_id: str) -> ConnectionRow:
    try:
        return caller.database.connections.get(caller.tenant, connection_id)
    except UnknownConnectionError:
        raise not_found() from None


def _shown(row: ConnectionRow) -> Connector:
    return {
        "id": row.connection_id,
        "provider": row.provider,
        "kind": row.kind,
        "role": row.role,
        "uri": row.uri,
        "config": dict(row.config),
        "secret": (row.secret_ref or "ambient").partition(":")[0],
        "status": row.status,
        "last_attempt_at": row.last_attempt_at,
        "last_success_at": row.last_success_at,
        "last_error": row.last_error,
        "created_at": row.created_at,
        "_links": {"self": f"/v1/connectors/{row.connection_id}"},
    }


@contextmanager
def _told() -> Iterator[None]:
    """A refusal of the connection or its secret becomes 422 with its text: place and cure, never the secret."""
    try:
        yield
    except (ConnectionConfigError, SecretError, RecordError) as error:
        raise _invalid("", str(error)) from None


def _invalid(field: str, message: str) -> Problem:
    pointer = f"/body/{field}".rstrip("/")
    wrong = FieldProblem(pointer=pointer, message=message, code="invalid_connection")
    return Problem(422, "invalid_connection", message, errors=[wrong])


def _fingerprint(auth: Authorization, body: NewConnector) -> bytes:
    """What the request asks for; of its secret only a keyed hash, so that another secret is another request."""
    secret = body.secret.get_secret_value().encode() if body.secret else b""
    return body.model_dump_json(exclude={"secret"}).encode() + hmac.digest(auth.services.pepper, secret, "sha256")


def _audit(auth: Authorization, caller: Caller, action: Action, connection_id: str, **details: str) -> None:
    record(
        caller.database,
        caller.tenant,
        action,
        actor=caller.principal,
        target=f"connection:{connection_id}",
        details=details,
        **trail(auth.request),
    )
