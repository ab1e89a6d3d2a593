"""PostgreSQL for tests: one real server for a whole run, and an empty database for each test.

Fixtures (imported by `tests/conftest.py`):

- `server_folder` makes folders that the server's account can reach. Run by root, pytest's own
  `tmp_path` is root's alone, and the server does not run as root.
- `postgres_server` is a `PostgresTestServer`, started at its first use, stopped after the run.
- `database` is a fresh database on it: a mapping of what `asyncpg.connect(**database)` takes. It is
  gone after the test, whoever is still connected.

The server is as durable as in production: a test that passes only without fsync proves nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.embedded import EmbeddedServer, ServerAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

STOP_WAIT_S: Final = 60.0
_numbers: Final = count(1)


class PostgresTestServer:
    """A running server on which tests make and drop databases."""

    def __init__(self, address: ServerAddress) -> None:
        """Use the server at `address`."""
        self.address = address

    async def create_database(self, *, template: str = "template1") -> ServerAddress:
        """Make a database and return where it is; takes some 20 ms.

        `template` may be a migrated database to which nobody is connected: cheaper than migrating.
        """
        name = f"test_{next(_numbers)}"
        # WAL_LOG: about twice as fast as FILE_COPY, which has to make two checkpoints.
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY WAL_LOG")
        return replace(self.address, database=name)

    async def drop_database(self, address: ServerAddress) -> None:
        """Drop a database, connections and all."""
        await self._execute(f"DROP DATABASE IF EXISTS {address.database} WITH (FORCE)")

    @asynccontextmanager
    async def database(self, *, template: str = "template1") -> AsyncIterator[ServerAddress]:
        """Make a database for the length of the block."""
        address = await self.create_database(template=template)
        try:
            yield address
        finally:
            await self.drop_database(address)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(**self.address.connect_arguments)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def start_test_server(
    data_dir: Path,
    *,
    extra_settings: Mapping[str, str] | None = None,
    binaries_folder: Path | None = None,
) -> AsyncIterator[PostgresTestServer]:
    """Run a server of its own in `data_dir`; it has stopped when the block is left."""
    server = EmbeddedServer(
        data_dir, extra_settings=extra_settings, binaries_folder=binaries_folder
    )
    try:
        async with server.use() as address:
            yield PostgresTestServer(address)
    finally:
        await until_stopped(data_dir)


async def until_stopped(data_dir: Path) -> None:
    """Wait until no keeper, and so no server, is at work in `data_dir`."""
    await EmbeddedServer(data_dir).stopped(STOP_WAIT_S)


@contextmanager
def make_server_folder() -> Iterator[Path]:
    """Make such a folder for the length of the block; servers in it have stopped before it goes."""
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-test-"))
    folder.chmod(0o711)
    try:
        yield folder
        # With a factory, the loop is nobody else's.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            for marker in folder.glob("**/omninode_bridge.txt"):
                runner.run(until_stopped(marker.parent))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """Yield an empty folder under which data folders can be made, by root as well; gone after."""
    with make_server_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresTestServer]:
    """Yield the one server of this test run."""
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-tests-"))
    folder.chmod(0o711)
    # A loop of its own: the server outlives the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        running = start_test_server(folder / "data", extra_settings={"max_connections": "200"})
        server = runner.run(running.__aenter__())
        yield server
        runner.run(running.__aexit__(None, None, None))
    shutil.rmtree(folder)


@pytest.fixture
async def database(postgres_server: PostgresTestServer) -> AsyncIterator[dict[str, str | int]]:
    """Yield what `asyncpg.connect` takes to connect to an empty database of this test alone."""
    async with postgres_server.database() as address:
        yield address.connect_arguments
