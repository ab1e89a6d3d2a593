"""Processes on one server wake each other: NOTIFY outside of every commit, LISTEN beside the pool.

Rule 1: it decides nothing, and nothing waits for it. What is not heard is found by polling.
Rule 2: one notification at a time is under way; what is told meanwhile goes together in the next.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.errors import BridgeError
from omninode_bridge.infrastructure.postgres.listening import listen
from omninode_bridge.infrastructure.postgres.statements import Statements
from omninode_bridge.ports import Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "wakes.sql")

CHANNEL: Final = "omninode_bridge"
TOLD_MAX: Final = 400
"""In one notification, which may have 8,000 bytes."""
CLOSE_WAIT_S: Final = 1.0

_WAKE: Final = re.compile(r"(action|outcome|commit):(\d{1,4})")


class WakeService:
    """Implements the port `Wakes`. It ends with `aclose`."""

    def __init__(self, database: Database, connect: Mapping[str, Any]) -> None:
        """Tell through `database`; hear on a connection of its own, made with `connect`."""
        self._database = database
        self._connect = connect
        self._untold: dict[Wake, None] = {}
        self._telling: asyncio.Task[None] | None = None

    def tell(self, wake: Wake) -> None:
        """Say that there is something to look at; what is told in one turn goes together."""
        self._untold[wake] = None
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(), name="wakes")

    async def hear(self, heard: Callable[[Wake], None]) -> None:
        """Hear what is told until cancelled; returns at once behind a pooler of transactions.

        Raises:
            DatabaseUnavailable: the connection is lost, or cannot be made.
        """

        def told(payload: str) -> None:
            for of, partition in _WAKE.findall(payload):
                heard(Wake(of, int(partition)))

        await listen(self._connect, CHANNEL, told)

    async def aclose(self) -> None:
        """Tell what is left, and no more."""
        if self._telling is not None:
            _told, hanging = await asyncio.wait([self._telling], timeout=CLOSE_WAIT_S)
            for task in hanging:
                task.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        while self._untold:
            now = list(self._untold)[:TOLD_MAX]
            for wake in now:
                del self._untold[wake]
            payload = " ".join(f"{wake.of}:{wake.partition}" for wake in now)
            with suppress(BridgeError):  # Rule 1; those whom it stops report it
                await self._database.execute(SQL["notify"], CHANNEL, payload)
