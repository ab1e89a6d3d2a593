"""The materializer: rows follow history, whatever is lost, repeated or done by another (R7)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from omninode_bridge.core.errors import BrokenPromise
from omninode_bridge.core.observation import LoopStumbled, ProjectionApplied, WatermarkRegressed
from omninode_bridge.services.projection_materializer import (
    BACKLOG_MAX,
    BATCH_MAX,
    ProjectionMaterializer,
)
from tests.bridges import until
from tests.unit.workers import KEY, Dice, action, commit_beside, new_world, some_turns, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from omninode_bridge.core.commit import Accepted, Commit
    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.observation import Observation
    from omninode_bridge.testing import MemoryWorld

WATERMARK: Final = "the watermark"


class Materializing:
    """A materializer on a world in memory, and what it told."""

    def __init__(self, world: MemoryWorld) -> None:
        """Begin nothing yet."""
        self.world = world
        self.facts: list[Observation] = []
        self.advanced: list[tuple[str, int, str]] = []
        self.loop = ProjectionMaterializer(
            0,
            log=world.projections,
            clock=world.clock,
            uniform=Dice(),
            advanced=self.advanced.extend,
            observe=self.facts.append,
        )

    def row(self, key: str = KEY) -> int:
        """Return the version of a projected row; 0 when there is none."""
        entry = self.world.projection(key)
        return 0 if entry is None else entry.version

    def applied(self) -> list[ProjectionApplied]:
        """Return what was applied."""
        return [fact for fact in self.facts if isinstance(fact, ProjectionApplied)]

    def stumbled(self) -> int:
        """Return how often it stumbled."""
        return sum(isinstance(fact, LoopStumbled) for fact in self.facts)


@asynccontextmanager
async def materializing(world: MemoryWorld) -> AsyncIterator[Materializing]:
    """Run a materializer for the length of the block."""
    running = Materializing(world)
    task = asyncio.create_task(running.loop.run())
    yield running
    running.loop.stop()
    async with asyncio.timeout(10):
        await task


async def commits_of(world: MemoryWorld, *actions: SealedAction) -> list[tuple[Commit, Accepted]]:
    """Let a worker commit `actions`, each alone; return what it told of its commits."""
    async with working(world) as running:
        for one in actions:
            await running.outcomes(one)
        return list(running.commits)


async def until_watermark(world: MemoryWorld, watermark: int) -> None:
    """Wait until the projection has come to `watermark`."""
    await until(lambda: world._tables.partition(0).watermark == watermark, WATERMARK)


async def test_what_was_committed_before_the_start_is_read_from_the_log() -> None:
    world = new_world()
    await commits_of(world, action(), action(), action("counter:2"), action(action_type="Refused"))
    async with materializing(world) as running:
        await until_watermark(world, 4)
        assert [running.row(key) for key in (KEY, "counter:2")] == [2, 1]
        assert sorted(running.advanced) == [(KEY, 2, "even"), ("counter:2", 1, "odd")]
        (fact,) = running.applied()
        assert (fact.entries, fact.rows, fact.watermark) == (3, 2, 4)


async def test_a_commit_is_projected_from_memory_without_reading_the_log() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        commits = await commits_of(world, *(action() for _ in range(5)))
        world.interrupt("projections.read", when="before", times=100)
        for commit, accepted in commits:
            running.loop.on_state_committed(commit, accepted)
        await until_watermark(world, 6)
        assert running.row() == 5
        assert running.stumbled() == 0
        world._interruptions._planned.clear()


async def test_a_commit_of_give_ups_alone_is_nothing_to_project() -> None:
    world = new_world()
    async with materializing(world) as running:
        ((commit, accepted),) = await commits_of(world, action(action_type="Refused"))
        running.loop.on_state_committed(commit, accepted)
        await some_turns()
        assert running.applied() == []


async def test_what_does_not_join_is_read_from_the_log_first() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        commits = await commits_of(world, *(action() for _ in range(6)))
        for commit, accepted in commits[3:]:
            running.loop.on_state_committed(commit, accepted)
        await until_watermark(world, 7)
        assert running.row() == 6
        assert sum(fact.entries for fact in running.applied()) == 6, "none of them twice"


async def test_what_somebody_committed_beside_the_worker_is_not_skipped() -> None:
    world = new_world()
    first = await commits_of(world, action())
    await commit_beside(world, action("counter:2"))
    third = await commits_of(world, action())
    running = Materializing(world)
    for commit, accepted in (*first, *third):
        running.loop.on_state_committed(commit, accepted)
    running.loop.stop()
    async with asyncio.timeout(10):
        await running.loop.run()
    assert [running.row(key) for key in (KEY, "counter:2")] == [2, 1]
    assert await world.projections.watermark(0) == 4


async def test_what_is_handed_over_twice_is_projected_once() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        commits = await commits_of(world, action(), action())
        for commit, accepted in [*commits, *commits]:
            running.loop.on_state_committed(commit, accepted)
        await until_watermark(world, 3)
        await some_turns()
        assert sum(fact.entries for fact in running.applied()) == 2
        assert running.row() == 2


async def test_more_than_fits_in_memory_is_read_back() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        commits = await commits_of(world, action(), action())
        commit, accepted = commits[0]
        running.loop.on_state_committed(commit, accepted)
        flood = replace(commit, steps=list(commit.steps) * BACKLOG_MAX)
        running.loop.on_state_committed(flood, replace(accepted, state_committed_first=2))
        assert len(running.loop._backlog) == 0
        await until_watermark(world, 3)
        assert running.row() == 2


async def test_a_long_history_is_projected_in_batches() -> None:
    world = new_world()
    async with working(world) as worker:
        await worker.outcomes(*(action(f"counter:{n % 9}") for n in range(BATCH_MAX + 10)))
    async with materializing(world) as running:
        await until_watermark(world, BATCH_MAX + 11)
        assert [fact.entries for fact in running.applied()] == [BATCH_MAX, 10]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_reply_repeats_and_skips_nothing(when: str) -> None:
    world = new_world()
    await commits_of(world, *(action() for _ in range(3)))
    world.interrupt("projections.apply", when="before" if when == "before" else "after")
    world.interrupt("projections.watermark", when="before")
    async with materializing(world) as running:
        await until_watermark(world, 4)
        await until(lambda: running.stumbled() == 2, "both to be told")
        assert running.row() == 3
        commits = await commits_of(world, action())
        running.loop.on_state_committed(*commits[0])
        await until_watermark(world, 5)
        assert running.row() == 4
        assert [fact.attempt for fact in running.facts if isinstance(fact, LoopStumbled)] == [1, 2]


async def test_two_materializers_make_the_rows_of_one() -> None:
    world = new_world()
    async with materializing(world) as one, materializing(world) as other:
        await some_turns()
        for n in range(10):
            ((commit, accepted),) = await commits_of(world, action(f"counter:{n % 2}"))
            one.loop.on_state_committed(commit, accepted)
            other.loop.on_state_committed(commit, accepted)
            await some_turns()
        await until_watermark(world, 11)
        assert [one.row(f"counter:{n}") for n in range(2)] == [5, 5]


async def test_who_was_overtaken_goes_on_from_where_the_other_is() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        commits = await commits_of(world, action(), action("counter:2"), action())
        await world.projections.apply(0, 1, 2, await world.projections.read(0, 1, 1))
        for commit, accepted in commits:
            running.loop.on_state_committed(commit, accepted)
        await until_watermark(world, 4)
        assert [running.row(key) for key in (KEY, "counter:2")] == [2, 1]
        assert sum(fact.entries for fact in running.applied()) == 2, "the first was the other's"


async def test_a_watermark_that_would_go_back_is_told_and_stops_the_loop() -> None:
    world = new_world()
    await commits_of(world, action(), action(), action())
    await world.projections.apply(0, 1, 3, await world.projections.read(0, 1, 2))
    entries = world._tables.partition(0).committed
    entries[2] = replace(entries[0], version=9)  # a log that contradicts itself
    running = Materializing(world)
    with pytest.raises(BrokenPromise, match="cannot go back from 3 to 2"):
        await running.loop.run()
    assert [fact for fact in running.facts if isinstance(fact, WatermarkRegressed)] == [
        WatermarkRegressed(0, 3, 2)
    ]
    assert running.row() == 2
    assert await world.projections.watermark(0) == 3


async def test_the_lag_is_the_age_of_the_oldest_entry() -> None:
    world = new_world()
    await commits_of(world, action(), action())
    world.clock.advance(timedelta(seconds=7))  # type: ignore[attr-defined]
    async with materializing(world) as running:
        await until_watermark(world, 3)
        assert [fact.lag_s for fact in running.applied()] == [7.0]


async def test_a_materializer_that_is_stopped_projects_first_what_was_committed() -> None:
    world = new_world()
    await commits_of(world, action(), action())
    running = Materializing(world)
    running.loop.stop()
    async with asyncio.timeout(10):
        await running.loop.run()
    assert running.row() == 2


async def test_what_another_process_committed_is_found_without_a_hint() -> None:
    world = new_world()
    async with materializing(world) as running:
        await some_turns()
        await commits_of(world, action())
        await until_watermark(world, 2)
        assert running.row() == 1
