"""The schema, one numbered file after the other, and the mark of how far a database has come.

Rule 1: a file and its version mark become durable in one transaction, or neither does.
Rule 2: the mark is Alembic's own table, so `alembic` and this module can take turns. Alembic itself
        is imported only by its own environment: it costs 0.3 s.
Rule 3: whoever migrates holds an advisory lock until the end of the transaction, and reads the mark
        after taking it: of two migrators the second sees what the first one did.
Rule 4: rows are dropped only by those who say so.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from omninode_bridge.core.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from omninode_bridge.infrastructure.postgres.database import CALL_TIMEOUT_S, translated
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SQL: Final = Statements("omninode_bridge.infrastructure.postgres", "migrations.sql")

POSTGRES_MAJOR_MIN: Final = 14
FILE_TIMEOUT_S: Final = 3600.0
"""No file runs longer: what fills an index of a large table may take its time."""


class RowsWouldBeLost(ConfigurationError):
    """A downgrade was refused: it would drop `rows` (how many rows, by table). Nothing changed."""

    def __init__(self, migration: str, rows: Mapping[str, int]) -> None:
        """Name the migration that was to be undone, and what would have gone with it."""
        counts = ", ".join(f"{count} of {table}" for table, count in rows.items())
        super().__init__(
            f"undoing {migration} would drop rows: {counts}. Nothing was changed. To drop them for"
            " good, say so: `alembic -x drop-data=yes downgrade ...`, or"
            " `omninode-bridge migrate down --drop-data`.",
        )
        self.migration = migration
        self.rows = dict(rows)


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered file of the migrations' folder, and the one that undoes it."""

    name: str
    folder: Path

    @property
    def revision(self) -> str:
        """Its number, `006`: what the version mark says."""
        return self.name.partition("_")[0]

    def up(self) -> str:
        """Return the SQL that makes this version out of the one before."""
        return (self.folder / f"{self.name}.sql").read_text(encoding="utf-8")

    def down(self) -> str:
        """Return the SQL that makes the version before out of this one."""
        return (self.folder / f"{self.name}.down.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Whether a migration is in a database."""

    name: str
    applied: bool


def migrations_folder() -> Path:
    """Return the folder of the numbered files: inside an installed package, or in its source tree.

    Raises:
        ConfigurationError: the package was installed without them.
    """
    package = Path(__file__).parents[2]
    candidates = (package / "_migrations", package.parent.parent / "migrations")
    for folder in candidates:
        if any(folder.glob("[0-9]*_*.sql")):
            return folder
    message = (
        "this installation of omninode-bridge lacks its migrations (looked into"
        f" {' and '.join(map(str, candidates))}): install it again"
    )
    raise ConfigurationError(message)


def known_migrations() -> list[Migration]:
    """Return all migrations in their order."""
    folder = migrations_folder()
    up_files = (path for path in folder.glob("[0-9]*_*.sql") if not path.match("*.down.sql"))
    return [Migration(path.stem, folder) for path in sorted(up_files)]


def find_migration(wanted: str) -> Migration:
    """Return the migration with this revision (`007`) or name (`007_projection_and_watermarks`).

    Raises:
        ConfigurationError: there is none.
    """
    known = known_migrations()
    for each in known:
        if wanted in {each.revision, each.name}:
            return each
    names = ", ".join(each.name for each in known)
    message = f"there is no migration {wanted!r}: choose one of {names}"
    raise ConfigurationError(message)


async def upgrade(connect: Mapping[str, Any], *, target: str | None = None) -> list[str]:
    """Apply what a database lacks, up to `target` (a revision or a name) or all; return the names.

    `connect` is what `asyncpg.connect` takes. When nothing is lacking, this is one connection and
    one question.

    Raises:
        ConfigurationError: the target does not exist, or the database is at a version that this
            package does not know.
        DatabaseRefused: PostgreSQL refused a file; the database stays at the version before it.
        DatabaseUnavailable: it cannot be reached, or another migrator took too long.
    """
    known = known_migrations()
    wanted = known if target is None else known[: known.index(find_migration(target)) + 1]
    names = []
    async with _session(connect) as connection:
        if len(await _applied(connection, known)) >= len(wanted):
            return []
        for _ in wanted:
            async with _locked(connection):
                applied = await _applied(connection, known)
                if len(applied) >= len(wanted):
                    break
                following = known[len(applied)]
                await run_up(connection, following)
                await _mark(connection, following)
            names.append(following.name)
    return names


async def downgrade(
    connect: Mapping[str, Any], *, steps: int = 1, drop_data: bool = False
) -> list[str]:
    """Undo the last `steps` migrations, or as many as there are, all or none; return their names.

    Raises:
        RowsWouldBeLost: there are rows in what would go, and `drop_data` was not given.
        ConfigurationError: `steps` is below 1, or the database is at a version that this package
            does not know.
        DatabaseRefused: PostgreSQL refused a file; nothing was changed.
        DatabaseUnavailable: it cannot be reached, or another migrator took too long.
    """
    if steps < 1:
        message = f"a downgrade takes at least one step, not {steps}"
        raise ConfigurationError(message)
    known = known_migrations()
    async with _session(connect) as connection, _locked(connection):
        applied = await _applied(connection, known)
        undone = applied[: -steps - 1 : -1]
        for each in undone:
            await run_down(connection, each, drop_data=drop_data)
        if undone:
            rest = applied[: -len(undone)]
            await _mark(connection, rest[-1] if rest else None)
    return [each.name for each in undone]


async def status(connect: Mapping[str, Any]) -> list[MigrationStatus]:
    """Return every migration this package knows, and whether it is in the database.

    Raises:
        ConfigurationError: the database is at a version that this package does not know.
        DatabaseUnavailable: it cannot be reached.
    """
    known = known_migrations()
    async with _session(connect) as connection:
        applied = await _applied(connection, known)
    return [MigrationStatus(each.name, each in applied) for each in known]


async def run_up(connection: asyncpg.Connection, step: Migration) -> None:
    """Run the file of one migration in the caller's transaction; the mark is the caller's."""
    await _run(connection, f"{step.name}.sql", step.up())


async def run_down(
    connection: asyncpg.Connection, step: Migration, *, drop_data: bool = False
) -> None:
    """Undo one migration in the caller's transaction; the mark is the caller's.

    Raises:
        RowsWouldBeLost: see `downgrade`. The caller rolls back.
    """
    filename = f"{step.name}.down.sql"
    if not drop_data:
        lost = await _lost_rows(connection, filename, step.down())
        if lost:
            raise RowsWouldBeLost(step.name, lost)
    await _run(connection, filename, step.down())


async def _lost_rows(connection: asyncpg.Connection, filename: str, down: str) -> dict[str, int]:
    """Return how many rows are in the tables that would go, or lose a column.

    What goes is found by doing it and taking it back. The tables are locked while their rows are
    counted, until the caller's transaction ends, so nobody adds a row between count and drop.
    """
    before = await connection.fetch(SQL["tables"])
    rehearsal = connection.transaction()
    await rehearsal.start()
    try:
        await _run(connection, filename, down)
        after = {row["oid"]: row["columns"] for row in await connection.fetch(SQL["tables"])}
    finally:
        await rehearsal.rollback()
    rows = {}
    for table in before:
        if not set(table["columns"]) <= set(after.get(table["oid"], ())):
            await connection.execute(table["lock_it"])
            rows[table["name"]] = await connection.fetchval(
                table["count_it"], timeout=FILE_TIMEOUT_S
            )
    return {name: count for name, count in rows.items() if count}


async def _run(connection: asyncpg.Connection, filename: str, text: str) -> None:
    """Run a file; without arguments the driver sends it whole, as one simple query."""
    try:
        with translated():
            await connection.execute(text, timeout=FILE_TIMEOUT_S)
    except DatabaseRefused as error:
        detail = f"{error.detail} (in the migration {filename}, of which nothing remains)"
        raise DatabaseRefused(error.sqlstate, detail) from error


async def open_connection(connect: Mapping[str, Any]) -> asyncpg.Connection:
    """Connect to a database that can be migrated; the caller closes what comes back.

    Raises:
        ConfigurationError: the server is too old, or the database is not in UTF-8.
        DatabaseUnavailable: it cannot be reached.
    """
    # No statement is asked twice, so none has to be kept on a session that may be a pooler's.
    options = {"timeout": 10, "command_timeout": CALL_TIMEOUT_S, "statement_cache_size": 0}
    try:
        with translated():
            connection = await asyncpg.connect(**{**options, **connect})
    except DatabaseUnavailable as error:
        message = f"cannot connect to the database ({error}): is its address right, does it run?"
        raise DatabaseUnavailable(message) from error
    try:
        _require_server(connection)
    except ConfigurationError:
        await _close(connection)
        raise
    return connection


async def take_lock(connection: asyncpg.Connection) -> None:
    """Wait to be the only migrator, until the end of the caller's transaction.

    Raises:
        DatabaseUnavailable: the wait was longer than the transaction's `lock_timeout`.
    """
    try:
        await connection.execute(SQL["lock"])
    except asyncpg.LockNotAvailableError as error:
        message = (
            "another process has been migrating this database for 30 s: wait until it has"
            " finished, then try again"
        )
        raise DatabaseUnavailable(message) from error


@asynccontextmanager
async def _session(connect: Mapping[str, Any]) -> AsyncIterator[asyncpg.Connection]:
    """Lend a connection of our own; nothing of it is shared, pooled or left behind."""
    connection = await open_connection(connect)
    try:
        with translated():
            yield connection
    finally:
        await _close(connection)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        async with asyncio.timeout(5):
            await connection.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


def _require_server(connection: asyncpg.Connection) -> None:
    """Refuse a server that cannot keep the promises; it said what it is when we connected."""
    settings = connection.get_settings()
    if connection.get_server_version().major < POSTGRES_MAJOR_MIN:
        message = (
            f"the server is PostgreSQL {settings.server_version}, and omninode-bridge needs"
            f" {POSTGRES_MAJOR_MIN} or later"
        )
        raise ConfigurationError(message)
    encoding = getattr(settings, "server_encoding", None)
    if encoding not in {"UTF8", None}:  # a pooler need not say
        message = (
            f"the database's encoding is {encoding}, and workflow keys and states are UTF-8: make"
            " a database with ENCODING 'UTF8' TEMPLATE template0"
        )
        raise ConfigurationError(message)


@asynccontextmanager
async def _locked(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Hold the migrators' lock, in a transaction whose statements see all that came before it."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(SQL["bound_waits"])
        await take_lock(connection)
        await connection.execute(SQL["make_version_table"])
        yield


async def _applied(connection: asyncpg.Connection, known: list[Migration]) -> list[Migration]:
    """Return what is in the database, by its mark.

    Raises:
        ConfigurationError: the mark is not one of ours.
    """
    try:
        marks = [row["version_num"] for row in await connection.fetch(SQL["read_version"])]
    except asyncpg.UndefinedTableError:
        return []
    if not marks:
        return []
    revisions = [each.revision for each in known]
    if len(marks) == 1 and marks[0] in revisions:
        return known[: revisions.index(marks[0]) + 1]
    found = " and ".join(sorted(marks))
    newer = all(mark.isdecimal() and int(mark) > int(revisions[-1]) for mark in marks)
    advice = (
        "a later release of omninode-bridge made it: install that one"
        if newer
        else "it belongs to another system: use a database of its own"
    )
    message = (
        f"the database is at version {found}, and this omninode-bridge knows"
        f" {revisions[0]} to {revisions[-1]}. Nothing was changed. As it seems, {advice}."
    )
    raise ConfigurationError(message)


async def _mark(connection: asyncpg.Connection, step: Migration | None) -> None:
    await connection.execute(SQL["forget_version"])
    if step is not None:
        await connection.execute(SQL["mark_version"], step.revision)
