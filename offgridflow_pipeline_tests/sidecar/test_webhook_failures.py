"""Database and sidecar that die between insert and answer: no event is lost, none is there twice, none acknowledged unstored."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, Login
from offgridflow_pipeline_tests.sidecar.webhook_door import PATH, STATED, Door, Stored, problem
from offgridflow_pipeline_tests.subscriptions.signed_events import body, header, id_of


#: The sidecar's login, with bounds that tests can wait for.
def _impatient(database: Database) -> Database:
    login = database._logins[0]
    return Database(database._admin_url, [Login(login.role, login.password, "300ms", "200ms", 0)])


def _told_to_send_again(answer: Any) -> None:
    problem(answer, 503, "not_stored")
    assert answer.headers["retry-after"] == "30"


def test_without_its_database_it_acknowledges_nothing(api_database: Database, stored: Stored, tmp_path: Path) -> None:
    payload = body()
    nowhere = Database(api_database._admin_url.set(host="127.0.0.1", port=1), api_database._logins)
    with closing(nowhere) as gone:
        _told_to_send_again(Door(gone, tmp_path).send(payload))
    assert Door(api_database, tmp_path).send(payload).status_code == 200
    assert stored() == [id_of(payload)]


def test_a_database_that_is_too_busy_is_waited_for_by_stripe(
    database: Database, api_database: Database, stored: Stored, tmp_path: Path
) -> None:
    payload = body()
    with closing(_impatient(api_database)) as hurried:
        door = Door(hurried, tmp_path)
        with database.admin_engine.begin() as other:
            other.exec_driver_sql("lock table ogf.external_events in access exclusive mode")
            _told_to_send_again(door.send(payload))
        taken = [hurried.application_engine.connect() for _ in range(5)]
        _told_to_send_again(door.send(payload))
        for connection in taken:
            connection.close()
        assert door.send(payload).status_code == 200
    assert stored() == [id_of(payload)]


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute", "commit"])
def test_a_database_that_dies_meanwhile_loses_no_event(
    database: Database, api_database: Database, stored: Stored, tmp_path: Path, moment: str
) -> None:
    payload = body()
    killed: list[int] = []

    def kill(*_event: Any) -> None:
        if not killed:
            with database.admin_engine.begin() as connection:
                killed.extend(
                    connection.scalars(
                        sa.text(
                            "select pid from (select pid, pg_terminate_backend(pid, 5000) as ended"
                            " from pg_stat_activity where usename = 'ogf_api'"
                            " and datname = current_database() and application_name = 'offgridflow') found where ended"
                        )
                    )
                )

    with closing(api_database.connected_as("ogf_api")) as served:
        door = Door(served, tmp_path)
        assert door.send(body("payout.paid")).status_code == 200
        before = stored()
        sa.event.listen(served.application_engine, moment, kill)
        _told_to_send_again(door.send(payload))
        assert stored() == before
        assert door.send(payload).status_code == 200
    assert killed
    assert stored() == [*before, id_of(payload)]


#: A sidecar that dies at the moment that its argument names: `commit` is before the row is there, `answer` after it.
_MORTAL = """
import os, signal, sys
import sqlalchemy as sa
import uvicorn
from offgridflow_pipeline.database.money import external_events
from offgridflow_pipeline.database.engine import Database, Login
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app

url, password, folder, moment = sys.stdin.read().split("\\n")
database = Database(sa.make_url(url), [Login("ogf_api", password)])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment == "commit":
    sa.event.listen(database.application_engine, "commit", die)
else:
    stored = external_events.ExternalEvents.add
    external_events.ExternalEvents.add = lambda self, event: (stored(self, event), die())
settings = Settings(_env_file=None, environment="test", data_dir=folder)
config = uvicorn.Config(create_app(settings, database), port=0, log_config=None, lifespan="off")
server = uvicorn.Server(config)
import asyncio
async def serve():
    listening = config.bind_socket()
    print(listening.getsockname()[1], flush=True)
    await server.serve([listening])
asyncio.run(serve())
"""


@pytest.mark.parametrize(("moment", "left_behind"), [("commit", 0), ("answer", 1)])
def test_a_sidecar_killed_between_insert_and_answer_leaves_one_event_after_the_retry(
    api_database: Database, door: Door, stored: Stored, tmp_path: Path, moment: str, left_behind: int
) -> None:
    payload = body()
    url = api_database._admin_url.render_as_string(hide_password=False)
    stated = {name.upper(): value for name, value in STATED.items()}
    with subprocess.Popen(
        [sys.executable, "-c", _MORTAL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**_environment(), **stated},
    ) as sidecar:  # fmt: skip
        assert sidecar.stdin is not None
        assert sidecar.stdout is not None
        sidecar.stdin.write("\n".join((url, api_database._logins[0].password, str(tmp_path), moment)))
        sidecar.stdin.close()
        port = int(sidecar.stdout.readline())
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.post(
                f"http://127.0.0.1:{port}{PATH}", content=payload, headers={"Stripe-Signature": header(payload)}
            )
        assert sidecar.wait(10) == -9
    assert len(stored()) == left_behind
    assert door.send(payload).status_code == 200
    assert stored() == [id_of(payload)]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "PYTHONPATH", "TMPDIR"}}


def test_a_sender_that_hangs_up_leaves_no_event_and_no_error(
    door: Door, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[Any] = []
    payload = body()
    messages = iter([{"type": "http.request", "body": payload[:50], "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": "POST", "path": PATH, "query_string": b"", "http_version": "1.1", "scheme": "http",
        "headers": [(b"host", b"testserver"), (b"stripe-signature", header(payload).encode())],
        "client": ("203.0.113.7", 1), "server": ("testserver", 80), "root_path": "",
    }  # fmt: skip
    asyncio.run(door.app(scope, receive, send))
    assert [message.get("status") for message in said] == [400, None]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert stored() == []
