"""The contract of `EventBus`: told by id, registered before sending, never *failed* (R9)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID, uuid4

import pytest

from omninode_bridge.core import topics
from omninode_bridge.core.errors import TooManyWaiting
from omninode_bridge.core.message import (
    Provenance,
    ReducerGaveUp,
    StateCommitted,
    StateConflict,
)
from omninode_bridge.core.observation import EventPublished
from omninode_bridge.infrastructure.event_bus import MemoryEventBus, PostgresEventBus
from omninode_bridge.infrastructure.event_bus.kafka import TOPICS, KafkaEventBus
from omninode_bridge.infrastructure.kafka.connection import connect
from omninode_bridge.infrastructure.kafka.hearing import ends_of
from omninode_bridge.infrastructure.kafka.place import KafkaPlace
from omninode_bridge.infrastructure.postgres.database import Database
from omninode_bridge.ports import StillUnknown
from tests.bridges import WAIT_S
from tests.contract.ports import AT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.core.observation import Observe
    from omninode_bridge.ports import EventBus
    from tests.kafka_servers import KafkaServer

LONG_MS = WAIT_S * 1_000
SHORT_MS = 1
KAFKA_PARTITIONS = 2
BOTH = (StateCommitted, StateConflict)


class NewBus(Protocol):
    def __call__(self, *, waiting_max: int = 10, observe: Observe = ...) -> EventBus: ...


def committed(action_id: UUID) -> StateCommitted:
    provenance = Provenance(UUID(int=1), AT, action_id, "Counted", None, None, None, "0" * 64)
    return StateCommitted("counter:1", 1, action_id, 1, provenance)


def conflict(action_id: UUID) -> StateConflict:
    return StateConflict("counter:1", 1, 2, action_id)


@pytest.fixture
def memory_bus() -> NewBus:
    return MemoryEventBus


@pytest.fixture
async def postgres_bus(database_url: str) -> AsyncIterator[NewBus]:
    made: list[PostgresEventBus] = []

    async with Database({"dsn": database_url}, connections_max=2) as database:

        def new(*, waiting_max: int = 10, observe: Observe = lambda _: None) -> EventBus:
            made.append(PostgresEventBus(database, waiting_max=waiting_max, observe=observe))
            return made[-1]

        yield new
        for bus in made:
            await bus.close()


@pytest.fixture
async def kafka_bus(kafka_server: KafkaServer) -> AsyncIterator[NewBus]:
    place = KafkaPlace(kafka_server.bootstrap_servers, "event-bus-contract.")
    made: list[KafkaEventBus] = []
    async with connect(place, KAFKA_PARTITIONS) as kafka:
        ends = await ends_of(kafka, TOPICS, KAFKA_PARTITIONS)

        def new(*, waiting_max: int = 10, observe: Observe = lambda _: None) -> EventBus:
            assert not made, "a consumer reads for one bus"
            made.append(KafkaEventBus(kafka, ends, waiting_max=waiting_max, observe=observe))
            return made[0]

        yield new
        for bus in made:
            await bus.close()


@pytest.fixture(params=["memory", "postgres", "kafka"])
def new_bus(request: pytest.FixtureRequest) -> NewBus:
    found: NewBus = request.getfixturevalue(f"{request.param}_bus")
    return found


async def test_who_waits_before_it_is_sent_is_told_what_is_published(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    waiting = bus.expect(BOTH, action_id)
    await bus.publish(topics.STATE_COMMITTED, committed(action_id))
    assert await waiting.within(LONG_MS) == committed(action_id)


async def test_waiting_and_publishing_at_once_meet(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    waiting = asyncio.create_task(bus.wait_any(BOTH, action_id, LONG_MS))
    await asyncio.sleep(0)
    await bus.publish(topics.STATE_CONFLICT, conflict(action_id))
    assert await waiting == conflict(action_id)


async def test_all_who_wait_for_one_action_are_told_and_nobody_else(new_bus: NewBus) -> None:
    bus, action_id, other = new_bus(), uuid4(), uuid4()
    waiting = [bus.expect(BOTH, action_id) for _ in range(3)]
    elsewhere = bus.expect(BOTH, other)
    await bus.publish(topics.STATE_COMMITTED, committed(action_id))
    assert [await each.within(LONG_MS) for each in waiting] == [committed(action_id)] * 3
    assert await elsewhere.within(SHORT_MS) == StillUnknown(other, SHORT_MS)


async def test_an_event_of_another_type_is_not_what_is_waited_for(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    waiting = bus.expect([StateCommitted], action_id)
    await bus.publish(topics.STATE_CONFLICT, conflict(action_id))
    await bus.publish(topics.STATE_COMMITTED, committed(action_id))
    assert await waiting.within(LONG_MS) == committed(action_id)


async def test_the_first_event_is_the_answer(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    waiting = bus.expect(BOTH, action_id)
    await bus.publish(topics.STATE_CONFLICT, conflict(action_id))
    await bus.publish(topics.STATE_COMMITTED, committed(action_id))
    assert await waiting.within(LONG_MS) == conflict(action_id)


async def test_a_timeout_is_unknown_and_never_failed(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    answer = await bus.wait_any([StateCommitted, ReducerGaveUp], action_id, SHORT_MS)
    assert answer == StillUnknown(action_id, SHORT_MS)


async def test_there_is_room_for_so_many_and_it_comes_back(new_bus: NewBus) -> None:
    bus, action_id = new_bus(waiting_max=2), uuid4()
    first, second = bus.expect(BOTH, action_id), bus.expect(BOTH, uuid4())
    with pytest.raises(TooManyWaiting) as error:
        bus.expect(BOTH, action_id)
    assert error.value.waiting_max == 2
    await first.within(SHORT_MS)
    third = bus.expect(BOTH, action_id)
    second.close()
    second.close()
    fourth = bus.expect(BOTH, action_id)
    with pytest.raises(TooManyWaiting):
        bus.expect(BOTH, action_id)
    third.close()
    fourth.close()


async def test_who_is_cancelled_leaves_room(new_bus: NewBus) -> None:
    bus = new_bus(waiting_max=1)
    waiting = asyncio.create_task(bus.wait_any(BOTH, uuid4(), LONG_MS))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    bus.expect(BOTH, uuid4()).close()


async def test_an_event_on_the_wrong_topic_is_refused(new_bus: NewBus) -> None:
    bus, action_id = new_bus(), uuid4()
    waiting = bus.expect(BOTH, action_id)
    with pytest.raises(ValueError, match="StateCommitted belongs on"):
        await bus.publish(topics.STATE_CONFLICT, committed(action_id))
    assert await waiting.within(SHORT_MS) == StillUnknown(action_id, SHORT_MS)


async def test_what_is_published_is_counted_with_those_it_was_told(new_bus: NewBus) -> None:
    facts: list[object] = []
    bus, action_id = new_bus(observe=facts.append), uuid4()
    waiting = [bus.expect(BOTH, action_id) for _ in range(2)]
    await bus.publish(topics.STATE_CONFLICT, conflict(action_id))
    await bus.publish(topics.STATE_CONFLICT, conflict(uuid4()))
    assert facts == [
        EventPublished(topics.STATE_CONFLICT, "StateConflict", 2),
        EventPublished(topics.STATE_CONFLICT, "StateConflict", 0),
    ]
    for each in waiting:
        each.close()
