"""A real Redis for a test: Debian's `redis-server`, on a Unix socket in a folder of its own.

Where the program is missing, tests that need it are skipped with one line that says so; in CI,
where `.ci/run` installs it, they fail.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NotThereYet

from tests.bridges import WAIT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID


class RedisServer:
    """A server that a test starts, stops, stalls, empties and fills with lies."""

    def __init__(self, program: str, folder: Path) -> None:
        """Serve from `folder`; nothing is started yet."""
        self._program = program
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._client = Redis(unix_socket_path=str(folder / "socket"))
        self.url = f"unix://{folder / 'socket'}"

    async def start(self) -> None:
        """Return when it answers."""
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, "--port", "0", "--unixsocket", str(self._folder / "socket")),
            *("--dir", str(self._folder), "--save", "", "--appendonly", "no"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await self._client.ping()
                except NotThereYet:
                    assert self._process.returncode is None, "redis-server ended at once"
                    await asyncio.sleep(0.01)
                else:
                    return

    async def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._process = None

    def stall(self) -> None:
        """Let it take connections and answer none: the slowest there is."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def flush(self) -> None:
        """Let it forget everything."""
        await self._client.flushall()

    async def pretend(self, ids: Iterable[UUID]) -> None:
        """Let it claim that `ids` were decided."""
        await self._client.mset({b"ob:" + each.bytes: b"" for each in ids})

    async def keys(self) -> list[bytes | str]:
        """Return all keys."""
        return list(await self._client.keys("*"))

    async def expiry_s(self, key: bytes | str) -> int:
        """Return in how many seconds a key will go."""
        expiry: int = await self._client.ttl(key)
        return expiry

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """End it, whatever was done to it."""
        await self._client.aclose()
        if self._process is not None:
            await self.kill()


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    """Yield a running server of this test alone; skip where the program is missing."""
    program = shutil.which("redis-server")
    if program is None:
        if "CI" in os.environ:
            pytest.fail("redis-server is missing: apt-get install redis-server")
        pytest.skip("redis-server is not installed: what is tested with Redis is not tested")
    folder = Path(tempfile.mkdtemp(prefix="omninode-bridge-redis-"))
    try:
        async with RedisServer(program, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


__all__ = ["redis_server"]
