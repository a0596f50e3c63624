"""Schemathesis against the app in process, as an owner's session and as an API key: every answer is a described one.

In the suite with a small fixed budget; ``OFFGRIDFLOW_FUZZ_EXAMPLES=300 python -m pytest -m slow <this file>`` asks that
often for each operation, each time with other requests, and walks every boundary case that Schemathesis knows.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.specs.openapi.checks import (
    ensure_resource_availability,
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.sidecar.contract import operations
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE
from offgridflow_pipeline_tests.sidecar.world import Someone, World

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
HAND_RUN = int(os.environ.get("OFFGRIDFLOW_FUZZ_EXAMPLES", "0"))
EXAMPLES, BOUNDARY_CASES, JOURNEYS = (HAND_RUN, 10_000, HAND_RUN) if HAND_RUN else (3, 8, 40)
#: Who may what is held by the access matrix; what a schema allows may still be refused for its meaning.
UNASKED = [ignored_auth, positive_data_acceptance]
#: Checks that would misread an operation: another path template matches too, so another method is a right answer of
#: that one; and every part of a form is text, so nothing that Schemathesis puts into the file can be of a wrong type.
MISREAD = {
    "POST /v1/api-keys/revoke-by-value": [unsupported_method],
    "POST /v1/invitations/accept": [unsupported_method],
    "POST /v1/uploads": [negative_data_rejection],
}
#: These end sessions: each request comes with a session of its own, of somebody nobody else uses.
ENDING = {
    "POST /v1/auth/logout",
    "POST /v1/auth/password/change",
    "POST /v1/auth/totp/confirm",
    "POST /v1/me/tenant",
    "DELETE /v1/me/sessions",
    "DELETE /v1/me/sessions/{session_id}",
}
#: These could take away the owner who asks, or their session; journeys know members and sessions.
UNSEATING = [
    "remove_member", "change_member", "sign_out", "change_password", "confirm_second_factor", "switch_tenant",
    "revoke_session", "revoke_other_sessions",
]  # fmt: skip
LABELS = sorted(f"{method.upper()} {path}" for path, method, _ in operations(json.loads(DOCUMENT.read_text("utf-8"))))


def without_lifespan(app: Any) -> Any:
    """The app, which here is not started: no mail is sent, and each test of pytest would start it anew."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        await app(scope, receive, send)

    return served


@dataclass
class Fuzzed:
    """The app as its document describes it, one tenant with things of each kind, and who asks."""

    world: World
    schema: Any = field(init=False)
    ids: dict[str, list[str]] = field(init=False)
    _cases: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        world = self.world
        self.schema = schemathesis.openapi.from_asgi("/v1/openapi.json", without_lifespan(world.app))
        self.schema.config.generation.update(with_security_parameters=False)
        rejection = self.schema.config.checks.negative_data_rejection
        rejection.expected_statuses = [*rejection.expected_statuses, "413"]  # told before what is wrong is read
        self.operations = {found.ok().label: found.ok() for found in self.schema.get_all_operations()}
        self.tenant = world.tenant()
        self.owner, self.leaver = world.someone(self.tenant, "owner"), world.someone(self.tenant, "owner")
        self.key = world.key(self.tenant)
        reports = [f"rep_{make(self.tenant)}" for make in (world.report, world.report, world.approved_report)]
        self.ids = {
            "report_id": reports,
            "name": ["report.pdf"],
            "link": [self._signed_link(reports[0])],
            "job_id": [f"job_{world.job(self.tenant)}" for _ in range(3)],
            "upload_id": [f"upl_{world.upload(self.tenant)}"],
            "connection_id": [world.connection(self.tenant) for _ in range(3)],
            "invitation_id": [str(world.invitation(self.tenant)) for _ in range(3)],
            "user_id": [str(world.someone(self.tenant).user_id) for _ in range(3)],
            "line_id": [world.ledger_line(self.tenant)],
            "key_id": [world._key(self.tenant).row.key_id for _ in range(2)],
        }

    def _signed_link(self, report: str) -> str:
        answer = self.world.client.get(f"/v1/reports/{report}/artifacts/report.pdf/link", headers=self.key)
        return str(answer.json()["url"]).rpartition("/")[2]

    def as_owner(self, label: str) -> dict[str, str]:
        """Headers of the owner's browser."""
        person = self.leaver if label in ENDING else self.owner
        token = self.world.session(person.user_id, self.tenant) if label in ENDING else person.token
        return Someone(person.user_id, person.email, self.tenant, token).headers

    def as_key(self, _label: str) -> dict[str, str]:
        """Headers of a machine."""
        return self.key

    def hold(self, case: Any, headers: dict[str, str]) -> Any:
        """Ask, and hold the answer against the document."""
        answer = case.call(headers=headers)
        case.validate_response(answer, excluded_checks=[*UNASKED, *MISREAD.get(case.operation.label, ())])
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == [MEDIA_TYPE]
        return answer

    def cases(self, label: str) -> list[Any]:
        """Boundary cases, then generated requests, right and wrong ones; made once for all who ask."""
        if label not in self._cases:
            self._cases[label] = [*self._boundaries(label)]
            numbers = itertools.count()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._cases[label] += self._generated(label, mode, numbers)
        return self._cases[label]

    def _boundaries(self, label: str) -> Iterator[Any]:
        found = self.schema.iter_coverage_cases(
            self.operations[label],
            generation_modes=list(GenerationMode),
            generation_config=self.schema.config.generation,
        )
        return itertools.islice(found, BOUNDARY_CASES)

    def _generated(self, label: str, mode: GenerationMode, numbers: Iterator[int]) -> list[Any]:
        found: list[Any] = []

        @given(self.operations[label].as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=not HAND_RUN,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        )  # fmt: skip
        def each(case: Any) -> None:
            if mode is GenerationMode.POSITIVE and next(numbers) % 2:
                self._name_what_is_there(case, next(numbers))
            found.append(case)

        try:
            each()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, label  # nothing in such a request can be wrong
        return found

    def _name_what_is_there(self, case: Any, number: int) -> None:
        for name in case.path_parameters or {}:
            if known := self.ids.get(name):
                case.path_parameters[name] = known[number % len(known)]


@pytest.fixture(scope="module")
def fuzzed(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Fuzzed:
    return Fuzzed(World(database, api_database, tmp_path_factory.mktemp("fuzzed")))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("who", ["as_owner", "as_key"])
def test_every_answer_is_one_that_the_document_describes(fuzzed: Fuzzed, who: str, label: str) -> None:
    headers = getattr(fuzzed, who)
    for case in fuzzed.cases(label):
        fuzzed.hold(case, headers(label))


def test_answers_along_journeys_through_what_was_created_are_described(fuzzed: Fuzzed) -> None:
    schema = fuzzed.schema.exclude(operation_id=UNSEATING)
    schema.config.update(headers=fuzzed.as_owner("a journey"))
    schema.config.phases.update(phases=["stateful"])
    # Who asks for a report gets the run that will make it: Schemathesis takes the run's id for a report's.
    unasked = {
        check.__name__ for check in (*UNASKED, *itertools.chain(*MISREAD.values()), ensure_resource_availability)
    }
    schema.config.checks.update(excluded_check_names=sorted(unasked))
    schema.config.generation.update(max_examples=JOURNEYS, deterministic=not HAND_RUN)
    statuses: set[int] = set()
    wrong: list[str] = []
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError | FatalError):
            wrong.append(repr(event))
        if isinstance(event, ScenarioFinished):
            statuses |= {asked.response.status_code for asked in event.recorder.interactions.values() if asked.response}
            wrong += [
                f"{node.failure_info.failure} {node.failure_info.code_sample}"
                for nodes in event.recorder.checks.values()
                for node in nodes
                if node.failure_info is not None
            ]
    assert wrong == []
    assert {200, 201, 404} <= statuses
