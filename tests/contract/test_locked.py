"""The contract of `CanonicalStore.locked`: one transaction, alone in its partition."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from omninode_bridge.core.commit import Move, Refusal
from tests.contract.batches import (
    KEYS,
    accepted,
    action,
    committed,
    everything,
    folded,
    refused,
    snapshot,
    versions,
)

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Accepted
    from tests.contract.ports import Ports


async def test_outcomes_are_read_back_by_id_under_the_lock(ports: Ports) -> None:
    counted, turned_down = action(), action(action_type="Refused")
    outcomes = await committed(ports, counted, turned_down)
    names = [("counter:1", counted.action_id), ("counter:1", turned_down.action_id)]
    async with ports.store.locked(0) as locked:
        recalled = await locked.recall([*names, ("counter:1", uuid4())])
        assert dict(await locked.recall([])) == {}
    assert list(recalled) == names
    assert [recalled[name].outcome for name in names] == outcomes
    assert [recalled[name].outcome.duplicate for name in names] == [True, True]


async def test_a_transaction_sees_what_it_has_done_and_nobody_else_does(ports: Ports) -> None:
    counted = action()
    name = ("counter:1", counted.action_id)
    async with ports.store.locked(0) as locked:
        first = await folded(locked, counted)
        accepted(await locked.commit(first))
        assert (await locked.read(["counter:1"]))["counter:1"].version == 1
        assert name in await locked.recall([name])
        assert refused(await locked.commit(first)).stale == {"counter:1": 1}
        second = await folded(locked, action(), action(action_type="Refused"))
        assert accepted(await locked.commit(second)).state_committed_first == 2
        assert dict(await ports.store.read(["counter:1"])) == {}
        assert list(await ports.projections.read(0, 1, 100)) == []
    assert (await snapshot(ports, "counter:1")).version == 2
    assert [entry.offset for entry in await ports.projections.read(0, 1, 100)] == [1, 2]


async def test_a_transaction_that_fails_has_done_nothing(ports: Ports) -> None:
    before = await everything(ports, KEYS)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the transaction
        async with ports.store.locked(0) as locked:
            await locked.commit(await folded(locked, action(), position=Move(1, 2)))
            raise ZeroDivisionError
    assert await everything(ports, KEYS) == before
    assert versions(await committed(ports, action())) == [1]


async def test_nobody_commits_to_a_partition_that_is_locked(ports: Ports) -> None:
    commit = await folded(ports.store, action())
    elsewhere = await folded(ports.store, action("counter:2"), partition=1)
    async with ports.store.locked(0) as locked:
        outside = asyncio.create_task(ports.store.commit(commit))
        await ports.beside.until_it_waits(outside)
        assert not outside.done()
        accepted(await ports.store.commit(elsewhere))
        accepted(await locked.commit(await folded(locked, action())))
    assert refused(await outside) == Refusal(stale={"counter:1": 1})


async def test_a_partition_is_locked_by_one_at_a_time(ports: Ports) -> None:
    async def count() -> Accepted:
        async with ports.store.locked(0) as locked:
            return accepted(await locked.commit(await folded(locked, action())))

    results = await asyncio.gather(*(count() for _ in range(10)))
    assert sorted(result.state_committed_first for result in results) == list(range(1, 11))
    assert (await snapshot(ports, "counter:1")).version == 10


async def test_of_commits_at_once_one_wins_and_the_others_have_written_nothing(
    ports: Ports,
) -> None:
    commits = [await folded(ports.store, action(key), action("counter:0")) for key in KEYS[1:]]
    results = await asyncio.gather(*(ports.store.commit(commit) for commit in commits))
    winners = [
        commit
        for commit, result in zip(commits, results, strict=True)
        if not isinstance(result, Refusal)
    ]
    assert len(winners) == 1
    stored = await ports.store.read(KEYS)
    assert stored.keys() == winners[0].reads.keys()
    assert len(await ports.projections.read(0, 1, 100)) == 2
