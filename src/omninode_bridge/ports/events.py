"""How those who wait are told what became of an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from omninode_bridge.core.message import Event


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """Nobody has told what became of the action while it was waited for (R9): ask again."""

    action_id: UUID
    waited_ms: float


class Expectation(Protocol):
    """Somebody who waits for an event of one action; registered when it is made."""

    async def within(self, timeout_ms: float) -> Event | StillUnknown:
        """Return the event, at once if it came already, or that it is unknown after that time."""
        ...

    def close(self) -> None:
        """Wait no more; nothing, when it has ended."""
        ...


class EventBus(Protocol):
    """How nodes tell each other what became of an action, by its id (R9)."""

    async def publish(self, topic: str, payload: Event) -> None:
        """Tell those who wait for it; what is durable is so by its commit, not by this.

        Raises:
            ValueError: the event does not belong on that topic.
        """
        ...

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Expectation:
        """Wait from now on: do so before the action is sent, then send it, then ask `within`.

        Raises:
            TooManyWaiting: there is no room for one more.
        """
        ...

    async def wait_any(
        self, types: Collection[type[Event]], action_id: UUID, timeout_ms: float
    ) -> Event | StillUnknown:
        """Wait for the first event of one of `types`, for what was sent by somebody else."""
        ...
