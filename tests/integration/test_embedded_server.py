"""The embedded server: it starts by itself, and stops by itself, whatever happens to its users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer
from tests.servers import start_test_server, until_stopped

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_database_of_a_test_is_empty(database: dict[str, str | int]) -> None:
    connection = await asyncpg.connect(**database)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    assert tables == 0


async def test_what_was_committed_is_there_after_a_stop(server_folder: Path) -> None:
    for step in ("CREATE TABLE kept (a int)", "INSERT INTO kept VALUES (1)"):
        async with start_test_server(server_folder / "data") as server:
            connection = await asyncpg.connect(**server.address.connect_arguments)
            await connection.execute(step)
            await connection.close()


async def test_the_server_stops_after_its_last_user(server_folder: Path) -> None:
    server = EmbeddedServer(server_folder / "data")
    async with server.use() as address:
        socket = address.socket_folder / ".s.PGSQL.5432"
        assert socket.exists()
    await until_stopped(server_folder / "data")
    assert not socket.exists()
