"""The event bus over Kafka: heard in other processes, which need no database."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from omninode_bridge import Bridge, KafkaPlace, ReducerGaveUp, StateCommitted, StateConflict
from omninode_bridge.core import topics
from omninode_bridge.core.partition import partition_of
from omninode_bridge.infrastructure.event_bus.kafka import open_event_bus
from omninode_bridge.infrastructure.kafka.connection import connect
from tests.bridges import WAIT_S, app
from tests.kafka_users import REDUCER_GAVE_UP, STATE_COMMITTED, KafkaUser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.infrastructure.event_bus.kafka import KafkaEventBus

LONG_MS = WAIT_S * 1_000
PARTITIONS = 4


@asynccontextmanager
async def another_bus(place: KafkaPlace) -> AsyncIterator[KafkaEventBus]:
    """Yield the bus of a process that knows nothing but the cluster."""
    async with connect(place, PARTITIONS) as kafka, open_event_bus(kafka, PARTITIONS) as bus:
        yield bus


async def test_an_outcome_is_heard_by_who_has_no_database(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    async with (
        Bridge.open(app, database_url=database_url, kafka=kafka_place) as bridge,
        another_bus(kafka_place) as bus,
    ):
        good, bad = uuid4(), uuid4()
        waiting = [bus.expect([StateCommitted, ReducerGaveUp], each) for each in (good, bad)]
        outcome = await bridge.submit("counter:1", "Counted", {"amount": 2}, action_id=good)
        refused = await bridge.submit("counter:2", "Refused", {}, action_id=bad)
        told = [await each.within(LONG_MS) for each in waiting]
    assert told == [outcome, refused]
    assert outcome == told[0], "provenance and all"


async def test_who_asks_by_kafka_hears_by_kafka(kafka_place: KafkaPlace, database_url: str) -> None:
    user = KafkaUser(kafka_place)
    async with (
        Bridge.open(app, database_url=database_url, kafka=kafka_place),
        another_bus(kafka_place) as bus,
    ):
        asked = [uuid4() for _ in range(20)]
        waiting = [bus.expect([StateCommitted], each) for each in asked]
        for n, each in enumerate(asked):
            user.ask(f"counter:{n}", "Counted", {}, id=str(each))
        await user.flush()
        told = await asyncio.gather(*(each.within(LONG_MS) for each in waiting))
    assert [each.action_id for each in told] == asked
    assert all(isinstance(each, StateCommitted) for each in told)


async def test_a_conflict_is_heard_elsewhere(kafka_place: KafkaPlace) -> None:
    async with another_bus(kafka_place) as here, another_bus(kafka_place) as there:
        conflict = StateConflict("counter:1", 1, 2, uuid4())
        waiting = there.expect([StateConflict], conflict.action_id)
        await here.publish(topics.STATE_CONFLICT, conflict)
        assert await waiting.within(LONG_MS) == conflict


async def test_foreign_bytes_on_a_topic_of_events_hold_nobody_up(kafka_place: KafkaPlace) -> None:
    user = KafkaUser(kafka_place)
    async with another_bus(kafka_place) as here, another_bus(kafka_place) as there:
        conflict = StateConflict("counter:1", 1, 2, uuid4())
        waiting = there.expect([StateConflict], conflict.action_id)
        partition = partition_of(conflict.workflow_key, PARTITIONS)
        named = str(conflict.action_id).encode()
        for topic in (topics.STATE_CONFLICT, STATE_COMMITTED, REDUCER_GAVE_UP):
            for headers in ([], [("ce_actionid", b"\xff")], [("ce_actionid", named)]):
                user.write(topic, None, b"\xff", list(headers), partition=partition)
        await user.flush()
        await here.publish(topics.STATE_CONFLICT, conflict)
        assert await waiting.within(LONG_MS) == conflict
