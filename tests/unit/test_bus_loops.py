"""A host with a bus outside: in both directions, and never held up by it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.topics import STATE_COMMITTED
from omninode_bridge.host import PartitionHost
from omninode_bridge.host.role_loops import BUS_END_WAIT_S as END_WAIT_S
from omninode_bridge.ports import Incoming
from omninode_bridge.testing import MemoryWorld, SettableClock
from omninode_bridge.testing.bus import MemoryBus
from tests.bridges import until
from tests.hosts import bus_of, hosted
from tests.unit.workers import action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.observation import Observation
    from omninode_bridge.ports import LoggedEvent

PARTITIONS = 2


@pytest.fixture
def world() -> MemoryWorld:
    return MemoryWorld(clock=SettableClock(), partitions=PARTITIONS)


def on(bus: MemoryBus, world: MemoryWorld) -> dict[str, Any]:
    return {"bus": bus_of(bus, world)}


class HangingBus(MemoryBus):
    """A bus that takes nothing and never says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, int]] = []

    async def send(self, topic: str, partition: int, events: Sequence[LoggedEvent]) -> None:
        self.asked.append((topic, partition, len(events)))
        await asyncio.Event().wait()


async def test_what_comes_in_is_applied_and_goes_out(world: MemoryWorld) -> None:
    bus = MemoryBus()
    asked = [action(f"counter:{n}") for n in range(8)]
    for offset, each in enumerate(asked):
        partition = partition_of(each.workflow_key, PARTITIONS)
        bus.incoming[partition].append(Incoming(offset, None, each))
    async with PartitionHost(hosted(world, **on(bus, world))):
        await until(
            lambda: sum(len(bus.sent["state-committed", n]) for n in range(PARTITIONS)) == 8, "told"
        )
    told = {event.action_id for n in range(PARTITIONS) for event in bus.sent["state-committed", n]}
    assert told == {each.action_id for each in asked}


async def test_a_bus_that_takes_nothing_holds_up_neither_askers_nor_the_end(
    world: MemoryWorld,
) -> None:
    bus = HangingBus()
    loop = asyncio.get_running_loop()
    host = PartitionHost(hosted(world, **on(bus, world)))
    async with host:
        for n in range(4):
            outcome = await (await host.submit(action(f"counter:{n}")))
            assert outcome.committed().version == 1
        await until(lambda: len(bus.asked) == PARTITIONS, "all that there is on its way")
        ended_at = loop.time()
    assert loop.time() - ended_at < END_WAIT_S + 2
    # What was not confirmed is sent by whoever comes next.
    following = MemoryBus()
    async with PartitionHost(hosted(world, **on(following, world))):
        await until(
            lambda: sum(len(following.sent["state-committed", n]) for n in range(PARTITIONS)) == 4,
            "told in the end",
        )


async def test_a_topic_made_again_stops_its_loop_and_nothing_else(world: MemoryWorld) -> None:
    bus, facts = MemoryBus(), list["Observation"]()
    host = PartitionHost(hosted(world, observe=facts.append, **on(bus, world)))
    async with host:
        await (await host.submit(action("counter:1")))
        await until(lambda: any(bus.sent.values()), "the first one")
        bus.make_again(STATE_COMMITTED)
        await (await host.submit(action("counter:1")))
        await until(lambda: bool(host.failures), "the loop to stop")
        outcome = await (await host.submit(action("counter:1")))
        assert outcome.committed().version == 3
    assert [type(error).__name__ for error in host.failures] == ["TopicReplaced"]
    stumbled = [fact.loop for fact in facts if isinstance(fact, LoopStumbled)]
    assert stumbled == ["relay"]
