"""The direct path: a transaction for each action, decided under the lock, answered after its end.

What it promises in the same words as the partition worker is in the tests of that one, marked
`both`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from omninode_bridge.core.commit import Commit, Move
from omninode_bridge.core.errors import BridgeClosed, OwnershipLost, ValueRefused
from omninode_bridge.core.message import ReducerGaveUp
from omninode_bridge.core.observation import (
    BatchCommitted,
    CommitRefused,
    LoopStumbled,
    OwnershipChanged,
)
from omninode_bridge.services.direct_path import PAGE_MAX, DirectPath
from tests.bridges import until
from tests.unit.workers import (
    KEY,
    LEASE,
    OWNER,
    RIVAL,
    Disturbed,
    Running,
    action,
    commit_beside,
    hired_as,
    new_world,
    some_turns,
    working,
    working_as,
)

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from omninode_bridge.testing import MemoryWorld
    from omninode_bridge.testing.interruptions import Call, When


async def direct(world: MemoryWorld, **options: Any) -> Running[DirectPath]:  # noqa: ANN401 - handed on as they are
    """Return a direct path that has not begun."""
    return await hired_as(DirectPath, world, **options)


def directly(
    world: MemoryWorld,
    **options: Any,  # noqa: ANN401 - handed on as they are
) -> AbstractAsyncContextManager[Running[DirectPath]]:
    """Run a direct path for the length of the block."""
    return working_as(DirectPath, world, **options)


async def state(world: MemoryWorld) -> bytes:
    """Return the stored state of the key."""
    return (await world.store.read([KEY]))[KEY].state


async def take_away(world: MemoryWorld) -> None:
    """Let somebody else own the partition."""
    await world.leases.release(OWNER)
    await world.leases.acquire(RIVAL, "a rival", LEASE, [0])


# -- one action, one transaction -----------------------------------------------------------


async def test_each_action_has_a_commit_of_its_own_in_the_order_it_was_handed_over() -> None:
    running = await direct(new_world())
    asked = [action(f"counter:{n % 3}", payload={"amount": n}) for n in range(30)]
    futures = await running.submit(*asked)
    running.start()
    running.worker.stop()
    assert await running.ended() is None
    assert [future.result().version for future in futures] == [1 + n // 3 for n in range(30)]
    assert [len(commit.steps) for commit, _ in running.commits] == [1] * 30
    entries = await running.world.projections.read(0, 1, 100)
    assert [entry.workflow_key for entry in entries] == [one.workflow_key for one in asked]
    assert running.worker.leftovers() == []
    with pytest.raises(BridgeClosed):
        await running.worker.submit(action())


async def test_each_commit_is_told_with_what_it_did() -> None:
    first = action()
    async with directly(new_world()) as running:
        await running.outcomes(first, action(action_type="Refused"))
        await running.world.actions.append(0, [first])
        running.worker.log_grew()
        await until(lambda: len(running.told(BatchCommitted)) == 3, "three facts")
        facts = [
            (each.actions, each.keys, each.committed, each.gave_up, each.duplicates, each.attempts)
            for each in running.told(BatchCommitted)
        ]
        assert facts == [(1, 1, 1, 0, 0, 1), (1, 1, 0, 1, 0, 1), (1, 0, 0, 0, 1, 1)]


async def test_what_is_decided_on_is_read_under_the_lock() -> None:
    world = new_world()

    async def somebody_commits() -> None:
        await commit_beside(world, action(payload={"amount": 10}))

    store = Disturbed(world.store, before_lock=somebody_commits)
    async with directly(world, store=store) as running:
        first, second = await running.outcomes(action(), action(action_type="Refused"))
        assert (first.committed().version, second.version) == (2, 3)
        assert running.told(CommitRefused) == []
        assert await state(world) == b'{"count":3,"total":21}'


async def test_the_same_id_at_once_is_one_action() -> None:
    running = await direct(new_world())
    first = action()
    other = replace(first, payload=b'{"amount":2}')
    elsewhere = replace(first, workflow_key="counter:2")
    futures = await running.submit(first, first, other, elsewhere)
    running.start()
    async with asyncio.timeout(10):
        one, again, reused, another = await asyncio.gather(*futures)
    assert one == again
    assert (one.duplicate, again.duplicate) == (False, True)
    assert isinstance(reused, ReducerGaveUp)
    assert (reused.reason, reused.version) == ("id_reused", 1)
    assert another.committed().version == 1
    assert len(running.commits) == 2, "who asks again costs no commit"
    running.worker.stop()
    await running.ended()


# -- the two doors -----------------------------------------------------------


async def test_the_doors_take_turns() -> None:
    world = new_world()
    await world.actions.append(0, [action("counter:log") for _ in range(PAGE_MAX + 5)])
    running = await direct(world)
    futures = await running.submit(*(action("counter:submitted") for _ in range(20)))
    running.start()
    await until(lambda: len(running.answers) == PAGE_MAX + 5, "the log's answers")
    await asyncio.gather(*futures)
    keys = [commit.steps[0].action.workflow_key for commit, _ in running.commits]
    assert keys[:40] == ["counter:log", "counter:submitted"] * 20
    moves = [commit.position for commit, _ in running.commits if commit.position is not None]
    assert moves == [Move(n, n + 1) for n in range(1, PAGE_MAX + 6)]
    running.worker.stop()
    assert await running.ended() is None


async def test_a_hint_during_a_look_at_the_log_is_not_lost() -> None:
    world = new_world()
    async with directly(world) as running:
        await some_turns()
        looked = asyncio.Event()
        read = world.actions.read

        async def slowly(partition: int, position: int, limit: int) -> Any:  # noqa: ANN401 - whatever a test says
            page = await read(partition, position, limit)
            looked.set()
            await some_turns(5)
            return page

        world.actions.read = slowly  # type: ignore[method-assign]
        running.worker.log_grew()
        async with asyncio.timeout(10):
            await looked.wait()
        world.actions.read = read  # type: ignore[method-assign]
        await world.actions.append(0, [action()])
        running.worker.log_grew()
        await some_turns(60)
        assert len(running.answers) == 1, "without waiting for the next poll"


async def test_who_stops_leaves_the_log_to_the_next_owner() -> None:
    world = new_world()
    asked = [action() for _ in range(9)]
    running = await direct(world)
    (future,) = await running.submit(action("counter:2"))
    await world.actions.append(0, asked)
    running.worker._answer = lambda _action, _outcome: running.worker.stop()
    running.start()
    assert await running.ended() is None
    assert future.result().version == 1, "what was submitted is answered all the same"
    assert await world.actions.position(0) == 2
    async with working(world) as following:
        await until(lambda: len(following.answers) == 8, "the other answers")
        assert [name for name, _ in following.answers] == [(KEY, a.action_id) for a in asked[1:]]
    assert await state(world) == b'{"count":9,"total":9}'


async def test_without_a_token_the_log_is_left_to_the_owner() -> None:
    world = new_world()
    beside = await direct(world)
    beside.worker.owner = None
    await world.actions.append(0, [action("counter:log")])
    beside.start()
    (outcome,) = await beside.outcomes(action())
    assert outcome.committed().version == 1
    assert await world.actions.position(0) == 1
    async with working(world) as owner:
        await until(lambda: len(owner.answers) == 1, "the owner's answer")
        futures = []
        for _ in range(10):
            futures += await beside.submit(action())
            futures += await owner.submit(action())
        async with asyncio.timeout(10):
            told = await asyncio.gather(*futures)
        assert sorted(outcome.version for outcome in told) == list(range(2, 22))
        assert owner.told(OwnershipChanged) == []
    beside.worker.stop()
    assert await beside.ended() is None
    assert await state(world) == b'{"count":21,"total":21}'


# -- who lost the partition (R12) -----------------------------------------------------------


@pytest.mark.parametrize("door", ["submit", "log"])
@pytest.mark.parametrize("action_type", ["Counted", "Refused"])
async def test_the_loser_decides_nothing_and_keeps_what_it_was_asked(
    door: str, action_type: str
) -> None:
    world = new_world()
    running = await direct(world)
    asked = [action(action_type=action_type), action(), action("counter:2")]
    if door == "log":
        await world.actions.append(0, [action(action_type=action_type)])
    futures = await running.submit(*asked)
    await take_away(world)
    running.start()
    error = await running.ended()
    assert isinstance(error, OwnershipLost)
    assert "owned by another process" in str(error)
    assert await world.store.read([KEY, "counter:2"]) == {}
    assert world.gave_up(0) == ()
    assert await world.actions.position(0) == 1
    assert not any(future.done() for future in futures)
    assert [fact.change for fact in running.told(OwnershipChanged)] == ["lost"]
    assert [fact.not_owner for fact in running.told(CommitRefused)] == [True]
    leftovers = running.worker.leftovers()
    assert [ask.action for ask in leftovers] == asked, "and goes another way, in order"
    assert [ask.future for ask in leftovers] == futures
    with pytest.raises(BridgeClosed):
        running.worker.submit_now(action())


async def test_who_waits_for_room_at_the_loser_is_told_to_go_another_way() -> None:
    world = new_world()
    running = await direct(world, inbox_max=1)
    await world.actions.append(0, [action()])
    await running.submit(action())
    second = asyncio.create_task(running.worker.submit(action()))
    await take_away(world)
    running.start()
    assert isinstance(await running.ended(), OwnershipLost)
    async with asyncio.timeout(10):
        with pytest.raises(BridgeClosed):
            await second


async def test_a_position_that_moved_elsewhere_is_ownership_lost_after_a_lost_reply_too() -> None:
    world = new_world()
    await world.actions.append(0, [action()])

    async def somebody_moves_on() -> None:
        move = Move(await world.actions.position(0), 3)  # further than our own try would have
        await world.store.commit(Commit(0, None, {}, [], world.clock(), OWNER, move))

    store = Disturbed(world.store, before_lock=somebody_moves_on)
    world.interrupt("store.locked", when="before")
    running = await direct(world, store=store)
    running.start()
    error = await running.ended()
    assert isinstance(error, OwnershipLost)
    assert "has moved without us" in str(error)
    assert await world.store.read([KEY]) == {}


# -- a lost reply is unknown -----------------------------------------------------------

LOST: list[tuple[Call, When]] = [
    ("store.locked", "before"),
    ("store.locked", "after"),
    ("locked.recall", "before"),
    ("locked.read", "after"),
    ("locked.commit", "before"),
    ("locked.commit", "after"),
]


@pytest.mark.parametrize(("call", "when"), LOST)
async def test_what_was_submitted_is_decided_once_whatever_was_lost(call: Call, when: When) -> None:
    world = new_world()
    async with directly(world) as running:
        await running.outcomes(action(payload={"amount": 1}))
        world.interrupt(call, when=when, times=1)
        asked = [action(payload={"amount": 10}), action(action_type="Refused")]
        counted, refused = await running.outcomes(*asked)
        assert counted.committed().version == 2
        assert counted.duplicate == ((call, when) == ("store.locked", "after"))
        assert isinstance(refused, ReducerGaveUp)
        assert await state(world) == b'{"count":2,"total":11}'
        assert [outcome.action_id for outcome in world.gave_up(0)] == [asked[1].action_id]
        assert [fact.loop for fact in running.told(LoopStumbled)] == ["reducer"]
        assert running.told(CommitRefused) == []


@pytest.mark.parametrize(("call", "when"), LOST)
async def test_what_came_by_the_log_is_decided_once_and_the_position_moves_with_it(
    call: Call, when: When
) -> None:
    world = new_world()
    asked = [action(payload={"amount": 1}), action(action_type="Refused"), action()]
    await world.actions.append(0, asked)
    world.interrupt(call, when=when, skip=1)
    async with directly(world) as running:
        await until(lambda: len(running.answers) == 3, "three answers")
        assert [name for name, _ in running.answers] == [(KEY, one.action_id) for one in asked]
        await until(lambda: len(running.told(LoopStumbled)) == 1, "the stumble")
        assert await world.actions.position(0) == 4
        assert await state(world) == b'{"count":2,"total":2}'
        assert len(world.gave_up(0)) == 1
        assert running.told(OwnershipChanged) == []


async def test_what_the_log_brought_is_done_even_when_its_outcome_is_forgotten() -> None:
    world = new_world()

    async def forget() -> None:
        world.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
        await world.outcomes.cleanup_expired(10)

    store = Disturbed(world.store, before_lock=forget)
    await world.actions.append(0, [action(remember_s=1.0), action("counter:2")])
    world.interrupt("store.locked", when="after")
    async with directly(world, store=store) as running:
        await until(lambda: len(running.answers) == 1, "the answer that is remembered")
        assert running.answers[0][0][0] == "counter:2"
        assert await world.actions.position(0) == 3
        assert await state(world) == b'{"count":1,"total":1}', "not decided a second time"


async def test_it_asks_until_the_database_answers_and_waits_longer_each_time() -> None:
    world = new_world()
    world.interrupt("actions.position", when="before", times=2)
    world.interrupt("actions.read", when="after", times=1)
    world.interrupt("store.locked", when="before", times=4)
    running = await direct(world)
    highest: list[float] = []

    def uniform(low: float, high: float) -> float:
        highest.append(high)
        return low + len(highest)

    running.worker._uniform = uniform
    running.start()
    (outcome,) = await running.outcomes(action())
    assert outcome.committed().version == 1
    assert [fact.attempt for fact in running.told(LoopStumbled)] == [1, 2, 1, 1, 2, 3, 4]
    assert highest[3:] == [60, 72, 75, 78], "three times the wait before, each time"
    running.worker.stop()
    assert await running.ended() is None


# -- values no database could hold -----------------------------------------------------------


async def test_bad_values_are_given_up_and_the_position_moves_past_them() -> None:
    world = new_world()
    types = ["Stored", "Stored\0", "Stored", "Stored\0", "Stored\0", "Stored"]
    asked = [action(f"taken:{n % 2}", each) for n, each in enumerate(types)]
    await world.actions.append(0, asked)
    async with directly(world) as running:
        await until(lambda: len(running.answers) == len(types), "all answers")
        answers = dict(running.answers)
        for one in asked:
            outcome = answers[one.workflow_key, one.action_id]
            assert isinstance(outcome, ReducerGaveUp) == ("\0" in one.type)
        refusals = [step for commit, _ in running.commits for step in commit.steps]
        kept = [getattr(step, "payload_kept", True) for step in refusals]
        assert kept == ["\0" not in one.type for one in asked]
        assert await world.actions.position(0) == len(types) + 1


async def test_a_give_up_that_cannot_be_stored_stays_in_the_log() -> None:
    world = new_world()
    await world.actions.append(0, [action(remember_s=1e30)])
    running = await direct(world)
    running.start()
    assert isinstance(await running.ended(), ValueRefused)
    assert await world.actions.position(0) == 1
