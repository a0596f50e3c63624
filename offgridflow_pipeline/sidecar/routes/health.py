"""Health for machines that watch: is the process alive, and can it serve."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance.authorization import public
from offgridflow_pipeline.sidecar.entrance.problems import Problem, problem_responses
from offgridflow_pipeline.sidecar.services import Services

router = APIRouter(tags=["health"])
_NO_STORE = {"cache-control": "no-store"}


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/livez", operation_id="get_liveness", summary="The process is alive", response_model=Health)
async def get_liveness(services: Annotated[Services, public()]) -> Response:
    """Answers without touching database, lake or disk."""
    return answers.read(Health, Health(), headers=_NO_STORE)


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="The process can serve",
    response_model=Health,
    responses=problem_responses(503),
)
def get_readiness(services: Annotated[Services, public()]) -> Response:
    """Asks the database, whether its schema is the code's, and whether the artefact store can be reached."""
    if missing := services.readiness.missing():
        raise Problem(503, "not_ready", f"Not ready: {', '.join(missing)}.", headers={"Retry-After": "5"})
    return answers.read(Health, Health(), headers=_NO_STORE)
