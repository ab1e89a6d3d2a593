"""Those who wait for events by action id: registered at once, bounded, told once (R9, R13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from omninode_bridge.core.errors import TooManyWaiting
from omninode_bridge.core.observation import EventPublished
from omninode_bridge.core.topics import topic_of
from omninode_bridge.ports import StillUnknown

if TYPE_CHECKING:
    from collections.abc import Collection

    from omninode_bridge.core.message import Event
    from omninode_bridge.core.observation import Observe


class Waiter:
    """Waits for the first event of one of its types. Implements the port `Expectation`."""

    def __init__(self, waiters: Waiters, types: Collection[type[Event]], action_id: UUID) -> None:
        """`waiters` is told when it has ended."""
        self._waiters = waiters
        self._types = tuple(types)
        self._action_id = action_id
        self._event: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

    async def within(self, timeout_ms: float) -> Event | StillUnknown:
        """Return the event, at once if it came already, or that it is unknown after that time."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await asyncio.shield(self._event)
        except TimeoutError:
            return StillUnknown(self._action_id, timeout_ms)
        finally:
            self.close()

    def close(self) -> None:
        """Wait no more; nothing, when it has ended."""
        self._waiters.forget(self._action_id, self)

    def take(self, event: Event) -> bool:
        """Take the event if it is what is waited for; return whether."""
        if self._event.done() or not isinstance(event, self._types):
            return False
        self._event.set_result(event)
        return True


class Waiters:
    """All who wait on a bus of this process."""

    def __init__(self, waiting_max: int, observe: Observe) -> None:
        """Begin with nobody; `waiting_max` may wait at once."""
        self._waiting_max = waiting_max
        self._observe = observe
        self._waiting: dict[UUID, list[Waiter]] = {}
        self._count = 0

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Waiter:
        """Register one who waits, from now on.

        Raises:
            TooManyWaiting: there is no room for one more.
        """
        if self._count >= self._waiting_max:
            raise TooManyWaiting(self._waiting_max)
        waiter = Waiter(self, types, action_id)
        self._waiting.setdefault(action_id, []).append(waiter)
        self._count += 1
        return waiter

    def publish(self, topic: str, event: Event) -> None:
        """Tell an event to those who wait for it, and report it.

        Raises:
            ValueError: the event does not belong on that topic.
        """
        if topic != topic_of(event):
            message = f"a {type(event).__name__} belongs on {topic_of(event)}, not on {topic}"
            raise ValueError(message)
        self._observe(EventPublished(topic, type(event).__name__, self.tell(event)))

    def tell(self, event: Event) -> int:
        """Tell an event to those who wait for it; return how many did."""
        return sum([waiter.take(event) for waiter in self._waiting.get(event.action_id, ())])

    def are_for(self, action_id: str | None) -> bool:
        """Return whether anybody waits for the action of this id, as a text."""
        if not self._waiting or action_id is None:
            return False
        try:
            return UUID(action_id) in self._waiting
        except ValueError:
            return False

    def ids(self) -> list[UUID]:
        """Return the ids of the actions that are waited for."""
        return list(self._waiting)

    def forget(self, action_id: UUID, waiter: Waiter) -> None:
        """Let `waiter` go, if it is here."""
        waiting = self._waiting.get(action_id, [])
        if waiter in waiting:
            waiting.remove(waiter)
            self._count -= 1
        if not waiting:
            self._waiting.pop(action_id, None)
