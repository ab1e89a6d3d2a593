"""The dispatcher: each follow-up action reaches its partition once, whatever is lost (R10)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.errors import BrokenPromise, ValueRefused
from omninode_bridge.core.message import intent_id, reply_id
from omninode_bridge.core.observation import IntentsDispatched, LoopStumbled
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed, Refused, fold
from omninode_bridge.ports import CutOff, Source
from omninode_bridge.services.dispatcher import LAG_MAX, Dispatcher
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import until
from tests.unit.workers import CODEC, KEY_TYPES, Dice, action, commit_beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.observation import Observation
    from omninode_bridge.core.reducer import Step

PARTITIONS: Final = 3
TARGETS: Final = [f"counter:{n}" for n in range(12)]
assert {partition_of(key, PARTITIONS) for key in TARGETS} == {0, 1, 2}


def new_world(segment_entries: int = 200_000) -> MemoryWorld:
    """Return a world of three partitions."""
    return MemoryWorld(
        clock=SettableClock(), partitions=PARTITIONS, segment_entries=segment_entries
    )


class Dispatching:
    """The dispatcher of partition 0, and what it told."""

    def __init__(self, world: MemoryWorld) -> None:
        """Begin nothing yet."""
        self.world = world
        self.facts: list[Observation] = []
        self.appended: list[int] = []
        self.loop = Dispatcher(
            0,
            partitions=PARTITIONS,
            intents=world.intents,
            actions=world.actions,
            codec=CODEC,
            uniform=Dice(),
            appended=self.appended.append,
            observe=self.facts.append,
        )

    def dispatched(self) -> list[IntentsDispatched]:
        """Return what was dispatched."""
        return [fact for fact in self.facts if isinstance(fact, IntentsDispatched)]


@asynccontextmanager
async def dispatching(world: MemoryWorld) -> AsyncIterator[Dispatching]:
    """Run a dispatcher for the length of the block; it has looked at all that is there then."""
    running = Dispatching(world)
    task = asyncio.create_task(running.loop.run())
    yield running
    running.loop.stop()
    async with asyncio.timeout(10):
        await task


async def arrived(world: MemoryWorld) -> dict[int, list[SealedAction]]:
    """Return the actions in the log of each partition."""
    found: dict[int, list[SealedAction]] = {}
    for partition in range(PARTITIONS):
        page = await world.actions.read(partition, 1, 100_000)
        assert not isinstance(page, CutOff)
        found[partition] = [entry.action for entry in page]
    return found


def passing_on(
    *targets: str,
    amount: int = 1,
    mail: str | None = None,
    **terms: Any,  # noqa: ANN401 - the fields of a sealed action
) -> SealedAction:
    """Return an action whose commit asks for a follow-up on each of `targets`, and an effect."""
    payload: dict[str, Any] = {"amount": amount, "passes_on_to": list(targets)}
    if mail is not None:
        payload["mail"] = mail
    return action("counter:source", payload=payload, **terms)


async def test_a_follow_up_keeps_whose_it_is_and_where_it_comes_from() -> None:
    world = new_world()
    first = passing_on(*TARGETS[:2], amount=7, depth=4, correlation_id=UUID(int=9))
    second = passing_on(TARGETS[2])
    await commit_beside(world, first, second)
    async with dispatching(world):
        pass
    found = {one.workflow_key: one for all_ in (await arrived(world)).values() for one in all_}
    assert found.keys() == set(TARGETS[:3])
    for ordinal, key in enumerate(TARGETS[:2]):
        one = found[key]
        assert (one.action_id, one.type) == (intent_id(first.action_id, ordinal), "Counted")
        assert one.payload == b'{"amount":7}'
        assert (one.correlation_id, one.causation_id) == (UUID(int=9), first.action_id)
        assert (one.depth, one.occurred_at) == (5, world.clock())
    third = found[TARGETS[2]]
    assert (third.correlation_id, third.causation_id) == (second.action_id, second.action_id)
    assert third.depth == 1


async def test_each_follow_up_goes_to_its_partition_in_the_order_of_its_source() -> None:
    world = new_world()
    asked = [passing_on(*TARGETS, amount=n) for n in range(5)]
    await commit_beside(world, *asked)
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
        assert sorted(running.appended) == [0, 1, 2]
    for partition, actions in (await arrived(world)).items():
        theirs = [key for key in TARGETS if partition_of(key, PARTITIONS) == partition]
        assert [one.workflow_key for one in actions] == theirs * 5
        amounts = [CODEC.decode(one.payload)["amount"] for one in actions]
        assert amounts == sorted(amounts)
    (fact,) = running.dispatched()
    assert (fact.entries, fact.submitted, fact.others) == (60, 60, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1, 2])
async def test_each_follow_up_arrives_once_when_a_reply_is_lost(when: str, skip: int) -> None:
    world = new_world()
    await commit_beside(world, passing_on(*TARGETS))
    lost = "before" if when == "before" else "after"
    world.interrupt("actions.append", when=lost, skip=skip)  # type: ignore[arg-type]
    world.interrupt("intents.positions", when="before")
    world.interrupt("intents.read", when="after")
    async with dispatching(world) as running:
        await until(
            lambda: sum(isinstance(fact, LoopStumbled) for fact in running.facts) == 3,
            "every loss to be told",
        )
    keys = [one.workflow_key for actions in (await arrived(world)).values() for one in actions]
    assert sorted(keys) == sorted(TARGETS)


async def test_two_dispatchers_carry_over_what_one_would() -> None:
    world = new_world()
    async with dispatching(world) as one, dispatching(world) as other:
        for n in range(10):
            await commit_beside(world, passing_on(*TARGETS, amount=n))
            one.loop.intents_grew()
            other.loop.intents_grew()
            await asyncio.sleep(0)
    keys = [one.workflow_key for actions in (await arrived(world)).values() for one in actions]
    assert sorted(keys) == sorted(TARGETS * 10)
    submitted = [fact.submitted for fact in (*one.dispatched(), *other.dispatched())]
    assert sum(submitted) == 120


async def test_the_next_dispatcher_goes_on_where_the_last_one_was() -> None:
    world = new_world()
    await commit_beside(world, passing_on(*TARGETS[:4]))
    async with dispatching(world):
        pass
    await commit_beside(world, passing_on(*TARGETS[4:]))
    async with dispatching(world) as second:
        pass
    assert sum(fact.entries for fact in second.dispatched()) == 8
    keys = [one.workflow_key for actions in (await arrived(world)).values() for one in actions]
    assert sorted(keys) == sorted(TARGETS)


async def test_what_is_for_an_effect_is_counted_and_stays() -> None:
    world = new_world()
    await commit_beside(world, passing_on(TARGETS[0], mail="Mail"))
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
    (fact,) = running.dispatched()
    assert (fact.entries, fact.submitted, fact.others) == (2, 1, 1)
    page = await world.intents.read(0, 1, 10)
    assert not isinstance(page, CutOff)
    assert [entry.intent.intent_type for entry in page] == ["SubmitAction", "Mail"]


async def test_an_outcome_becomes_an_action_on_the_key_that_asked_for_it() -> None:  # R9
    world = new_world()
    asker = TARGETS[3]
    asked = passing_on(reply_to=asker)
    await commit_beside(world, asked)
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
    ((answer,),) = [actions for actions in (await arrived(world)).values() if actions]
    assert (answer.workflow_key, answer.type) == (asker, "ActionAnswered")
    assert answer.action_id == reply_id(asked.action_id)
    assert answer.causation_id == asked.action_id
    assert answer.depth == asked.depth + 1
    told = CODEC.decode(answer.payload)
    assert told["event"] == "StateCommitted"
    assert (told["action_id"], told["version"]) == (str(asked.action_id), 1)


async def test_a_timer_happens_when_it_is_due_and_never_before_the_commit_that_asked() -> None:
    world = new_world()
    asked_at, hour = world.clock(), timedelta(hours=1)
    times: dict[str, dict[str, Any]] = {
        TARGETS[0]: {"due_at": asked_at + hour},
        TARGETS[1]: {"due_at": asked_at - hour},
        TARGETS[2]: {"due_in_ms": 1_500},
        TARGETS[3]: {"due_in_ms": 0},
        TARGETS[4]: {},
    }

    def timed(step: Step) -> Step:
        assert isinstance(step, Absorbed)
        intents = [replace(intent, **times[intent.target]) for intent in step.intents]
        return replace(step, intents=tuple(intents))

    await commit_beside(world, passing_on(*times, depth=4), changed=timed)
    world.clock.advance(timedelta(milliseconds=500))  # type: ignore[attr-defined]
    async with dispatching(world):
        pass
    found = {one.workflow_key: one for all_ in (await arrived(world)).values() for one in all_}
    assert found.keys() == {TARGETS[1], TARGETS[3], TARGETS[4]}
    world.clock.advance(hour)  # type: ignore[attr-defined]
    for partition in range(PARTITIONS):
        await world.timers.fire(partition, 100)
    found = {one.workflow_key: one for all_ in (await arrived(world)).values() for one in all_}
    later = {key: one.occurred_at - asked_at for key, one in found.items()}
    nothing = timedelta(0)
    waits = [hour, nothing, timedelta(milliseconds=1_500), nothing, nothing]
    assert later == dict(zip(times, waits, strict=True))
    assert {key: one.depth for key, one in found.items()} == dict(
        zip(times, [0, 5, 0, 5, 5], strict=True)
    )


# -- what a target refuses -----------------------------------------------


def never_due(*targets: str) -> Callable[[Step], Step]:
    """Return what makes the follow-ups on `targets` due at a time that no store can hold."""
    moment = datetime.fromisoformat("9999-12-31T23:59:59-12:00")

    def changed(step: Step) -> Step:
        assert isinstance(step, Absorbed)
        intents = [
            replace(intent, due_at=moment) if intent.target in targets else intent
            for intent in step.intents
        ]
        return replace(step, intents=tuple(intents))

    return changed


@pytest.mark.parametrize("bad", [[0], [5], [11], [0, 1, 2, 11], list(range(12))], ids=str)
async def test_a_follow_up_that_no_store_takes_is_given_up_and_the_others_arrive(
    bad: list[int],
) -> None:  # R4
    world = new_world()
    asked = passing_on(*TARGETS)
    refused = [TARGETS[n] for n in bad]
    await commit_beside(world, asked, changed=never_due(*refused))
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
    assert sum(fact.submitted for fact in running.dispatched()) == 12
    errors = [fact.error for fact in running.facts if isinstance(fact, LoopStumbled)]
    assert [type(error) for error in errors] == [ValueRefused] * len(bad)
    found = {one.workflow_key: one for all_ in (await arrived(world)).values() for one in all_}
    assert found.keys() == set(TARGETS)
    for ordinal, key in enumerate(TARGETS):
        one = found[key]
        assert one.action_id == intent_id(asked.action_id, ordinal)
        _, (step,) = fold(NEVER_SEEN, [one], KEY_TYPES["counter"], CODEC, world.clock())
        if key in refused:
            assert isinstance(step, Refused)
            assert step.reason == "invalid"
            assert "this follow-up action could not be stored" in step.detail
            assert "no time in UTC" in step.detail
        else:
            assert isinstance(step, Absorbed)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", range(6))
async def test_a_page_that_is_carried_over_in_parts_arrives_once_when_a_reply_is_lost(
    when: str, skip: int
) -> None:
    world = new_world()
    targets = [key for key in TARGETS if partition_of(key, PARTITIONS) == 1]
    await commit_beside(world, passing_on(*targets), changed=never_due(targets[1]))
    world.interrupt("actions.append", when=when, skip=skip)  # type: ignore[arg-type]
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
    ((actions),) = [actions for actions in (await arrived(world)).values() if actions]
    assert [one.workflow_key for one in actions] == targets


# -- positions -----------------------------------------------------------


async def test_every_target_is_told_how_far_it_got_when_all_is_settled() -> None:
    world = new_world(segment_entries=4)
    key = next(key for key in TARGETS if partition_of(key, PARTITIONS) == 1)
    await commit_beside(world, passing_on(*[key] * 4))
    async with dispatching(world) as running:
        await until(lambda: len(running.dispatched()) == 1, "a page")
        assert dict(await world.intents.positions(0)) == {0: 1, 1: 5, 2: 1}
        assert await world.effects.settle(0, None, [], [], 5)
        assert await world.segments.drop_segments("intent", 0) == 0
        running.loop.settle()
        await until(
            lambda: world._tables.positions["dispatcher", "intent", 0, 2] == 5, "the position"
        )
        assert dict(await world.intents.positions(0)) == {0: 5, 1: 5, 2: 5}
        assert await world.segments.drop_segments("intent", 0) == 1
    assert len(running.dispatched()) == 1, "there was nothing new to tell"


async def test_a_target_without_anything_is_told_after_so_many_entries() -> None:
    world = new_world()
    key = next(key for key in TARGETS if partition_of(key, PARTITIONS) == 1)
    for _ in range(LAG_MAX // 1_000 + 1):
        await commit_beside(world, passing_on(*[key] * 1_000))
    running = Dispatching(world)
    for _ in range(LAG_MAX // 1_000):
        running.loop._stored = running.loop._stored or dict(await world.intents.positions(0))
        running.loop._next = running.loop._next or 1
        assert await running.loop._step()
    assert dict(await world.intents.positions(0)) == {0: 1, 1: LAG_MAX + 1, 2: 1}
    assert await running.loop._step()
    assert set((await world.intents.positions(0)).values()) == {LAG_MAX + 1_001}
    assert not await running.loop._step()


async def test_intents_that_were_cut_off_before_they_were_carried_over_stop_the_loop() -> None:
    world = new_world(segment_entries=2)
    await commit_beside(world, passing_on(*TARGETS[:4]))
    for home in range(PARTITIONS):
        await world.actions.append(home, [], Source(0, 5, []))
    await world.effects.settle(0, None, [], [], 5)
    assert await world.segments.drop_segments("intent", 0) == 2
    for home in range(PARTITIONS):
        world._tables.positions["dispatcher", "intent", 0, home] = 1
    with pytest.raises(BrokenPromise, match="begin at 5"):
        await Dispatching(world).loop.run()


async def test_what_is_found_is_carried_over_before_the_stop() -> None:
    world = new_world()
    await commit_beside(world, passing_on(*TARGETS))
    running = Dispatching(world)
    running.loop.stop()
    async with asyncio.timeout(10):
        await running.loop.run()
    assert sum(len(actions) for actions in (await arrived(world)).values()) == len(TARGETS)
    assert set((await world.intents.positions(0)).values()) == {len(TARGETS) + 1}


async def test_intents_are_looked_for_without_a_hint_too() -> None:
    world = new_world()
    async with dispatching(world) as running:
        await asyncio.sleep(0)
        await commit_beside(world, passing_on(TARGETS[0]))
        await until(lambda: len(running.dispatched()) == 1, "a page")
