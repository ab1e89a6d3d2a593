"""The event bus over Kafka, for processes that need not reach the database.

Rule 1: as with the bus over the log, outcomes are not written here: the commit keeps them, and the
        relay carries them. A conflict, which is no history, is sent by who publishes it.
Rule 2: whoever waits hears what is carried from then on. What was told before, or while Kafka was
        away for longer than somebody waits, is unknown to them (R9): they ask again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BridgeError, MessagesLost
from omninode_bridge.core.message import StateConflict
from omninode_bridge.core.observation import LoopStumbled, Observe, ignore
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.topics import REDUCER_GAVE_UP, STATE_COMMITTED, STATE_CONFLICT
from omninode_bridge.infrastructure.event_bus.waiters import Waiters
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable
from omninode_bridge.infrastructure.kafka.event_messages import (
    action_of,
    conflict_message,
    read_event_message,
)

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
PAGE_MAX: Final = 1_000
READ_WAIT_S: Final = 5.0
PAUSE_S: Final = 0.5
SOURCE: Final = "urn:omninode-bridge:event-bus"

Ends = dict[tuple[str, int], int]


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
    ends = await ends_of(kafka, partitions)
    bus = KafkaEventBus(kafka, ends, waiting_max=waiting_max, observe=observe)
    try:
        yield bus
    finally:
        await bus.close()


async def ends_of(kafka: KafkaConnection, partitions: int) -> Ends:
    """Return the offset that each partition of our topics will give next."""
    ends: Ends = {}
    for topic in TOPICS:
        bounds = await kafka.admin.bounds(kafka.prefix + topic, range(partitions))
        ends |= {(topic, partition): end for partition, (_, end) in bounds.items()}
    return ends


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
        self._observe = observe
        self._waiters = Waiters(waiting_max, observe)
        self._partitions = 1 + max(partition for _, partition in ends)
        self._hearing = [
            asyncio.create_task(self._hear(*place, end), name=f"event bus {place}")
            for place, end in ends.items()
        ]

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
        for task in self._hearing:
            task.cancel()
        await asyncio.gather(*self._hearing, return_exceptions=True)

    async def _hear(self, topic: str, partition: int, position: int) -> None:
        """Tell what is carried on one partition of a topic, until cancelled."""
        name, attempt = self._kafka.prefix + topic, 0
        while True:
            reading = self._kafka.consumer.read_from(name, partition, position)
            try:
                while True:
                    for each in await reading.read(PAGE_MAX, READ_WAIT_S):
                        self._tell(each.message)
                    position, attempt = reading.position, 0
            except BridgeError as error:  # whatever it is, the next look may do better
                attempt += 1
                self._observe(LoopStumbled("event bus", partition, attempt, error))
                lost = isinstance(error, MessagesLost)
            finally:
                reading.close()
            await asyncio.sleep(PAUSE_S)
            if lost:
                position = await self._end(name, partition, position)

    async def _end(self, name: str, partition: int, position: int) -> int:
        """Return where a partition ends now; who waits for what was lost runs into a bound."""
        try:
            bounds = await self._kafka.admin.bounds(name, [partition])
        except BridgeError:
            return position
        return bounds[partition][1]

    def _tell(self, message: Message) -> None:
        if not self._waiters.are_for(action_of(message)):
            return
        try:
            event = read_event_message(message)
        except NotReadable:  # foreign bytes on a topic of ours: nobody waits for them
            return
        if event is not None:
            self._waiters.tell(event)
