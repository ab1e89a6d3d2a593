"""The partition worker: a lost reply of a commit means unknown, and is found out under the lock."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from omninode_bridge.core.commit import Commit, Move
from omninode_bridge.core.errors import OwnershipLost
from omninode_bridge.core.message import ReducerGaveUp
from omninode_bridge.core.observation import CommitRefused, LoopStumbled, OwnershipChanged
from tests.bridges import until
from tests.unit.workers import KEY, Disturbed, action, commit_beside, hired, new_world, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.message import Outcome
    from omninode_bridge.testing import MemoryWorld
    from omninode_bridge.testing.interruptions import When


async def state(world: MemoryWorld) -> bytes:
    """Return the stored state of the key."""
    return (await world.store.read([KEY]))[KEY].state


async def move_position(world: MemoryWorld, move: Move) -> None:
    """Move the worker's position without the worker."""
    commit = Commit(0, None, {}, [], world.clock(), action().action_id, move)
    await world.store.commit(commit)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_submitted_is_decided_once_whatever_became_of_the_commit(
    when: When,
) -> None:
    world = new_world()
    async with working(world) as running:
        await running.outcomes(action(payload={"amount": 1}))
        world.interrupt("store.commit", when=when)
        counted, refused = await running.outcomes(
            action(payload={"amount": 10}), action(action_type="Refused")
        )
        assert counted.committed().version == 2
        assert isinstance(refused, ReducerGaveUp)
        assert await state(world) == b'{"count":2,"total":11}'
        assert len(world.gave_up(0)) == 1
        assert len(running.told(LoopStumbled)) == 1
        assert len(running.commits) == (1 if when == "after" else 2)
        (following,) = await running.outcomes(action(payload={"amount": 100}))
        assert following.committed().version == 3
        assert await state(world) == b'{"count":3,"total":111}', "the cache was dropped"
        assert running.told(CommitRefused) == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_came_by_the_log_is_decided_once_and_the_position_is_right(
    when: When,
) -> None:
    world = new_world()
    asked = [action(payload={"amount": 1}), action(action_type="Refused"), action()]
    await world.actions.append(0, asked)
    world.interrupt("store.commit", when=when)
    async with working(world) as running:
        await until(lambda: len(running.answers) == 3, "three answers")
        assert [name for name, _ in running.answers] == [(KEY, one.action_id) for one in asked]
        assert await world.actions.position(0) == 4
        assert await state(world) == b'{"count":2,"total":2}'
        await world.actions.append(0, [action()])
        running.worker.log_grew()
        await until(lambda: len(running.answers) == 4, "the next answer")
        assert await state(world) == b'{"count":3,"total":3}'
        assert await world.actions.position(0) == 5


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_last_attempt_may_lose_its_reply_too(when: When) -> None:
    world = new_world()
    world.interrupt("store.locked", when=when)
    async with working(world, max_attempts=1) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 2


async def test_a_call_that_is_lost_within_the_last_attempt_takes_it_back() -> None:
    world = new_world()
    for call in ("locked.recall", "locked.read", "locked.commit"):
        world.interrupt(call, when="after")
    async with working(world, max_attempts=1) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        assert len(await world.projections.read(0, 1, 10)) == 1


async def test_the_worker_asks_until_the_database_answers() -> None:
    world = new_world()
    world.interrupt("actions.position", when="before", times=2)
    world.interrupt("actions.read", when="after", times=1)
    world.interrupt("store.read", when="before", times=1)
    world.interrupt("store.commit", when="after", times=1)
    world.interrupt("store.locked", when="before", times=2)
    world.interrupt("locked.recall", when="before", times=1)
    async with working(world) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        assert await state(world) == b'{"count":1,"total":1}'
        assert {fact.loop for fact in running.told(LoopStumbled)} == {"reducer"}
        attempts = [fact.attempt for fact in running.told(LoopStumbled)]
        assert max(attempts) == 3
        assert {thrown for thrown in running.dice.thrown if thrown[0] != 10} == {(20, 60)}


async def test_between_commits_that_fail_the_worker_waits_longer_and_longer() -> None:
    world = new_world()
    world.interrupt("store.commit", when="before", times=4)  # as on a full disk: reads go on
    async with working(world) as running:
        highest: list[float] = []

        def uniform(low: float, high: float) -> float:
            highest.append(high)
            return low + len(highest)

        running.worker._uniform = uniform
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        assert highest == [60, 63, 66, 69], "three times the wait before, each time"
        assert [fact.attempt for fact in running.told(LoopStumbled)] == [1, 2, 3, 4]
        assert running.attempts() == [1], "no conflict, so no attempt of the three is used up"


async def test_the_lock_comes_before_the_look() -> None:
    """The old backend may still be at work: what it does before the lock is ours is found."""
    world = new_world()
    late = action()
    told: list[Sequence[Outcome]] = []

    async def the_old_backend() -> None:
        if not told:
            told.append(await commit_beside(world, late))

    store = Disturbed(world.store, before_lock=the_old_backend)
    world.interrupt("store.commit", when="before")
    async with working(world, store=store) as running:
        (outcome,) = await running.outcomes(late)
        assert [outcome] == told[0]
        assert await state(world) == b'{"count":1,"total":1}'


async def test_what_the_log_brought_is_done_even_when_its_outcome_is_forgotten() -> None:
    world = new_world()

    async def forget() -> None:
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        assert await world.outcomes.cleanup_expired(10) in {0, 1}

    store = Disturbed(world.store, before_lock=forget)
    forgotten, both = action(remember_s=1.0), action("counter:2")
    await world.actions.append(0, [forgotten, both])
    world.interrupt("store.commit", when="after")
    async with working(world, store=store) as running:
        await until(lambda: len(running.answers) == 1, "the answer that is remembered")
        assert running.answers[0][0] == ("counter:2", both.action_id)
        assert await world.actions.position(0) == 3
        await running.outcomes(action("counter:2"))
        assert len(running.answers) == 1
        assert await state(world) == b'{"count":1,"total":1}', "not decided a second time"


async def test_who_submits_an_id_that_the_log_brings_too_is_answered_all_the_same() -> None:
    world = new_world()
    both = action()
    running = await hired(world)
    await world.actions.append(0, [both])
    async with world.store.locked(0):
        blocker = await running.submit(action("counter:2"))
        running.start()
        await until(lambda: len(running.worker._log_buffer) == 1, "the log to be read")
        (future,) = await running.submit(both)
        world.interrupt("store.commit", when="after", skip=1)
    await blocker[0]
    assert (await future).committed().version == 1
    await until(lambda: len(running.answers) == 1, "the log's answer")
    assert await world.actions.position(0) == 2
    running.worker.stop()
    assert await running.ended() is None


async def test_a_position_that_moved_elsewhere_ends_the_worker() -> None:
    world = new_world()
    await world.actions.append(0, [action(), action()])

    async def somebody_moves_on() -> None:
        await move_position(world, Move(1, 2))

    store = Disturbed(world.store, before_lock=somebody_moves_on)
    world.interrupt("store.commit", when="before")
    running = await hired(world, store=store)
    running.start()
    assert isinstance(await running.ended(), OwnershipLost)
    assert [fact.change for fact in running.told(OwnershipChanged)] == ["lost"]
