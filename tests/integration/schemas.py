"""What the schema of a database is, as text, and the two ways to migrate it.

Fixture `each_server`: the PostgreSQL of the wheel, then the oldest one the tests run against.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres import migrations
from omninode_bridge.infrastructure.postgres.embedded import postgres_binaries
from tests.servers import PostgresTestServer, start_test_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress

REPOSITORY: Final = Path(__file__).parents[2]
OLDEST: Final = Path("/usr/lib/postgresql/15/bin")  # Debian's; .ci/run installs it
WAIT_S: Final = 60.0


@dataclass(frozen=True)
class Server:
    """A running server, and the programs that belong to its version."""

    running: PostgresTestServer
    binaries: Path

    def schema(self, address: ServerAddress) -> str:
        """Return all that is in a database but rows and the version mark."""
        dump = subprocess.run(  # noqa: S603 - the server's own program
            (
                str(self.binaries / "pg_dump"),
                *("--schema-only", "--no-owner", "--exclude-table=alembic_version"),
                *address.program_arguments,
            ),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=True,
        )
        # Lines for psql hold a random word; comments hold versions.
        lines = (line for line in dump.stdout.splitlines() if not line.startswith(("\\", "--")))
        return "\n".join(line for line in lines if line)

    async def schemas(self) -> dict[str | None, str]:
        """Return the schema after each revision, the first being None, by running files alone."""
        async with self.running.database() as address:
            schemas: dict[str | None, str] = {None: self.schema(address)}
            for migration in migrations.known_migrations():
                await execute(address, migration.up())
                schemas[migration.revision] = self.schema(address)
            return schemas


@pytest.fixture(scope="module", params=["newest", "oldest"])
def each_server(
    request: pytest.FixtureRequest, postgres_server: PostgresTestServer
) -> Iterator[Server]:
    """Yield a server of the newest version, then one of the oldest."""
    if request.param == "newest":
        yield Server(postgres_server, postgres_binaries().folder)
        return
    if not (OLDEST / "postgres").exists():
        assert os.environ.get("CI") != "true", f"there is no PostgreSQL in {OLDEST}"
        pytest.skip(f"there is no PostgreSQL in {OLDEST}")
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-oldest-"))
    folder.chmod(0o711)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        starting = start_test_server(folder / "data", binaries_folder=OLDEST)
        yield Server(runner.run(starting.__aenter__()), OLDEST)
        runner.run(starting.__aexit__(None, None, None))
    shutil.rmtree(folder)


class Way(Protocol):
    """A way to migrate a database."""

    async def up(self, address: ServerAddress, revision: str) -> None:
        """Bring it up to `revision`."""

    async def down(self, address: ServerAddress, *, drop_data: bool = False) -> None:
        """Bring it back by one step."""


class Runner:
    """The bridge's own."""

    async def up(self, address: ServerAddress, revision: str) -> None:
        """Bring it up to `revision`."""
        await migrations.upgrade(address.connect_arguments, target=revision)

    async def down(self, address: ServerAddress, *, drop_data: bool = False) -> None:
        """Bring it back by one step."""
        await migrations.downgrade(address.connect_arguments, drop_data=drop_data)


class Alembic:
    """The `alembic` command, as a person types it."""

    async def up(self, address: ServerAddress, revision: str) -> None:
        """Bring it up to `revision`."""
        await alembic("upgrade", revision, database_url=address.url)

    async def down(self, address: ServerAddress, *, drop_data: bool = False) -> None:
        """Bring it back by one step."""
        consent = ("-x", "drop-data=yes") if drop_data else ()
        await alembic(*consent, "downgrade", "-1", database_url=address.url)


class AlembicFailed(Exception):
    """It ended with an error; the message is all it said."""


async def alembic(*words: str, database_url: str = "", folder: Path = REPOSITORY) -> str:
    """Run `alembic` to its end; return what it said on its standard output.

    Raises:
        AlembicFailed: it did not end well.
    """
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("alembic")), *words),
        cwd=folder,
        env={**os.environ, "OMNINODE_DATABASE_URL": database_url, "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            said, log = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise AlembicFailed((said + log).decode())
    return said.decode()


@asynccontextmanager
async def connected(address: ServerAddress) -> AsyncIterator[asyncpg.Connection]:
    """Connect for the length of the block."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        yield connection
    finally:
        await connection.close()


async def execute(address: ServerAddress, statements: str) -> None:
    """Run any number of statements."""
    async with connected(address) as connection:
        await connection.execute(statements)


async def value(address: ServerAddress, statement: str) -> Any:  # noqa: ANN401
    """Return the first value that a statement gives."""
    async with connected(address) as connection:
        return await connection.fetchval(statement)


async def version(address: ServerAddress) -> str | None:
    """Return the version mark; None in a database that was brought back to nothing."""
    mark: str | None = await value(address, "SELECT version_num FROM alembic_version")
    return mark


async def until_waiting(address: ServerAddress, count: int) -> None:
    """Wait until `count` sessions wait for a lock in this database."""
    statement = (
        "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE NOT granted AND datname = current_database()"
    )
    async with asyncio.timeout(WAIT_S), connected(address) as connection:
        while await connection.fetchval(statement) < count:  # noqa: ASYNC110 - no server tells it
            await asyncio.sleep(0.01)
