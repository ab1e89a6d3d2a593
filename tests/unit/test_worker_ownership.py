"""The partition worker: who lost the partition decides nothing more (R12)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from omninode_bridge.core.commit import Commit, Move
from omninode_bridge.core.errors import BridgeClosed, DatabaseRefused, OwnershipLost
from omninode_bridge.core.observation import CommitRefused, OwnershipChanged
from tests.unit.workers import (
    LEASE,
    OWNER,
    RIVAL,
    Kind,
    action,
    both,
    commit_beside,
    hired,
    hired_as,
    new_world,
    some_turns,
)

if TYPE_CHECKING:
    from omninode_bridge.ports import CutOff


class Unreadable:
    """An action log whose table is damaged."""

    async def append(self, _partition: int, _actions: object, _source: object = None) -> int:
        raise NotImplementedError

    async def read(self, _partition: int, _position: int, _limit: int) -> CutOff:
        raise DatabaseRefused("XX001", "a damaged page")

    async def position(self, _partition: int) -> int:
        return 1


async def test_the_loser_stops_at_once_and_decides_nothing() -> None:
    world = new_world()
    running = await hired(world, inbox_max=3)
    await world.actions.append(0, [action()])
    asked = [action(), action(action_type="Refused"), action("counter:2")]
    futures = await running.submit(*asked)
    late = action()
    fourth = asyncio.create_task(running.worker.submit(late))
    await world.leases.release(OWNER)
    await world.leases.acquire(RIVAL, "a rival", LEASE, [0])
    running.start()
    error = await running.ended()
    assert isinstance(error, OwnershipLost)
    assert "owned by another process" in str(error)
    assert await world.store.read(["counter:1", "counter:2"]) == {}
    assert world.gave_up(0) == ()
    assert not any(future.done() for future in futures)
    assert [fact.change for fact in running.told(OwnershipChanged)] == ["lost"]
    assert [fact.not_owner for fact in running.told(CommitRefused)] == [True]
    leftovers = running.worker.leftovers()
    assert [ask.action for ask in leftovers] == [*asked, late], "and goes another way, in order"
    assert not (await fourth).done()
    assert all(ask.offset is None for ask in leftovers), "what is in the log stays there"
    with pytest.raises(BridgeClosed):
        await running.worker.submit(action())


async def test_what_was_answered_is_not_left_over() -> None:
    world = new_world()
    running = await hired(world, batch_max=1)
    futures = await running.submit(action(), action(), action())
    gone = await running.submit(action())
    gone[0].cancel()

    def lose(*_: object) -> None:
        # The first commit is told, and from now on somebody else holds the partition.
        partition = world._tables.partition(0)
        assert partition.lease is not None
        partition.lease.owner = RIVAL

    running.worker._committed = lose
    running.start()
    assert isinstance(await running.ended(), OwnershipLost)
    assert [future.done() for future in futures] == [True, False, False]
    assert [ask.future for ask in running.worker.leftovers()] == futures[1:]


@both
async def test_a_position_that_moved_without_us_is_ownership_lost(kind: Kind) -> None:
    world = new_world()
    await world.actions.append(0, [action(), action()])
    running = await hired_as(kind, world)
    async with world.store.locked(0) as locked:
        running.start()
        await some_turns()
        moved = Commit(0, None, {}, [], world.clock(), action().action_id, Move(1, 3))
        await locked.commit(moved)
    error = await running.ended()
    assert isinstance(error, OwnershipLost)
    assert "has moved without us" in str(error)
    assert await world.store.read(["counter:1"]) == {}


@both
async def test_a_log_that_was_cut_off_behind_the_position_ends_the_worker(kind: Kind) -> None:
    world = new_world(segment_entries=2)
    running = await hired_as(kind, world)
    await world.actions.append(0, [action(), action()])
    world.retire("reducer", "action")
    assert await world.segments.drop_segments("action", 0) == 1
    world.register("reducer", "action", 0, 0)
    world._tables.positions["reducer", "action", 0, 0] = 1
    running.start()
    error = await running.ended()
    assert isinstance(error, OwnershipLost)
    assert "cut off at 3" in str(error)


async def test_a_database_that_refuses_for_good_ends_the_worker_and_keeps_what_it_took() -> None:
    running = await hired(new_world())
    running.worker._action_log = Unreadable()
    (future,) = await running.submit(action())
    running.start()
    assert (await future).committed().version == 1
    assert isinstance(await running.ended(), DatabaseRefused)
    with pytest.raises(BridgeClosed):
        await running.worker.submit(action())


@both
async def test_who_commits_beside_the_owner_takes_nothing_from_it(kind: Kind) -> None:
    world = new_world()
    running = await hired_as(kind, world)
    running.start()
    await running.outcomes(action())
    await commit_beside(world, action())
    (outcome,) = await running.outcomes(action())
    assert outcome.committed().version == 3
    assert running.told(OwnershipChanged) == []
    running.worker.stop()
    assert await running.ended() is None
