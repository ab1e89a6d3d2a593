"""The event bus over Kafka, for processes that need not reach the database.

Rule 1: as with the bus over the log, outcomes are not written here: the commit keeps them, and the
        relay carries them. A conflict, which is no history, is sent by who publishes it.
Rule 2: whoever waits hears what is carried from then on. What was told before, or while Kafka was
        away for longer than somebody waits, is unknown to them (R9): they ask again.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.message import StateConflict
from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.topics import REDUCER_GAVE_UP, STATE_COMMITTED, STATE_CONFLICT
from omninode_bridge.infrastructure.event_bus.waiters import Waiters
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable
from omninode_bridge.infrastructure.kafka.event_messages import (
    action_of,
    conflict_message,
    read_event_message,
)
from omninode_bridge.infrastructure.kafka.hearing import Hearing, ends_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from uuid import UUID

    from omninode_bridge.core.message import Event
    from omninode_bridge.infrastructure.event_bus.waiters import Waiter
    from omninode_bridge.infrastructure.kafka.connection import KafkaConnection
    from omninode_bridge.infrastructure.kafka.message import Message
    from omninode_bridge.ports import StillUnknown

TOPICS: Final = (STATE_COMMITTED, REDUCER_GAVE_UP, STATE_CONFLICT)
WAITING_MAX: Final = 1_000
SOURCE: Final = "urn:omninode-bridge:event-bus"


@asynccontextmanager
async def open_event_bus(
    kafka: KafkaConnection,
    partitions: int,
    *,
    waiting_max: int = WAITING_MAX,
    observe: Observe = ignore,
) -> AsyncIterator[KafkaEventBus]:
    """Yield a bus that hears what is carried from now on; the connection reads for nobody else.

    Raises:
        BusUnavailable: nobody answers.
    """
    ends = await ends_of(kafka, TOPICS, partitions)
    bus = KafkaEventBus(kafka, ends, waiting_max=waiting_max, observe=observe)
    try:
        yield bus
    finally:
        await bus.close()


class KafkaEventBus:
    """Implements the port `EventBus`. It ends with `close`."""

    def __init__(
        self,
        kafka: KafkaConnection,
        ends: Mapping[tuple[str, int], int],
        *,
        waiting_max: int = WAITING_MAX,
        observe: Observe = ignore,
    ) -> None:
        """Hear what comes behind `ends`, for each topic and partition. See `open_event_bus`."""
        self._kafka = kafka
        self._waiters = Waiters(waiting_max, observe)
        self._partitions = 1 + max(partition for _, partition in ends)
        self._hearing = Hearing(kafka, ends, self._tell, name="event bus", observe=observe)

    async def publish(self, topic: str, payload: Event) -> None:
        """Tell those in this process, and elsewhere those who wait for a conflict.

        Raises:
            ValueError: the event does not belong on that topic.
            BusUnavailable: whether a conflict is told elsewhere is unknown.
        """
        self._waiters.publish(topic, payload)
        if isinstance(payload, StateConflict):
            partition = partition_of(payload.workflow_key, self._partitions)
            message = conflict_message(payload, SOURCE)
            await self._kafka.producer.send(self._kafka.prefix + topic, partition, [message])

    def expect(self, types: Collection[type[Event]], action_id: UUID) -> Waiter:
        """Wait from now on; TooManyWaiting when there is no room."""
        return self._waiters.expect(types, action_id)

    async def wait_any(
        self, types: Collection[type[Event]], action_id: UUID, timeout_ms: float
    ) -> Event | StillUnknown:
        """Wait for the first event of one of `types`."""
        return await self.expect(types, action_id).within(timeout_ms)

    async def close(self) -> None:
        """Hear no more: those who still wait run into their bounds."""
        await self._hearing.close()

    def _tell(self, message: Message) -> None:
        if not self._waiters.are_for(action_of(message)):
            return
        try:
            event = read_event_message(message)
        except NotReadable:  # foreign bytes on a topic of ours: nobody waits for them
            return
        if event is not None:
            self._waiters.tell(event)
