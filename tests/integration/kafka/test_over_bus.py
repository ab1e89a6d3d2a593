"""Commits over the bus on a real broker: the large, the foreign, and the end of a process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from omninode_bridge import Bridge
from tests.bridges import app

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from omninode_bridge import KafkaPlace
    from omninode_bridge.app.outside_bus import Persist
    from omninode_bridge.core.roles import Role

PERSIST_STATE: Final = "onex.cmd.omninode-bridge.persist-state.v1"
PERSIST_ANSWERED: Final = "onex.evt.omninode-bridge.persist-answered.v1"
MEBIBYTE: Final = 1_048_576


@pytest.mark.timeout(120)
async def test_a_batch_larger_than_a_message_is_committed_in_parts(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    def opened(*roles: Role, persist: Persist = "direct") -> AbstractAsyncContextManager[Bridge]:
        place = {"database_url": database_url, "kafka": kafka_place}
        return Bridge.open(app, roles=roles, persist=persist, **place)  # type: ignore[arg-type]

    async with opened("reducer", persist="over-bus") as bridge, opened("store-effect"):
        filler = "x" * (MEBIBYTE - 100)
        asked = [
            bridge.submit(f"counter:{n % 3}", "Counted", {"amount": 1, "x": filler}, timeout=90)
            for n in range(70)
        ]
        told = await asyncio.gather(*asked)
        assert sum(outcome.committed().version >= 1 for outcome in told) == 70
        states = [await bridge.state(f"counter:{n}") for n in range(3)]
        assert sum(state.state["count"] for state in states if state is not None) == 70


async def test_what_is_no_commit_stops_nobody(kafka_place: KafkaPlace, database_url: str) -> None:
    async with Bridge.open(
        app, database_url=database_url, kafka=kafka_place, persist="over-bus"
    ) as bridge:
        outcome = await bridge.submit("counter:1", "Counted", {}, timeout=30)
        assert outcome.committed().version == 1
        sent = await asyncio.to_thread(_messages, kafka_place, PERSIST_STATE)
        assert sent, "nothing went over the bus: no test"
        _, partition, headers, value = sent[0]
        assert value is not None
        producer = Producer({"bootstrap.servers": kafka_place.bootstrap})
        for forged in (
            b"\x00",
            b"[]",
            value.replace(b'"partition":', b'"partition":9'),
            value.replace(b'"token":"', b'"token":"no'),
            value,
        ):
            topic = kafka_place.prefix + PERSIST_STATE
            producer.produce(topic, forged, partition=partition, headers=dict(headers))
        assert await asyncio.to_thread(producer.flush, 30) == 0
        for version in (2, 3):
            outcome = await bridge.submit("counter:1", "Counted", {}, timeout=30)
            assert outcome.committed().version == version
        assert (await bridge.verify()).mismatches == []


async def test_a_process_that_does_all_answers_what_it_had_taken_when_it_stops(
    kafka_place: KafkaPlace, database_url: str
) -> None:
    async with Bridge.open(
        app, database_url=database_url, kafka=kafka_place, persist="over-bus"
    ) as bridge:
        outcome = await bridge.submit("counter:1", "Counted", {}, timeout=30)
        assert outcome.committed().version == 1
        asked = [
            asyncio.create_task(bridge.submit(f"counter:{n % 9}", "Counted", {}, timeout=30))
            for n in range(1_000)
        ]
        await asyncio.sleep(0.05)
    told = await asyncio.gather(*asked)
    assert sum(outcome.committed().version >= 1 for outcome in told) == 1_000
    answers = await asyncio.to_thread(_messages, kafka_place, PERSIST_ANSWERED)
    assert any(b'"StateCommitted"' in (value or b"") for *_, value in answers)


def _messages(
    place: KafkaPlace, topic: str
) -> list[tuple[int, int, list[tuple[str, str | bytes | None]], bytes | None]]:
    """Return what stands on a topic: offset, partition, headers and value."""
    consumer = Consumer({"bootstrap.servers": place.bootstrap, "group.id": topic, "log_level": 0})
    try:
        name = place.prefix + topic
        consumer.assign([TopicPartition(name, partition, 0) for partition in range(4)])
        found = consumer.consume(10_000, timeout=5)
        return [
            (m.offset() or 0, m.partition() or 0, m.headers() or [], m.value())  # type: ignore[misc]
            for m in found
        ]
    finally:
        consumer.close()
