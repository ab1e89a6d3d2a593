"""Our history on its way to Kafka. Implements the port `OutgoingEvents`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omninode_bridge.core.topics import RELAYED
from omninode_bridge.infrastructure.kafka.event_messages import event_message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
    from omninode_bridge.infrastructure.kafka.producer import KafkaProducer
    from omninode_bridge.ports import LoggedEvent


class KafkaEvents:
    """Sends entries of our log; the partition has the number it has here."""

    def __init__(
        self,
        producer: KafkaProducer,
        incarnations: Incarnations,
        *,
        log_incarnation: UUID,
        prefix: str = "",
    ) -> None:
        """`log_incarnation` tells this database's log from any other; `prefix` is the topics'."""
        self._producer = producer
        self._incarnations = incarnations
        self._log_incarnation = log_incarnation
        self._prefix = prefix

    async def incarnation(self, topic: str) -> str:
        """Return which incarnation of the topic is there now.

        Raises:
            BusUnavailable: nobody knows, or there is none.
        """
        return await self._incarnations.now(self._prefix + RELAYED[topic])

    async def send(self, topic: str, partition: int, events: Sequence[LoggedEvent]) -> None:
        """Return when all of `events` are confirmed, in order, by whichever incarnation was there.

        Raises:
            BusUnavailable: whether they are there is unknown: send them again.
            BusRefused: one of them can never be sent.
        """
        name = RELAYED[topic]
        messages = [event_message(name, partition, each, self._log_incarnation) for each in events]
        await self._producer.send(self._prefix + name, partition, messages)
