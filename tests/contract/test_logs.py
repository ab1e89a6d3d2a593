"""The contracts of `ActionLog` and `IntentLog`: order, positions, taking over exactly once."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from omninode_bridge.core.commit import Move
from omninode_bridge.core.errors import DatabaseRefused, DatabaseUnavailable, ValueRefused
from omninode_bridge.ports import CutOff, Source
from tests.contract.batches import accepted, action, committed, folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.message import SealedAction
    from tests.contract.ports import Ports


async def logged(ports: Ports, partition: int = 0, position: int = 1) -> list[SealedAction]:
    """Return the actions in the log of `partition` from `position` on."""
    page = await ports.actions.read(partition, position, 1_000)
    assert not isinstance(page, CutOff)
    assert [entry.offset for entry in page] == list(range(position, position + len(page)))
    return [entry.action for entry in page]


def some(count: int) -> list[SealedAction]:
    """Return `count` different actions."""
    return [action(f"counter:{n}", payload={"amount": n}) for n in range(count)]


async def test_actions_are_read_in_the_order_they_were_appended(ports: Ports) -> None:
    asked = some(11)
    assert await ports.actions.append(0, asked[:3]) == 3
    assert await ports.actions.append(0, asked[3:]) == 8
    assert await ports.actions.append(1, asked[:1]) == 1
    assert await logged(ports) == asked
    assert await logged(ports, 0, 5) == asked[4:]
    assert await logged(ports, 1) == asked[:1]


async def test_nothing_appended_is_nothing_new(ports: Ports) -> None:
    assert await ports.actions.append(0, []) == 0
    assert await logged(ports) == []


async def test_an_action_comes_back_with_all_that_its_asker_said(ports: Ports) -> None:
    every_term = action(
        payload={"amount": 0.1, "text": "é", "nothing": None},
        epoch=3,
        lease_id=uuid4(),
        correlation_id=uuid4(),
        causation_id=uuid4(),
        depth=4,
        reply_to="somebody",
        expected_version=0,
        remember_s=None,
    )
    others = [action(remember_s=1.5), action(expected_version=7)]
    asked = [every_term, *others]
    await ports.actions.append(0, asked)
    assert await logged(ports) == asked


async def test_a_page_has_its_limit_and_behind_the_head_there_is_nothing_yet(ports: Ports) -> None:
    asked = some(5)
    await ports.actions.append(0, asked)
    page = await ports.actions.read(0, 2, 3)
    assert not isinstance(page, CutOff)
    assert [(entry.offset, entry.action) for entry in page] == [
        (n + 1, asked[n]) for n in (1, 2, 3)
    ]
    assert await logged(ports, 0, 6) == []
    assert await logged(ports, 0, 100) == []


async def test_appenders_at_once_leave_no_gap_and_keep_each_ones_order(ports: Ports) -> None:
    batches = [[action(f"counter:{n}", payload={"amount": i}) for i in range(5)] for n in range(8)]
    await asyncio.gather(*(ports.actions.append(0, batch) for batch in batches))
    found = await logged(ports)
    assert len(found) == 40
    for batch in batches:
        assert [one for one in found if one.workflow_key == batch[0].workflow_key] == batch


async def test_who_appends_does_not_wait_for_commits(ports: Ports) -> None:
    async with ports.store.locked(0), asyncio.timeout(10):
        assert await ports.actions.append(0, [action()]) == 1
        assert len(await logged(ports)) == 1


async def test_a_value_that_cannot_be_stored_appends_nothing(ports: Ports) -> None:
    with pytest.raises(ValueRefused):
        await ports.actions.append(0, [action(), action("counter:\0")], Source(1, 9, [1, 2]))
    assert await logged(ports) == []
    assert (await ports.intents.positions(1))[0] == 1
    assert await ports.actions.append(0, [action()]) == 1


async def test_a_moment_outside_of_time_appends_nothing(ports: Ports) -> None:
    never = action(due_at=datetime.fromisoformat("9999-12-31T23:59:59-12:00"))
    with pytest.raises(ValueRefused):
        await ports.actions.append(0, [action(), never], Source(1, 9, [1, 2]))
    assert await logged(ports) == []
    assert (await ports.intents.positions(1))[0] == 1


# -- from a source: exactly once -----------------------------------------------------------


async def test_what_comes_from_a_source_twice_is_appended_once(ports: Ports) -> None:
    asked = some(3)
    source = Source(1, 10, [3, 5, 9])
    assert await ports.actions.append(0, asked, source) == 3
    assert await ports.actions.append(0, asked, source) == 0
    assert await logged(ports) == asked


async def test_of_a_page_that_overlaps_only_the_rest_is_new(ports: Ports) -> None:
    asked = some(4)
    assert await ports.actions.append(0, asked[:2], Source(1, 6, [3, 5])) == 2
    assert await ports.actions.append(0, asked, Source(1, 12, [3, 5, 8, 11])) == 2
    assert await logged(ports) == asked
    assert await ports.actions.append(0, asked[:1], Source(1, 4, [3])) == 0, "older than stored"
    assert dict(await ports.intents.positions(1)) == {0: 12, 1: 1}


async def test_each_source_and_each_target_has_a_position_of_its_own(ports: Ports) -> None:
    one, other, third = some(3)
    assert await ports.actions.append(0, [one], Source(0, 8, [7])) == 1
    assert await ports.actions.append(0, [other], Source(1, 8, [7])) == 1
    assert await ports.actions.append(1, [third], Source(0, 5, [2])) == 1
    assert dict(await ports.intents.positions(0)) == {0: 8, 1: 5}
    assert dict(await ports.intents.positions(1)) == {0: 8, 1: 1}


async def test_a_position_moves_without_actions_too_but_never_back(ports: Ports) -> None:
    assert await ports.actions.append(0, [], Source(1, 20, [])) == 0
    assert (await ports.intents.positions(1))[0] == 20
    assert await ports.actions.append(0, [action()], Source(1, 19, [18])) == 0
    assert (await ports.intents.positions(1))[0] == 20
    assert await logged(ports) == []


async def test_of_dispatchers_at_once_one_appends(ports: Ports) -> None:
    asked = some(3)
    source = Source(1, 10, [3, 5, 9])
    added = await asyncio.gather(*(ports.actions.append(0, asked, source) for _ in range(4)))
    assert sorted(added) == [0, 0, 0, 3]
    assert await logged(ports) == asked


async def test_a_source_nobody_registered_is_an_error(ports: Ports) -> None:
    with pytest.raises(DatabaseRefused):
        await ports.actions.append(0, [action()], Source(7, 2, [1]))
    assert await logged(ports) == []


# -- cutting off -----------------------------------------------------------


async def low(ports: Ports) -> int:
    """Return where the action log of partition 0 begins."""
    page = await ports.actions.read(0, 1, 1)
    return page.low if isinstance(page, CutOff) else 1


async def worked_off(ports: Ports, start: int, end: int) -> None:
    """Move the worker's position."""
    await committed(ports, position=Move(start, end))


async def test_segments_go_whole_and_only_behind_the_worker(ports: Ports) -> None:
    asked = some(10)  # segments of four: 1-4, 5-8, 9-...
    await ports.actions.append(0, asked)
    assert await ports.segments.drop_segments("action", 0) == 0
    await worked_off(ports, 1, 5)
    assert await ports.segments.drop_segments("action", 0) == 1
    assert await ports.segments.drop_segments("action", 0) == 0
    await worked_off(ports, 5, 8)
    assert await ports.segments.drop_segments("action", 0) == 0, "entry 8 is still to be read"
    assert await low(ports) == 5
    assert await logged(ports, 0, 5) == asked[4:]
    await worked_off(ports, 8, 11)
    assert await ports.segments.drop_segments("action", 0) == 1
    assert await logged(ports, 0, 9) == asked[8:], "the segment that is being written stays"
    assert await ports.actions.append(0, asked[:1]) == 1
    assert await logged(ports, 0, 9) == [*asked[8:], asked[0]]


async def test_cut_off_is_told_from_empty(ports: Ports) -> None:
    await ports.actions.append(0, some(4))
    await worked_off(ports, 1, 5)
    assert await ports.segments.drop_segments("action", 0) == 1
    assert [await ports.actions.read(0, n, 10) for n in (1, 4)] == [CutOff(5), CutOff(5)]
    assert await logged(ports, 0, 5) == []


async def test_a_registered_consumer_holds_segments_back_until_it_retires(ports: Ports) -> None:
    await ports.beside.register("relay", "action", 0, 0)
    await ports.beside.register("relay", "action", 0, 0)
    await ports.actions.append(0, some(8))
    await worked_off(ports, 1, 9)
    assert await ports.segments.drop_segments("action", 0) == 0
    await ports.beside.retire("relay", "action")
    assert await ports.segments.drop_segments("action", 0) == 2
    assert await low(ports) == 9


async def test_a_consumer_that_comes_late_begins_where_the_log_begins(ports: Ports) -> None:
    await ports.actions.append(0, some(8))
    await worked_off(ports, 1, 5)
    assert await ports.segments.drop_segments("action", 0) == 1
    await ports.beside.register("relay", "action", 0, 0)
    await worked_off(ports, 5, 9)
    assert await ports.segments.drop_segments("action", 0) == 0
    assert await low(ports) == 5


async def test_intents_go_behind_the_slowest_target(ports: Ports) -> None:
    targets = [f"counter:{n}" for n in range(9)]
    asked = action(payload={"passes_on_to": targets})
    await committed(ports, asked)
    await ports.actions.append(0, [], Source(0, 10, []))
    await ports.effect_ends.settle(0, None, [], [], 10)
    assert await ports.segments.drop_segments("intent", 0) == 0
    await ports.actions.append(1, [], Source(0, 6, []))
    assert await ports.segments.drop_segments("intent", 0) == 1
    assert await ports.intents.read(0, 1, 10) == CutOff(5)
    page = await ports.intents.read(0, 5, 2)
    assert not isinstance(page, CutOff)
    assert [(entry.offset, entry.intent.target) for entry in page] == [
        (5, targets[4]),
        (6, targets[5]),
    ]
    await ports.actions.append(1, [], Source(0, 10, []))
    assert await ports.segments.drop_segments("intent", 0) == 1
    beyond: Sequence[object] | CutOff = await ports.intents.read(0, 10, 10)
    assert list(beyond if not isinstance(beyond, CutOff) else ["cut off"]) == []


async def test_intents_stay_until_their_effects_have_passed_them(ports: Ports) -> None:
    await committed(ports, action(payload={"passes_on_to": [f"counter:{n}" for n in range(8)]}))
    for home in (0, 1):
        await ports.actions.append(home, [], Source(0, 9, []))
    await ports.effect_ends.settle(0, None, [], [], 5)
    assert await ports.segments.drop_segments("intent", 0) == 1
    assert await ports.segments.drop_segments("intent", 0) == 0
    assert await ports.intents.read(0, 4, 10) == CutOff(5)
    assert await ports.effect_log.read(0, 4, 10) == CutOff(5)
    await ports.effect_ends.settle(0, None, [], [], 9)
    assert await ports.segments.drop_segments("intent", 0) == 1


async def test_cutting_off_rather_fails_than_makes_a_commit_wait(ports: Ports) -> None:
    await committed(ports, action(payload={"passes_on_to": [f"counter:{n}" for n in range(4)]}))
    for home in (0, 1):
        await ports.actions.append(home, [], Source(0, 5, []))
    await ports.effect_ends.settle(0, None, [], [], 5)
    async with ports.store.locked(0) as locked:
        with pytest.raises(DatabaseUnavailable):
            await ports.segments.drop_segments("intent", 0)
        accepted(await locked.commit(await folded(locked, action())))
    assert await ports.segments.drop_segments("intent", 0) == 1


async def test_without_consumers_nothing_holds_a_whole_segment_back(ports: Ports) -> None:
    await ports.beside.retire("reducer", "action")
    await ports.actions.append(0, some(6))
    assert await ports.segments.drop_segments("action", 0) == 1
    assert await logged(ports, 0, 5) != []


async def test_history_is_not_cut_off(ports: Ports) -> None:
    await committed(ports, action())
    with pytest.raises(Exception, match="history"):
        await ports.segments.drop_segments("state-committed", 0)
    await ports.beside.let_pass(timedelta(days=1_000))
    assert len(await ports.projections.read(0, 1, 10)) == 1
