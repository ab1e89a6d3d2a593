"""The relay: what the bus has is what the log has, in order, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge.core.errors import BrokenPromise, TopicReplaced
from omninode_bridge.core.observation import EventsRelayed, LoopStumbled
from omninode_bridge.core.topics import RELAYED, STATE_COMMITTED
from omninode_bridge.infrastructure.logged_events import logged_events
from omninode_bridge.services.relay import Relay
from omninode_bridge.services.relay.relay import PAGE_BYTES, PAGE_FIRST, PAGE_MAX
from omninode_bridge.testing import MemoryWorld, SettableClock
from omninode_bridge.testing.bus import MemoryBus
from tests.bridges import until
from tests.unit.workers import Dice, action, commit_beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.core.observation import Observation

TOPIC: Final = "state-committed"


class Relaying:
    """A relay of partition 0 of a world to a bus, and what it told."""

    def __init__(self, world: MemoryWorld, bus: MemoryBus) -> None:
        self.world = world
        self.bus = bus
        self.facts: list[Observation] = []
        self.loop = Relay(
            0,
            log=world.relayed,
            logged=logged_events,
            bus=bus,
            uniform=Dice(),
            observe=self.facts.append,
        )

    def sent(self, topic: str = TOPIC) -> list[int]:
        return [event.offset for event in self.bus.sent[topic, 0]]

    async def position(self, topic: str = TOPIC) -> int:
        return await self.world.relayed.position(topic, 0, await self.bus.incarnation(topic))


@pytest.fixture
def relaying() -> Relaying:
    return Relaying(MemoryWorld(clock=SettableClock(), partitions=2), MemoryBus())


@asynccontextmanager
async def running(relaying: Relaying) -> AsyncIterator[None]:
    """Run the relay for the length of the block; it has sent all that is there then."""
    task = asyncio.create_task(relaying.loop.run())
    yield
    relaying.loop.stop()
    async with asyncio.timeout(10):
        await task


async def commits(relaying: Relaying, count: int) -> None:
    await commit_beside(relaying.world, *(action(f"counter:{n}") for n in range(count)))


async def test_what_is_in_the_log_is_sent_in_order_and_the_position_stored(
    relaying: Relaying,
) -> None:
    await commits(relaying, 3)
    await commit_beside(relaying.world, action(action_type="Refused"))
    async with running(relaying):
        await until(lambda: relaying.sent() == [1, 2, 3], "sent")
        await commits(relaying, 2)
        relaying.loop.look()
        await until(lambda: relaying.sent() == [1, 2, 3, 4, 5], "what came later")
    assert await relaying.position() == 6
    assert relaying.sent("reducer-gave-up") == [1]
    assert await relaying.position("reducer-gave-up") == 2
    there = await relaying.world.relayed.read(TOPIC, 0, 1, 10)
    assert relaying.bus.sent[TOPIC, 0] == list(there)
    assert EventsRelayed("reducer-gave-up", 0, 1, 2) in relaying.facts
    assert sum(f.entries for f in relaying.facts if isinstance(f, EventsRelayed)) == 6


async def test_without_a_hint_it_looks_too_and_stores_soon(relaying: Relaying) -> None:
    async with running(relaying):
        await asyncio.sleep(0)
        await commits(relaying, 1)
        await until(lambda: relaying.sent() == [1], "sent")
        places = relaying.world._tables.bus_positions
        await until(
            lambda: places["relay", STATE_COMMITTED, 0, 0].next == 2, "the position, before a stop"
        )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "call", ["bus.send", "bus.incarnation", "relayed.read", "relayed.position", "relayed.advance"]
)
@pytest.mark.parametrize("skip", range(3))
async def test_whatever_is_interrupted_nothing_is_left_out(
    relaying: Relaying, when: str, call: str, skip: int
) -> None:
    await commits(relaying, 4)
    target = relaying.bus if call.startswith("bus.") else relaying.world
    target.interrupt(call, when=when, skip=skip)  # type: ignore[arg-type]
    async with running(relaying):
        await until(lambda: 4 in relaying.sent(), "sent")
        await commits(relaying, 3)
        relaying.loop.look()
        await until(lambda: 7 in relaying.sent(), "sent later")
    # Repeats begin again at a stored position: each run of offsets has no gap.
    seen = 0
    for offset in relaying.sent():
        assert offset <= seen + 1
        seen = max(seen, offset)
    assert await Relaying(relaying.world, relaying.bus).position() >= 1
    interrupted = [fact for fact in relaying.facts if isinstance(fact, LoopStumbled)]
    assert len(interrupted) <= 1


async def test_another_relay_goes_on_from_where_the_first_one_stored(relaying: Relaying) -> None:
    await commits(relaying, 2)
    async with running(relaying):
        await until(lambda: relaying.sent() == [1, 2], "sent")
    await commits(relaying, 1)
    following = Relaying(relaying.world, relaying.bus)
    async with running(following):
        await until(lambda: following.sent() == [1, 2, 3], "sent by the second one")
    assert await following.position() == 4


async def test_a_topic_that_was_made_again_stops_the_relay(relaying: Relaying) -> None:
    await commits(relaying, 1)
    task = asyncio.create_task(relaying.loop.run())
    await until(lambda: relaying.sent() == [1], "sent")
    relaying.bus.make_again(STATE_COMMITTED)
    await commits(relaying, 1)
    relaying.loop.look()
    with pytest.raises(TopicReplaced):
        async with asyncio.timeout(10):
            await task
    stored = relaying.world._tables.bus_positions["relay", STATE_COMMITTED, 0, 0]
    assert stored.next <= 2, "what the new one was sent is not stored for the old one"
    with pytest.raises(TopicReplaced):
        await Relaying(relaying.world, relaying.bus).loop.run()


async def test_a_position_that_somebody_forgot_is_begun_anew(relaying: Relaying) -> None:
    await commits(relaying, 2)
    async with running(relaying):
        await until(lambda: relaying.sent() == [1, 2], "sent")
        relaying.world._tables.bus_positions.clear()
        await commits(relaying, 1)
        relaying.loop.look()
        await until(lambda: relaying.sent() == [1, 2, 3, 1, 2, 3], "sent anew")
    assert await relaying.position() == 4


async def test_a_log_with_a_gap_stops_the_relay(relaying: Relaying) -> None:
    await commits(relaying, 2)
    del relaying.world._tables.partition(0).events[TOPIC][0]
    with pytest.raises(BrokenPromise, match="has no entry 1, but 2"):
        async with asyncio.timeout(10):
            await relaying.loop.run()


async def test_a_relay_that_is_told_to_stop_in_an_outage_stops(relaying: Relaying) -> None:
    await commits(relaying, 1)
    relaying.bus.interrupt("bus.send", when="before", times=10**6)
    async with running(relaying):
        await until(lambda: bool(relaying.facts), "a stumble")
    assert relaying.sent() == []


async def test_pages_shrink_when_they_are_large(relaying: Relaying) -> None:
    large = "x" * 1_000_000
    count = 3 * PAGE_BYTES // len(large)
    for n in range(count):
        await commit_beside(relaying.world, action(f"counter:{n}", payload={"text": large}))
    async with running(relaying):
        await until(lambda: len(relaying.sent()) == count, "sent")
        await commits(relaying, PAGE_MAX)
        relaying.loop.look()
        await until(lambda: len(relaying.sent()) == count + PAGE_MAX, "sent")
    pages = [
        fact.entries
        for fact in relaying.facts
        if isinstance(fact, EventsRelayed) and fact.topic == TOPIC
    ]
    assert pages[0] == count
    assert pages[1] == PAGE_FIRST // 4
    assert max(pages) > PAGE_FIRST
    assert relaying.sent() == list(range(1, count + PAGE_MAX + 1))


def test_every_topic_that_is_history_has_a_name_outside() -> None:
    assert set(RELAYED) == {"state-committed", "reducer-gave-up", "fsm-state-transitioned"}
