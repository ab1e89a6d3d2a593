"""The event bus of one process alone: who publishes tells who waits, and nothing is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.infrastructure.event_bus.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from omninode_bridge.core.message import Event
    from omninode_bridge.infrastructure.event_bus.waiters import Waiter
    from omninode_bridge.ports import StillUnknown

WAITING_MAX: Final = 1_000


class MemoryEventBus:
    """Implements the port `EventBus`."""

    def __init__(self, *, waiting_max: int = WAITING_MAX, observe: Observe = ignore) -> None:
        """At most `waiting_max` wait at once; `observe` is told what is published."""
        self._waiters = Waiters(waiting_max, observe)

    async def publish(self, topic: str, payload: Event) -> None:
        """Tell those who wait for it; ValueError when it does not belong on that topic."""
        self._waiters.publish(topic, payload)

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Waiter:
        """Wait from now on; TooManyWaiting when there is no room."""
        return self._waiters.expect(types, action_id)

    async def wait_any(
        self, types: Collection[type[Event]], action_id: UUID, timeout_ms: float
    ) -> Event | StillUnknown:
        """Wait for the first event of one of `types`."""
        return await self.expect(types, action_id).within(timeout_ms)
