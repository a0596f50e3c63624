"""Non-interference: what A asks is answered the same, byte for byte, whatever B has done; and A does nothing to B.

Acceptance checks 2 and 3 of the service reference, over every method of every repository. Each question is asked as
both login roles, in a transaction that is rolled back: first as things are, then after changes of B's rows that no
repository could make, and once more with the tenant predicate cut out of every statement.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.database.engine import Database, TenantScope, UserScope, enter, enter_user
from offgridflow_pipeline.database.registry import Repositories
from offgridflow_pipeline_tests.database.filled import TENANT_ROWS, USER_ROWS, Filled, fill
from offgridflow_pipeline_tests.database.questions import ACROSS, PERSON_QUESTIONS, TENANT_QUESTIONS, Ask

ROLES = ("ogf_pipeline", "ogf_api")
QUESTIONS: Mapping[str, list[Ask]] = {**TENANT_QUESTIONS, **PERSON_QUESTIONS}
AUDITED = ("audit_events", "audit_heads")


@dataclasses.dataclass
class Pair:
    """Two tenants with rows in every table, and one administrative connection for everything."""

    database: Database
    connection: sa.Connection
    a: Filled
    b: Filled
    filled_at: datetime

    def answers(self, names: Mapping[str, list[Ask]] = QUESTIONS) -> dict[str, str]:
        """Every question's answer as text, as each role; nothing that was written stays."""
        return {
            f"{name} [{number}] as {role}": self._answer(role, name.partition(".")[0], ask)
            for name, asks in names.items()
            for number, ask in enumerate(asks)
            for role in ROLES
        }

    def _answer(self, role: str, repository: str, ask: Ask) -> str:
        with self._as_a(role) as bound:
            try:
                return self._text(ask(getattr(bound, repository), self.a, self.b))
            except Exception as error:  # noqa: BLE001  a refusal is an answer, and its text must tell nothing either
                return f"{type(error).__name__}: {self._text(str(error).splitlines()[0])}"

    @contextmanager
    def _as_a(self, role: str) -> Iterator[Database]:
        kept = self.connection.begin_nested()
        try:
            self.connection.exec_driver_sql(f"set local role {role}")
            enter(self.connection, self.a.tenant_id)
            enter_user(self.connection, self.a.user_id)
            yield self.database.within(
                TenantScope(self.connection, self.a.tenant_id, self.a.slug),
                UserScope(self.connection, self.a.user_id),
            )
        finally:
            kept.rollback()

    def _text(self, answer: Any) -> str:
        """The answer as JSON; what the server made up just now (ids, times) is left out."""
        known = {str(getattr(one, name)) for one in (self.a, self.b) for name in ("tenant_id", "user_id", "thing_id")}

        def plain(value: Any) -> Any:
            match value:
                case datetime() if value >= self.filled_at:
                    return "<now>"
                case uuid.UUID() if str(value) not in known:
                    return "<new>"
                case set() | frozenset():
                    return sorted(map(str, value))
                case _ if dataclasses.is_dataclass(value):
                    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
                case _:
                    return str(value)

        text = json.dumps(_keyed(answer), default=plain, sort_keys=True)
        return re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", lambda m: m[0] if m[0] in known else "", text)

    def state_of_b(self) -> str:
        """A digest of every row of B."""
        parts = [
            f"select md5(string_agg(cast(t as text), '|' order by cast(t as text))) from ogf.{table} t"
            f" where {column} = '{value}'"
            for tables, column, value in (
                ([*TENANT_ROWS, *AUDITED, "tenants"], "tenant_id", self.b.tenant_id),
                ([*USER_ROWS, "users"], "user_id", self.b.user_id),
            )
            for table in tables
        ]
        return "".join(map(str, self.connection.scalars(sa.text(" union all ".join(parts))).all()))


def _keyed(answer: Any) -> Any:
    """Dictionaries with keys that JSON has not, as lists of pairs."""
    if isinstance(answer, dict):
        return sorted(([str(key), _keyed(value)] for key, value in answer.items()), key=str)
    return [_keyed(item) for item in answer] if isinstance(answer, list | tuple) else answer


@pytest.fixture(scope="module")
def pair(database: Database) -> Iterator[Pair]:
    slugs = [database.tenants.add(f"interference-{one}", "Tenant", currency="EUR").slug for one in "ab"]
    a, b = (fill(database, slug) for slug in slugs)
    with database.admin_engine.connect() as connection:
        transaction = connection.begin()
        yield Pair(database, connection, a, b, datetime.now(UTC))
        transaction.rollback()


@pytest.fixture(scope="module")
def baseline(pair: Pair) -> dict[str, str]:
    """The answers before anything happened to B."""
    return pair.answers()


def _methods() -> set[str]:
    """Every public method of every repository that `Database` offers."""
    found = set()
    for name, member in vars(Repositories).items():
        if isinstance(member, cached_property):
            repository = type(member.func(_nothing()))
            found |= {
                f"{name}.{method}"
                for method, _ in inspect.getmembers(repository, inspect.isfunction)
                if not method.startswith("_")
            }
    return found


def _nothing() -> Any:
    class Unopened(Repositories):
        """Repositories of no database: only their classes are looked at."""

    return Unopened()


def test_every_method_has_a_question() -> None:
    assert _methods() == {*QUESTIONS, *ACROSS}
    assert not QUESTIONS.keys() & ACROSS


def test_the_questions_are_answered_and_not_only_refused(baseline: dict[str, str]) -> None:
    """A question that errs in both roles for a fault of its own would prove nothing."""
    faults = ("TypeError", "AttributeError", "IndexError", "KeyError", "ForeignScopeError", "IntegrityError")
    assert [question for question, answer in baseline.items() if answer.startswith(faults)] == []
    answered = {name for name in baseline if "permission denied" not in baseline[name]}
    assert {name.split()[0] for name in answered} == {*QUESTIONS}


def test_asked_twice_the_answers_are_the_same(pair: Pair, baseline: dict[str, str]) -> None:
    assert pair.answers() == baseline


def test_nothing_that_a_asks_changes_a_row_of_b(pair: Pair) -> None:
    before = pair.state_of_b()
    for name, asks in QUESTIONS.items():
        for ask in asks:
            for role in ROLES:
                with pair._as_a(role) as bound:
                    inner = pair.connection.begin_nested()
                    try:
                        ask(getattr(bound, name.partition(".")[0]), pair.a, pair.b)
                        inner.commit()
                    except Exception:  # noqa: BLE001  refusals change nothing: looked at below as well
                        inner.rollback()
                    pair.connection.exec_driver_sql("reset role")
                    assert pair.state_of_b() == before, f"{name} as {role}"


#: What may happen to B: its rows of a table vanish, or another tenant has them as well.
CHANGES = [
    (table, change)
    for table in [*TENANT_ROWS, *AUDITED, *USER_ROWS]
    for change in ("vanish", "double")
    if not (table in USER_ROWS and change == "double")  # a token is of one person
]


def _change(pair: Pair, table: str, change: str) -> None:
    owner = "user_id" if table in USER_ROWS else "tenant_id"
    value = str(getattr(pair.b, owner))
    if change == "vanish":
        pair.connection.execute(sa.text(f"delete from ogf.{table} where {owner} = :value"), {"value": value})
        return
    columns = pair.connection.scalars(
        sa.text(
            "select attname from pg_attribute where attrelid = cast(:table as regclass) and attnum > 0"
            " and not attisdropped and attgenerated = ''"
        ),
        {"table": f"ogf.{table}"},
    ).all()
    values = ", ".join("gen_random_uuid()" if column == "tenant_id" else column for column in columns)
    pair.connection.execute(
        sa.text(
            f"insert into ogf.{table} ({', '.join(columns)}) overriding system value"
            f" select {values} from ogf.{table} where tenant_id = :value"
        ),
        {"value": value},
    )


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.sets(st.sampled_from(CHANGES), min_size=12))
def test_what_happens_to_b_changes_no_answer_to_a(
    pair: Pair, baseline: dict[str, str], changes: set[tuple[str, str]]
) -> None:
    kept = pair.connection.begin_nested()
    try:
        pair.connection.exec_driver_sql("set local session_replication_role = replica")
        for table, change in sorted(changes):
            _change(pair, table, change)
        pair.connection.exec_driver_sql("set local session_replication_role = origin")
        answers = pair.answers()
    finally:
        kept.rollback()
    assert {name: answer for name, answer in answers.items() if answer != baseline[name]} == {}


_TENANT = re.compile(r"(?<![\w.])(?:\w+\.)?tenant_id\s*=\s*%\(tenant_id\)s(?:::UUID)?")
_PERSON = re.compile(r"(?<![\w.])(?:\w+\.)?user_id\s*=\s*%\(user_id\)s(?:::UUID)?")


@contextmanager
def _rewritten(connection: sa.Connection, rewrite: Callable[[str], str]) -> Iterator[None]:
    def before(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> tuple[str, Any]:
        return rewrite(statement), parameters

    sa.event.listen(connection, "before_cursor_execute", before, retval=True)
    try:
        yield
    finally:
        sa.event.remove(connection, "before_cursor_execute", before)


def test_without_predicates_and_without_policies_the_questions_do_find_rows_of_b(pair: Pair) -> None:
    """The tests above have teeth: with both guards gone nearly every table is told of."""
    sides = (pair, dataclasses.replace(pair, a=pair.b, b=pair.a))
    guarded = [side.answers(TENANT_QUESTIONS) for side in sides]
    kept = pair.connection.begin_nested()
    try:
        for table in [*TENANT_ROWS, *AUDITED]:
            pair.connection.exec_driver_sql(f"alter table ogf.{table} disable row level security")
        with _rewritten(pair.connection, lambda statement: _TENANT.sub("true", statement)):
            open_to_all = [side.answers(TENANT_QUESTIONS) for side in sides]
    finally:
        kept.rollback()
    # Of two rows under one key, one is told: which, the plan decides, so both tenants are asked.
    told = {
        name.partition(".")[0]
        for before, after in zip(guarded, open_to_all, strict=True)
        for name, answer in after.items()
        if answer != before[name]
    }
    silent = {name.partition(".")[0] for name in TENANT_QUESTIONS} - told
    assert silent == {"tenants"}  # asked by its key alone, and with its policy still in force


def test_row_level_security_holds_alone_when_every_tenant_predicate_is_forgotten(
    pair: Pair, baseline: dict[str, str]
) -> None:
    cut = 0

    def forget(statement: str) -> str:
        nonlocal cut
        stripped, count = _TENANT.subn("true", statement)
        cut += count
        return stripped

    with _rewritten(pair.connection, forget):
        answers = pair.answers(TENANT_QUESTIONS)
    assert cut > len(TENANT_QUESTIONS)
    assert {name: answer for name, answer in answers.items() if answer != baseline[name]} == {}


def test_row_level_security_holds_alone_when_every_predicate_on_the_person_is_forgotten(
    pair: Pair, baseline: dict[str, str]
) -> None:
    """But for the table of users itself, where one also sees the members of one's tenant."""
    cut = 0

    def forget(statement: str) -> str:
        nonlocal cut
        if "ogf.users" in statement:
            return statement
        stripped, count = _PERSON.subn("true", statement)
        cut += count
        return stripped

    with _rewritten(pair.connection, forget):
        answers = pair.answers(PERSON_QUESTIONS)
    assert cut > len(PERSON_QUESTIONS) / 2
    assert {name: answer for name, answer in answers.items() if answer != baseline[name]} == {}


def test_every_statement_on_a_tenants_table_names_the_tenant(pair: Pair) -> None:
    tables = "|".join(TENANT_ROWS)
    seen: list[str] = []

    def look(statement: str) -> str:
        if re.search(rf"\bogf\.({tables}|audit_events|audit_heads)\b", statement):
            seen.append(statement)
        return statement

    with _rewritten(pair.connection, look):
        pair.answers(TENANT_QUESTIONS)
    assert len(seen) > len(TENANT_QUESTIONS)
    assert [statement for statement in seen if "%(tenant_id)s" not in statement] == []
