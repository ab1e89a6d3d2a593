"""The tests' own broker is a real one: it keeps what it confirmed, whatever is done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kafka_servers import KafkaServer


@pytest.fixture
def topic(kafka_server: KafkaServer) -> Iterator[str]:
    name = f"test-{uuid4()}"
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
    admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(30)
    yield name
    admin.delete_topics([name])[name].result(30)


def producer(server: KafkaServer) -> Producer:
    return Producer({"bootstrap.servers": server.bootstrap_servers, "enable.idempotence": True})


def read(server: KafkaServer, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": server.bootstrap_servers, "group.id": topic})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        # One more than there should be, so that a doubled one shows.
        messages = consumer.consume(count, timeout=30) + consumer.consume(1, timeout=0.5)
        return [message.value() for message in messages]
    finally:
        consumer.close()


def test_a_stalled_broker_confirms_when_it_goes_on(kafka_server: KafkaServer, topic: str) -> None:
    ours = producer(kafka_server)
    ours.produce(topic, b"first")
    assert ours.flush(30) == 0
    kafka_server.stall()
    try:
        ours.produce(topic, b"second")
        assert ours.flush(1) == 1
    finally:
        kafka_server.go_on()
    assert ours.flush(60) == 0
    assert read(kafka_server, topic, 2) == [b"first", b"second"]
