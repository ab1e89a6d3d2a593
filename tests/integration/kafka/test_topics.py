"""Topics on a real broker: made as they must be, checked when they are there, told apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from omninode_bridge import KafkaPlace
from omninode_bridge.core.errors import BusUnavailable, TopicUnfit
from omninode_bridge.core.topics import ACTION, STATE_COMMITTED
from omninode_bridge.infrastructure.kafka.admin import KafkaAdmin
from omninode_bridge.infrastructure.kafka.incarnations import Incarnations
from omninode_bridge.infrastructure.kafka.topic_specs import topic_specs
from tests.kafka_users import set_topic

if TYPE_CHECKING:
    from tests.kafka_servers import KafkaServer

PARTITIONS: Final = 2


@pytest.fixture
def admin(kafka_server: KafkaServer) -> KafkaAdmin:
    return KafkaAdmin({"bootstrap.servers": kafka_server.bootstrap_servers})


@pytest.fixture
def prefix() -> str:
    return f"{uuid4()}."


def client(server: KafkaServer) -> AdminClient:
    return AdminClient({"bootstrap.servers": server.bootstrap_servers})


async def test_topics_are_made_once_by_whoever_comes_first(
    admin: KafkaAdmin, kafka_server: KafkaServer, prefix: str
) -> None:
    others = [KafkaAdmin({"bootstrap.servers": kafka_server.bootstrap_servers}) for _ in range(3)]
    specs = topic_specs(PARTITIONS, prefix)
    await asyncio.gather(*(each.ensure(specs) for each in (admin, *others)))
    names = [spec.name for spec in specs]
    first = await admin.incarnations(names)
    assert first.keys() == set(names)
    assert len(set(first.values())) == len(names)
    await admin.ensure(specs)
    assert await admin.incarnations(names) == first
    with pytest.raises(TopicUnfit, match="the number of partitions is 2"):
        await admin.ensure(topic_specs(PARTITIONS + 1, prefix))


async def test_a_topic_that_is_there_is_checked_and_left_as_it_is(
    admin: KafkaAdmin, kafka_server: KafkaServer, prefix: str
) -> None:
    topic = prefix + STATE_COMMITTED
    made = NewTopic(topic, num_partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    others = client(kafka_server)
    others.create_topics([made])[topic].result(30)
    specs = [spec for spec in topic_specs(PARTITIONS, prefix) if spec.name == topic]
    with pytest.raises(TopicUnfit, match=r"cleanup\.policy is compact"):
        await admin.ensure(specs)
    for setting, value, unfit in (
        ("cleanup.policy", "delete", "retention.ms"),  # the broker's default, a week
        ("retention.ms", "-1", "max.message.bytes"),
        ("max.message.bytes", "5000000", None),
    ):
        await set_topic(KafkaPlace(kafka_server.bootstrap_servers), topic, setting, value)
        if unfit is None:
            await admin.ensure(specs)
        else:
            with pytest.raises(TopicUnfit) as error:
                await admin.ensure(specs)
            assert error.value.setting == unfit


async def not_any_more(admin: KafkaAdmin, topic: str, incarnation: str) -> None:
    """Ask until the broker has heard of what its controller has confirmed, but not for ever."""
    async with asyncio.timeout(30):
        while True:
            assert await admin.incarnations([topic]) == {topic: incarnation}
            await asyncio.sleep(0.01)


async def test_a_topic_made_again_is_another_incarnation(
    admin: KafkaAdmin, kafka_server: KafkaServer, prefix: str
) -> None:
    topic = prefix + ACTION
    specs = [spec for spec in topic_specs(PARTITIONS, prefix) if spec.name == topic]
    await admin.ensure(specs)
    before = (await admin.incarnations([topic]))[topic]
    others = client(kafka_server)
    others.delete_topics([topic])[topic].result(30)
    with pytest.raises(BusUnavailable):
        await not_any_more(admin, topic, before)
    await admin.ensure(specs)
    after = (await admin.incarnations([topic]))[topic]
    assert after != before
    assert after.partition("/")[0] == before.partition("/")[0] == await admin.cluster_id()


async def test_who_asks_often_hears_the_same_as_who_asks_once(
    admin: KafkaAdmin, prefix: str
) -> None:
    specs = topic_specs(PARTITIONS, prefix)
    await admin.ensure(specs)
    await admin.cluster_id()
    incarnations = Incarnations(admin)
    names = [spec.name for spec in specs]
    said = await asyncio.gather(*(incarnations.now(name) for name in names for _ in range(3)))
    assert dict(zip(names, said[::3], strict=True)) == await admin.incarnations(names)
    assert said[::3] == said[1::3] == said[2::3]
    with pytest.raises(BusUnavailable, match="nothing"):
        await incarnations.now(prefix + "nothing")
    await admin.delete(names)
    await admin.delete(names)  # they are gone already
    with pytest.raises(BusUnavailable):
        await not_any_more(admin, names[0], said[0])
    with pytest.raises(BusUnavailable):
        await incarnations.now(names[0])


async def test_nobody_answering_is_unavailable_and_holds_nobody_up() -> None:
    nobody = KafkaAdmin({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, call_timeout_s=0.3)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    turning = asyncio.create_task(turn())
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(nobody.cluster_id(), 30)
    turning.cancel()
    assert turns > 10
