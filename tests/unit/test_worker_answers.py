"""The partition worker: who is answered what, in which order, and not before it is durable."""

from __future__ import annotations

import asyncio

import pytest

from omninode_bridge.core.errors import BridgeClosed
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted
from omninode_bridge.core.observation import BatchCommitted
from omninode_bridge.services.reducer_service import LOG_BUFFER_MAX
from tests.bridges import until
from tests.unit.workers import (
    KEY,
    Kind,
    action,
    both,
    commit_beside,
    hired,
    hired_as,
    new_world,
    some_turns,
    working,
    working_as,
)


@both
async def test_one_action_is_handled_and_its_outcome_returned(kind: Kind) -> None:
    async with working_as(kind, new_world()) as running, asyncio.timeout(10):
        outcome = (await running.worker.handle_action(action())).committed()
        assert (outcome.version, outcome.commit_offset, outcome.duplicate) == (1, 1, False)


async def test_what_was_handed_over_in_order_is_decided_in_that_order() -> None:
    running = await hired(new_world())
    asked = [action(f"counter:{n % 3}", payload={"amount": n}) for n in range(30)]
    order: list[int] = []
    for n, future in enumerate(await running.submit(*asked)):
        future.add_done_callback(lambda _, n=n: order.append(n))  # type: ignore[misc]
    running.start()
    running.worker.stop()
    assert await running.ended() is None
    await some_turns()
    for key in range(3):
        assert [n for n in order if n % 3 == key] == list(range(key, 30, 3))
    entries = await running.world.projections.read(0, 1, 100)
    for key in range(3):
        theirs = [entry for entry in entries if entry.workflow_key == f"counter:{key}"]
        assert [entry.version for entry in theirs] == list(range(1, 11))
    assert len(running.commits) == 1, "what is there at once is one batch"


async def test_the_outcomes_of_a_batch_are_those_of_its_commit() -> None:
    running = await hired(new_world())
    futures = await running.submit(action(), action(action_type="Refused"), action())
    running.start()
    async with asyncio.timeout(10):
        first, refused, second = await asyncio.gather(*futures)
    assert [first.version, refused.version, second.version] == [1, 1, 2]
    assert isinstance(refused, ReducerGaveUp)
    assert (refused.reason, refused.attempts) == ("rejected", 1)
    fact = running.told(BatchCommitted)[0]
    assert (fact.actions, fact.keys, fact.committed, fact.gave_up) == (3, 1, 2, 1)
    assert (fact.duplicates, fact.attempts) == (0, 1)
    running.worker.stop()
    await running.ended()


@both
async def test_nobody_is_answered_before_the_commit_is_durable(kind: Kind) -> None:
    world = new_world()
    async with working_as(kind, world) as running:
        async with world.store.locked(0):
            counted, turned_down = await running.submit(action(), action(action_type="Refused"))
            await some_turns()
            assert not counted.done()
            assert not turned_down.done()
            assert running.commits == []
        async with asyncio.timeout(10):
            version = (await counted).version
            assert (await world.store.read([KEY]))[KEY].version == version == 1
            assert len(world.gave_up(0)) == 1
            await turned_down


@both
async def test_the_commit_is_told_before_anybody_is_answered(kind: Kind) -> None:
    world = new_world()
    running = await hired_as(kind, world)
    (future,) = await running.submit(action())
    seen: list[bool] = []
    running.worker._committed = lambda _commit, _accepted: seen.append(future.done())
    running.start()
    await future
    assert seen == [False]
    running.worker.stop()
    await running.ended()


async def test_while_a_commit_is_under_way_the_next_batch_gathers() -> None:
    world = new_world()
    async with working(world) as running:
        async with world.store.locked(0):
            (first,) = await running.submit(action())
            await some_turns()
            others = await running.submit(*(action(f"counter:{n}") for n in range(20)))
        async with asyncio.timeout(10):
            await asyncio.gather(first, *others)
        assert [len(commit.steps) for commit, _ in running.commits] == [1, 20]


@both
async def test_what_is_bad_is_given_up_alone(kind: Kind) -> None:
    async with working_as(kind, new_world()) as running:
        outcomes = await running.outcomes(
            action(),
            action("stranger:1"),
            action(action_type="Raised", payload={"message": "loud"}),
            action(expected_version=7),
            action(expected_version=1),
        )
        reasons = [getattr(outcome, "reason", "committed") for outcome in outcomes]
        assert reasons == ["committed", "invalid", "reducer_error", "conflict", "committed"]


@both
async def test_who_no_longer_waits_is_no_trouble(kind: Kind) -> None:
    running = await hired_as(kind, new_world())
    gone, waiting = await running.submit(action(), action())
    gone.cancel()
    running.start()
    async with asyncio.timeout(10):
        assert (await waiting).version == 2
    running.worker.stop()
    assert await running.ended() is None


# -- the same id again -----------------------------------------------------------


async def test_one_id_in_one_batch_is_one_action() -> None:
    running = await hired(new_world())
    first = action()
    other = action(payload={"amount": 2}, action_id=first.action_id)
    elsewhere = action("counter:2", action_id=first.action_id)
    futures = await running.submit(first, first, other, elsewhere)
    running.start()
    async with asyncio.timeout(10):
        one, again, reused, another = await asyncio.gather(*futures)
    assert one == again
    assert (one.duplicate, again.duplicate) == (False, True)
    assert isinstance(reused, ReducerGaveUp)
    assert reused.reason == "id_reused"
    assert another.committed().version == 1
    assert running.told(BatchCommitted)[0].duplicates == 2
    assert (await running.world.store.read([KEY]))[KEY].version == 1
    running.worker.stop()
    await running.ended()


@pytest.mark.parametrize("action_type", ["Counted", "Refused"])
@both
async def test_one_id_in_two_batches_has_its_first_outcome(kind: Kind, action_type: str) -> None:
    async with working_as(kind, new_world()) as running:
        first = action(action_type=action_type)
        (outcome,) = await running.outcomes(first)
        await running.outcomes(action())
        again, neighbour = await running.outcomes(first, action())
        assert again == outcome
        assert (outcome.duplicate, again.duplicate) == (False, True)
        assert neighbour.committed().version == (3 if action_type == "Counted" else 2)
        (reused,) = await running.outcomes(action(action_type="Other", action_id=first.action_id))
        assert isinstance(reused, ReducerGaveUp)
        assert (reused.reason, reused.version) == ("id_reused", outcome.version)
        assert len(running.world.gave_up(0)) == (0 if action_type == "Counted" else 1)


@both
async def test_a_worker_answers_what_another_one_had_decided(kind: Kind) -> None:
    world = new_world()
    first = action()
    (outcome,) = await commit_beside(world, first)
    async with working_as(kind, world) as running:
        (again,) = await running.outcomes(first)
        assert (again, again.duplicate) == (outcome, True)


# -- the two doors -----------------------------------------------------------


@both
async def test_what_comes_by_the_log_is_decided_and_moves_the_position(kind: Kind) -> None:
    world = new_world()
    asked = [action(), action(action_type="Refused"), action()]
    await world.actions.append(0, asked)
    async with working_as(kind, world) as running:
        await until(lambda: len(running.answers) == 3, "three answers")
        assert [name for name, _ in running.answers] == [(KEY, one.action_id) for one in asked]
        assert [type(outcome) for _, outcome in running.answers] == [
            StateCommitted,
            ReducerGaveUp,
            StateCommitted,
        ]
        assert await world.actions.position(0) == 4
        await world.actions.append(0, [action()])
        running.worker.log_grew()
        await until(lambda: len(running.answers) == 4, "the fourth answer")
        assert await world.actions.position(0) == 5


@both
async def test_the_log_is_looked_at_without_a_hint_too(kind: Kind) -> None:
    world = new_world()
    async with working_as(kind, world) as running:
        await some_turns()
        await world.actions.append(0, [action()])
        await until(lambda: len(running.answers) == 1, "an answer")


@both
async def test_a_worker_goes_on_where_the_last_one_was(kind: Kind) -> None:
    world = new_world()
    await world.actions.append(0, [action(), action()])
    async with working_as(kind, world) as first:
        await until(lambda: len(first.answers) == 2, "two answers")
    await world.actions.append(0, [action()])
    async with working_as(kind, world) as second:
        await until(lambda: len(second.answers) == 1, "an answer")
        assert second.answers[0][1].version == 3


@both
async def test_a_duplicate_in_the_log_is_answered_and_passed(kind: Kind) -> None:
    world = new_world()
    first = action()
    await world.actions.append(0, [first])
    async with working_as(kind, world) as running:
        await until(lambda: len(running.answers) == 1, "an answer")
        await world.actions.append(0, [first, action()])
        running.worker.log_grew()
        await until(lambda: len(running.answers) == 3, "the other answers")
        assert running.answers[1][1] == running.answers[0][1]
        assert await world.actions.position(0) == 4
        assert (await world.store.read([KEY]))[KEY].version == 2


async def test_both_doors_have_their_half_of_a_full_batch() -> None:
    world = new_world()
    await world.actions.append(0, [action("counter:log") for _ in range(30)])
    running = await hired(world, batch_max=10)
    futures = await running.submit(*(action("counter:submitted") for _ in range(20)))
    async with world.store.locked(0):  # the first batch waits, and the reader fills its buffer
        running.start()
        await some_turns()
    async with asyncio.timeout(10):
        await asyncio.gather(*futures)
        await until(lambda: len(running.answers) == 30, "the log's answers")
    doors = [
        [step.action.workflow_key for step in commit.steps].count("counter:log")
        for commit, _ in running.commits
    ]
    assert doors == [0, 5, 5, 10, 10]
    assert {len(commit.steps) for commit, _ in running.commits} == {10}
    running.worker.stop()
    await running.ended()


# -- bounds -----------------------------------------------------------


@both
async def test_a_full_inbox_makes_who_submits_wait(kind: Kind) -> None:
    running = await hired_as(kind, new_world(), inbox_max=2)
    await running.submit(action(), action())
    assert running.worker.submit_now(action()) is None
    third = asyncio.create_task(running.worker.submit(action()))
    await some_turns()
    assert not third.done()
    running.start()
    async with asyncio.timeout(10):
        assert (await (await third)).version == 3
    running.worker.stop()
    await running.ended()


@both
async def test_who_waits_for_room_is_told_when_there_will_be_none(kind: Kind) -> None:
    running = await hired_as(kind, new_world(), inbox_max=1)
    await running.submit(action())
    second = asyncio.create_task(running.worker.submit(action()))
    await some_turns()
    running.worker.stop()
    with pytest.raises(BridgeClosed):
        await second


async def test_the_log_is_not_read_further_than_there_is_room() -> None:
    world = new_world()
    await world.actions.append(0, [action(f"counter:{n % 7}") for n in range(3_000)])
    running = await hired(world)
    async with world.store.locked(0):
        running.start()
        await some_turns(100)
        assert len(running.worker._log_buffer) <= LOG_BUFFER_MAX
    await until(lambda: len(running.answers) == 3_000, "all answers")
    assert await world.actions.position(0) == 3_001
    assert {len(commit.steps) for commit, _ in running.commits} == {500}
    running.worker.stop()
    assert await running.ended() is None


async def test_a_worker_that_is_stopped_answers_what_it_took_and_takes_no_more() -> None:
    running = await hired(new_world(), batch_max=3)
    futures = await running.submit(*(action() for _ in range(8)))
    running.start()
    running.worker.stop()
    with pytest.raises(BridgeClosed):
        await running.worker.submit(action())
    assert await running.ended() is None
    assert [future.result().version for future in futures] == list(range(1, 9))
    assert running.worker.leftovers() == []
