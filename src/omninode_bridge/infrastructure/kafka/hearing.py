"""Hears what is carried on some topics from a moment on, for whoever waits for it in this process.

What comes while Kafka is away for long, or was deleted before it was heard, is heard by nobody: who
waits has a bound.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import BridgeError, MessagesLost
from omninode_bridge.core.observation import LoopStumbled, Observe, ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from omninode_bridge.infrastructure.kafka.connection import KafkaConnection
    from omninode_bridge.infrastructure.kafka.message import Message

PAGE_MAX: Final = 1_000
READ_WAIT_S: Final = 5.0
PAUSE_S: Final = 0.5

Ends = dict[tuple[str, int], int]


async def ends_of(kafka: KafkaConnection, topics: Iterable[str], partitions: int) -> Ends:
    """Return the offset that each partition of `topics` will give next."""
    ends: Ends = {}
    for topic in topics:
        bounds = await kafka.admin.bounds(kafka.prefix + topic, range(partitions))
        ends |= {(topic, partition): end for partition, (_, end) in bounds.items()}
    return ends


class Hearing:
    """Tells each message that comes behind `ends`. It ends with `close`."""

    def __init__(
        self,
        kafka: KafkaConnection,
        ends: Mapping[tuple[str, int], int],
        tell: Callable[[Message], None],
        *,
        name: str,
        observe: Observe = ignore,
    ) -> None:
        """Hear from now on; the connection reads these topics for nobody else."""
        self._kafka = kafka
        self._tell = tell
        self._name = name
        self._observe = observe
        self._tasks = [
            asyncio.create_task(self._hear(*place, end), name=f"{name} {place}")
            for place, end in ends.items()
        ]

    async def close(self) -> None:
        """Hear no more: those who still wait run into their bounds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
                self._observe(LoopStumbled(self._name, partition, attempt, error))
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
