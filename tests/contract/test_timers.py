"""Actions that are due later: kept, fired once, in the order of their time (R3, R5)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from omninode_bridge.ports import CutOff, Source
from tests.contract.batches import action

if TYPE_CHECKING:
    from omninode_bridge.core.message import SealedAction
    from tests.contract.ports import Ports

HOUR: Final = timedelta(hours=1)


async def due(ports: Ports, after: timedelta) -> SealedAction:
    """Return an action that is due `after` from now."""
    return action(due_at=await ports.beside.now() + after)


async def logged(ports: Ports, partition: int = 0) -> list[SealedAction]:
    """Return the action log."""
    page = await ports.actions.read(partition, 1, 1_000)
    assert not isinstance(page, CutOff)
    return [entry.action for entry in page]


async def test_what_is_due_later_is_no_entry_of_the_log_before(ports: Ports) -> None:
    later, now = await due(ports, HOUR), action()
    assert await ports.actions.append(0, [later, now]) == 2
    assert await logged(ports) == [now]
    fired, next_s = await ports.timers.fire(0, 10)
    assert fired == 0
    assert next_s is not None
    assert 3_590 < next_s <= 3_600
    await ports.beside.let_pass(HOUR)
    assert await ports.timers.fire(0, 10) == (1, None)
    assert [one.action_id for one in await logged(ports)] == [now.action_id, later.action_id]
    assert await ports.timers.fire(0, 10) == (0, None), "once"


async def test_what_is_due_already_goes_straight_into_the_log(ports: Ports) -> None:
    past = await due(ports, -HOUR)
    await ports.actions.append(0, [past])
    assert [one.action_id for one in await logged(ports)] == [past.action_id]
    assert await ports.timers.fire(0, 10) == (0, None)


async def test_those_due_first_come_first_and_equal_ones_as_they_were_set(ports: Ports) -> None:
    now = await ports.beside.now()
    hours = [3, 1, 2, 1, 3, 1]
    asked = [action(due_at=now + n * HOUR) for n in hours]
    await ports.actions.append(0, asked[:3])
    await ports.actions.append(0, asked[3:])
    await ports.beside.let_pass(4 * HOUR)
    assert (await ports.timers.fire(0, 4))[0] == 4
    assert await ports.timers.fire(0, 4) == (2, None)
    expected = [asked[n].action_id for n in (1, 3, 5, 2, 0, 4)]
    assert [one.action_id for one in await logged(ports)] == expected


async def test_those_who_fire_at_once_fire_each_timer_once(ports: Ports) -> None:
    await ports.actions.append(0, [await due(ports, HOUR) for _ in range(20)])
    await ports.beside.let_pass(2 * HOUR)
    fired = await asyncio.gather(*(ports.timers.fire(0, 7) for _ in range(4)))
    assert sum(count for count, _ in fired) == 20
    ids = [one.action_id for one in await logged(ports)]
    assert len(set(ids)) == len(ids) == 20


async def test_a_follow_up_that_is_due_later_is_set_once(ports: Ports) -> None:  # R10
    later, now = await due(ports, HOUR), action()
    assert await ports.actions.append(0, [later, now], Source(1, 3, [1, 2])) == 2
    assert await ports.actions.append(0, [later, now], Source(1, 3, [1, 2])) == 0
    await ports.beside.let_pass(2 * HOUR)
    assert await ports.timers.fire(0, 10) == (1, None)
    assert [one.action_id for one in await logged(ports)] == [now.action_id, later.action_id]


async def test_of_follow_ups_taken_over_in_part_only_the_rest_is_set(ports: Ports) -> None:  # R10
    first, second = await due(ports, HOUR), await due(ports, 2 * HOUR)
    assert await ports.actions.append(0, [first], Source(1, 2, [1])) == 1
    assert await ports.actions.append(0, [first, second], Source(1, 3, [1, 2])) == 1
    await ports.beside.let_pass(3 * HOUR)
    assert await ports.timers.fire(0, 10) == (2, None)
    assert [one.action_id for one in await logged(ports)] == [first.action_id, second.action_id]


async def test_timers_of_another_partition_are_left_alone(ports: Ports) -> None:  # R11
    await ports.actions.append(1, [await due(ports, HOUR)])
    await ports.beside.let_pass(2 * HOUR)
    assert await ports.timers.fire(0, 10) == (0, None)
    assert await logged(ports, 1) == []
    assert await ports.timers.fire(1, 10) == (1, None)


async def test_a_timer_keeps_all_that_was_asked(ports: Ports) -> None:
    asked = action(
        due_at=await ports.beside.now() + HOUR,
        expected_version=7,
        remember_s=None,
        reply_to="run:1",
        depth=3,
    )
    await ports.actions.append(0, [asked])
    await ports.beside.let_pass(2 * HOUR)
    await ports.timers.fire(0, 10)
    (found,) = await logged(ports)
    assert found == asked
