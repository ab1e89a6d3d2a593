"""The intake: every message of the bus is taken over once, or put aside, and nothing is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge.core.errors import MessagesLost, TopicReplaced
from omninode_bridge.core.observation import ActionsTakenOver, LoopStumbled
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.topics import ACTION
from omninode_bridge.ports import CutOff, Incoming
from omninode_bridge.services.intake import Intake
from omninode_bridge.testing import MemoryWorld, SettableClock
from omninode_bridge.testing.bus import MemoryBus
from tests.bridges import until
from tests.unit.workers import Dice, action

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.observation import Observation

PARTITIONS: Final = 3
KEYS: Final = {
    n: [k for k in (f"counter:{i}" for i in range(60)) if partition_of(k, 3) == n]
    for n in range(PARTITIONS)
}


class TakingOver:
    """The intake of partition 0, and what it told."""

    def __init__(self, world: MemoryWorld, bus: MemoryBus) -> None:
        self.world = world
        self.bus = bus
        self.facts: list[Observation] = []
        self.appended: list[int] = []
        self.loop = Intake(
            0,
            partitions=PARTITIONS,
            bus=bus,
            dead_letters=bus,
            taken_over=world.taken_over,
            uniform=Dice(),
            appended=self.appended.append,
            observe=self.facts.append,
        )

    def write(self, *asked: SealedAction | str, gap: int = 1) -> None:
        """Write to partition 0 of the bus, each `gap` further on; a text is no action."""
        there = self.bus.incoming[0]
        for each in asked:
            offset = there[-1].offset + gap if there else 0
            if isinstance(each, str):
                there.append(Incoming(offset, each.encode(), None, each))
            else:
                there.append(Incoming(offset, each.action_id.bytes, each))

    def stored(self, home: int = 0) -> int:
        place = ("intake", ACTION, 0, home)
        position = self.world._tables.bus_positions.get(place)
        return 0 if position is None else position.next

    async def arrived(self, partition: int = 0) -> list[SealedAction]:
        page = await self.world.actions.read(partition, 1, 10_000)
        assert not isinstance(page, CutOff)
        return [entry.action for entry in page]


@pytest.fixture
def taking() -> TakingOver:
    return TakingOver(MemoryWorld(clock=SettableClock(), partitions=PARTITIONS), MemoryBus())


@asynccontextmanager
async def running(taking: TakingOver) -> AsyncIterator[None]:
    task = asyncio.create_task(taking.loop.run())
    yield
    taking.loop.stop()
    async with asyncio.timeout(10):
        await task


def some(count: int, partition: int = 0) -> list[SealedAction]:
    return [action(KEYS[partition][n % 4], payload={"amount": n}) for n in range(count)]


async def test_actions_are_taken_over_in_order_and_the_worker_is_told(taking: TakingOver) -> None:
    asked = some(5)
    taking.write(*asked[:3])
    async with running(taking):
        await until(lambda: taking.stored() == 3, "the first ones")
        taking.write(*asked[3:], gap=7)
        await until(lambda: taking.stored() == 17, "those behind a gap")
    assert await taking.arrived() == asked
    assert taking.appended == [0, 0]
    assert ActionsTakenOver(0, 3, 3, 0, 0, 3) in taking.facts


async def test_the_worker_is_handed_what_was_appended_to_its_log_together(
    taking: TakingOver,
) -> None:
    handed: list[tuple[int, list[SealedAction]]] = []
    taking.loop._handed = lambda first, actions: handed.append((first, list(actions)))
    ours, theirs = some(6), some(1, 1)
    later = replace(some(1)[0], due_at=taking.world.clock() + timedelta(seconds=9))
    taking.write(*ours[:2], theirs[0])
    async with running(taking):
        await until(lambda: taking.stored() == 3, "the first ones")
        assert (handed, taking.appended) == ([(1, ours[:2])], [1])
        await taking.world.actions.append(0, some(1))  # others append there too
        taking.write(ours[2])
        await until(lambda: taking.stored() == 4, "one more")
        assert handed[1:] == [(4, ours[2:3])]
        taking.write(ours[3], later)
        await until(lambda: taking.stored() == 6, "one that is a timer")
        assert (len(handed), taking.appended) == (2, [1, 0]), "it is to look for itself"
        taking.world.interrupt("taken_over.take_over", when="after")
        taking.write(ours[4])
        await until(lambda: taking.stored() == 7, "one whose reply is lost")
        taking.write(ours[5])
        await until(lambda: taking.stored() == 8, "the last one")
        assert handed[2:] == [(7, ours[5:6])], "whether that one was appended is not known"


async def test_what_is_no_action_is_put_aside_and_the_partition_goes_on(
    taking: TakingOver,
) -> None:
    first, second = some(2)
    taking.write("no key", first, "not JSON", second, "too large")
    async with running(taking):
        await until(lambda: taking.stored() == 5, "all of it")
    assert await taking.arrived() == [first, second]
    assert [(each.offset, each.reason) for each in taking.bus.aside[0]] == [
        (0, "no key"),
        (2, "not JSON"),
        (4, "too large"),
    ]
    assert ActionsTakenOver(0, 5, 2, 0, 3, 5) in taking.facts


async def test_what_is_put_aside_is_confirmed_before_the_position_moves(
    taking: TakingOver,
) -> None:
    taking.write("not JSON", *some(1))
    taking.bus.interrupt("bus.put_aside", when="before", times=10**6)
    async with running(taking):
        await until(
            lambda: sum(isinstance(fact, LoopStumbled) for fact in taking.facts) > 2, "stumbles"
        )
        assert taking.stored() == 0
        assert await taking.arrived() == []


async def test_a_stray_goes_to_the_partition_of_its_key_under_its_id(taking: TakingOver) -> None:
    ours, theirs, others = some(3), some(2, 1), some(1, 2)
    taking.write(ours[0], theirs[0], ours[1], others[0], theirs[1], ours[2])
    async with running(taking):
        await until(lambda: taking.stored() == 6, "all of it")
    assert await taking.arrived(0) == ours
    assert await taking.arrived(1) == theirs
    assert await taking.arrived(2) == others
    assert set(taking.appended) == {0, 1, 2}
    assert ActionsTakenOver(0, 6, 6, 3, 0, 6) in taking.facts


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "call", ["taken_over.take_over", "taken_over.position", "bus.read", "bus.beginning"]
)
@pytest.mark.parametrize("skip", range(4))
async def test_whatever_is_interrupted_each_action_is_taken_over_once(
    taking: TakingOver, when: str, call: str, skip: int
) -> None:
    ours, theirs = some(6), some(3, 1)
    first = [ours[0], theirs[0], ours[1], theirs[1], ours[2]]
    taking.write(*first)
    target = taking.bus if call.startswith("bus.") else taking.world
    target.interrupt(call, when=when, skip=skip)  # type: ignore[arg-type]
    async with running(taking):
        await until(lambda: taking.stored() == 5, "the first ones")
        taking.write(*ours[3:], theirs[2])
        await until(lambda: taking.stored() == 9, "the later ones")
    assert await taking.arrived(0) == ours
    assert await taking.arrived(1) == theirs


async def test_two_intakes_at_once_take_each_action_over_once(taking: TakingOver) -> None:
    zombie = TakingOver(taking.world, taking.bus)
    ours, theirs = some(40), some(40, 1)
    async with running(taking), running(zombie):
        for one, other in zip(ours, theirs, strict=True):
            taking.write(one, other)
            await asyncio.sleep(0.001)
        await until(lambda: taking.stored() == 80, "all of it")
    assert await taking.arrived(0) == ours
    assert await taking.arrived(1) == theirs


async def test_an_action_that_no_store_takes_is_put_aside_and_its_neighbours_arrive(
    taking: TakingOver,
) -> None:
    never = datetime.fromisoformat("9999-12-31T23:59:59-12:00")
    asked = some(7)
    bad = [replace(asked[n], due_at=never) for n in (0, 3, 6)]
    taking.write(bad[0], asked[1], asked[2], bad[1], asked[4], asked[5], bad[2])
    async with running(taking):
        await until(lambda: taking.stored() == 7, "all of it")
    assert await taking.arrived() == [asked[1], asked[2], asked[4], asked[5]]
    aside = taking.bus.aside[0]
    assert [(each.offset, each.message) for each in aside] == [
        (offset, each.action_id.bytes) for offset, each in zip((0, 3, 6), bad, strict=True)
    ]
    assert all("could not be stored" in each.reason for each in aside)


async def test_a_topic_that_was_made_again_stops_the_intake(taking: TakingOver) -> None:
    taking.write(*some(2))
    task = asyncio.create_task(taking.loop.run())
    await until(lambda: taking.stored() == 2, "the first ones")
    taking.bus.make_again(ACTION)
    taking.write("x", "x", "x", *some(1))
    with pytest.raises(TopicReplaced):
        async with asyncio.timeout(10):
            await task
    with pytest.raises(TopicReplaced):
        await TakingOver(taking.world, taking.bus).loop.run()
    assert len(await taking.arrived()) == 2
    assert taking.bus.aside[0] == [], "what stands in another topic is not ours to judge"


async def test_messages_that_went_before_they_were_read_stop_the_intake(
    taking: TakingOver,
) -> None:
    asked = some(4)
    taking.write(asked[0])
    async with running(taking):
        await until(lambda: taking.stored() == 1, "the first one")
    taking.write(*asked[1:])
    del taking.bus.incoming[0][:3]
    with pytest.raises(MessagesLost) as error:
        async with asyncio.timeout(10):
            await TakingOver(taking.world, taking.bus).loop.run()
    assert error.value.position == 1
    assert await taking.arrived() == asked[:1]
