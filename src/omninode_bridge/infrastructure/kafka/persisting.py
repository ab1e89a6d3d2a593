"""Commits on their way from reducers to store effects and back, on Kafka."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import UUID

from omninode_bridge.core.errors import CommitTooLarge
from omninode_bridge.core.observation import Observe, ignore
from omninode_bridge.core.topics import PERSIST_ANSWERED, PERSIST_STATE
from omninode_bridge.infrastructure.kafka.cloud_events import NotReadable
from omninode_bridge.infrastructure.kafka.hearing import Hearing, ends_of
from omninode_bridge.infrastructure.kafka.persist_messages import (
    answer_message,
    persist_id_of,
    persist_message,
    read_answer_message,
    read_persist_message,
)
from omninode_bridge.infrastructure.kafka.topic_specs import PERSIST_BYTES_MAX
from omninode_bridge.ports import Command, CommandPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.core.commit import Accepted, Commit, Refusal
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.kafka.connection import KafkaConnection
    from omninode_bridge.infrastructure.kafka.message import Message
    from omninode_bridge.infrastructure.kafka.reading import Fetched, Reading
    from omninode_bridge.ports import Unstorable

    Answer = Accepted | Refusal | Unstorable

READ_WAIT_S: Final = 0.5
BATCH_BYTES_MAX: Final = PERSIST_BYTES_MAX - 1_048_576
"""What the broker counts beside it has room in a mebibyte."""


@asynccontextmanager
async def open_persist_asks(
    kafka: KafkaConnection, partitions: int, observe: Observe = ignore
) -> AsyncIterator[KafkaPersistAsks]:
    """Yield what sends commits, and hears the answers that are given from now on.

    Raises:
        BusUnavailable: nobody answers.
    """
    ends = await ends_of(kafka, [PERSIST_ANSWERED], partitions)
    asks = KafkaPersistAsks(kafka)
    hearing = Hearing(kafka, ends, asks.heard, name="persist answers", observe=observe)
    try:
        yield asks
    finally:
        await hearing.close()


class KafkaPersistAsks:
    """Implements the port `PersistAsks`. See `open_persist_asks`."""

    def __init__(self, kafka: KafkaConnection, *, bytes_max: int = BATCH_BYTES_MAX) -> None:
        """Send by the connection's producer, up to `bytes_max` a batch; nobody waits yet."""
        self._kafka = kafka
        self._bytes_max = bytes_max
        self._waiting: dict[UUID, asyncio.Future[Answer]] = {}

    async def ask(self, commit: Commit, wait_s: float) -> Answer | None:
        """Send a commit; return the answer to it, or None when none has come within `wait_s`.

        Raises:
            BusUnavailable: whether it was sent is unknown.
            CommitTooLarge: it was not sent; a part of it may be.
            BusRefused: it can never be sent.
        """
        message = persist_message(commit)
        if message.size() > self._bytes_max:
            raise CommitTooLarge(message.size(), self._bytes_max)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[commit.effect_id] = answered  # before it is sent
        topic = self._kafka.prefix + PERSIST_STATE
        try:
            async with asyncio.timeout(wait_s):
                await self._kafka.producer.send(topic, commit.partition, [message])
                return await answered
        except TimeoutError:
            return None
        finally:
            del self._waiting[commit.effect_id]

    def heard(self, message: Message) -> None:
        """Take a message of the topic of answers, if it is for somebody here."""
        try:
            answered = self._waiting.get(UUID(persist_id_of(message) or ""))
        except ValueError:
            return
        if answered is None or answered.done():
            return
        try:
            answered.set_result(read_answer_message(message))
        except NotReadable:  # foreign bytes on a topic of ours
            return


class KafkaPersistCommands:
    """Implements the port `PersistCommands`."""

    def __init__(self, kafka: KafkaConnection, codec: Codec) -> None:
        """Read and answer by the connection's clients."""
        self._kafka = kafka
        self._codec = codec
        self._topic = kafka.prefix + PERSIST_STATE
        self._readings: dict[int, Reading] = {}

    async def bounds(self, partition: int) -> tuple[str, int, int]:
        """Return the topic's incarnation, the first offset that is there, and the next one.

        Raises:
            BusUnavailable: nobody knows, or there is no topic.
        """
        bounds = await self._kafka.admin.bounds(self._topic, [partition])
        return await self._kafka.incarnations.now(self._topic), *bounds[partition]

    async def read(self, partition: int, position: int, limit: int) -> CommandPage:
        """Return up to `limit` messages from `position` on; none after a while without any.

        Raises:
            BusUnavailable: try again.
            MessagesLost: what stood at `position` is no longer there.
        """
        reading = self._readings.get(partition)
        if reading is None or reading.position != position:
            reading = self._kafka.consumer.read_from(self._topic, partition, position)
            self._readings[partition] = reading
        try:
            fetched = await reading.read(limit, READ_WAIT_S)
        except BaseException:
            self.close(partition)
            raise
        following = reading.position if fetched else position
        return CommandPage([self._command(partition, each) for each in fetched], following)

    async def answer(self, commit: Commit, answer: Answer) -> None:
        """Tell who sent `commit` what became of it.

        Raises:
            BusUnavailable: whether they are told is unknown.
        """
        topic = self._kafka.prefix + PERSIST_ANSWERED
        message = answer_message(commit, answer)
        await self._kafka.producer.send(topic, commit.partition, [message])

    def close(self, partition: int) -> None:
        """Read a partition no more."""
        reading = self._readings.pop(partition, None)
        if reading is not None:
            reading.close()

    def _command(self, partition: int, fetched: Fetched) -> Command:
        try:
            commit = read_persist_message(fetched.message, self._codec)
        except NotReadable as error:
            return Command(fetched.offset, None, str(error))
        if commit.partition != partition:
            return Command(fetched.offset, None, f"it is for partition {commit.partition}")
        return Command(fetched.offset, commit)
