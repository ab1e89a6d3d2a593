"""The cleaner: bounded batches, another round after trouble, and nothing that is still wanted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from omninode_bridge.core.commit import Commit, Move
from omninode_bridge.core.observation import LoopStumbled, OutcomesForgotten, SegmentsDropped
from omninode_bridge.services.cleaner import Cleaner
from tests.bridges import until
from tests.unit.workers import action, commit_beside, new_world

if TYPE_CHECKING:
    from omninode_bridge.core.observation import Observation
    from omninode_bridge.testing import MemoryWorld


def no_facts() -> list[Observation]:
    """Return a list for what will be told."""
    return []


class Limits:
    """Remembered outcomes that write down how many were asked to be forgotten at once, and when."""

    def __init__(self, world: MemoryWorld, takes_s: float = 0.0) -> None:
        """Clean `world`; each batch takes at least `takes_s`."""
        self._world = world
        self._takes_s = takes_s
        self.asked: list[int] = []
        self.began: list[float] = []
        self.ended: list[float] = []

    async def cleanup_expired(self, limit: int) -> int:
        """Forget up to `limit`."""
        self.began.append(monotonic())
        self.asked.append(limit)
        await asyncio.sleep(self._takes_s)
        forgotten = await self._world.outcomes.cleanup_expired(limit)
        self.ended.append(monotonic())
        return forgotten


async def with_expired(count: int) -> MemoryWorld:
    """Return a world with `count` outcomes whose time is over, and one whose is not."""
    world = new_world(segment_entries=2)
    await commit_beside(world, *(action(remember_s=60.0) for _ in range(count)))
    await commit_beside(world, action())
    world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    return world


def cleaner(
    world: MemoryWorld, facts: list[Observation], takes_s: float = 0.0, **options: float
) -> tuple[Cleaner, Limits]:
    """Return a cleaner of `world` in batches of two."""
    limits = Limits(world, takes_s)
    made = Cleaner(
        [0],
        outcomes=limits,
        segments=world.segments,
        observe=facts.append,
        batch_rows=2,
        **options,
    )
    return made, limits


async def test_outcomes_are_forgotten_in_bounded_batches_and_told_once() -> None:
    facts: list[Observation] = []
    made, limits = cleaner(await with_expired(5), facts)
    await made.clean()
    assert limits.asked == [2, 2, 2]
    assert facts == [OutcomesForgotten(5)]
    await made.clean()
    assert facts == [OutcomesForgotten(5)], "nothing to clean is nothing to tell"


async def test_the_slower_a_batch_is_the_longer_is_the_pause_behind_it() -> None:
    made, limits = cleaner(await with_expired(3), no_facts(), takes_s=0.02)
    await made.clean()
    (took, _), (pause, *_) = (
        [end - begin for begin, end in zip(limits.began, limits.ended, strict=True)],
        [begin - end for begin, end in zip(limits.began[1:], limits.ended, strict=False)],
    )
    assert pause >= 1.9 * took, "a timer may be a clock tick early"


async def test_segments_behind_all_consumers_are_dropped_and_told() -> None:
    world, facts = new_world(segment_entries=2), no_facts()
    await world.actions.append(0, [action() for _ in range(5)])
    made, _ = cleaner(world, facts)
    await made.clean()
    assert facts == []
    await world.store.commit(Commit(0, None, {}, [], world.clock(), action().action_id, Move(1, 6)))
    await made.clean()
    assert facts == [SegmentsDropped("action", 0, 2)]


async def test_what_cannot_be_had_now_is_tried_again_at_the_next_round() -> None:
    world, facts = await with_expired(3), no_facts()
    world.interrupt("outcomes.cleanup_expired", when="before", times=2)
    world.interrupt("segments.drop_segments", when="before")
    made, _ = cleaner(world, facts, every_s=0.001)
    task = asyncio.create_task(made.run())
    await until(lambda: OutcomesForgotten(3) in facts, "the outcomes to be forgotten")
    await until(
        lambda: sum(isinstance(fact, LoopStumbled) for fact in facts) == 3, "three troubles"
    )
    stumbled = [fact for fact in facts if isinstance(fact, LoopStumbled)]
    assert [fact.attempt for fact in stumbled] == [1, 2, 3]
    assert {(fact.loop, fact.partition) for fact in stumbled} == {("cleaner", None)}
    made.stop()
    async with asyncio.timeout(10):
        await task


async def test_a_cleaner_that_is_stopped_ends_after_the_batch_under_way() -> None:
    world, facts = await with_expired(100), no_facts()
    made, limits = cleaner(world, facts, pause_s_min=60.0)
    task = asyncio.create_task(made.run())
    await until(lambda: len(limits.asked) == 1, "the first batch")
    made.stop()
    async with asyncio.timeout(10):
        await task
    assert limits.asked == [2]
    assert facts == [OutcomesForgotten(2)]
