"""Migration runner over ``sql/migrations/NNNN_slug.sql``.

One transaction per file, under an advisory lock, as the role that owns all tables; every applied file's
checksum is kept. An edited, missing or out-of-order file is refused: a migration that has run is never
changed, a new one is added. Roles come first (`bootstrap`); forward only.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import sqlalchemy as sa

from offgridflow_pipeline import __version__
from offgridflow_pipeline.database.server.bootstrap import APPLICATION_ROLE, OWNER_ROLE, driver_arguments

MIGRATIONS = Path(__file__).resolve().parents[3] / "sql" / "migrations"
LEDGER = "ogf.schema_migration"

_LOCK = 7_301_002
_LOCK_WAIT = "120s"
_TABLE_LOCK_WAIT = "5s"
_NAME = re.compile(r"(\d{4})_([a-z0-9]+(?:_[a-z0-9]+)*)\.sql")
_OWN_TRANSACTION = re.compile(
    r"^\s*(begin|commit|rollback|start\s+transaction)\b[^;\n]*;", re.IGNORECASE | re.MULTILINE
)


class MigrationError(RuntimeError):
    """The schema and the migration files do not fit, or a file failed; names the file and the cure."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, SHA-256 (over the text with LF line ends) and text."""

    number: int
    name: str
    sha256: str
    text: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of the ledger of applied migrations."""

    number: int
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One line of `status`: the file's name and its state."""

    name: str
    state: Literal["applied", "pending", "edited", "missing"]


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All files in order.

    Raises:
        MigrationError: a badly named file, a repeated or skipped number, own transaction control, no file.
    """
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if not match:
            raise MigrationError(f"{path}: migrations are called NNNN_slug.sql (lower case); rename it.")
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        if control := _OWN_TRANSACTION.search(text):
            line = text.count("\n", 0, control.start(1)) + 1
            raise MigrationError(
                f"{path}, line {line}: the runner opens and closes the transaction; remove `{control[1]}`."
            )
        found.append(Migration(int(match[1]), path.name, hashlib.sha256(text.encode()).hexdigest(), text))
    if not found:
        raise MigrationError(f"No migration in {folder}: run from a checkout of the repository.")
    for expected, migration in enumerate(found, start=1):
        if migration.number != expected:
            raise MigrationError(
                f"{migration.name}: expected number {expected:04d}; numbers have no gap and no repeat."
            )
    return found


def migrate(engine: sa.Engine, folder: Path = MIGRATIONS) -> list[str]:
    """Apply the pending files as `ogf_owner`; returns their names. Safe from several processes at once.

    Raises:
        MigrationError: the roles are missing, the files do not fit what was applied, or a file fails; a
            failing file leaves nothing behind, the ones before it stay.
    """
    files = read_migrations(folder)
    names: list[str] = []
    with _connection(engine.url) as connection, _one_runner(connection):
        _make_ledger(connection)
        applied = applied_migrations(connection)
        for migration in _pending(files, applied):
            _apply(connection, migration)
            names.append(migration.name)
    return names


def status(engine: sa.Engine, folder: Path = MIGRATIONS) -> list[MigrationState]:
    """Every file and every applied migration, in order of their numbers, with its state; changes nothing."""
    files = {f.name: f for f in read_migrations(folder)}
    with _connection(engine.url) as connection:
        applied = {a.name: a for a in applied_migrations(connection)}
    states: list[MigrationState] = []
    for name in sorted(files.keys() | applied.keys()):
        if name not in files:
            state: Literal["applied", "pending", "edited", "missing"] = "missing"
        elif name not in applied:
            state = "pending"
        else:
            state = "applied" if files[name].sha256 == applied[name].sha256 else "edited"
        states.append(MigrationState(name, state))
    return states


def verify(engine: sa.Engine, folder: Path = MIGRATIONS) -> None:
    """Pass only when exactly the files of the folder have been applied, unchanged and in order.

    Raises:
        MigrationError: the first difference, with its cure.
    """
    with _connection(engine.url) as connection:
        applied = applied_migrations(connection)
    require_current(applied, folder)


def require_current(applied: Sequence[Applied], folder: Path = MIGRATIONS) -> None:
    """As `verify`, for rows already read."""
    if pending := _pending(read_migrations(folder), applied):
        raise PendingMigrationError(f"{pending[0].name} is pending: run `offgridflow db migrate`.")


class PendingMigrationError(MigrationError):
    """The schema is older than the code."""


def applied_migrations(connection: psycopg.Connection[Any]) -> list[Applied]:
    """The ledger in order; empty when there is none yet."""
    if connection.execute("select to_regclass(%s)", [LEDGER]).fetchone() == (None,):
        return []
    rows = connection.execute(f"select version, name, sha256 from {LEDGER} order by version").fetchall()
    return [Applied(*row) for row in rows]


def _pending(files: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    by_name = {f.name: f for f in files}
    for row in applied:
        file = by_name.get(row.name)
        if file is None and row.number > len(files):
            raise MigrationError(f"The database has {row.name}, newer than this code: update the code.")
        if file is None:
            raise MigrationError(f"{row.name} was applied but its file is missing: restore it from version control.")
        if file.sha256 != row.sha256:
            raise MigrationError(f"{row.name} was edited after it was applied: restore it and add a new migration.")
    numbers = {row.number for row in applied}
    last = max(numbers, default=0)
    pending = [f for f in files if f.number not in numbers]
    if pending and pending[0].number < last:
        raise MigrationError(f"{pending[0].name} is out of order: number {last:04d} was applied without it.")
    return pending


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    started = time.monotonic()
    try:
        with connection.transaction():
            connection.execute(f"set local role {OWNER_ROLE}")
            connection.execute(f"set local lock_timeout = '{_TABLE_LOCK_WAIT}'")
            # An update that policies would reduce to no rows fails instead (service reference, 4.3).
            connection.execute("set local row_security = off")
            connection.execute(migration.text.encode())  # without parameters: several statements, % is plain
            connection.execute(
                f"insert into {LEDGER} (version, name, sha256, app_version, duration_ms) values (%s, %s, %s, %s, %s)",
                [
                    migration.number,
                    migration.name,
                    migration.sha256,
                    __version__,
                    round(1000 * (time.monotonic() - started)),
                ],
            )
    except psycopg.Error as error:
        line = _line_of(migration, error)
        raise MigrationError(
            f"{migration.name}{line}: {error.diag.message_primary or error}. Nothing of it was kept."
        ) from error


def _line_of(migration: Migration, error: psycopg.Error) -> str:
    position = error.diag.statement_position
    return f", line {migration.text.count(chr(10), 0, int(position)) + 1}" if position else ""


def _make_ledger(connection: psycopg.Connection[Any]) -> None:
    roles = connection.execute(
        "select count(*) from pg_roles where rolname in (%s, %s)", [OWNER_ROLE, APPLICATION_ROLE]
    ).fetchone()
    if roles != (2,):
        raise MigrationError("The roles are missing: run `offgridflow db migrate`, which makes them first.")
    with connection.transaction():
        connection.execute(f"create schema if not exists ogf authorization {OWNER_ROLE}")
        connection.execute(f"set local role {OWNER_ROLE}")
        connection.execute(f"grant usage on schema ogf to {APPLICATION_ROLE}")
        connection.execute(
            f"create table if not exists {LEDGER} (version int primary key, name text not null unique,"
            " sha256 text not null, applied_at timestamptz not null default clock_timestamp(),"
            " applied_by text not null default session_user, app_version text not null,"
            " duration_ms int not null)"
        )
        connection.execute(f"grant select on {LEDGER} to {APPLICATION_ROLE}")


@contextmanager
def _connection(url: sa.URL) -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own: session locks and roles must not reach a pool."""
    try:
        connection = psycopg.connect(**{"connect_timeout": 10, **driver_arguments(url)}, autocommit=True)
    except psycopg.OperationalError as error:
        raise MigrationError(
            f"{url.render_as_string(hide_password=True)} is out of reach: {str(error).strip()}. "
            "Start the server; when the database is missing, run `offgridflow db migrate`."
        ) from error
    with connection:
        yield connection


@contextmanager
def _one_runner(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute(f"set lock_timeout = '{_LOCK_WAIT}'")
    try:
        connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"Another migration has been running for {_LOCK_WAIT}: wait for it, then repeat."
        ) from error
    yield  # closing the connection releases the lock
