"""Another number of partitions where a Kafka is the bus: nothing is left, repeated or left out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from omninode_bridge import Bridge, KafkaPlace, TopicUnfit
from omninode_bridge.app.repartitioning import repartition
from omninode_bridge.infrastructure.kafka.topic_specs import topic_specs
from tests.bridges import WAIT_S, app, fetch
from tests.kafka_users import ACTION, STATE_COMMITTED, KafkaUser, Received, check_repeats
from tests.programs import PROGRAM, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

KEYS: Final = [f"counter:{n}" for n in range(12)]
BUS_TOPICS: Final = [spec.name for spec in topic_specs(1)]


def versions(count: int) -> Callable[[list[Received]], bool]:
    """Enough is so many versions of keys, however often each is told."""
    return lambda found: len(told(found)) >= count


def told(found: list[Received]) -> dict[tuple[str, int], set[tuple[str, int, int]]]:
    """Return the places that each version of a key was told from."""
    places: dict[tuple[str, int], set[tuple[str, int, int]]] = {}
    for place, event in check_repeats(found).items():
        places.setdefault((event["workflow_key"], event["version"]), set()).add(place)
    return places


def sources(found: list[Received]) -> dict[str, list[Received]]:
    by_source: dict[str, list[Received]] = {}
    for each in found:
        by_source.setdefault(each.headers["ce_source"].decode(), []).append(each)
    return by_source


async def more_partitions(place: KafkaPlace, count: int) -> None:
    """Give all topics more partitions, as a person does with `kafka-topics.sh --alter`."""
    admin = AdminClient({"bootstrap.servers": place.bootstrap})
    wanted = [NewPartitions(place.prefix + topic, count) for topic in BUS_TOPICS]
    for answer in admin.create_partitions(wanted).values():
        await asyncio.to_thread(answer.result, 30)


async def asked(database_url: str, kafka: KafkaPlace, partitions: int | None = None) -> KafkaUser:
    """Ask each key twice, once by Kafka and once here; return who asked when all is done."""
    user = KafkaUser(kafka)
    async with Bridge.open(
        app, database_url=database_url, kafka=kafka, partitions=partitions
    ) as bridge:
        for key in KEYS:
            user.ask(key, "Counted", {"amount": 1})
        await user.flush()
        await asyncio.gather(*(bridge.submit(key, "Counted", {}) for key in KEYS))
        await until_counted(bridge, 2)
    return user


async def until_so(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when it holds; others set no event of ours."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


async def until_counted(bridge: Bridge, count: int, keys: Sequence[str] = KEYS) -> None:
    """Return when each key has this version, and all is done with; none has a later one."""

    async def versions_of() -> list[int]:
        states = [await bridge.state(key) for key in keys]
        return [0 if state is None else state.version for state in states]

    async def all_there() -> bool:
        return min(await versions_of()) >= count

    await until_so(all_there)
    await bridge.settled()
    assert await versions_of() == [count] * len(keys)


async def positions(database_url: str) -> list[tuple[Any, ...]]:
    rows = await fetch(
        database_url,
        "SELECT consumer, topic, partition, home, incarnation, next FROM bus_positions"
        " ORDER BY consumer, topic, partition, home",
    )
    return [tuple(row) for row in rows]


async def test_topics_that_get_more_partitions_go_on_without_a_repeat_or_a_gap(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user = await asked(database_url, kafka_place, partitions=2)
    assert (await repartition(3, database_url=database_url, kafka=kafka_place)).obstacles == []
    with pytest.raises(TopicUnfit, match=r"(?s)partitions is 2.*--alter.*--partitions 3"):
        async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
            pass
    await more_partitions(kafka_place, 3)
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        # One who still counts by two: what it writes goes where its keys are now, once.
        for key in KEYS:
            user.ask(key, "Counted", {"amount": 1}, partition=0)
        await user.flush()
        await asyncio.gather(*(bridge.submit(key, "Counted", {}) for key in KEYS))
        await until_counted(bridge, 4)
        found = await user.read(STATE_COMMITTED, lambda found: len(found) >= 48, range(3))
        assert (await bridge.verify()).mismatches == []
    by_source = sources(found)
    assert len(by_source) == 2, "the log's incarnation before, and the one after"
    first, second = by_source.values()
    assert set(told(first)) == {(key, version) for key in KEYS for version in (1, 2)}
    later = {(e["workflow_key"], e["version"]) for e in map(told_by, second)}
    assert later == {(key, version) for key in KEYS for version in (3, 4)}, "nothing is repeated"


def told_by(message: Received) -> dict[str, Any]:
    event: dict[str, Any] = message.event().get_data()
    return event


async def test_another_prefix_gets_all_history_by_the_new_places(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    await asked(database_url, kafka_place, partitions=3)
    assert (await repartition(2, database_url=database_url, kafka=kafka_place)).obstacles == []
    other = KafkaPlace(kafka_place.bootstrap, prefix=f"{uuid4()}.")
    user = KafkaUser(other)
    async with Bridge.open(app, database_url=database_url, kafka=other) as bridge:
        for key in KEYS:
            user.ask(key, "Counted", {"amount": 1})
        await user.flush()
        await until_counted(bridge, 3)
        found = await user.read(STATE_COMMITTED, versions(36), range(2))
    places = told(found)
    assert set(places) == {(key, version) for key in KEYS for version in (1, 2, 3)}
    assert {len(each) for each in places.values()} == {1}
    # The old topics' positions are still there, until they are forgotten.
    refusal = await repartition(4, database_url=database_url, kafka=other)
    assert any(
        f"bus forget {kafka_place.prefix}{STATE_COMMITTED}" in each for each in refusal.obstacles
    )


async def test_who_comes_back_to_the_old_number_goes_on_where_it_was(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user = await asked(database_url, kafka_place, partitions=3)
    before = [each for each in await positions(database_url) if each[0] == "intake"]
    for number in (2, 3):
        done = await repartition(number, database_url=database_url, kafka=kafka_place)
        assert done.partitions == number, done.obstacles
    assert [each for each in await positions(database_url) if each[0] == "intake"] == before
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        for key in KEYS:
            user.ask(key, "Counted", {"amount": 1})
        await user.flush()
        await until_counted(bridge, 3)


async def test_what_was_not_taken_over_is_in_the_way(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    user = await asked(database_url, kafka_place, partitions=2)
    user.ask(KEYS[0], "Counted", {"amount": 1})
    await user.flush()
    topic = kafka_place.prefix + ACTION

    async def refused(words: str, kafka: KafkaPlace | None = kafka_place) -> None:
        done = await repartition(3, database_url=database_url, kafka=kafka)
        assert done.partitions == 2
        (obstacle,) = done.obstacles
        assert topic in obstacle
        assert words in obstacle

    await refused("1 partitions of topic")
    await refused("name its Kafka (OMNINODE_KAFKA_BOOTSTRAP)", None)
    async with Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge:
        await until_counted(bridge, 3, KEYS[:1])
    # By the command, which is told of the Kafka by the environment.
    done = await asyncio.to_thread(
        run,
        *(PROGRAM, "repartition", "--partitions", "3", "--json", "--database-url", database_url),
        OMNINODE_KAFKA_BOOTSTRAP=kafka_place.bootstrap,
    )
    assert (done.status, done.object()["partitions"]) == (0, 3), done.words


async def test_the_mark_of_a_transaction_is_no_message_that_was_left(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    await asked(database_url, kafka_place, partitions=2)
    topic = kafka_place.prefix + ACTION
    producer = Producer(
        {"bootstrap.servers": kafka_place.bootstrap, "transactional.id": str(uuid4())}
    )
    await asyncio.to_thread(producer.init_transactions, 30)
    producer.begin_transaction()
    producer.produce(topic, b"no action", b"counter:1", 0)  # it is put aside
    await asyncio.to_thread(producer.commit_transaction, 30)
    done = await repartition(3, database_url=database_url, kafka=kafka_place)
    assert "1 partitions of topic" in done.obstacles[0]
    moved = "SELECT next FROM bus_positions WHERE consumer = 'intake' AND partition = 0"
    before = await fetch(database_url, moved)

    async def put_aside() -> bool:
        return await fetch(database_url, moved) != before

    async with Bridge.open(app, database_url=database_url, kafka=kafka_place):
        await until_so(put_aside)
    done = await repartition(3, database_url=database_url, kafka=kafka_place)
    assert (done.partitions, done.obstacles) == (3, [])


async def test_a_topic_that_is_gone_is_in_the_way_until_it_is_forgotten(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    await asked(database_url, kafka_place, partitions=2)
    topic = kafka_place.prefix + ACTION
    admin = AdminClient({"bootstrap.servers": kafka_place.bootstrap})
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 30)

    async def gone() -> bool:
        return topic not in (await asyncio.to_thread(admin.list_topics, timeout=10)).topics

    await until_so(gone)
    done = await repartition(3, database_url=database_url, kafka=kafka_place)
    assert f"`omninode-bridge bus forget {topic}`" in done.obstacles[0]
    async with Bridge.open(app, database_url=database_url, writing=False) as bridge:
        assert await bridge.forget_bus_topic(topic) == 2
    assert (await repartition(3, database_url=database_url, kafka=kafka_place)).partitions == 3
