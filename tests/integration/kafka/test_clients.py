"""Sending and reading on a real broker: in order, bounded, and never in the event loop's way."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from omninode_bridge import KafkaPlace
from omninode_bridge.core.errors import BusRefused, BusUnavailable, MessagesLost
from omninode_bridge.core.topics import ACTION
from omninode_bridge.infrastructure.codec import CanonicalCodec
from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin
from omninode_bridge.infrastructure.kafka.consumer import FETCH_MAX, KafkaConsumer
from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
from omninode_bridge.infrastructure.kafka.incoming import KafkaActions
from omninode_bridge.infrastructure.kafka.message import Message
from omninode_bridge.infrastructure.kafka.producer import KafkaProducer
from omninode_bridge.infrastructure.kafka.reading import BYTES_MAX, MESSAGES_MAX, Reading
from omninode_bridge.infrastructure.kafka.topic_specs import FOR_EVER, TopicSpec, topic_specs
from tests.bridges import WAIT_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.infrastructure.kafka.reading import Fetched
    from tests.kafka_servers import KafkaServer

PARTITIONS: Final = 2
BYTES: Final = 1_000_000


@pytest.fixture
def settings(kafka_server: KafkaServer) -> dict[str, Any]:
    return KafkaPlace(kafka_server.bootstrap_servers).client_settings()


@pytest.fixture
async def admin(settings: dict[str, Any]) -> KafkaAdmin:
    return KafkaAdmin(settings)


@pytest.fixture
async def topic(admin: KafkaAdmin) -> str:
    name = f"test-{uuid4()}"
    await admin.ensure([TopicSpec(name, PARTITIONS, FOR_EVER, BYTES)])
    return name


@pytest.fixture
async def producer(settings: dict[str, Any]) -> AsyncIterator[KafkaProducer]:
    async with KafkaProducer(settings) as made:
        yield made


@pytest.fixture
async def consumer(settings: dict[str, Any]) -> AsyncIterator[KafkaConsumer]:
    async with KafkaConsumer(settings, group=str(uuid4())) as made:
        yield made


def numbered(count: int, first: int = 0) -> list[Message]:
    return [Message(b"a:key", b"%d" % n) for n in range(first, first + count)]


def numbers(fetched: list[Fetched]) -> list[int]:
    return [int(each.message.value or b"") for each in fetched]


async def read(reading: Reading, count: int) -> list[Fetched]:
    found: list[Fetched] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            found += await reading.read(count - len(found), 1)
    return found


@asynccontextmanager
async def nobody_held_up() -> AsyncIterator[None]:
    """Assert that the event loop took its turns all the while."""
    loop = asyncio.get_running_loop()
    turns = [loop.time()]

    async def turn() -> None:
        while True:
            await asyncio.sleep(0.01)
            turns.append(loop.time())

    turning = asyncio.create_task(turn())
    yield
    turning.cancel()
    longest = max(after - before for before, after in pairwise([*turns, loop.time()]))
    assert longest < 1, f"the event loop was held for {longest:.3f} s"


async def test_what_was_sent_is_read_whole_and_in_order(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    odd = [
        Message(None, None),
        Message(b"", b"", (("a", None), ("a", b"\xff"))),
        Message(b"\xff", b"x" * 500_000, (("ä", b""),)),
    ]
    sent = [*odd, *numbered(3_000)]
    await producer.send(topic, 1, sent)
    reading = consumer.read_from(topic, 1, 0)
    found = await read(reading, len(sent))
    assert [each.offset for each in found] == list(range(len(sent)))
    assert [each.message for each in found] == sent
    assert await reading.read(10, 0.2) == []
    assert await consumer.read_from(topic, 0, 0).read(10, 0.2) == []


async def test_nothing_to_send_is_sent(topic: str, producer: KafkaProducer) -> None:
    await producer.send(topic, 0, [])


async def test_who_is_sent_later_is_read_at_once(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    reading = consumer.read_from(topic, 0, 0)
    for n in range(3):
        waiting = asyncio.create_task(reading.read(10, WAIT_S))
        await producer.send(topic, 0, numbered(1, n))
        assert numbers(await waiting) == [n]


async def test_a_reading_begins_where_it_was_told_whatever_was_fetched_before(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    await producer.send(topic, 0, numbered(5_000))
    dice = random.Random(1)  # noqa: S311 - no secret
    for _ in range(15):
        position = dice.randrange(4_990)
        reading = consumer.read_from(topic, 0, position)
        if dice.random() < 0.7:  # or else leave it as it is fetched
            count = dice.choice([1, 10, 600])
            found = numbers(await read(reading, min(count, 5_000 - position)))
            assert found == list(range(position, position + len(found)))
        if dice.random() < 0.5:
            reading.close()


async def test_the_first_message_is_read_however_soon_it_is_there(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    await producer.send(topic, 0, numbered(3))
    reading = Reading(topic, 0, 0, drained=lambda _: None, closed=lambda _: None)

    def assign_and_dawdle(client: Consumer) -> None:
        consumer._assign(client, (topic, 0), reading)
        time.sleep(1)  # on its thread: the library has fetched it all meanwhile

    consumer._orders.put(assign_and_dawdle)
    assert numbers(await read(reading, 3)) == [0, 1, 2]


async def test_a_full_queue_lets_senders_wait_and_nothing_is_lost_or_mixed_up(
    settings: dict[str, Any], kafka_server: KafkaServer, topic: str, consumer: KafkaConsumer
) -> None:
    async with KafkaProducer(settings, queued_max=10) as small, nobody_held_up():
        await small.send(topic, 0, numbered(1))
        kafka_server.stall()
        try:
            sending = [
                asyncio.create_task(small.send(topic, partition, numbered(50, 1)))
                for partition in range(PARTITIONS)
            ]
            done, _ = await asyncio.wait(sending, timeout=0.5)
            assert done == set()
            assert small._client is not None
            assert len(small._client) <= 10
        finally:
            kafka_server.go_on()
        await asyncio.gather(*sending)
    assert numbers(await read(consumer.read_from(topic, 0, 0), 51)) == list(range(51))
    assert numbers(await read(consumer.read_from(topic, 1, 0), 50)) == list(range(1, 51))


async def test_a_message_that_is_too_large_is_refused_and_others_go_on(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    with pytest.raises(BusRefused) as error:
        await producer.send(topic, 0, [Message(b"a:b", b"x" * (BYTES + 1))])
    assert error.value.code == "MSG_SIZE_TOO_LARGE"
    with pytest.raises(BusRefused):
        await producer.send(topic, 0, [Message(b"a:b", b"x" * 20 * BYTES)])
    await producer.send(topic, 0, numbered(1))
    assert numbers(await read(consumer.read_from(topic, 0, 0), 1)) == [0]


async def test_who_sends_to_nobody_waits_and_hears_at_the_end_that_it_is_unknown() -> None:
    facts: list[object] = []
    nobody = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    async with nobody_held_up():
        async with KafkaProducer(nobody, close_wait_s=0.1, observe=facts.append) as lonely:
            sending = asyncio.create_task(lonely.send("topic", 0, numbered(2)))
            await until(lambda: bool(facts), "a fact about the outage")
            assert not sending.done()
        with pytest.raises(BusUnavailable):
            await sending
        with pytest.raises(BusUnavailable):
            await lonely.send("topic", 0, numbered(1))


async def test_a_producer_that_can_keep_no_order_is_replaced_and_its_senders_are_told(
    kafka_server: KafkaServer, topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    await producer.send(topic, 0, numbered(1))
    kafka_server.stall()
    try:
        sending = asyncio.create_task(producer.send(topic, 0, numbered(5, 1)))
        await asyncio.sleep(0)
        producer._begin_again()
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(WAIT_S):
                await sending
    finally:
        kafka_server.go_on()
    await producer.send(topic, 0, numbered(1, 9))
    reading = consumer.read_from(topic, 0, 0)
    found = numbers(await read(reading, 2))
    while found[-1] != 9:
        found += numbers(await read(reading, 1))
    assert found[0] == 0, found


async def test_who_reads_slowly_is_paused_and_its_neighbour_goes_on(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    sent = 3 * MESSAGES_MAX + 2 * FETCH_MAX
    await producer.send(topic, 0, numbered(sent))
    slow, neighbour = consumer.read_from(topic, 0, 0), consumer.read_from(topic, 1, 0)
    await until(lambda: len(slow._fetched) >= MESSAGES_MAX, "enough")
    for n in range(20):
        await producer.send(topic, 1, numbered(1, n))
        assert numbers(await read(neighbour, 1)) == [n]
    assert len(slow._fetched) < MESSAGES_MAX + FETCH_MAX
    assert numbers(await read(slow, sent)) == list(range(sent))


async def test_large_messages_are_bounded_by_their_bytes(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    large = [Message(b"a:b", b"%06d" % n + b"x" * 900_000) for n in range(40)]
    await producer.send(topic, 0, large)
    slow = consumer.read_from(topic, 0, 0)
    await until(lambda: slow._is_full, "enough")
    assert slow._bytes < 2.5 * BYTES_MAX
    found = await read(slow, len(large))
    assert [each.message for each in found] == large


async def test_a_position_that_is_not_there_is_an_error_and_never_a_seek(
    admin: KafkaAdmin, topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    await producer.send(topic, 0, numbered(10))
    assert await admin.bounds(topic, [0, 1]) == {0: (0, 10), 1: (0, 0)}
    with pytest.raises(MessagesLost) as behind_the_end:
        await read(consumer.read_from(topic, 0, 11), 1)
    assert behind_the_end.value.position == 11
    await admin.trim(topic, 0, 4)
    assert await admin.bounds(topic, [0]) == {0: (4, 10)}
    with pytest.raises(MessagesLost) as cut_off:
        await read(consumer.read_from(topic, 0, 3), 1)
    assert (cut_off.value.topic, cut_off.value.partition) == (topic, 0)
    assert numbers(await read(consumer.read_from(topic, 0, 4), 6)) == list(range(4, 10))


async def test_a_position_is_told_to_those_who_look_at_lag(
    settings: dict[str, Any], topic: str, producer: KafkaProducer
) -> None:
    await producer.send(topic, 0, numbered(3))
    group = str(uuid4())
    async with KafkaConsumer(settings, group=group) as consumer:
        consumer.read_from(topic, 0, 0)
        consumer.tell_position(topic, 0, 3)
    admin = KafkaAdmin(settings)
    assert await admin.told_position(group, topic, 0) == 3


async def test_a_client_that_fails_is_replaced_and_its_readers_begin_anew(
    topic: str, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    await producer.send(topic, 0, numbered(3))
    reading = consumer.read_from(topic, 0, 0)
    assert numbers(await read(reading, 3)) == [0, 1, 2]
    # What is not assigned cannot be let go: the library says so.
    consumer._orders.put(lambda client: client.incremental_unassign([TopicPartition(topic, 1)]))
    with pytest.raises(BusUnavailable):
        await read(reading, 1)
    assert numbers(await read(consumer.read_from(topic, 0, 1), 2)) == [1, 2]


async def test_what_was_taken_over_is_deleted_from_the_action_topic(
    admin: KafkaAdmin, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    prefix = f"{uuid4()}."
    topic = prefix + ACTION
    await admin.cluster_id()
    await admin.ensure(topic_specs(1, prefix))
    await producer.send(topic, 0, numbered(10))
    facts: list[object] = []
    actions = KafkaActions(
        *(admin, consumer, Incarnations(admin), CanonicalCodec()),
        prefix=prefix,
        trim_messages=4,
        observe=facts.append,
    )
    incarnation, position = await actions.beginning(0)
    assert position == 0
    while position < 10:
        page = await actions.read(0, position, 3)
        assert page.incarnation == incarnation or not page.entries
        ((low, _),) = (await admin.bounds(topic, [0])).values()
        assert position - 4 < low <= position, "behind the position, and not with each page"
        position = page.following
    await actions.read(0, position, 3)
    ((low, _),) = (await admin.bounds(topic, [0])).values()
    assert 10 - 4 < low <= 10
    assert facts == []
    actions.close(0)


async def test_a_loss_is_believed_only_if_the_position_is_not_there(
    admin: KafkaAdmin, producer: KafkaProducer, consumer: KafkaConsumer
) -> None:
    prefix = f"{uuid4()}."
    await admin.cluster_id()
    await admin.ensure(topic_specs(1, prefix))
    await producer.send(prefix + ACTION, 0, numbered(3))
    actions = KafkaActions(*(admin, consumer, Incarnations(admin), CanonicalCodec()), prefix=prefix)

    async def read_all(position: int) -> int:
        async with asyncio.timeout(WAIT_S):
            while position < 3:
                position = (await actions.read(0, position, 10)).following
        return position

    assert await read_all(0) == 3
    gone = KafkaError(KafkaError._AUTO_OFFSET_RESET, "as a broker says that comes back")
    actions._readings[0].put([], gone)
    actions._readings[0].look()
    with pytest.raises(BusUnavailable, match="and is now"):
        await actions.read(0, 3, 10)
    await producer.send(prefix + ACTION, 0, numbered(1))
    async with asyncio.timeout(WAIT_S):
        while not (page := await actions.read(0, 3, 10)).entries:
            pass
    assert [each.offset for each in page.entries] == [3]

    async def read_on(position: int) -> None:
        while True:
            await actions.read(0, position, 10)

    with pytest.raises(MessagesLost):
        await asyncio.wait_for(read_on(9), WAIT_S)
