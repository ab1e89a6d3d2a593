"""The partition worker and hints: they save work, and whatever they say the results are the same.

One history is worked off again and again, with hints that are silent, forgetful or lying; what
everybody was told, the states and the logs have to be equal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.message import Outcome, ReducerGaveUp, SealedAction, StateCommitted
from omninode_bridge.core.observation import BatchCommitted, CommitRefused, HintsFollowed
from tests.unit.workers import KEY, Running, action, commit_beside, new_world, working

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from omninode_bridge.ports import Hints
    from omninode_bridge.services.reducer_service import ReducerService
    from omninode_bridge.testing import MemoryWorld

NOBODY: Final = UUID(int=0)
KEYS: Final = (KEY, "counter:2")


class Everything:
    """Hints that claim to have seen every id there is."""

    async def seen(self, ids: Collection[UUID]) -> Collection[UUID]:
        return ids

    def remember(self, ids: Iterable[UUID]) -> None:
        pass


class Nothing(Everything):
    """Hints that never say a word."""

    async def seen(self, ids: Collection[UUID]) -> Collection[UUID]:  # noqa: ARG002 - the port's
        return ()


class Strangers(Everything):
    """Hints that name what they were not asked about."""

    async def seen(self, ids: Collection[UUID]) -> Collection[UUID]:
        return [UUID(int=each.int + 1) for each in ids]


# -- work that is saved ------------------------------------------------------------


async def test_what_is_asked_again_is_answered_without_a_refused_commit() -> None:
    world = new_world()
    async with working(world) as running:
        asked = action()
        (first,) = await running.outcomes(asked)
        again, other = await running.outcomes(asked, action("counter:2"))
        assert again == first
        assert again.duplicate
        assert not other.duplicate
        assert running.told(CommitRefused) == []
        assert running.told(HintsFollowed) == [HintsFollowed(0, 1, 1)]
        assert running.told(BatchCommitted)[-1].duplicates == 1


async def test_a_give_up_that_is_asked_again_is_answered_likewise() -> None:
    async with working(new_world()) as running:
        asked = action(action_type="Refused")
        (first,) = await running.outcomes(asked)
        (again,) = await running.outcomes(asked)
        assert again == first
        assert isinstance(again, ReducerGaveUp)
        assert running.told(CommitRefused) == []


async def test_another_content_under_a_seen_id_is_an_id_reused() -> None:
    async with working(new_world()) as running:
        asked = action()
        await running.outcomes(asked)
        (again,) = await running.outcomes(replace(asked, payload=b'{"amount":2}'))
        assert isinstance(again, ReducerGaveUp)
        assert again.reason == "id_reused"
        assert running.told(CommitRefused) == []


async def test_what_came_by_the_log_and_is_known_moves_the_position_all_the_same() -> None:
    world = new_world()
    async with working(world) as running:
        asked = action()
        (first,) = await running.outcomes(asked)
        await world.actions.append(0, [asked])
        running.worker.log_grew()
        (fresh,) = await running.outcomes(action())
        assert fresh.committed().version == 2
    assert await world.actions.position(0) == 2
    assert running.answers == [((KEY, asked.action_id), first)]
    assert running.told(CommitRefused) == []


async def test_what_another_process_passed_on_is_answered_without_a_refused_commit() -> None:
    world = new_world()
    asked = action()
    (first,) = await commit_beside(world, asked)
    world.hints.remember([asked.action_id])
    async with working(world, hints=world.hints) as running:
        (again,) = await running.outcomes(asked)
        assert again == first
        assert running.told(CommitRefused) == []


async def test_what_is_decided_is_passed_on_and_what_is_found_known_too() -> None:
    world = new_world()
    before, now = action(), action()
    await commit_beside(world, before)
    async with working(world, hints=world.hints) as running:
        await running.outcomes(now)
        await running.outcomes(before)
        assert running.told(CommitRefused) != []
    assert world.hints.ids == {before.action_id, now.action_id}


async def test_a_worker_that_has_seen_an_id_asks_nobody_else_about_it() -> None:
    world = new_world()
    async with working(world, hints=world.hints) as running:
        asked = action()
        await running.outcomes(asked)
        world.hints.ids.clear()
        await running.outcomes(asked)
        assert running.told(CommitRefused) == []


# -- results that are the same -----------------------------------------------------


async def test_a_hint_that_lies_costs_a_look_and_changes_nothing() -> None:
    async with working(new_world(), hints=Everything()) as running:
        (outcome,) = await running.outcomes(action())
        assert outcome.committed().version == 1
        assert not outcome.duplicate
        assert running.told(HintsFollowed) == [HintsFollowed(0, 1, 0)]
        assert running.told(CommitRefused) == []


async def test_an_id_that_was_forgotten_meanwhile_is_folded_like_a_new_one() -> None:
    world = new_world()
    async with working(world) as running:
        asked = action()
        await running.outcomes(asked)
        world._tables.outcomes.clear()
        (again,) = await running.outcomes(asked)
        assert again.committed().version == 2, "presence of the row decides"
        assert not again.duplicate


async def test_an_id_that_fell_out_at_the_bound_is_found_by_the_commit() -> None:
    world = new_world()
    async with working(world, recent_ids_max=4) as running:
        asked = action()
        (first,) = await running.outcomes(asked)
        await running.outcomes(*(action() for _ in range(4)))
        (again,) = await running.outcomes(asked)
        assert again == first
        assert [fact.known_actions for fact in running.told(CommitRefused)] == [1]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_look_that_fails_is_left_to_the_commit(times: int) -> None:
    world = new_world()
    async with working(world) as running:
        asked = action()
        (first,) = await running.outcomes(asked)
        world.interrupt("store.recall", when="before", times=times)
        (again,) = await running.outcomes(asked)
        assert again == first
        assert [fact.known_actions for fact in running.told(CommitRefused)] == [1]
        assert running.told(HintsFollowed) == []


async def worked_off(
    world: MemoryWorld,
    **options: Any,  # noqa: ANN401 - of the worker
) -> tuple[Running[ReducerService], list[Outcome]]:
    """Work off one history: fresh ones, repeats in a batch and later, rejections, reused ids."""
    ids = [UUID(int=number) for number in range(1, 9)]

    def ask(number: int, key: str = KEY, **terms: Any) -> SealedAction:  # noqa: ANN401 - handed on as they are
        return action(key, action_id=ids[number], **terms)

    history = [
        [ask(0), ask(1, "counter:2"), ask(0)],
        [ask(0), ask(2), ask(1, "counter:2"), ask(3, action_type="Refused")],
        [ask(3, action_type="Refused"), ask(0, payload={"amount": 7}), ask(4)],
        [ask(0, "counter:2"), ask(5, action_type="Raised", payload={"message": "oh"})],
        [ask(5, action_type="Raised", payload={"message": "oh"}), ask(6), ask(6), ask(2)],
    ]
    await commit_beside(world, ask(7, "counter:2"))
    outcomes: list[Outcome] = []
    async with working(world, **options) as running:
        for batch in history:
            outcomes += await running.outcomes(*batch, ask(7, "counter:2"))
    return running, outcomes


def plain(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes without the id of the commit, which depends on how many were tried."""
    return [
        replace(each, provenance=replace(each.provenance, effect_id=NOBODY))
        if isinstance(each, StateCommitted)
        else each
        for each in outcomes
    ]


@pytest.mark.parametrize(
    "hints", [Everything(), Nothing(), Strangers()], ids=lambda h: type(h).__name__
)
@pytest.mark.parametrize("recent_ids_max", [2, 100])
async def test_outcomes_states_and_logs_are_the_same_whatever_hints_say(
    hints: Hints, recent_ids_max: int
) -> None:
    world, without = new_world(), new_world()
    _, outcomes = await worked_off(world, hints=hints, recent_ids_max=recent_ids_max)
    running, expected = await worked_off(without, hints=without.hints, recent_ids_max=2)
    assert plain(outcomes) == plain(expected)
    assert [one.duplicate for one in outcomes] == [one.duplicate for one in expected]
    assert await world.store.read(KEYS) == await without.store.read(KEYS)
    assert await world.projections.read(0, 1, 100) == await without.projections.read(0, 1, 100)
    assert world.gave_up(0) == without.gave_up(0)
    assert running.told(BatchCommitted) != []
