"""What is handed to a worker as it is appended to its log: applied once, in the log's order."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from omninode_bridge.core.observation import BatchCommitted, CommitRefused, HintsFollowed
from omninode_bridge.services.reducer_service import LOG_BUFFER_MAX, POLL_S
from tests.bridges import until
from tests.unit.workers import CODEC, KEY, action, hired, new_world, some_turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.ports import CutOff, LoggedAction, Source
    from omninode_bridge.services.reducer_service import ReducerService
    from omninode_bridge.testing import MemoryWorld
    from tests.unit.workers import Running


class HeldLog:
    """The action log of a world, whose answers may be held back; it notes from where it is read."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self.read_from: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(
        self, partition: int, actions: Sequence[SealedAction], source: Source | None = None
    ) -> int:
        return await self._world.actions.append(partition, actions, source)

    async def read(
        self, partition: int, position: int, limit: int
    ) -> Sequence[LoggedAction] | CutOff:
        self.read_from.append(position)
        page = await self._world.actions.read(partition, position, limit)
        await self.gate.wait()
        return page

    async def position(self, partition: int) -> int:
        return await self._world.actions.position(partition)


class Handing:
    """A worker that is handed what is appended."""

    def __init__(self) -> None:
        self.world = new_world()
        self.log = HeldLog(self.world)
        self.count = 0
        self.running: Running[ReducerService]

    async def append(self, count: int = 1, *, hand: bool = True) -> None:
        """Append so many actions, each with its number; hand them over, or say nothing."""
        first = self.count + 1
        actions = [action(KEY, "Counted", {"amount": first + n}) for n in range(count)]
        await self.world.actions.append(0, actions)
        self.count += count
        if hand:
            self.running.worker.on_appended(first, actions)

    def amounts(self) -> list[int]:
        """Return the numbers of what was applied, in the order in which it was."""
        steps = [step for commit, _ in self.running.commits for step in commit.steps]
        return [CODEC.decode(step.action.payload)["amount"] for step in steps]

    async def until_all(self) -> None:
        await until(lambda: len(self.amounts()) >= self.count, "all is applied")
        assert self.amounts() == list(range(1, self.count + 1)), (
            "once each, in the order of the log"
        )


@asynccontextmanager
async def handing() -> AsyncIterator[Handing]:
    """Run a worker; in the end all was applied, and the position says so."""
    found = Handing()
    found.running = await hired(found.world, action_log=found.log)
    yield found
    found.log.gate.set()
    await found.until_all()
    found.running.worker.stop()
    assert await found.running.ended() is None
    assert await found.world.actions.position(0) == found.count + 1
    # Had it been twice in the buffer, its id would have been known: that would have been found out.
    assert sum(fact.duplicates for fact in found.running.told(BatchCommitted)) == 0
    assert not found.running.told(CommitRefused)
    assert not found.running.told(HintsFollowed)


async def test_what_is_handed_over_is_applied_and_not_read_again() -> None:
    async with handing() as found:
        found.running.start()
        await some_turns()
        for _ in range(5):
            await found.append(3)
            await some_turns()
        assert len(found.amounts()) == 15
        assert set(found.log.read_from) == {1}
        await until(lambda: found.log.read_from[-1] == 16, "the poll goes on behind it")


async def test_what_does_not_join_is_read_from_the_log_at_once() -> None:
    async with handing() as found:
        found.running.start()
        await some_turns()
        await found.append(2, hand=False)
        await found.append(3)
        began = asyncio.get_running_loop().time()
        await found.until_all()
        assert asyncio.get_running_loop().time() - began < POLL_S
        reads = len(found.log.read_from)
        await some_turns()
        await found.append()
        await some_turns()
        assert (found.amounts()[-1], len(found.log.read_from)) == (6, reads), "it joins again"


@pytest.mark.parametrize("before", [0, 2])
async def test_what_is_handed_over_while_the_log_is_read_is_applied_once(before: int) -> None:
    async with handing() as found:
        if before:
            found.running.start()
            await some_turns()
            await found.append(before)
            await some_turns()
        found.log.gate.clear()
        await found.append(3, hand=False)
        if before:
            found.running.worker.log_grew()
        else:
            found.running.start()
        await some_turns()  # it is being read, with these three
        await found.append(2)
        await some_turns()
        found.log.gate.set()
        await found.until_all()


async def test_a_page_that_shows_what_was_handed_over_meanwhile_brings_only_the_rest() -> None:
    async with handing() as found:
        found.running.start()
        await some_turns()
        read = found.log.read

        async def read_behind_an_append(
            partition: int, position: int, limit: int
        ) -> Sequence[LoggedAction] | CutOff:
            found.log.read = read  # type: ignore[method-assign]
            await found.append(2)  # handed over, and in the page as well
            await found.append(2, hand=False)
            return await read(partition, position, limit)

        found.log.read = read_behind_an_append  # type: ignore[method-assign]
        found.running.worker.log_grew()
        await until(lambda: found.count == 4, "it is read")


async def test_what_is_handed_over_before_the_worker_knows_its_position_is_read() -> None:
    async with handing() as found:
        await found.append(2)
        found.running.start()
        found.running.worker.on_appended(0, [])
        await found.append(1)


async def test_where_there_is_no_room_the_rest_is_read_from_the_log() -> None:
    async with handing() as found:
        found.running.start()
        await some_turns()
        for _ in range(3 * LOG_BUFFER_MAX // 400):
            await found.append(400)  # the worker has no turn in between
        assert len(found.running.worker._log_buffer) <= LOG_BUFFER_MAX + 400


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_is_handed_over_in_whatever_order_each_is_applied_once(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    async with handing() as found:
        found.running.start()
        for _ in range(80):
            match dice.randrange(5):
                case 0 | 1:
                    await found.append(dice.randrange(1, 4))
                case 2:
                    await found.append(dice.randrange(1, 4), hand=False)
                case 3:
                    found.log.gate.clear()
                case _:
                    found.log.gate.set()
                    found.running.worker.log_grew()
            await some_turns(dice.randrange(5))
