"""A real pooler of transactions: Debian's `pgbouncer`, before a server of the test's own.

Where the program is missing, tests that need it are skipped with one line that says so; in CI,
where `.ci/run` installs it, they fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import asyncpg
import pytest

from omninode_bridge.infrastructure.postgres.embedded.account import server_account
from tests.bridges import WAIT_S
from tests.faults.server import StoppableServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BACKENDS: Final = 6
"""Fewer than a bridge has connections: so that they change hands all the time."""
PORT: Final = 6432


class Pooler:
    """PgBouncer with `pool_mode = transaction`, on a Unix socket."""

    def __init__(self, program: str, folder: Path, server: Path, server_url: str) -> None:
        """Serve from `folder`, which is made, before the server whose socket is in `server`."""
        self.server_url = server_url
        self._program = program
        self._folder = folder
        self._server = server
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"postgresql://tester@/postgres?host={quote(str(folder), safe='')}&port={PORT}"

    async def __aenter__(self) -> Self:
        """Return when it takes connections."""
        account = server_account(self._folder / "none")
        self._folder.mkdir()
        (self._folder / "users").write_text('"tester" ""\n')
        (self._folder / "ini").write_text(
            "[databases]\n"
            f"* = host={self._server} port=5432\n"
            "[pgbouncer]\n"
            f"listen_port = {PORT}\n"
            f"unix_socket_dir = {self._folder}\n"
            "auth_type = trust\n"
            f"auth_file = {self._folder / 'users'}\n"
            "pool_mode = transaction\n"
            f"default_pool_size = {BACKENDS}\n"
            "max_client_conn = 200\n"
        )
        as_root = os.geteuid() == 0
        if as_root:
            os.chown(self._folder, account.uid, account.gid)
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, "--quiet", str(self._folder / "ini")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            user=account.uid if as_root else None,
            group=account.gid if as_root else None,
            extra_groups=[] if as_root else None,
        )
        async with asyncio.timeout(WAIT_S):
            while not await self._answers():
                assert self._process.returncode is None, "pgbouncer ended at once"
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """End it, with all that is connected."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
        shutil.rmtree(self._folder)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


@pytest.fixture
async def pooler(server_folder: Path) -> AsyncIterator[Pooler]:
    """Yield a pooler before an empty database of this test alone; skip where the program lacks."""
    program = shutil.which("pgbouncer")
    if program is None:
        if "CI" in os.environ:
            pytest.fail("pgbouncer is missing: apt-get install pgbouncer")
        pytest.skip("pgbouncer is not installed: what goes through a pooler is not tested")
    async with (
        StoppableServer(server_folder / "server") as server,
        Pooler(program, server_folder / "pooler", server_folder / "server", server.url) as pooler,
    ):
        yield pooler


__all__ = ["pooler"]
