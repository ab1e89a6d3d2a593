"""The contract of remembered outcomes: by whom they are found, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from omninode_bridge.core.commit import outcomes_of
from omninode_bridge.core.message import ReducerGaveUp
from omninode_bridge.core.reducer import NEVER_SEEN, Absorbed
from tests.contract.batches import accepted, action, committed, folded, snapshot, versions

if TYPE_CHECKING:
    from tests.contract.ports import Ports


async def test_an_outcome_is_remembered_as_long_as_its_asker_wanted(ports: Ports) -> None:
    asked = {
        hours: action(f"counter:{n}", remember_s=None if hours is None else hours * 3600.0)
        for n, hours in enumerate((1, 6, None))
    }
    await committed(ports, *asked.values())

    async def remembered() -> list[int | None]:
        names = {(each.workflow_key, each.action_id): hours for hours, each in asked.items()}
        async with ports.store.locked(0) as locked:
            return [names[name] for name in await locked.recall(names)]

    assert await ports.outcomes.cleanup_expired(10) == 0
    await ports.beside.let_pass(timedelta(hours=2))
    assert await remembered() == [1, 6, None], "presence decides, not expiry"
    assert await ports.outcomes.cleanup_expired(10) == 1
    assert await remembered() == [6, None]
    await ports.beside.let_pass(timedelta(days=10_000))
    assert await ports.outcomes.cleanup_expired(10) == 1
    assert await remembered() == [None]


async def test_a_forgotten_id_is_an_action_like_any_other(ports: Ports) -> None:
    again = action(remember_s=60.0)
    await committed(ports, again)
    await ports.beside.let_pass(timedelta(minutes=2))
    assert await ports.outcomes.cleanup_expired(10) == 1
    assert versions(await committed(ports, again)) == [2]


async def test_a_give_up_keeps_its_reason_detail_attempts_and_version(ports: Ports) -> None:
    await committed(ports, action())
    turned_down = action(action_type="Refused")
    commit = replace(await folded(ports.store, turned_down), attempts=3)
    (told,) = outcomes_of(commit, accepted(await ports.store.commit(commit)))
    expected = ReducerGaveUp("counter:1", turned_down.action_id, 3, "rejected", "as you wished", 1)
    assert told == expected
    name = ("counter:1", turned_down.action_id)
    async with ports.store.locked(0) as locked:
        assert (await locked.recall([name]))[name].outcome == expected


async def test_what_is_read_back_folds_on_to_the_same_chain(ports: Ports) -> None:
    steps = [action(payload={"amount": 0.1 * n}) for n in range(4)]
    at_once = await folded(ports.store, *steps)
    for step in steps:
        await committed(ports, step)
    last = at_once.steps[-1]
    assert isinstance(last, Absorbed)
    assert await snapshot(ports, "counter:1") == last.snapshot != NEVER_SEEN


LEASE_ID: Final = UUID(int=5)
TERMS: Final[list[dict[str, Any]]] = [
    {},
    {"epoch": 2},
    {"lease_id": LEASE_ID},
    {"epoch": 3, "lease_id": UUID(int=6)},
    {"epoch": 2, "lease_id": LEASE_ID, "correlation_id": UUID(int=7)},
    {"causation_id": UUID(int=8), "depth": 2, "expected_version": 1},
]


@pytest.mark.parametrize("key_type", ["counter", "run"])
async def test_whoever_asks_and_whenever_the_outcome_is_the_same(
    ports: Ports, key_type: str
) -> None:
    for n, (before, terms) in enumerate(product(({}, TERMS[-2]), TERMS)):
        key = f"{key_type}:{n}"
        await committed(ports, action(key, **before))
        asked = action(key, **terms)
        (told,) = await committed(ports, asked)
        async with ports.store.locked(0) as locked:
            recalled = await locked.recall([(key, asked.action_id)])
        assert recalled[key, asked.action_id].outcome == told


async def test_who_looks_without_the_lock_is_told_the_same(ports: Ports) -> None:
    asked = [action(), action(action_type="Refused"), action("counter:2")]
    told = await committed(ports, *asked)
    names = [(each.workflow_key, each.action_id) for each in asked]
    async with ports.store.locked(0) as locked:
        held = await locked.recall(names)
        # And does not wait for who holds the partition.
        looked = await ports.remembered.recall(0, [*names, ("counter:1", UUID(int=404))])
    assert dict(looked) == dict(held)
    assert [looked[name].outcome for name in names] == told
    assert await ports.remembered.recall(0, []) == {}


async def test_what_is_under_way_is_not_found_without_the_lock(ports: Ports) -> None:
    asked = action()
    name = (asked.workflow_key, asked.action_id)
    async with ports.store.locked(0) as locked:
        await locked.commit(await folded(locked, asked))
        assert await ports.remembered.recall(0, [name]) == {}
        assert list(await locked.recall([name])) == [name]
    assert list(await ports.remembered.recall(0, [name])) == [name]
