"""`offgridflow connections` end to end: PostgreSQL, S3, denials, rotation, and no secret in any output."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import connections, db
from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, unseal
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline_tests.connectors.bills import cur_row, write_cur_delivery
from offgridflow_pipeline_tests.counterparts.postgres import migrated_database, settings
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server
from offgridflow_pipeline_tests.counterparts.scripted_server import Response, ScriptedServer, scripted_server

CANARY = "canary-5e1f-secret"
ROLE = "arn:aws:iam::123456789012:role/reader"


class CommandLine:
    """Runs commands against the session's database with settings that a test may change."""

    def __init__(self, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = settings(folder, database.admin_engine.url)
        monkeypatch.setattr(settings_module, "load_settings", lambda: self.settings)

    def set(self, **changes: Any) -> None:
        self.settings = self.settings.model_copy(update=changes)

    def __call__(self, *arguments: str, stdin: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(connections.app, arguments, input=stdin)
        assert CANARY not in result.output
        assert CANARY not in repr(result.exception)
        return result.exit_code, result.output


@pytest.fixture
def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(database, tmp_path, monkeypatch)


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


@pytest.fixture
def front(s3: S3Server) -> Iterator[ScriptedServer]:
    with scripted_server(s3.endpoint) as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> str:
    name = s3.new_bucket()
    write_cur_delivery(tmp_path / "bills", [[cur_row()]])
    for path in sorted(p for p in (tmp_path / "bills").rglob("*") if p.is_file()):
        s3.client().upload_file(str(path), name, f"bills/{path.relative_to(tmp_path / 'bills')}")
    return name


def _add_s3(run: CommandLine, tenant: str, front: ScriptedServer, bucket: str) -> None:
    secret = json.dumps({"access_key_id": CREDENTIAL, "secret_access_key": CANARY})
    code, output = run(
        "add", tenant, "payer", "--kind", "cur", "--uri", f"s3://{bucket}/bills", "--region", REGION,
        "--endpoint-url", front.endpoint, "--secret-stdin", stdin=f"{secret}\n",
    )  # fmt: skip
    assert (code, output) == (
        0,
        f"Added payer of {tenant}: cur by aws.\nTry it: offgridflow connections test {tenant} payer\n",
    )


def test_a_connection_is_added_sealed_tested_and_listed(
    run: CommandLine, database: Database, tenant: str, front: ScriptedServer, bucket: str
) -> None:
    _add_s3(run, tenant, front, bucket)
    sealed = database.connections.secret(tenant, "payer")
    assert sealed is not None
    opened = json.loads(unseal(KeyRing.of(run.settings), tenant, "payer", sealed).get_secret_value())
    assert opened == {"access_key_id": CREDENTIAL, "secret_access_key": CANARY}
    code, output = run("test", tenant)
    assert code == 0
    assert re.findall(r"^  (\w+) +([\w ]+):", output, re.MULTILINE) == [
        ("ok", "listing"), ("ok", "reading"), ("ok", "reading"), ("ok", "deliveries"),
    ]  # fmt: skip
    code, output = run("list", tenant)
    assert code == 0
    assert output.splitlines()[1].split() == [
        "payer", "cur", "active", "never", "sealed", f"s3://{bucket}/bills",
    ]  # fmt: skip


def test_a_missing_right_is_named_and_exits_with_1(
    run: CommandLine, tenant: str, front: ScriptedServer, bucket: str
) -> None:
    _add_s3(run, tenant, front, bucket)
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    front.rules.append(
        lambda request, _: Response(403, {"Content-Type": "application/xml"}, body) if request.method == "GET" else None
    )
    code, output = run("test", tenant, "payer")
    assert code == 1
    assert f"FAILED  listing: s3://{bucket}/bills cannot be read: s3:ListBucket on the bucket {bucket}" in output
    assert output.endswith("Not usable: payer.\n")


def test_the_list_tells_the_last_success_and_the_last_error(run: CommandLine, database: Database, tenant: str) -> None:
    assert run("add", tenant, "local", "--kind", "focus", "--uri", "/bills")[0] == 0
    database.connections.record_success(tenant, "local")
    assert re.search(r"local +focus +active +\d{4}-\d\d-\d\d \d\d:\d\dZ +ambient +/bills\n$", run("list", tenant)[1])
    database.connections.record_failure(tenant, "local", "no file\nat all")
    assert re.search(r"failing .*\n  \d{4}-\d\d-\d\d \d\d:\d\dZ no file at all\n$", run("list", tenant)[1])


def test_pause_resume_and_remove(run: CommandLine, database: Database, tenant: str) -> None:
    run("add", tenant, "local", "--kind", "focus", "--uri", "/bills")
    assert run("pause", tenant, "local") == (0, f"Paused local of {tenant}.\n")
    assert database.connections.get(tenant, "local").status == "paused"
    assert run("resume", tenant, "local") == (0, f"local of {tenant} is read again.\n")
    assert run("remove", tenant, "local") == (0, f"Removed local of {tenant}.\n")
    for verb in ("pause", "resume", "remove"):
        code, output = run(verb, tenant, "local")
        assert (code, output.startswith(f"Error: Tenant {tenant} has no connection 'local'")) == (1, True)
    code, output = run("list", tenant)
    assert (code, output.startswith("No connections yet: offgridflow connections add")) == (0, True)


def test_what_the_operator_does_to_a_connection_stands_in_the_audit_log(
    run: CommandLine, database: Database, tenant: str
) -> None:
    assert run("add", tenant, "c", "--kind", "focus", "--uri", "/bills")[0] == 0
    for verb in ("pause", "resume", "remove"):
        assert run(verb, tenant, "c")[0] == 0
    assert run("remove", tenant, "c")[0] == 1  # it is gone: nothing was done, nothing is told
    told = [json.loads(event.body) for event in database.audit_log.events(tenant, after=0, limit=10)]
    assert [event["action"] for event in told] == [f"connectors:{v}" for v in ("added", "paused", "resumed", "removed")]
    assert {event["target"] for event in told} == {"connection:c"}


def test_a_role_gets_an_external_id_that_stays_with_it(run: CommandLine, database: Database, tenant: str) -> None:
    options = ("--kind", "cur2", "--uri", "s3://bucket/exports", "--role-arn", ROLE)
    code, output = run("add", tenant, "payer", *options)
    made = re.search(rf"Trust policy of {ROLE}: condition sts:ExternalId = (ogf-[0-9a-f]{{32}})\n", output)
    assert code == 0
    assert made is not None
    assert database.connections.get(tenant, "payer").config == {"aws": {"role_arn": ROLE, "external_id": made[1]}}
    assert made[1] in run("add", tenant, "payer", *options, "--region", "eu-west-1", "--replace")[1]
    other = (*options[:-1], f"{ROLE}-of-somebody-else")
    assert made[1] not in run("add", tenant, "second", *other)[1]


def test_a_local_path_is_kept_whole(
    run: CommandLine, database: Database, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    run("add", tenant, "local", "--kind", "focus", "--uri", "usr/share")
    assert database.connections.get(tenant, "local").uri == "/usr/share"


@pytest.mark.parametrize(
    ("arguments", "stdin", "cure"),
    [
        (("--kind", "cur", "--uri", "ftp://b"), None, "uri begins with ftp://"),
        (("--kind", "cur", "--uri", "s3://b", "--scope", "/subscriptions/x"), None, "azure.scope is of no use"),
        (("--kind", "cur", "--uri", "s3://b", "--secret-stdin"), "", "Standard input holds no secret"),
        (("--kind", "cur", "--uri", "s3://b", "--secret-stdin"), CANARY, "must be a JSON object of access_key_id"),
        (("--kind", "cur", "--uri", "s3://b", "--secret-stdin", "--secret-ref", "env:X"), CANARY, "Give either"),
        (("--kind", "cur", "--uri", f"https://user:{CANARY}@host/x"), None, "holds what looks like a secret"),
    ],
)
def test_a_refused_connection_is_one_line_and_exit_code_1(
    run: CommandLine, database: Database, tenant: str, arguments: tuple[str, ...], stdin: str | None, cure: str
) -> None:
    code, output = run("add", tenant, "x", *arguments, stdin=stdin)
    assert (code, output.count("\n")) == (1, 1)
    assert cure in output
    assert database.connections.list(tenant) == []


def test_an_id_is_not_taken_twice_and_an_unknown_tenant_is_told(run: CommandLine, tenant: str) -> None:
    options = ("--kind", "focus", "--uri", "/bills")
    run("add", tenant, "x", *options)
    code, output = run("add", tenant, "x", *options)
    assert (code, "is there already: choose another id, or replace it" in output) == (1, True)
    assert run("add", tenant, "x", *options, "--replace")[0] == 0
    for verb in (("add", "nobody", "x", *options), ("list", "nobody"), ("test", "nobody")):
        code, output = run(*verb)
        assert (code, "offgridflow tenant add nobody" in output) == (1, True)


def test_a_secret_that_cannot_be_resolved_fails_the_test_with_its_cure(run: CommandLine, tenant: str) -> None:
    run("add", tenant, "x", "--kind", "cur", "--uri", "s3://b", "--secret-ref", "env:DATABASE_URL")
    code, output = run("test", tenant, "x")
    assert code == 1
    assert "FAILED  access: env:DATABASE_URL is not a variable that" in output


def test_testing_without_connections_is_no_success(run: CommandLine, tenant: str) -> None:
    assert run("test", tenant) == (1, f"{tenant} has no connections.\n")


def test_keys_are_rotated_and_the_old_one_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    with migrated_database() as own:  # a rotation goes over all tenants of a database
        own.tenants.add("acme", "Acme")
        run = CommandLine(own, tmp_path, monkeypatch)
        run.set(secret_keys=SecretStr(f"k1:{old}"))
        assert run(
            "add", "acme", "payer", "--kind", "focus", "--uri", "https://bills.example.org/a.csv", "--secret-stdin",
            stdin=CANARY,
        )[0] == 0  # fmt: skip
        run.set(secret_keys=SecretStr(f"k2:{new},k1:{old}"))
        code, output = run("rotate-key")
        assert code == 0
        assert output == (
            "1 secrets wrapped by the key k2, 0 were already.\n"
            "No secret needs the key k1 any more: remove it from OFFGRIDFLOW_SECRET_KEYS.\n"
        )
        run.set(secret_keys=SecretStr(f"k2:{new}"))
        sealed = own.connections.secret("acme", "payer")
        assert sealed is not None
        assert unseal(KeyRing.of(run.settings), "acme", "payer", sealed) == SecretStr(CANARY)
        run.set(secret_keys=SecretStr(f"k3:{new}"))
        code, output = run("rotate-key")
        assert code == 1
        assert "Connection 'payer' of acme: the key-encryption key 'k2' is not in OFFGRIDFLOW_SECRET_KEYS" in output
        assert CliRunner().invoke(db.app, ["verify"]).exit_code == 0


def test_without_keys_nothing_is_sealed(run: CommandLine, tenant: str) -> None:
    run.set(secret_keys=SecretStr(""))
    code, output = run("add", tenant, "x", "--kind", "cur", "--uri", "s3://b", "--secret-stdin", stdin=CANARY)
    assert (code, "OFFGRIDFLOW_SECRET_KEYS is empty" in output) == (1, True)


def test_a_connection_beyond_the_plan_is_neither_added_nor_resumed_where_tenants_subscribe(
    run: CommandLine, database: Database, tenant: str
) -> None:
    added = ("--kind", "cur2", "--uri", "/nowhere")
    run("add", tenant, "first", *added)
    run("add", tenant, "second", *added)  # without Stripe nothing is limited
    run("pause", tenant, "second")
    run.set(stripe_secret_key=SecretStr("sk_test_connections"))
    for refused in (["add", tenant, "third", *added], ["resume", tenant, "second"]):
        code, output = run(*refused)
        assert (code, "The free plan allows 1 connection" in output) == (1, True)
    assert run("add", tenant, "first", *added, "--replace")[0] == 0
    assert [row.connection_id for row in database.connections.list(tenant, paused=False)] == ["first"]
