"""The contract of `OutcomeCleaning`: bounded, the oldest first, and only what is over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.contract.batches import action, committed

if TYPE_CHECKING:
    from tests.contract.ports import Ports


async def test_cleaning_is_bounded_and_goes_on_where_it_stopped(ports: Ports) -> None:
    await committed(ports, *(action(remember_s=60.0) for _ in range(5)))
    await committed(ports, action(remember_s=None), action(remember_s=3600.0), partition=1)
    assert await ports.outcomes.cleanup_expired(2) == 0
    await ports.beside.let_pass(timedelta(minutes=2))
    assert [await ports.outcomes.cleanup_expired(2) for _ in range(4)] == [2, 2, 1, 0]


async def test_the_oldest_outcomes_go_first(ports: Ports) -> None:
    asked = [action(remember_s=60.0 * n) for n in (3, 1, 2)]
    await committed(ports, *asked)
    await ports.beside.let_pass(timedelta(minutes=10))
    assert await ports.outcomes.cleanup_expired(2) == 2
    async with ports.store.locked(0) as locked:
        names = [(one.workflow_key, one.action_id) for one in asked]
        assert list(await locked.recall(names)) == [names[0]]


async def test_a_give_up_is_forgotten_like_a_commit(ports: Ports) -> None:
    await committed(ports, action(action_type="Refused", remember_s=60.0))
    await ports.beside.let_pass(timedelta(minutes=2))
    assert await ports.outcomes.cleanup_expired(10) == 1


async def test_what_expires_behind_a_round_is_found_by_the_next_one(ports: Ports) -> None:
    await committed(ports, *(action(remember_s=120.0) for _ in range(4)))
    await ports.beside.let_pass(timedelta(minutes=3))
    assert [await ports.outcomes.cleanup_expired(2) for _ in range(3)] == [2, 2, 0]
    await committed(ports, *(action(remember_s=60.0) for _ in range(3)))
    await ports.beside.let_pass(timedelta(days=1))
    assert [await ports.outcomes.cleanup_expired(2) for _ in range(2)] == [2, 1]
