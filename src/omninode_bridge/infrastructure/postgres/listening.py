"""One connection beside the pool that hears notifications."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.infrastructure.postgres.database import translated
from omninode_bridge.infrastructure.postgres.pooling import SQL, is_pooled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROBE_S: Final = 5.0
"""How often a silent connection is asked whether it lives, and how long it may take to answer."""


async def listen(connect: Mapping[str, Any], channel: str, heard: Callable[[str], None]) -> None:
    """Call `heard` with the payload of each notification on `channel`, until cancelled.

    Returns at once where that cannot be: behind a pooler the backend changes with each transaction,
    and a LISTEN would be somebody else's.

    Raises:
        DatabaseUnavailable: the connection cannot be made, or is lost.
    """
    if is_pooled(connect):
        return
    with translated():
        connection = await asyncpg.connect(**connect, timeout=PROBE_S, command_timeout=PROBE_S)
    try:
        with translated():
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(channel, lambda *notified: heard(notified[-1]))
        while not lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S):
                    await lost.wait()
            with translated():
                await connection.fetchval(SQL["backend"])
        message = "the connection that hears notifications was lost"
        raise DatabaseUnavailable(message)
    finally:
        connection.terminate()
