"""Others on the same Kafka: plain `confluent-kafka` and the `cloudevents` SDK, and nothing of ours.

- `kafka_place` is a place of its own for each test: topics of a prefix that nobody else has.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import pytest
from cloudevents.core.bindings import kafka as cloud_events_kafka
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from omninode_bridge import KafkaPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.kafka_servers import KafkaServer

ACTION: Final = "onex.cmd.omninode-bridge.action.v1"
STATE_COMMITTED: Final = "onex.evt.omninode-bridge.state-committed.v1"
REDUCER_GAVE_UP: Final = "onex.evt.omninode-bridge.reducer-gave-up.v1"
DEAD_LETTER: Final = "onex.dlq.omninode-bridge.action.v1"
READ_WAIT_S: Final = 40.0

Headers = list[tuple[str, str | bytes | None]]


@dataclass(frozen=True)
class Received:
    """A message as a consumer gets it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    def event(self) -> Any:  # noqa: ANN401 - as the SDK has it
        """Return the event that the SDK reads from it."""
        assert self.key is not None
        return cloud_events_kafka.from_binary_event(
            cloud_events_kafka.KafkaMessage(self.headers, self.key, self.value or b"")
        )


@dataclass
class KafkaUser:
    """Somebody who writes to and reads from the topics of a place, as anybody may."""

    place: KafkaPlace
    sent: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        self._producer = Producer(
            {
                "bootstrap.servers": self.place.bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "message.max.bytes": 20_000_000,
                "log_level": 0,
            }
        )

    def ask(
        self,
        key: str,
        action_type: str,
        data: dict[str, Any],
        *,
        partition: int = -1,
        **attributes: str,
    ) -> UUID:
        """Write an action by the SDK; return its id. It is on its way until `flush`."""
        action_id = uuid4()
        event = CloudEvent(
            {
                "type": ACTION,
                "source": "urn:a-shop",
                "id": str(action_id),
                "time": datetime.now(UTC),
                "datacontenttype": "application/json",
                "partitionkey": key,
                "actiontype": action_type,
            }
            | attributes,
            data,
        )
        written = cloud_events_kafka.to_binary_event(event)
        headers: Headers = list(written.headers.items())
        self._last = (ACTION, written.key, written.value, headers)
        self.write(*self._last, partition=partition)
        self.sent.append(action_id)
        return action_id

    def ask_again(self) -> None:
        """Write the last action once more, under its id."""
        self.write(*self._last)

    def write(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        partition: int = -1,
    ) -> None:
        """Write any bytes."""
        self._producer.produce(self.place.prefix + topic, value, key, partition, headers=headers)
        self._producer.poll(0)

    async def flush(self, wait_s: float = READ_WAIT_S) -> None:
        """Return when all that was written is confirmed."""
        assert await asyncio.to_thread(self._producer.flush, wait_s) == 0

    async def read(
        self,
        topic: str,
        enough: Callable[[list[Received]], bool],
        partitions: Iterable[int] = range(4),
    ) -> list[Received]:
        """Return the messages of a topic from its beginning on, until they are enough."""
        return await asyncio.to_thread(self._read, topic, enough, partitions)

    def _read(
        self, topic: str, enough: Callable[[list[Received]], bool], partitions: Iterable[int]
    ) -> list[Received]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.place.bootstrap,
                "group.id": f"reader-{uuid4()}",
                "log_level": 0,
            }
        )
        found: list[Received] = []
        try:
            name = self.place.prefix + topic
            consumer.assign([TopicPartition(name, each, 0) for each in partitions])
            waited = 0
            while not enough(found):
                messages = consumer.consume(1_000, 0.1)
                waited = 0 if messages else waited + 1
                assert waited < READ_WAIT_S / 0.1, f"not enough on {topic}: {len(found)}"
                for message in messages:
                    error = message.error()
                    if error is not None:
                        assert error.retriable(), error
                        continue
                    said = message.headers() or []
                    headers = {name: _bytes(value) for name, value in said}  # type: ignore[str-unpack]
                    found.append(
                        Received(
                            message.partition() or 0,
                            message.offset() or 0,
                            _maybe_bytes(message.key()),
                            _maybe_bytes(message.value()),
                            headers,
                        )
                    )
            return found
        finally:
            consumer.close()


async def set_topic(place: KafkaPlace, topic: str, setting: str, value: str) -> None:
    """Change a setting of a topic; return when the broker tells it so."""
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    name = place.prefix + topic
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    await asyncio.wrap_future(admin.incremental_alter_configs([changed])[changed])
    async with asyncio.timeout(READ_WAIT_S):
        while True:
            asked = ConfigResource(ConfigResource.Type.TOPIC, name)
            settings = await asyncio.wrap_future(admin.describe_configs([asked])[asked])
            if settings[setting].value == value:
                return


def check_repeats(found: Sequence[Received]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """Return each event by its place in the log; assert that no place is missing or differs."""
    events: dict[tuple[str, int, int], dict[str, Any]] = {}
    highest: dict[int, int] = {}
    for each in found:
        offset = int(each.headers["ce_logoffset"])
        place = (each.headers["ce_source"].decode(), each.partition, offset)
        data = json.loads(each.value or b"")
        assert events.setdefault(place, data) == data, "a repeat tells the same"
        assert offset <= highest.get(each.partition, 0) + 1, "no entry is left out"
        highest[each.partition] = max(highest.get(each.partition, 0), offset)
    return events


@pytest.fixture
def kafka_place(kafka_server: KafkaServer) -> KafkaPlace:
    """Give the place of a test's own topics on the broker of this run."""
    return KafkaPlace(kafka_server.bootstrap_servers, prefix=f"{uuid4()}.")


def _maybe_bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _bytes(value: str | bytes | None) -> bytes:
    return _maybe_bytes(value) or b""


__all__ = ["KafkaUser", "Received", "check_repeats", "kafka_place", "set_topic"]
