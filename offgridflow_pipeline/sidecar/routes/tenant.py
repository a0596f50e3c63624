"""The organisation one works in: its name, legal entity identifier and currency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from offgridflow_pipeline.database.tenants import TenantError
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.identity.profiles import display_name
from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires, signed_in
from offgridflow_pipeline.sidecar.entrance.problems import Problem, problem_responses
from offgridflow_pipeline.sidecar.entrance.refusals import refusals_as_problems

if TYPE_CHECKING:
    from offgridflow_pipeline.database.tenants import Tenant as TenantRow

router = APIRouter(tags=["tenant"])


class Settings(BaseModel):
    """What reports say about the organisation."""

    name: str
    lei: str | None = Field(description="Legal entity identifier, ISO 17442.")
    currency: str = Field(description="Reporting currency, ISO 4217.")


class Tenant(Settings):
    """The organisation."""

    tenant_id: UUID
    tenant: str = Field(description="Slug; it never changes.")
    status: Literal["active", "suspended", "closed"]


class SettingsChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Alder Industries", "currency": "EUR"}]}
    )

    name: str | None = Field(None, min_length=1, max_length=200)
    lei: str | None = Field(None, pattern="^([A-Z0-9]{18}[0-9]{2})?$", description="ISO 17442; empty text removes it.")
    currency: str | None = Field(None, pattern="^[A-Z]{3}$")


@router.get(
    "/tenant",
    operation_id="get_tenant",
    summary="The organisation you work in",
    response_model=Tenant,
    responses=problem_responses(401, 403, 429),
)
def get_tenant(auth: Annotated[Authorization, signed_in(tenant=True)]) -> Response:
    """Its slug, name, state and settings."""
    with auth.transaction() as caller:
        row = caller.database.tenants.get(caller.tenant)
    shown = Tenant(tenant_id=row.tenant_id, tenant=row.slug, status=row.status, **_settings(row).model_dump())
    return answers.read(Tenant, shown)


@router.get(
    "/settings",
    operation_id="get_settings",
    summary="Settings of the organisation",
    response_model=Settings,
    responses=problem_responses(401, 403, 429),
)
def get_settings(auth: Annotated[Authorization, signed_in(tenant=True)]) -> Response:
    """What reports say about it."""
    with auth.transaction() as caller:
        row = caller.database.tenants.get(caller.tenant)
    return answers.read(Settings, _settings(row))


@router.patch(
    "/settings",
    operation_id="change_settings",
    summary="Change settings of the organisation",
    response_model=Settings,
    responses=problem_responses(401, 403, 422, 429),
)
def change_settings(
    auth: Annotated[Authorization, requires(Permission.SETTINGS_WRITE)], body: SettingsChange
) -> Response:
    """Reports that are published stay as they are."""
    values = body.model_dump(exclude_none=True)
    with refusals_as_problems(), auth.transaction() as caller:
        changes: dict[str, str | None] = {}
        if "name" in values:
            changes["display_name"] = display_name(values["name"])
        if "lei" in values:
            changes["lei"] = values["lei"] or None
        if "currency" in values:
            changes["currency"] = values["currency"]
        try:
            row = caller.database.tenants.change(caller.tenant, changes)
        except TenantError as error:
            raise Problem(422, "invalid_request", str(error)) from error
        if changes:
            record(
                caller.database,
                caller.tenant,
                Action.SETTINGS_CHANGED,
                actor=caller.principal,
                target=f"tenant:{row.tenant_id}",
                details={"lei": row.lei, "currency": row.currency, "fields": sorted(values)},
                **trail(auth.request),
            )
    return answers.written(Settings, _settings(row), status=200)


def _settings(row: TenantRow) -> Settings:
    return Settings(name=row.display_name, lei=row.lei, currency=row.currency)
