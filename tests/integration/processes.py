"""Processes that tests start, look at, and kill by their ids."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable

    from omninode_bridge.infrastructure.postgres.embedded import ServerAddress

WAIT_S: Final = 30.0
_PROGRAM: Final = Path(__file__).with_name("server_user.py")


class ServerUser:
    """Another process at the server."""

    def __init__(self, process: Process) -> None:
        """Talk to `process`."""
        self.process = process

    async def says(self) -> str:
        """Return its next line; empty when it has closed its standard output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def leaves(self) -> None:
        """Let it leave in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(WAIT_S):
            await self.process.wait()


@asynccontextmanager
async def server_user(
    data_dir: Path, *, mode: str = "use", uid: int | None = None
) -> AsyncIterator[ServerUser]:
    """Run `server_user.py` in a process group of its own; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(interpreter_for(uid), str(_PROGRAM), mode, str(data_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        process_group=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    try:
        yield ServerUser(process)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


def interpreter_for(uid: int | None) -> str:
    """Return a Python of our version that an account may run: ours may be in root's home.

    Skips the test when there is none.
    """
    if uid is None:
        return sys.executable
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{ours}"):
        with suppress(OSError):
            subprocess.run(  # noqa: S603 - an interpreter
                [python, "-c", ""], user=uid, group=uid, extra_groups=[], check=True, cwd="/"
            )
            return python
    pytest.skip("no interpreter that an ordinary user may run")


def postmaster(data_dir: Path) -> int:
    """Return the process id of the running server."""
    lines = (data_dir / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    return int(lines[0])


def owner_of(pid: int) -> int:
    """Return the user id a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


def parent(pid: int) -> int:
    """Return the parent of a process; a server's is its keeper."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def children(pid: int) -> list[int]:
    """Return the children of a process; a server's are its backends and workers."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if parent(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and was not waited for does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def kill(*pids: int) -> None:
    """Kill processes; some may have ended by themselves."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


async def answer(address: ServerAddress, statement: str) -> object:
    """Return the first value of what the server answers to `statement`."""
    connection = await asyncpg.connect(**address.connect_arguments)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
