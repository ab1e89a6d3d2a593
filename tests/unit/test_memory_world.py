"""The world in memory does what a test tells it to: its clock, and calls that fail."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from omninode_bridge.core.errors import DatabaseUnavailable
from omninode_bridge.testing import MemoryWorld, SettableClock


def test_a_clock_stands_still_until_it_is_told_to_go_on() -> None:
    clock = SettableClock()
    before = clock()
    assert clock() == before
    clock.advance(timedelta(seconds=5))
    assert clock() - before == timedelta(seconds=5)


async def test_an_interrupted_call_fails_once_and_only_where_it_was_asked_to() -> None:
    world = MemoryWorld(clock=SettableClock(), partitions=1)
    world.interrupt("actions.position", when="before", skip=1, times=2)
    assert await world.actions.position(0) == 1
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="before it was done"):
            await world.actions.position(0)
    assert await world.actions.position(0) == 1
    assert await world.store.read(["counter:1"]) == {}


async def test_a_reply_can_be_lost_after_the_call_was_done() -> None:
    world = MemoryWorld(clock=SettableClock(), partitions=1)
    owner = uuid4()
    world.interrupt("leases.acquire", when="after")
    with pytest.raises(DatabaseUnavailable, match="its reply was lost"):
        await world.leases.acquire(owner, "a test", timedelta(seconds=5), [0])
    assert await world.leases.renew(owner, timedelta(seconds=5)) == [0]
    world.interrupt("leases.release", when="before")
    with pytest.raises(DatabaseUnavailable):
        await world.leases.release(owner)
    assert await world.leases.renew(owner, timedelta(seconds=5)) == [0]
