"""A PostgreSQL server that a test stops and starts while others are connected."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

from omninode_bridge.infrastructure.postgres.embedded import postgres_binaries
from omninode_bridge.infrastructure.postgres.embedded.account import server_account

if TYPE_CHECKING:
    from pathlib import Path


class StoppableServer:
    """A durable server of its own, on a Unix socket, with no keeper."""

    def __init__(self, folder: Path) -> None:
        """Serve from `folder`, which is made."""
        self._folder = folder
        self._data = folder / "data"
        self._account = server_account(self._data)
        self._programs = postgres_binaries().folder
        self.url = f"postgresql://tester@/postgres?host={quote(str(folder), safe='')}"

    async def __aenter__(self) -> Self:
        """Make the cluster and start it."""
        self._folder.mkdir()
        os.chown(self._folder, self._account.uid, self._account.gid)
        await self._run("initdb", "-D", self._data, "-A", "trust", "-U", "tester", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{self._folder}'\n"
                "shared_buffers = 32MB\n"
            )
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Stop it, and leave nothing."""
        await self.stop("immediate")
        shutil.rmtree(self._folder)

    async def start(self) -> None:
        """Return when it answers; after `immediate` that includes crash recovery."""
        await self._run("pg_ctl", "-D", self._data, "-l", self._folder / "log", "-w", "start")

    async def stop(self, how: Literal["fast", "immediate"]) -> None:
        """Stop it: `fast` ends sessions in good order, `immediate` is a crash."""
        await self._run("pg_ctl", "-D", self._data, "-m", how, "-w", "stop")

    async def _run(self, program: str, *arguments: str | Path) -> None:
        as_root = os.geteuid() == 0
        process = await asyncio.create_subprocess_exec(
            *(str(self._programs / program), *map(str, arguments)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            user=self._account.uid if as_root else None,
            group=self._account.gid if as_root else None,
            extra_groups=[] if as_root else None,
            cwd=self._folder,
        )
        assert await process.wait() == 0, f"{program} {arguments} failed"
