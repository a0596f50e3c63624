"""The app asked as Stripe asks it, and what its inbox holds, seen past the sidecar, which may not look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline_tests.subscriptions.signed_events import PREVIOUS_SECRET, SECRET, header

PATH = "/v1/webhooks/stripe"
KEY = "sk_test_of_these_tests"
STATED: dict[str, Any] = {
    "stripe_secret_key": KEY,
    "stripe_webhook_secret": SECRET,
    "stripe_webhook_secret_previous": PREVIOUS_SECRET,
}


class Door:
    """The app of some settings, asked as Stripe asks."""

    def __init__(self, database: Database, folder: Path, **stated: Any) -> None:
        self.settings = Settings(_env_file=None, environment="test", data_dir=folder, **{**STATED, **stated})
        self.app = create_app(self.settings, database)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def send(self, payload: bytes, signature: str | None = None, **more: Any) -> Any:
        """Deliver the bytes, signed now unless a signature is stated."""
        signed = {"Stripe-Signature": header(payload) if signature is None else signature}
        return self.client.post(PATH, content=payload, headers={"Content-Type": "application/json", **signed}, **more)


class Stored:
    """The events of the inbox; called: a column of them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def __call__(self, column: str = "external_id") -> list[Any]:
        with self.database.admin_engine.connect() as connection:
            statement = f"select {column} from ogf.external_events where source = 'stripe' order by received_at"
            return list(connection.scalars(sa.text(statement)))

    def forget(self) -> None:
        """Remove them."""
        with self.database.admin_engine.begin() as connection:
            connection.exec_driver_sql("delete from ogf.external_events where source = 'stripe'")


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The problem document, after a look at its status and code."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    found: dict[str, Any] = answer.json()
    assert found["code"] == code
    return found
