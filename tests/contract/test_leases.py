"""The contract of `Leases`: who owns which partition, by the store's clock and a token."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

from omninode_bridge.core.effects import done
from tests.contract.batches import accepted, action, folded
from tests.contract.ports import CODEC, LEASE
from tests.contract.test_effects import asked_for, settle
from tests.contract.test_members import new

if TYPE_CHECKING:
    from uuid import UUID

    from tests.contract.ports import Ports


async def take(ports: Ports, owner: UUID, *partitions: int) -> list[int]:
    """Return those of `partitions` that `owner` could take."""
    return list(await ports.leases.acquire(owner, "a test", LEASE, partitions))


async def test_a_free_partition_is_taken_and_one_that_is_held_is_not(ports: Ports) -> None:
    owner, other = uuid4(), uuid4()
    assert await take(ports, owner, 0) == [0]
    assert await take(ports, other, 0, 1) == [1]
    assert await take(ports, owner, 1) == []
    assert await take(ports, owner) == []


async def test_taking_what_is_ours_is_allowed_and_renews_it(ports: Ports) -> None:
    owner = uuid4()
    for _ in range(3):
        assert await take(ports, owner, 0) == [0]
        await ports.beside.let_pass(LEASE * 0.7)
    assert await take(ports, uuid4(), 0) == []


async def test_a_lease_that_is_over_can_be_taken_by_anybody(ports: Ports) -> None:
    owner, other = uuid4(), uuid4()
    await take(ports, owner, 0)
    await ports.beside.let_pass(LEASE * 0.9)
    assert await take(ports, other, 0) == []
    await ports.beside.let_pass(LEASE * 0.2)
    assert await take(ports, other, 0) == [0]
    assert list(await ports.leases.renew(owner, LEASE)) == []


async def test_a_renewed_lease_lasts_and_only_our_own_are_renewed(ports: Ports) -> None:
    owner, other = uuid4(), uuid4()
    await take(ports, owner, 0)
    await take(ports, other, 1)
    for _ in range(3):
        await ports.beside.let_pass(LEASE * 0.7)
        assert list(await ports.leases.renew(owner, LEASE)) == [0]
    assert await take(ports, other, 0) == []
    assert await take(ports, owner, 1) == [1]
    assert list(await ports.leases.renew(other, LEASE)) == []


async def test_a_lease_that_is_over_but_was_not_taken_can_be_renewed(ports: Ports) -> None:
    owner = uuid4()
    await take(ports, owner, 0)
    await ports.beside.let_pass(LEASE * 2)
    assert list(await ports.leases.renew(owner, LEASE)) == [0]
    assert await take(ports, uuid4(), 0) == []


async def test_what_is_let_go_is_free_and_others_keep_theirs(ports: Ports) -> None:
    owner, other = uuid4(), uuid4()
    await take(ports, owner, 0)
    await take(ports, other, 1)
    await ports.leases.release(owner)
    await ports.leases.release(uuid4())
    assert await take(ports, uuid4(), 0, 1) == [0]


async def test_of_many_who_ask_at_once_one_is_the_owner(ports: Ports) -> None:
    taken = await asyncio.gather(*(take(ports, uuid4(), 0) for _ in range(5)))
    assert sorted(taken) == [[], [], [], [], [0]]


async def test_who_takes_a_partition_waits_for_the_commit_under_way(ports: Ports) -> None:
    async with ports.store.locked(0) as locked:
        taking = asyncio.create_task(take(ports, uuid4(), 0))
        await ports.beside.until_it_waits(taking)
        assert not taking.done()
        accepted(await locked.commit(await folded(locked, action())))
    assert await taking == [0]
    assert (await ports.store.read(["counter:1"]))["counter:1"].version == 1


async def test_effects_are_the_partitions_owner_s_or_somebody_s_apart(ports: Ports) -> None:
    owner, own, other, apart = uuid4(), new(), new(), uuid4()
    for member in (own, other):
        await ports.members.beat(member, LEASE)
    claim = ports.claims.take
    assert not await claim(0, owner, own.member, apart=False)
    await take(ports, owner, 0)
    assert await claim(0, owner, own.member, apart=False)
    assert await claim(0, owner, own.member, apart=False)
    assert not await claim(0, uuid4(), own.member, apart=False)
    # While their handlers may run they are taken by nobody, not even by the same process apart.
    assert not await claim(0, apart, other.member, apart=True)
    assert not await claim(0, apart, own.member, apart=True)
    await ports.claims.leave(0, uuid4())
    assert not await claim(0, apart, other.member, apart=True)
    await ports.claims.leave(0, owner)
    assert await claim(0, apart, other.member, apart=True)
    assert await claim(0, apart, other.member, apart=True)
    assert not await claim(0, owner, own.member, apart=False)
    assert not await claim(0, owner, other.member, apart=False)
    assert not await claim(0, uuid4(), other.member, apart=True)
    await ports.claims.leave(0, owner)
    assert not await claim(0, owner, own.member, apart=False)
    await ports.claims.leave(0, apart)
    assert await claim(0, owner, own.member, apart=False)


async def test_effects_are_taken_from_who_is_there_no_more(ports: Ports) -> None:
    owner, own, first, second = uuid4(), new(), new(), new()
    await take(ports, owner, 0)
    for member in (own, first, second):
        await ports.members.beat(member, LEASE)
    assert await ports.claims.take(0, uuid4(), first.member, apart=True)
    assert not await ports.claims.take(0, uuid4(), second.member, apart=True)
    await ports.members.leave(first.member)
    assert await ports.claims.take(0, uuid4(), second.member, apart=True)
    assert not await ports.claims.take(0, owner, own.member, apart=False)
    await ports.beside.let_pass(LEASE * 1.1)
    await ports.leases.renew(owner, LEASE)
    assert await ports.claims.take(0, owner, own.member, apart=False)
    assert await ports.claims.take(0, uuid4(), second.member, apart=True), "the owner is gone, too"


async def test_with_its_partition_an_owner_lets_the_effects_go(ports: Ports) -> None:
    owner, own, other, apart = uuid4(), new(), new(), uuid4()
    for member in (own, other):
        await ports.members.beat(member, LEASE)
    await take(ports, owner, 0)
    assert await ports.claims.take(0, owner, own.member, apart=False)
    await ports.leases.release(owner)
    assert await ports.claims.take(0, apart, other.member, apart=True)
    await take(ports, owner, 0)
    await ports.leases.release(owner)
    assert not await ports.claims.take(0, uuid4(), own.member, apart=True), "it was not the owner's"


async def test_who_has_the_effects_apart_ends_them_and_the_partitions_owner_does_not(
    ports: Ports,
) -> None:
    (effect,) = await asked_for(ports, 1)
    owner, apart, member = uuid4(), uuid4(), new()
    await take(ports, owner, 0)
    await ports.members.beat(member, LEASE)
    assert await ports.claims.take(0, apart, member.member, apart=True)
    end = done(effect, 1, {}, CODEC)
    assert not await settle(ports, end, position=2, owner=owner)
    async with ports.effect_ends.transaction(0, owner) as transaction:
        assert await transaction.end(end) == "not_owner"
    assert (await ports.effect_log.begin(0, [])).over == frozenset()
    assert await settle(ports, end, position=2, owner=apart)
    await ports.claims.leave(0, apart)
    assert not await settle(ports, end, position=2, owner=apart)
    assert await settle(ports, end, position=2, owner=owner)
