"""The contract of `CanonicalStore.commit`: when it writes nothing, and what it says then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from omninode_bridge.core.commit import Move, Refusal, outcomes_of
from omninode_bridge.core.errors import DatabaseRefused
from omninode_bridge.core.message import content_hash
from omninode_bridge.core.reducer import Absorbed
from tests.contract.batches import (
    KEYS,
    accepted,
    action,
    committed,
    everything,
    folded,
    owned,
    refused_whole,
    versions,
)
from tests.contract.ports import LEASE

if TYPE_CHECKING:
    from tests.contract.ports import Ports


@pytest.mark.parametrize("action_type", ["Counted", "Refused"])
async def test_who_does_not_own_the_partition_makes_nothing_durable(
    ports: Ports, action_type: str
) -> None:
    commit = await folded(ports.store, action(action_type=action_type), owner=uuid4())
    assert await refused_whole(ports, commit) == Refusal(not_owner=True), "nobody owns it"
    owner = await owned(ports)
    assert await refused_whole(ports, commit) == Refusal(not_owner=True), "somebody else owns it"
    await ports.leases.release(owner)
    late = replace(commit, owner=owner)
    assert await refused_whole(ports, late) == Refusal(not_owner=True), "it was let go"


async def test_an_owner_commits_and_its_lease_grows_with_each_commit(ports: Ports) -> None:
    owner = await owned(ports)
    for _ in range(3):
        await ports.beside.let_pass(LEASE * 0.7)
        await committed(ports, action(), owner=owner)
    assert list(await ports.leases.acquire(uuid4(), "another", LEASE, [0])) == []


async def test_who_commits_beside_the_owner_lengthens_no_lease(ports: Ports) -> None:
    await owned(ports)
    await ports.beside.let_pass(LEASE * 0.7)
    await committed(ports, action())
    await ports.beside.let_pass(LEASE * 0.7)
    assert list(await ports.leases.acquire(uuid4(), "another", LEASE, [0])) == [0]


async def test_an_expired_lease_still_counts_until_somebody_follows(ports: Ports) -> None:
    owner = await owned(ports)
    await ports.beside.let_pass(LEASE * 2)
    assert versions(await committed(ports, action(), owner=owner)) == [1]
    await ports.beside.let_pass(LEASE * 2)
    follower = await owned(ports)
    commit = await folded(ports.store, action(), owner=owner)
    assert await refused_whole(ports, commit) == Refusal(not_owner=True)
    assert versions(await committed(ports, action(), owner=follower)) == [2]


async def test_a_position_that_moved_refuses_the_commit(ports: Ports) -> None:
    await ports.actions.append(0, [action(), action()])
    commit = await folded(ports.store, action(), position=Move(1, 2))
    accepted(await ports.store.commit(await folded(ports.store, position=Move(1, 3))))
    assert await refused_whole(ports, commit) == Refusal(moved=True)


async def test_all_stale_keys_are_told_with_their_versions(ports: Ports) -> None:
    commit = await folded(ports.store, *(action(key) for key in KEYS[:4]))
    await committed(ports, action(KEYS[1]), action(KEYS[1]), action(KEYS[3]))
    reasons = await refused_whole(ports, commit)
    assert reasons == Refusal(stale={KEYS[1]: 2, KEYS[3]: 1})


async def test_a_give_up_about_a_past_version_is_stale_too(ports: Ports) -> None:
    commit = await folded(ports.store, action(action_type="Refused"))
    await committed(ports, action())
    assert await refused_whole(ports, commit) == Refusal(stale={"counter:1": 1})


async def test_a_key_that_is_gone_for_the_store_is_stale_at_version_0(ports: Ports) -> None:
    commit = await folded(ports.store, action())
    assert await refused_whole(ports, replace(commit, reads={"counter:1": 3})) == Refusal(
        stale={"counter:1": 0}
    )


async def test_all_known_ids_are_told_with_their_first_outcomes(ports: Ports) -> None:
    counted, turned_down, fresh = action(), action(action_type="Refused"), action()
    first, second = await committed(ports, counted, turned_down)
    commit = await folded(ports.store, counted, fresh, turned_down)
    known = (await refused_whole(ports, commit)).known
    assert {name: remembered.outcome for name, remembered in known.items()} == {
        ("counter:1", counted.action_id): first,
        ("counter:1", turned_down.action_id): second,
    }
    assert all(remembered.outcome.duplicate for remembered in known.values())
    asked = {name: remembered.request_hash for name, remembered in known.items()}
    assert asked == {
        (each.workflow_key, each.action_id): content_hash(each.type, each.payload)
        for each in (counted, turned_down)
    }


async def test_an_id_belongs_to_a_key(ports: Ports) -> None:
    action_id = uuid4()
    outcomes = await committed(
        ports,
        action("counter:1", action_id=action_id),
        action("counter:2", action_id=action_id),
    )
    assert versions(outcomes) == [1, 1]


async def test_a_redrive_replaces_the_give_up_of_its_own_key_only(ports: Ports) -> None:
    action_id = uuid4()
    one, other = (
        action(key, action_type="Refused", action_id=action_id)
        for key in ("counter:1", "counter:2")
    )
    _, first = await committed(ports, one, other)
    again = replace(one, type="Counted", purpose="redrive")
    late = replace(other, type="Counted")
    known = (await refused_whole(ports, await folded(ports.store, again, late))).known
    assert {name: remembered.outcome for name, remembered in known.items()} == {
        ("counter:2", action_id): first
    }
    assert versions(await committed(ports, again)) == [1]
    (remembered,) = (await refused_whole(ports, await folded(ports.store, late))).known.values()
    assert remembered.outcome == first


async def test_an_id_reused_for_another_content_is_told_by_the_hash(ports: Ports) -> None:
    first = action(payload={"amount": 1})
    await committed(ports, first)
    other = action(payload={"amount": 2}, action_id=first.action_id)
    known = (await refused_whole(ports, await folded(ports.store, other))).known
    (remembered,) = known.values()
    assert remembered.request_hash == content_hash(first.type, first.payload)
    assert remembered.request_hash != content_hash(other.type, other.payload)


async def test_all_reasons_are_told_together(ports: Ports) -> None:
    again = action("counter:2")
    (first,) = await committed(ports, again)
    commit = await folded(ports.store, action("counter:1"), again, position=Move(2, 3))
    await committed(ports, action("counter:1"))
    reasons = await refused_whole(ports, commit)
    assert reasons.moved
    assert not reasons.not_owner
    assert dict(reasons.stale) == {"counter:1": 1}
    assert [remembered.outcome for remembered in reasons.known.values()] == [first]


async def test_the_same_commit_again_is_refused_whole(ports: Ports) -> None:
    commit = await folded(ports.store, action(), action("counter:2", "Refused"))
    outcomes = outcomes_of(commit, accepted(await ports.store.commit(commit)))
    reasons = await refused_whole(ports, commit)
    assert dict(reasons.stale) == {"counter:1": 1}
    assert [known.outcome for known in reasons.known.values()] == outcomes


async def test_a_version_is_made_once_and_an_id_is_decided_once_whatever_a_commit_claims(
    ports: Ports,
) -> None:
    commit = await folded(ports.store, action())
    (step,) = commit.steps
    before = await everything(ports, KEYS)
    with pytest.raises(DatabaseRefused):
        await ports.store.commit(replace(commit, steps=[step, step]))
    accepted(await ports.store.commit(commit))
    after = await everything(ports, KEYS)
    other = replace(commit, reads={"counter:1": 1})
    assert isinstance(step, Absorbed)
    steps = [replace(step, action=replace(step.action, action_id=uuid4()))]
    with pytest.raises(DatabaseRefused):
        await ports.store.commit(replace(other, steps=steps))
    assert before != after == await everything(ports, KEYS)


async def test_there_is_no_partition_but_those_that_were_made(ports: Ports) -> None:
    with pytest.raises(DatabaseRefused):
        await ports.store.commit(await folded(ports.store, action(), partition=7))
