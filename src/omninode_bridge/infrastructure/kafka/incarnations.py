"""Which incarnation of a topic is there: asked after the fact, so that the answer covers it.

A topic's id never comes back. If a topic has now the id that it had at the beginning, it has had it
all the while: whatever was fetched from it or confirmed by it in between was that topic's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin


class Incarnations:
    """Asks once for all who wait: those who come while it asks are asked for together next."""

    def __init__(self, admin: KafkaAdmin) -> None:
        """Ask through `admin`."""
        self._admin = admin
        self._asking: dict[str, asyncio.Lock] = {}
        self._next: dict[str, asyncio.Task[str]] = {}

    async def now(self, topic: str) -> str:
        """Return the incarnation of a topic, asked for after this call.

        Raises:
            BusUnavailable: nobody knows.
        """
        asked = self._next.get(topic)
        if asked is None:
            asked = asyncio.create_task(self._ask(topic), name=f"incarnation of {topic}")
            asked.add_done_callback(_heard)
            self._next[topic] = asked
        return await asyncio.shield(asked)

    async def _ask(self, topic: str) -> str:
        async with self._asking.setdefault(topic, asyncio.Lock()):
            del self._next[topic]  # who comes from now on needs an answer of their own
            return (await self._admin.incarnations([topic]))[topic]


def _heard(asked: asyncio.Task[str]) -> None:
    """Take its error, if nobody waits for it any more."""
    if not asked.cancelled():
        asked.exception()
