"""The contract of `Members`: who is there, eldest first, by the store's clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from omninode_bridge.core.roles import read_roles
from omninode_bridge.core.sharing import Member
from tests.contract.ports import LEASE

if TYPE_CHECKING:
    from tests.contract.ports import Ports

WAIT_S: Final = 10.0


def new(name: str = "a test", app: str = "an app") -> Member:
    """Return a member that nobody has seen."""
    return Member(uuid4(), name, app)


async def test_members_stand_in_the_order_in_which_they_came(ports: Ports) -> None:
    first, second, third = new(), new("another", "another app"), new()
    assert list(await ports.members.beat(first, LEASE)) == [first]
    assert list(await ports.members.beat(second, LEASE)) == [first, second]
    assert list(await ports.members.beat(first, LEASE)) == [first, second]
    assert list(await ports.members.beat(third, LEASE)) == [first, second, third]


async def test_who_leaves_is_there_no_more(ports: Ports) -> None:
    first, second = new(), new()
    await ports.members.beat(first, LEASE)
    await ports.members.beat(second, LEASE)
    await ports.members.leave(first.member)
    await ports.members.leave(new().member)
    assert list(await ports.members.beat(second, LEASE)) == [second]


async def test_who_is_not_seen_in_time_is_gone_and_comes_back_as_the_youngest(
    ports: Ports,
) -> None:
    first, second = new(), new()
    await ports.members.beat(first, LEASE)
    await ports.beside.let_pass(LEASE * 0.7)
    await ports.members.beat(second, LEASE)
    await ports.beside.let_pass(LEASE * 0.7)
    assert list(await ports.members.beat(second, LEASE)) == [second]
    assert list(await ports.members.beat(first, LEASE)) == [second, first]


async def test_others_see_what_a_member_does(ports: Ports) -> None:
    one = replace(new(), roles=read_roles(["reducer", "relay"]), over_bus=True)
    other = replace(new(), roles=read_roles(["materializer"]))
    await ports.members.beat(one, LEASE)
    assert list(await ports.members.beat(other, LEASE)) == [one, other]


async def test_an_owner_is_known_by_its_member_while_its_lease_is_valid(ports: Ports) -> None:
    member, owner = uuid4(), uuid4()
    assert dict(await ports.members.owners()) == {}
    await ports.leases.acquire(owner, "a test", LEASE, [1], member)
    await ports.leases.acquire(uuid4(), "another", LEASE, [0])
    assert dict(await ports.members.owners()) == {1: member}
    await ports.beside.let_pass(LEASE * 1.1)
    assert dict(await ports.members.owners()) == {}
    await ports.leases.renew(owner, LEASE)
    assert dict(await ports.members.owners()) == {1: member}
    await ports.leases.release(owner)
    assert dict(await ports.members.owners()) == {}


async def test_free_is_what_nobody_holds_or_holds_no_more(ports: Ports) -> None:
    owner = uuid4()
    assert list(await ports.members.free()) == [0, 1]
    await ports.leases.acquire(owner, "a test", LEASE, [0])
    assert list(await ports.members.free()) == [1]
    await ports.beside.let_pass(LEASE * 1.1)
    assert list(await ports.members.free()) == [0, 1]
    await ports.leases.acquire(owner, "a test", LEASE, [0, 1])
    assert list(await ports.members.free()) == []
    await ports.leases.release(owner)
    assert list(await ports.members.free()) == [0, 1]


async def test_what_somebody_has_locked_is_not_free_for_now(ports: Ports) -> None:
    async with ports.store.locked(0):
        async with asyncio.timeout(WAIT_S):
            assert list(await ports.members.free()) == [1]
    assert list(await ports.members.free()) == [0, 1]
