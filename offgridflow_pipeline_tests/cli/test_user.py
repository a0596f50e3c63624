"""`offgridflow user`: people made, helped and disabled on the operator's command line."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import user
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import sign_in
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline_tests.counterparts.postgres import settings
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    TestMeans,
    audited,
    enrolled,
    mails,
    new_person,
    visitor,
)

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    known = settings(tmp_path, database.admin_engine.url)
    monkeypatch.setattr(settings_module, "load_settings", lambda: known)

    def command(*arguments: str, stdin: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(user.app, arguments, input=stdin)
        return result.exit_code, result.output

    return command


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def email() -> str:
    return f"{uuid.uuid4().hex[:12]}@alder.example"


def test_an_owner_is_added_with_a_password_shown_once(
    run: Run, means: TestMeans, email: str, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    code, output = run("add", email, "Olga Owner", "--tenant", tenant)
    password = re.search(r"shown once: (\S{24})", output).group(1)
    assert code == 0
    begun = sign_in.sign_in(means, visitor(), email, password)
    assert (begun.tenant.slug, begun.tenant.role) == (tenant, "owner")
    listed = run("list")[1]
    assert f"{tenant}:owner" in next(line for line in listed.splitlines() if email in line)
    assert password not in listed
    assert ("members:added", "success") in audited(means.database, tenant)


def test_a_given_password_is_read_and_never_printed(run: Run, means: TestMeans, email: str) -> None:
    code, output = run("add", email, "Olga", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert (code, PASSWORD in output) == (0, False)
    assert sign_in.sign_in(means, visitor(), email, PASSWORD)
    assert run("set-password", email, "--password-stdin", stdin="password123456\n")[0] == 1
    assert run("set-password", email, "--password-stdin", stdin="\n")[0] == 1
    made = run("set-password", email)[1]
    assert sign_in.sign_in(means, visitor(), email, re.search(r"once: (\S{24})", made).group(1))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "no address", "Olga"], "no e-mail address"),
        (["add", "a@alder.example", "Olga\nBcc"], "one line"),
        (["add", "a@alder.example", "Olga", "--tenant", "there-is-none"], "No tenant"),
        (["add", "a@alder.example", "Olga", "--tenant", "x", "--role", "king"], "no role"),
        (["add", "a@alder.example", "Olga", "--locale", "fr"], "texts in"),
        (["disable", "stranger@alder.example"], "no active user"),
        (["enable", "stranger@alder.example"], "nothing here"),
        (["platform-role", "a@alder.example", "king"], "no platform role"),
        (["invite", "there-is-none", "a@alder.example"], "No tenant"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_1(run: Run, arguments: list[str], reason: str) -> None:
    code, output = run(*arguments)
    assert code == 1
    assert reason in output
    assert len(output.strip().splitlines()) == 1


def test_an_address_is_added_once(run: Run, email: str) -> None:
    assert run("add", email, "Olga")[0] == 0
    code, output = run("add", email.upper(), "Olga")
    assert (code, "already" in output) == (1, True)


def test_a_disabled_person_is_out_until_enabled(run: Run, means: TestMeans) -> None:
    person = new_person(means.database)
    assert run("disable", person.email)[0] == 0
    with pytest.raises(RefusedError):
        sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    assert run("enable", person.email)[0] == 0
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)


def test_a_lost_second_factor_is_forgotten(run: Run, means: TestMeans) -> None:
    person, _ = enrolled(means, new_person(means.database))
    assert "Rotated 0" in run("rotate-key")[1]
    assert "password alone" in run("reset-second-factor", person.email)[1]
    assert "no second factor" in run("reset-second-factor", person.email)[1]
    assert not sign_in.sign_in(means, visitor(), person.email, PASSWORD).second_factor


def test_platform_staff_break_the_glass_with_a_reason(
    run: Run, means: TestMeans, new_tenant: Callable[[], str]
) -> None:
    tenant, person = new_tenant(), new_person(means.database)
    assert run("break-glass", person.email, tenant, "--reason", "ticket 7")[0] == 1
    assert run("platform-role", person.email, "platform_operator")[0] == 0
    assert run("break-glass", person.email, tenant)[0] == 1
    assert "may read" in run("break-glass", person.email, tenant, "--reason", "ticket 7")[1]
    assert "1 grants" in run("break-glass", person.email, tenant, "--revoke")[1]
    assert run("platform-role", person.email, "none")[0] == 0
    actions = [action for action, _ in audited(means.database, tenant)]
    assert actions == ["access:break_glass:granted", "access:break_glass:revoked"]


def test_a_first_owner_is_invited_by_mail(
    run: Run, means: TestMeans, email: str, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    assert run("invite", tenant, email, "--role", "auditor", "--days", "30")[0] == 0
    assert run("invite", tenant, email)[0] == 0
    assert run("invite", tenant, email, "--role", "king")[0] == 1
    assert [name for name, _ in mails(means.database, tenant, email)] == ["invitation"] * 2
    assert [row.role for row in means.database.invitations.list(tenant)] == ["owner"]
