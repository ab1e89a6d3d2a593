"""Both workers on actions that cancel and redrive others (R3)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from omninode_bridge.core.message import (
    Outcome,
    ReducerGaveUp,
    SealedAction,
    StateCommitted,
    reply_id,
)
from omninode_bridge.ports import CutOff
from tests.unit.workers import CODEC, KEY, action, both, hired_as, new_world, working_as

if TYPE_CHECKING:
    from omninode_bridge.testing import MemoryWorld
    from omninode_bridge.testing.interruptions import Call, When
    from tests.unit.workers import Kind

pytestmark = both


async def asked(kind: Kind, world: MemoryWorld, *actions: SealedAction) -> list[Outcome]:
    """Hand `actions` over at once and return what became of them."""
    running = await hired_as(kind, world)
    futures = await running.submit(*actions)
    running.start()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*futures)
    running.worker.stop()
    assert await running.ended() is None
    return outcomes


def reason(outcome: Outcome) -> str:
    """Return why an action was given up."""
    assert isinstance(outcome, ReducerGaveUp), outcome
    return outcome.reason


async def test_a_cancellation_before_the_action_wins_and_one_behind_it_loses(kind: Kind) -> None:
    world = new_world()
    early, late = action(), action()
    told = await asked(
        kind, world, replace(early, purpose="cancel"), early, late, replace(late, purpose="cancel")
    )
    assert [reason(told[0]), reason(told[1])] == ["cancelled", "cancelled"]
    assert isinstance(told[2], StateCommitted)
    assert told[3] == told[2]
    assert (await world.store.read([KEY]))[KEY].version == 1


async def test_a_cancellation_holds_against_an_action_that_comes_another_day(kind: Kind) -> None:
    world, late = new_world(), action()
    await asked(kind, world, replace(late, purpose="cancel"))
    (outcome,) = await asked(kind, world, late)
    assert reason(outcome) == "cancelled"
    assert KEY not in await world.store.read([KEY])


async def test_a_redriven_action_is_applied_and_whoever_asks_again_hears_of_that(
    kind: Kind,
) -> None:
    world, broken = new_world(), action(action_type="Refused")
    (first,) = await asked(kind, world, broken)
    assert reason(first) == "rejected"
    redriven = replace(broken, type="Counted", purpose="redrive", remember_s=None)
    for _ in range(2):
        (outcome,) = await asked(kind, world, redriven)
        assert isinstance(outcome, StateCommitted)
        assert outcome.version == 1
    (again,) = await asked(kind, world, replace(broken, type="Counted"))
    assert again == outcome


async def test_a_duplicate_beside_a_redrive_does_not_keep_it_from_being_applied(
    kind: Kind,
) -> None:
    world, broken = new_world(), action(action_type="Refused")
    await asked(kind, world, broken)
    plain = replace(broken, type="Counted")
    told = await asked(kind, world, plain, replace(plain, purpose="redrive"), plain)
    assert isinstance(told[1], StateCommitted)
    assert isinstance(told[2], StateCommitted)
    assert (await world.store.read([KEY]))[KEY].version == 1


async def test_who_asked_is_told_the_first_end_and_that_of_each_redrive_once(kind: Kind) -> None:
    world, broken = new_world(), action(action_type="Refused", reply_to="counter:9")
    await asked(kind, world, broken)
    for number, action_type in enumerate(("Refused", "Counted", "Counted", "Counted"), start=1):
        redrive_id = UUID(int=min(number, 3))
        redriven = replace(broken, type=action_type, purpose="redrive", redrive_id=redrive_id)
        await asked(kind, world, redriven)
    page = await world.intents.read(0, 1, 10)
    assert not isinstance(page, CutOff)
    assert [e.intent.intent_id for e in page] == [
        reply_id(broken.action_id),
        reply_id(broken.action_id, UUID(int=1)),
        reply_id(broken.action_id, UUID(int=2)),
    ], "what is committed already is no new end"
    told = [CODEC.decode(entry.intent.payload)["event"] for entry in page]
    assert told == ["ReducerGaveUp", "ReducerGaveUp", "StateCommitted"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["store.commit", "store.locked"])
async def test_a_redrive_whose_reply_is_lost_is_applied_once(
    kind: Kind, call: Call, when: When
) -> None:
    world, broken = new_world(), action(action_type="Refused")
    await asked(kind, world, broken)
    world.interrupt(call, when=when)
    redriven = replace(broken, type="Counted", purpose="redrive", remember_s=None)
    (outcome,) = await asked(kind, world, redriven)
    assert isinstance(outcome, StateCommitted)
    assert (await world.store.read([KEY]))[KEY].version == 1


async def test_a_redrive_that_fails_again_has_the_new_reason(kind: Kind) -> None:
    world, broken = new_world(), action(action_type="Refused")
    await asked(kind, world, broken)
    worse = replace(broken, type="Raised", payload=b'{"message":"again"}', purpose="redrive")
    async with working_as(kind, world) as running:
        (future,) = await running.submit(worse)
        async with asyncio.timeout(20):
            assert reason(await future) == "reducer_error"
    assert [one.reason for one in world.gave_up(0)] == ["rejected", "reducer_error"]
