"""The partition worker: what it does when its commit is refused, or a value of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from omninode_bridge.core.errors import ValueRefused
from omninode_bridge.core.message import ReducerGaveUp
from omninode_bridge.core.observation import BatchCommitted, CommitRefused
from omninode_bridge.services import reducer_service
from tests.bridges import until
from tests.unit.workers import (
    KEY,
    Disturbed,
    Kind,
    action,
    both,
    commit_beside,
    hired,
    hired_as,
    new_world,
    working,
)

if TYPE_CHECKING:
    import pytest

# -- stale: folded again -----------------------------------------------------------


async def test_a_stale_key_is_folded_again_from_what_is_stored() -> None:
    world = new_world()
    async with working(world) as running:
        await running.outcomes(action(payload={"amount": 1}))
        await commit_beside(world, action(payload={"amount": 10}))
        stale, fresh = await running.outcomes(action(payload={"amount": 100}), action("counter:2"))
        assert (stale.committed().version, fresh.committed().version) == (3, 1)
        assert (await world.store.read([KEY]))[KEY].state == b'{"count":3,"total":111}'
        (refusal,) = running.told(CommitRefused)
        assert (refusal.stale_keys, refusal.known_actions) == (1, 0)
        assert running.attempts() == [1, 2]
        assert running.told(BatchCommitted)[-1].attempts == 2


async def test_a_give_up_is_decided_again_too() -> None:
    world = new_world()
    async with working(world) as running:
        await running.outcomes(action())
        await commit_beside(world, action())
        (refused,) = await running.outcomes(action(action_type="Refused"))
        assert isinstance(refused, ReducerGaveUp)
        assert (refused.version, refused.attempts) == (2, 2)


async def test_contention_alone_gives_up_nothing() -> None:
    world = new_world()
    store = Disturbed(world.store, before_commit=lambda: commit_beside(world, action()))
    async with working(world, store=store) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 3, "two were beside it, the third attempt is alone"
        assert running.attempts() == [3]
        assert len(running.told(CommitRefused)) == 2


async def test_the_waits_between_attempts_are_within_their_bounds() -> None:
    world = new_world()
    store = Disturbed(world.store, before_commit=lambda: commit_beside(world, action()))
    async with working(world, store=store) as running:
        await running.outcomes(action())
        # Decorrelated jitter; the dice showed 10 each time. None is thrown after the last attempt.
        assert running.dice.thrown == [(10, 30), (10, 30)]
    running = await hired(world, store=store, max_attempts=6, backoff_base_ms=1, backoff_cap_ms=5)
    highest: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert (low, high) >= (1, 1)
        highest.append(high)
        return high

    running.worker._uniform = uniform
    running.start()
    (outcome,) = await running.outcomes(action())
    assert isinstance(outcome.committed().version, int)
    assert highest == [3, 9, 15, 15, 15], "never beyond three times the cap of 5"
    assert running.attempts() == [6]
    running.worker.stop()
    await running.ended()


async def test_one_attempt_is_the_last_and_holds_the_partition() -> None:
    world = new_world()
    store = Disturbed(world.store, before_commit=lambda: commit_beside(world, action()))
    async with working(world, store=store, max_attempts=1) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        assert running.attempts() == [1]


async def test_the_last_attempt_answers_what_was_decided_meanwhile() -> None:
    world = new_world()
    first, fresh = action(), action()
    (outcome,) = await commit_beside(world, first)
    async with working(world, max_attempts=1) as running:
        again, new = await running.outcomes(first, fresh)
        assert (again, again.duplicate) == (outcome, True)
        assert new.committed().version == 2
        (only,) = await running.outcomes(first)
        assert only == outcome


async def test_a_batch_of_known_and_stale_is_answered_whole() -> None:
    world = new_world()
    async with working(world) as running:
        await running.outcomes(action())
        known = action()
        (outcome,) = await commit_beside(world, known)
        again, new = await running.outcomes(known, action())
        assert (again, again.duplicate) == (outcome, True)
        assert new.committed().version == 3
        (refusal,) = running.told(CommitRefused)
        assert (refusal.stale_keys, refusal.known_actions) == (1, 1)


# -- values no database could hold -----------------------------------------------------------


@both
async def test_only_the_action_with_the_bad_value_is_given_up(kind: Kind) -> None:
    world = new_world()
    running = await hired_as(kind, world)
    keys = [f"taken:{n % 3}" for n in range(10)]
    asked = [action(key, payload={"amount": n}) for n, key in enumerate(keys)]
    culprit = action("taken:1", "Stored\0")
    futures = await running.submit(*asked[:5], culprit, *asked[5:])
    running.start()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*futures)
    refused = outcomes.pop(5)
    assert isinstance(refused, ReducerGaveUp)
    assert (refused.reason, refused.action_id) == ("invalid", culprit.action_id)
    assert "22P05" in refused.detail
    versions = [outcome.committed().version for outcome in outcomes]
    assert versions == [1 + keys[:n].count(key) for n, key in enumerate(keys)]
    assert [gave_up.action_id for gave_up in world.gave_up(0)] == [culprit.action_id]
    (again,) = await running.outcomes(culprit)
    assert (again, again.duplicate) == (refused, True)
    running.worker.stop()
    assert await running.ended() is None


async def test_several_bad_ones_are_given_up_and_the_position_moves_past_them() -> None:
    world = new_world()
    types = ["Stored", "Stored\0", "Stored", "Stored\0", "Stored\0", "Stored", "Stored"]
    asked = [action(f"taken:{n}", each) for n, each in enumerate(types)]
    await world.actions.append(0, asked)
    async with working(world) as running:
        await until(lambda: len(running.answers) == len(types), "all answers")
        answers = dict(running.answers)
        for one in asked:
            outcome = answers[one.workflow_key, one.action_id]
            assert isinstance(outcome, ReducerGaveUp) == ("\0" in one.type)
        assert await world.actions.position(0) == len(types) + 1
        moves = [commit.position for commit, _ in running.commits if commit.position is not None]
        assert [(move.expected, move.next) for move in moves] == [(1, len(types) + 1)]
        assert running.commits[-1][0].position is not None, "the last part moves the position"


async def test_one_bad_id_asked_twice_is_answered_twice() -> None:
    running = await hired(new_world())
    culprit = action("taken:1", "Stored\0")
    futures = await running.submit(action(), culprit, culprit)
    running.start()
    async with asyncio.timeout(10):
        _, first, again = await asyncio.gather(*futures)
    assert isinstance(first, ReducerGaveUp)
    assert (first, first.duplicate, again.duplicate) == (again, False, True)
    running.worker.stop()
    await running.ended()


@both
async def test_a_give_up_that_cannot_be_stored_either_ends_the_worker(kind: Kind) -> None:
    running = await hired_as(kind, new_world())
    (future,) = await running.submit(action(remember_s=1e30))
    running.start()
    assert isinstance(await running.ended(), ValueRefused)
    assert not future.done()
    assert [ask.action.remember_s for ask in running.worker.leftovers()] == [1e30]


# -- too much for one commit -----------------------------------------------------------


async def test_a_batch_that_would_be_too_big_is_committed_in_parts_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # R13
    monkeypatch.setattr(reducer_service, "BATCH_BYTES_MAX", 200)
    world = new_world()
    running = await hired(world)
    asked = [action(f"counter:{n % 3}", payload={"amount": n}) for n in range(30)]
    futures = await running.submit(*asked)
    running.start()
    async with asyncio.timeout(20):
        told = await asyncio.gather(*futures)
    assert [outcome.committed().version for outcome in told] == [1 + n // 3 for n in range(30)]
    assert len(running.commits) > 1
    running.worker.stop()
    assert await running.ended() is None


async def test_one_action_is_never_too_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducer_service, "BATCH_BYTES_MAX", 1)
    world = new_world()
    async with working(world) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
