"""Connections to PostgreSQL, and the one place where the driver's errors are translated.

Rule 1: our sessions keep no state of their own (no SET, no session locks), so nothing is reset when
        a connection goes back to the pool. Those that are lent to others are.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

import asyncpg

from omninode_bridge.core.errors import (
    BrokenPromise,
    DatabaseRefused,
    DatabaseUnavailable,
    PartitionsChanged,
    ValueRefused,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from types import TracebackType

CALL_TIMEOUT_S: Final = 60.0
"""No call to the server waits longer (R13); afterwards its result is unknown."""

CLOSE_WAIT_S: Final = 5.0
"""How long connections have to end by themselves."""

APPLICATION_NAME: Final = "omninode-bridge"
"""What our sessions are called in `pg_stat_activity`: by it a bridge is seen that owns nothing."""

BROKEN_PROMISE: Final = "OB001"
PARTITIONS_CHANGED: Final = "OB002"
# Classes of SQLSTATE that pass: connection (08), transaction state (25), rollback (40), resources
# (53), not in prerequisite state (55), operator intervention (57), system error (58).
_PASSING: Final = frozenset({"08", "25", "40", "53", "55", "57", "58"})
_OF_A_VALUE: Final = frozenset({"22", "54"})


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    def get_reset_query(self) -> str:
        """Return nothing to run: see rule 1. A query here would cost each call a round trip."""
        return ""


def plain_uuid(value: UUID) -> UUID:
    """Return the standard library's UUID for the driver's own kind, which no encoder knows."""
    return UUID(bytes=value.bytes)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into the errors of `core.errors`."""
    try:
        yield
    except asyncpg.PostgresError as error:
        sqlstate = getattr(error, "sqlstate", None) or "?????"
        detail = str(error)
        if sqlstate == BROKEN_PROMISE:
            raise BrokenPromise(detail) from error
        if sqlstate == PARTITIONS_CHANGED:
            raise PartitionsChanged from error
        if sqlstate[:2] in _OF_A_VALUE:
            raise ValueRefused(sqlstate, detail) from error
        if sqlstate[:2] in _PASSING:
            raise DatabaseUnavailable(f"{detail} (SQLSTATE {sqlstate})") from error
        raise DatabaseRefused(sqlstate, detail) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise DatabaseUnavailable(str(error) or type(error).__name__) from error


class Database:
    """A pool of connections to one database. Use as an async context manager."""

    def __init__(
        self, connect: Mapping[str, Any], *, connections_max: int, resetting: bool = False
    ) -> None:
        """`connect` is what asyncpg.connect takes: a `dsn`, or `host`, `user`, `database`, ...

        `resetting`: what a user of a connection has set is undone when it comes back.
        """
        self._connect = dict(connect)
        self._connection_class = asyncpg.Connection if resetting else _Connection
        self._connections_max = connections_max
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        """Open the pool; the first connection proves that the server answers."""
        with translated():
            self._pool = await asyncpg.create_pool(
                **self._connect,
                server_settings={"application_name": APPLICATION_NAME},
                min_size=1,
                max_size=self._connections_max,
                connection_class=self._connection_class,
                command_timeout=CALL_TIMEOUT_S,
                max_inactive_connection_lifetime=0,
                timeout=10,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections, by force those that do not end in time."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection; the driver's errors come out translated."""
        if self._pool is None:
            message = "the database is not open"
            raise DatabaseUnavailable(message)
        with translated():
            async with self._pool.acquire(timeout=CALL_TIMEOUT_S) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection with an open transaction; it ends with the context."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            yield connection

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        async with self.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows

    async def fetchrow(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """Run one statement and return its first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: object) -> Any:  # noqa: ANN401
        """Run one statement and return the first column of its first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: object) -> str:
        """Run one statement and return its command tag."""
        async with self.connection() as connection:
            tag: str = await connection.execute(statement, *arguments)
            return tag
