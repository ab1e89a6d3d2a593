"""The relay from memory: what is sent is what the log has, whether that was read or not."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge.core.commit import Accepted, Commit
from omninode_bridge.core.observation import LoopStumbled
from omninode_bridge.core.reducer import NEVER_SEEN, fold
from omninode_bridge.infrastructure.logged_events import logged_events
from omninode_bridge.services.relay import Relay
from omninode_bridge.services.relay.handed_over import BYTES_MAX, ENTRIES_MAX
from omninode_bridge.services.relay.relay import PAGE_MAX, POLL_S
from omninode_bridge.testing.bus import MemoryBus
from tests.bridges import until
from tests.unit.workers import (
    CODEC,
    KEY_TYPES,
    Dice,
    NewIds,
    action,
    commit_beside,
    new_world,
    some_turns,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from omninode_bridge.core.observation import Observation
    from omninode_bridge.ports import LoggedEvent
    from omninode_bridge.testing import MemoryWorld

TOPIC: Final = "state-committed"
GAVE_UP: Final = "reducer-gave-up"
NEW_ID: Final = NewIds(5_000_000)


class Reading:
    """The log of a world; a test may hold an answer back, or count who asks."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(
        self, topic: str, partition: int, position: int, limit: int
    ) -> Sequence[LoggedEvent]:
        self.reads += 1
        page = list(await self._world.relayed.read(topic, partition, position, limit))
        await self.gate.wait()
        return page

    async def position(self, topic: str, partition: int, incarnation: str) -> int:
        return await self._world.relayed.position(topic, partition, incarnation)

    async def advance(self, topic: str, partition: int, incarnation: str, following: int) -> None:
        await self._world.relayed.advance(topic, partition, incarnation, following)


class Relaying:
    """A relay of the one partition of a world, told what is committed there."""

    def __init__(self) -> None:
        self.world = new_world()
        self.log = Reading(self.world)
        self.bus = MemoryBus()
        self.facts: list[Observation] = []
        self.made = 0
        self.loop = Relay(
            0,
            log=self.log,
            logged=self._logged,
            bus=self.bus,
            uniform=Dice(),
            observe=self.facts.append,
        )

    def _logged(
        self, commit: Commit, accepted: Accepted
    ) -> Mapping[str, Sequence[LoggedEvent] | None]:
        self.made += 1
        return logged_events(commit, accepted)

    async def commit(
        self, *keys: str, kind: str = "Counted", text: str = "", tell: bool = True
    ) -> None:
        """Commit an action for each key in one batch, and tell the relay of it."""
        stored = await self.world.store.read(keys)
        steps = [
            step
            for key in keys
            for step in fold(
                stored.get(key, NEVER_SEEN),
                [action(key, kind, payload={"amount": 1, "text": text})],
                KEY_TYPES[key.partition(":")[0]],
                CODEC,
                self.world.clock(),
            )[1]
        ]
        reads = {key: stored.get(key, NEVER_SEEN).version for key in keys}
        commit = Commit(0, None, reads, steps, self.world.clock(), NEW_ID())
        accepted = await self.world.store.commit(commit)
        assert isinstance(accepted, Accepted)
        if tell:
            self.loop.on_committed(commit, accepted)

    def sent(self, topic: str = TOPIC) -> list[int]:
        return [event.offset for event in self.bus.sent[topic, 0]]

    def check_sent(self) -> None:
        """Check that the bus has the log, byte for byte, in its order and without a gap."""
        for topic in (TOPIC, GAVE_UP, "fsm-state-transitioned"):
            there = self.world._tables.partition(0).events[topic]
            seen = 0
            for event in self.bus.sent[topic, 0]:
                assert event.offset <= seen + 1, "nothing is left out"
                assert event == there[event.offset - 1], "as it stands in the log"
                seen = max(seen, event.offset)
            assert seen == len(there)


@pytest.fixture
def relaying() -> Relaying:
    return Relaying()


@asynccontextmanager
async def running(relaying: Relaying) -> AsyncIterator[None]:
    """Run the relay, which has looked once; in the end it has sent all that is there."""
    task = asyncio.create_task(relaying.loop.run())
    await some_turns()
    yield
    relaying.loop.stop()
    async with asyncio.timeout(10):
        await task
    relaying.check_sent()


async def test_what_was_committed_is_sent_without_reading_the_log(relaying: Relaying) -> None:
    async with running(relaying):
        reads = relaying.log.reads
        for _ in range(4):
            await relaying.commit("counter:1", "counter:2")
            await relaying.commit("counter:1", kind="Refused")
            await some_turns()
        assert relaying.sent() == [1, 2, 3, 4, 5, 6, 7, 8]
        assert relaying.sent(GAVE_UP) == [1, 2, 3, 4]
        assert relaying.log.reads == reads


async def test_what_somebody_committed_beside_is_sent_in_its_place(relaying: Relaying) -> None:
    async with running(relaying):
        await relaying.commit("counter:1")
        await commit_beside(relaying.world, action("counter:9"), action("counter:9"))
        await relaying.commit("counter:1")
        await until(lambda: relaying.sent() == [1, 2, 3, 4], "all of it, in order")
        reads = relaying.log.reads
        await relaying.commit("counter:1")
        await some_turns()
        assert (relaying.sent()[-1], relaying.log.reads) == (5, reads), "from memory again"


async def test_what_is_behind_it_all_beside_us_is_found_by_a_look(relaying: Relaying) -> None:
    async with running(relaying):
        await relaying.commit("counter:1")
        await commit_beside(relaying.world, action("counter:9"))
        began = asyncio.get_running_loop().time()
        await until(lambda: relaying.sent() == [1, 2], "found by the next look")
        assert asyncio.get_running_loop().time() - began < 3 * POLL_S
        await commit_beside(relaying.world, action("counter:9"))
        relaying.loop.look()
        await some_turns()
        assert relaying.sent() == [1, 2, 3], "found at once by who is told to look"


async def test_a_topic_at_rest_is_looked_at_although_another_is_busy(relaying: Relaying) -> None:
    async with running(relaying):
        await commit_beside(relaying.world, action("counter:9", "Refused"))
        began = asyncio.get_running_loop().time()
        while not relaying.sent(GAVE_UP):
            await relaying.commit("counter:1")
            await asyncio.sleep(0.001)
            assert asyncio.get_running_loop().time() - began < 3 * POLL_S


async def test_a_commit_that_ends_while_the_log_is_read_is_sent_before_the_next_look(
    relaying: Relaying,
) -> None:
    async with running(relaying):
        await relaying.commit("counter:1")
        await some_turns()
        relaying.log.gate.clear()
        relaying.loop.look()
        await some_turns()
        # It read the log before these, and hears of them before it has its answer.
        await relaying.commit("counter:2")
        await relaying.commit("counter:2", kind="Refused")
        relaying.log.gate.set()
        await some_turns()
        assert (relaying.sent(), relaying.sent(GAVE_UP)) == ([1, 2], [1])


async def test_a_commit_that_ends_while_the_log_is_read_for_the_first_time_is_sent_at_once(
    relaying: Relaying,
) -> None:
    relaying.log.gate.clear()
    async with running(relaying):
        await relaying.commit("counter:1")  # read already, and not yet listened for
        relaying.log.gate.set()
        await some_turns()
        assert relaying.sent() == [1]


@pytest.mark.parametrize("before", [0, 1])
async def test_at_the_start_too_nothing_is_lost_between_log_and_memory(
    relaying: Relaying, before: int
) -> None:
    for _ in range(before):
        await relaying.commit("counter:1")
    relaying.log.gate.clear()
    task = asyncio.create_task(relaying.loop.run())
    for _ in range(3):
        await some_turns()
        await relaying.commit("counter:2", "counter:1")
        await relaying.commit("counter:2", kind="Refused")
        relaying.log.gate.set()
        await asyncio.sleep(0)
        relaying.log.gate.clear()
    relaying.log.gate.set()
    await some_turns(60)
    assert relaying.sent() == list(range(1, before + 7))
    assert relaying.sent(GAVE_UP) == [1, 2, 3]
    relaying.loop.stop()
    await task
    relaying.check_sent()


async def test_transitions_whose_offset_a_commit_does_not_tell_are_read(relaying: Relaying) -> None:
    async with running(relaying):
        await relaying.commit("counter:1")
        await some_turns()
        for n in range(1, 4):
            relaying.loop._handed["fsm-state-transitioned"].miss()
            events = relaying.world._tables.partition(0).events
            (last,) = events[TOPIC][-1:]
            events["fsm-state-transitioned"].append(
                type(last)(n, "fsm:1", last.action_id, None, last.happened_at, b'{"n":1}')
            )
            await relaying.commit("counter:1")
            await some_turns()
            assert relaying.sent("fsm-state-transitioned") == list(range(1, n + 1))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["bus.send", "relayed.advance", "bus.incarnation"])
@pytest.mark.parametrize("skip", range(4))
async def test_whatever_fails_the_rest_is_sent_once_more_from_the_log(
    relaying: Relaying, call: str, when: str, skip: int
) -> None:
    target = relaying.bus if call.startswith("bus.") else relaying.world
    target.interrupt(call, when=when, skip=skip)  # type: ignore[arg-type]
    async with running(relaying):
        for n in range(6):
            await relaying.commit(f"counter:{n}", "counter:7")
            await some_turns(n)
        await until(lambda: 12 in relaying.sent(), "sent")
        await relaying.commit("counter:1")
        await until(lambda: 13 in relaying.sent(), "sent later")
    assert sum(isinstance(fact, LoopStumbled) for fact in relaying.facts) <= 1


class StalledBus(MemoryBus):
    """A bus that takes nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = asyncio.Event()

    async def send(self, topic: str, partition: int, events: Sequence[LoggedEvent]) -> None:
        await self.takes.wait()
        await super().send(topic, partition, events)


@pytest.mark.parametrize("too_much", ["entries", "bytes"])
async def test_a_bus_that_takes_nothing_costs_no_memory_and_no_work(
    relaying: Relaying, too_much: str
) -> None:
    relaying.bus = relaying.loop._bus = StalledBus()
    text, keys, batches = "", [f"counter:{n}" for n in range(500)], ENTRIES_MAX // 500 + 1
    if too_much == "bytes":
        text, keys, batches = "x" * 1_000_000, ["counter:1"], BYTES_MAX // 1_000_000 + 1
    async with running(relaying):
        await relaying.commit("counter:1")
        await some_turns()  # it waits for the bus with this one
        for _ in range(batches):
            await relaying.commit(*keys, text=text)
        made = relaying.made
        assert made == batches + 1
        for _ in range(10):
            await relaying.commit(*keys)
        assert relaying.made == made, "nobody would take it"
        assert len(relaying.loop._handed[TOPIC]._events) == 0
        relaying.bus.takes.set()
        count = len(relaying.world._tables.partition(0).events[TOPIC])
        await until(lambda: len(relaying.sent()) == count, "all of it")
        await some_turns()
        reads = relaying.log.reads
        await relaying.commit("counter:1")
        await some_turns()
        assert (relaying.sent()[-1], relaying.log.reads) == (count + 1, reads), "from memory again"


async def test_a_relay_that_is_behind_comes_back_to_memory_while_commits_go_on(
    relaying: Relaying,
) -> None:
    for _ in range(4):
        await relaying.commit(*(f"counter:{n}" for n in range(500)))
    read, reads_max = relaying.log.read, 50

    async def read_after_a_commit(
        topic: str, partition: int, position: int, limit: int
    ) -> Sequence[LoggedEvent]:
        if topic == TOPIC and relaying.log.reads < reads_max:
            await relaying.commit("counter:1")  # so that no read of it shows nothing
        return await read(topic, partition, position, limit)

    relaying.log.read = read_after_a_commit  # type: ignore[method-assign]
    async with running(relaying):
        await until(lambda: len(relaying.sent()) >= 2_000, "sent")
        await some_turns(200)
        assert relaying.log.reads < reads_max


async def test_a_page_from_memory_has_its_limit(relaying: Relaying) -> None:
    relaying.bus = relaying.loop._bus = StalledBus()
    async with running(relaying):
        await relaying.commit("counter:1")
        await some_turns()
        for _ in range(3):
            await relaying.commit(*(f"counter:{n}" for n in range(500)))
        relaying.bus.takes.set()
        await until(lambda: len(relaying.sent()) == 1_501, "sent")
    pages = [fact.entries for fact in relaying.facts if hasattr(fact, "entries")]
    assert max(pages) == PAGE_MAX


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_in_whatever_order_the_bus_has_the_log(
    relaying: Relaying, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    async with running(relaying):
        for _ in range(60):
            keys = [f"counter:{n}" for n in range(dice.randrange(1, 4))]
            match dice.randrange(8):
                case 0 | 1 | 2:
                    await relaying.commit(*keys)
                case 3:
                    await relaying.commit(*keys, kind="Refused")
                case 4:  # its reply is lost, or it is somebody else's
                    await relaying.commit(*keys, tell=False)
                case 5:
                    relaying.bus.interrupt("bus.send", when=dice.choice(["before", "after"]))
                case 6:
                    relaying.log.gate.clear()
                case _:
                    relaying.log.gate.set()
            await some_turns(dice.randrange(6))
        relaying.log.gate.set()
        relaying.bus._interruptions._planned.clear()
        count = len(relaying.world._tables.partition(0).events[TOPIC])
        await until(lambda: not count or count in relaying.sent(), "all is sent")
