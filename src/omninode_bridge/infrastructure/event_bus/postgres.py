"""The event bus over the log: an outcome is told because it is durable, whoever made it so.

Rule 1: outcomes are history. They are not written here but by the commit, and those who wait for
        them find them in the log; a conflict is told in this process, where it was asked, and kept
        nowhere.
Rule 2: those who wait share one look: one query, however many they are (R13).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson

from omninode_bridge.core.errors import BridgeError
from omninode_bridge.core.message import StateCommitted
from omninode_bridge.core.observation import LoopStumbled, Observe, ignore
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.event_bus.waiters import Waiters
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from omninode_bridge.core.message import Event
    from omninode_bridge.infrastructure.event_bus.waiters import Waiter
    from omninode_bridge.infrastructure.postgres.database import Database
    from omninode_bridge.ports import StillUnknown

SQL: Final = Statements("omninode_bridge.infrastructure.event_bus", "postgres.sql")

WAITING_MAX: Final = 1_000
POLL_MS: Final = 20.0


class PostgresEventBus:
    """Implements the port `EventBus`. It ends with `close`."""

    def __init__(
        self,
        database: Database,
        *,
        waiting_max: int = WAITING_MAX,
        poll_ms: float = POLL_MS,
        observe: Observe = ignore,
    ) -> None:
        """Look through `database`, at most every `poll_ms` for all who wait."""
        self._database = database
        self._poll_s = poll_ms / 1000
        self._observe = observe
        self._waiters = Waiters(waiting_max, observe)
        self._looking: asyncio.Task[None] | None = None

    async def publish(self, topic: str, payload: Event) -> None:
        """Tell those in this process; elsewhere an outcome is found in the log, a conflict not.

        Raises:
            ValueError: the event does not belong on that topic.
        """
        self._waiters.publish(topic, payload)

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Waiter:
        """Wait from now on; what is in the log already is found as well.

        Raises:
            TooManyWaiting: there is no room for one more.
        """
        waiter = self._waiters.expect(types, action_id)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="event bus")
        return waiter

    async def wait_any(
        self, types: Collection[type[Event]], action_id: UUID, timeout_ms: float
    ) -> Event | StillUnknown:
        """Wait for the first event of one of `types`."""
        return await self.expect(types, action_id).within(timeout_ms)

    async def close(self) -> None:
        """Look no more: those who still wait run into their bounds."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        """Look for what is waited for, as long as anyone waits.

        An outage passes, and whoever waits has a bound of their own: unknown, and not failed.
        """
        attempt = 0
        while ids := self._waiters.ids():
            try:
                rows = await self._database.fetch(SQL["outcomes"], ids)
            except BridgeError as error:  # whatever it is, the next look may do better
                attempt += 1
                self._observe(LoopStumbled("event bus", None, attempt, error))
            else:
                attempt = 0
                for row in rows:
                    self._waiters.tell(_event(row))
            await asyncio.sleep(self._poll_s)


def _event(row: Any) -> Event:  # noqa: ANN401 - asyncpg ships no types
    key, action_id, body = row["workflow_key"], plain_uuid(row["action_id"]), row["body"]
    fields = orjson.loads(body)
    if row["event"] == "ReducerGaveUp":
        return wire.read_gave_up(key, action_id, fields)
    provenance = wire.read_provenance(fields, row["happened_at"])
    return StateCommitted(key, row["version"], action_id, row["offset"], provenance)
