"""Actions that others have written to Kafka. Implements the port `IncomingActions`."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BusRefused, BusUnavailable, MessagesLost
from omninode_bridge.core.observation import LoopStumbled, Observe, ignore
from omninode_bridge.core.topics import ACTION
from omninode_bridge.infrastructure.kafka.action_messages import NotAnAction, read_action_message
from omninode_bridge.ports import Incoming, IncomingPage

if TYPE_CHECKING:
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin
    from omninode_bridge.infrastructure.kafka.consumer import KafkaConsumer
    from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
    from omninode_bridge.infrastructure.kafka.reading import Fetched, Reading

READ_WAIT_S: Final = 0.5
TELL_S: Final = 5.0
TRIM_MESSAGES: Final = 100_000
"""So many behind the position may stay before they are deleted."""


class KafkaActions:
    """Reads the action topic, each partition from where it is told."""

    def __init__(
        self,
        admin: KafkaAdmin,
        consumer: KafkaConsumer,
        incarnations: Incarnations,
        codec: Codec,
        *,
        prefix: str = "",
        trim_messages: int = TRIM_MESSAGES,
        observe: Observe = ignore,
    ) -> None:
        """`prefix` stands before the topics' names."""
        self._admin = admin
        self._consumer = consumer
        self._incarnations = incarnations
        self._codec = codec
        self._topic = prefix + ACTION
        self._trim_messages = trim_messages
        self._observe = observe
        self._readings: dict[int, Reading] = {}
        self._told: dict[int, tuple[int, float]] = {}
        self._trimmed: dict[int, int] = {}

    async def beginning(self, partition: int) -> tuple[str, int]:
        """Return the topic's incarnation, and the first offset that is still there.

        Raises:
            BusUnavailable: nobody knows, or there is no topic.
        """
        bounds = await self._admin.bounds(self._topic, [partition])
        low, _ = bounds[partition]
        self._trimmed[partition] = low
        return await self._incarnations.now(self._topic), low

    async def read(self, partition: int, position: int, limit: int) -> IncomingPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        All before `position` is taken over: it may be deleted.

        Raises:
            BusUnavailable: try again.
            MessagesLost: what stood at `position` is no longer there.
        """
        await self._taken_over(partition, position)
        reading = self._readings.get(partition)
        if reading is None or reading.position != position:
            reading = self._consumer.read_from(self._topic, partition, position)
            self._readings[partition] = reading
        try:
            fetched = await reading.read(limit, READ_WAIT_S)
            # After the fetch: see `incarnations`.
            incarnation = await self._incarnations.now(self._topic) if fetched else ""
        except MessagesLost as error:
            self.close(partition)
            await self._check_lost(partition, position, error)
            raise
        except BaseException:
            self.close(partition)
            raise
        if not fetched:
            return IncomingPage((), position, incarnation)
        return IncomingPage(
            [self._incoming(each) for each in fetched], reading.position, incarnation
        )

    def close(self, partition: int) -> None:
        """Read a partition no more."""
        reading = self._readings.pop(partition, None)
        if reading is not None:
            reading.close()

    def _incoming(self, fetched: Fetched) -> Incoming:
        read = read_action_message(fetched.message, self._codec)
        if isinstance(read, NotAnAction):
            return Incoming(fetched.offset, fetched.message, None, read.reason)
        return Incoming(fetched.offset, fetched.message, read)

    async def _check_lost(self, partition: int, position: int, error: MessagesLost) -> None:
        """Return if the position is not there; a broker that has just come back may say so of any.

        Raises:
            BusUnavailable: it is there after all, or nobody knows.
        """
        low, following = (await self._admin.bounds(self._topic, [partition]))[partition]
        if low <= position <= following:
            message = f"{self._topic}/{partition}: position {position} was not there, and is now"
            raise BusUnavailable(message) from error

    async def _taken_over(self, partition: int, position: int) -> None:
        """Let those who look at lag know, and delete what is behind, from time to time."""
        now = monotonic()
        told, told_at = self._told.get(partition, (-1, 0.0))
        if position != told and now - told_at >= TELL_S:
            self._told[partition] = (position, now)
            self._consumer.tell_position(self._topic, partition, position)
        if position - self._trimmed.get(partition, position) >= self._trim_messages:
            self._trimmed[partition] = position
            try:
                await self._admin.trim(self._topic, partition, position)
            except (BusUnavailable, BusRefused) as error:
                self._observe(LoopStumbled("kafka trim", partition, 1, error))
