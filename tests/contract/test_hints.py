"""The contract of `Hints`: what was passed on is seen, by others too, and nothing raises."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from omninode_bridge.infrastructure.redis_hints import RedisHints
from omninode_bridge.testing import MemoryWorld, SettableClock
from tests.bridges import WAIT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from omninode_bridge.ports import Hints
    from tests.redis_servers import RedisServer


@pytest.fixture
def memory_hints() -> tuple[Hints, Hints]:
    """Give the hints of a world in memory, which all who share it share."""
    world = MemoryWorld(clock=SettableClock())
    return world.hints, world.hints


@pytest.fixture
async def redis_hints(redis_server: RedisServer) -> AsyncIterator[tuple[Hints, Hints]]:
    """Give two processes' hints on one Redis."""
    async with RedisHints(redis_server.url) as one, RedisHints(redis_server.url) as other:
        yield one, other


@pytest.fixture(params=["memory", "redis"])
def hints(request: pytest.FixtureRequest) -> tuple[Hints, Hints]:
    """Give one implementation after the other: as two processes have it."""
    found: tuple[Hints, Hints] = request.getfixturevalue(f"{request.param}_hints")
    return found


async def seen_soon(hints: Hints, ids: Collection[UUID]) -> set[UUID]:
    """Return what `hints` see of `ids` as soon as they see them all."""
    deadline = monotonic() + WAIT_S
    while True:
        seen = set(await hints.seen(ids))
        if seen == set(ids) or monotonic() > deadline:
            return seen
        await asyncio.sleep(0.005)


async def test_what_one_passes_on_the_other_sees(hints: tuple[Hints, Hints]) -> None:
    one, other = hints
    ids = [uuid4() for _ in range(500)]
    one.remember(ids)
    assert await seen_soon(other, ids) == set(ids)
    assert await seen_soon(one, ids) == set(ids)


async def test_what_nobody_passed_on_is_not_seen(hints: tuple[Hints, Hints]) -> None:
    one, other = hints
    known, unknown = UUID(int=0), UUID(int=2**128 - 1)
    one.remember([known])
    await seen_soon(other, [known])
    assert list(await other.seen([unknown, known])) == [known]
    assert list(await other.seen([unknown])) == []


async def test_of_nothing_nothing_is_seen(hints: tuple[Hints, Hints]) -> None:
    one, _ = hints
    one.remember([])
    assert list(await one.seen([])) == []
