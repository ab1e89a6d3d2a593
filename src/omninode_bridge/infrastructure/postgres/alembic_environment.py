"""Alembic's side of the migrations: the same files, under the same lock, by the same rules.

Rule 1: only `migrations/env.py` and the versions beside it import this module, for it imports
        Alembic.
Rule 2: a command of Alembic's is one transaction, for the lock lasts no longer than one: if a
        migration fails, none of that command remains.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from alembic import context
from alembic.util import CommandError
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from omninode_bridge.core.errors import BridgeError
from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.migrations import SQL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg
    from sqlalchemy import AdaptedConnection, Connection

_OPTIONS = ("database-url", "drop-data")


def run(database_url: str | None) -> None:
    """Do what the command line asks, in the database of `-x database-url=`, or in `database_url`.

    With `--sql` the statements are printed instead; no database is needed.

    Raises:
        CommandError: Alembic's own way to say that something failed, with our words.
    """
    options = context.get_x_argument(as_dictionary=True)
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise CommandError(f"no such option: -x {unknown[0]}; there are {' and '.join(_OPTIONS)}")
    if context.is_offline_mode():
        _print()
        return
    url = options.get("database-url", database_url)
    if not url:
        raise CommandError(
            "which database? Set OMNINODE_DATABASE_URL, or say"
            " `alembic -x database-url=postgresql://user@host/database ...`"
        )
    try:
        asyncio.run(_connect_and_migrate(str(url)))
    except BridgeError as error:
        raise CommandError(str(error)) from error


def run_up(revision: str) -> None:
    """Run the file of one migration."""
    step = migrations.find_migration(revision)
    if context.is_offline_mode():
        context.static_output(step.up())
    else:
        _with_driver(lambda driver: migrations.run_up(driver, step))


def run_down(revision: str) -> None:
    """Undo one migration; rows are dropped only with `-x drop-data=yes`."""
    step = migrations.find_migration(revision)
    drop_data = _drop_data()
    if not context.is_offline_mode():
        _with_driver(lambda driver: migrations.run_down(driver, step, drop_data=drop_data))
    elif drop_data:
        context.static_output(step.down())
    else:
        raise CommandError(
            f"whether undoing {step.name} would drop rows cannot be seen without the database: say"
            " `-x drop-data=yes` to print a script that drops whatever is there, or leave out --sql"
        )


async def _connect_and_migrate(url: str) -> None:
    """Migrate through SQLAlchemy; the driver reads the URL, as it does for the bridge."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: migrations.open_connection({"dsn": url}),
        isolation_level="READ COMMITTED",
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        # A first statement through SQLAlchemy: it begins the transaction that the driver then uses.
        connection.exec_driver_sql(SQL["bound_waits"])
        _with_driver(migrations.take_lock)
        context.run_migrations()


def _print() -> None:
    context.configure(dialect_name="postgresql", literal_binds=True, transactional_ddl=True)
    with context.begin_transaction():
        context.static_output(f"{SQL['bound_waits']};")
        context.static_output(f"{SQL['lock']};")
        context.run_migrations()


def _with_driver(work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    """Let `work` use asyncpg itself: a file of several statements is one simple query there."""
    adapted = cast("AdaptedConnection", context.get_bind().connection.dbapi_connection)
    adapted.run_async(work)


def _drop_data() -> bool:
    match context.get_x_argument(as_dictionary=True).get("drop-data", "no"):
        case "yes":
            return True
        case "no":
            return False
        case other:
            raise CommandError(f"-x drop-data is yes or no, not {other!r}")
